//! The files that say who a service is: its keys, its certificate, and the site's authority.

use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use grid_protocol::identity::{Authority, Bundle, Identity, IdentityError, named_in};
use grid_protocol::topic::Name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

/// The section `[identity]`: where the files are. Either one bundle as `grid-broker ca issue` writes it,
///
/// ```toml
/// [identity]
/// bundle = "/etc/grid/cp-1.bundle"
/// ```
///
/// or its parts:
///
/// ```toml
/// [identity]
/// message_key = "/etc/grid/cp-1.key"
/// certificate = "/etc/grid/cp-1.pem"
/// authority = "/etc/grid/ca.pem"
/// tls_key = "/etc/grid/cp-1.tls.key"
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Section", into = "Section")]
pub enum IdentitySettings {
    /// Everything in one file.
    Bundle(PathBuf),
    /// Each in a file of its own.
    Files {
        /// The private key that signs messages: Ed25519, PKCS#8, PEM.
        message_key: PathBuf,
        /// The certificate that the site's authority issued for it, PEM or DER.
        certificate: PathBuf,
        /// The certificate of the site's authority, PEM or DER.
        authority: PathBuf,
        /// The private key of the certificate, PEM. Needed for TLS only.
        tls_key: Option<PathBuf>,
    },
}

/// The same as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(skip_serializing_if = "Option::is_none")]
    bundle: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_key: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    authority: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
}

/// A section `[identity]` that names too few files, or too many.
#[derive(Debug, thiserror::Error)]
enum WrongFiles {
    #[error("bundle holds all that {0} would name: give bundle alone, or the files without it")]
    Both(&'static str),
    #[error("{0} is missing: give bundle, or all of message_key, certificate and authority")]
    Missing(&'static str),
}

impl TryFrom<Section> for IdentitySettings {
    type Error = WrongFiles;

    fn try_from(written: Section) -> Result<Self, WrongFiles> {
        let Section { bundle, message_key, certificate, authority, tls_key } = written;
        if let Some(bundle) = bundle {
            let others = [
                ("message_key", message_key),
                ("certificate", certificate),
                ("authority", authority),
                ("tls_key", tls_key),
            ];
            return match others.into_iter().find(|(_, file)| file.is_some()) {
                Some((key, _)) => Err(WrongFiles::Both(key)),
                None => Ok(Self::Bundle(bundle)),
            };
        }
        Ok(Self::Files {
            message_key: message_key.ok_or(WrongFiles::Missing("message_key"))?,
            certificate: certificate.ok_or(WrongFiles::Missing("certificate"))?,
            authority: authority.ok_or(WrongFiles::Missing("authority"))?,
            tls_key,
        })
    }
}

impl From<IdentitySettings> for Section {
    fn from(settings: IdentitySettings) -> Self {
        match settings {
            IdentitySettings::Bundle(bundle) => {
                Self { bundle: Some(bundle), message_key: None, certificate: None, authority: None, tls_key: None }
            }
            IdentitySettings::Files { message_key, certificate, authority, tls_key } => Self {
                bundle: None,
                message_key: Some(message_key),
                certificate: Some(certificate),
                authority: Some(authority),
                tls_key,
            },
        }
    }
}

/// What the files hold. `Debug` shows no key.
#[derive(Debug)]
pub struct IdentityFiles {
    /// The key that signs messages.
    pub message_key: SigningKey,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The site's authority.
    pub authority: Authority,
    /// The private key of the certificate.
    pub tls_key: Option<PrivateKeyDer<'static>>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} {file:?}: {why}")]
pub struct IdentityFileError {
    key: &'static str,
    file: PathBuf,
    why: String,
}

/// The files are another's, or do not belong together.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// The certificate names nobody.
    #[error("certificate of [identity]: {0}")]
    Unnamed(#[from] IdentityError),
    /// The certificate is another's.
    #[error(
        "the certificate of [identity] is for {named} on the site {its_site}, but the settings say name = \"{name}\" and \
         site = \"{site}\""
    )]
    Another {
        /// Whom the certificate names.
        named: Name,
        /// On which site.
        its_site: Name,
        /// Who the settings say it is.
        name: Name,
        /// On which site.
        site: Name,
    },
    /// The message key is not the certificate's.
    #[error("message_key of [identity] is not the key that its certificate names")]
    OtherKey,
}

impl IdentitySettings {
    /// Reads the files.
    pub fn read(&self) -> Result<IdentityFiles, IdentityFileError> {
        match self {
            Self::Bundle(file) => {
                let bundle = Bundle::read(&read("bundle", file)?);
                let Bundle { certificate, tls_key, message_key, authority } =
                    bundle.map_err(|error| wrong("bundle", file, error.to_string()))?;
                Ok(IdentityFiles { message_key, certificate, authority, tls_key: Some(tls_key.into()) })
            }
            Self::Files { message_key, certificate, authority, tls_key } => Ok(IdentityFiles {
                message_key: read_message_key(message_key)?,
                certificate: read_certificate("certificate", certificate)?,
                authority: read_authority(authority)?,
                tls_key: tls_key.as_deref().map(read_tls_key).transpose()?,
            }),
        }
    }

