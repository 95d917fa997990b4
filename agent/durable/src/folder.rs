//! Everything that must survive a power cut is written here, and nowhere else.
//!
//! A file appears whole or not at all: it is written under another name, synced, and renamed
//! ([`Durable::place`]); the rename is durable once the folder is synced ([`Durable::settle`]). The journal is appended
//! to and synced ([`Durable::append`], [`Durable::sync`]). What must be durable before what, the store decides by the
//! order in which it calls these.
//!
//! Every single step first asks [`Stop`] whether it may still be done. So a store whose owner is gone ends between two
//! steps, as if it had been killed there, and tests kill it before each.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lock::lock_alone;

/// Why something could not be written durably. After any of these the folder must be opened anew.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else works on the folder.
    #[error("another process uses {0}: stop it, or give this one a folder of its own")]
    Locked(PathBuf),
    /// The owner is gone.
    #[error("stopped before it could {action} {path}")]
    Stopped {
        /// What was to be done.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
    },
}

/// How many more steps may be done. Shared: one side works, the other says stop.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicU64>);

impl Stop {
    /// Without end.
    pub fn never() -> Self {
        Self::after(u64::MAX)
    }

    /// Before step `steps` + 1.
    pub fn after(steps: u64) -> Self {
        Self(Arc::new(AtomicU64::new(steps)))
    }

    /// Before the next step.
    pub fn now(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    fn step(&self, action: &'static str, path: &Path) -> Result<(), DurableError> {
        let count = |left: u64| if left == u64::MAX { Some(left) } else { left.checked_sub(1) };
        match self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) {
            Ok(_) => Ok(()),
            Err(_) => Err(DurableError::Stopped { action, path: path.to_owned() }),
        }
    }
}

/// A folder whose content survives power cuts. Holds the folder's lock.
pub struct Durable {
    root: PathBuf,
    stop: Stop,
    unsettled: BTreeSet<PathBuf>,
    /// Released when closed, also by a kill.
    _lock: File,
}

/// A file that grows at its end.
pub struct Appendable {
    path: PathBuf,
    file: File,
}

const UNFINISHED: &str = "unfinished";

