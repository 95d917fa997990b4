//! Certificates: which message key belongs to whom.
//!
//! The site's certificate authority (ECDSA P-256, since browsers and many MQTT clients refuse Ed25519 in TLS) issues
//! one X.509 certificate per device. Its TLS key is P-256; its subject alternative name is the URI
//!
//! ```text
//! grid://{site}/{role}/{name}#{Ed25519 message key, base64url without padding}
//! ```
//!
//! so one document is the TLS identity, names the message key, and is what gets revoked. The device's status carries
//! it; the log alone then shows who spoke.
//!
//! | module | what it holds |
//! |---|---|
//! | `mod.rs` | who somebody is, and the authority that vouches for it |
//! | `certificate` | what else a certificate says: serial number, validity |
//! | `bundle` | the one file that an agent needs: certificate, keys, authority |
//! | `endpoint` | where the broker is, as a bundle's text says it |
//! | `issue` | making an authority and issuing certificates (feature `issue`) |

mod bundle;
mod certificate;
mod endpoint;
#[cfg(feature = "issue")]
mod issue;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

pub use bundle::{Bundle, BundleError, certificate_pem};
pub use certificate::{BadSerial, Serial, Validity, hosts_of, named_in, serial_of, validity_of};
pub use endpoint::{BadEndpoint, Endpoint, brokers_in};
#[cfg(feature = "issue")]
pub use issue::{BACKDATED, IssueError, Issuer, ServerCertificate, VALID};

use crate::message::Role;
use crate::topic::Name;
use crate::units::UnixMillis;

/// Who somebody is: what a certificate of the site says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The site.
    pub site: Name,
    /// What it may do.
    pub role: Role,
    /// Its name, unique on the site.
    pub name: Name,
    /// The key that signs its messages.
    pub key: VerifyingKey,
}

/// Why a certificate proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It is not an X.509 certificate that we can read.
    #[error("this is not a readable X.509 certificate ({0})")]
    Unreadable(webpki::Error),
    /// The site's authority did not issue it, or it is not valid at that time.
    #[error("the site's authority does not vouch for this certificate ({0})")]
    NotVouched(webpki::Error),
    /// It names nobody of the grid.
    #[error("the certificate names {0:?}, expected exactly one grid://<site>/<role>/<name>#<message key>")]
    NoIdentity(Vec<String>),
    /// An authority whose key is no ECDSA P-256 key could not have signed anything for the site.
    #[error("the authority's key is not ECDSA P-256; make the site's authority with grid-broker ca init")]
    OtherKey,
}

impl Identity {
    /// The subject alternative name that says all this.
    pub fn to_uri(&self) -> String {
        let key = URL_SAFE_NO_PAD.encode(self.key.as_bytes());
        format!("grid://{}/{}/{}#{key}", self.site, self.role, self.name)
    }

    /// Reads a subject alternative name.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (path, key) = uri.strip_prefix("grid://")?.split_once('#')?;
        let mut parts = path.split('/');
        let (site, role, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let key: [u8; 32] = URL_SAFE_NO_PAD.decode(key).ok()?.try_into().ok()?;
        Some(Self {
            site: site.parse().ok()?,
            role: Role::ALL.into_iter().find(|r| r.as_str() == role)?,
            name: name.parse().ok()?,
            key: VerifyingKey::from_bytes(&key).ok().filter(|key| !key.is_weak())?,
        })
    }
}

/// The certificate of a site's authority: what everybody on the site trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Takes a certificate (DER) as trusted.
    pub fn from_der(der: &[u8]) -> Result<Self, IdentityError> {
        let certificate = CertificateDer::from(der.to_vec());
        anchor_from_trusted_cert(&certificate).map_err(IdentityError::Unreadable)?;
        Ok(Self { certificate })
    }

    /// The certificate, DER.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// Checks that this authority issued `certificate` (DER), that it is valid `at` that time, and reads whom it names.
    /// Whether it was revoked since is not looked at.
    pub fn check(&self, certificate: &[u8], at: UnixMillis) -> Result<Identity, IdentityError> {
        let certificate = CertificateDer::from(certificate);
        let parsed = EndEntityCert::try_from(&certificate).map_err(IdentityError::Unreadable)?;
        self.vouches_for(&parsed, KeyUsage::client_auth(), at)?;
        certificate::identity(&parsed)
    }

    /// Checks that this authority issued `certificate` (DER) to a server, and that it is valid `at` that time.
    pub fn check_server(&self, certificate: &[u8], at: UnixMillis) -> Result<(), IdentityError> {
        let certificate = CertificateDer::from(certificate);
        let parsed = EndEntityCert::try_from(&certificate).map_err(IdentityError::Unreadable)?;
        self.vouches_for(&parsed, KeyUsage::server_auth(), at)
    }

    fn vouches_for(&self, parsed: &EndEntityCert, usage: KeyUsage, at: UnixMillis) -> Result<(), IdentityError> {
        let trusted = [anchor_from_trusted_cert(&self.certificate).map_err(IdentityError::Unreadable)?];
        let at = UnixTime::since_unix_epoch(Duration::from_millis(at.0));
        let algorithms = [webpki::ring::ECDSA_P256_SHA256];
        let verified = parsed.verify_for_usage(&algorithms, &trusted, &[], at, usage, None, None);
        verified.map(|_| ()).map_err(IdentityError::NotVouched)
    }

    /// Whether the authority's own key made this signature, ECDSA P-256 with SHA-256, as r and s of 32 bytes each.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> Result<bool, IdentityError> {
        let parsed = EndEntityCert::try_from(&self.certificate).map_err(IdentityError::Unreadable)?;
        let key = parsed.subject_public_key_info();
        let point = key.strip_prefix(P256_KEY.as_slice()).ok_or(IdentityError::OtherKey)?;
        Ok(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok())
    }
}