    /// Whether it names a key for TLS.
    pub fn has_tls_key(&self) -> bool {
        match self {
            Self::Bundle(_) => true,
            Self::Files { tls_key, .. } => tls_key.is_some(),
        }
    }
}

impl IdentityFiles {
    /// Checks that the files are those of `name` on `site`. Whether the authority issued the certificate is not checked,
    /// since a Raspberry Pi may not know the time when it starts.
    pub fn check(&self, site: &Name, name: &Name) -> Result<(), NotOurs> {
        let Identity { site: its_site, name: named, key, .. } = named_in(&self.certificate)?;
        if (&its_site, &named) != (site, name) {
            return Err(NotOurs::Another { named, its_site, name: name.clone(), site: site.clone() });
        }
        if key == self.message_key.verifying_key() { Ok(()) } else { Err(NotOurs::OtherKey) }
    }
}

/// Reads a private key that signs messages: Ed25519, PKCS#8, PEM.
pub fn read_message_key(file: &Path) -> Result<SigningKey, IdentityFileError> {
    let pem = String::from_utf8_lossy(&read("message_key", file)?).into_owned();
    SigningKey::from_pkcs8_pem(&pem)
        .map_err(|error| wrong("message_key", file, format!("is not an Ed25519 key in PKCS#8 PEM ({error})")))
}

/// Reads the certificate of a site's authority, PEM or DER.
pub fn read_authority(file: &Path) -> Result<Authority, IdentityFileError> {
    let der = read_certificate("authority", file)?;
    Authority::from_der(&der).map_err(|error| wrong("authority", file, error.to_string()))
}

/// What is wrong with a TLS key is not told: it is about the text of a secret.
fn read_tls_key(file: &Path) -> Result<PrivateKeyDer<'static>, IdentityFileError> {
    PrivateKeyDer::from_pem_slice(&read("tls_key", file)?)
        .map_err(|_| wrong("tls_key", file, "is no private key in PEM".to_owned()))
}

