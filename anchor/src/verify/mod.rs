//! Does a log hold? Everything is computed again from the entries, and every byte of every file must be what follows.
//!
//! The log is read bundle by bundle, so memory does not grow with it. For each entry its leaf hash must stand in the
//! level-0 tile, each full tile's hash in the tile above, and the root in the checkpoint that the policy's key signed
//! (`tree`); files that do not belong are named (`files`). Then each message is judged by the certificates that
//! stand before it (`messages`).
//!
//! What the ledger says of it is a question of its own (`ledger`).
//!
//! A log that is being written may have files that its checkpoint does not cover yet, and partial tiles of older
//! checkpoints after a kill. They must fit too.

mod files;
mod ledger;
mod messages;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io, thread};

use grid_protocol::message::Session;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use serde::Serialize;
use tlog_tiles::Hash;

use crate::checkpoint::{BadCheckpoint, Head, read_unsigned};
use crate::policy::Policy;

pub use ledger::{LedgerFailure, LedgerReport, NewestRecord, verify_ledger};
pub use messages::{Gap, Messages};

/// How often a log that changes meanwhile is looked at again.
const TRIES: u32 = 3;
/// How long an anchor is given to finish what it is writing.
const PAUSE: Duration = Duration::from_millis(100);

/// Why it could not be told whether a log holds.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no log.
    #[error("there is no log in {0}: expected a folder with a file named checkpoint, such as <data_dir>/log")]
    NoLog(PathBuf),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What was found out about a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether everything holds, and the policy vouches for it.
    pub holds: bool,
    /// The log's name.
    pub origin: String,
    /// How many entries are under the checkpoint.
    pub tree_size: u64,
    /// The root hash in the checkpoint, base64.
    pub root_hash: String,
    /// The keys that the checkpoint says signed it.
    pub keys: Vec<String>,
    /// Whether a policy vouches for the key. Without one, signatures of checkpoint and messages are not looked at.
    pub vouched: bool,
    /// How many entries were looked at: all of them, unless something does not hold.
    pub entries: u64,
    /// What the entries are.
    pub messages: Messages,
    /// How many entries stand in files that the checkpoint does not cover yet.
    pub ahead: u64,
    /// The first thing that does not hold.
    pub failure: Option<Failure>,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The file, relative to the log's folder.
    pub file: String,
    /// The entry, if it is about one.
    pub entry: Option<FailedEntry>,
    /// What is wrong.
    pub why: String,
}

/// Which entry does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedEntry {
    /// Its index, from 0.
    pub index: u64,
    /// When it says it was received.
    pub received_ms: Option<UnixMillis>,
    /// The topic that it says it came on.
    pub topic: Option<String>,
}

impl Failure {
    fn of(file: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { file: file.into(), entry: None, why: why.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(FailedEntry { index, received_ms, topic }) => {
                write!(f, "entry {index} (in {}", self.file)?;
                if let Some(at) = received_ms {
                    write!(f, ", received {}", crate::show::date(*at))?;
                }
                if let Some(topic) = topic {
                    write!(f, ", on {topic}")?;
                }
                write!(f, "): {}", self.why)
            }
            None => write!(f, "{}: {}", self.file, self.why),
        }
    }
}

/// Why a step ended early.
enum Broken {
    /// Something does not hold.
    Fails(Box<Failure>),
    /// A file beside those of the checkpoint does not hold.
    Extra(Box<Failure>),
    /// It cannot be told.
    Unknown(VerifyError),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Fails(Box::new(failure))
    }
}

/// A log in a folder.
struct Folder<'a>(&'a Path);

impl Folder<'_> {
    /// Reads a file that must be there.
    fn read(&self, path: &str) -> Result<Vec<u8>, Broken> {
        use io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
        let full = self.0.join(path);
        fs::read(&full).map_err(|source| match source.kind() {
            NotFound => Failure::of(path, "it is missing").into(),
            IsADirectory | NotADirectory => Failure::of(path, "it is not a file").into(),
            _ => Broken::Unknown(VerifyError::Unreadable { path: full, source }),
        })
    }
}

