//! The log's key, and the checkpoint that it signs (C2SP tlog-checkpoint in a C2SP signed-note).
//!
//! ```text
//! demo-1f00aa21.invalid                                          origin
//! 912044                                                         tree size
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=                   root hash
//!
//! — demo-1f00aa21.invalid Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+…   Ed25519 (type 0x01)
//! ```
//!
//! The origin is also the key's name. The key's file holds one line in the form that Go's `note` package gave signer
//! keys, `PRIVATE+KEY+<origin>+<hash>+<base64>`; the public one, as it stands in a policy, is the *vkey*
//! `<origin>+<hash>+<base64>`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use grid_protocol::topic::Name;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use signed_note::{
    Note, Signer, StandardSigner, StandardVerifier, VerifierError, VerifierList, is_key_name_valid, key_id,
    new_ed25519_verifier_key,
};
use tlog_tiles::{Checkpoint, Hash};
use zeroize::Zeroizing;

use crate::hex::hex;

const ED25519: u8 = 1;

/// The head of a log: how many entries, under which root.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The log's name.
    pub origin: String,
    /// How many entries it has.
    pub size: u64,
    /// The root hash of the tree over them.
    pub root: Hash,
}

/// The private key of a log.
#[derive(Clone)]
pub struct LogKey {
    origin: String,
    line: Zeroizing<String>,
    key: SigningKey,
    signer: StandardSigner,
    public: LogPublicKey,
}

/// The public key of a log, with its name.
#[derive(Clone)]
pub struct LogPublicKey {
    vkey: String,
    verifier: StandardVerifier,
}

impl fmt::Debug for LogPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPublicKey({})", self.vkey)
    }
}

impl PartialEq for LogPublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.vkey == other.vkey
    }
}

impl Eq for LogPublicKey {}

/// Why something is not a key of a log.
#[derive(Debug, thiserror::Error)]
pub enum BadKey {
    /// Not a private key.
    #[error("this is not a log key: expected PRIVATE+KEY+<origin>+<8 hex digits>+<base64>")]
    Private,
    /// Not a public key.
    #[error("{0:?} is not a vkey ({1}): expected <origin>+<8 hex digits>+<base64>")]
    Public(String, VerifierError),
    /// The name would not fit a signed note.
    #[error("{0:?} cannot be an origin: use a name such as example.com/street without spaces, + or control characters")]
    Origin(String),
}

/// Why a checkpoint is not this log's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCheckpoint {
    /// Not a signed note.
    #[error("it is not a signed note")]
    NotANote,
    /// The text of the note is not a checkpoint.
    #[error("it is not a checkpoint: expected origin, tree size and root hash, one a line")]
    NotACheckpoint,
    /// Its signature does not hold for the log's key.
    #[error("it is not signed by {0}")]
    NotSigned(String),
    /// It says the same in other bytes than this log writes.
    #[error("it is not written as this log writes checkpoints")]
    Spelling,
}

impl LogKey {
    /// Draws a new key. Without an origin its name is `<site>-<8 hex digits of the public key's SHA-256>.invalid`.
    pub fn generate(site: &Name, origin: Option<&str>) -> Result<Self, BadKey> {
        let key = SigningKey::generate(&mut OsRng);
        let digest = Sha256::digest(key.verifying_key().as_bytes());
        let short = hex(&digest[..4]);
        let origin = origin.map_or_else(|| format!("{site}-{short}.invalid"), str::to_owned);
        Self::new(&origin, &key)
    }

    /// Names a key.
    pub fn new(origin: &str, key: &SigningKey) -> Result<Self, BadKey> {
        if !is_key_name_valid(origin) || origin.chars().any(char::is_control) {
            return Err(BadKey::Origin(origin.to_owned()));
        }
        let public = [&[ED25519], key.verifying_key().as_bytes().as_slice()].concat();
        let private = Zeroizing::new([&[ED25519], key.as_bytes().as_slice()].concat());
        let id = key_id(origin, &public);
        let encoded = Zeroizing::new(STANDARD.encode(&*private));
        Self::read(&Zeroizing::new(format!("PRIVATE+KEY+{origin}+{id:08x}+{}\n", *encoded)))
    }

