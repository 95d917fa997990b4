//! The files that [`Access`](super::Access) is made of: the site's authority, its revocations, the broker's own
//! certificate and key.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grid_protocol::identity::{Authority, Serial};
use grid_protocol::revocation;
use grid_protocol::topic::Name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tracing::info;

use crate::settings::TlsSettings;

/// The signed list of revoked certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocations {
    /// Where it is published.
    pub topic: String,
    /// Byte for byte what the authority signed.
    pub payload: Bytes,
    /// Rises with each list.
    pub seq: u64,
    /// What is revoked.
    pub serials: Vec<Serial>,
}

/// Reads the certificate of the site's authority.
pub fn authority(file: &Path) -> Result<Authority, String> {
    grid_service::identity::read_authority(file).map_err(|error| format!("access.{error}"))
}

/// Reads the list of revoked certificates and checks that `authority` signed it for `site`. A file that is not there
/// (yet) is no list: `grid-broker ca revoke` makes it.
pub fn revocations(file: &Path, site: &Name, authority: &Authority) -> Result<Option<Revocations>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("access.revocations {file:?}: {why}");
    let payload = match fs::read(file) {
        Ok(payload) => payload,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            info!(?file, "there is no list of revoked certificates yet");
            return Ok(None);
        }
        Err(error) => return Err(wrong(&format_args!("cannot be read ({error})"))),
    };
    let list = revocation::read(&payload, site, authority).map_err(|error| wrong(&error))?;
    Ok(Some(Revocations {
        topic: revocation::topic(site).to_string(),
        payload: payload.into(),
        seq: list.header.seq.unwrap_or_default(),
        serials: list.body.serials().cloned().collect(),
    }))
}

/// How the broker speaks TLS 1.2 and 1.3. Who has a certificate of `authority` may show it; who has none may come too,
/// with user and password.
pub fn tls(settings: &TlsSettings, authority: Option<&Authority>) -> Result<ServerConfig, String> {
    let TlsSettings { certificate, key } = settings;
    let wrong = |name: &str, file: &Path, why: &dyn std::fmt::Display| format!("tls.{name} {file:?}: {why}");
    // Neither error shows what is in the file.
    let chain: Vec<CertificateDer> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| wrong("certificate", certificate, &format_args!("cannot be read as PEM ({error})")))?;
    if chain.is_empty() {
        return Err(wrong("certificate", certificate, &"holds no certificate in PEM"));
    }
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| wrong("key", key, &format_args!("holds no private key in PEM ({error})")))?;
    // Named, since another part of the process may have made another one the default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match authority {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from(authority.der().to_vec()))
                .map_err(|error| format!("access.authority: cannot be trusted in TLS ({error})"))?;
            WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|error| format!("access.authority: cannot be trusted in TLS ({error})"))?
        }
        None => Arc::new(NoClientAuth),
    };
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| format!("tls: {error}"))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, private)
        .map_err(|error| wrong("key", key, &format_args!("does not go with tls.certificate ({error})")))
}
