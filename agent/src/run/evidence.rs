//! The outbox with its disk, and who asks about it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use grid_protocol::message::Event;
use grid_protocol::units::{BootTime, Millis};
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::outbox::{Around, Bounds, DiskEvent, Outbox, Report, Worker, Worth};

/// The socket in the outbox's folder.
pub const SOCKET: &str = "status.socket";
/// At the start, how long the disk may take to tell what the last session was. Control does not begin before.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// At the end, how long the disk may take.
const LAST_WRITES: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Who asks waits so long at most for somebody who does not read.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// That setpoints, events or statuses are lost is said this often.
const SAY_LOST: Millis = Millis(60_000);
/// Memory for messages that wait for an ack, unless it is configured otherwise.
pub const MEMORY_BYTES: usize = 1024 * 1024;
/// The same on disk, for a device.
pub const DEVICE_DISK_BYTES: u64 = 256 * 1024 * 1024;
/// The same on disk, for a transformer.
pub const TRANSFORMER_DISK_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Where messages wait for an ack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxSettings {
    /// A folder of this agent's own. `None`: in memory only.
    pub dir: Option<PathBuf>,
    /// How many bytes in memory.
    pub memory_bytes: usize,
    /// How many bytes on disk.
    pub disk_bytes: u64,
}

impl OutboxSettings {
    /// In memory only.
    pub fn in_memory() -> Self {
        Self { dir: None, memory_bytes: MEMORY_BYTES, disk_bytes: 0 }
    }

    /// In memory, and in this folder.
    pub fn on_disk(dir: PathBuf, disk_bytes: u64) -> Self {
        Self { dir: Some(dir), memory_bytes: MEMORY_BYTES, disk_bytes }
    }
}

/// Somebody waits for a report.
type Question = oneshot::Sender<Report>;

/// The outbox, and the thread that works with its disk.
pub struct Evidence {
    pub outbox: Outbox,
    folder: Option<PathBuf>,
    worker: Option<Worker>,
    desk: Option<Desk>,
    lost_said: Option<BootTime>,
}

