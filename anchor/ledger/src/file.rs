//! The ledger's small files: key, state and pending transaction.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use grid_durable::{is_full, lock_alone, replace_secret};

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process is at work there.
    #[error("another process uses the ledger files in {0}: stop it first")]
    Locked(PathBuf),
}

impl FileError {
    /// Whether it is only that there is no more room: then it goes on when there is.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Locked(_) => false,
        }
    }
}

/// The folder with key, state and pending transaction. Only one process has it at a time.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Released when closed, also by a kill.
    _lock: File,
}

impl Folder {
    /// Takes the folder, making it if it is not there.
    pub(crate) fn open(root: &Path) -> Result<Self, FileError> {
        fs::create_dir_all(root).map_err(io_error("make", root))?;
        let path = root.join("ledger.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        match lock_alone(&lock).map_err(io_error("lock", &path))? {
            true => Ok(Self { root: root.to_owned(), _lock: lock }),
            false => Err(FileError::Locked(root.to_owned())),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The content of a file; `None` if it is not there.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, FileError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Replaces a file by another content: whole or not at all, and for good once this returns. Only the owner may
    /// read it.
    pub(crate) fn place(&self, name: &str, bytes: &[u8]) -> Result<(), FileError> {
        let path = self.path(name);
        replace_secret(&path, bytes).map_err(io_error("write", &path))
    }

    /// Removes a file if it is there. Not synced: what is removed here does no harm if it comes back.
    pub(crate) fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Says which file it was.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_owned();
    move |source| FileError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_one_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = Folder::open(folder.path()).unwrap();
        assert!(matches!(Folder::open(folder.path()), Err(FileError::Locked(_))));
        drop(first);
        Folder::open(folder.path()).unwrap();
    }

    #[test]
    fn a_file_is_for_its_owner_alone_and_can_be_replaced_and_removed() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Folder::open(temporary.path()).unwrap();
        assert_eq!(folder.read("file").unwrap(), None);
        folder.place("file", b"old").unwrap();
        folder.place("file", b"new").unwrap();
        assert_eq!(folder.read("file").unwrap().unwrap(), b"new");
        assert_eq!(fs::metadata(folder.path("file")).unwrap().permissions().mode() & 0o777, 0o600);
        folder.remove("file").unwrap();
        folder.remove("file").unwrap();
        assert_eq!(folder.read("file").unwrap(), None);
    }
}
