//! A folder whose content survives power cuts.
//!
//! A file appears whole or not at all: it is written under another name, synced, and renamed
//! ([`Durable::place`]); the rename is durable once the folder is synced ([`Durable::settle`]). A journal is appended
//! to and synced ([`Durable::append`], [`Durable::sync`]). What must be durable before what, the owner decides by the
//! order in which it calls these.
//!
//! Every single step first asks [`Stop`] whether it may still be done. So a store whose owner is gone ends between two
//! steps, as if it had been killed there.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, Held, OpenFile, SystemDisk};
use crate::stop::Stop;
use crate::whole::{Failed, PUBLIC, SECRET, put};

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
    /// The folder was to be looked at, but nobody has ever written there.
    #[error("nothing durable was ever written in {0}: is this the right folder?")]
    Nothing(PathBuf),
    /// The owner is gone.
    #[error("stopped before it could {action} {path}")]
    Stopped {
        /// What was to be done.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
    },
}

impl DurableError {
    /// Whether it is only that there is no more room: then it goes on when there is.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_full(source),
            Self::Locked(_) | Self::Nothing(_) | Self::Stopped { .. } => false,
        }
    }
}

/// Whether the system refused because there is no more room on the disk, or none for this user or file.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// A folder whose content survives power cuts. Holds the folder's lock.
#[derive(Debug)]
pub struct Durable {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    stop: Stop,
    /// Folders whose names are durable, or will be when all is settled.
    folders: BTreeSet<PathBuf>,
    unsettled: BTreeSet<PathBuf>,
    _lock: Box<dyn Held>,
}

/// A file that grows at its end.
#[derive(Debug)]
pub struct Appendable {
    path: PathBuf,
    file: Box<dyn OpenFile>,
}

const LOCK: &str = "lock";
const UNFINISHED: &str = "unfinished";

impl Durable {
    /// Takes the folder, making it if it is not there, and clears away files that were never finished.
    pub fn open(root: &Path, stop: Stop) -> Result<Self, DurableError> {
        Self::open_on(Arc::new(SystemDisk), root, stop)
    }

    /// [`Self::open`] on another disk than the system's.
    pub fn open_on(disk: Arc<dyn Disk>, root: &Path, stop: Stop) -> Result<Self, DurableError> {
        stop.step("open", root)?;
        make_root(&*disk, &stop, root)?;
        let lock = lock(&*disk, root)?;
        Self::new(disk, root, stop, lock).clear()
    }

    fn new(disk: Arc<dyn Disk>, root: &Path, stop: Stop, lock: Box<dyn Held>) -> Self {
        let folders = BTreeSet::from([root.to_owned()]);
        Self { disk, root: root.to_owned(), stop, folders, unsettled: BTreeSet::new(), _lock: lock }
    }

    fn clear(mut self) -> Result<Self, DurableError> {
        for name in self.unfinished()? {
            self.remove(&format!("{UNFINISHED}/{name}"))?;
        }
        // What a killed predecessor renamed is only in the system's memory until this.
        self.unsettled.insert(self.root.clone());
        self.settle()?;
        Ok(self)
    }

    /// Takes the folder to look at it: nothing in it can be changed.
    pub fn look(root: &Path) -> Result<Self, DurableError> {
        Self::look_on(Arc::new(SystemDisk), root)
    }

    /// [`Self::look`] on another disk than the system's.
    pub fn look_on(disk: Arc<dyn Disk>, root: &Path) -> Result<Self, DurableError> {
        let path = root.join(LOCK);
        if !disk.exists(&path).map_err(io_error("look for", &path))? {
            return Err(DurableError::Nothing(root.to_owned()));
        }
        let lock = lock(&*disk, root)?;
        Ok(Self::new(disk, root, Stop::after(0), lock))
    }

    /// Begins to work on a folder that was only looked at, without letting go of it.
    pub fn work(self, stop: Stop) -> Result<Self, DurableError> {
        Self { stop, ..self }.clear()
    }

    /// The full path of something in the folder.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// How many bytes may still be written.
    pub fn free_bytes(&self) -> Result<u64, DurableError> {
        self.disk.free_bytes(&self.root).map_err(io_error("see how much room is left for", &self.root))
    }

    /// The names of files that were being written when the last owner ended. [`Self::open`] clears them away.
    pub fn unfinished(&self) -> Result<Vec<String>, DurableError> {
        self.names_in(UNFINISHED)
    }

    /// Reads a whole file; `None` if it is not there.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, DurableError> {
        let path = self.path(path);
        match self.disk.read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Whether something is there.
    pub fn exists(&self, path: &str) -> Result<bool, DurableError> {
        let path = self.path(path);
        self.disk.exists(&path).map_err(io_error("look for", &path))
    }

    /// Puts a file where it belongs, whole, replacing what is there. Durable after [`Self::settle`].
    pub fn place(&mut self, path: &str, mut bytes: &[u8]) -> Result<(), DurableError> {
        self.place_with_mode(path, &mut bytes, PUBLIC)
    }

