//! The anchor's keys as a file to keep elsewhere, encrypted with a passphrase.
//!
//! Each key is a block of PEM (RFC 7468) with an encrypted PKCS #8 key (RFC 5958; scrypt and AES-256, RFC 8018 and 7914),
//! which OpenSSL reads too. The line before it, which is not secret, has the name of the key's file and the key's public
//! half, of the log's key as a vkey with the log's origin:
//!
//! ```text
//! log.key demo-1f00aa21.invalid+0b81a1c3+AZ2r3vVpVJtB…
//! -----BEGIN ENCRYPTED PRIVATE KEY-----
//! MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAj…
//! -----END ENCRYPTED PRIVATE KEY-----
//! ```
//!
//! All other lines are for people. A key that does not fit its public half is damaged.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::KeypairBytes;
use grid_durable::{Durable, DurableError, Stop, io_error};
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo};
use rand::Rng;
use signed_note::new_ed25519_verifier_key;
use zeroize::Zeroizing;

use crate::checkpoint::{BadKey, LogKey};
use crate::store;

/// The key that signs the anchor's messages.
pub const MESSAGE_KEY: &str = "message.key";
const LEDGER_KEY: &str = "ledger.key";
/// The key of the log first: without it there is nothing to keep.
const FILES: [&str; 3] = [store::KEY, MESSAGE_KEY, LEDGER_KEY];
/// The fewest characters of a passphrase.
pub const SHORTEST_PASSPHRASE: usize = 12;
/// N = 2^14, r = 8, p = 5: the choice for 16 MiB in OWASP's Password Storage Cheat Sheet. OpenSSL allows 32 MiB.
const SCRYPT: [u32; 3] = [14, 8, 5];
/// No file of keys is longer.
const LONGEST_FILE: usize = 64 * 1024;

/// Why keys could not be exported or imported. No message has anything of a key in it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// There is nothing to export.
    #[error("there is no {0}: is that the anchor's data_dir, and has the anchor or init been run?")]
    NoKey(PathBuf),
    /// A key's file is damaged.
    #[error("{0} does not hold a key in PKCS #8 PEM")]
    Damaged(PathBuf),
    /// The log's key is damaged.
    #[error("{path}: {why}")]
    LogKey {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        why: BadKey,
    },
    /// The passphrase would be guessed.
    #[error("the passphrase has {0} characters: use at least {SHORTEST_PASSPHRASE}, such as five words")]
    ShortPassphrase(usize),
    /// Not a file of keys.
    #[error("this is not a file that keys export has written: {0}")]
    NotExported(&'static str),
    /// Wrong passphrase, or a damaged file.
    #[error("{0} cannot be decrypted: the passphrase is wrong, or the file is damaged")]
    NotDecrypted(&'static str),
    /// Another key is there already.
    #[error("{0} is another key: nothing was imported. Give a data_dir without keys")]
    OtherKey(PathBuf),
    /// Encryption failed.
    #[error("cannot encrypt a key: {0}")]
    Encrypt(pkcs8::Error),
}

/// A key and the file it belongs into.
struct Key {
    file: &'static str,
    /// Of the log's key.
    origin: Option<String>,
    key: SigningKey,
}

impl Key {
    /// Its public half, as it stands before it.
    fn public(&self) -> String {
        let key = self.key.verifying_key();
        match &self.origin {
            Some(origin) => new_ed25519_verifier_key(origin, &key),
            None => URL_SAFE_NO_PAD.encode(key.as_bytes()),
        }
    }

    /// What its file holds.
    fn content(&self) -> Result<Zeroizing<String>, KeysError> {
        match &self.origin {
            Some(origin) => {
                let key = LogKey::new(origin, &self.key);
                let key = key.map_err(|why| KeysError::LogKey { path: self.file.into(), why })?;
                Ok(Zeroizing::new(key.to_line().to_owned()))
            }
            None => self.key.to_pkcs8_pem(LineEnding::LF).map_err(KeysError::Encrypt),
        }
    }

    fn read(file: &'static str, path: &Path, content: &[u8]) -> Result<Self, KeysError> {
        let text = std::str::from_utf8(content).map_err(|_| KeysError::Damaged(path.to_owned()))?;
        if file == store::KEY {
            let key = LogKey::read(text).map_err(|why| KeysError::LogKey { path: path.to_owned(), why })?;
            return Ok(Self { file, origin: Some(key.origin().to_owned()), key: key.signing_key() });
        }
        // The parser's own message could quote the key.
        let key = SigningKey::from_pkcs8_pem(text).map_err(|_| KeysError::Damaged(path.to_owned()))?;
        Ok(Self { file, origin: None, key })
    }
}

/// All keys in `data_dir`, encrypted: the content of a file. An anchor may run meanwhile.
pub fn export(data_dir: &Path, passphrase: &str) -> Result<String, KeysError> {
    let length = passphrase.chars().count();
    if length < SHORTEST_PASSPHRASE {
        return Err(KeysError::ShortPassphrase(length));
    }
    let mut text = String::from(
        "The keys of a log, encrypted with a passphrase. Keep this apart from it.\n\
         To put them back: grid-anchor keys import THIS-FILE --data-dir DIR\n",
    );
    for file in FILES {
        let path = data_dir.join(file);
        let content = match fs::read(&path) {
            Ok(content) => Zeroizing::new(content),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error("read", &path)(error).into()),
            Err(_) if file == store::KEY => return Err(KeysError::NoKey(path)),
            Err(_) => continue,
        };
        let key = Key::read(file, &path, &content)?;
        let encrypted = encrypt(&key.key, passphrase).map_err(KeysError::Encrypt)?;
        text += &format!("\n{file} {}\n{}", key.public(), encrypted.as_str());
    }
    Ok(text)
}

