//! The connection to the broker: MQTT 5 by `rumqttc`, over TLS if the settings say so, made again whenever it breaks.
//!
//! A task of its own polls the connection and tells its owner what happens as [`Incoming`], in order:
//!
//! ```text
//! Dialing ──► Connected ──► Message … ──► Lost ──► Dialing ──► …
//! ```
//!
//! - Before each attempt the owner is asked for a last will, since a will is signed anew for each connection.
//! - Sessions are clean: after each connect the task subscribes again, and what was in flight is gone. Nothing is queued
//!   for a broker that is not there: [`Link::publish`] says so, and evidence waits in the owner's outbox.
//! - Attempts back off with jitter, so that a street that comes back after a power cut does not arrive in step. Who is
//!   thrown out because somebody else uses its name waits thirty seconds (lease rule 8).
//! - What the broker does not allow, to say or to hear, is logged once for each connection and topic.

mod answers;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use grid_protocol::topic::Name;
use rand::Rng;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{DisconnectReasonCode, Filter, LastWill, Packet, Publish};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{NetworkOptions, TlsConfiguration, Transport};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::broker::Broker;
use crate::tls::explain;
use answers::Assured;

pub use answers::Answers;

const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
const AFTER_BEING_THROWN_OUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const CONNECT_SECONDS: u64 = 5;
/// Payloads have at most 8 KiB; topic and properties need a little more.
const LARGEST_PACKET: u32 = 16 * 1024;
const QUEUE: usize = 1024;
/// What the client says in place of a packet identifier of a message with QoS 0, which has none.
const AT_MOST_ONCE: u16 = 0;
/// So many messages may wait for the broker's acknowledgement. The client makes room for all of them at once: for the most
/// that MQTT can have, 65535, that would be 14 MB.
const UNACKNOWLEDGED: u16 = 1024;
/// How long a goodbye may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// How a message is to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// At most once (QoS 0).
    Once,
    /// At most once (QoS 0), and kept by the broker for those who subscribe later.
    OnceRetained,
    /// At least once (QoS 1).
    Assured,
    /// At least once (QoS 1), and kept by the broker for those who subscribe later.
    AssuredRetained,
}

impl Delivery {
    fn qos(self) -> QoS {
        match self {
            Self::Once | Self::OnceRetained => QoS::AtMostOnce,
            Self::Assured | Self::AssuredRetained => QoS::AtLeastOnce,
        }
    }

    fn is_retained(self) -> bool {
        matches!(self, Self::OnceRetained | Self::AssuredRetained)
    }
}

/// What the broker is to say when the connection dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// Where. It is published at least once, retained.
    pub topic: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Why a connection ended or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Somebody else connected under this name.
    ThrownOut,
    /// Anything else, in words.
    Broken(String),
}

/// What happens on a link.
#[derive(Debug)]
pub enum Incoming {
    /// A connection is about to be attempted. Answer with the last will, or drop the sender for none.
    Dialing(oneshot::Sender<Will>),
    /// The connection stands, and subscriptions are on their way.
    Connected,
    /// A message came.
    Message(Received),
    /// The connection ended or was not made.
    Lost(Loss),
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its topic.
    pub topic: String,
    /// Its payload.
    pub payload: Bytes,
    /// Whether it is a copy that the broker kept, rather than one published just now.
    pub retained: bool,
    /// Who published it, where the broker tells (MQTT 5 user property `publisher`).
    pub publisher: Option<String>,
}

/// A message was not sent: there is no connection, or its queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent: no connection to the broker, or it is congested")]
pub struct NotSent;

