//! What goes on the ledger, and what came of it.

use grid_ledger::NewRecord;
use grid_protocol::message::{LedgerPurse, LedgerReceipt};

use super::{Outgoing, Recorder, RecorderError};
use crate::checkpoint::Head;
use crate::inscription::Inscription;
use crate::intake::Now;
use crate::notary::Trail;
use crate::show::date;
use crate::succession::{Signed, is_statement};

impl Recorder {
    /// Takes note of the trail that records go to, and refuses one that is another log's, or that knows this log
    /// otherwise or further than it is: a record added to that could never be taken back.
    pub fn tie(&mut self, trail: Trail) -> Result<(), RecorderError> {
        let read = Inscription::read(&trail.name, &trail.description).ok();
        let Some(inscription) = read.filter(|inscription| inscription.is_of(&self.policy)) else {
            let found = format!("{}\n{}", trail.name, trail.description);
            let ours = Inscription::new(&self.policy, None);
            return Err(RecorderError::OtherTrail { found, ours: format!("{}\n{}", ours.name(), ours.description()) });
        };
        self.ledger.opened();
        let (text, receipt) = match (trail.newest, inscription.continues) {
            (Some(newest), _) => newest,
            (None, None) => return Ok(()),
            // Our first record would be taken for the statement that is missing, and could never be taken back.
            (None, Some(old)) => return Err(RecorderError::NoStatement(old)),
        };
        if let Some(old) = inscription.continues
            && is_statement(&text)
        {
            let statement = Signed::open(&text, &self.policy.log, old)?.statement;
            let own = statement.last.filter(|(_, head)| head.origin == self.policy.log.origin());
            // Nothing of this log is in the new trail yet, but it may go on from the old one.
            return own.map_or(Ok(()), |(_, head)| self.must_have(&head));
        }
        let head = self.policy.log.open(text.as_bytes()).map_err(RecorderError::NewestRecord)?;
        self.must_have(&head)?;
        self.notarized = head.size;
        self.receipt = receipt.map(|receipt| LedgerReceipt { tree_size: head.size, ..receipt });
        Ok(())
    }

    /// The log must be as long as a head that is on the ledger, and where it is as long, the same.
    fn must_have(&self, head: &Head) -> Result<(), RecorderError> {
        let (size, root) = self.store.head();
        if head.size > size || (head.size == size && head.root != root) {
            return Err(RecorderError::Behind { on_ledger: head.size, in_log: size });
        }
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