fn encrypt(key: &SigningKey, passphrase: &str) -> Result<Zeroizing<String>, pkcs8::Error> {
    let (salt, vector): ([u8; 16], [u8; 16]) = rand::thread_rng().r#gen();
    let [log_n, block_size, parallelism] = SCRYPT;
    let cost = scrypt::Params::new(log_n as u8, block_size, parallelism, scrypt::Params::RECOMMENDED_LEN);
    let cost = cost.map_err(|_| pkcs8::Error::ParametersMalformed)?;
    let parameters = pbes2::Parameters::scrypt_aes256cbc(cost, &salt, &vector)?;
    // OpenSSL 3.0 does not read the form that has the public half in it.
    let document = KeypairBytes { secret_key: key.to_bytes(), public_key: None }.to_pkcs8_der()?;
    let encrypted = PrivateKeyInfo::try_from(document.as_bytes())?.encrypt_with_params(parameters, passphrase)?;
    Ok(encrypted.to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF)?)
}

/// Puts exported keys into `data_dir`, where no anchor may be running: all or, if another key is there, none. Returns the
/// names of the files that were written.
pub fn import(exported: &[u8], passphrase: &str, data_dir: &Path) -> Result<Vec<&'static str>, KeysError> {
    let keys = decrypt(exported, passphrase)?;
    let mut durable = Durable::open(data_dir, Stop::never())?;
    let mut missing = Vec::new();
    for key in keys {
        let path = durable.path(key.file);
        match durable.read(key.file)?.map(Zeroizing::new) {
            None => missing.push(key),
            Some(there) => {
                let there = Key::read(key.file, &path, &there)?;
                if there.public() != key.public() {
                    return Err(KeysError::OtherKey(path));
                }
            }
        }
    }
    for key in &missing {
        durable.place_secret(key.file, key.content()?.as_bytes())?;
    }
    durable.settle()?;
    Ok(missing.iter().map(|key| key.file).collect())
}

fn decrypt(exported: &[u8], passphrase: &str) -> Result<Vec<Key>, KeysError> {
    if exported.len() > LONGEST_FILE {
        return Err(KeysError::NotExported("it is too long"));
    }
    let text = std::str::from_utf8(exported).map_err(|_| KeysError::NotExported("it is not text"))?;
    let (begin, end) = (pem_line("BEGIN"), pem_line("END"));
    let mut keys: Vec<Key> = Vec::new();
    let mut before = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line != begin {
            before = line;
            continue;
        }
        let unnamed = || KeysError::NotExported("the line before a key does not say which it is");
        let (name, public) = before.split_once(' ').ok_or_else(unnamed)?;
        let file = FILES.into_iter().find(|file| *file == name).ok_or_else(unnamed)?;
        if keys.iter().any(|key| key.file == file) {
            return Err(unnamed());
        }
        let origin = (file == store::KEY).then(|| public.split('+').next().unwrap_or_default().to_owned());
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
        let pem = format!("{begin}\n{}\n{end}\n", block.join("\n"));
        let key = SigningKey::from_pkcs8_encrypted_pem(&pem, passphrase).map_err(|_| KeysError::NotDecrypted(file))?;
        let key = Key { file, origin, key };
        if key.public() != public {
            return Err(KeysError::NotDecrypted(file));
        }
        keys.push(key);
    }
    match keys.is_empty() {
        true => Err(KeysError::NotExported("there is no key in it")),
        false => Ok(keys),
    }
}