impl Evidence {
    /// Takes up what the folder holds. The thread opens it. If that takes long, the agent begins without knowing what was
    /// said before, and takes it up when it is there.
    pub async fn open(settings: &OutboxSettings, name: &str, now: impl Fn() -> BootTime) -> Self {
        let OutboxSettings { dir, memory_bytes, disk_bytes } = settings;
        let worker = dir.as_deref().and_then(|dir| {
            let started = Worker::start(dir);
            started.map_err(|error| tracing::warn!(device = name, %error, "no thread for the outbox's disk")).ok()
        });
        if worker.is_none() {
            tracing::warn!(device = name, "messages wait for the anchor in memory only: a restart loses them");
        }
        let disk_bytes = worker.is_some().then_some(*disk_bytes);
        let bounds = Bounds { memory_bytes: *memory_bytes, disk_bytes };
        let (outbox, folder) = (Outbox::new(bounds), dir.clone());
        let mut evidence = Self { outbox, folder, worker, desk: None, lost_said: None };
        let opened = async {
            while evidence.outbox.is_opening() {
                evidence.work(now());
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(FIRST_LOOK, opened).await.is_err() {
            tracing::warn!(device = name, "the outbox's disk takes long: the agent begins without it");
        }
        evidence
    }

    fn work(&mut self, now: BootTime) {
        if let Some(worker) = &mut self.worker {
            worker.drive(&mut self.outbox, now);
        }
    }

    /// Lets the disk work, and answers who asks. Returns what is to be told of the disk. Never waits; to be called often.
    pub fn drive(&mut self, now: BootTime, around: impl FnOnce() -> Around) -> Vec<Event> {
        self.work(now);
        self.say_what_is_lost(now);
        if let (None, Some(folder), true) = (&self.desk, &self.folder, self.outbox.has_opened()) {
            self.desk = Some(Desk::open(folder));
        }
        if let Some(question) = self.desk.as_mut().and_then(|desk| desk.questions.try_recv().ok()) {
            // Who no longer waits needs no answer.
            let _ = question.send(self.outbox.report(around()));
        }
        let events = self.outbox.disk_events().into_iter();
        events
            .map(|event| match event {
                DiskEvent::Failed(why) => Event::OutboxDiskFailed { why },
                DiskEvent::Recovered => Event::OutboxDiskRecovered {},
            })
            .collect()
    }

    /// Measurements may go. What is worth more should not have had to.
    fn say_what_is_lost(&mut self, now: BootTime) {
        let Some(worth) = self.outbox.take_given_up().filter(|worth| *worth > Worth::Measurement) else { return };
        if self.lost_said.is_none_or(|said| now.since(said) >= SAY_LOST) {
            self.lost_said = Some(now);
            let what = if worth == Worth::Setpoint { "setpoints" } else { "setpoints, events or statuses" };
            tracing::error!("the outbox is full, and nothing acknowledges: {what} are given up and lost for the log");
        }
    }

    /// Whether something waits only in memory.
    pub fn is_at_risk(&self) -> bool {
        match &self.worker {
            Some(_) => self.outbox.in_memory() > 0,
            None => !self.outbox.is_empty(),
        }
    }

    /// Whether what is left in memory can go to disk.
    pub fn has_disk(&self) -> bool {
        self.worker.is_some()
    }

    /// Writes what waits to disk, and lets go of the folder.
    pub async fn close(mut self, now: impl Fn() -> BootTime) {
        let Some(mut worker) = self.worker.take() else { return };
        self.outbox.close();
        let wait = async {
            while !self.outbox.is_closed() {
                worker.drive(&mut self.outbox, now());
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(LAST_WRITES, wait).await.is_err() {
            tracing::warn!("the outbox's disk takes too long: what is only in memory is lost with this agent");
        }
        // The socket goes first: once the folder is free, it is the next agent's.
        if let Some(desk) = self.desk.take() {
            desk.close().await;
        }
        ended(worker.end()).await;
    }
}

/// Waits for a thread that works with the disk. One that hangs does not keep the agent from ending.
async fn ended(thread: thread::JoinHandle<()>) {
    let ended = async {
        while !thread.is_finished() {
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(LAST_WRITES, ended).await.is_err() {
        tracing::warn!("the outbox's disk hangs: the agent ends without it");
    }
}

/// Where `grid-agent status` asks.
struct Desk {
    questions: mpsc::Receiver<Question>,
    task: JoinHandle<()>,
    socket: PathBuf,
}

impl Desk {
    /// Opens the socket, on a thread of its own: control does not wait for the disk. Without it nobody can ask, and all
    /// else goes on.
    fn open(folder: &Path) -> Self {
        let (sender, questions) = mpsc::channel(4);
        let socket = folder.join(SOCKET);
        let (opened, listening) = oneshot::channel();
        let path = socket.clone();
        // Where nobody waits for it any more, it is closed again.
        let opening = move || drop(opened.send(listen(&path)));
        let thread = thread::Builder::new().name("status socket".to_owned()).spawn(opening);
        let path = socket.clone();
        let task = tokio::spawn(async move {
            let listening = async {
                thread?;
                let listener = listening.await.map_err(io::Error::other)??;
                UnixListener::from_std(listener)
            };
            match listening.await {
                Ok(listener) => answer(listener, sender).await,
                Err(error) => {
                    tracing::warn!(socket = %path.display(), %error, "grid-agent status cannot ask this agent");
                }
            }
        });
        Self { questions, task, socket }
    }

    /// Answers nobody any more.
    async fn close(self) {
        self.task.abort();
        // One that is left behind answers nobody.
        let remove = move || drop(std::fs::remove_file(&self.socket));
        if let Ok(thread) = thread::Builder::new().name("status socket".to_owned()).spawn(remove) {
            ended(thread).await;
        }
    }
}

/// A socket for its owner alone: it has its place only when it has its mode.
fn listen(socket: &Path) -> io::Result<net::UnixListener> {
    let unfinished = socket.with_extension("unfinished");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = net::UnixListener::bind(&unfinished)?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(&unfinished, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&unfinished, socket)?;
    Ok(listener)
}

async fn answer(listener: UnixListener, questions: mpsc::Sender<Question>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, most likely.
            sleep(ANSWER_WITHIN).await;
            continue;
        };
        let (question, report) = oneshot::channel();
        if questions.send(question).await.is_err() {
            return;
        }
        let Ok(report) = report.await else { return };
        // Whoever asks and does not read keeps nobody else waiting for long.
        let _ = timeout(ANSWER_WITHIN, tell(stream, &report)).await;
    }
}

async fn tell(mut stream: UnixStream, report: &Report) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(report)?).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::look;
    use grid_durable::{Durable, Stop};
    use grid_protocol::author::Signed;
    use grid_protocol::message::Session;
    use grid_protocol::topic::Name;
    use grid_protocol::units::UnixMillis;
    use grid_service::clock::boot_now;
    use std::process::Command;
    use std::time::Instant;

    fn name() -> Name {
        "cp-1".parse().unwrap()
    }

    fn drive(evidence: &mut Evidence) {
        let around =
            || Around { name: name(), is_running: true, broker_is_there: true, anchor_is_there: false, view: None };
        evidence.drive(boot_now(), around);
    }

    async fn open(folder: &Path, session: u64) -> Evidence {
        let settings = OutboxSettings::on_disk(folder.to_owned(), DEVICE_DISK_BYTES);
        let mut evidence = Evidence::open(&settings, "cp-1", boot_now).await;
        evidence.outbox.begin(Session(session));
        evidence
    }

    async fn answering(evidence: &mut Evidence, folder: &Path) {
        let began = Instant::now();
        while !folder.join(SOCKET).exists() {
            assert!(began.elapsed() < Duration::from_secs(20));
            drive(evidence);
            sleep(LOOK_EVERY).await;
        }
    }

    fn say(evidence: &mut Evidence, seq: u64) {
        let topic = "grid/demo/cp-1/status".parse().unwrap();
        let signed = Signed { topic, seq: Some(seq), payload: b"goodbye".to_vec() };
        evidence.outbox.keep(Session(7), &signed, boot_now(), UnixMillis(1_800_000_000_000));
    }

    #[tokio::test]
    async fn what_is_said_last_is_on_disk_and_the_folder_is_free_when_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = open(folder.path(), 7).await;
        answering(&mut evidence, folder.path()).await;
        (1..=3).for_each(|seq| say(&mut evidence, seq));
        evidence.close(boot_now).await;
        assert!(!folder.path().join(SOCKET).exists());
        let before = std::fs::read(folder.path().join("state.json")).unwrap();
        assert_eq!(look(folder.path(), &name()).unwrap().disk.messages, 3);
        assert_eq!(std::fs::read(folder.path().join("state.json")).unwrap(), before, "looking changes nothing");
        let next = open(folder.path(), 8).await;
        let previous = next.outbox.previous().unwrap();
        assert_eq!((previous.session, previous.seq), (Session(7), 3));
    }

    #[tokio::test]
    async fn the_socket_of_the_next_agent_is_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut evidence = open(folder.path(), 7).await;
        answering(&mut evidence, folder.path()).await;
        let path = folder.path().to_owned();
        let next = thread::spawn(move || {
            let began = Instant::now();
            let folder = loop {
                match Durable::open(&path, Stop::never()) {
                    Ok(folder) => break folder,
                    Err(error) => assert!(began.elapsed() < Duration::from_secs(20), "{error}"),
                }
            };
            std::fs::write(path.join(SOCKET), "the next").unwrap();
            folder
        });
        evidence.close(boot_now).await;
        let _folder = next.join().unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join(SOCKET)).unwrap(), "the next");
    }

    #[tokio::test]
    async fn a_disk_that_hangs_holds_back_neither_the_beginning_nor_control() {
        let folder = tempfile::tempdir().unwrap();
        // Reading it waits until somebody writes, which nobody does.
        assert!(Command::new("mkfifo").arg(folder.path().join("state.json")).status().unwrap().success());
        let opening = timeout(Duration::from_secs(60), open(folder.path(), 7));
        let mut evidence = opening.await.expect("it begins all the same");
        assert!(evidence.outbox.previous().is_none() && evidence.outbox.is_opening());
        say(&mut evidence, 1);
        drive(&mut evidence);
        assert_eq!(evidence.outbox.in_memory(), 1);
    }
}
