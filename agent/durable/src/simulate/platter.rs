//! What the system believes, and what is on the platter.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::random::Random;

/// A disk writes this many bytes at once.
const SECTOR: usize = 512;

/// Something with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Folder(usize),
    File(usize),
}

/// The names in a folder.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    memory: BTreeMap<OsString, Node>,
    platter: BTreeMap<OsString, Node>,
    unsynced: Vec<(OsString, Option<Node>)>,
}

impl Names {
    pub(super) fn get(&self, name: &OsStr) -> Option<Node> {
        self.memory.get(name).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&OsString, Node)> {
        self.memory.iter().map(|(name, node)| (name, *node))
    }

    pub(super) fn set(&mut self, name: &OsStr, node: Option<Node>) {
        change(&mut self.memory, name, node);
        self.unsynced.push((name.to_owned(), node));
    }

    pub(super) fn sync(&mut self) {
        self.platter.clone_from(&self.memory);
        self.unsynced.clear();
    }

    /// Of the changes to each name, the first so many happened.
    pub(super) fn cut_power(&mut self, random: &mut Random) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let changed: BTreeSet<&OsString> = unsynced.iter().map(|(name, _)| name).collect();
        for name in changed {
            let changes: Vec<Option<Node>> =
                unsynced.iter().filter(|(other, _)| other == name).map(|(_, node)| *node).collect();
            if let Some(last) = random.up_to(changes.len()).checked_sub(1) {
                change(&mut self.platter, name, changes[last]);
            }
        }
        self.memory.clone_from(&self.platter);
    }
}

fn change(names: &mut BTreeMap<OsString, Node>, name: &OsStr, node: Option<Node>) {
    match node {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

/// A change of a file's content.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Append(Vec<u8>),
    Cut(u64),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Append(bytes) => to.extend_from_slice(bytes),
            Self::Cut(length) => to.resize(*length as usize, 0),
        }
    }
}

/// A file's content.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    memory: Arc<Vec<u8>>,
    platter: Arc<Vec<u8>>,
    unsynced: Vec<Write>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.memory
    }

    pub(super) fn length(&self) -> u64 {
        self.memory.len() as u64
    }

    pub(super) fn write(&mut self, write: Write) {
        write.apply(Arc::make_mut(&mut self.memory));
        self.unsynced.push(write);
    }

    pub(super) fn sync(&mut self) {
        // Not simply what the memory has: after a failed sync that is more than the platter gets.
        let platter = Arc::make_mut(&mut self.platter);
        self.unsynced.drain(..).for_each(|write| write.apply(platter));
    }

    /// A part reached the platter, and the system takes the rest for written too.
    pub(super) fn fail_to_sync(&mut self, random: &mut Random) {
        let mut platter = self.survives(random);
        // What is appended later goes where the system believes that the end is.
        platter.resize(self.memory.len(), 0);
        self.platter = Arc::new(platter);
        self.unsynced.clear();
    }

    pub(super) fn cut_power(&mut self, random: &mut Random) {
        self.platter = Arc::new(self.survives(random));
        self.memory = self.platter.clone();
        self.unsynced.clear();
    }

    fn survives(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = self.platter.to_vec();
        if self.unsynced.is_empty() {
            return bytes;
        }
        match random.up_to(3) {
            // Nothing.
            0 => bytes,
            // Everything.
            1 => {
                self.unsynced.iter().for_each(|write| write.apply(&mut bytes));
                bytes
            }
            // A beginning.
            2 => {
                let whole = random.up_to(self.unsynced.len() - 1);
                self.unsynced[..whole].iter().for_each(|write| write.apply(&mut bytes));
                if let Write::Append(torn) = &self.unsynced[whole] {
                    bytes.extend_from_slice(&torn[..random.up_to(torn.len())]);
                }
                bytes
            }
            // Any of its sectors.
            _ => {
                let mut wanted = bytes.clone();
                self.unsynced.iter().for_each(|write| write.apply(&mut wanted));
                bytes.resize(wanted.len(), 0);
                for (old, new) in bytes.chunks_mut(SECTOR).zip(wanted.chunks(SECTOR)) {
                    if random.up_to(1) == 1 {
                        old.copy_from_slice(new);
                    }
                }
                bytes
            }
        }
    }
}
