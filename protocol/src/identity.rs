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

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::VerifyingKey;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

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
        let trusted = anchor_from_trusted_cert(&self.certificate).map_err(IdentityError::Unreadable)?;
        let certificate = CertificateDer::from(certificate);
        let parsed = EndEntityCert::try_from(&certificate).map_err(IdentityError::Unreadable)?;
        parsed
            .verify_for_usage(
                &[webpki::ring::ECDSA_P256_SHA256],
                &[trusted],
                &[],
                UnixTime::since_unix_epoch(Duration::from_millis(at.0)),
                KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(IdentityError::NotVouched)?;
        let uris: Vec<&str> = parsed.valid_uri_names().collect();
        match uris.as_slice() {
            [uri] => Identity::from_uri(uri),
            _ => None,
        }
        .ok_or_else(|| IdentityError::NoIdentity(uris.iter().map(|uri| (*uri).to_owned()).collect()))
    }
}

#[cfg(feature = "issue")]
pub use issue::{IssueError, Issuer};

/// Making an authority and issuing certificates.
#[cfg(feature = "issue")]
mod issue {
    use super::{Authority, Identity};
    use crate::topic::Name;
    use crate::units::UnixMillis;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
        PKCS_ECDSA_P256_SHA256, SanType,
    };
    use std::time::Duration;

    const YEAR: u64 = 365 * 24 * 3600;

    /// Why no certificate could be made.
    #[derive(Debug, thiserror::Error)]
    pub enum IssueError {
        /// The certificate library refused.
        #[error("the certificate could not be made: {0}")]
        Certificate(#[from] rcgen::Error),
    }

    /// A site's certificate authority with its private key.
    pub struct Issuer {
        inner: rcgen::Issuer<'static, KeyPair>,
        certificate: Vec<u8>,
    }

    impl Issuer {
        /// A new authority for a site. Valid for 20 years from `now` and backdated by ten, since a Raspberry Pi without a
        /// battery-backed clock boots in the past.
        pub fn create(site: &Name, now: UnixMillis) -> Result<Self, IssueError> {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = validity(CertificateParams::default(), now);
            params.distinguished_name.push(DnType::CommonName, format!("grid {site}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let certificate = params.self_signed(&key)?.der().to_vec();
            Ok(Self { inner: rcgen::Issuer::new(params, key), certificate })
        }

        /// The authority without its private key.
        pub fn authority(&self) -> Authority {
            Authority { certificate: self.certificate.clone().into() }
        }

        /// Issues a certificate (DER) with a new TLS key, which is returned as PKCS#8 DER.
        pub fn issue(&self, identity: &Identity, now: UnixMillis) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
            let tls_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut params = validity(CertificateParams::default(), now);
            params.distinguished_name.push(DnType::CommonName, identity.name.to_string());
            params.subject_alt_names = vec![SanType::URI(identity.to_uri().try_into()?)];
            params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            let certificate = params.signed_by(&tls_key, &self.inner)?;
            Ok((certificate.der().to_vec(), tls_key.serialize_der()))
        }
    }

    fn validity(mut params: CertificateParams, now: UnixMillis) -> CertificateParams {
        let seconds = now.0 / 1000;
        let at = |seconds: u64| time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(seconds);
        params.not_before = at(seconds.saturating_sub(10 * YEAR));
        params.not_after = at(seconds + 20 * YEAR);
        params
    }
}

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
