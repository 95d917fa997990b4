//! As many messages as go, from some publishers to some subscribers.
//!
//! Publishers send as fast as the broker reads them, but keep no more than a window under way, so that what is measured
//! is what arrives, and nobody has to drop anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::{PATIENCE, Packets, connect, packet_ids, puback, publish, subscribe};

pub const PAYLOAD: usize = 200;
/// Messages in one write.
const TOGETHER: usize = 50;

/// What is sent, and to whom.
#[derive(Clone)]
pub struct Flood {
    /// What each publisher publishes to in turn.
    pub publishers: Vec<Vec<String>>,
    /// What each subscriber subscribes to.
    pub subscribers: Vec<Vec<String>>,
    /// How many subscribers get each message.
    pub copies: usize,
    pub qos: u8,
    /// Of all publishers together.
    pub messages: usize,
    /// Messages under way.
    pub window: usize,
}

/// How far it got, in deliveries.
struct Progress {
    all: usize,
    sent: AtomicUsize,
    delivered: AtomicUsize,
    moved: Notify,
    finished: Notify,
}

/// Deliveries a second.
pub async fn flood(address: SocketAddr, flood: &Flood) -> Result<f64, Failure> {
    let progress = Arc::new(Progress::new(flood.messages * flood.copies));
    let mut tasks = JoinSet::new();
    for (number, filters) in flood.subscribers.iter().enumerate() {
        let mut stream = connect(address, &format!("compare-subscriber-{number}"))?;
        for some in filters.chunks(50) {
            subscribe(&mut stream, some, flood.qos)?;
        }
        tasks.spawn(receive(asynchronous(stream)?, Arc::clone(&progress)));
    }
    let mut publishers = Vec::new();
    for number in 0..flood.publishers.len() {
        publishers.push(asynchronous(connect(address, &format!("compare-publisher-{number}"))?)?);
    }
    let start = Instant::now();
    for (stream, topics) in publishers.into_iter().zip(&flood.publishers) {
        tasks.spawn(send(stream, topics.clone(), flood.clone(), Arc::clone(&progress)));
    }
    let mut before = 0;
    while tokio::time::timeout(PATIENCE, progress.finished.notified()).await.is_err() {
        let delivered = progress.delivered.load(Ordering::Relaxed);
        if delivered == before {
            return Err(format!("only {delivered} of {} messages arrived", progress.all).into());
        }
        before = delivered;
    }
    let rate = progress.all as f64 / start.elapsed().as_secs_f64();
    tasks.shutdown().await;
    Ok(rate)
}

fn asynchronous(stream: std::net::TcpStream) -> Result<TcpStream, Failure> {
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream)?)
}

/// Sends its share of the messages, and takes acknowledgements.
async fn send(stream: TcpStream, topics: Vec<String>, flood: Flood, progress: Arc<Progress>) -> Result<(), Failure> {
    let (mut answers, mut messages) = stream.into_split();
    let drained = async {
        let mut waste = vec![0; 16 * 1024];
        while answers.read(&mut waste).await? > 0 {}
        Ok::<_, Failure>(())
    };
    let sent = async {
        let payload = [b'x'; PAYLOAD];
        let share = flood.messages / flood.publishers.len();
        let mut packets = topics.iter().cycle().zip(packet_ids()).take(share);
        let mut left = share;
        while left > 0 {
            let together = TOGETHER.min(left);
            let bytes: Vec<u8> = packets
                .by_ref()
                .take(together)
                .flat_map(|(topic, id)| publish(topic, flood.qos, id, &payload))
                .collect();
            messages.write_all(&bytes).await?;
            left -= together;
            progress.sent.fetch_add(together * flood.copies, Ordering::Relaxed);
            progress.room(flood.window * flood.copies).await;
        }
        std::future::pending::<Result<(), Failure>>().await
    };
    tokio::select! {
        result = drained => result,
        result = sent => result,
    }
}

/// Counts what arrives, and acknowledges it.
async fn receive(mut stream: TcpStream, progress: Arc<Progress>) -> Result<(), Failure> {
    let mut packets = Packets::new();
    let mut answers = Vec::new();
    loop {
        let read = stream.read(packets.space()).await?;
        if read == 0 {
            return Err("the broker closed the connection".into());
        }
        packets.filled(read);
        let mut delivered = 0;
        while let Some(packet) = packets.next() {
            if !packet.is_publish() {
                continue;
            }
            delivered += 1;
            if let Some((Some(id), _)) = packet.publish() {
                answers.extend(puback(id));
            }
        }
        if !answers.is_empty() {
            stream.write_all(&answers).await?;
            answers.clear();
        }
        progress.add(delivered);
    }
}

impl Progress {
    fn new(all: usize) -> Self {
        let [sent, delivered] = [0, 0].map(AtomicUsize::new);
        Self { all, sent, delivered, moved: Notify::new(), finished: Notify::new() }
    }

    fn add(&self, delivered: usize) {
        let before = self.delivered.fetch_add(delivered, Ordering::Relaxed);
        self.moved.notify_waiters();
        if before + delivered >= self.all {
            self.finished.notify_one();
        }
    }

    /// Waits until fewer than `window` deliveries are under way.
    async fn room(&self, window: usize) {
        loop {
            // Created before the look, so that no movement in between is missed.
            let moved = self.moved.notified();
            let delivered = self.delivered.load(Ordering::Relaxed);
            if self.sent.load(Ordering::Relaxed).saturating_sub(delivered) < window {
                return;
            }
            moved.await;
        }
    }
}
