//! Is the log the one that the ledger knows?
//!
//! Every record of the trail must be a checkpoint that the log's key signed, none smaller than the one before, and its
//! root must be the one that the log's own entries give at that size. So each is consistent with the next, and a log
//! that was rewritten with its true key is caught by the first record that knew it otherwise.
//!
//! A record whose last entry retention dropped can be checked where a level-1 hash ends with it. How many cannot be is
//! said; they were consistent with each other when they were added, or an earlier verification would have told.

use std::path::Path;

use super::{Brackets, Questions, Report, Roots, VerifyError, verify};
use crate::checkpoint::{BadCheckpoint, Head};
use crate::policy::Policy;
use crate::show::date;
use crate::source::{Folder, Source};
use grid_ledger::{LedgerError, ObjectId, Record, Seal, TrailReader};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

/// What the ledger says of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// The trail's id.
    pub trail: String,
    /// How many records it has.
    pub records: u64,
    /// How many of them end within what retention dropped, so that they could not be compared with the log.
    pub not_compared: u64,
    /// The newest.
    pub newest: Option<NewestRecord>,
    /// Entries of the log that are newer than the newest record.
    pub not_notarized: u64,
}

/// The newest record of a trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewestRecord {
    /// Its number, from 0.
    pub number: u64,
    /// The size of the log that it vouches for.
    pub tree_size: u64,
    /// When it was added, on the ledger's clock.
    pub added_ms: UnixMillis,
}

/// Why the ledger does not vouch for a log.
#[derive(Debug, thiserror::Error)]
pub enum LedgerFailure {
    /// The ledger could not be asked, or there is no such sealed trail on it.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// The trail belongs to another log.
    #[error("trail {trail} is another log's: it was made for {found:?}, this log is {expected:?}")]
    OtherLog {
        /// The trail.
        trail: ObjectId,
        /// What its immutable metadata says.
        found: String,
        /// What it would say if it were this log's.
        expected: String,
    },
    /// A record is no checkpoint of this log.
    #[error("record {number}, added {}, is no checkpoint of this log: {why}", date(*added_ms))]
    NotACheckpoint {
        /// Which.
        number: u64,
        /// When it was added.
        added_ms: UnixMillis,
        /// What it is.
        why: BadCheckpoint,
    },
    /// The log was another one when the record was added.
    #[error(
        "log rewritten: record {number}, added {}, says that the first {tree_size} entries have root {on_ledger}; now \
         they have {in_log}",
        date(*added_ms)
    )]
    Rewritten {
        /// Which.
        number: u64,
        /// When it was added.
        added_ms: UnixMillis,
        /// How many entries it vouches for.
        tree_size: u64,
        /// Their root, as the record says.
        on_ledger: String,
        /// Their root, as the entries give it.
        in_log: String,
    },
    /// The log has fewer entries than the ledger vouches for.
    #[error(
        "log cut short: record {number}, added {}, vouches for {on_ledger} entries; the log has {in_log}. A newer copy \
         of the log exists or existed",
        date(*added_ms)
    )]
    CutShort {
        /// Which.
        number: u64,
        /// When it was added.
        added_ms: UnixMillis,
        /// How many entries it vouches for.
        on_ledger: u64,
        /// How many there are.
        in_log: u64,
    },
    /// A record vouches for less than one before it.
    #[error("record {number} vouches for {now} entries, the one before it for {before}: the anchor went back")]
    WentBack {
        /// Which.
        number: u64,
        /// What the one before vouches for.
        before: u64,
        /// What it vouches for.
        now: u64,
    },
}

impl LedgerFailure {
    /// Whether it only could not be told, rather than found not to hold.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Log(_) => true,
            Self::Ledger(error) => !matches!(
                error,
                LedgerError::NoSuchTrail { .. }
                    | LedgerError::NotATrail { .. }
                    | LedgerError::NotSealed { .. }
                    | LedgerError::NoSuchRecord { .. }
                    | LedgerError::NotText { .. }
            ),
            Self::OtherLog { .. }
            | Self::NotACheckpoint { .. }
            | Self::Rewritten { .. }
            | Self::CutShort { .. }
            | Self::WentBack { .. } => false,
        }
    }
}

/// Checks the log in a folder, and that the trail which `reader` reads is sealed, is this log's, and knows it as it is.
/// The second result says what the ledger knows; there is none where the log by itself does not hold.
pub async fn verify_ledger(
    folder: &Path,
    policy: &Policy,
    reader: &TrailReader,
) -> Result<(Report, Option<LedgerReport>), LedgerFailure> {
    let records = Records::read(policy, reader).await?;
    let source: &dyn Source = &Folder::new(folder);
    let questions = records.questions(Questions { policy: Some(policy), ..Questions::default() });
    let (report, roots) = verify(source, &questions)?;
    if !report.holds {
        return Ok((report, None));
    }
    let ledger = records.compare(&report, &roots)?;
    Ok((report, Some(ledger)))
}

/// The records of a log's trail. They are its checkpoints; whether the log agrees is still to be seen.
pub struct Records {
    trail: ObjectId,
    records: Vec<(Record, Head)>,
}

