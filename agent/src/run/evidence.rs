//! The outbox with its disk, and who asks about it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grid_protocol::message::Event;
use grid_protocol::units::BootTime;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::outbox::{Around, Bounds, DiskEvent, Outbox, Report, Worker, state};

/// The socket in the outbox's folder.
pub const SOCKET: &str = "status.socket";
/// At the end, how long the disk may take.
const LAST_WRITES: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Who asks waits so long at most for somebody who does not read.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
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
}

impl Evidence {
    /// Takes up what the folder holds. The disk is opened by the thread, so that nothing waits for it.
    pub fn open(settings: &OutboxSettings, name: &str) -> Self {
        let OutboxSettings { dir, memory_bytes, disk_bytes } = settings;
        let worker = dir.as_deref().and_then(|dir| {
            let started = Worker::start(dir);
            started.map_err(|error| tracing::warn!(device = name, %error, "no thread for the outbox's disk")).ok()
        });
        if worker.is_none() {
            tracing::warn!(device = name, "messages wait for the anchor in memory only: a restart loses them");
        }
        let disk_bytes = worker.is_some().then_some(*disk_bytes);
        let kept = dir.as_deref().and_then(state);
        let bounds = Bounds { memory_bytes: *memory_bytes, disk_bytes };
        Self { outbox: Outbox::new(bounds, kept.as_ref()), folder: dir.clone(), worker, desk: None }
    }

    /// Lets the disk work, and answers who asks. Returns what is to be told of the disk. Never waits; to be called often.
    pub fn drive(&mut self, now: BootTime, around: impl FnOnce() -> Around) -> Vec<Event> {
        if let Some(worker) = &mut self.worker {
            worker.drive(&mut self.outbox, now);
        }
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
        if tokio::time::timeout(LAST_WRITES, wait).await.is_err() {
            tracing::warn!("the outbox's disk takes too long: what is only in memory is lost with this agent");
        }
        let thread = worker.end();
        let wait = async {
            while !thread.is_finished() {
                sleep(LOOK_EVERY).await;
            }
        };
        // A disk that hangs does not keep the agent from ending.
        let _ = tokio::time::timeout(LAST_WRITES, wait).await;
    }
}

/// Where `grid-agent status` asks.
struct Desk {
    questions: mpsc::Receiver<Question>,
    task: Option<JoinHandle<()>>,
    socket: PathBuf,
}

impl Desk {
    /// Opens the socket. Without it nobody can ask, and all else goes on.
    fn open(folder: &Path) -> Self {
        let (sender, questions) = mpsc::channel(4);
        let socket = folder.join(SOCKET);
        let listening = listen(&socket).map_err(|error| {
            tracing::warn!(socket = %socket.display(), %error, "grid-agent status cannot ask this agent");
        });
        let task = listening.ok().map(|listener| tokio::spawn(answer(listener, sender)));
        Self { questions, task, socket }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // One that is left behind answers nobody.
            let _ = std::fs::remove_file(&self.socket);
        }
    }
}

/// A socket for its owner alone: it has its place only when it has its mode.
fn listen(socket: &Path) -> io::Result<UnixListener> {
    let unfinished = socket.with_extension("unfinished");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&unfinished)?;
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
        let _ = tokio::time::timeout(ANSWER_WITHIN, tell(stream, &report)).await;
    }
}

async fn tell(mut stream: UnixStream, report: &Report) -> io::Result<()> {
    stream.write_all(&serde_json::to_vec(report)?).await?;
    stream.shutdown().await
}
