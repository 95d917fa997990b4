//! Conversations made of arbitrary bytes: up to four connections that say right and wrong things to one running broker,
//! and a witness whose messages must arrive all the same.
//!
//! Used with seeded bytes by `tests/conversations.rs`, and with those of a fuzzer by `fuzz/`. Whatever is said,
//!
//! - what the broker answers is well-formed MQTT of the client's version ([`reader`]),
//! - the witness's message goes through, and newcomers may log in and subscribe,
//! - nothing is left of connections that have ended but the sessions that the limits allow.
//!
//! The broker is the real one on a loopback port, with limits so small that every one is reached.
#![allow(clippy::unwrap_used, reason = "only where a number cannot be out of range")]

mod connection;
mod encoding;
mod packets;
mod reader;
mod source;
mod steps;

use std::net::SocketAddr;
use std::time::Duration;

use grid_broker::{Access, BrokerError, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use connection::Connection;
use encoding::{packet, text};
use steps::{CONNECTIONS, Deed};

pub use steps::Conversation;

/// What must happen at once has happened after this time, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many conversations somebody new logs in and subscribes as well.
const NEWCOMER_EVERY: u32 = 16;
const SESSIONS_AWAY: usize = 3;
/// Longer than the time limits below, and than one and a half times the shortest keep-alive, which is a second.
const LINGER: Duration = Duration::from_millis(1600);
/// What the witness subscribes to, and where it publishes.
const WITNESSED: &[u8] = b"witness/+";
const WITNESS: &[u8] = b"witness/topic";

fn limits() -> Limits {
    Limits {
        // The witness and three more.
        max_clients: 4,
        max_sessions_away: SESSIONS_AWAY,
        max_session_expiry: Duration::from_secs(1),
        messages_per_second: 2000,
        messages_burst: 50,
        bytes_per_second: 400_000,
        bytes_burst: 40_000,
        max_waiting: 3,
        connect_timeout: Duration::from_millis(300),
        max_payload: 1024,
        max_packet_overhead: 512,
        max_inflight: 4,
        max_queued: 20,
        max_queued_bytes: 16 * 1024,
        max_queued_bytes_together: 128 * 1024,
        stall_timeout: Duration::from_millis(700),
        max_subscriptions: 5,
        max_retained: 6,
        max_retained_bytes: 4 * 1024,
        max_retained_bytes_of_one: 4 * 1024,
        max_filters: 40,
        max_topics: 100,
        window: 4 * 1024,
        exact_window: 1024,
        heartbeat: Duration::from_millis(200),
        heartbeat_timeout: PATIENCE,
        ..Limits::default()
    }
}

/// A running broker with its witness.
pub struct Host {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), BrokerError>>,
    witness: TcpStream,
    held: u32,
    /// Tasks that live when nobody but the witness is connected and no session is kept.
    tasks_at_rest: usize,
}

