//! A disk in memory, for tests: its power is cut, and each of its steps can fail.
//!
//! It keeps what the system believes apart from what is on the platter. What is written reaches the platter for certain
//! when its file is synced, and which names a folder has when the folder is synced. [`SimulatedDisk::after_power_cut`]
//! decides by a seed what of the rest did:
//!
//! - of a file's unsynced content all, nothing, a beginning that is torn at any byte, or any of its sectors, with zeros
//!   where a longer file lacks one
//! - of the changes to each name in a folder all, none, or the first; a rename is two changes, one in either folder,
//!   and the one may be there without the other
//!
//! That is more than ext4 or XFS would take, and no more than POSIX allows.
//!
//! [`SimulatedDisk::keep_moments`] keeps the disk as it is after each step, so that one run of a program shows every
//! point at which its power could be cut. [`SimulatedDisk::fail`] lets one step fail; after a failed sync the system
//! believes that all is well, as Linux does, although nobody knows what is on the platter.

mod platter;
mod random;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::{self, Cursor, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::disk::{Disk, Held, OpenFile};
use platter::{Content, Names, Node, Write};
use random::Random;

/// How a step fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The disk is broken: `EIO`.
    Broken,
    /// There is no more room: `ENOSPC`.
    Full,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Self::Broken => Errno::IO.into(),
            Self::Full => Errno::NOSPC.into(),
        }
    }
}

/// The disk after one of its steps.
#[derive(Clone, Debug)]
pub struct Moment {
    /// How many steps had been asked for.
    pub operation: u64,
    /// The disk, to go on with.
    pub disk: SimulatedDisk,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct SimulatedDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    tree: Tree,
    operations: u64,
    fault: Option<(u64, Fault)>,
    capacity: Option<u64>,
    occupied: u64,
    locks: BTreeSet<PathBuf>,
    moments: Option<Vec<(u64, Tree)>>,
}

/// All there is: the first folder is `/`.
#[derive(Clone)]
struct Tree {
    folders: Vec<Names>,
    files: Vec<Content>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { folders: vec![Names::default()], files: Vec::new() }
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a simulated disk after {} steps", self.operations())
    }
}

impl SimulatedDisk {
    /// An empty disk without bounds.
    pub fn new() -> Self {
        Self::default()
    }

    fn of(tree: Tree) -> Self {
        Self(Arc::new(Mutex::new(State { tree, ..State::default() })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many steps were asked for so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// From now on, keeps the disk as it is after each step that changes something.
    pub fn keep_moments(&self) {
        let mut state = self.state();
        let now = (state.operations, state.tree.clone());
        state.moments = Some(vec![now]);
    }

    /// The disk as it was when [`Self::keep_moments`] was called and after each change since.
    pub fn moments(&self) -> Vec<Moment> {
        let kept = self.state().moments.clone().unwrap_or_default();
        kept.into_iter().map(|(operation, tree)| Moment { operation, disk: Self::of(tree) }).collect()
    }

    /// Lets step `operation`, counted from 1, fail.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.state().fault = Some((operation, fault));
    }

    /// From now on, the disk holds so many bytes of file content. `None`: any number.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// So many of its bytes are somebody else's.
    pub fn occupy(&self, bytes: u64) {
        self.state().occupied = bytes;
    }

    /// What is there when the power is back. The seed decides what was not certain.
    pub fn after_power_cut(&self, seed: u64) -> Self {
        let mut tree = self.state().tree.clone();
        let mut random = Random::new(seed);
        tree.folders.iter_mut().for_each(|names| names.cut_power(&mut random));
        tree.files.iter_mut().for_each(|content| content.cut_power(&mut random));
        Self::of(tree)
    }

    /// What the system shows now, as another disk, untouched by what becomes of this one: as after a kill.
    pub fn after_kill(&self) -> Self {
        Self::of(self.state().tree.clone())
    }

    /// Writes what the system shows in a folder into a real one.
    pub fn export(&self, from: &Path, to: &Path) -> io::Result<()> {
        let tree = self.state().tree.clone();
        let Node::Folder(folder) = tree.find(from)? else { return Err(ErrorKind::NotADirectory.into()) };
        tree.export(folder, to)
    }

    /// One step: counts it, lets it fail if it is to fail, and keeps the moment after it.
    fn step<T>(
        &self,
        attempt: impl FnOnce(&mut State) -> io::Result<T>,
        failed: impl FnOnce(&mut State, Fault),
    ) -> io::Result<T> {
        let mut state = self.state();
        state.operations += 1;
        let now = state.operations;
        let result = match state.fault.filter(|(at, _)| *at == now) {
            Some((_, fault)) => {
                failed(&mut state, fault);
                Err(fault.error())
            }
            None => attempt(&mut state),
        };
        let State { tree, moments, .. } = &mut *state;
        if let Some(moments) = moments {
            moments.push((now, tree.clone()));
        }
        result
    }

    fn look<T>(&self, attempt: impl FnOnce(&State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state();
        state.operations += 1;
        match state.fault.filter(|(at, _)| *at == state.operations) {
            Some((_, fault)) => Err(fault.error()),
            None => attempt(&state),
        }
    }

    fn change<T>(&self, attempt: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.step(attempt, |_, _| {})
    }
}

impl State {
    fn free(&self) -> u64 {
        let reachable = self.tree.used();
        self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.occupied).saturating_sub(reachable))
    }

    fn need_room(&self) -> io::Result<()> {
        if self.free() == 0 { Err(Fault::Full.error()) } else { Ok(()) }
    }

    fn append(&mut self, file: usize, bytes: &[u8]) {
        self.tree.files[file].write(Write::Append(bytes.to_vec()));
    }
}

impl Tree {
    fn find(&self, path: &Path) -> io::Result<Node> {
        path.iter().filter(|name| *name != "/").try_fold(Node::Folder(0), |node, name| match node {
            Node::Folder(folder) => self.folders[folder].get(name).ok_or(ErrorKind::NotFound.into()),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        })
    }

