//! One client's connection, from its first byte to its will.
//!
//! One task per connection, which never waits for one thing only: it takes messages off the router into the client's
//! bounded outbox as soon as they come, writes when the socket takes something, and reads when the router's gate and
//! the amount waiting to be written allow. So no client can hold up another, and a client that floods is slowed down by
//! TCP alone.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use mqtt_protocol_core::mqtt::result_code::PubackReasonCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::access::Access;
use crate::clients::{Clients, Login};
use crate::doors::{Arrival, Waiting};
use crate::ending::Ending;
use crate::limits::Limits;
use crate::login::{first_request, log_in};
use crate::message::{Message, Millis, Qos};
use crate::metrics::{DropReason, Metrics};
use crate::outbox::Outbox;
use crate::request::{Publish, Request, RetainHandling, Wanted};
use crate::retained::{Outcome, Retained};
use crate::router::{Gone, Reader, Router, Unpublished, Unsubscribed};
use crate::subscriptions::Subscriptions;
use crate::topic;
use crate::wire::{Granted, Wire};

/// Bytes encoded ahead of the socket. More would only be copied early; what waits, waits in the outbox.
const WRITE_AHEAD: usize = 32 * 1024;
/// Nothing more is read from a client while so many bytes wait for it to read them.
const ANSWERS_WAITING: usize = 128 * 1024;
/// Room for one read.
const READ_SIZE: usize = 8 * 1024;
/// Buffers that grew beyond this are given back when they are empty.
const KEPT_BUFFER: usize = 16 * 1024;
/// Messages taken off the router in a row, before the socket gets its turn.
const TAKEN_IN_A_ROW: usize = 256;
/// Time to get the last words to the client.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What all connections of one broker share.
pub struct Shared {
    /// The broker's limits.
    pub limits: Limits,
    /// Who may do what, as last loaded.
    pub access: watch::Receiver<Arc<Access>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Routing core.
    pub router: Arc<Router>,
    /// Retained messages.
    pub retained: Mutex<Retained>,
    /// Who is logged in.
    pub clients: Arc<Clients>,
    /// When the broker started.
    pub started: Instant,
    /// Number of the next connection.
    pub connections: AtomicU64,
    /// Cancelled when the broker stops.
    pub shutdown: CancellationToken,
}

impl Shared {
    /// The time.
    pub fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Looks up the figures that nobody counts.
    pub(crate) fn sample(&self) {
        let (messages, bytes) = self.retained.lock().unwrap_or_else(PoisonError::into_inner).figures();
        let uptime = self.started.elapsed().as_secs();
        for (gauge, value) in [
            (&self.metrics.retained, i64::try_from(messages)),
            (&self.metrics.retained_bytes, i64::try_from(bytes)),
            (&self.metrics.uptime, i64::try_from(uptime)),
        ] {
            gauge.set(value.unwrap_or(i64::MAX));
        }
    }

    /// Keeps the message if it asks for it, then publishes it. In this order, so that a subscriber either finds it
    /// among the retained ones or gets it from the router; and under one lock, so that what is kept is what subscribers
    /// get last.
    pub(crate) fn publish(&self, mut message: Message) -> Result<Outcome, Unpublished> {
        if !message.retain {
            return self.router.publish(&mut message).map(|()| Outcome::Done);
        }
        let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = retained.apply(&message);
        if outcome == Outcome::Full {
            self.metrics.drop(DropReason::RetainedFull, 1);
            warn!(topic = message.topic, "the retained store is full: message delivered but not kept");
        }
        self.router.publish(&mut message).map(|()| outcome)
    }
}

/// A client that is logged in.
struct Client {
    shared: Arc<Shared>,
    number: u64,
    id: String,
    wire: Wire,
    outbox: Outbox,
    subscriptions: Subscriptions,
    /// From the first SUBSCRIBE on.
    reader: Option<Reader>,
    /// QoS 1 messages sent and not acknowledged.
    inflight: usize,
    window: usize,
    will: Option<Message>,
}

