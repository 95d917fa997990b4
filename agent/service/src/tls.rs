//! TLS to the broker: both sides show a certificate of the site's authority, and nobody else is trusted.
//!
//! The operating system's list of authorities plays no part: a street needs no public one, and a public one could vouch
//! for a broker that is not the street's.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rumqttc::v5::StateError;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};

use crate::identity::IdentityFiles;

/// Why certificate, key and authority do not serve for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// The authority's certificate cannot be trusted.
    #[error("the authority of [identity] cannot be used for TLS: {0}")]
    Authority(String),
    /// The certificate does not go with the key, or one of them cannot be used.
    #[error("certificate and TLS key of [identity] cannot be used together: {0}")]
    Identity(rustls::Error),
    /// The library lacks what TLS needs.
    #[error("TLS cannot be set up: {0}")]
    Library(rustls::Error),
}

/// What a client needs for a TLS connection as this identity. Without a TLS key it shows no certificate.
pub(crate) fn client_config(identity: &IdentityFiles) -> Result<Arc<ClientConfig>, TlsConfigError> {
    let provider = Arc::new(ring::default_provider());
    let mut trusted = RootCertStore::empty();
    let authority = CertificateDer::from(identity.authority.der().to_vec());
    trusted.add(authority).map_err(|error| TlsConfigError::Authority(error.to_string()))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider.clone())
        .build()
        .map_err(|error| TlsConfigError::Authority(error.to_string()))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsConfigError::Library)?
        .with_webpki_verifier(verifier);
    let config = match &identity.tls_key {
        Some(key) => {
            let certificate = CertificateDer::from(identity.certificate.clone());
            config.with_client_auth_cert(vec![certificate], key.clone_key()).map_err(TlsConfigError::Identity)?
        }
        None => config.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// A host as certificates name it.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'_>> {
    ServerName::try_from(host).ok()
}

/// What a TLS error in the causes of `error` means, and what to do about it; `None` if there is none.
pub(crate) fn explain(error: &(dyn Error + 'static), host: &str) -> Option<String> {
    let error = find(error)?;
    let said = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the broker's certificate is not of this site's authority: is this the site's broker, and does [identity] \
             hold the authority that grid-broker ca init made?"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "the broker's certificate does not name {host}: connect by a name that it has, or make one for it with \
             grid-broker ca issue-server --host {host}"
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => "the broker's certificate is not valid at this time: is this machine's clock right?".to_owned(),
        rustls::Error::InvalidMessage(_) => {
            "what answers does not speak TLS: is broker.port that of the broker's TLS listener?".to_owned()
        }
        rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
        ) => "the broker refuses our certificate: is it of the broker's site, and not revoked?".to_owned(),
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the broker wants a certificate: use bundle in [identity], or add tls_key".to_owned()
        }
        _ => "TLS failed".to_owned(),
    };
    Some(format!("{said} ({error})"))
}

/// The TLS library's error among the causes. I/O errors carry it inside, and so does an MQTT error of this kind, where
/// `source` does not look. In TLS 1.3 a client learns only when it reads that its certificate was refused.
fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let inside = || error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref();
    let hidden = || match error.downcast_ref()? {
        StateError::Deserialization(cause) => find(cause),
        _ => None,
    };
    error.downcast_ref().or_else(inside).or_else(hidden).or_else(|| find(error.source()?))
}