/// What stands before the 65 bytes of an uncompressed P-256 point in a certificate's public key (RFC 5480, section 2):
/// `SEQUENCE { SEQUENCE { id-ecPublicKey, secp256r1 }, BIT STRING }`.
const P256_KEY: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
    const YEAR_MS: u64 = 365 * 24 * 3600 * 1000;

    fn identity() -> Identity {
        Identity {
            site: "demo".parse().unwrap(),
            role: Role::Device,
            name: "cp-3".parse().unwrap(),
            key: SigningKey::from_bytes(&[3; 32]).verifying_key(),
        }
    }

    #[test]
    fn a_certificate_of_the_site_says_whose_key_it_is() {
        let issuer = Issuer::create(&identity().site, NOW).unwrap();
        let (certificate, _) = issuer.issue(&identity(), NOW).unwrap();
        assert_eq!(issuer.authority().check(&certificate, NOW).unwrap(), identity());
    }

    #[test]
    fn another_sites_authority_does_not_vouch() {
        let ours = Issuer::create(&identity().site, NOW).unwrap();
        let theirs = Issuer::create(&identity().site, NOW).unwrap();
        let (certificate, _) = theirs.issue(&identity(), NOW).unwrap();
        assert!(matches!(ours.authority().check(&certificate, NOW), Err(IdentityError::NotVouched(_))));
    }

    #[test]
    fn servers_and_clients_are_not_taken_for_each_other() {
        let issuer = Issuer::create(&identity().site, NOW).unwrap();
        let (client, _) = issuer.issue(&identity(), NOW).unwrap();
        let server = issuer.issue_server(&["localhost"], NOW).unwrap();
        let server = rustls_pki_types::pem::PemObject::from_pem_slice(server.certificate.as_bytes()).unwrap();
        let server: CertificateDer = server;
        let authority = issuer.authority();
        assert!(authority.check_server(&server, NOW).is_ok() && authority.check(&server, NOW).is_err());
        assert!(authority.check_server(&client, NOW).is_err());
    }

    #[test]
    fn a_pi_that_boots_in_the_past_still_believes_its_certificate_and_thirty_years_end_it() {
        let issuer = Issuer::create(&identity().site, NOW).unwrap();
        let (certificate, _) = issuer.issue(&identity(), NOW).unwrap();
        let authority = issuer.authority();
        assert!(authority.check(&certificate, UnixMillis(NOW.0 - 9 * YEAR_MS)).is_ok());
        assert!(authority.check(&certificate, UnixMillis(NOW.0 + 21 * YEAR_MS)).is_err());
    }

    #[test]
    fn rubbish_is_no_certificate() {
        assert!(matches!(Authority::from_der(b"rubbish"), Err(IdentityError::Unreadable(_))));
        let issuer = Issuer::create(&identity().site, NOW).unwrap();
        assert!(matches!(issuer.authority().check(b"rubbish", NOW), Err(IdentityError::Unreadable(_))));
    }

    #[test]
    fn an_identity_reads_back_from_its_uri_and_nothing_else_does() {
        let uri = identity().to_uri();
        assert_eq!(Identity::from_uri(&uri), Some(identity()));
        let all_zero_key = format!("grid://demo/device/cp-3#{}", "A".repeat(43));
        for bad in
            ["", "grid://demo/device/cp-3", "http://demo/device/cp-3#x", &all_zero_key, &uri.replace("device", "king")]
        {
            assert_eq!(Identity::from_uri(bad), None, "{bad}");
        }
    }
}
