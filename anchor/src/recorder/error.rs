//! Why a recorder cannot start or go on.

use grid_durable::DurableError;
use grid_ledger::ObjectId;
use grid_protocol::seal::SealError;

use crate::checkpoint::BadCheckpoint;
use crate::intake::BadSnapshot;
use crate::policy::BadPolicy;
use crate::speech::Unverified;
use crate::store::StoreError;
use crate::succession::BadStatement;

/// Why the recorder cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The log cannot be written, or does not fit together.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file cannot be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// What the intake knew cannot be read.
    #[error("the file sessions in data_dir: {0}")]
    Snapshot(#[from] BadSnapshot),
    /// `site.policy` cannot be read.
    #[error("site.policy in data_dir: {0}")]
    Policy(#[from] BadPolicy),
    /// `site.policy` vouches for something else.
    #[error("site.policy in data_dir says {found:?}, but this anchor has {ours:?}: is this another site's data_dir?")]
    OtherPolicy {
        /// The line there.
        found: String,
        /// What it would have to be.
        ours: String,
    },
    /// The certificate is not one of this site.
    #[error("the anchor's certificate cannot be used: {0}")]
    Certificate(#[from] Unverified),
    /// The certificate is somebody else's.
    #[error("the certificate is that of {found}, but the settings and the message key make this anchor {ours}")]
    OtherIdentity {
        /// Whom it names.
        found: String,
        /// Who we are.
        ours: String,
    },
    /// The trail is another log's.
    #[error(
        "the trail on the ledger is another log's: it says {found:?}, this log is {ours:?}. Restore log.key, or init anew"
    )]
    OtherTrail {
        /// What its immutable metadata says.
        found: String,
        /// What it would say if it were this log's.
        ours: String,
    },
    /// The newest record is none of ours.
    #[error(
        "the newest record on the ledger is no checkpoint of this log ({0}): somebody else has, or had, the ledger key. \
         Let `grid-anchor init --continues` make another trail, with another key"
    )]
    NewestRecord(BadCheckpoint),
    /// The trail was made to continue another, and nothing says yet how.
    #[error(
        "the trail on the ledger continues {0}, and has no record yet that says how: run grid-anchor init --continues {0} \
         again, with the same arguments, until it succeeds"
    )]
    NoStatement(ObjectId),
    /// The record that says how the trail continues another cannot be believed.
    #[error("the record on the ledger that says how the trail continues another: {0}")]
    Statement(#[from] BadStatement),
    /// The log is older than the ledger, or another.
    #[error(
        "the ledger vouches for {on_ledger} entries that this log of {in_log} does not have as they were: is data_dir an \
         old copy? Restore the newest; going on from here would contradict the trail for good"
    )]
    Behind {
        /// How many entries the newest record vouches for.
        on_ledger: u64,
        /// How many are under the log's checkpoint.
        in_log: u64,
    },
    /// An own message cannot be signed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl RecorderError {
    /// Whether it is only that the disk is full: what is durable is there, and it goes on when there is room.
    pub fn is_disk_full(&self) -> bool {
        let (Self::Durable(error) | Self::Store(StoreError::Durable(error))) = self else { return false };
        error.is_full()
    }
}