fn pem_line(which: &str) -> String {
    format!("-----{which} {}-----", EncryptedPrivateKeyInfo::PEM_LABEL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSPHRASE: &str = "one two three four five";

    fn folder_with_keys() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let log = LogKey::new("demo.invalid", &SigningKey::from_bytes(&[1; 32])).unwrap();
        fs::write(folder.path().join("log.key"), log.to_line()).unwrap();
        for (file, byte) in [("message.key", 2), ("ledger.key", 3)] {
            let pem = SigningKey::from_bytes(&[byte; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
            fs::write(folder.path().join(file), pem.as_bytes()).unwrap();
        }
        folder
    }

    fn content(folder: &Path) -> Vec<String> {
        FILES.iter().map(|file| fs::read_to_string(folder.join(file)).unwrap()).collect()
    }

    #[test]
    fn what_was_exported_is_imported_and_importing_it_again_changes_nothing() {
        let (from, to) = (folder_with_keys(), tempfile::tempdir().unwrap());
        let exported = export(from.path(), PASSPHRASE).unwrap();
        assert_eq!(import(exported.as_bytes(), PASSPHRASE, to.path()).unwrap(), FILES);
        assert_eq!(content(to.path()), content(from.path()));
        assert!(import(exported.as_bytes(), PASSPHRASE, to.path()).unwrap().is_empty());
        for secret in content(from.path()) {
            for line in secret.lines().filter(|line| !line.starts_with('-')) {
                assert!(!exported.contains(line), "a key is readable");
            }
        }
    }

    #[test]
    fn a_wrong_passphrase_and_every_damaged_byte_of_a_key_are_noticed() {
        let (from, to) = (folder_with_keys(), tempfile::tempdir().unwrap());
        fs::remove_file(from.path().join("message.key")).unwrap();
        fs::remove_file(from.path().join("ledger.key")).unwrap();
        let exported = export(from.path(), PASSPHRASE).unwrap();
        let error = import(exported.as_bytes(), "one two three four six", to.path()).unwrap_err();
        assert_eq!(error.to_string(), "log.key cannot be decrypted: the passphrase is wrong, or the file is damaged");
        // The salt and the parameters are above, the key is in the last line but one.
        let at = exported.len() - "-----END ENCRYPTED PRIVATE KEY-----\n".len() - 10;
        let mut damaged = exported.clone().into_bytes();
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        assert!(matches!(import(&damaged, PASSPHRASE, to.path()), Err(KeysError::NotDecrypted("log.key"))));
        assert!(!to.path().join("log.key").exists());
    }

    #[test]
    fn a_key_is_never_overwritten_and_then_none_is_imported() {
        let (from, to) = (folder_with_keys(), folder_with_keys());
        fs::remove_file(to.path().join("log.key")).unwrap();
        let other = SigningKey::from_bytes(&[9; 32]).to_pkcs8_pem(LineEnding::LF).unwrap();
        fs::write(to.path().join("ledger.key"), other.as_bytes()).unwrap();
        let exported = export(from.path(), PASSPHRASE).unwrap();
        let refused = import(exported.as_bytes(), PASSPHRASE, to.path());
        assert!(matches!(refused, Err(KeysError::OtherKey(path)) if path.ends_with("ledger.key")));
        assert!(!to.path().join("log.key").exists());
    }

    #[test]
    fn rubbish_is_refused_in_words_and_short_passphrases_are_too() {
        let (from, to) = (folder_with_keys(), tempfile::tempdir().unwrap());
        assert!(matches!(export(from.path(), "secret"), Err(KeysError::ShortPassphrase(6))));
        assert!(matches!(export(to.path(), PASSPHRASE), Err(KeysError::NoKey(_))));
        let exported = export(from.path(), PASSPHRASE).unwrap();
        let unnamed = exported.replace("message.key", "");
        let twice = exported.replace("ledger.key", "message.key");
        for rubbish in ["", "rubbish", &unnamed, &twice, &"x".repeat(LONGEST_FILE + 1)] {
            let refused = import(rubbish.as_bytes(), PASSPHRASE, to.path());
            assert!(matches!(refused, Err(KeysError::NotExported(_))), "{refused:?}");
        }
    }

    #[test]
    fn openssl_reads_an_exported_key() {
        let folder = folder_with_keys();
        let file = folder.path().join("exported");
        fs::write(&file, export(folder.path(), PASSPHRASE).unwrap()).unwrap();
        let mut command = std::process::Command::new("openssl");
        command.args(["pkey", "-passin", &format!("pass:{PASSPHRASE}"), "-noout", "-text", "-in"]).arg(&file);
        let output = command.output().expect("openssl is needed (Debian: apt install openssl)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).to_lowercase().contains("ed25519"));
    }
}