    /// [`Self::place`] for what is too much for memory: all that `content` gives.
    pub fn place_from(&mut self, path: &str, content: &mut dyn Read) -> Result<(), DurableError> {
        self.place_with_mode(path, content, PUBLIC)
    }

    /// [`Self::place`] for what nobody else may read.
    pub fn place_secret(&mut self, path: &str, mut bytes: &[u8]) -> Result<(), DurableError> {
        self.place_with_mode(path, &mut bytes, SECRET)
    }

    fn place_with_mode(&mut self, path: &str, content: &mut dyn Read, mode: u32) -> Result<(), DurableError> {
        let target = self.path(path);
        let folder = target.parent().unwrap_or(&self.root).to_owned();
        self.make_folder(&folder)?;
        let unfinished = self.path(UNFINISHED);
        self.make_folder(&unfinished)?;
        let written = unfinished.join("file");
        let step = |action| self.stop.step(action, &target).map_err(PlaceError::Stopped);
        put(&*self.disk, (&written, &target), (content, mode), step).map_err(|error| match error {
            PlaceError::Stopped(error) => error,
            PlaceError::Failed(Failed { action, source }) => DurableError::Io { action, path: target.clone(), source },
        })?;
        self.unsettled.insert(folder);
        Ok(())
    }

    /// Makes a folder and those above it. Each new one is a change of the one above; and so may one be that is there
    /// already, if who made it was killed.
    fn make_folder(&mut self, folder: &Path) -> Result<(), DurableError> {
        let Some(above) = folder.parent().filter(|_| !self.folders.contains(folder)) else { return Ok(()) };
        self.make_folder(above)?;
        if !self.disk.exists(folder).map_err(io_error("look for", folder))? {
            self.stop.step("make", folder)?;
            self.disk.make_folder(folder).map_err(io_error("make", folder))?;
        }
        self.unsettled.insert(above.to_owned());
        self.folders.insert(folder.to_owned());
        Ok(())
    }

    /// Makes all that was placed since the last time durable.
    pub fn settle(&mut self) -> Result<(), DurableError> {
        while let Some(folder) = self.unsettled.pop_last() {
            self.stop.step("sync", &folder)?;
            self.disk.sync_folder(&folder).map_err(io_error("sync", &folder))?;
        }
        Ok(())
    }

    /// Removes a file. Not made durable: what is removed here does no harm if it comes back.
    pub fn remove(&mut self, path: &str) -> Result<(), DurableError> {
        let path = self.path(path);
        self.stop.step("remove", &path)?;
        self.disk.remove_file(&path).map_err(io_error("remove", &path))
    }

    /// The names in a folder; none if it is not there.
    pub fn names_in(&self, path: &str) -> Result<Vec<String>, DurableError> {
        let path = self.path(path);
        match self.disk.names_in(&path) {
            Ok(names) => Ok(names),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_error("list", &path)(error)),
        }
    }

    /// Removes a folder if nothing is in it.
    pub fn remove_if_empty(&mut self, path: &str) -> Result<(), DurableError> {
        let path = self.path(path);
        self.stop.step("remove", &path)?;
        self.folders.remove(&path);
        match self.disk.remove_folder(&path) {
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
        let mut file = self.disk.open(&path).map_err(io_error("open", &path))?;
        if file.length().map_err(io_error("read", &path))? != length {
            file.cut(length).map_err(io_error("cut", &path))?;
            file.sync().map_err(io_error("sync", &path))?;
        }
        Ok(Appendable { path, file })
    }

    /// Appends to a file. Durable after [`Self::sync`].
    pub fn append(&self, to: &mut Appendable, bytes: &[u8]) -> Result<(), DurableError> {
        self.stop.step("append to", &to.path)?;
        to.file.append(bytes).map_err(io_error("append to", &to.path))
    }

    /// Makes what was appended durable.
    pub fn sync(&self, file: &mut Appendable) -> Result<(), DurableError> {
        self.stop.step("sync", &file.path)?;
        file.file.sync().map_err(io_error("sync", &file.path))
    }

    /// Reads a file from its start.
    pub fn reader(&self, path: &str) -> Result<impl Read + use<>, DurableError> {
        let path = self.path(path);
        self.disk.reader(&path).map_err(io_error("open", &path))
    }
}

/// Says which file it was.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DurableError + use<> {
    let path = path.to_owned();
    move |source| DurableError::Io { action, path, source }
}

enum PlaceError {
    Stopped(DurableError),
    Failed(Failed),
}

