//! The mock's file: entries that are appended and never changed.
//!
//! An entry is its length (u32, little-endian), the first eight bytes of the SHA-256 of its content, and the content
//! (BCS). A last entry that is incomplete was being written when the mock was killed; nobody got an answer that relies
//! on it, and it is cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::NOT_IOTA;
use grid_durable::lock_alone;

const HEADER: usize = 4 + CHECKSUM;
const CHECKSUM: usize = 8;

/// Why the mock could not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// The operating system refused.
    #[error("the mock ledger cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another mock works with the file.
    #[error("another mock ledger uses {0}: stop it, or give this one a file of its own")]
    Locked(PathBuf),
    /// The file is none of ours, or was changed.
    #[error("{path} is no state of a mock ledger of this version: {reason}. Remove it to start anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Of all whole entries.
    length: u64,
    /// Half an entry may be at the end: nothing must follow it.
    broken: bool,
}

impl Journal {
    /// Takes the file, making it if it is not there, and reads all entries.
    pub(super) fn open<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<(Self, Vec<T>), MockError> {
        let io_error = |action| move |source| MockError::Io { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(io_error("make the folder of"))?;
        }
        let mut options = OpenOptions::new();
        // The faucet's key is in it, though it opens nothing but this mock.
        let mut file = options.create(true).read(true).append(true).mode(0o600).open(path).map_err(io_error("open"))?;
        if !lock_alone(&file).map_err(io_error("lock"))? {
            return Err(MockError::Locked(path.to_owned()));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io_error("read"))?;
        let damaged = |reason: String| MockError::Damaged { path: path.to_owned(), reason };
        let (mut entries, mut at) = (Vec::new(), 0);
        while let Some(content) = entry(&bytes[at..]).map_err(&damaged)? {
            entries.push(bcs::from_bytes(content).map_err(|error| damaged(error.to_string()))?);
            at += HEADER + content.len();
        }
        if at < bytes.len() {
            tracing::warn!(bytes = bytes.len() - at, "cutting off an unfinished transaction ({NOT_IOTA})");
            file.set_len(at as u64).map_err(io_error("cut"))?;
        }
        Ok((Self { file, path: path.to_owned(), length: at as u64, broken: false }, entries))
    }

    /// Appends an entry; it is in the file, if not on the disk, when this returns. When that fails, as on a full disk,
    /// nothing of it stays.
    pub(super) fn append<T: Serialize>(&mut self, value: &T) -> Result<(), MockError> {
        let io_error = |source| MockError::Io { action: "write", path: self.path.clone(), source };
        if self.broken {
            return Err(io_error(io::Error::other("an entry before was not written whole: start again")));
        }
        let content = bcs::to_bytes(value).map_err(|error| io_error(io::Error::other(error)))?;
        let length = u32::try_from(content.len()).map_err(|error| io_error(io::Error::other(error)))?;
        let mut bytes = Vec::with_capacity(HEADER + content.len());
        bytes.extend(length.to_le_bytes());
        bytes.extend(&Sha256::digest(&content)[..CHECKSUM]);
        bytes.extend(content);
        if let Err(error) = self.file.write_all(&bytes) {
            self.broken = self.file.set_len(self.length).is_err();
            return Err(io_error(error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// The first entry's content; `None` if there is none, or not all of it.
fn entry(bytes: &[u8]) -> Result<Option<&[u8]>, String> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [a, b, c, d, checksum @ ..] = header;
    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
    let Some(content) = rest.get(..length) else { return Ok(None) };
    if Sha256::digest(content)[..CHECKSUM] == checksum[..] {
        Ok(Some(content))
    } else if rest.len() == length {
        Ok(None)
    } else {
        Err("an entry does not match its checksum".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(path: &Path) -> Vec<String> {
        Journal::open(path).unwrap().1
    }

    #[test]
    fn what_was_appended_is_read_again_however_much_of_the_last_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mock");
        let (mut journal, none) = Journal::open::<String>(&path).unwrap();
        assert!(none.is_empty());
        journal.append(&"one").unwrap();
        journal.append(&"two").unwrap();
        assert!(matches!(Journal::open::<String>(&path), Err(MockError::Locked(_))));
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        assert_eq!(entries(&path), ["one", "two"]);
        for length in whole.len() / 2..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(entries(&path), ["one"]);
            assert_eq!(std::fs::read(&path).unwrap().len(), whole.len() / 2);
        }
    }

    #[test]
    fn nothing_follows_an_entry_that_was_not_written_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mock");
        let (mut journal, _) = Journal::open::<String>(&path).unwrap();
        journal.append(&"one").unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let file = std::mem::replace(&mut journal.file, full);
        assert!(matches!(journal.append(&"two"), Err(MockError::Io { .. })));
        // The end could not be cut off either.
        journal.file = file;
        assert!(journal.append(&"three").unwrap_err().to_string().contains("start again"));
        drop(journal);
        let (mut journal, kept) = Journal::open::<String>(&path).unwrap();
        assert_eq!(kept, ["one"]);
        journal.append(&"two").unwrap();
        drop(journal);
        assert_eq!(entries(&path), ["one", "two"]);
    }

    #[test]
    fn a_changed_entry_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mock");
        let (mut journal, _) = Journal::open::<String>(&path).unwrap();
        journal.append(&"one").unwrap();
        journal.append(&"two").unwrap();
        drop(journal);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HEADER + 1] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(Journal::open::<String>(&path), Err(MockError::Damaged { .. })));
    }
}
