//! The files that say who a service is: its message key, its certificate, and the site's authority.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use grid_protocol::identity::Authority;
use serde::{Deserialize, Serialize};

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySettings {
    /// The private key that signs messages: Ed25519, PKCS#8, PEM.
    pub message_key: PathBuf,
    /// The certificate that the site's authority issued for it, PEM or DER.
    pub certificate: PathBuf,
    /// The certificate of the site's authority, PEM or DER.
    pub authority: PathBuf,
}

/// What the files hold.
pub struct IdentityFiles {
    /// The key that signs messages.
    pub message_key: SigningKey,
    /// The certificate, DER.
    pub certificate: Vec<u8>,
    /// The site's authority.
    pub authority: Authority,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} {file:?}: {why}")]
pub struct IdentityFileError {
    key: &'static str,
    file: PathBuf,
    why: String,
}

impl IdentitySettings {
    /// Reads the files.
    pub fn read(&self) -> Result<IdentityFiles, IdentityFileError> {
        let certificate = read("certificate", &self.certificate)?;
        Ok(IdentityFiles {
            message_key: read_message_key(&self.message_key)?,
            certificate: der(certificate).map_err(|why| wrong("certificate", &self.certificate, why))?,
            authority: read_authority(&self.authority)?,
        })
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
    let der = der(read("authority", file)?).map_err(|why| wrong("authority", file, why))?;
    Authority::from_der(&der).map_err(|error| wrong("authority", file, error.to_string()))
}

fn read(key: &'static str, file: &Path) -> Result<Vec<u8>, IdentityFileError> {
    fs::read(file).map_err(|error| wrong(key, file, format!("cannot be read ({error})")))
}

fn wrong(key: &'static str, file: &Path, why: String) -> IdentityFileError {
    IdentityFileError { key, file: file.to_owned(), why }
}

/// The DER of a certificate in a file, which may be PEM (RFC 7468) or DER.
fn der(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let text = std::str::from_utf8(&bytes).ok();
    let Some((_, after)) = text.and_then(|text| text.split_once("-----BEGIN CERTIFICATE-----")) else {
        return Ok(bytes);
    };
    let (body, _) = after.split_once("-----END CERTIFICATE-----").ok_or("its PEM has no end")?;
    let base64: String = body.split_whitespace().collect();
    STANDARD.decode(base64).map_err(|error| format!("its PEM is not base64 ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_may_be_pem_or_der() {
        let pem = "-----BEGIN CERTIFICATE-----\nAAEC\nAw==\n-----END CERTIFICATE-----\n";
        assert_eq!(der(pem.into()), Ok(vec![0, 1, 2, 3]));
        assert_eq!(der(vec![0x30, 1]), Ok(vec![0x30, 1]));
        assert!(der("-----BEGIN CERTIFICATE-----\nAAEC".into()).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        fs::write(file("rubbish"), "rubbish").unwrap();
        let settings = |message_key: &str| IdentitySettings {
            message_key: file(message_key),
            certificate: file("rubbish"),
            authority: file("rubbish"),
        };
        let missing = settings("nowhere").read().err().unwrap().to_string();
        assert!(missing.contains("message_key") && missing.contains("nowhere"), "{missing}");
        let rubbish = settings("rubbish").read().err().unwrap().to_string();
        assert!(rubbish.contains("message_key") && rubbish.contains("Ed25519"), "{rubbish}");
    }
}
