//! Making an authority and issuing certificates.

use std::net::IpAddr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::asn1::AnyRef;
use rand::RngCore;
use rand::rngs::OsRng;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use webpki::EndEntityCert;

use super::bundle::{Bundle, certificate_pem, pem};
use super::{Authority, Identity, IdentityError};
use crate::seal::SealError;
use crate::topic::Name;
use crate::units::UnixMillis;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a certificate is valid from its issue on.
pub const VALID: Duration = Duration::from_secs(20 * YEAR.as_secs());
/// How long before its issue a certificate is valid already: a Raspberry Pi without a battery-backed clock boots in the
/// past.
pub const BACKDATED: Duration = Duration::from_secs(10 * YEAR.as_secs());

/// `id-at-commonName` as DER (RFC 5280, appendix A.1).
const COMMON_NAME: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x03];
/// What stands before the site in the common name of an authority.
const SUBJECT: &str = "grid ";

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The certificate library refused.
    #[error("the certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// There is no private key that we can use.
    #[error("this is no ECDSA P-256 private key in PKCS#8 PEM")]
    Key,
    /// Certificate and private key are not a pair.
    #[error("the private key is not that of the authority's certificate")]
    NotAPair,
    /// There is no certificate that can be read.
    #[error("this is no certificate in PEM")]
    NoCertificate,
    /// The certificate is not an authority's.
    #[error(transparent)]
    Authority(#[from] IdentityError),
    /// The certificate was made by something else.
    #[error("the certificate's subject is not \"grid <site>\": it is no site's authority")]
    NoSite,
    /// A server cannot have this name.
    #[error("{0:?} is neither a host name nor an IP address")]
    Host(String),
    /// A list is too long, or no message.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A site's certificate authority with its private key, which no method but [`Issuer::key_pem`] gives out.
pub struct Issuer {
    inner: rcgen::Issuer<'static, KeyPair>,
    site: Name,
    certificate: Vec<u8>,
}

/// A TLS server's certificate with its key.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key. Its `Debug` does not show it.
    key: PrivatePkcs8KeyDer<'static>,
}

impl ServerCertificate {
    /// The private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_pkcs8_der())
    }
}

impl Issuer {
    /// A new authority for a site. Valid for 20 years from `now` and backdated by ten.
    pub fn create(site: &Name, now: UnixMillis) -> Result<Self, IssueError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = params(format!("{SUBJECT}{site}"), now);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = authority_usages();
        let certificate = params.self_signed(&key)?.der().to_vec();
        Ok(Self { inner: rcgen::Issuer::new(params, key), site: site.clone(), certificate })
    }

    /// Reads an authority's certificate and private key, both PEM as [`Issuer::certificate_pem`] and
    /// [`Issuer::key_pem`] write them.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IssueError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| IssueError::NoCertificate)?;
        Authority::from_der(&certificate)?;
        let parsed = EndEntityCert::try_from(&certificate).map_err(IdentityError::Unreadable)?;
        let site = site_of(parsed.subject()).ok_or(IssueError::NoSite)?;
        // The library's errors are left out: they are about the text of a secret.
        let key = PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).map_err(|_| IssueError::Key)?;
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ECDSA_P256_SHA256).map_err(|_| IssueError::Key)?;
        if *key.subject_public_key_info() != *parsed.subject_public_key_info() {
            return Err(IssueError::NotAPair);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{SUBJECT}{site}"));
        params.key_usages = authority_usages();
        Ok(Self { inner: rcgen::Issuer::new(params, key), site, certificate: certificate.to_vec() })
    }

    /// The site whose authority this is.
    pub fn site(&self) -> &Name {
        &self.site
    }

    /// The authority without its private key.
    pub fn authority(&self) -> Authority {
        Authority { certificate: self.certificate.clone().into() }
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> String {
        certificate_pem(&self.certificate)
    }

    /// The authority's private key, PKCS#8 PEM: for a file that nobody else can read.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.inner.key().serialized_der())
    }

    /// Issues a certificate (DER) with a new TLS key, which is returned as PKCS#8 DER.
    pub fn issue(&self, identity: &Identity, now: UnixMillis) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
        let mut params = params(identity.name.to_string(), now);
        params.subject_alt_names = vec![SanType::URI(identity.to_uri().try_into()?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign_for_new_key(params)
    }

    /// Issues all that an agent of this name needs, with a TLS key and a message key of its own.
    pub fn issue_bundle(&self, name: Name, role: crate::message::Role, now: UnixMillis) -> Result<Bundle, IssueError> {
        let message_key = SigningKey::generate(&mut OsRng);
        let identity = Identity { site: self.site.clone(), role, name, key: message_key.verifying_key() };
        let (certificate, tls_key) = self.issue(&identity, now)?;
        Ok(Bundle { certificate, tls_key: tls_key.into(), message_key, authority: self.authority() })
    }

    /// Issues a certificate for a TLS server, the broker, that clients reach under these host names and IP addresses.
    pub fn issue_server<H: AsRef<str>>(&self, hosts: &[H], now: UnixMillis) -> Result<ServerCertificate, IssueError> {
        let names = hosts.iter().map(|host| server_name(host.as_ref())).collect::<Result<Vec<_>, _>>()?;
        let first = hosts.first().ok_or_else(|| IssueError::Host(String::new()))?;
        let mut params = params(first.as_ref().to_owned(), now);
        params.subject_alt_names = names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let (certificate, key) = self.sign_for_new_key(params)?;
        Ok(ServerCertificate { certificate: certificate_pem(&certificate), key: key.into() })
    }

    /// Signs with the authority's key: ECDSA P-256 with SHA-256, r and s of 32 bytes each.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; 64], IssueError> {
        let random = SystemRandom::new();
        let key = self.inner.key().serialized_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random);
        let signature = key.map_err(|_| IssueError::Key)?.sign(&random, message).map_err(|_| IssueError::Key)?;
        signature.as_ref().try_into().map_err(|_| IssueError::Key)
    }

    fn sign_for_new_key(&self, mut params: CertificateParams) -> Result<(Vec<u8>, Vec<u8>), IssueError> {
        let tls_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // RFC 5280, section 4.2.1.1: strict verifiers want it.
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&tls_key, &self.inner)?;
        Ok((certificate.der().to_vec(), tls_key.serialize_der()))
    }
}