/// Serves one accepted connection until it ends. `waiting` is held until the client is logged in.
pub async fn serve<S>(shared: Arc<Shared>, stream: S, arrival: Arrival, waiting: Waiting)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let Arrival { peer, deadline, certificate: _ } = arrival;
    let mut stream = stream;
    let mut wire = Wire::new(&shared.limits);
    let mut input = BytesMut::new();
    let connect = tokio::select! {
        connect = timeout_at(deadline, first_request(&mut stream, &mut wire, &mut input)) => {
            connect.unwrap_or(Err(Ending::ConnectTimeout(shared.limits.connect_timeout)))
        }
        () = shared.shutdown.cancelled() => Err(Ending::ShuttingDown),
    };
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let logged_in = match connect {
        Ok(connect) => {
            shared.metrics.connects.inc();
            log_in(&shared, &mut wire, connect, number).await
        }
        Err(ending) => Err(ending),
    };
    drop(waiting);
    let (connect, login, id, will) = match logged_in {
        Ok(logged_in) => logged_in,
        Err(ending) => {
            debug!(%peer, %ending, "not logged in");
            last_words(&mut stream, &mut wire, &ending).await;
            return;
        }
    };
    info!(client = id, %peer, version = if connect.v5 { "5" } else { "3.1.1" }, "client connected");

    let window = shared.limits.max_inflight.min(connect.receive_maximum);
    let mut client = Client {
        number,
        id,
        wire,
        outbox: Outbox::new(shared.limits.max_queued, shared.limits.max_queued_bytes),
        subscriptions: Subscriptions::new(number),
        reader: None,
        inflight: 0,
        window: usize::from(window),
        will,
        shared,
    };
    let ending = match client.converse(&mut stream, &mut input, &login, connect.keep_alive).await {
        Ok(never) => match never {},
        Err(ending) => ending,
    };
    last_words(&mut stream, &mut client.wire, &ending).await;
    drop(stream);
    let dropped = client.outbox.dropped();
    if dropped > 0 {
        warn!(client = client.id, dropped, "QoS 0 messages were dropped since the client was too slow");
    }
    info!(client = client.id, %ending, "client left");
    client.leave(&ending, login).await;
}

/// Tells the client why, if its version can say so and it listens, and closes.
async fn last_words<S: AsyncWrite + Unpin>(stream: &mut S, wire: &mut Wire, ending: &Ending) {
    if let Some(reason) = ending.reason() {
        // Fails before CONNACK, when there is no such packet to send.
        let _ = wire.disconnect(reason);
    }
    let write = async {
        while !wire.out.is_empty() {
            if !matches!(stream.write_buf(&mut wire.out).await, Ok(written) if written > 0) {
                return;
            }
        }
        let _ = stream.shutdown().await;
    };
    let _ = tokio::time::timeout(LAST_WORDS, write).await;
}