/// A connection to the broker that is made again whenever it breaks.
pub struct Link {
    client: AsyncClient,
    filters: Vec<String>,
    up: Arc<AtomicBool>,
    /// Messages that were handed over and are not on their way yet.
    queued: Arc<AtomicUsize>,
    assured: Arc<Mutex<Assured>>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts to connect as `client_id` and subscribes to `filters` at each connect. The second value tells what happens;
    /// when it is dropped, the link ends.
    pub fn open(broker: &Broker, client_id: &Name, filters: Vec<String>) -> (Self, mpsc::Receiver<Incoming>) {
        let mut options = MqttOptions::new(client_id.as_str(), &broker.host, broker.port);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_network_options(network)
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_start(true)
            .set_max_packet_size(Some(LARGEST_PACKET))
            .set_outgoing_inflight_upper_limit(UNACKNOWLEDGED)
            .set_connection_timeout(CONNECT_SECONDS);
        if let Some(config) = &broker.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::Rustls(config.clone())));
        }
        if let Some(login) = &broker.login {
            options.set_credentials(&login.user, &login.password);
        }
        let (client, events) = AsyncClient::new(options, QUEUE);
        let (incoming, receiver) = mpsc::channel(QUEUE);
        let up = Arc::new(AtomicBool::new(false));
        let queued = Arc::new(AtomicUsize::new(0));
        let assured = Arc::new(Mutex::new(Assured::of(client_id)));
        let host = broker.host.clone();
        let task = Task {
            events,
            host,
            client: client.clone(),
            filters: filters.clone(),
            incoming,
            up: up.clone(),
            queued: queued.clone(),
            assured: assured.clone(),
        };
        (Self { client, filters, up, queued, assured, task: tokio::spawn(task.run()) }, receiver)
    }

    /// Hands a message over for sending. Never waits.
    pub fn publish(&self, topic: &str, payload: Vec<u8>, delivery: Delivery) -> Result<(), NotSent> {
        if !self.up.load(Ordering::Acquire) {
            return Err(NotSent);
        }
        self.queued.fetch_add(1, Ordering::AcqRel);
        // Locked until it is handed over, so that the order is the same for both.
        let mut assured = (delivery.qos() == QoS::AtLeastOnce).then(|| lock(&self.assured));
        if let Some(assured) = &mut assured {
            assured.queue(topic);
        }
        self.client.try_publish(topic, delivery.qos(), delivery.is_retained(), payload).map_err(|_| {
            one_less(&self.queued);
            if let Some(assured) = &mut assured {
                assured.take_back();
            }
            NotSent
        })
    }

    /// What the broker has said so far of what was to be delivered at least once.
    pub fn answers(&self) -> Answers {
        lock(&self.assured).answers.clone()
    }

    /// [`Answers::refused`] tells of what is answered from now on.
    pub fn forget_refusal(&self) {
        lock(&self.assured).answers.refused = None;
    }

    /// Subscribes again: the broker says once more what it keeps, and loses nothing meanwhile (MQTT 5 section 3.8.4).
    /// Never waits.
    pub fn subscribe_again(&self) -> Result<(), NotSent> {
        if !self.up.load(Ordering::Acquire) {
            return Err(NotSent);
        }
        self.client.try_subscribe_many(self.filters.iter().map(|path| filter(path))).map_err(|_| NotSent)
    }

    /// Whether all that was handed over is on its way, so that something less urgent keeps nothing waiting.
    pub fn is_idle(&self) -> bool {
        self.queued.load(Ordering::Acquire) == 0
    }

    /// Sends what is queued, says goodbye (so that the broker does not publish the last will) and ends.
    pub async fn close(mut self) {
        let said = self.up.load(Ordering::Acquire) && self.client.try_disconnect().is_ok();
        if !said || timeout(CLOSE_WITHIN, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(assured: &Mutex<Assured>) -> MutexGuard<'_, Assured> {
    // Plain values, whole at any time.
    assured.lock().unwrap_or_else(PoisonError::into_inner)
}

fn one_less(queued: &AtomicUsize) {
    // None are left if a new connection has begun meanwhile.
    let _ = queued.fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| count.checked_sub(1));
}

struct Task {
    events: EventLoop,
    host: String,
    client: AsyncClient,
    filters: Vec<String>,
    incoming: mpsc::Sender<Incoming>,
    up: Arc<AtomicBool>,
    queued: Arc<AtomicUsize>,
    assured: Arc<Mutex<Assured>>,
}

/// A subscription. Of a command it must be seen whether it was published to be retained, also by who is there when it is.
fn filter(path: &str) -> Filter {
    Filter { preserve_retain: path.contains("/set/"), ..Filter::new(path, QoS::AtLeastOnce) }
}

