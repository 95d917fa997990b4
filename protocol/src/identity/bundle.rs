//! The one file that an agent needs to be somebody: PEM (RFC 7468) with a sentence before each section.
//!
//! | section | what it is |
//! |---|---|
//! | `CERTIFICATE` | of the agent |
//! | `PRIVATE KEY` | for TLS: ECDSA P-256, PKCS#8 |
//! | `PRIVATE KEY` | for messages: Ed25519, PKCS#8 (RFC 8410) |
//! | `CERTIFICATE` | of the site's authority: it issued itself |
//!
//! Sections are told apart by what is in them, in any order. They are written in this one, since OpenSSL takes the first
//! certificate and the first key that it finds: so `mosquitto_sub --cafile F --cert F --key F` can use the file F too.
//!
//! The text may also say where the broker is ([`super::brokers_in`]).

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::Decode;
use ed25519_dalek::pkcs8::spki::der::pem::{LineEnding, encode_string};
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes, ObjectIdentifier, PrivateKeyInfo};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::{PemObject, SectionKind};

use super::certificate::is_self_issued;
use super::endpoint::{self, Endpoint};
use super::{Authority, IdentityError, named_in};

/// `id-ecPublicKey` (RFC 5480, section 2.1.1).
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `id-Ed25519` (RFC 8410, section 3).
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Who somebody is, with all keys. `Debug` shows none of them.
#[derive(Debug)]
pub struct Bundle {
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The private key of the certificate, for TLS.
    pub tls_key: PrivatePkcs8KeyDer<'static>,
    /// The key that signs messages.
    pub message_key: SigningKey,
    /// The site's authority.
    pub authority: Authority,
}

/// Why a file is no bundle. What is in its keys is never told.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The PEM is broken.
    #[error("it is not PEM: {0}")]
    Pem(String),
    /// A section is not there.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A section is there twice.
    #[error("it has more than one {0}")]
    Twice(&'static str),
    /// A section that we do not know.
    #[error("it has a section that belongs into no bundle ({0:?})")]
    Unknown(SectionKind),
    /// A private key of another kind, or none at all.
    #[error("it has a private key that is neither ECDSA P-256 nor Ed25519 in PKCS#8")]
    Key,
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// The message key is somebody else's.
    #[error("its message key is not the one that its certificate names")]
    OtherMessageKey,
}

const CERTIFICATE: &str = "certificate of its owner";
const TLS_KEY: &str = "TLS key (ECDSA P-256)";
const MESSAGE_KEY: &str = "message key (Ed25519)";
const AUTHORITY: &str = "certificate of the site's authority";