    /// Reads the content of a key's file.
    pub fn read(line: &str) -> Result<Self, BadKey> {
        let text = line.trim_end();
        let signer = StandardSigner::new(text).map_err(|_| BadKey::Private)?;
        let mut parts = text.strip_prefix("PRIVATE+KEY+").ok_or(BadKey::Private)?.splitn(3, '+');
        let (Some(origin), Some(_), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadKey::Private);
        };
        let bytes = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| BadKey::Private)?);
        let key = bytes.get(1..).and_then(|key| SigningKey::try_from(key).ok()).ok_or(BadKey::Private)?;
        let public = LogPublicKey::read(&new_ed25519_verifier_key(origin, &key.verifying_key()))?;
        let line = Zeroizing::new(format!("{text}\n"));
        Ok(Self { origin: origin.to_owned(), line, key, signer, public })
    }

    /// The content of the key's file.
    pub fn to_line(&self) -> &str {
        &self.line
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The key itself, without its name.
    pub(crate) fn signing_key(&self) -> SigningKey {
        self.key.clone()
    }

    /// The public half.
    pub fn public(&self) -> &LogPublicKey {
        &self.public
    }

    /// The signed checkpoint for a tree.
    pub fn sign(&self, size: u64, root: Hash) -> Result<Vec<u8>, BadCheckpoint> {
        let text = Checkpoint::new(&self.origin, size, root, "").map_err(|_| BadCheckpoint::NotACheckpoint)?.to_bytes();
        sign_note(&text, &[self]).ok_or(BadCheckpoint::NotANote)
    }
}

/// The signed note with this text, if it can be one.
pub(crate) fn sign_note(text: &[u8], keys: &[&LogKey]) -> Option<Vec<u8>> {
    let mut note = Note::new(text, &[]).ok()?;
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| &key.signer as &dyn Signer).collect();
    note.add_sigs(&signers).ok()?;
    Some(note.to_bytes())
}

/// The names and hashes of the keys that a note says signed it, in order: `<name>+<8 hex digits>`.
pub(crate) fn signers(note: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(note);
    let signatures = text.lines().filter_map(|line| line.strip_prefix("— "));
    signatures
        .filter_map(|line| {
            let (name, encoded) = line.split_once(' ')?;
            let id = STANDARD.decode(encoded).ok()?;
            Some(format!("{name}+{}", hex(id.get(..4)?)))
        })
        .collect()
}

impl LogPublicKey {
    /// Reads a vkey.
    pub fn read(vkey: &str) -> Result<Self, BadKey> {
        let verifier = StandardVerifier::new(vkey).map_err(|why| BadKey::Public(vkey.to_owned(), why))?;
        Ok(Self { vkey: vkey.to_owned(), verifier })
    }

    /// The vkey.
    pub fn vkey(&self) -> &str {
        &self.vkey
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.vkey.split('+').next().unwrap_or_default()
    }

    /// Name and hash, as a signature names the key: `<origin>+<8 hex digits>`.
    pub fn short(&self) -> &str {
        // The key itself, in base64, may have a `+` in it too.
        let second = self.vkey.match_indices('+').nth(1).map_or(self.vkey.len(), |(at, _)| at);
        self.vkey.get(..second).unwrap_or_default()
    }

    /// Whether the first signature of this key under a note holds.
    pub(crate) fn has_signed(&self, note: &Note) -> bool {
        note.verify(&VerifierList::new(vec![Box::new(self.verifier.clone())])).is_ok()
    }

    /// Checks a checkpoint's signature and reads it. Every byte counts: there is one spelling for each head.
    pub fn open(&self, note: &[u8]) -> Result<Head, BadCheckpoint> {
        let Unsigned { head, keys } = read_unsigned(note)?;
        let parsed = Note::from_bytes(note).map_err(|_| BadCheckpoint::NotANote)?;
        let not_signed = || BadCheckpoint::NotSigned(self.vkey.clone());
        if !self.has_signed(&parsed) {
            return Err(not_signed());
        }
        // One signature, this log's: of several that name its key, only the first was verified.
        if keys.len() != 1 {
            return Err(BadCheckpoint::Spelling);
        }
        if head.origin != self.origin() {
            return Err(not_signed());
        }
        Ok(head)
    }
}