/// How one connection ended.
enum End {
    /// We said goodbye, or nobody listens any more.
    Wanted,
    Lost(Loss),
}

impl Task {
    async fn run(mut self) {
        let mut back_off = FIRST_BACK_OFF;
        loop {
            let (end, stood) = self.one_connection().await;
            let End::Lost(loss) = end else { return };
            // Not after a short one: two agents with one name throw each other out, and not every broker tells them.
            if stood > LONGEST_BACK_OFF {
                back_off = FIRST_BACK_OFF;
            }
            let wait = if loss == Loss::ThrownOut { AFTER_BEING_THROWN_OUT } else { back_off };
            if self.incoming.send(Incoming::Lost(loss)).await.is_err() {
                return;
            }
            let jitter = rand::thread_rng().gen_range(1.0..2.0);
            sleep(wait.mul_f64(jitter)).await;
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
        }
    }

    /// One attempt, and the connection if it succeeds. Says how long that stood.
    async fn one_connection(&mut self) -> (End, Duration) {
        let (answer, will) = oneshot::channel();
        if self.incoming.send(Incoming::Dialing(answer)).await.is_err() {
            return (End::Wanted, Duration::ZERO);
        }
        if let Ok(will) = will.await {
            self.events.options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtLeastOnce, true, None));
        }
        let mut up_since: Option<Instant> = None;
        let mut leaving = false;
        let end = loop {
            let event = match self.events.poll().await {
                // After our goodbye it is the broker that closes. If we did, with its acknowledgements still unread, the
                // system would tell it that the connection broke, and it would drop what it has not read.
                Ok(_) if leaving => continue,
                Err(_) if leaving => break End::Wanted,
                Ok(event) => event,
                Err(error) => break End::Lost(loss(error, &self.host)),
            };
            let told = match event {
                Event::Incoming(Packet::ConnAck(_)) => {
                    up_since = Some(Instant::now());
                    // What waited for the connection before was dropped.
                    self.queued.store(0, Ordering::Release);
                    lock(&self.assured).connected();
                    self.up.store(true, Ordering::Release);
                    let filters = self.filters.iter().map(|path| filter(path));
                    if !self.filters.is_empty() && self.client.try_subscribe_many(filters).is_err() {
                        break End::Lost(Loss::Broken("the queue is full before the first subscription".to_owned()));
                    }
                    self.incoming.send(Incoming::Connected).await
                }
                Event::Incoming(Packet::Publish(publish)) => {
                    self.incoming.send(Incoming::Message(received(publish))).await
                }
                Event::Outgoing(rumqttc::Outgoing::Disconnect) => {
                    leaving = true;
                    Ok(())
                }
                Event::Incoming(Packet::PubAck(answer)) => {
                    lock(&self.assured).answered(answer.pkid, answer.reason);
                    Ok(())
                }
                Event::Incoming(Packet::SubAck(answer)) => {
                    lock(&self.assured).subscribed(&self.filters, &answer.return_codes);
                    Ok(())
                }
                Event::Outgoing(rumqttc::Outgoing::Publish(packet)) => {
                    one_less(&self.queued);
                    if packet != AT_MOST_ONCE {
                        lock(&self.assured).is_sent(packet);
                    }
                    Ok(())
                }
                Event::Incoming(_) | Event::Outgoing(_) => Ok(()),
            };
            if told.is_err() {
                break End::Wanted;
            }
        };
        self.up.store(false, Ordering::Release);
        (end, up_since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

fn received(publish: Publish) -> Received {
    let properties = publish.properties.unwrap_or_default().user_properties;
    Received {
        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
        payload: publish.payload,
        retained: publish.retain,
        publisher: properties.into_iter().find(|(key, _)| key == "publisher").map(|(_, value)| value),
    }
}

fn loss(error: ConnectionError, host: &str) -> Loss {
    match error {
        ConnectionError::MqttState(StateError::ServerDisconnect {
            reason_code: DisconnectReasonCode::SessionTakenOver,
            ..
        }) => Loss::ThrownOut,
        other => Loss::Broken(explain(&other, host).unwrap_or_else(|| other.to_string())),
    }
}