impl Host {
    /// Starts a broker on this runtime, which must have no other tasks.
    pub async fn start() -> Result<Self, String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(grid_broker::run(listener.into(), limits(), Access::open(), async {
            let _ = stopped.await;
        }));
        let witness = log_in(address, "witness").await?;
        let tasks_at_rest = Handle::current().metrics().num_alive_tasks();
        let mut host = Self { address, stop, running, witness, held: 0, tasks_at_rest };
        subscribe(&mut host.witness).await?;
        host.prove().await?;
        Ok(host)
    }

    /// Holds a conversation and says what is wrong with the broker, if anything is.
    pub async fn hold(&mut self, conversation: &Conversation) -> Result<(), String> {
        let mut connections: [Option<Connection>; CONNECTIONS as usize] = Default::default();
        for step in &conversation.steps {
            let connection = &mut connections[step.connection];
            let told = |what| format!("connection {} was told: {what}", step.connection);
            if let Deed::Connect { v5, maximum_packet, .. } = &step.deed {
                let still_open = match connection {
                    Some(older) => !older.has_ended().await.map_err(told)?,
                    None => false,
                };
                if !still_open {
                    *connection = Some(Connection::open(self.address, *v5, *maximum_packet).await?);
                }
            }
            let Some(open) = connection else {
                continue;
            };
            open.act(&step.deed).await.map_err(told)?;
            if matches!(step.deed, Deed::Close | Deed::Reset) {
                *connection = None;
            }
        }
        if conversation.lingers {
            sleep(LINGER).await;
        }
        for (number, connection) in connections.iter_mut().enumerate() {
            if let Some(connection) = connection {
                connection.read().await.map_err(|what| format!("connection {number} was told: {what}"))?;
                if conversation.reset_in_the_end {
                    connection.reset_when_dropped();
                }
            }
        }
        drop(connections);
        self.held += 1;
        self.prove().await?;
        self.come_to_rest().await?;
        if self.held.is_multiple_of(NEWCOMER_EVERY) {
            let mut newcomer = log_in(self.address, "newcomer").await?;
            subscribe(&mut newcomer).await.map_err(|what| format!("a newcomer cannot subscribe: {what}"))?;
            drop(newcomer);
            self.come_to_rest().await?;
        }
        Ok(())
    }

    /// Stops the broker, which must still be running.
    pub async fn stop(self) -> Result<(), String> {
        if self.running.is_finished() {
            return Err(format!("the broker ended by itself: {:?}", self.running.await));
        }
        // It is awaited, so it takes this.
        let _ = self.stop.send(());
        let stopped = timeout(PATIENCE, self.running).await;
        if matches!(stopped, Ok(Ok(Ok(())))) { Ok(()) } else { Err(format!("the broker did not stop: {stopped:?}")) }
    }

    /// A message of the witness comes back to it.
    async fn prove(&mut self) -> Result<(), String> {
        let body = [&text(WITNESS)[..], &self.held.to_be_bytes()].concat();
        let publish = packet(0x30, &body);
        ask(&mut self.witness, &publish, &publish).await.map_err(|what| format!("the witness is not served: {what}"))
    }

    /// Of all connections but the witness's only sessions are left, as many as the limits allow.
    async fn come_to_rest(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = Handle::current().metrics().num_alive_tasks().saturating_sub(self.tasks_at_rest);
            if left <= SESSIONS_AWAY {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{left} connections do not end"));
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Subscribes to what the witness publishes.
async fn subscribe(client: &mut TcpStream) -> Result<(), String> {
    let subscribe = packet(0x82, &[&[0, 1][..], &text(WITNESSED), &[0]].concat());
    ask(client, &subscribe, &[0x90, 3, 0, 1, 0]).await
}

/// Says something and gets this answer.
async fn ask(client: &mut TcpStream, packet: &[u8], answer: &[u8]) -> Result<(), String> {
    client.write_all(packet).await.map_err(|error| format!("cannot write: {error}"))?;
    let mut got = vec![0; answer.len()];
    match timeout(PATIENCE, client.read_exact(&mut got)).await {
        Ok(Ok(_)) if got == answer => Ok(()),
        Ok(Ok(_)) => Err(format!("got {} instead of {}", reader::hex(&got), reader::hex(answer))),
        Ok(Err(error)) => Err(format!("cut off: {error}")),
        Err(_) => Err("nothing came".to_owned()),
    }
}

/// Logs in; tries again while the broker is full of clients that are about to leave.
async fn log_in(address: SocketAddr, id: &str) -> Result<TcpStream, String> {
    let connect = packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0", &text(id.as_bytes())[..]].concat());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut connack = [0; 4];
        let logged_in = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(&connect).await?;
            stream.read_exact(&mut connack).await?;
            Ok::<_, std::io::Error>(stream)
        };
        let result = timeout(PATIENCE, logged_in).await;
        match result {
            Ok(Ok(stream)) if connack == [0x20, 2, 0, 0] => return Ok(stream),
            _ if Instant::now() > deadline => return Err(format!("{id} cannot log in: {result:?}, {connack:02x?}")),
            _ => sleep(Duration::from_millis(5)).await,
        }
    }
}