impl Bundle {
    /// Reads a bundle. Whether the authority issued the certificate is **not** checked, since that needs a clock; that
    /// the certificate names the message key is.
    pub fn read(pem: &[u8]) -> Result<Self, BundleError> {
        let (mut certificate, mut tls_key, mut message_key, mut authority) = (None, None, None, None);
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            match section.map_err(|error| BundleError::Pem(without_text(&error)))? {
                (SectionKind::Certificate, der) if is_self_issued(&der)? => {
                    put(&mut authority, Authority::from_der(&der)?, AUTHORITY)?;
                }
                (SectionKind::Certificate, der) => put(&mut certificate, der, CERTIFICATE)?,
                (SectionKind::PrivateKey, der) => match algorithm(&der)? {
                    EC => put(&mut tls_key, PrivatePkcs8KeyDer::from(der), TLS_KEY)?,
                    ED25519 => put(&mut message_key, read_message_key(&der)?, MESSAGE_KEY)?,
                    _ => return Err(BundleError::Key),
                },
                (other, _) => return Err(BundleError::Unknown(other)),
            }
        }
        let bundle = Self {
            certificate: certificate.ok_or(BundleError::Missing(CERTIFICATE))?,
            tls_key: tls_key.ok_or(BundleError::Missing(TLS_KEY))?,
            message_key: message_key.ok_or(BundleError::Missing(MESSAGE_KEY))?,
            authority: authority.ok_or(BundleError::Missing(AUTHORITY))?,
        };
        if named_in(&bundle.certificate)?.key != bundle.message_key.verifying_key() {
            return Err(BundleError::OtherMessageKey);
        }
        Ok(bundle)
    }

    /// The text of the file, which nobody else should be able to read.
    pub fn to_pem(&self) -> Result<String, BundleError> {
        self.to_pem_with(&[])
    }

    /// The same, which also says where the broker is.
    pub fn to_pem_with(&self, brokers: &[Endpoint]) -> Result<String, BundleError> {
        let identity = named_in(&self.certificate)?;
        let (name, role, site) = (&identity.name, identity.role, &identity.site);
        // Without the public key (RFC 5958, version 1), since OpenSSL 3.0 reads no other.
        let message_key = KeypairBytes { secret_key: self.message_key.to_bytes(), public_key: None };
        let message_key = message_key.to_pkcs8_der().map_err(|_| BundleError::Key)?;
        Ok([
            format!("Who {name} is: {role} of the site {site}. Keep this file secret: it is all that {name} needs to be {name}.\n"),
            endpoint::lines(brokers),
            format!("\nThe certificate of {name}.\n"),
            pem("CERTIFICATE", &self.certificate),
            format!("\nThe private key of {name} for TLS.\n"),
            pem("PRIVATE KEY", self.tls_key.secret_pkcs8_der()),
            format!("\nThe private key with which {name} signs its messages.\n"),
            pem("PRIVATE KEY", message_key.as_bytes()),
            format!("\nThe certificate of the authority of the site {site}.\n"),
            pem("CERTIFICATE", self.authority.der()),
        ]
        .concat())
    }
}

/// A certificate (DER) as PEM.
pub fn certificate_pem(certificate: &[u8]) -> String {
    pem("CERTIFICATE", certificate)
}

/// One section of PEM.
pub(super) fn pem(label: &'static str, der: &[u8]) -> String {
    encode_string(label, LineEnding::LF, der).unwrap_or_else(|error| unreachable!("a literal label: {error}"))
}

fn put<T>(place: &mut Option<T>, value: T, what: &'static str) -> Result<(), BundleError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(BundleError::Twice(what)),
    }
}

fn algorithm(key: &[u8]) -> Result<ObjectIdentifier, BundleError> {
    Ok(PrivateKeyInfo::from_der(key).map_err(|_| BundleError::Key)?.algorithm.oid)
}

fn read_message_key(der: &[u8]) -> Result<SigningKey, BundleError> {
    SigningKey::from_pkcs8_der(der).map_err(|_| BundleError::Key)
}

