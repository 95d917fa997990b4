//! Why the ledger does not vouch for a log, or could not be asked.

use grid_ledger::{LedgerError, ObjectId};
use grid_protocol::units::UnixMillis;

use super::VerifyError;
use crate::policy::BadTrail;
use crate::show::date;
use crate::succession::BadStatement;

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
    /// There are records, and none is a checkpoint of this log.
    #[error(
        "none of the {records} records of trail {trail} is a checkpoint of this log: somebody else has, or had, its \
         ledger key"
    )]
    NoCheckpoint {
        /// The trail.
        trail: ObjectId,
        /// How many records it has.
        records: u64,
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
    /// A trail that is continued is no log's.
    #[error(transparent)]
    NotALog(#[from] BadTrail),
    /// The first record of a trail that continues another does not say how.
    #[error("record 0 must say how the trail continues another: {0}")]
    Statement(#[from] BadStatement),
    /// A trail that continues another has no record yet.
    #[error(
        "the trail continues {0}, and has no record yet that says how: grid-anchor init --continues was not finished"
    )]
    NoStatement(ObjectId),
    /// The first record of a trail that continues another contradicts what the ledger shows.
    #[error("record 0 says that {what} is {stated}, but it is {found}")]
    Contradicted {
        /// What.
        what: &'static str,
        /// What the record says.
        stated: String,
        /// What is the case.
        found: String,
    },
    /// The continued trail is on a ledger that is not asked.
    #[error("it is on chain {0}, which is not the one that was asked")]
    OtherChain(String),
    /// A trail continues itself.
    #[error("it continues itself, in the end")]
    Circle,
    /// There is no end of older trails.
    #[error("there are more than {0} trails behind it")]
    TooManyTrails(usize),
    /// Something is wrong with a trail that is continued.
    #[error("of the trail {trail}, which is continued: {why}")]
    Continued {
        /// Which.
        trail: ObjectId,
        /// What.
        why: Box<LedgerFailure>,
    },
}

impl LedgerFailure {
    /// The same of a trail that is continued.
    pub(super) fn of(self, trail: ObjectId) -> Self {
        Self::Continued { trail, why: Box::new(self) }
    }

    /// Whether the first record of a trail is not what it must be.
    pub(super) fn is_of_first_record(&self) -> bool {
        match self {
            Self::Continued { why, .. } => why.is_of_first_record(),
            other => matches!(other, Self::Statement(_) | Self::NoStatement(_) | Self::Contradicted { .. }),
        }
    }

    /// Whether it only could not be told, rather than found not to hold.
    pub fn is_unknown(&self) -> bool {
        match self {
            Self::Log(_) | Self::NoStatement(_) | Self::OtherChain(_) | Self::TooManyTrails(_) => true,
            Self::Continued { why, .. } => why.is_unknown(),
            Self::Ledger(error) => !matches!(
                error,
                LedgerError::NoSuchTrail { .. }
                    | LedgerError::NotATrail { .. }
                    | LedgerError::NotSealed { .. }
                    | LedgerError::NoSuchRecord { .. }
                    | LedgerError::NotText { .. }
            ),
            Self::OtherLog { .. }
            | Self::NotALog(_)
            | Self::Statement(_)
            | Self::Contradicted { .. }
            | Self::Circle
            | Self::NoCheckpoint { .. }
            | Self::Rewritten { .. }
            | Self::CutShort { .. } => false,
        }
    }
}