fn authority_usages() -> Vec<KeyUsagePurpose> {
    vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature]
}

/// A certificate's common name, serial number and validity.
fn params(common_name: String, now: UnixMillis) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.serial_number = Some(SerialNumber::from_slice(&new_serial()));
    let now = Duration::from_secs(now.0 / 1000);
    params.not_before = time::OffsetDateTime::UNIX_EPOCH + now.saturating_sub(BACKDATED);
    params.not_after = time::OffsetDateTime::UNIX_EPOCH + now + VALID;
    params
}

/// 16 random bytes that are a positive DER integer as they are: the first is from 0x40 to 0x7f, so that it is neither a
/// sign nor a zero that DER would leave out.
fn new_serial() -> [u8; 16] {
    let mut serial = [0; 16];
    OsRng.fill_bytes(&mut serial);
    serial[0] = serial[0] & 0x3f | 0x40;
    serial
}

fn server_name(host: &str) -> Result<SanType, IssueError> {
    let bad = || IssueError::Host(host.to_owned());
    match host.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => match ServerName::try_from(host) {
            Ok(ServerName::DnsName(name)) => Ok(SanType::DnsName(name.as_ref().to_owned().try_into()?)),
            Ok(_) | Err(_) => Err(bad()),
        },
    }
}