    fn folder(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::Folder(folder) => Ok(folder),
            Node::File(_) => Err(ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.find(path)? {
            Node::File(file) => Ok(file),
            Node::Folder(_) => Err(ErrorKind::IsADirectory.into()),
        }
    }

    /// The folder that a path is in, and its name there.
    fn place<'a>(&self, path: &'a Path) -> io::Result<(usize, &'a OsStr)> {
        let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("/")))?, name))
    }

    /// How many bytes all files have that have a name.
    fn used(&self) -> u64 {
        let named = self.folders.iter().flat_map(Names::iter).map(|(_, node)| node);
        named.map(|node| if let Node::File(file) = node { self.files[file].length() } else { 0 }).sum()
    }

    fn export(&self, folder: usize, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for (name, node) in self.folders[folder].iter() {
            match node {
                Node::Folder(folder) => self.export(folder, &to.join(name))?,
                Node::File(file) => fs::write(to.join(name), self.files[file].bytes())?,
            }
        }
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let (above, name) = state.tree.place(path)?;
            if state.tree.folders[above].get(name).is_some() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            state.need_room()?;
            state.tree.folders.push(Names::default());
            let made = Node::Folder(state.tree.folders.len() - 1);
            state.tree.folders[above].set(name, Some(made));
            Ok(())
        })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look(|state| Ok(state.tree.find(path).is_ok()))
    }

    fn names_in(&self, path: &Path) -> io::Result<Vec<String>> {
        self.look(|state| {
            let names = &state.tree.folders[state.tree.folder(path)?];
            Ok(names.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect())
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.look(|state| Ok(state.tree.files[state.tree.file(path)?].bytes().to_vec()))
    }

    fn reader(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(Cursor::new(self.read(path)?)))
    }

    fn create(&self, path: &Path, _mode: u32) -> io::Result<Box<dyn OpenFile>> {
        self.change(|state| {
            let (folder, name) = state.tree.place(path)?;
            if state.tree.folders[folder].get(name).is_some() {
                return Err(ErrorKind::AlreadyExists.into());
            }
            state.need_room()?;
            state.tree.files.push(Content::default());
            let file = state.tree.files.len() - 1;
            state.tree.folders[folder].set(name, Some(Node::File(file)));
            Ok(Box::new(SimulatedFile { disk: self.clone(), file }) as Box<dyn OpenFile>)
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        self.look(|state| {
            let file = state.tree.file(path)?;
            Ok(Box::new(SimulatedFile { disk: self.clone(), file }) as Box<dyn OpenFile>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change(|state| {
            let file = Node::File(state.tree.file(from)?);
            let ((source, old), (target, new)) = (state.tree.place(from)?, state.tree.place(to)?);
            if matches!(state.tree.folders[target].get(new), Some(Node::Folder(_))) {
                return Err(ErrorKind::IsADirectory.into());
            }
            state.tree.folders[target].set(new, Some(file));
            state.tree.folders[source].set(old, None);
            Ok(())
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            state.tree.file(path)?;
            let (folder, name) = state.tree.place(path)?;
            state.tree.folders[folder].set(name, None);
            Ok(())
        })
    }

    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let removed = state.tree.folder(path)?;
            if state.tree.folders[removed].iter().next().is_some() {
                return Err(ErrorKind::DirectoryNotEmpty.into());
            }
            let (above, name) = state.tree.place(path)?;
            state.tree.folders[above].set(name, None);
            Ok(())
        })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.change(|state| {
            let folder = state.tree.folder(path)?;
            state.tree.folders[folder].sync();
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>> {
        if self.look(|state| Ok(state.tree.file(path).is_err()))? {
            self.create(path, 0o600)?;
        }
        let is_new = self.state().locks.insert(path.to_owned());
        Ok(is_new.then(|| Box::new(SimulatedLock { disk: self.clone(), path: path.to_owned() }) as Box<dyn Held>))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        self.look(|state| Ok(state.free()))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    file: usize,
}

impl OpenFile for SimulatedFile {
    fn length(&self) -> io::Result<u64> {
        self.disk.look(|state| Ok(state.tree.files[self.file].length()))
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let attempt = |state: &mut State| {
            let fits = usize::try_from(state.free()).unwrap_or(usize::MAX).min(bytes.len());
            state.append(self.file, &bytes[..fits]);
            if fits < bytes.len() { Err(Fault::Full.error()) } else { Ok(()) }
        };
        self.disk.step(attempt, |state, _| state.append(self.file, &bytes[..bytes.len() / 2]))
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.disk.change(|state| {
            state.tree.files[self.file].write(Write::Cut(length));
            Ok(())
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        let attempt = |state: &mut State| {
            state.tree.files[self.file].sync();
            Ok(())
        };
        let failed = |state: &mut State, _| {
            let mut random = Random::new(state.operations);
            state.tree.files[self.file].fail_to_sync(&mut random);
        };
        self.disk.step(attempt, failed)
    }
}

#[derive(Debug)]
struct SimulatedLock {
    disk: SimulatedDisk,
    path: PathBuf,
}

impl Held for SimulatedLock {}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