/// What is wrong with PEM, without the lines themselves: they may be a key's.
fn without_text(error: &rustls_pki_types::pem::Error) -> String {
    use rustls_pki_types::pem::Error;
    match error {
        Error::MissingSectionEnd { .. } => "a section has no end".to_owned(),
        Error::IllegalSectionStart { .. } => "a section's first line is broken".to_owned(),
        Error::Base64Decode(_) => "a section is not base64".to_owned(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Issuer;
    use crate::message::Role;
    use crate::units::UnixMillis;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn bundle(name: &str) -> Bundle {
        let issuer = Issuer::create(&"demo".parse().unwrap(), NOW).unwrap();
        issuer.issue_bundle(name.parse().unwrap(), Role::Device, NOW).unwrap()
    }

    /// Its sections, each with the sentence before it.
    fn sections(pem: &str) -> Vec<String> {
        let end = |line: &str| line.starts_with("-----END");
        let mut sections = vec![String::new()];
        for line in pem.lines() {
            sections.last_mut().unwrap().push_str(&format!("{line}\n"));
            if end(line) {
                sections.push(String::new());
            }
        }
        sections.pop();
        sections
    }

    #[test]
    fn a_bundle_reads_back_whatever_the_order_of_its_sections() {
        let bundle = bundle("cp-3");
        let pem = bundle.to_pem().unwrap();
        let mut sections = sections(&pem);
        assert_eq!(sections.len(), 4);
        for _ in 0..sections.len() {
            sections.rotate_left(1);
            let read = Bundle::read(sections.concat().as_bytes()).unwrap();
            assert_eq!(read.certificate, bundle.certificate);
            assert_eq!(read.tls_key, bundle.tls_key);
            assert_eq!(read.message_key, bundle.message_key);
            assert_eq!(read.authority, bundle.authority);
        }
        sections.reverse();
        assert!(Bundle::read(sections.concat().as_bytes()).is_ok());
    }

    #[test]
    fn where_the_broker_is_stands_in_it_and_changes_nothing_else() {
        let bundle = bundle("cp-3");
        let brokers: Vec<Endpoint> = ["broker.local:8883", "[2001:db8::1]:8883"].map(|at| at.parse().unwrap()).into();
        let pem = bundle.to_pem_with(&brokers).unwrap();
        assert_eq!(crate::identity::brokers_in(&pem), brokers);
        assert_eq!(Bundle::read(pem.as_bytes()).unwrap().certificate, bundle.certificate);
        assert!(crate::identity::brokers_in(&bundle.to_pem().unwrap()).is_empty());
    }

    #[test]
    fn a_person_who_opens_it_reads_what_each_section_is() {
        let pem = bundle("cp-3").to_pem().unwrap();
        for sentence in [
            "cp-3 is: device of the site demo",
            "The certificate of cp-3.",
            "The private key of cp-3 for TLS.",
            "The private key with which cp-3 signs its messages.",
            "The certificate of the authority of the site demo.",
        ] {
            assert!(pem.contains(sentence), "{sentence}");
        }
    }

    #[test]
    fn what_is_missing_or_there_twice_is_named() {
        let pem = bundle("cp-3").to_pem().unwrap();
        let sections = sections(&pem);
        let names = [CERTIFICATE, TLS_KEY, MESSAGE_KEY, AUTHORITY];
        for (at, name) in names.into_iter().enumerate() {
            let mut without = sections.clone();
            let section = without.remove(at);
            let refused = Bundle::read(without.concat().as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), format!("it has no {name}"));
            let refused = Bundle::read((pem.clone() + &section).as_bytes()).unwrap_err();
            assert_eq!(refused.to_string(), format!("it has more than one {name}"));
        }
        assert!(matches!(Bundle::read(b""), Err(BundleError::Missing(CERTIFICATE))));
    }

    #[test]
    fn a_message_key_that_the_certificate_does_not_name_is_noticed() {
        let (ours, theirs) = (bundle("cp-3").to_pem().unwrap(), bundle("cp-4").to_pem().unwrap());
        let mut mixed = sections(&ours);
        mixed[2] = sections(&theirs)[2].clone();
        assert!(matches!(Bundle::read(mixed.concat().as_bytes()), Err(BundleError::OtherMessageKey)));
    }

    #[test]
    fn keys_are_shown_neither_by_debug_nor_in_errors() {
        let bundle = bundle("cp-3");
        let pem = bundle.to_pem().unwrap();
        let secrets: Vec<&str> = sections(&pem)[1..3]
            .iter()
            .map(|section| pem.lines().find(|line| section.contains(line) && line.len() > 40 && !line.contains(' ')))
            .map(Option::unwrap)
            .collect();
        let broken = [pem.replace("-----END PRIVATE KEY-----\n", ""), pem.replace(secrets[0], "%%%%")];
        let errors = broken.map(|pem| format!("{:?}", Bundle::read(pem.as_bytes()).unwrap_err())).concat();
        let shown = format!("{bundle:?} {errors}");
        let numbers = format!("{:?}", bundle.tls_key.secret_pkcs8_der());
        let seed = format!("{:?}", bundle.message_key.to_bytes());
        for secret in secrets.into_iter().chain([numbers.as_str(), seed.as_str()]) {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
