//! The running anchor: a connection to the broker on one side, the recorder on a thread of its own on the other.
//!
//! The recorder waits for the disk, so it must not share a thread with anything that controls. Commands go to it and
//! messages to publish come back over channels, in order. If [`run`]'s future is dropped, the recorder is stopped before
//! its next step on disk and has let go of the folder when the drop returns: as a kill would, only tidier.
//!
//! A disk that is full ends the recorder and the connection, but not the anchor: once there is room it starts anew from
//! what is durable.

mod records;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use grid_ledger::{LedgerError, NewRecord};
use grid_protocol::message::{LedgerPurse, LedgerReceipt, Session};
use grid_protocol::units::{BootTime, Millis};
use grid_service::broker::Broker;
use grid_service::clock::{boot_now, unix_now};
use grid_service::link::{Incoming, Link, Loss, Received, Will};
use grid_service::systemd::Systemd;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::http::{Http, HttpError};
use crate::intake::{Arrival, Now};
use crate::notary::{NotarySettings, Trail};
use crate::recorder::{AnchorIdentity, Outgoing, Progress, Recorder, RecorderError, enough_bytes};
use crate::settings::Settings;
use grid_durable::{Disk, Stop, SystemDisk};
use records::Records;

/// How many commands may wait for the recorder; then the broker waits.
const QUEUE: usize = 1024;
/// How often the recorder looks at the time if nothing comes.
const TICK: Duration = Duration::from_millis(50);
/// How long the recorder may take to write the last checkpoint.
const FINISH_WITHIN: Duration = Duration::from_secs(60);
/// How long to wait before looking whether a full disk has room again.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);
const LOOK_FOR_ROOM_AT_MOST: Duration = Duration::from_secs(30);
/// What ran for so long had room.
const HAS_RECOVERED: Millis = Millis(60_000);
/// How long the end waits for the last record on the ledger.
const LAST_RECORD_WITHIN: Duration = Duration::from_secs(10);

/// Why the anchor ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// The log cannot be opened or written.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// The log cannot be served.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The trail cannot be used, for a reason that is here and not on the ledger.
    #[error("the ledger cannot be used: {0}")]
    Ledger(LedgerError),
    /// No thread for the recorder.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The recorder ended without saying why, or does not end.
    #[error("the log could not be closed in order; the next start goes on from what is durable")]
    NotClosed,
}

impl AnchorError {
    fn is_disk_full(&self) -> bool {
        matches!(self, Self::Recorder(error) if error.is_disk_full())
    }
}

/// What a run of the anchor did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How far the log is.
    pub progress: Progress,
    /// The log's public key.
    pub vkey: String,
}

enum Command {
    Dialing(oneshot::Sender<Will>),
    Connected,
    Lost,
    Message(Received),
    Tick,
    /// A record is due for the ledger. `None`: nothing has happened since the last.
    Record(oneshot::Sender<Option<NewRecord>>),
    /// The trail is open.
    Tie(Trail),
    /// The record with this text is on the ledger.
    Notarized(String, LedgerReceipt),
    /// A record is not on the ledger, and no other will be until somebody does this, if anything.
    NotNotarized(Option<String>),
    /// There is so much to pay records with.
    Holds(LedgerPurse),
    Finish(oneshot::Sender<Finished>),
}

/// What the recorder wants from the broker.
enum Wanted {
    Publish(Outgoing),
    /// To hear again what the broker keeps.
    Retained,
    /// That a record is added to the ledger soon.
    Record,
    /// That none is added any more.
    NoRecords,
}

/// The recorder's last words.
struct Finished {
    goodbye: Outgoing,
    record: Option<NewRecord>,
    summary: Summary,
}

