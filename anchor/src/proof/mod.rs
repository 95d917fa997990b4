//! A proof that one message stands in the log: C2SP tlog-proof (`c2sp.org/tlog-proof@v1`), one text file.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra eyJlbnRyeSI6IntcInJlY2VpdmVkX21zXCI6MTQ3…      what was logged, and by whose certificate it is judged
//! index 73894                                           its place in the log, from 0
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=          inclusion proof (RFC 6962 section 2.1.1), leaf's sibling first
//! …
//!                                                       an empty line
//! demo-1f00aa21.invalid                                 the checkpoint, byte for byte
//! 912044
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//!
//! — demo-1f00aa21.invalid Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+…
//! ```
//!
//! In base64, `extra` is one JSON object in this order and without spaces:
//!
//! ```text
//! {"entry":"{\"received_ms\":…,\"topic\":…,\"payload\":…}","certificate":"<DER in base64>"}
//! ```
//!
//! The entry's bytes are what the leaf is made of. The certificate is missing where a message has no sender who signed
//! it. The specification warns that `extra` is not authenticated: here the proof itself authenticates the entry, and the
//! site's authority the certificate. [`check_proof`] believes neither before.
//!
//! With `site.policy` the file is all that a stranger needs, and it stays valid when the log has dropped the message.
//! What it cannot tell is what came later: whether the certificate was revoked before the message, or the log rewritten
//! after the checkpoint; the checkpoint's record on the ledger tells the latter.

mod check;
mod find;
mod prove;
#[cfg(test)]
mod tests;

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tlog_tiles::Hash;

pub use check::{BadProof, Proven, Spoken, check_inclusion, check_proof};
pub use find::{FindError, Found, Wanted, find};
pub use prove::{ProveError, prove};

/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";
/// The largest file: the longest entry, escaped and in base64, with certificate, hashes and checkpoint.
pub const LARGEST: usize = 512 * 1024;
/// A tree of fewer than 2^64 entries has no longer paths.
const LONGEST_PATH: usize = 64;

/// One entry of a log, with all that is needed to check that it stands there.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    /// The entry's bytes.
    pub entry: Vec<u8>,
    /// The certificate (DER) by which its message is judged, if it is signed.
    pub certificate: Option<Vec<u8>>,
    /// Its place in the log, from 0.
    pub index: u64,
    /// The inclusion proof: from the leaf's sibling to the root's child.
    pub path: Vec<Hash>,
    /// The signed checkpoint.
    pub checkpoint: Vec<u8>,
}

/// Why a file is not a proof in this form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is larger than any proof.
    #[error("a file of {0} bytes is no proof: at most {LARGEST}")]
    TooLarge(usize),
    /// It is not text.
    #[error("it is not UTF-8")]
    NotText,
    /// It starts with something else.
    #[error("its first line is not {HEADER}")]
    Header,
    /// The line with the entry is missing, or not as this program writes it.
    #[error("its second line is not \"extra\" with entry and certificate as grid-anchor prove writes them")]
    Extra,
    /// The line with the index is missing or wrong.
    #[error("it does not say \"index\" with a number")]
    Index,
    /// A line is not a hash.
    #[error("line {0} is not a hash of 32 bytes in base64")]
    Hash(usize),
    /// There are too many hashes.
    #[error("it has more than {LONGEST_PATH} hashes")]
    TooManyHashes,
    /// It ends before the checkpoint.
    #[error("there is no empty line with a checkpoint after it")]
    NoCheckpoint,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Extra {
    entry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
}

impl Extra {
    fn of(proof: &Proof) -> Self {
        let certificate = proof.certificate.as_ref().map(|certificate| STANDARD.encode(certificate));
        // The log writes entries as JSON, which is UTF-8. Anything else could not be proven to be an entry.
        Self { entry: String::from_utf8_lossy(&proof.entry).into_owned(), certificate }
    }

    fn write(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("text is always JSON: {error}"));
        STANDARD.encode(json)
    }
}

impl Proof {
    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let mut text = format!("{HEADER}\nextra {}\nindex {}\n", Extra::of(self).write(), self.index);
        for hash in &self.path {
            let _ = writeln!(text, "{hash}");
        }
        text.push('\n');
        let mut file = text.into_bytes();
        file.extend_from_slice(&self.checkpoint);
        file
    }

    /// Reads a file. Accepts only what [`Self::write`] writes, and checks nothing of what it says.
    pub fn read(file: &[u8]) -> Result<Self, Malformed> {
        if file.len() > LARGEST {
            return Err(Malformed::TooLarge(file.len()));
        }
        let text = std::str::from_utf8(file).map_err(|_| Malformed::NotText)?;
        let rest = text.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix('\n')).ok_or(Malformed::Header)?;
        let (extra, rest) = line(rest, "extra ").ok_or(Malformed::Extra)?;
        let (index, mut rest) = line(rest, "index ").ok_or(Malformed::Index)?;
        let number: u64 = index.parse().map_err(|_| Malformed::Index)?;
        if number.to_string() != index {
            return Err(Malformed::Index);
        }
        let mut path = Vec::new();
        let checkpoint = loop {
            let (hash, after) = rest.split_once('\n').ok_or(Malformed::NoCheckpoint)?;
            if hash.is_empty() {
                break after;
            }
            if path.len() == LONGEST_PATH {
                return Err(Malformed::TooManyHashes);
            }
            path.push(read_hash(hash).ok_or(Malformed::Hash(path.len() + 4))?);
            rest = after;
        };
        if checkpoint.is_empty() {
            return Err(Malformed::NoCheckpoint);
        }
        let (entry, certificate) = read_extra(extra).ok_or(Malformed::Extra)?;
        Ok(Self { entry, certificate, index: number, path, checkpoint: checkpoint.as_bytes().to_vec() })
    }
}

/// What follows `word` in the first line, and the lines after it.
fn line<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    text.strip_prefix(word)?.split_once('\n')
}

fn read_hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok().map(Hash)
}

fn read_extra(text: &str) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
    let json = STANDARD.decode(text).ok()?;
    let extra: Extra = serde_json::from_slice(&json).ok()?;
    if extra.write() != text {
        return None;
    }
    let certificate = extra.certificate.map(|text| STANDARD.decode(text)).transpose().ok()?;
    Some((extra.entry.into_bytes(), certificate))
}
