//! What a disk is asked to do, step by step, and the disk that the system has.

use std::fmt::Debug;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::statvfs;

use crate::lock::lock_alone;

/// The steps of which everything durable is made. Each can fail, and each can be the last thing that happens.
///
/// What was written is only in the system's memory until [`OpenFile::sync`], and which names a folder has until
/// [`Self::sync_folder`]. A power cut takes any part of the rest.
pub trait Disk: Debug + Send + Sync {
    /// Makes a folder in one that is there.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Whether something is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// The names in a folder.
    fn names_in(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Reads a file from its start.
    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;
    /// Makes a file that is not there yet. `mode` is what the process's umask is taken from.
    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn OpenFile>>;
    /// Opens a file that is there, for appending.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Gives a file another name, which may be another file's until then.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty folder.
    fn remove_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock that a file stands for, making it if it is not there. `None`: another has it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>>;
    /// How many bytes may still be written where `path` is.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// A file that is open for appending.
pub trait OpenFile: Debug + Send {
    /// How long it is.
    fn length(&self) -> io::Result<u64>;
    /// Appends to it. After a failure a part may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts off what stands behind its first `length` bytes.
    fn cut(&mut self, length: u64) -> io::Result<()>;
    /// Makes content and length durable. After a failure nobody can say what of it is, and asking again does not tell:
    /// the system may have dropped what it could not write.
    fn sync(&mut self) -> io::Result<()>;
}

/// A lock, as long as it lives.
pub trait Held: Debug + Send + Sync {}

/// The disk of this system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o777).create(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn names_in(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(path)?))
    }

    fn create(&self, path: &Path, mode: u32) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(OpenOptions::new().append(true).create_new(true).mode(mode).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(OpenOptions::new().append(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok(lock_alone(&file)?.then(|| Box::new(file) as Box<dyn Held>))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let found = statvfs(path)?;
        // What the superuser keeps for itself is not counted.
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl OpenFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Released when closed, also by a kill.
impl Held for File {}