impl From<Failed> for PlaceError {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

fn lock(disk: &dyn Disk, root: &Path) -> Result<Box<dyn Held>, DurableError> {
    let path = root.join(LOCK);
    disk.lock(&path).map_err(io_error("lock", &path))?.ok_or_else(|| DurableError::Locked(root.to_owned()))
}

/// Makes the folder itself and those above it, durably.
fn make_root(disk: &dyn Disk, stop: &Stop, root: &Path) -> Result<(), DurableError> {
    let exists = |path: &Path| disk.exists(path).map_err(io_error("look for", path));
    let named = |path| if path == Path::new("") { Path::new(".") } else { path };
    let mut above: Vec<&Path> = root.ancestors().skip(1).map(named).collect();
    above.reverse();
    for folder in above.iter().copied().chain([root]) {
        if !exists(folder)? {
            stop.step("make", folder)?;
            disk.make_folder(folder).map_err(io_error("make", folder))?;
        }
    }
    // Whoever made them may have been killed before they were durable, but not if there is a lock already.
    if exists(&root.join(LOCK))? {
        return Ok(());
    }
    for folder in above {
        stop.step("sync", folder)?;
        match disk.sync_folder(folder) {
            // Then it was not made by us.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            synced => synced.map_err(io_error("sync", folder))?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::SimulatedDisk;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_second_one_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Durable::open(folder.path(), Stop::never()).unwrap();
        assert!(matches!(Durable::open(folder.path(), Stop::never()), Err(DurableError::Locked(_))));
        assert!(matches!(Durable::look(folder.path()), Err(DurableError::Locked(_))));
        drop(first);
        Durable::open(folder.path(), Stop::never()).unwrap();
    }

    #[test]
    fn who_only_looks_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Durable::look(&folder.path().join("none")), Err(DurableError::Nothing(_))));
        drop(Durable::open(folder.path(), Stop::never()).unwrap());
        fs::create_dir_all(folder.path().join("unfinished")).unwrap();
        fs::write(folder.path().join("unfinished/file"), "half").unwrap();
        let mut durable = Durable::look(folder.path()).unwrap();
        assert_eq!(durable.unfinished().unwrap(), ["file"]);
        assert!(matches!(durable.place("file", b""), Err(DurableError::Stopped { .. })));
        assert!(matches!(durable.remove("unfinished/file"), Err(DurableError::Stopped { .. })));
        assert!(folder.path().join("unfinished/file").exists());
        durable.work(Stop::never()).unwrap().place("file", b"").unwrap();
        assert!(folder.path().join("file").exists() && !folder.path().join("unfinished/file").exists());
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

    #[test]
    fn what_was_settled_or_synced_survives_every_power_cut() {
        let disk = SimulatedDisk::new();
        disk.keep_moments();
        let root = Path::new("/var/lib/grid");
        let open = |disk: &SimulatedDisk| Durable::open_on(Arc::new(disk.clone()), root, Stop::never()).unwrap();
        let mut durable = open(&disk);
        let mut promised = vec![(0, "", 0)];
        durable.place("log/1/a", b"one").unwrap();
        durable.settle().unwrap();
        promised.push((disk.operations(), "log/1/a", 3));
        durable.place("journal", b"").unwrap();
        durable.settle().unwrap();
        let mut journal = durable.open_appendable("journal", 0).unwrap();
        for length in [600, 1200] {
            durable.append(&mut journal, &[7; 600]).unwrap();
            durable.sync(&mut journal).unwrap();
            promised.push((disk.operations(), "journal", length));
        }
        for moment in disk.moments() {
            for seed in 0..30 {
                let durable = open(&moment.disk.after_power_cut(seed));
                for (_, path, length) in promised[1..].iter().filter(|(at, _, _)| *at <= moment.operation) {
                    let content = durable.read(path).unwrap().unwrap();
                    assert!(content.len() >= *length, "{path} has {} of {length} bytes", content.len());
                    assert!(content[..*length] == b"one"[..] || content[..*length].iter().all(|byte| *byte == 7));
                }
            }
        }
    }

    #[test]
    fn a_predecessors_rename_is_durable_once_the_folder_is_open() {
        let disk = SimulatedDisk::new();
        let open =
            |disk: &SimulatedDisk| Durable::open_on(Arc::new(disk.clone()), Path::new("/d"), Stop::never()).unwrap();
        let mut killed = open(&disk);
        killed.place("file", b"new").unwrap();
        drop(killed);
        drop(open(&disk));
        for seed in 0..20 {
            assert_eq!(open(&disk.after_power_cut(seed)).read("file").unwrap().unwrap(), b"new");
        }
    }

    #[test]
    fn folders_that_a_killed_predecessor_made_are_durable_with_what_is_settled_in_them() {
        let open = |disk: &SimulatedDisk| Durable::open_on(Arc::new(disk.clone()), Path::new("/a/b"), Stop::never());
        let disk = SimulatedDisk::new();
        disk.keep_moments();
        open(&disk).unwrap().place("c/d/file", b"old").unwrap();
        for moment in disk.moments() {
            let disk = moment.disk.after_kill();
            let mut durable = open(&disk).unwrap();
            durable.place("c/d/file", b"new").unwrap();
            durable.settle().unwrap();
            for seed in 0..10 {
                let durable = open(&disk.after_power_cut(seed)).unwrap();
                assert_eq!(durable.read("c/d/file").unwrap().unwrap(), b"new");
            }
        }
    }
}
