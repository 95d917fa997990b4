//! Is the log the one that the ledger knows?
//!
//! Every record of the trail must be a checkpoint that the log's key signed, none smaller than the one before, and its
//! root must be the one that the log's own entries give at that size. So each is consistent with the next, and a log
//! that was rewritten with its true key is caught by the first record that knew it otherwise.

use std::collections::BTreeMap;
use std::path::Path;

use grid_ledger::{LedgerError, ObjectId, Record, Seal, TrailReader};
use grid_protocol::units::UnixMillis;
use serde::Serialize;
use tlog_tiles::Hash;

use super::{Report, VerifyError, verify_log_with_roots};
use crate::checkpoint::BadCheckpoint;
use crate::policy::Policy;
use crate::show::date;

/// What the ledger says of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// The trail's id.
    pub trail: String,
    /// How many records it has.
    pub records: u64,
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
    check_metadata(policy, &reader.seal().await?)?;
    let records = reader.records(0).await?;
    let vouched = read_records(policy, &records)?;
    let mut roots: BTreeMap<u64, Option<Hash>> = vouched.iter().map(|(_, size, _)| (*size, None)).collect();
    let report = verify_log_with_roots(folder, Some(policy), &mut roots)?;
    if !report.holds {
        return Ok((report, None));
    }
    for (record, tree_size, root) in &vouched {
        let (number, added_ms) = (record.sequence_number, UnixMillis(record.added_ms));
        match roots.get(tree_size).copied().flatten() {
            Some(found) if found == *root => {}
            Some(found) => {
                let (on_ledger, in_log) = (root.to_string(), found.to_string());
                return Err(LedgerFailure::Rewritten { number, added_ms, tree_size: *tree_size, on_ledger, in_log });
            }
            None => {
                let (on_ledger, in_log) = (*tree_size, report.tree_size);
                return Err(LedgerFailure::CutShort { number, added_ms, on_ledger, in_log });
            }
        }
    }
    let newest = vouched.last().map(|(record, tree_size, _)| NewestRecord {
        number: record.sequence_number,
        tree_size: *tree_size,
        added_ms: UnixMillis(record.added_ms),
    });
    let ledger = LedgerReport {
        trail: reader.trail().to_string(),
        records: records.len() as u64,
        not_notarized: report.tree_size - newest.as_ref().map_or(0, |newest| newest.tree_size),
        newest,
    };
    Ok((report, Some(ledger)))
}

fn check_metadata(policy: &Policy, seal: &Seal) -> Result<(), LedgerFailure> {
    let text = |name: &str, description: &str| format!("{name}\n{description}");
    let expected = text(&policy.trail_name(), &policy.trail_description());
    let found = text(seal.name.as_deref().unwrap_or_default(), seal.description.as_deref().unwrap_or_default());
    if found == expected { Ok(()) } else { Err(LedgerFailure::OtherLog { trail: seal.trail, found, expected }) }
}

/// Each record with the size and the root that it vouches for.
fn read_records<'a>(policy: &Policy, records: &'a [Record]) -> Result<Vec<(&'a Record, u64, Hash)>, LedgerFailure> {
    let mut vouched: Vec<(&Record, u64, Hash)> = Vec::with_capacity(records.len());
    for record in records {
        let (number, added_ms) = (record.sequence_number, UnixMillis(record.added_ms));
        let head = policy.log.open(record.text.as_bytes());
        let head = head.map_err(|why| LedgerFailure::NotACheckpoint { number, added_ms, why })?;
        if let Some((_, before, _)) = vouched.last()
            && head.size < *before
        {
            return Err(LedgerFailure::WentBack { number, before: *before, now: head.size });
        }
        vouched.push((record, head.size, head.root));
    }
    Ok(vouched)
}
