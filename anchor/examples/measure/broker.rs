//! End to end: publishers, the broker and the anchor as a service, all in this process, on all cores.

use std::path::Path;
use std::time::{Duration, Instant};

use grid_anchor::recorder::Progress;
use grid_anchor::service;
use grid_anchor::settings::Settings;
use grid_protocol::author::Signed;
use grid_protocol::units::Millis;
use grid_service::broker::{Broker, BrokerSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::stopwatch::rate;
use crate::street::Street;
use crate::{Failure, Table};

/// So many messages are on their way at most: a broker drops QoS 0 messages for whom it outruns, and here none is to be
/// lost.
const ON_THE_WAY: u64 = 4096;
const AT_ONCE: usize = 256;
const PATIENCE: Duration = Duration::from_secs(60);

/// A string of MQTT: its length in two bytes, then its bytes.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// A packet of MQTT 3.1.1: type and flags, the remaining length in groups of seven bits (section 2.2.3), the rest.
fn packet(head: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![head];
    let mut left = body.len();
    while left >= 128 {
        packet.push((left % 128) as u8 | 128);
        left /= 128;
    }
    packet.push(left as u8);
    packet.extend_from_slice(body);
    packet
}

fn connect(name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    // Version 3.1.1, clean session, no keep-alive.
    body.extend_from_slice(&[4, 2, 0, 0]);
    text(&mut body, name);
    packet(0x10, &body)
}

/// QoS 0, not retained.
fn publish(message: &Signed) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, &message.topic.to_string());
    body.extend_from_slice(&message.payload);
    packet(0x30, &body)
}

async fn dial(port: u16, name: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect(name)).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await?;
    if answer != [0x20, 2, 0, 0] {
        return Err(format!("the broker does not let {name} in: {answer:?}").into());
    }
    Ok(stream)
}

async fn reached(
    progress: &mut watch::Receiver<Progress>,
    of: fn(&Progress) -> u64,
    count: u64,
) -> Result<(), Failure> {
    tokio::time::timeout(PATIENCE, progress.wait_for(|progress| of(progress) >= count)).await??;
    Ok(())
}

/// Publishes all messages, each under its sender's name, and waits until the last one is durable.
pub fn end_to_end(
    street: &Street,
    messages: &[Signed],
    senders: usize,
    folder: &Path,
    table: &mut Table,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rate = runtime.block_on(run(street, messages, senders, folder))?;
    table.row("end to end: publishers, broker, anchor, all cores", format!("{rate:.0} /s"), "");
    Ok(())
}

async fn run(street: &Street, messages: &[Signed], senders: usize, folder: &Path) -> Result<f64, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    // One machine speaks for the whole street here, far faster than a street does.
    let limits = grid_broker::Limits {
        messages_per_second: 10_000_000,
        messages_burst: 10_000_000,
        bytes_per_second: 10_000_000_000,
        bytes_burst: 10_000_000_000,
        max_queued: 4 * ON_THE_WAY as usize,
        ..grid_broker::Limits::default()
    };
    let broker = grid_broker::run(listener.into(), limits, grid_broker::Access::open(), std::future::pending());
    let broker = tokio::spawn(broker);
    let mut settings = Settings::new("demo".parse()?, "anchor-1".parse()?, folder.to_owned());
    settings.broker = BrokerSettings::plain("127.0.0.1", port);
    settings.log.commit_ms = Millis(1000);
    let identity = street.anchor()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let (sender, mut progress) = watch::channel(Progress::default());
    let shutdown = async {
        stopped.await.ok();
    };
    let plain = Broker::plain("127.0.0.1", port);
    let anchor = tokio::spawn(async move {
        let ended = service::run(settings, identity, plain, None, sender, shutdown).await;
        ended.map_err(|error| error.to_string())
    });
    // Its own birth comes when it has subscribed.
    reached(&mut progress, |progress| progress.entries, 1).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = progress.borrow().entries;
    let mut streams = Vec::new();
    for number in 1..=senders {
        streams.push(dial(port, &format!("cp-{number}")).await?);
    }
    let packets: Vec<Vec<u8>> = messages.iter().map(publish).collect();
    let start = Instant::now();
    let mut sent = 0u64;
    for chunk in packets.chunks(AT_ONCE) {
        reached(&mut progress, |progress| progress.entries, (before + sent).saturating_sub(ON_THE_WAY)).await?;
        let mut outboxes = vec![Vec::new(); senders];
        for (at, packet) in chunk.iter().enumerate() {
            outboxes[(sent as usize + at) % senders].extend_from_slice(packet);
        }
        for (stream, bytes) in streams.iter_mut().zip(&outboxes) {
            stream.write_all(bytes).await?;
        }
        sent += chunk.len() as u64;
    }
    reached(&mut progress, |progress| progress.durable, before + sent).await?;
    let rate = rate(packets.len(), start.elapsed());
    stop.send(()).ok();
    anchor.await??;
    broker.abort();
    Ok(rate)
}
