//! What is due for the ledger, and what is under way there.

use std::time::Duration;

use grid_ledger::{NewRecord, Remedy};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{AnchorError, Command};
use crate::notary::{News, Notary, NotarySettings, Told};
use crate::schedule::Schedule;

/// Where there is no ledger, no record is due.
const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The notary, and when it is given what.
pub(super) struct Records {
    notary: Option<Notary>,
    schedule: Schedule,
    /// The text of the record under way.
    text: String,
    /// The recorder was asked for a record.
    wanted: Option<oneshot::Receiver<Option<NewRecord>>>,
}

impl Records {
    /// Starts the notary, if there is to be one.
    pub(super) fn start(settings: Option<NotarySettings>) -> Self {
        let (interval, on_event) = match &settings {
            Some(settings) => (Duration::from_millis(settings.interval.0.max(1)), settings.on_event),
            None => (NEVER, false),
        };
        let schedule = Schedule::new(interval, on_event, Instant::now());
        Self { notary: settings.map(Notary::start), schedule, text: String::new(), wanted: None }
    }

    /// Something has happened that is to be on the ledger soon.
    pub(super) fn hurry(&mut self) {
        self.schedule.hurry();
    }

    /// Nothing is added any more.
    pub(super) fn stop(&mut self) {
        (self.notary, self.wanted) = (None, None);
    }

    /// When the recorder is to be asked for a record.
    pub(super) fn due(&self) -> Instant {
        self.schedule.due()
    }

    /// Ends the task. When this returns, the files of the ledger are free.
    pub(super) async fn close(self) {
        if let Some(notary) = self.notary {
            notary.close().await;
        }
    }

    /// Whether a record could be handed in.
    pub(super) fn may_ask(&self) -> bool {
        self.wanted.is_none() && self.notary.as_ref().is_some_and(|notary| !notary.is_busy())
    }

    /// Asks the recorder for a record.
    pub(super) fn ask(&mut self) -> Command {
        self.schedule.asked(Instant::now());
        let (answer, wanted) = oneshot::channel();
        self.wanted = Some(wanted);
        Command::Record(answer)
    }

    fn hand_in(&mut self, record: NewRecord) {
        if let Some(notary) = &mut self.notary {
            self.schedule.handed_in(Instant::now());
            self.text.clone_from(&record.text);
            notary.hand_in(record);
        }
    }

    /// Waits for a record that was asked for and hands it in, and for what becomes of it.
    pub(super) async fn next(&mut self) -> Result<Command, AnchorError> {
        if let Some(wanted) = &mut self.wanted {
            let record = wanted.await;
            self.wanted = None;
            if let Ok(Some(record)) = record {
                self.hand_in(record);
            }
        }
        let Some(notary) = &mut self.notary else { return std::future::pending().await };
        match notary.told().await {
            Told::News(news) => self.tell(news),
            Told::Holds(purse) => Ok(Command::Holds(purse)),
        }
    }

    /// Waits for news of the record that is under way, if one is, but not longer than until `latest`.
    pub(super) async fn finish(&mut self, latest: Instant) -> Option<Result<Command, AnchorError>> {
        let news = self.notary.as_mut()?.finish(latest).await?;
        Some(self.tell(news))
    }

    /// Adds the last record, if the ledger answers in time. Says whether it did.
    pub(super) async fn add_last(&mut self, record: NewRecord, latest: Instant) -> bool {
        if self.notary.as_ref().is_none_or(Notary::is_busy) {
            return self.notary.is_none();
        }
        self.hand_in(record);
        matches!(self.finish(latest).await, Some(Ok(Command::Notarized(..))))
    }

    fn tell(&mut self, news: News) -> Result<Command, AnchorError> {
        let text = std::mem::take(&mut self.text);
        match news {
            News::Opened(trail) => Ok(Command::Tie(trail)),
            News::Added(receipt) => {
                tracing::info!(record = receipt.record, explorer = receipt.explorer, "on the ledger");
                Ok(Command::Notarized(text, receipt))
            }
            News::NotAdded(error) => {
                tracing::warn!(%error, "not on the ledger; the next record covers it");
                self.schedule.failed(error.is_transient(), Instant::now());
                Ok(Command::NotNotarized((error.remedy() == Remedy::Person).then(|| error.to_string())))
            }
            News::Refused(error) if error.is_ours() => Err(AnchorError::Ledger(error)),
            // What somebody else did to the trail must not keep us from logging.
            News::Refused(error) => {
                tracing::error!(%error, "nothing is notarized until that is mended and the anchor started again");
                self.stop();
                Ok(Command::NotNotarized(Some(error.to_string())))
            }
        }
    }
}
