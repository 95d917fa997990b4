//! Putting checkpoints on the ledger, one at a time, while the log goes on.
//!
//! A task owns the ledger and waits for it; nothing else does. The service hands it a record and hears later what became
//! of it. If the outcome is unclear, the task asks again for the same record until it is known, so that there is never a
//! second one by accident; any other failure is told, and the next interval's record covers it all.

use std::path::Path;
use std::time::Duration;

use grid_ledger::{Endpoints, IotaLedger, Ledger, LedgerError, NewRecord, ObjectId, Receipt};
use grid_protocol::message::LedgerReceipt;
use grid_protocol::units::{Millis, UnixMillis};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASK_AGAIN_AT_MOST: Duration = Duration::from_secs(60);

/// A connection to the trail that this anchor adds to.
pub struct Notary {
    endpoints: Endpoints,
    trail: ObjectId,
    interval: Millis,
    requests: mpsc::Sender<NewRecord>,
    outcomes: mpsc::Receiver<Result<Receipt, LedgerError>>,
    task: JoinHandle<()>,
    busy: bool,
    last_text: Option<String>,
}

impl Notary {
    /// Opens the trail that `init` made in this folder.
    pub async fn open(folder: &Path, endpoints: Endpoints, interval: Millis) -> Result<Self, LedgerError> {
        let ledger = IotaLedger::open(folder, &endpoints).await?;
        let trail = ledger.trail();
        let last = ledger.last_receipt().map(|receipt| receipt.sequence_number);
        let last_text = match last {
            Some(number) => ledger.records(number).await?.pop().map(|record| record.text),
            None => None,
        };
        let (requests, asked) = mpsc::channel(1);
        let (answers, outcomes) = mpsc::channel(1);
        let task = tokio::spawn(work(ledger, asked, answers));
        Ok(Self { endpoints, trail, interval, requests, outcomes, task, busy: false, last_text })
    }

    /// How often a record is due.
    pub fn interval(&self) -> Millis {
        self.interval
    }

    /// The text of the newest record at the start.
    pub fn last_text(&self) -> Option<&str> {
        self.last_text.as_deref()
    }

    /// Whether a record is under way.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands in a record; not while another is under way.
    pub fn hand_in(&mut self, record: NewRecord) {
        // There is room for one, and the task ends only with us.
        self.busy = self.requests.try_send(record).is_ok();
    }

    /// Waits for what becomes of the record that is under way. For ever, if none is.
    pub async fn outcome(&mut self) -> Result<Receipt, LedgerError> {
        match self.outcomes.recv().await {
            Some(outcome) => {
                self.busy = false;
                outcome
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for the record that is under way, if one is, but not longer than until `latest`.
    pub async fn finish(&mut self, latest: Instant) -> Option<Result<Receipt, LedgerError>> {
        if !self.busy {
            return None;
        }
        timeout_at(latest, self.outcome()).await.ok()
    }

    /// The receipt as the street is told.
    pub fn to_message(&self, receipt: &Receipt) -> LedgerReceipt {
        LedgerReceipt {
            network: self.endpoints.network.to_string(),
            trail: self.trail.to_string(),
            record: receipt.sequence_number,
            transaction: receipt.transaction.to_string(),
            added_ms: UnixMillis(receipt.added_ms),
            explorer: self.endpoints.transaction_page(receipt.transaction),
        }
    }
}

impl Drop for Notary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn work(
    mut ledger: impl Ledger,
    mut asked: mpsc::Receiver<NewRecord>,
    answers: mpsc::Sender<Result<Receipt, LedgerError>>,
) {
    while let Some(record) = asked.recv().await {
        let mut wait = ASK_AGAIN;
        let outcome = loop {
            match ledger.append(&record).await {
                Err(unclear @ LedgerError::Unclear { .. }) => {
                    tracing::warn!(%unclear, "asking the ledger again");
                    sleep(wait).await;
                    wait = (wait * 2).min(ASK_AGAIN_AT_MOST);
                }
                outcome => break outcome,
            }
        };
        if answers.send(outcome).await.is_err() {
            return;
        }
    }
}