fn read_certificate(key: &'static str, file: &Path) -> Result<Vec<u8>, IdentityFileError> {
    certificate_der(read(key, file)?).map_err(|why| wrong(key, file, why))
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, IdentityFileError> {
    fs::read(file).map_err(|error| wrong(key, file, format!("cannot be read ({error})")))
}

fn wrong(key: &'static str, file: &Path, why: String) -> IdentityFileError {
    IdentityFileError { key, file: file.to_owned(), why }
}

/// The DER of a certificate in a file, which may be PEM (RFC 7468) or DER.
fn certificate_der(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    if !bytes.windows(BEGIN.len()).any(|here| here == BEGIN) {
        return Ok(bytes);
    }
    let der = CertificateDer::from_pem_slice(&bytes).map_err(|error| format!("its PEM cannot be read ({error:?})"))?;
    Ok(der.to_vec())
}

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::identity::Issuer;
    use grid_protocol::message::Role;
    use grid_protocol::units::UnixMillis;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    fn section(text: &str) -> Result<IdentitySettings, String> {
        use config::{Config, File, FileFormat};
        let tree = Config::builder().add_source(File::from_str(text, FileFormat::Toml)).build().unwrap();
        tree.try_deserialize().map_err(|error| error.to_string())
    }

    fn bundle(name: &str) -> Bundle {
        let issuer = Issuer::create(&"demo".parse().unwrap(), NOW).unwrap();
        issuer.issue_bundle(name.parse().unwrap(), Role::Device, NOW).unwrap()
    }

    fn files_of(bundle: Bundle) -> IdentityFiles {
        let Bundle { certificate, tls_key, message_key, authority } = bundle;
        IdentityFiles { message_key, certificate, authority, tls_key: Some(tls_key.into()) }
    }

    #[test]
    fn a_certificate_may_be_pem_or_der() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAEC\nAw==\n-----END CERTIFICATE-----\n";
        assert_eq!(certificate_der(pem.into()), Ok(vec![0, 1, 2, 3]));
        assert_eq!(certificate_der(vec![0x30, 1]), Ok(vec![0x30, 1]));
        assert!(certificate_der("-----BEGIN CERTIFICATE-----\nAAEC".into()).is_err());
    }

    #[test]
    fn one_bundle_is_enough() {
        let folder = tempfile::tempdir().unwrap();
        let (file, bundle) = (folder.path().join("cp-3.bundle"), bundle("cp-3"));
        fs::write(&file, bundle.to_pem().unwrap()).unwrap();
        let settings = section(&format!("bundle = {file:?}")).unwrap();
        assert_eq!(settings, IdentitySettings::Bundle(file));
        assert!(settings.has_tls_key());
        let files = settings.read().unwrap();
        assert_eq!((&files.certificate, &files.authority), (&bundle.certificate, &bundle.authority));
        assert!(files.check(&"demo".parse().unwrap(), &"cp-3".parse().unwrap()).is_ok());
    }

    #[test]
    fn too_few_files_and_too_many_are_said_in_words() {
        let both = section("bundle = \"b\"\ntls_key = \"k\"").unwrap_err();
        assert!(both.contains("bundle holds all that tls_key would name"), "{both}");
        let missing = section("message_key = \"k\"\ncertificate = \"c\"").unwrap_err();
        assert!(missing.contains("authority is missing: give bundle, or all of"), "{missing}");
        let nothing = section("").unwrap_err();
        assert!(nothing.contains("message_key is missing"), "{nothing}");
    }

    #[test]
    fn anothers_bundle_is_noticed_before_anything_starts() {
        let files = files_of(bundle("cp-3"));
        let error = files.check(&"demo".parse().unwrap(), &"cp-4".parse().unwrap()).unwrap_err().to_string();
        assert!(error.contains("is for cp-3") && error.contains("name = \"cp-4\""), "{error}");
        assert!(files.check(&"elsewhere".parse().unwrap(), &"cp-3".parse().unwrap()).is_err());
        let other_key = IdentityFiles { message_key: SigningKey::from_bytes(&[9; 32]), ..files };
        let error = other_key.check(&"demo".parse().unwrap(), &"cp-3".parse().unwrap()).unwrap_err();
        assert!(matches!(error, NotOurs::OtherKey), "{error}");
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("rubbish"), "rubbish").unwrap();
        let settings = |message_key: &str| IdentitySettings::Files {
            message_key: file(message_key),
            certificate: file("rubbish"),
            authority: file("rubbish"),
            tls_key: None,
        };
        let missing = settings("nowhere").read().unwrap_err().to_string();
        assert!(missing.contains("message_key") && missing.contains("nowhere"), "{missing}");
        let rubbish = settings("rubbish").read().unwrap_err().to_string();
        assert!(rubbish.contains("message_key") && rubbish.contains("Ed25519"), "{rubbish}");
        let bundle = IdentitySettings::Bundle(file("rubbish")).read().unwrap_err().to_string();
        assert!(bundle.contains("rubbish") && bundle.contains("it has no certificate of its owner"), "{bundle}");
    }
}