/// A checkpoint whose signature nobody has looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsigned {
    /// What it says.
    pub head: Head,
    /// The names and hashes of the keys that it says signed it: `<name>+<8 hex digits>`.
    pub keys: Vec<String>,
}

/// Reads a checkpoint **without** checking who signed it.
pub fn read_unsigned(note: &[u8]) -> Result<Unsigned, BadCheckpoint> {
    let parsed = Note::from_bytes(note).map_err(|_| BadCheckpoint::NotANote)?;
    let checkpoint = Checkpoint::from_bytes(parsed.text()).map_err(|_| BadCheckpoint::NotACheckpoint)?;
    if parsed.to_bytes() != note || checkpoint.to_bytes() != parsed.text() {
        return Err(BadCheckpoint::Spelling);
    }
    let head = Head { origin: checkpoint.origin().to_owned(), size: checkpoint.size(), root: *checkpoint.hash() };
    Ok(Unsigned { head, keys: signers(note) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> LogKey {
        LogKey::new("example.com/street", &SigningKey::from_bytes(&[9; 32])).unwrap()
    }

    #[test]
    fn a_checkpoint_is_what_the_specification_says() {
        let note = key().sign(912_044, Hash([7; 32])).unwrap();
        let text = String::from_utf8(note.clone()).unwrap();
        let expected =
            "example.com/street\n912044\nBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n\n— example.com/street ";
        assert!(text.starts_with(expected), "{text}");
        let head = key().public().open(&note).unwrap();
        assert_eq!(head, Head { origin: "example.com/street".into(), size: 912_044, root: Hash([7; 32]) });
        let vkey = key().public().vkey().to_owned();
        let unsigned = read_unsigned(&note).unwrap();
        assert!(vkey.starts_with(&unsigned.keys[0]), "{vkey} {:?}", unsigned.keys);
    }

    #[test]
    fn a_signature_names_its_key_as_the_vkey_begins() {
        for byte in 0..=255 {
            let key = LogKey::new("example.com/street", &SigningKey::from_bytes(&[byte; 32])).unwrap();
            let note = key.sign(1, Hash([1; 32])).unwrap();
            assert_eq!(signers(&note), [key.public().short()]);
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let note = key().sign(300, Hash([1; 32])).unwrap();
        for at in 0..note.len() {
            for bit in 0..8 {
                let mut changed = note.clone();
                changed[at] ^= 1 << bit;
                assert!(key().public().open(&changed).is_err(), "bit {bit} of byte {at}");
            }
            assert!(key().public().open(&note[..at]).is_err());
        }
    }

    #[test]
    fn a_line_that_names_the_key_again_is_noticed() {
        let sign = |size| String::from_utf8(key().sign(size, Hash([1; 32])).unwrap()).unwrap();
        let (note, other) = (sign(300), sign(301));
        for more in [&note, &other] {
            let (_, signature) = more.split_once("\n\n").unwrap();
            let twice = format!("{note}{signature}");
            assert_eq!(key().public().open(twice.as_bytes()), Err(BadCheckpoint::Spelling), "{twice}");
        }
    }

    #[test]
    fn another_key_or_another_name_does_not_open_it() {
        let note = key().sign(1, Hash([1; 32])).unwrap();
        let other = LogKey::new("example.com/street", &SigningKey::from_bytes(&[8; 32])).unwrap();
        assert!(matches!(other.public().open(&note), Err(BadCheckpoint::NotSigned(_))));
        let named = LogKey::new("example.com/other", &SigningKey::from_bytes(&[9; 32])).unwrap();
        assert!(matches!(named.public().open(&note), Err(BadCheckpoint::NotSigned(_))));
    }

    #[test]
    fn a_key_reads_back_from_its_file() {
        let site = "demo".parse().unwrap();
        let key = LogKey::generate(&site, None).unwrap();
        assert!(key.origin().starts_with("demo-") && key.origin().ends_with(".invalid"));
        assert_eq!(LogKey::read(key.to_line()).unwrap().public().vkey(), key.public().vkey());
        assert!(LogKey::read("PRIVATE+KEY+x+00000000+AAAA").is_err());
        assert!(LogKey::generate(&site, Some("two words")).is_err());
        assert!(LogKey::generate(&site, Some("a+b")).is_err());
    }
}
