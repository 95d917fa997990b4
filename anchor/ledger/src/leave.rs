//! Leaving a trail: what its folder has of it, and keeping that aside when another trail is to be made there.

use std::path::Path;

use iota_sdk::types::{Address, ObjectId};
use zeroize::Zeroizing;

use crate::error::LedgerError;
use crate::file::Folder;
use crate::key::{self, LedgerKey};
use crate::state::{PENDING, Progress, STATE, State};

/// What a folder has of a trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InFolder {
    /// The address of the key, if there is one that reads.
    pub address: Option<Address>,
    /// The trail that was made, or is being made.
    pub begun: Option<Begun>,
}

/// A trail that was made, or is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its immutable name.
    pub name: String,
    /// Its immutable description.
    pub description: String,
    /// Its id, once it is on the ledger.
    pub trail: Option<ObjectId>,
}

impl InFolder {
    /// Looks what the folder has of a trail.
    pub fn look(folder: &Path) -> Result<Self, LedgerError> {
        let folder = Folder::open(folder)?;
        let address = match LedgerKey::load(&folder) {
            Ok(key) => key.map(|key| key.address()),
            Err(LedgerError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let begun = State::load(&folder)?.map(|State { name, description, progress, .. }| {
            let trail = match progress {
                Progress::Key => None,
                Progress::Created(created) => Some(created.trail.id),
                Progress::Sealed(sealed) => Some(sealed.trail.id),
            };
            Begun { name, description, trail }
        });
        Ok(Self { address, begun })
    }
}

/// Keeps key, pending transaction and state of a trail under names that end with its id, so that [`crate::init`] makes
/// another trail with another key. Interrupted anywhere, it is called again. Returns the names.
pub fn set_aside(folder: &Path, trail: ObjectId) -> Result<Vec<String>, LedgerError> {
    let folder = Folder::open(folder)?;
    let mut kept = Vec::new();
    // The key first, and the state, which says whose key that is, last: so no key is taken for a new one.
    for name in [key::FILE, PENDING, STATE] {
        let aside = format!("{name}.{trail}");
        let there = folder.read(&aside)?.map(Zeroizing::new);
        if let Some(bytes) = folder.read(name)?.map(Zeroizing::new) {
            if there.is_some_and(|there| there != bytes) {
                let reason = format!("it is not the {name} that is there now, and would be lost");
                return Err(LedgerError::Damaged { path: folder.path(&aside), reason });
            }
            folder.place(&aside, &bytes)?;
            folder.remove(name)?;
        } else if there.is_none() {
            continue;
        }
        kept.push(aside);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_set_aside_is_kept_and_what_was_interrupted_is_finished() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let trail = ObjectId::CLOCK;
        let write = |name: &str, text: &str| fs::write(path.join(name), text).unwrap();
        write("ledger.json", "state");
        // Killed when the key was kept, and before it was removed.
        write("ledger.key", "key");
        write(&format!("ledger.key.{trail}"), "key");
        let kept = set_aside(path, trail).unwrap();
        assert_eq!(kept, [format!("ledger.key.{trail}"), format!("ledger.json.{trail}")]);
        assert!(!path.join("ledger.key").exists() && !path.join("ledger.json").exists());
        assert_eq!(fs::read_to_string(path.join(&kept[0])).unwrap(), "key");
        assert_eq!(set_aside(path, trail).unwrap(), kept);
        write("ledger.key", "another");
        assert!(matches!(set_aside(path, trail), Err(LedgerError::Damaged { .. })));
        assert_eq!(fs::read_to_string(path.join(&kept[0])).unwrap(), "key");
    }
}
