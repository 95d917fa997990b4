//! One client's connection, from its first byte to its will.
//!
//! One task per connection, which never waits for one thing only: it takes messages off the router into the client's
//! bounded outbox as soon as they come, writes when the socket takes something, and reads when the router's gate, the
//! client's budget and the amount waiting to be written allow. So no client can hold up another, and a client that
//! floods is slowed down by TCP alone.

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::access::{Access, Identity, Owner, Rights};
use crate::budget::Allowance;
use crate::clients::Login;
use crate::doors::{Arrival, Waiting};
use crate::ending::Ending;
use crate::login::{Admitted, first_request, log_in};
use crate::message::Message;
use crate::metrics::DropReason;
use crate::outbox::Delivery;
use crate::request::Request;
use crate::router::Gone;
use crate::session::{Session, Stuck, keep};
use crate::shared::Shared;
use crate::topic;
use crate::unacknowledged::Step;
use crate::wire::properties::Publisher;
use crate::wire::{Sent, Welcome, Wire};

/// Bytes encoded ahead of the socket. More would only be copied early; what waits, waits in the outbox.
const WRITE_AHEAD: usize = 32 * 1024;
/// Nothing more is read from a client while so many bytes wait for it to read them.
const ANSWERS_WAITING: usize = 128 * 1024;
/// Room for one read.
const READ_SIZE: usize = 8 * 1024;
/// Buffers that grew beyond this are given back when they are empty.
const KEPT_BUFFER: usize = 16 * 1024;
/// Time to get the last words to the client.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A client that is logged in.
pub struct Client {
    pub(crate) shared: Arc<Shared>,
    pub(crate) wire: Wire,
    pub(crate) session: Session,
    pub(crate) rights: Arc<Rights>,
    pub(crate) owner: Owner,
    pub(crate) publisher: Option<Publisher>,
    pub(crate) allowance: Arc<Allowance>,
    /// What was refused and is logged already.
    pub(crate) refused: HashSet<String>,
    identity: Identity,
    access: watch::Receiver<Arc<Access>>,
    window: usize,
    will: Option<Message>,
    /// What an earlier connection of this session sent, is not acknowledged, and was not sent again yet.
    unfinished: VecDeque<(u16, Step)>,
    welcome: Welcome,
    expiry: Duration,
    /// Packets sent that are in the figures.
    counted: u64,
}

/// Serves one accepted connection until it ends. `waiting` is held until the client is logged in.
pub async fn serve<S>(shared: Arc<Shared>, stream: S, arrival: Arrival, waiting: Waiting)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut stream = stream;
    let mut wire = Wire::new(&shared.limits);
    let mut input = BytesMut::new();
    let connect = tokio::select! {
        connect = first_request(&shared, &mut stream, &mut wire, &mut input, arrival.deadline) => connect,
        () = shared.shutdown.cancelled() => Err(Ending::ShuttingDown),
    };
    let v5 = wire.is_v5();
    let admitted = match connect {
        Ok(connect) => log_in(&shared, &mut wire, connect, &arrival).await,
        Err(ending) => Err(ending),
    };
    drop(waiting);
    let admitted = match admitted {
        Ok(admitted) => admitted,
        Err(ending) => {
            match &ending {
                Ending::Refused(refusal) if shared.log.allows() => {
                    warn!(peer = %arrival.peer, %refusal, "login refused");
                }
                _ => debug!(peer = %arrival.peer, %ending, "not logged in"),
            }
            last_words(&mut stream, &mut wire, &ending).await;
            return;
        }
    };
    if shared.log.allows() {
        let client = &admitted.session.client_id;
        info!(client, peer = %arrival.peer, version = if v5 { "5" } else { "3.1.1" }, "client connected");
    }

    let keep_alive = admitted.keep_alive;
    let (mut client, login) = Client::new(shared, wire, admitted);
    let ending = match client.converse(&mut stream, &mut input, &login, keep_alive).await {
        Ok(never) => match never {},
        Err(ending) => ending,
    };
    client.last_words(&mut stream, &ending).await;
    drop(stream);
    drop(input);
    if client.shared.log.allows() {
        info!(client = client.session.client_id, %ending, "client left");
    }
    client.leave(&ending, login).await;
}

