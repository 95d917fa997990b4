//! Putting checkpoints on the ledger, one at a time, while the log goes on.
//!
//! A task owns the ledger and waits for it; nothing else does. It first opens the trail, however long that takes: a
//! ledger that cannot be reached stops nothing. Then the service hands it a record and hears later what became of it.
//! While the outcome is unclear, the task asks again for the same record, so that there is never a second one by
//! accident; any other failure is told, and the next interval's record covers it all. It backs off while nothing works,
//! and stays away as long as a node asks it to; it never gives up.

use std::path::PathBuf;
use std::time::Duration;

use grid_ledger::{Backoff, Endpoints, IotaLedger, Ledger, LedgerError, NewRecord, Receipt};
use grid_protocol::message::{LedgerPurse, LedgerReceipt};
use grid_protocol::units::{self, Millis, UnixMillis};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::settings::DAY;

/// News wait so long for the answer what the address holds.
const PURSE_WITHIN: Duration = Duration::from_secs(2);

/// What is notarized where.
#[derive(Clone, Debug)]
pub struct NotarySettings {
    /// The folder in which `init` made key and trail.
    pub folder: PathBuf,
    /// The ledger.
    pub endpoints: Endpoints,
    /// How often a record is due.
    pub interval: Millis,
    /// Whether a record is due early when something has happened.
    pub on_event: bool,
    /// What a record may take at most, in NANOS.
    pub most_nanos_per_record: u64,
}

/// What the task tells.
#[derive(Debug)]
pub enum News {
    /// The trail is open.
    Opened(Trail),
    /// A record is on the ledger.
    Added(LedgerReceipt),
    /// A record is not on the ledger, and will not be.
    NotAdded(LedgerError),
    /// The trail cannot be used, now or later.
    Refused(LedgerError),
}

/// What is heard of the task.
#[derive(Debug)]
pub enum Told {
    /// What became of trail or record.
    News(News),
    /// What there is to pay records with.
    Holds(LedgerPurse),
}

/// The trail as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    /// Its immutable name.
    pub name: String,
    /// Its immutable description.
    pub description: String,
    /// Its newest record: the text, and what is known of it.
    pub newest: Option<(String, Option<LedgerReceipt>)>,
}

/// The way to the task.
pub struct Notary {
    requests: mpsc::Sender<NewRecord>,
    news: mpsc::Receiver<News>,
    purse: watch::Receiver<LedgerPurse>,
    task: JoinHandle<()>,
    /// The trail is not open yet, or a record is under way.
    busy: bool,
}

impl Notary {
    /// Starts to open the trail.
    pub fn start(settings: NotarySettings) -> Self {
        let (requests, asked) = mpsc::channel(1);
        let (teller, news) = mpsc::channel(1);
        let (shown, purse) = watch::channel(LedgerPurse::default());
        let task = tokio::spawn(async move {
            // Nobody listens any more: then we are about to be stopped.
            let _ = work(settings, asked, teller, shown).await;
        });
        Self { requests, news, purse, task, busy: true }
    }

    /// Whether no record can be handed in now.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands in a record; not while [`Self::is_busy`].
    pub fn hand_in(&mut self, record: NewRecord) {
        self.busy = true;
        if self.requests.try_send(record).is_err() {
            tracing::error!("a record could not be handed in: the way to the ledger is gone");
        }
    }

    /// Waits for news, or until it is known anew what there is to pay records with. For ever, if there is neither.
    pub async fn told(&mut self) -> Told {
        tokio::select! {
            biased;
            Ok(()) = self.purse.changed() => Told::Holds(self.purse.borrow_and_update().clone()),
            Some(news) = self.news.recv() => {
                self.busy = false;
                Told::News(news)
            }
            else => std::future::pending().await,
        }
    }

    /// Waits for news. For ever, if there will be none.
    pub async fn news(&mut self) -> News {
        loop {
            if let Told::News(news) = self.told().await {
                return news;
            }
        }
    }

    /// Waits for news of the record that is under way, if one is, but not longer than until `latest`.
    pub async fn finish(&mut self, latest: Instant) -> Option<News> {
        if !self.busy {
            return None;
        }
        timeout_at(latest, self.news()).await.ok()
    }