impl Client {
    /// Serves the client until something ends it.
    async fn converse<S>(
        &mut self,
        stream: &mut S,
        input: &mut BytesMut,
        login: &Login,
        keep_alive: u16,
    ) -> Result<std::convert::Infallible, Ending>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let stall_limit = self.shared.limits.stall_timeout;
        let patience = Duration::from_millis(u64::from(keep_alive) * 1500);
        let (mut from_client, mut to_client) = tokio::io::split(stream);
        let mut kicked = pin!(login.kicked.cancelled());
        let mut heard = Instant::now();
        // Since when something waits to be written without any progress.
        let mut progress = Instant::now();
        let mut timer = pin!(tokio::time::sleep(if keep_alive == 0 { stall_limit } else { patience.min(stall_limit) }));
        loop {
            // Looked at once per round, so that a gate that opens meanwhile is not missed below.
            let mut gated = self.shared.router.is_closed();
            while !gated && !input.is_empty() && self.wire.out.len() < ANSWERS_WAITING {
                if let Some(request) = self.wire.receive(input)? {
                    heard = Instant::now();
                    self.answer(request).await?;
                }
                gated = self.shared.router.is_closed();
            }
            if self.wire.out.is_empty() {
                progress = Instant::now();
            }
            self.pump()?;
            let may_read = !gated && self.wire.out.len() < ANSWERS_WAITING;
            if may_read {
                // All input has been taken.
                trim(input);
                input.reserve(READ_SIZE);
            }
            let waiting = !self.wire.out.is_empty();
            tokio::select! {
                () = &mut kicked => {
                    let stopping = self.shared.shutdown.is_cancelled();
                    return Err(if stopping { Ending::ShuttingDown } else { Ending::TakenOver });
                }
                message = next(&mut self.reader) => {
                    self.take(message.map_err(|Gone| Ending::RouterGone)?)?;
                }
                written = to_client.write_buf(&mut self.wire.out), if waiting => {
                    match written {
                        Ok(0) => return Err(Ending::Lost("the socket takes no more".to_owned())),
                        Ok(_) => progress = Instant::now(),
                        Err(e) => return Err(Ending::Lost(e.to_string())),
                    }
                    trim(&mut self.wire.out);
                }
                read = from_client.read_buf(input), if may_read => {
                    match read {
                        Ok(0) => return Err(Ending::Lost("closed without DISCONNECT".to_owned())),
                        Ok(_) => {}
                        Err(e) => return Err(Ending::Lost(e.to_string())),
                    }
                }
                () = self.shared.router.opened(), if gated => heard = Instant::now(),
                () = &mut timer => {
                    let now = Instant::now();
                    // While the broker does not read, the client cannot be blamed for silence.
                    if !may_read {
                        heard = now;
                    }
                    if keep_alive > 0 && now >= heard + patience {
                        return Err(Ending::KeepAlive(keep_alive));
                    }
                    if waiting && now >= progress + stall_limit {
                        return Err(Ending::Stalled(stall_limit));
                    }
                    let stall = if waiting { progress + stall_limit } else { now + stall_limit };
                    let next = if keep_alive > 0 { stall.min(heard + patience) } else { stall };
                    timer.as_mut().reset(next);
                }
            }
        }
    }

    /// Takes this message, and what else is there already, off the router into the outbox.
    fn take(&mut self, first: Message) -> Result<(), Ending> {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(message) = next {
            if let Some(delivery) = self.subscriptions.deliver(message) {
                self.outbox.push(delivery).map_err(|_| Ending::QueueFull)?;
            }
            taken += 1;
            next = match &mut self.reader {
                Some(reader) if taken < TAKEN_IN_A_ROW => reader.try_next().map_err(|Gone| Ending::RouterGone)?,
                _ => None,
            };
        }
        Ok(())
    }

    /// Encodes what may be sent now.
    fn pump(&mut self) -> Result<(), Ending> {
        let now = self.shared.now();
        while self.wire.out.len() < WRITE_AHEAD {
            let Some(delivery) = self.outbox.pop(self.inflight < self.window) else {
                break;
            };
            if self.wire.deliver(&delivery, now).map_err(Ending::Codec)? && delivery.qos == Qos::AtLeastOnce {
                self.inflight += 1;
            }
        }
        Ok(())
    }

    async fn answer(&mut self, request: Request) -> Result<(), Ending> {
        match request {
            Request::Publish(publish) => self.publish(publish),
            Request::PubAck => {
                self.inflight = self.inflight.saturating_sub(1);
                Ok(())
            }
            Request::Subscribe { packet_id, wanted } => self.subscribe(packet_id, wanted).await,
            Request::Unsubscribe { packet_id, filters } => self.unsubscribe(packet_id, &filters),
            Request::Ping => self.wire.pingresp().map_err(Ending::Codec),
            Request::Disconnect { with_will } => Err(Ending::Goodbye { with_will }),
            Request::Connect(_) => Err(Ending::Violation("a second CONNECT [MQTT-3.1.0-2]")),
        }
    }

    fn publish(&mut self, publish: Publish) -> Result<(), Ending> {
        let max = self.shared.limits.max_payload;
        if publish.qos > 1 {
            return Err(Ending::QosNotSupported);
        }
        if !topic::is_valid_topic(&publish.topic) {
            return Err(Ending::InvalidTopic(publish.topic));
        }
        if publish.payload.len() > max {
            return Err(Ending::PayloadTooLarge { size: publish.payload.len(), max });
        }
        let message = Message {
            sequence: 0,
            publisher: self.number,
            received: self.shared.now(),
            topic: publish.topic.clone(),
            qos: if publish.qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce },
            retain: publish.retain,
            properties: publish.properties,
            payload: publish.payload,
        };
        let reason = match self.shared.publish(message) {
            Ok(Outcome::Done) => PubackReasonCode::Success,
            Ok(Outcome::Full) => PubackReasonCode::QuotaExceeded,
            Err(Unpublished::Gone) => return Err(Ending::RouterGone),
            Err(Unpublished::TooManyTopics) => return Err(Ending::TooManyTopics(publish.topic)),
        };
        match publish.packet_id {
            Some(packet_id) => self.wire.puback(packet_id, reason).map_err(Ending::Codec),
            None => Ok(()),
        }
    }

    async fn subscribe(&mut self, packet_id: u16, wanted: Vec<Wanted>) -> Result<(), Ending> {
        let mut answers = Vec::with_capacity(wanted.len());
        let mut retained = Vec::new();
        for wanted in wanted {
            let existed = self.subscriptions.contains(&wanted.filter);
            let granted = self.grant(&wanted, existed).await?;
            answers.push(granted);
            if !matches!(granted, Granted::Yes(_)) {
                continue;
            }
            let send_retained = match wanted.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => !existed,
                RetainHandling::Never => false,
            };
            if send_retained {
                // The router has the subscription by now, so what is not found here will come from there.
                let mut store = self.shared.retained.lock().unwrap_or_else(PoisonError::into_inner);
                let found = store.matching(&wanted.filter, self.shared.now());
                retained.extend(found.into_iter().map(|message| Subscriptions::retained(&wanted, message)));
            }
            self.subscriptions.insert(wanted);
        }
        self.wire.suback(packet_id, &answers).map_err(Ending::Codec)?;
        for delivery in retained {
            self.outbox.push(delivery).map_err(|_| Ending::QueueFull)?;
        }
        Ok(())
    }

    async fn grant(&mut self, wanted: &Wanted, existed: bool) -> Result<Granted, Ending> {
        if topic::is_shared(&wanted.filter) {
            return Ok(Granted::Shared);
        }
        if !topic::is_valid_filter(&wanted.filter) {
            return Ok(Granted::InvalidFilter);
        }
        if existed {
            return Ok(Granted::Yes(wanted.qos));
        }
        if self.subscriptions.len() >= self.shared.limits.max_subscriptions {
            return Ok(Granted::Quota);
        }
        let reader = match &mut self.reader {
            Some(reader) => reader,
            None => {
                let reader = self.shared.router.reader().await.map_err(|Gone| Ending::RouterGone)?;
                self.reader.insert(reader)
            }
        };
        match reader.subscribe(&wanted.filter).await {
            Ok(()) => Ok(Granted::Yes(wanted.qos)),
            Err(Unsubscribed::TooManyFilters) => Ok(Granted::Quota),
            Err(Unsubscribed::Gone) => Err(Ending::RouterGone),
        }
    }

    fn unsubscribe(&mut self, packet_id: u16, filters: &[String]) -> Result<(), Ending> {
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            let removed = self.subscriptions.remove(filter);
            if let (true, Some(reader)) = (removed, &mut self.reader) {
                reader.unsubscribe(filter).map_err(|Gone| Ending::RouterGone)?;
            }
            existed.push(removed);
        }
        self.wire.unsuback(packet_id, &existed).map_err(Ending::Codec)
    }

    /// Publishes the will, then makes room for a successor, then returns the link to the router.
    async fn leave(mut self, ending: &Ending, login: Login) {
        if let (true, Some(mut will)) = (ending.publishes_will(), self.will.take()) {
            will.received = self.shared.now();
            if let Err(error) = self.shared.publish(will) {
                warn!(client = self.id, ?error, "its will could not be published");
            }
        }
        drop(login);
        if let Some(reader) = self.reader.take() {
            let filters = self.subscriptions.take();
            // A router that does not answer is the heartbeat's business; nothing is lost with the link.
            let release = reader.release(filters);
            let limit = self.shared.limits.heartbeat_timeout;
            if !matches!(tokio::time::timeout(limit, release).await, Ok(Ok(()))) {
                debug!(client = self.id, "link not returned");
            }
        }
    }
}

async fn next(reader: &mut Option<Reader>) -> Result<Message, Gone> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

/// Gives the memory of a buffer back that was large for a while.
fn trim(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER {
        *buffer = BytesMut::new();
    }
}
