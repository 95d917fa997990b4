//! One trail, as it was read, and its records that are checkpoints.

use grid_ledger::{Address, ObjectId, Record, TrailReader};
use grid_protocol::units::UnixMillis;

use super::LedgerFailure;
use crate::checkpoint::{BadCheckpoint, Head, LogPublicKey};
use crate::inscription::Inscription;
use crate::policy::BadTrail;
use crate::succession::Signed;

/// A sealed trail.
pub struct Trail {
    /// Its id.
    pub id: ObjectId,
    /// Its immutable name.
    pub name: String,
    /// Its immutable description.
    pub description: String,
    /// Whose address made it.
    pub creator: Address,
    /// All its records.
    pub records: Vec<Record>,
}

/// A record that is a checkpoint.
#[derive(Clone, Debug)]
pub struct Vouched {
    /// In which trail.
    pub trail: ObjectId,
    /// Its number there.
    pub number: u64,
    /// When it was added, on the ledger's clock.
    pub added_ms: UnixMillis,
    /// What it vouches for.
    pub head: Head,
}

impl Trail {
    /// Reads a trail, which must be sealed.
    pub async fn read(reader: &TrailReader) -> Result<Self, LedgerFailure> {
        let seal = reader.seal().await?;
        Ok(Self {
            id: seal.trail,
            name: seal.name.unwrap_or_default(),
            description: seal.description.unwrap_or_default(),
            creator: seal.creator,
            records: reader.all_records().await?,
        })
    }

    /// What its immutable metadata says.
    pub fn inscription(&self) -> Result<Inscription, BadTrail> {
        Inscription::read(&self.name, &self.description)
    }

    /// Its first record, which must say how it continues that other trail, and when it was added.
    pub fn statement(&self, log: &LogPublicKey, continues: ObjectId) -> Result<(Signed, UnixMillis), LedgerFailure> {
        let record = self.records.first().ok_or(LedgerFailure::NoStatement(continues))?;
        let signed = Signed::open(&record.text, log, continues)?;
        if signed.statement.ledger != record.added_by {
            return Err(LedgerFailure::Contradicted {
                what: "the address that adds to the trail",
                stated: signed.statement.ledger.to_string(),
                found: record.added_by.to_string(),
            });
        }
        Ok((signed, UnixMillis(record.added_ms)))
    }

    /// The records that should be checkpoints: all, or all but the first where that says how the trail continues another.
    pub fn after_statement(&self, inscription: &Inscription) -> &[Record] {
        let statements = usize::from(inscription.continues.is_some());
        self.records.get(statements..).unwrap_or_default()
    }

    /// A record as a checkpoint of a log.
    pub fn vouched(&self, log: &LogPublicKey, record: &Record) -> Result<Vouched, BadCheckpoint> {
        let (number, added_ms) = (record.sequence_number, UnixMillis(record.added_ms));
        Ok(Vouched { trail: self.id, number, added_ms, head: log.open(record.text.as_bytes())? })
    }

    /// Those of the records that are checkpoints of a log and vouch for no less than one before, in order; and the other
    /// checkpoints. No anchor goes back, but whoever has but the ledger's key can add an old checkpoint again, or anything
    /// else, which says nothing of the log.
    pub fn all_vouched(
        &self,
        log: &LogPublicKey,
        records: &[Record],
    ) -> Result<(Vec<Vouched>, Vec<Vouched>), LedgerFailure> {
        let (mut all, mut again): (Vec<Vouched>, Vec<Vouched>) = (Vec::with_capacity(records.len()), Vec::new());
        for next in records.iter().filter_map(|record| self.vouched(log, record).ok()) {
            match all.last() {
                Some(before) if next.goes_back(before) => again.push(next),
                before => {
                    before.map_or(Ok(()), |before| next.must_agree(before))?;
                    all.push(next);
                }
            }
        }
        Ok((all, again))
    }

    /// The newest checkpoint before the first that contradicts one: what is in a trail must not be able to make it useless.
    pub fn newest_good(&self, inscription: &Inscription) -> Option<Vouched> {
        let mut newest: Option<Vouched> = None;
        let records = self.after_statement(inscription).iter();
        for next in records.filter_map(|record| self.vouched(&inscription.log, record).ok()) {
            match &newest {
                Some(before) if next.goes_back(before) => {}
                Some(before) if next.must_agree(before).is_err() => break,
                Some(_) | None => newest = Some(next),
            }
        }
        newest
    }
}

impl Vouched {
    /// Whether it vouches for less than another.
    pub fn goes_back(&self, before: &Self) -> bool {
        self.head.size < before.head.size
    }

    /// The same size with two roots: whatever the log is, one of the two is not it.
    pub fn must_agree(&self, before: &Self) -> Result<(), LedgerFailure> {
        if self.head.size == before.head.size { self.must_have(before.head.root) } else { Ok(()) }
    }

    /// The log must have had this root.
    pub fn must_have(&self, root: tlog_tiles::Hash) -> Result<(), LedgerFailure> {
        if self.head.root == root {
            return Ok(());
        }
        let Self { number, added_ms, head, .. } = self;
        let (on_ledger, in_log) = (head.root.to_string(), root.to_string());
        let (number, added_ms, tree_size) = (*number, *added_ms, head.size);
        Err(LedgerFailure::Rewritten { number, added_ms, tree_size, on_ledger, in_log })
    }
}