impl Durable {
    /// Takes the folder, making it if it is not there, and clears away files that were never finished.
    pub fn open(root: &Path, stop: Stop) -> Result<Self, DurableError> {
        stop.step("open", root)?;
        let unfinished = root.join(UNFINISHED);
        fs::create_dir_all(root).map_err(io_error("make", root))?;
        let path = root.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(io_error("open", &path))?;
        if !lock_alone(&lock).map_err(io_error("lock", &path))? {
            return Err(DurableError::Locked(root.to_owned()));
        }
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io_error("clear", &unfinished)(error)),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir(&unfinished).map_err(io_error("make", &unfinished))?;
        Ok(Self { root: root.to_owned(), stop, unsettled: BTreeSet::new(), _lock: lock })
    }

    /// The full path of something in the folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Reads a whole file; `None` if it is not there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, DurableError> {
        let path = self.path(path);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Whether something is there.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Puts a file where it belongs, whole, replacing what is there. Durable after [`Self::settle`].
    pub fn place(&mut self, path: &str, bytes: &[u8]) -> Result<(), DurableError> {
        self.place_with_mode(path, bytes, 0o666)
    }

    /// [`Self::place`] for what nobody else may read.
    pub fn place_secret(&mut self, path: &str, bytes: &[u8]) -> Result<(), DurableError> {
        self.place_with_mode(path, bytes, 0o600)
    }

    fn place_with_mode(&mut self, path: &str, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
        let target = self.path(path);
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        self.make_folder(&folder)?;
        let written = self.root.join(UNFINISHED).join("file");
        self.stop.step("write", &target)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(mode)
            .open(&written)
            .map_err(io_error("open", &written))?;
        file.write_all(bytes).map_err(io_error("write", &target))?;
        self.stop.step("sync", &target)?;
        file.sync_all().map_err(io_error("sync", &target))?;
        self.stop.step("rename", &target)?;
        fs::rename(&written, &target).map_err(io_error("rename", &target))?;
        self.unsettled.insert(folder);
        Ok(())
    }

    /// Makes a folder and those above it. Each new one is a change of the one above.
    fn make_folder(&mut self, folder: &Path) -> Result<(), DurableError> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(above) = folder.parent() {
            self.make_folder(above)?;
            self.unsettled.insert(above.to_owned());
        }
        self.stop.step("make", folder)?;
        fs::create_dir(folder).map_err(io_error("make", folder))
    }

    /// Makes all that was placed since the last time durable.
    pub fn settle(&mut self) -> Result<(), DurableError> {
        while let Some(folder) = self.unsettled.pop_last() {
            self.stop.step("sync", &folder)?;
            File::open(&folder).and_then(|opened| opened.sync_all()).map_err(io_error("sync", &folder))?;
        }
        Ok(())
    }

    /// Removes a file. Not made durable: what is removed here does no harm if it comes back.
    pub fn remove(&mut self, path: &str) -> Result<(), DurableError> {
        let path = self.path(path);
        self.stop.step("remove", &path)?;
        fs::remove_file(&path).map_err(io_error("remove", &path))
    }

    /// The names in a folder; none if it is not there.
    pub fn names_in(&self, path: &str) -> Result<Vec<String>, DurableError> {
        let path = self.path(path);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &path)(error)),
        };
        entries
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<Result<_, _>>()
            .map_err(io_error("list", &path))
    }

    /// Removes a folder if nothing is in it.
    pub fn remove_if_empty(&mut self, path: &str) -> Result<(), DurableError> {
        let path = self.path(path);
        self.stop.step("remove", &path)?;
        match fs::remove_dir(&path) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
                Err(io_error("remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Opens a file for appending after its first `length` bytes; what stands behind them is cut off, durably.
    pub fn open_appendable(&mut self, path: &str, length: u64) -> Result<Appendable, DurableError> {
        let path = self.path(path);
        self.stop.step("open", &path)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(io_error("open", &path))?;
        if file.metadata().map_err(io_error("read", &path))?.len() != length {
            file.set_len(length).map_err(io_error("cut", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
        }
        Ok(Appendable { path, file })
    }

    /// Appends to a file. Durable after [`Self::sync`].
    pub fn append(&self, to: &mut Appendable, bytes: &[u8]) -> Result<(), DurableError> {
        self.stop.step("append to", &to.path)?;
        to.file.write_all(bytes).map_err(io_error("append to", &to.path))
    }

    /// Makes what was appended durable.
    pub fn sync(&self, file: &Appendable) -> Result<(), DurableError> {
        self.stop.step("sync", &file.path)?;
        file.file.sync_data().map_err(io_error("sync", &file.path))
    }

    /// Reads a file from its start.
    pub fn reader(&self, path: &str) -> Result<impl Read + use<>, DurableError> {
        let path = self.path(path);
        File::open(&path).map_err(io_error("open", &path))
    }
}

/// Says which file it was.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableError + use<> {
    let path = path.to_owned();
    move |source| DurableError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_one_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Durable::open(folder.path(), Stop::never()).unwrap();
        assert!(matches!(Durable::open(folder.path(), Stop::never()), Err(DurableError::Locked(_))));
        drop(first);
        Durable::open(folder.path(), Stop::never()).unwrap();
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(folder.path(), Stop::never()).unwrap();
        durable.place("a/b/file", b"old").unwrap();
        durable.settle().unwrap();
        drop(durable);
        for steps in 0.. {
            let stop = Stop::after(steps);
            let result = Durable::open(folder.path(), stop).and_then(|mut durable| durable.place("a/b/file", b"new"));
            let content = fs::read(folder.path().join("a/b/file")).unwrap();
            match result {
                Ok(()) => return assert_eq!(content, b"new"),
                Err(DurableError::Stopped { .. }) => assert_eq!(content, b"old"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn a_secret_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut durable = Durable::open(folder.path(), Stop::never()).unwrap();
        durable.place_secret("key", b"secret").unwrap();
        let mode = fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