/// Runs the anchor until `shutdown` resolves; then says goodbye and puts everything under a last checkpoint, also on the
/// ledger if there is one. `progress` is kept up to date meanwhile. `identity` and `broker` are what [`Settings::resolve`]
/// makes of the settings.
pub async fn run(
    settings: Settings,
    identity: AnchorIdentity,
    broker: Broker,
    notary: Option<NotarySettings>,
    progress: watch::Sender<Progress>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, AnchorError> {
    let mut http = match &settings.http {
        Some(http) => Some(Http::bind(http, settings.data_dir.clone()).await?),
        None => None,
    };
    // From when it is open on, the log is served until the end of this function.
    let mut _serving = None;
    tokio::pin!(shutdown);
    let mut full_since = None;
    let mut wait = LOOK_FOR_ROOM;
    let mut systemd = Systemd::of_this_process();
    loop {
        let ending = AtomicBool::new(false);
        let began = boot_now();
        let ended = async {
            let start = Worker::start(&settings, notary.is_some(), identity.clone(), progress.clone(), full_since);
            let worker = tokio::select! {
                worker = start => worker?,
                never = stay_alive(&mut systemd) => match never {},
            };
            if let Some(http) = http.take() {
                _serving = Some(http.serve(progress.subscribe()));
            }
            systemd.ready(&format!("connecting to the broker at {broker}"));
            let shutdown = async {
                shutdown.as_mut().await;
                ending.store(true, Ordering::Relaxed);
            };
            run_until_full(&settings, &broker, worker, notary.clone(), &mut systemd, shutdown).await
        };
        let error = match ended.await {
            Err(error) if error.is_disk_full() && !ending.load(Ordering::Relaxed) => error,
            ended => return ended,
        };
        tracing::error!(%error, "the disk is full: nothing is logged until there is room");
        // Also if it was so at the start: it does what can be done now.
        systemd.ready("the disk is full: nothing is logged until there is room");
        if boot_now().since(began) > HAS_RECOVERED {
            (full_since, wait) = (None, LOOK_FOR_ROOM);
        }
        full_since.get_or_insert_with(boot_now);
        tokio::select! {
            () = shutdown.as_mut() => return Err(error),
            () = room(&settings, wait) => {}
            never = stay_alive(&mut systemd) => match never {},
        }
        wait = (wait * 2).min(LOOK_FOR_ROOM_AT_MOST);
    }
}

/// Keeps the watchdog from biting while there is no recorder that does.
async fn stay_alive(systemd: &mut Systemd) -> Infallible {
    loop {
        systemd.alive();
        sleep(TICK).await;
    }
}

/// Waits until the disk has room for more than the least that must be free.
async fn room(settings: &Settings, wait: Duration) {
    let enough = enough_bytes(settings.log.min_free_mb);
    loop {
        sleep(wait).await;
        // What cannot be told here is told by the attempt to write.
        if SystemDisk.free_bytes(&settings.data_dir).is_ok_and(|free| free >= enough) {
            return;
        }
    }
}

async fn run_until_full(
    settings: &Settings,
    broker: &Broker,
    mut worker: Worker,
    notary: Option<NotarySettings>,
    systemd: &mut Systemd,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, AnchorError> {
    let mut records = Records::start(notary);
    let (link, mut incoming) = Link::open(broker, &settings.name, vec![format!("grid/{}/#", settings.site)]);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    let mut wants_retained = false;
    loop {
        // If that does not go now, it goes later.
        wants_retained = wants_retained && link.subscribe_again().is_err();
        let due = records.due();
        let command = tokio::select! {
            biased;
            () = &mut shutdown => break,
            wanted = worker.wanted.recv() => match wanted {
                Some(Wanted::Publish(outgoing)) => {
                    publish(&link, outgoing);
                    continue;
                }
                Some(Wanted::Retained) => {
                    wants_retained = true;
                    continue;
                }
                Some(Wanted::Record) => {
                    records.hurry();
                    continue;
                }
                Some(Wanted::NoRecords) => {
                    records.stop();
                    continue;
                }
                None => return Err(worker.reason()),
            },
            told = records.next() => told?,
            () = sleep_until(due), if records.may_ask() => records.ask(),
            happened = incoming.recv() => match happened {
                Some(happened) => {
                    systemd_hears(systemd, &happened, broker);
                    command(happened)
                }
                None => return Err(AnchorError::NotClosed),
            },
            _ = ticks.tick() => Command::Tick,
        };
        if worker.commands.send(command).await.is_err() {
            return Err(worker.reason());
        }
    }
    systemd.stopping();
    let latest = Instant::now() + LAST_RECORD_WITHIN;
    if let Some(Ok(told)) = records.finish(latest).await {
        // If the recorder is gone, the next lines say why.
        worker.commands.send(told).await.ok();
    }
    let (answer, finished) = oneshot::channel();
    if worker.commands.send(Command::Finish(answer)).await.is_err() {
        return Err(worker.reason());
    }
    let finished = timeout(FINISH_WITHIN, finished).await.map_err(|_| AnchorError::NotClosed)?;
    let Ok(Finished { goodbye, record, summary }) = finished else { return Err(worker.reason()) };
    while let Ok(wanted) = worker.wanted.try_recv() {
        match wanted {
            Wanted::Publish(outgoing) => publish(&link, outgoing),
            // The next start does, and the last record is added anyway.
            Wanted::Retained | Wanted::Record | Wanted::NoRecords => {}
        }
    }
    publish(&link, goodbye);
    link.close().await;
    if let Some(record) = record
        && !records.add_last(record, latest).await
    {
        tracing::warn!("the last checkpoint is not on the ledger; the first record after the next start covers it");
    }
    records.close().await;
    Ok(summary)
}

fn systemd_hears(systemd: &mut Systemd, happened: &Incoming, broker: &Broker) {
    match happened {
        Incoming::Connected => systemd.status(&format!("connected to the broker at {broker}")),
        Incoming::Lost(Loss::ThrownOut) => systemd.status("somebody else connected to the broker under this name"),
        Incoming::Lost(Loss::Broken(why)) => systemd.status(&format!("no connection to the broker at {broker}: {why}")),
        Incoming::Dialing(_) | Incoming::Message(_) => {}
    }
}

fn command(happened: Incoming) -> Command {
    match happened {
        Incoming::Dialing(answer) => Command::Dialing(answer),
        Incoming::Connected => {
            tracing::info!("connected to the broker");
            Command::Connected
        }
        Incoming::Message(received) => Command::Message(received),
        Incoming::Lost(Loss::ThrownOut) => {
            tracing::warn!("somebody else connected under this anchor's name; trying again in half a minute");
            Command::Lost
        }
        Incoming::Lost(Loss::Broken(why)) => {
            tracing::warn!(why, "no connection to the broker");
            Command::Lost
        }
    }
}

/// What cannot be sent is not lost: it is in the log, acknowledgements are repeated when asked for, and the newest
/// checkpoint is said at the next connect.
fn publish(link: &Link, outgoing: Outgoing) {
    let Outgoing { topic, payload, delivery } = outgoing;
    if let Err(why) = link.publish(&topic, payload, delivery) {
        tracing::debug!(topic, %why, "not published");
    }
}

/// The recorder's thread, and the channels to and from it.
struct Worker {
    commands: mpsc::Sender<Command>,
    wanted: mpsc::UnboundedReceiver<Wanted>,
    failed: std::sync::mpsc::Receiver<RecorderError>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    async fn start(
        settings: &Settings,
        has_ledger: bool,
        identity: AnchorIdentity,
        progress: watch::Sender<Progress>,
        full_since: Option<BootTime>,
    ) -> Result<Self, AnchorError> {
        let stop = Stop::never();
        let (commands, queue) = mpsc::channel(QUEUE);
        let (wants, wanted) = mpsc::unbounded_channel();
        let (failure, failed) = std::sync::mpsc::channel();
        let (opened, is_open) = oneshot::channel();
        let (data_dir, its_stop) = (settings.data_dir.clone(), stop.clone());
        let mut recorder_settings = settings.recorder();
        recorder_settings.retention.ledger |= has_ledger;
        let work = move || {
            let session = Session(rand::random());
            let recorder = Recorder::open(&data_dir, recorder_settings, identity, session, its_stop, now());
            let ended = recorder.and_then(|mut recorder| {
                if let Some(since) = full_since {
                    recorder.was_full(since);
                }
                tracing::info!(vkey = recorder.vkey(), entries = recorder.progress().entries, "the log is open");
                // Nobody waits for this any more if the anchor was stopped meanwhile.
                opened.send(()).ok();
                record(recorder, queue, &wants, &progress)
            });
            if let Err(error) = ended {
                // Likewise.
                failure.send(error).ok();
            }
        };
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(work).map_err(AnchorError::Thread)?;
        let worker = Self { commands, wanted, failed, stop, thread: Some(thread) };
        match is_open.await {
            Ok(()) => Ok(worker),
            Err(_) => Err(worker.reason()),
        }
    }

    /// Why the thread ended.
    fn reason(mut self) -> AnchorError {
        self.join();
        self.failed.try_recv().map_or(AnchorError::NotClosed, AnchorError::Recorder)
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the recorder panicked");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.now();
        // The thread waits for commands: without a sender it ends.
        self.commands = mpsc::channel(1).0;
        self.join();
    }
}

fn now() -> Now {
    Now { unix: unix_now(), boot: boot_now() }
}

/// The thread: takes commands in batches until nobody sends any more.
fn record(
    mut recorder: Recorder,
    mut queue: mpsc::Receiver<Command>,
    wants: &mpsc::UnboundedSender<Wanted>,
    progress: &watch::Sender<Progress>,
) -> Result<(), RecorderError> {
    let mut batch = Vec::new();
    let mut messages = Vec::new();
    let mut systemd = Systemd::of_this_process();
    // A receiver that is gone means that we are about to be stopped.
    let publish = |outgoing| wants.send(Wanted::Publish(outgoing)).unwrap_or(());
    while queue.blocking_recv_many(&mut batch, QUEUE) > 0 {
        for command in batch.drain(..) {
            if !matches!(command, Command::Message(_)) {
                take_in(&mut recorder, &mut messages)?;
            }
            match command {
                Command::Dialing(answer) => {
                    let will = recorder.will(now())?;
                    // The connection may have been given up meanwhile.
                    answer.send(will).ok();
                }
                Command::Connected => recorder.connected(now())?.into_iter().for_each(publish),
                Command::Lost => recorder.lost(),
                Command::Message(received) => messages.push(received),
                Command::Tick => {}
                // Whoever asks may have been stopped meanwhile.
                Command::Record(answer) => answer.send(recorder.record_for_ledger(now())?).unwrap_or(()),
                Command::Tie(trail) => match recorder.tie(trail) {
                    // Somebody else's record must not keep us from logging.
                    Err(error @ RecorderError::NewestRecord(_)) => {
                        tracing::error!(%error, "nothing is notarized");
                        recorder.not_notarized(Some(error.to_string()));
                        wants.send(Wanted::NoRecords).unwrap_or(());
                    }
                    tied => tied?,
                },
                Command::Notarized(text, receipt) => {
                    recorder.notarized(&text, receipt, now())?.into_iter().for_each(publish);
                }
                Command::NotNotarized(why) => recorder.not_notarized(why),
                Command::Holds(purse) => recorder.holds(purse),
                Command::Finish(answer) => {
                    let (goodbye, record) = recorder.finish(now())?;
                    progress.send_replace(recorder.progress());
                    let summary = Summary { progress: recorder.progress(), vkey: recorder.vkey().to_owned() };
                    // The folder is free when the caller hears of it.
                    drop(recorder);
                    answer.send(Finished { goodbye, record, summary }).ok();
                    return Ok(());
                }
            }
        }
        take_in(&mut recorder, &mut messages)?;
        recorder.settle(now())?.into_iter().for_each(publish);
        if recorder.wants_retained() {
            wants.send(Wanted::Retained).unwrap_or(());
        }
        if recorder.wants_record() {
            wants.send(Wanted::Record).unwrap_or(());
        }
        progress.send_replace(recorder.progress());
        // Ticks come all the time: a disk that hangs, or a main loop that does, is noticed.
        systemd.alive();
    }
    Ok(())
}

/// Hands over what came one after the other: together that costs much less.
fn take_in(recorder: &mut Recorder, messages: &mut Vec<Received>) -> Result<(), RecorderError> {
    let arrivals = messages.iter().map(|Received { topic, payload, retained, .. }| Arrival {
        topic,
        payload,
        retained: *retained,
    });
    let arrivals: Vec<Arrival> = arrivals.collect();
    recorder.receive_all(&arrivals, now())?;
    messages.clear();
    Ok(())
}