/// Checks the log in a folder. Without a policy nobody vouches for its key, and only its inner consistency is checked.
pub fn verify_log(folder: &Path, policy: Option<&Policy>) -> Result<Report, VerifyError> {
    verify_log_with_roots(folder, policy, &mut BTreeMap::new())
}

/// Like [`verify_log`]. `roots` names sizes, and is given the root that the log had at each of them.
pub fn verify_log_with_roots(
    folder: &Path,
    policy: Option<&Policy>,
    roots: &mut BTreeMap<u64, Option<Hash>>,
) -> Result<Report, VerifyError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let before = fs::read(folder.join("checkpoint")).ok();
        let (report, moving) = verify_once(folder, policy, roots)?;
        let changed = fs::read(folder.join("checkpoint")).ok() != before;
        // An anchor that writes a checkpoint while we read replaces files that we expect, and adds others.
        if report.failure.is_none() || !(changed || moving) || tries == TRIES {
            return Ok(report);
        }
        thread::sleep(PAUSE);
    }
}

/// Also says whether what does not hold is about files that a running anchor adds and removes.
fn verify_once(
    folder: &Path,
    policy: Option<&Policy>,
    roots: &mut BTreeMap<u64, Option<Hash>>,
) -> Result<(Report, bool), VerifyError> {
    let folder = Folder(folder);
    let mut report = Report {
        holds: false,
        origin: String::new(),
        tree_size: 0,
        root_hash: String::new(),
        keys: Vec::new(),
        vouched: policy.is_some(),
        entries: 0,
        messages: Messages::default(),
        ahead: 0,
        failure: None,
    };
    match check(&folder, policy, roots, &mut report) {
        Ok(()) => report.holds = report.vouched,
        Err(Broken::Fails(failure)) => report.failure = Some(*failure),
        Err(Broken::Extra(failure)) => {
            report.failure = Some(*failure);
            return Ok((report, true));
        }
        Err(Broken::Unknown(error)) => return Err(error),
    }
    Ok((report, false))
}

fn check(
    folder: &Folder,
    policy: Option<&Policy>,
    roots: &mut BTreeMap<u64, Option<Hash>>,
    report: &mut Report,
) -> Result<(), Broken> {
    if !folder.0.join("checkpoint").exists() && !folder.0.join("tile").exists() {
        return Err(Broken::Unknown(VerifyError::NoLog(folder.0.to_owned())));
    }
    let head = check_checkpoint(folder, policy, report)?;
    let extra = files::find_extra(folder, head.size)?;
    let mut judge = policy.map(|policy| messages::Judge::new(policy.site.clone(), policy.authority.clone()));
    let outcome = tree::check_tree(folder, &head, roots, |bundles| {
        report.entries += bundles.iter().map(|entries| entries.len() as u64).sum::<u64>();
        if let Some(judge) = &mut judge {
            judge.hear_all(bundles);
        }
    });
    report.messages = judge.map(messages::Judge::finish).unwrap_or_default();
    let edge = outcome?;
    report.ahead = files::check_extra(folder, &edge, extra).map_err(|broken| match broken {
        Broken::Fails(failure) => Broken::Extra(failure),
        Broken::Extra(_) | Broken::Unknown(_) => broken,
    })?;
    if edge.root() != head.root {
        return Err(Failure::of("checkpoint", "the entries do not give its root hash").into());
    }
    Ok(())
}

fn check_checkpoint(folder: &Folder, policy: Option<&Policy>, report: &mut Report) -> Result<Head, Broken> {
    let note = folder.read("checkpoint")?;
    let fails = |why: BadCheckpoint| Failure::of("checkpoint", why);
    let unsigned = read_unsigned(&note).map_err(fails)?;
    report.origin = unsigned.head.origin.clone();
    report.tree_size = unsigned.head.size;
    report.root_hash = unsigned.head.root.to_string();
    report.keys = unsigned.keys;
    match policy {
        Some(policy) => Ok(policy.log.open(&note).map_err(fails)?),
        None => Ok(unsigned.head),
    }
}

/// A device session, as gaps and failures name it.
pub type DeviceSession = (Name, Session);
