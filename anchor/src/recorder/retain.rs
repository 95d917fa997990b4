//! Drops old entries, as [`crate::retention`] says, without keeping anybody waiting.

use grid_protocol::units::UnixMillis;

use super::{Outgoing, Recorder, RecorderError};
use crate::intake::Now;
use crate::retention::{Bounds, Step};
use crate::show::date;
use crate::tile::FULL;

impl Recorder {
    /// At the start: goes on where it was killed.
    pub(super) fn resume_dropping(&mut self, snapshot_size: u64) -> Result<(), RecorderError> {
        let (found, intended) = (self.store.first_remains()?, bundle(self.intake.minimum_index()));
        self.intake.begins_at(self.store.minimum_index());
        if found < intended {
            self.retention.resume(found, intended, snapshot_size);
        }
        Ok(())
    }

    /// One small step.
    pub(super) fn retain(&mut self, now: Now) -> Result<Option<Outgoing>, RecorderError> {
        let bounds = Bounds {
            checkpoint_size: self.store.checkpoint_size(),
            notarized: self.notarized,
            notarized_at: self.receipt.as_ref().map(|receipt| receipt.added_ms),
        };
        match self.retention.step(|| bundle(self.store.minimum_index()), bounds, now) {
            Step::Rest => Ok(None),
            Step::Look { from, until } => {
                for bundle in from..until {
                    let received = self.last_received(bundle);
                    self.retention.looked(received);
                }
                Ok(None)
            }
            Step::Carry { until } => {
                self.sync(now)?;
                self.intake.carry(until * u64::from(FULL), now, &mut self.admitted);
                self.append(false, now)?;
                self.write_checkpoint(now)?;
                self.retention.carried(bundle(self.store.minimum_index()), self.store.checkpoint_size());
                self.announce(now)
            }
            // The intent to drop was written down, but not the checkpoint that goes with it.
            Step::Drop { covered, .. } if self.store.checkpoint_size() < covered => {
                self.write_checkpoint(now)?;
                self.announce(now)
            }
            Step::Drop { from, until, covered: _ } => {
                self.store.drop_bundles(from..until)?;
                if self.retention.dropped(until) {
                    let first = self.store.minimum_index();
                    let from = self.store.received_at(first).map(date).unwrap_or_default();
                    tracing::info!(first, from, "dropped the entries before this one");
                }
                Ok(None)
            }
        }
    }

    /// When the last entry of a full bundle was received.
    fn last_received(&self, bundle: u64) -> Option<UnixMillis> {
        match self.store.received_at(bundle * u64::from(FULL) + u64::from(FULL) - 1) {
            Ok(received) => Some(received),
            Err(error) => {
                // To say more of it is for `verify`.
                tracing::warn!(%error, "cannot tell how old a bundle is");
                None
            }
        }
    }
}

fn bundle(index: u64) -> u64 {
    index / u64::from(FULL)
}

#[cfg(test)]
mod tests;