/// Tells the client why, if its version can say so and it listens, and closes.
async fn last_words<S: AsyncWrite + Unpin>(stream: &mut S, wire: &mut Wire, ending: &Ending) {
    if let Some(reason) = ending.reason() {
        // Fails before CONNACK, when there is no such packet to send.
        let _ = wire.disconnect(reason, &ending.to_string());
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

impl From<Stuck> for Ending {
    fn from(stuck: Stuck) -> Self {
        match stuck {
            Stuck::Full => Self::QueueFull,
            Stuck::Gone => Self::RouterGone,
        }
    }
}

impl Client {
    fn new(shared: Arc<Shared>, wire: Wire, admitted: Admitted) -> (Self, Login) {
        let Admitted {
            login, identity, rights, publisher, mut session, expiry, will, receive_maximum, welcome, ..
        } = admitted;
        let client = Self {
            wire,
            rights,
            owner: identity.owner(),
            publisher,
            refused: HashSet::new(),
            identity,
            access: shared.access.clone(),
            allowance: Arc::clone(&login.allowance),
            window: usize::from(shared.limits.max_inflight.min(receive_maximum)),
            will,
            unfinished: session.unacknowledged.take(),
            welcome,
            expiry,
            counted: 0,
            session,
            shared,
        };
        (client, login)
    }

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
        self.greet()?;
        self.wire.restore_received(std::mem::take(&mut self.session.received));
        let stall_limit = self.shared.limits.stall_timeout;
        let patience = Duration::from_millis(u64::from(keep_alive) * 1500);
        let (mut from_client, mut to_client) = tokio::io::split(stream);
        let mut kicked = pin!(login.kicked.cancelled());
        let mut heard = Instant::now();
        // Since when something waits to be written without any progress.
        let mut progress = Instant::now();
        let mut timer = pin!(tokio::time::sleep(if keep_alive == 0 { stall_limit } else { patience.min(stall_limit) }));
        // Until when nothing is read, since the client has used up its budget.
        let mut pause: Option<Instant> = None;
        loop {
            // Looked at once per round, so that a gate that opens meanwhile is not missed below.
            let mut gated = self.shared.router.is_closed();
            pause = pause.filter(|until| *until > Instant::now());
            while !gated && pause.is_none() && !input.is_empty() && self.wire.out.len() < ANSWERS_WAITING {
                let before = input.len();
                if let Some(request) = self.wire.receive(input)? {
                    heard = Instant::now();
                    pause = self.spend(&request, before - input.len(), heard);
                    self.answer(request).await?;
                }
                gated = self.shared.router.is_closed();
            }
            if self.wire.out.is_empty() {
                progress = Instant::now();
            }
            self.pump()?;
            let may_read = !gated && pause.is_none() && self.wire.out.len() < ANSWERS_WAITING;
            if may_read {
                // All input has been taken.
                trim(input);
                input.reserve(READ_SIZE);
            }
            let waiting = !self.wire.out.is_empty();
            tokio::select! {
                () = &mut kicked => {
                    if self.shared.shutdown.is_cancelled() {
                        return Err(Ending::ShuttingDown);
                    }
                    // What the client said before somebody took its place counts: it may have been a goodbye.
                    let _ = tokio::time::timeout(Duration::ZERO, from_client.read_buf(input)).await;
                    while !input.is_empty() {
                        if let Some(request) = self.wire.receive(input)? {
                            self.answer(request).await?;
                        }
                    }
                    return Err(Ending::TakenOver);
                }
                message = self.session.next() => {
                    let message = message.map_err(|Gone| Ending::RouterGone)?;
                    self.session.take(&self.shared, message, &self.rights, false)?;
                }
                written = to_client.write_buf(&mut self.wire.out), if waiting => {
                    match written {
                        Ok(0) => return Err(Ending::Lost("the socket takes no more".to_owned())),
                        Ok(written) => {
                            progress = Instant::now();
                            self.shared.metrics.bytes_sent.inc_by(u64::try_from(written).unwrap_or_default());
                        }
                        Err(e) => return Err(Ending::Lost(e.to_string())),
                    }
                    trim(&mut self.wire.out);
                }
                read = from_client.read_buf(input), if may_read => {
                    match read {
                        Ok(0) => return Err(Ending::Lost("closed without DISCONNECT".to_owned())),
                        Ok(read) => {
                            self.shared.metrics.bytes_received.inc_by(u64::try_from(read).unwrap_or_default());
                        }
                        Err(e) => return Err(Ending::Lost(e.to_string())),
                    }
                }
                () = self.shared.router.opened(), if gated => heard = Instant::now(),
                () = until(pause), if pause.is_some() => heard = Instant::now(),
                Ok(()) = self.access.changed() => self.reconsider()?,
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

    /// Tells the client that it is let in.
    fn greet(&mut self) -> Result<(), Ending> {
        self.wire.accept(self.welcome, &self.session.client_id).map_err(|error| {
            // It was not let in, so it has no will.
            self.will = None;
            Ending::Codec(error)
        })
    }

    /// Sends again what an earlier connection of this session did not finish, as far as the window allows.
    fn resume(&mut self) -> Result<(), Ending> {
        let now = self.shared.now();
        while self.wire.out.len() < WRITE_AHEAD && self.session.unacknowledged.len() < self.window {
            let Some((packet_id, step)) = self.unfinished.pop_front() else {
                break;
            };
            let sent = match &step {
                Step::Published(delivery) => {
                    let sent = self.wire.deliver_again(packet_id, delivery, now).map_err(Ending::Codec)?;
                    self.was_sent(sent, delivery)
                }
                Step::Released => {
                    self.wire.release_again(packet_id)?;
                    true
                }
            };
            if sent {
                self.session.unacknowledged.push(packet_id, step);
            }
        }
        Ok(())
    }

    /// Takes a packet from the client's budget, and says until when it is not read from.
    fn spend(&self, request: &Request, bytes: usize, now: Instant) -> Option<Instant> {
        self.shared.metrics.messages_received.inc();
        if let Request::PubAck { .. } | Request::PubRec { .. } | Request::PubComp { .. } = request {
            return None;
        }
        let worth = match request {
            Request::Subscribe { wanted, .. } => wanted.iter().map(|wanted| worth(&wanted.filter)).sum(),
            Request::Unsubscribe { filters, .. } => filters.len(),
            _ => 1,
        };
        let until = self.allowance.spend(worth, bytes, now);
        if until.is_some() {
            self.shared.metrics.throttled.inc();
        }
        until
    }

    /// Looks anew at what the client may do: certificates, users or rights have changed.
    fn reconsider(&mut self) -> Result<(), Ending> {
        let access = Arc::clone(&self.access.borrow_and_update());
        self.rights = access.rights(&self.identity).ok_or(Ending::NotAllowedAnyMore)?;
        self.session.subscriptions.reconsider(&self.rights);
        self.refused.clear();
        Ok(())
    }

    /// Encodes what may be sent now.
    fn pump(&mut self) -> Result<(), Ending> {
        self.resume()?;
        let now = self.shared.now();
        while self.wire.out.len() < WRITE_AHEAD {
            let window_open = self.unfinished.is_empty() && self.session.unacknowledged.len() < self.window;
            let Some(delivery) = self.session.outbox.pop(window_open) else {
                break;
            };
            let sent = self.wire.deliver(&delivery, now).map_err(Ending::Codec)?;
            if self.was_sent(sent, &delivery)
                && let Sent::Yes(Some(packet_id)) = sent
            {
                self.session.unacknowledged.push(packet_id, Step::Published(delivery));
            }
        }
        self.shared.metrics.messages_sent.inc_by(self.wire.packets_out - self.counted);
        self.counted = self.wire.packets_out;
        Ok(())
    }

    /// Whether a message was sent. Counts it in either case.
    fn was_sent(&self, sent: Sent, delivery: &Delivery) -> bool {
        let metrics = &self.shared.metrics;
        match sent {
            Sent::Yes(_) => {
                metrics.publish_sent.inc();
                let size = delivery.message.payload.len();
                metrics.publish_bytes_sent.inc_by(u64::try_from(size).unwrap_or_default());
                return true;
            }
            Sent::Expired => metrics.drop(DropReason::Expired, 1),
            Sent::TooLarge => metrics.drop(DropReason::TooLarge, 1),
        }
        false
    }

    async fn answer(&mut self, request: Request) -> Result<(), Ending> {
        match request {
            Request::Publish(publish) => self.publish(publish),
            Request::PubAck { packet_id } | Request::PubComp { packet_id } => {
                self.session.unacknowledged.done(packet_id);
                Ok(())
            }
            Request::PubRec { packet_id, refused: true } => {
                self.session.unacknowledged.done(packet_id);
                Ok(())
            }
            Request::PubRec { packet_id, refused: false } => {
                self.session.unacknowledged.released(packet_id);
                self.wire.pubrel(packet_id).map_err(Ending::Codec)
            }
            Request::PubRel { packet_id } => self.wire.pubcomp(packet_id).map_err(Ending::Codec),
            Request::Subscribe { packet_id, wanted } => self.subscribe(packet_id, wanted).await,
            Request::Unsubscribe { packet_id, filters } => self.unsubscribe(packet_id, &filters),
            Request::Ping => self.wire.pingresp().map_err(Ending::Codec),
            Request::Disconnect { with_will, session_expiry } => {
                if let Some(seconds) = session_expiry {
                    // [MQTT-3.14.2-2]
                    if self.expiry.is_zero() && seconds > 0 {
                        return Err(Ending::Violation("a session expiry in DISCONNECT that CONNECT had not"));
                    }
                    self.expiry = self.shared.limits.session_expiry(seconds);
                }
                Err(Ending::Goodbye { with_will })
            }
            Request::Connect(_) => Err(Ending::Violation("a second CONNECT [MQTT-3.1.0-2]")),
        }
    }

    /// Tells the client why; meanwhile messages are taken off the router as ever.
    async fn last_words<S: AsyncWrite + Unpin>(&mut self, stream: &mut S, ending: &Ending) {
        let mut said = pin!(last_words(stream, &mut self.wire, ending));
        loop {
            tokio::select! {
                () = &mut said => return,
                Ok(message) = self.session.next() => {
                    if self.session.take(&self.shared, message, &self.rights, true).is_err() {
                        return said.await;
                    }
                }
            }
        }
    }

    /// Publishes the will, then keeps the session or ends it, and makes room for a successor.
    async fn leave(mut self, ending: &Ending, login: Login) {
        let will = self.will.take().filter(|will| ending.publishes_will() && self.rights.may_publish(&will.topic));
        if let Some(mut will) = will {
            will.received = self.shared.now();
            if let Err(error) = self.shared.publish(will, &self.owner, &self.allowance.topics)
                && self.shared.log.allows()
            {
                warn!(client = self.session.client_id, ?error, "its will could not be published");
            }
        }
        let Self { shared, mut wire, mut session, identity, expiry, unfinished, .. } = self;
        // Also where the session ends: what is lost with it is counted.
        for (packet_id, step) in unfinished {
            session.unacknowledged.push(packet_id, step);
        }
        if ending.keeps_session() && !expiry.is_zero() {
            session.received = wire.take_received();
            drop(wire);
            return keep(shared, session, login, identity, expiry).await;
        }
        drop(login);
        session.end(&shared).await;
    }
}

/// What a SUBSCRIBE to this filter is worth in messages: one with wildcards has all retained messages looked through.
fn worth(filter: &str) -> usize {
    if topic::has_wildcard(filter) { 100 } else { 1 }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Gives the memory of a buffer back that was large for a while.
fn trim(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > KEPT_BUFFER {
        *buffer = BytesMut::new();
    }
}