/// The site that an authority's subject names.
fn site_of(subject: &[u8]) -> Option<Name> {
    let at = subject.windows(COMMON_NAME.len()).position(|bytes| bytes == COMMON_NAME)?;
    let name = AnyRef::try_from(&subject[at + COMMON_NAME.len()..]).ok()?;
    std::str::from_utf8(name.value()).ok()?.strip_prefix(SUBJECT)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{hosts_of, serial_of, validity_of};
    use crate::message::Role;
    use rustls_pki_types::UnixTime;
    use webpki::{KeyUsage, anchor_from_trusted_cert};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn issuer() -> Issuer {
        Issuer::create(&"demo".parse().unwrap(), NOW).unwrap()
    }

    fn bundle(issuer: &Issuer) -> Bundle {
        issuer.issue_bundle("cp-3".parse().unwrap(), Role::Device, NOW).unwrap()
    }

    #[test]
    fn an_authority_that_was_written_and_read_issues_what_the_first_vouches_for() {
        let first = issuer();
        let again = Issuer::from_pem(&first.certificate_pem(), &first.key_pem()).unwrap();
        assert_eq!(again.site().as_str(), "demo");
        let certificate = bundle(&again).certificate;
        let identity = first.authority().check(&certificate, NOW).unwrap();
        assert_eq!((identity.name.as_str(), identity.role), ("cp-3", Role::Device));
    }

    #[test]
    fn what_is_not_an_authority_with_its_key_is_refused_and_the_key_is_never_shown() {
        let (ours, theirs) = (issuer(), issuer());
        let refused = |certificate: &str, key: &str| Issuer::from_pem(certificate, key).err().unwrap();
        assert!(matches!(refused(&ours.certificate_pem(), &theirs.key_pem()), IssueError::NotAPair));
        assert!(matches!(refused("rubbish", &ours.key_pem()), IssueError::NoCertificate));
        let server = ours.issue_server(&["localhost"], NOW).unwrap();
        assert!(matches!(refused(&server.certificate, &server.key_pem()), IssueError::NoSite));
        let half: String = ours.key_pem().lines().filter(|line| !line.contains("END")).collect();
        let error = refused(&ours.certificate_pem(), &half);
        let secret = ours.key_pem().lines().nth(1).unwrap().to_owned();
        assert!(matches!(error, IssueError::Key), "{error}");
        assert!(!format!("{error} {error:?} {server:?}").contains(&secret));
    }

    #[test]
    fn every_certificate_has_a_serial_number_of_its_own() {
        let issuer = issuer();
        let serials: std::collections::BTreeSet<_> =
            (0..20).map(|_| serial_of(&bundle(&issuer).certificate).unwrap()).collect();
        assert_eq!(serials.len(), 20);
        assert!(serials.iter().all(|serial| serial.as_bytes().len() == 16 && serial.as_bytes()[0] < 0x80));
    }

    #[test]
    fn a_certificate_says_from_when_until_when_it_holds_also_beyond_2050() {
        for year in [0, 10] {
            let now = UnixMillis(NOW.0 + year * YEAR.as_secs() * 1000);
            let issued = issuer().issue_bundle("cp-3".parse().unwrap(), Role::Device, now).unwrap();
            let validity = validity_of(&issued.certificate).unwrap();
            assert_eq!(u128::from(now.0 - validity.from.0), BACKDATED.as_millis());
            assert_eq!(u128::from(validity.until.0 - now.0), VALID.as_millis());
        }
    }

    #[test]
    fn a_server_certificate_holds_for_its_names_and_addresses_and_for_servers_only() {
        let issuer = issuer();
        let hosts = ["broker.local", "localhost", "192.0.2.7", "::1"];
        let server = issuer.issue_server(&hosts, NOW).unwrap();
        let der = CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap();
        let parsed = EndEntityCert::try_from(&der).unwrap();
        let authority = CertificateDer::from(issuer.authority().der().to_vec());
        let trusted = [anchor_from_trusted_cert(&authority).unwrap()];
        let holds_for = |usage| {
            let at = UnixTime::since_unix_epoch(Duration::from_millis(NOW.0));
            let algorithms = [webpki::ring::ECDSA_P256_SHA256];
            parsed.verify_for_usage(&algorithms, &trusted, &[], at, usage, None, None).is_ok()
        };
        assert!(holds_for(KeyUsage::server_auth()) && !holds_for(KeyUsage::client_auth()));
        let names = |host: &str| {
            let name = ServerName::try_from(host.to_owned()).unwrap();
            parsed.verify_is_valid_for_subject_name(&name).is_ok()
        };
        assert!(hosts.iter().all(|host| names(host)));
        assert_eq!(hosts_of(&der).unwrap(), hosts);
        assert!(hosts_of(&bundle(&issuer).certificate).unwrap().is_empty());
        assert!(!names("192.0.2.8") && !names("elsewhere.local"));
        assert!(matches!(issuer.issue_server(&["a b"], NOW), Err(IssueError::Host(host)) if host == "a b"));
        assert!(issuer.issue_server::<&str>(&[], NOW).is_err());
    }

    #[test]
    fn what_the_authority_signs_holds_for_its_own_key_only() {
        let (ours, theirs) = (issuer(), issuer());
        let signature = ours.sign(b"this").unwrap();
        assert!(ours.authority().signed(b"this", &signature).unwrap());
        assert!(!ours.authority().signed(b"that", &signature).unwrap());
        assert!(!theirs.authority().signed(b"this", &signature).unwrap());
    }
}
