//! The thread that works with the disk.

use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use grid_durable::{Durable, Stop};
use grid_protocol::units::BootTime;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::job::{Job, Outcome};
use super::keeping::Outbox;
use super::store::Store;

/// Does an outbox's jobs, one at a time, while control goes on.
pub struct Worker {
    jobs: SyncSender<Job>,
    /// At most one waits here.
    outcomes: UnboundedReceiver<Outcome>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// A thread for the outbox in this folder.
    pub fn start(folder: &Path) -> io::Result<Self> {
        let folder = folder.to_owned();
        Self::with(Store::new(move || Durable::open(&folder, Stop::never())))
    }

    fn with(mut store: Store) -> io::Result<Self> {
        // The outbox gives a job only when the one before is done.
        let (jobs, to_do) = sync_channel::<Job>(1);
        let (done, outcomes) = unbounded_channel();
        let work = move || {
            for job in to_do {
                if done.send(store.perform(job)).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("outbox".to_owned()).spawn(work)?;
        Ok(Self { jobs, outcomes, thread })
    }

    /// Brings what was done, and takes what is to be done next. Never waits. To be called often.
    pub fn drive(&mut self, outbox: &mut Outbox, now: BootTime) {
        let ended = || Outcome::Failed { why: "the outbox's thread has ended".to_owned() };
        match self.outcomes.try_recv() {
            Ok(outcome) => outbox.done(outcome, now),
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => outbox.done(ended(), now),
        }
        if let Some(job) = outbox.next_job(now)
            && self.jobs.try_send(job).is_err()
        {
            outbox.done(ended(), now);
        }
    }

    /// Takes no more jobs. The folder is free when the thread has ended.
    pub fn end(self) -> JoinHandle<()> {
        self.thread
    }
}
