//! What goes on the ledger, and what came of it.

use grid_ledger::NewRecord;
use grid_protocol::message::{LedgerPurse, LedgerReceipt};

use super::{Outgoing, Recorder, RecorderError};
use crate::intake::Now;
use crate::notary::Trail;
use crate::show::date;

impl Recorder {
    /// Takes note of the trail that records go to, and refuses one that is another log's, or that knows this log
    /// otherwise or further than it is: a record added to that could never be taken back.
    pub fn tie(&mut self, trail: Trail) -> Result<(), RecorderError> {
        let expected = (self.policy.trail_name(), self.policy.trail_description());
        if (&trail.name, &trail.description) != (&expected.0, &expected.1) {
            let found = format!("{}\n{}", trail.name, trail.description);
            return Err(RecorderError::OtherTrail { found, ours: format!("{}\n{}", expected.0, expected.1) });
        }
        self.ledger.opened();
        let Some((text, receipt)) = trail.newest else { return Ok(()) };
        let head = self.policy.log.open(text.as_bytes()).map_err(RecorderError::NewestRecord)?;
        let (size, root) = self.store.head();
        if head.size > size || (head.size == size && head.root != root) {
            return Err(RecorderError::Behind { on_ledger: head.size, in_log: size });
        }
        self.notarized = head.size;
        self.receipt = receipt.map(|receipt| LedgerReceipt { tree_size: head.size, ..receipt });
        Ok(())
    }

    /// What is due for the ledger: the newest checkpoint, written now if need be. Nothing if nothing has happened.
    pub fn record_for_ledger(&mut self, now: Now) -> Result<Option<NewRecord>, RecorderError> {
        if !self.fresh_for_ledger || self.store.size() <= self.notarized {
            return Ok(None);
        }
        if self.newest.as_ref().is_none_or(|(head, _)| head.size < self.store.size()) {
            self.write_checkpoint(now)?;
        }
        let Some((head, note)) = &self.newest else { return Ok(None) };
        let metadata = match (self.store.received_at(self.notarized), self.store.received_at(head.size - 1)) {
            (Ok(from), Ok(until)) => {
                let count = match head.size - self.notarized {
                    1 => "1 entry".to_owned(),
                    more => format!("{more} entries"),
                };
                Some(format!("{count}, {} to {}", date(from), date(until)))
            }
            // An old file that does not read is for `verify` to find: the head can be notarized without.
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!(%error, "the record says no times");
                None
            }
        };
        self.fresh_for_ledger = false;
        // Whatever hurries is covered.
        self.wants_record = false;
        self.ledger.handed_in(now.boot);
        Ok(Some(NewRecord { text: String::from_utf8_lossy(note).into_owned(), metadata }))
    }

    /// Takes note that the record with this text is on the ledger, and says so.
    pub fn notarized(
        &mut self,
        text: &str,
        receipt: LedgerReceipt,
        now: Now,
    ) -> Result<Option<Outgoing>, RecorderError> {
        let head = self.policy.log.open(text.as_bytes()).map_err(RecorderError::NewestRecord)?;
        self.notarized = head.size;
        self.receipt = Some(LedgerReceipt { tree_size: head.size, ..receipt });
        self.ledger.added();
        self.announce(now)
    }

    /// Takes note that a record did not come on the ledger: the next is due although nothing else may happen. `why`: what
    /// somebody must do before any can.
    pub fn not_notarized(&mut self, why: Option<String>) {
        self.fresh_for_ledger = true;
        if let Some(why) = why {
            self.ledger.failed(why);
        }
    }

    /// Takes note of what there is to pay records with.
    pub fn holds(&mut self, purse: LedgerPurse) {
        self.ledger.holds(purse);
    }
}