/// What the ledger says of one head of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// A record is this head.
    Notarized {
        /// Which.
        number: u64,
        /// When it was added.
        added_ms: UnixMillis,
    },
    /// A record covers more entries. Whether it continues this head, only the log tells.
    Covered {
        /// The first that does.
        number: u64,
        /// When it was added.
        added_ms: UnixMillis,
        /// How many entries it vouches for.
        tree_size: u64,
    },
    /// No record is as new.
    NotYet,
}

impl Records {
    /// Reads the trail: it must be sealed, and this log's.
    pub async fn read(policy: &Policy, reader: &TrailReader) -> Result<Self, LedgerFailure> {
        check_metadata(policy, &reader.seal().await?)?;
        let records = read_records(policy, reader.records(0).await?)?;
        Ok(Self { trail: reader.trail(), records })
    }

    /// Adds to what is asked about the log what is needed for [`Self::compare`].
    pub fn questions<'a>(&self, questions: Questions<'a>) -> Questions<'a> {
        let sizes = self.records.iter().map(|(_, head)| head.size).collect();
        Questions { sizes, brackets: self.brackets(), ..questions }
    }

    /// When the records were added.
    pub fn brackets(&self) -> Brackets {
        Brackets::new(self.records.iter().map(|(record, head)| (head.size, UnixMillis(record.added_ms))).collect())
    }

    /// Compares the records with a log that holds, and the roots that it had.
    pub fn compare(&self, report: &Report, roots: &Roots) -> Result<LedgerReport, LedgerFailure> {
        let mut not_compared = 0;
        for (record, head) in &self.records {
            let (number, added_ms, tree_size) = (record.sequence_number, UnixMillis(record.added_ms), head.size);
            match roots.get(&tree_size).copied().flatten() {
                Some(found) if found == head.root => {}
                Some(found) => {
                    let (on_ledger, in_log) = (head.root.to_string(), found.to_string());
                    return Err(LedgerFailure::Rewritten { number, added_ms, tree_size, on_ledger, in_log });
                }
                None if tree_size > report.tree_size => {
                    let (on_ledger, in_log) = (tree_size, report.tree_size);
                    return Err(LedgerFailure::CutShort { number, added_ms, on_ledger, in_log });
                }
                None => not_compared += 1,
            }
        }
        let newest = self.records.last().map(|(record, head)| NewestRecord {
            number: record.sequence_number,
            tree_size: head.size,
            added_ms: UnixMillis(record.added_ms),
        });
        Ok(LedgerReport {
            trail: self.trail.to_string(),
            records: self.records.len() as u64,
            not_compared,
            not_notarized: report.tree_size - newest.as_ref().map_or(0, |newest| newest.tree_size),
            newest,
        })
    }

    /// What the ledger says of one head of the log, such as that in a proof.
    pub fn standing(&self, of: &Head) -> Result<Standing, LedgerFailure> {
        let Some((record, head)) = self.records.iter().find(|(_, head)| head.size >= of.size) else {
            return Ok(Standing::NotYet);
        };
        let (number, added_ms, tree_size) = (record.sequence_number, UnixMillis(record.added_ms), head.size);
        if tree_size > of.size {
            return Ok(Standing::Covered { number, added_ms, tree_size });
        }
        if head.root == of.root {
            return Ok(Standing::Notarized { number, added_ms });
        }
        let (on_ledger, in_log) = (head.root.to_string(), of.root.to_string());
        Err(LedgerFailure::Rewritten { number, added_ms, tree_size, on_ledger, in_log })
    }
}

fn check_metadata(policy: &Policy, seal: &Seal) -> Result<(), LedgerFailure> {
    let text = |name: &str, description: &str| format!("{name}\n{description}");
    let expected = text(&policy.trail_name(), &policy.trail_description());
    let found = text(seal.name.as_deref().unwrap_or_default(), seal.description.as_deref().unwrap_or_default());
    if found == expected { Ok(()) } else { Err(LedgerFailure::OtherLog { trail: seal.trail, found, expected }) }
}

/// Each record with the head that it is. None vouches for less than the one before it.
fn read_records(policy: &Policy, records: Vec<Record>) -> Result<Vec<(Record, Head)>, LedgerFailure> {
    let mut vouched: Vec<(Record, Head)> = Vec::with_capacity(records.len());
    for record in records {
        let (number, added_ms) = (record.sequence_number, UnixMillis(record.added_ms));
        let head = policy.log.open(record.text.as_bytes());
        let head = head.map_err(|why| LedgerFailure::NotACheckpoint { number, added_ms, why })?;
        if let Some((_, before)) = vouched.last() {
            if head.size < before.size {
                return Err(LedgerFailure::WentBack { number, before: before.size, now: head.size });
            }
            // The same size with two roots: whatever the log is, one of the two is not it.
            if head.size == before.size && head.root != before.root {
                let (on_ledger, in_log) = (head.root.to_string(), before.root.to_string());
                return Err(LedgerFailure::Rewritten { number, added_ms, tree_size: head.size, on_ledger, in_log });
            }
        }
        vouched.push((record, head));
    }
    Ok(vouched)
}