    /// Ends the task. When this returns, the files of the ledger are free.
    pub async fn close(mut self) {
        self.task.abort();
        // It ends with the news that it was aborted.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Notary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Nobody listens any more.
struct Alone;

async fn work(
    settings: NotarySettings,
    mut asked: mpsc::Receiver<NewRecord>,
    teller: mpsc::Sender<News>,
    purse: watch::Sender<LedgerPurse>,
) -> Result<(), Alone> {
    let records_per_day = DAY / settings.interval.0.max(1);
    let tell = async |news| teller.send(news).await.map_err(|_| Alone);
    let mut backoff = Backoff::new(rand::random());
    let (mut ledger, trail) = match open(&settings, &mut backoff).await {
        Ok(opened) => opened,
        Err(error) => return tell(News::Refused(error)).await,
    };
    look_into_purse(&ledger, records_per_day, &purse).await;
    tell(News::Opened(trail)).await?;
    while let Some(record) = asked.recv().await {
        let appended = append(&mut ledger, &record, &mut backoff).await;
        if !appended.as_ref().is_err_and(LedgerError::is_transient) {
            look_into_purse(&ledger, records_per_day, &purse).await;
        }
        match appended {
            Ok(receipt) => {
                backoff.reset();
                tell(News::Added(to_message(&ledger, &settings.endpoints, &receipt))).await?;
            }
            Err(error) => {
                let wait = error.is_transient().then(|| backoff.next(error.retry_after()));
                tell(News::NotAdded(error)).await?;
                // The next record may be handed in meanwhile.
                sleep(wait.unwrap_or_default()).await;
            }
        }
    }
    Ok(())
}

/// Shows what there is to pay records with. If that cannot be known now, the last that was known stays.
async fn look_into_purse(ledger: &IotaLedger, records_per_day: u64, shown: &watch::Sender<LedgerPurse>) {
    match timeout(PURSE_WITHIN, ledger.purse()).await {
        Ok(Ok(purse)) => {
            let most = units::LARGEST.unsigned_abs();
            shown.send_replace(LedgerPurse {
                address: ledger.address().to_string(),
                balance_nanos: purse.balance.min(most),
                spent_nanos: purse.spent.min(most),
                record_nanos: purse.nanos_per_record.map(|nanos| nanos.min(most)),
                days_left: purse.days_left(records_per_day).map(|days| days.min(most)),
            });
        }
        Ok(Err(error)) => tracing::warn!(%error, "it is not known what the ledger's address holds"),
        Err(_) => tracing::warn!("no node says in time what the ledger's address holds"),
    }
}

/// Opens the trail, and tries again while the ledger cannot be reached.
async fn open(settings: &NotarySettings, backoff: &mut Backoff) -> Result<(IotaLedger, Trail), LedgerError> {
    loop {
        match try_open(settings).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "nothing is notarized for now; the log goes on");
                sleep(backoff.next(error.retry_after())).await;
            }
            opened => {
                backoff.reset();
                return opened;
            }
        }
    }
}

async fn try_open(settings: &NotarySettings) -> Result<(IotaLedger, Trail), LedgerError> {
    let endpoints = &settings.endpoints;
    let mut ledger = IotaLedger::open(&settings.folder, endpoints).await?;
    ledger.limit_cost(settings.most_nanos_per_record);
    let seal = ledger.seal().await?;
    let newest = ledger.records(seal.records.saturating_sub(1)).await?.pop().map(|record| {
        let receipt = ledger.last_receipt().filter(|receipt| receipt.sequence_number == record.sequence_number);
        (record.text, receipt.map(|receipt| to_message(&ledger, endpoints, receipt)))
    });
    let (name, description) = (seal.name.unwrap_or_default(), seal.description.unwrap_or_default());
    Ok((ledger, Trail { name, description, newest }))
}

/// Adds a record. Once it is unclear whether it is there, nothing but an answer ends the asking.
async fn append(ledger: &mut IotaLedger, record: &NewRecord, backoff: &mut Backoff) -> Result<Receipt, LedgerError> {
    let mut unclear = false;
    loop {
        match ledger.append(record).await {
            Err(error) if matches!(error, LedgerError::Unclear { .. }) || (unclear && error.is_transient()) => {
                unclear = true;
                tracing::warn!(%error, "asking the ledger again");
                sleep(backoff.next(error.retry_after())).await;
            }
            outcome => return outcome,
        }
    }
}

/// The receipt as the street is told. How many entries it vouches for is for the recorder to say.
fn to_message(ledger: &IotaLedger, endpoints: &Endpoints, receipt: &Receipt) -> LedgerReceipt {
    LedgerReceipt {
        network: endpoints.network.to_string(),
        trail: ledger.trail().to_string(),
        record: receipt.sequence_number,
        tree_size: 0,
        transaction: receipt.transaction.to_string(),
        added_ms: UnixMillis(receipt.added_ms),
        explorer: endpoints.transaction_page(receipt.transaction),
    }
}
