//! What is found out about a log, in words and for machines.

use std::fmt;

use grid_protocol::topic::{Name, Topic};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

use super::Messages;
use crate::show::date;
use crate::tile::{FULL, Level, Tile};

/// What was found out about a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything holds, and the policy vouches for it.
    pub holds: bool,
    /// The log's name.
    pub origin: String,
    /// How many entries are under the checkpoint.
    pub tree_size: u64,
    /// The first entry that is there: what is before it was dropped by retention.
    pub minimum_index: u64,
    /// The root hash in the checkpoint, base64.
    pub root_hash: String,
    /// The keys that the checkpoint says signed it.
    pub keys: Vec<String>,
    /// Whether a policy vouches for the key. Without one, signatures of checkpoint and messages are not looked at.
    pub vouched: bool,
    /// How many entries were looked at: all that are there, unless something does not hold.
    pub entries: u64,
    /// What the entries are.
    pub messages: Messages,
    /// What is there that the checkpoint does not vouch for.
    pub beside: Beside,
    /// The older checkpoint that was asked about.
    pub since: Option<Since>,
    /// The first thing that does not hold.
    pub failure: Option<Failure>,
}

/// Files in the log's folder that are none of the checkpoint's tree, and do it no harm. A server does not tell of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Beside {
    /// About entries that the checkpoint does not cover: nobody vouches for them yet.
    pub ahead: Files,
    /// About entries that were being dropped.
    pub left_over: Files,
    /// What a system puts into every folder, such as `.DS_Store`. They were not looked at.
    pub foreign: Files,
}

/// Some files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Files {
    /// How many.
    pub count: u64,
    /// The first of them, relative to the log.
    pub first: Option<String>,
}

impl Files {
    pub(super) fn add(&mut self, path: &str) {
        self.count += 1;
        self.first.get_or_insert_with(|| path.to_owned());
    }
}

/// An older checkpoint that the log does not contradict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Since {
    /// How many entries it covers.
    pub tree_size: u64,
    /// Whether the log continues it. If not, it cannot be told: it ends within what was dropped.
    pub continued: bool,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The file, relative to the log.
    pub file: String,
    /// The first and the last entry that the file is about, if it is a tile or a bundle.
    pub entries: Option<(u64, u64)>,
    /// The entry, if it is about one.
    pub entry: Option<FailedEntry>,
    /// What is wrong.
    pub why: String,
}

/// Which entry it is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedEntry {
    /// Its index, from 0.
    pub index: u64,
    /// When it says it was received.
    pub received_ms: Option<UnixMillis>,
    /// The topic that it says it came on.
    pub topic: Option<String>,
    /// The device whose topic that is.
    pub device: Option<Name>,
}

impl FailedEntry {
    pub(crate) fn new(index: u64, received_ms: Option<UnixMillis>, topic: Option<&str>) -> Self {
        let device = topic.and_then(|topic| topic.parse::<Topic>().ok()).map(|topic| topic.device);
        Self { index, received_ms, topic: topic.map(str::to_owned), device }
    }
}

impl fmt::Display for FailedEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.index)?;
        if let Some(at) = self.received_ms {
            write!(f, ", received {}", date(at))?;
        }
        // What is not printable could move the cursor of whoever reads this.
        if let Some(topic) = &self.topic {
            write!(f, ", on {}", topic.escape_debug())?;
        }
        Ok(())
    }
}

impl Failure {
    pub(super) fn of(file: impl Into<String>, why: impl fmt::Display) -> Self {
        let file = file.into();
        let entries = Tile::from_path(&file).map(covered);
        Self { file, entries, entry: None, why: why.to_string() }
    }
}

/// The first and the last entry that a tile or bundle is about.
fn covered(tile: Tile) -> (u64, u64) {
    let each: u64 = match tile.level {
        Level::Entries => 1,
        Level::Hashes(level) => 1 << (8 * u32::from(level)),
    };
    let first = tile.index.saturating_mul(u64::from(FULL)).saturating_mul(each);
    (first, first.saturating_add(u64::from(tile.width).saturating_mul(each) - 1))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, entries, entry, why } = self;
        match (entry, entries) {
            (Some(entry), _) => write!(f, "entry {entry} (in {file}): {why}"),
            (None, Some((first, last))) => write!(f, "{file} (entries {first} to {last}): {why}"),
            (None, None) => write!(f, "{}: {why}", file.escape_debug()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_is_named_by_entry_time_and_device() {
        let mut failure = Failure::of("tile/entries/001.p/44", "it is missing");
        assert_eq!(failure.to_string(), "tile/entries/001.p/44 (entries 256 to 299): it is missing");
        assert_eq!(Failure::of("tile/1/000.p/2", "x").entries, Some((0, 511)));
        assert_eq!(Failure::of("checkpoint", "x").entries, None);
        let at = Some(UnixMillis(1_475_863_281_201));
        failure.entry = Some(FailedEntry::new(273, at, Some("grid/demo/cp-3/event")));
        let expected = "entry 273, received 2016-10-07T18:01:21.201Z, on grid/demo/cp-3/event (in tile/entries/001.p/44): \
                        it is missing";
        assert_eq!(failure.to_string(), expected);
        assert_eq!(failure.entry.unwrap().device, Some("cp-3".parse().unwrap()));
    }
}
