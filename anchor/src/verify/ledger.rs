//! Is the log the one that the ledger knows?
//!
//! Of each record that the log's key signed as a checkpoint, the root must be the one that the log's own entries give at
//! that size. So each is consistent with the next, and a log that was rewritten with its true key is caught by the first
//! record that knew it otherwise.
//!
//! Other records say nothing of the log: whoever has stolen the ledger's key, and not the log's, can add them. They are
//! counted, and where there are no others, nothing vouches.
//!
//! A trail may continue others (`chain`): then their records of this log count too, and come first.
//!
//! A record whose last entry retention dropped can be checked where a level-1 hash ends with it. How many cannot be is
//! said; they were consistent with each other when they were added, or an earlier verification would have told.

use std::path::Path;

use super::chain::{Chain, Continued};
use super::trail::Vouched;
use super::{Brackets, LedgerFailure, Questions, Report, Roots, verify};
use crate::checkpoint::Head;
use crate::policy::Policy;
use crate::source::{Folder, Source};
use grid_ledger::{ObjectId, TrailReader};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

/// What the ledger says of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerReport {
    /// The trail's id.
    pub trail: String,
    /// How many records it has.
    pub records: u64,
    /// How many of them no anchor added: the log's key did not sign them as checkpoints, or they vouch for less than one
    /// before. They say nothing more of the log.
    pub foreign: u64,
    /// How many of the log's records, in this trail and those that it continues, end within what retention dropped, so
    /// that they could not be compared with the log.
    pub not_compared: u64,
    /// The newest record of the log.
    pub newest: Option<NewestRecord>,
    /// Entries of the log that are newer than the newest record.
    pub not_notarized: u64,
    /// The trails that this one continues, the newest first.
    pub continued: Vec<Continued>,
    /// Why no older ones were looked at.
    pub untold: Option<String>,
}

/// The newest record of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NewestRecord {
    /// Its trail.
    pub trail: String,
    /// Its number there, from 0.
    pub number: u64,
    /// The size of the log that it vouches for.
    pub tree_size: u64,
    /// When it was added, on the ledger's clock.
    pub added_ms: UnixMillis,
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

impl NewestRecord {
    pub(super) fn of(newest: &Vouched) -> Self {
        let Vouched { trail, number, added_ms, head } = newest;
        Self { trail: trail.to_string(), number: *number, tree_size: head.size, added_ms: *added_ms }
    }
}

/// The records of a log's trails. They are its checkpoints; whether the log agrees is still to be seen.
pub struct Records(Chain);

/// What the ledger says of one head of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// A record is this head.
    Notarized {
        /// In which trail.
        trail: String,
        /// Which.
        number: u64,
        /// When it was added.
        added_ms: UnixMillis,
    },
    /// A record covers more entries. Whether it continues this head, only the log tells.
    Covered {
        /// In which trail.
        trail: String,
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
    /// Reads the trail, which must be sealed and this log's, and those that it continues.
    pub async fn read(policy: &Policy, reader: &TrailReader) -> Result<Self, LedgerFailure> {
        Chain::read(policy, reader).await.map(Self)
    }

    /// The newest trail.
    pub fn trail(&self) -> ObjectId {
        self.0.trail
    }

    /// Adds to what is asked about the log what is needed for [`Self::compare`].
    pub fn questions<'a>(&self, questions: Questions<'a>) -> Questions<'a> {
        let sizes = self.0.vouched.iter().chain(&self.0.beside).map(|record| record.head.size).collect();
        Questions { sizes, brackets: self.brackets(), ..questions }
    }

    /// When the records were added.
    pub fn brackets(&self) -> Brackets {
        Brackets::new(self.0.vouched.iter().map(|record| (record.head.size, record.added_ms)).collect())
    }

    /// Compares the records with a log that holds, and the roots that it had.
    pub fn compare(&self, report: &Report, roots: &Roots) -> Result<LedgerReport, LedgerFailure> {
        let Chain { trail, records, foreign, vouched, beside, continued, untold } = &self.0;
        let mut not_compared = 0;
        for record in vouched.iter().chain(beside) {
            let Vouched { number, added_ms, head, .. } = record;
            match roots.get(&head.size).copied().flatten() {
                Some(found) => record.must_have(found),
                None if head.size > report.tree_size => Err(LedgerFailure::CutShort {
                    number: *number,
                    added_ms: *added_ms,
                    on_ledger: head.size,
                    in_log: report.tree_size,
                }),
                None => {
                    not_compared += 1;
                    Ok(())
                }
            }
            .map_err(|why| self.in_trail(record, why))?;
        }
        let newest = vouched.last().map(NewestRecord::of);
        if newest.is_none() && *foreign > 0 {
            return Err(LedgerFailure::NoCheckpoint { trail: *trail, records: *records });
        }
        Ok(LedgerReport {
            trail: trail.to_string(),
            records: *records,
            foreign: *foreign,
            not_compared,
            not_notarized: report.tree_size - newest.as_ref().map_or(0, |newest| newest.tree_size),
            newest,
            continued: continued.clone(),
            untold: untold.as_ref().map(ToString::to_string),
        })
    }

    /// What the ledger says of one head of the log, such as that in a proof.
    pub fn standing(&self, of: &Head) -> Result<Standing, LedgerFailure> {
        let Chain { vouched, beside, .. } = &self.0;
        let first = vouched.iter().find(|record| record.head.size >= of.size);
        for record in first.into_iter().chain(beside).filter(|record| record.head.size == of.size) {
            record.must_have(of.root).map_err(|why| self.in_trail(record, why))?;
        }
        let Some(record) = first else { return Ok(Standing::NotYet) };
        let (trail, number, added_ms) = (record.trail.to_string(), record.number, record.added_ms);
        match record.head.size {
            size if size == of.size => Ok(Standing::Notarized { trail, number, added_ms }),
            tree_size => Ok(Standing::Covered { trail, number, added_ms, tree_size }),
        }
    }

    /// A failure of a record, with its trail where that is not the newest.
    fn in_trail(&self, record: &Vouched, why: LedgerFailure) -> LedgerFailure {
        if record.trail == self.0.trail { why } else { why.of(record.trail) }
    }
}
