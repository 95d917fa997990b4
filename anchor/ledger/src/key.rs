//! The key that signs transactions. It is neither the log's key nor the anchor's message key.

use std::fmt;

use iota_sdk::crypto::ed25519::Ed25519PrivateKey;
use iota_sdk::crypto::mnemonic::generate_mnemonic;
use iota_sdk::crypto::{FromMnemonic, IotaSigner};
use iota_sdk::types::{Address, SignedTransaction, Transaction};
use zeroize::Zeroizing;

use crate::error::LedgerError;
use crate::file::Folder;

pub(crate) const FILE: &str = "ledger.key";

/// Twenty-four BIP-39 words that any IOTA wallet turns into the same key (path `m/44'/4218'/0'/0'/0'`).
///
/// They are shown once and stored nowhere: the file has the key, not the words.
pub struct RecoveryWords(Zeroizing<String>);

impl RecoveryWords {
    /// The words, to show to their owner and to nobody else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RecoveryWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryWords(secret)")
    }
}

/// The ledger key.
#[derive(Clone)]
pub(crate) struct LedgerKey(Ed25519PrivateKey);

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerKey(of {})", self.address())
    }
}

impl LedgerKey {
    /// A new one, which is not stored yet.
    pub(crate) fn generate() -> Result<(Self, RecoveryWords), LedgerError> {
        let words = Zeroizing::new(generate_mnemonic(None));
        let key = Ed25519PrivateKey::from_mnemonic(&words, None, None)
            .map_err(|error| LedgerError::Internal { action: "derive a key", reason: error.to_string() })?;
        Ok((Self(key), RecoveryWords(words)))
    }

    /// The stored one, if there is one.
    pub(crate) fn load(folder: &Folder) -> Result<Option<Self>, LedgerError> {
        let Some(bytes) = folder.read(FILE)?.map(Zeroizing::new) else { return Ok(None) };
        let damaged = |reason: String| LedgerError::Damaged { path: folder.path(FILE), reason };
        let pem = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
        // The parser's own message could quote the key.
        let key = Ed25519PrivateKey::from_pem(pem).map_err(|_| damaged("it is no Ed25519 key in PEM".to_owned()))?;
        Ok(Some(Self(key)))
    }

    pub(crate) fn store(&self, folder: &Folder) -> Result<(), LedgerError> {
        let pem = self.0.to_pem().map(Zeroizing::new);
        let pem = pem.map_err(|error| LedgerError::Internal { action: "encode a key", reason: error.to_string() })?;
        Ok(folder.place(FILE, pem.as_bytes())?)
    }

    pub(crate) fn address(&self) -> Address {
        self.0.public_key().derive_address()
    }

    pub(crate) fn sign(&self, transaction: Transaction) -> Result<SignedTransaction, LedgerError> {
        let signature = self
            .0
            .sign_transaction(&transaction)
            .map_err(|error| LedgerError::Internal { action: "sign a transaction", reason: error.to_string() })?;
        Ok(SignedTransaction { transaction, signatures: vec![signature] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_is_the_same_key_and_its_words_give_it_again() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        assert!(LedgerKey::load(&folder).unwrap().is_none());
        let (key, words) = LedgerKey::generate().unwrap();
        key.store(&folder).unwrap();
        assert_eq!(LedgerKey::load(&folder).unwrap().unwrap().address(), key.address());
        assert_eq!(words.expose().split(' ').count(), 24);
        let again = Ed25519PrivateKey::from_mnemonic(words.expose(), None, None).unwrap();
        assert_eq!(again.public_key().derive_address(), key.address());
    }

    #[test]
    fn secrets_are_not_printed() {
        let (key, words) = LedgerKey::generate().unwrap();
        let first = words.expose().split(' ').next().unwrap();
        assert!(!format!("{words:?}").contains(first));
        assert_eq!(format!("{key:?}"), format!("LedgerKey(of {})", key.address()));
    }

    #[test]
    fn a_damaged_key_file_is_reported() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        folder.place(FILE, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(matches!(LedgerKey::load(&folder), Err(LedgerError::Damaged { .. })));
    }
}
