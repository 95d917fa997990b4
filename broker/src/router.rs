//! rumqttd's router as routing core, and the only way in which the door talks to it.
//!
//! The router matches topics to filters and hands each message to the *links* whose filters match; it runs in a
//! thread of its own. It is fast, and it is fragile: ordinary traffic can panic its thread, after which nothing moves
//! any more. So it gets to see only what it cannot choke on:
//!
//! - Everything is published through **one link**, at QoS 0, never retained, without properties, on topics in the
//!   spelling of [`crate::topic`], in the envelope of [`crate::message`]. Nothing else is ever acknowledged, kept or
//!   expired by it.
//! - **Links are never given back to it.** It has several ways to die when a link disconnects while messages are on
//!   their way, it reuses a link's number while that may still be in its queues, and it keeps a record per link name
//!   for ever. So a client with subscriptions borrows a link, and when it leaves, its filters are unsubscribed, what
//!   is still under way is drained up to the answer to a ping, and the link waits for the next client. Links have
//!   numbers for names; client ids never reach the router.
//! - A link that has taken some 200 messages is paused until it says *ready*. That is said exactly once per pause.
//! - A subscription counts when the router has answered it, because another link's publish may overtake it.
//! - Nobody falls behind its logs: see [`crate::gate`].
//! - It is told about a limited number of distinct filters and topics, because it forgets none.
//!
//! Its thread cannot be ended: it waits on a channel of which it holds a sender itself. A broker that stops leaves it
//! parked, without subscriptions, until the process ends.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rumqttd::local::{LinkBuilder, LinkError, LinkRx, LinkTx};
use rumqttd::{RouterConfig, SegmentConfig};
use thiserror::Error;
use tokio::sync::Notify;

use crate::budget::Left;
use crate::gate::{Gate, Mark};
use crate::limits::Limits;
use crate::link::{Incoming, Link};
use crate::message::Message;
use crate::topic;

/// Topic and filter of the gate's marks. One level, so no filter of a client matches it.
const MARK: &str = "m";
/// Topic and filter of the heartbeat.
const BEAT: &str = "h";

/// Segments per log, each of one window of [`crate::gate`]. A segment and a window both end with the message that
/// fills them, so a segment reaches at least to the end of the window in which it begins: three unread windows lie in
/// at most four segments, however large the messages. The fifth is for what passes a closed gate: the wills of many
/// clients that vanish at once, and one message of each connection that is just being served.
const SEGMENTS: usize = 5;

/// The router's thread has ended or does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the router thread has ended")]
pub struct Gone;

impl From<LinkError> for Gone {
    fn from(_: LinkError) -> Self {
        Gone
    }
}

/// Why a message could not be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unpublished {
    /// The router is gone.
    Gone,
    /// The topic is new and one too many.
    TooManyTopics(String),
}

/// Why a filter could not be subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsubscribed {
    /// The router is gone.
    Gone,
    /// The filter is new and one too many.
    TooManyFilters,
}

type Connect = dyn Fn(&str) -> Result<(LinkTx, LinkRx), Gone> + Send + Sync;

/// The router, shared by all connections of one broker.
pub struct Router {
    /// Opens a link. The router's event type cannot be named, so its sender lives in here.
    connect: Box<Connect>,
    publisher: Mutex<Publisher>,
    idle: Mutex<Vec<Link>>,
    links: AtomicU64,
    sequence: AtomicU64,
    closed: AtomicBool,
    opened: Notify,
}

struct Publisher {
    tx: LinkTx,
    gate: Gate,
    marked: Instant,
    /// All topics published to, with the router's spelling, of which its logs hold no copies so.
    topics: HashMap<String, Bytes>,
    /// All filters subscribed to.
    filters: HashSet<String>,
    /// How many of them have wildcards.
    wildcards: usize,
    max_topics: usize,
    max_filters: usize,
    max_wildcards: usize,
}

impl Publisher {
    /// The router's spelling of a topic.
    fn spell(&mut self, topic: &str, left: &Left) -> Result<Bytes, Unpublished> {
        if let Some(spelt) = self.topics.get(topic) {
            return Ok(spelt.clone());
        }
        if self.topics.len() >= self.max_topics || !left.take() {
            return Err(Unpublished::TooManyTopics(topic.to_owned()));
        }
        let spelt = Bytes::from(topic::to_router_topic(topic));
        self.topics.insert(topic.to_owned(), spelt.clone());
        Ok(spelt)
    }
}

fn config(limits: &Limits) -> RouterConfig {
    // The router panics on segments below 1 KiB.
    let exact = SegmentConfig { max_segment_size: limits.exact_window.max(1024), max_segment_count: SEGMENTS };
    RouterConfig {
        // Links of clients, of those away, of those just leaving, the publisher's and the heartbeat's.
        max_connections: limits
            .max_clients
            .saturating_mul(2)
            .saturating_add(limits.max_sessions_away)
            .saturating_add(16),
        max_outgoing_packet_count: 1000,
        max_segment_size: limits.window.max(1024),
        max_segment_count: SEGMENTS,
        custom_segment: Some(topic::EXACT_FILTERS.map(|key| (key.to_owned(), exact.clone())).into()),
        ..RouterConfig::default()
    }
}

impl Router {
    /// Starts a router in a thread of its own. The heartbeat must be run by the caller.
    pub fn start(limits: &Limits) -> Result<(Arc<Self>, Heartbeat), Gone> {
        let sender = rumqttd::Router::new(0, config(limits)).spawn();
        let connect = Box::new(move |name: &str| {
            let (tx, rx, _) = LinkBuilder::new(name, sender.clone()).build()?;
            Ok((tx, rx))
        });
        let (tx, _) = connect("publisher")?;
        let router = Arc::new(Self {
            connect,
            publisher: Mutex::new(Publisher {
                tx,
                gate: Gate::new(limits.window, limits.exact_window),
                marked: Instant::now(),
                topics: HashMap::new(),
                filters: HashSet::new(),
                wildcards: 0,
                max_topics: limits.max_topics,
                max_filters: limits.max_filters,
                max_wildcards: limits.max_wildcard_filters,
            }),
            idle: Mutex::new(Vec::new()),
            links: AtomicU64::new(0),
            sequence: AtomicU64::new(1),
            closed: AtomicBool::new(false),
            opened: Notify::new(),
        });
        let mut link = router.open_link()?;
        link.subscribe(BEAT)?;
        let heartbeat = Heartbeat { router: Arc::clone(&router), link };
        Ok((router, heartbeat))
    }

    /// Publishes a message to all who are subscribed. Never waits for them, and for the router only while its
    /// channel of 1000 events is full. `message.sequence` is set here.
    /// A topic that is new uses one of `left` up.
    pub fn publish(&self, message: &mut Message, left: &Left) -> Result<(), Unpublished> {
        message.sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        let envelope = message.to_envelope();
        let mut publisher = self.publisher();
        let spelt = publisher.spell(&message.topic, left)?;
        // What the router counts for a message in its logs.
        let size = 4 + spelt.len() + envelope.len();
        publisher.tx.publish(spelt, envelope).map_err(|_| Unpublished::Gone)?;
        let mark = publisher.gate.published(&message.topic, size);
        self.after_gate(&mut publisher, mark).map_err(|Gone| Unpublished::Gone)
    }

    /// Makes sure that `topic` can be published to. One that is new uses one of `left` up.
    pub fn admit(&self, topic: &str, left: &Left) -> Result<(), Unpublished> {
        self.publisher().spell(topic, left).map(|_| ())
    }

    /// Whether publishers must wait for [`opened`](Self::opened).
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits until publishers may go on.
    pub async fn opened(&self) {
        loop {
            // Created before the look at the gate, so that no opening in between is missed.
            let opened = self.opened.notified();
            if !self.is_closed() {
                return;
            }
            opened.await;
        }
    }

    /// Whether some reader has not seen a mark for so long that something must be broken.
    fn is_overdue(&self, limit: Duration) -> bool {
        let publisher = self.publisher();
        publisher.gate.is_waiting() && publisher.marked.elapsed() > limit
    }

    /// A reader for a client that subscribes for the first time.
    pub async fn reader(self: &Arc<Self>) -> Result<Reader, Gone> {
        let idle = lock(&self.idle).pop();
        let mut link = match idle {
            Some(link) => link,
            None => self.new_link().await?,
        };
        link.subscribe(MARK)?;
        while !matches!(link.next().await?, Incoming::Granted) {}
        // From here on the link gets all marks.
        self.publisher().gate.join(link.number);
        Ok(Reader {
            router: Arc::clone(self),
            number: link.number,
            link: Some(link),
            exact: HashSet::new(),
            early: VecDeque::new(),
        })
    }

    async fn new_link(self: &Arc<Self>) -> Result<Link, Gone> {
        let router = Arc::clone(self);
        // Opening a link blocks its thread until the router answers: for ever, if the router dies at that moment.
        tokio::task::spawn_blocking(move || router.open_link()).await.map_err(|_| Gone)?
    }

    fn open_link(&self) -> Result<Link, Gone> {
        let number = self.links.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = (self.connect)(&number.to_string())?;
        Ok(Link::new(usize::try_from(number).map_err(|_| Gone)?, tx, rx))
    }

    fn publisher(&self) -> MutexGuard<'_, Publisher> {
        lock(&self.publisher)
    }

    fn after_gate(&self, publisher: &mut Publisher, mark: Option<Mark>) -> Result<(), Gone> {
        if let Some(mark) = mark {
            publisher.marked = Instant::now();
            publisher.tx.publish(MARK, mark.to_le_bytes().to_vec())?;
        }
        let closed = publisher.gate.is_closed();
        if self.closed.swap(closed, Ordering::Relaxed) && !closed {
            self.opened.notify_waiters();
        }
        Ok(())
    }

    fn seen(&self, reader: usize, mark: Mark) -> Result<(), Gone> {
        let mut publisher = self.publisher();
        let next = publisher.gate.seen(reader, mark);
        self.after_gate(&mut publisher, next)
    }
}

/// Notices that the router has stopped working.
pub struct Heartbeat {
    router: Arc<Router>,
    link: Link,
}

impl Heartbeat {
    /// Sends a message through the router to itself once per `interval`, and returns when one does not come back
    /// within `limit`, or a mark of the gate does not. `answered` is called for each that does.
    pub async fn run(mut self, interval: Duration, limit: Duration, mut answered: impl FnMut()) -> Gone {
        let mut ticks = tokio::time::interval(interval);
        loop {
            ticks.tick().await;
            let back = tokio::time::timeout(limit, self.beat()).await;
            if !matches!(back, Ok(Ok(()))) || self.router.is_overdue(limit) {
                return Gone;
            }
            answered();
        }
    }

    async fn beat(&mut self) -> Result<(), Gone> {
        self.router.publisher().tx.publish(BEAT, Bytes::new())?;
        while !matches!(self.link.next().await?, Incoming::Forward { .. }) {}
        Ok(())
    }
}

/// A client's end of the router: its filters, and the messages that match them. Must be read without delay.
pub struct Reader {
    router: Arc<Router>,
    number: usize,
    /// Present until [`release`](Self::release).
    link: Option<Link>,
    /// Exact filters that the gate watches for this reader.
    exact: HashSet<String>,
    /// Messages that came while a subscription was waited for.
    early: VecDeque<Message>,
}

impl Reader {
    /// Subscribes to a filter that this reader is not subscribed to. When this returns, it holds for everything
    /// published from then on. A filter that is new uses one of `left` up.
    pub async fn subscribe(&mut self, filter: &str, left: &Left) -> Result<(), Unsubscribed> {
        {
            let mut publisher = lock(&self.router.publisher);
            if !publisher.filters.contains(filter) {
                let wildcard = topic::has_wildcard(filter);
                let full = publisher.filters.len() >= publisher.max_filters
                    || (wildcard && publisher.wildcards >= publisher.max_wildcards);
                if full || !left.take() {
                    return Err(Unsubscribed::TooManyFilters);
                }
                publisher.wildcards += usize::from(wildcard);
                publisher.filters.insert(filter.to_owned());
            }
            if !topic::has_wildcard(filter) && self.exact.insert(filter.to_owned()) {
                publisher.gate.watch(filter);
            }
        }
        self.subscribe_and_wait(filter).await.map_err(|Gone| Unsubscribed::Gone)
    }

    /// The router takes each link's packets in order, but all that a link has at once, so a publish may overtake a
    /// subscribe of another link that was sent before. Hence the wait for its answer.
    async fn subscribe_and_wait(&mut self, filter: &str) -> Result<(), Gone> {
        self.link.as_mut().ok_or(Gone)?.subscribe(&topic::to_router_filter(filter))?;
        loop {
            match self.link.as_mut().ok_or(Gone)?.next().await? {
                Incoming::Granted => return Ok(()),
                incoming => {
                    let early = self.take(incoming)?;
                    self.early.extend(early);
                }
            }
        }
    }

    /// Unsubscribes from a filter. Messages for it may still be under way.
    pub fn unsubscribe(&mut self, filter: &str) -> Result<(), Gone> {
        if self.exact.remove(filter) {
            self.router.publisher().gate.unwatch(filter);
        }
        if let Some(link) = &mut self.link {
            link.unsubscribe(&topic::to_router_filter(filter))?;
        }
        Ok(())
    }

    /// The next message. Cancel-safe: what was not returned stays.
    pub async fn next(&mut self) -> Result<Message, Gone> {
        if let Some(message) = self.early.pop_front() {
            return Ok(message);
        }
        loop {
            let incoming = self.link.as_mut().ok_or(Gone)?.next().await?;
            if let Some(message) = self.take(incoming)? {
                return Ok(message);
            }
        }
    }

    /// The next message if there is one already.
    pub fn try_next(&mut self) -> Result<Option<Message>, Gone> {
        if let Some(message) = self.early.pop_front() {
            return Ok(Some(message));
        }
        while let Some(incoming) = self.link.as_mut().ok_or(Gone)?.try_next()? {
            if let Some(message) = self.take(incoming)? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn take(&self, incoming: Incoming) -> Result<Option<Message>, Gone> {
        let Incoming::Forward { topic, envelope } = incoming else {
            return Ok(None);
        };
        if topic == MARK {
            if let Ok(mark) = envelope[..].try_into() {
                self.router.seen(self.number, Mark::from_le_bytes(mark))?;
            }
            return Ok(None);
        }
        Ok(topic::from_router_topic(&topic).and_then(|topic| Message::from_envelope(topic, &envelope)))
    }

    /// Ends the subscriptions to `filters`, which must be all there are, and returns the link for others to use.
    pub async fn release(mut self, filters: Vec<String>) -> Result<(), Gone> {
        let Some(mut link) = self.link.take() else {
            return Ok(());
        };
        for filter in filters {
            link.unsubscribe(&topic::to_router_filter(&filter))?;
        }
        link.unsubscribe(MARK)?;
        link.ping().await?;
        while !matches!(link.next().await?, Incoming::Pong) {}
        lock(&self.router.idle).push(link);
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut publisher = lock(&self.router.publisher);
        for filter in &self.exact {
            publisher.gate.unwatch(filter);
        }
        let mark = publisher.gate.leave(self.number);
        // A router that is gone is noticed by the heartbeat.
        let _ = self.router.after_gate(&mut publisher, mark);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is consistent after every statement, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the router's thread, as a fault in it would.
#[cfg(test)]
pub(crate) fn kill(router: &Router) {
    let mut publisher = router.publisher();
    // The fault that made topics need a spelling of their own: the first letter takes two bytes.
    let _ = publisher.tx.subscribe("#");
    let _ = publisher.tx.publish("é", Bytes::new());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Qos, tests::message};

    const LONG: Duration = Duration::from_secs(20);

    fn plenty() -> Left {
        Left::new(1000)
    }

    #[tokio::test]
    async fn a_released_link_brings_nothing_to_its_next_user() {
        let (router, _heartbeat) = Router::start(&Limits::default()).unwrap();
        let mut first = router.reader().await.unwrap();
        let number = first.number;
        first.subscribe("a", &plenty()).await.unwrap();
        for _ in 0..1000 {
            router.publish(&mut message("a", Qos::AtMostOnce, "old"), &plenty()).unwrap();
        }
        first.release(vec!["a".to_owned()]).await.unwrap();
        let mut second = router.reader().await.unwrap();
        assert_eq!(second.number, number, "the same link");
        second.subscribe("b", &plenty()).await.unwrap();
        router.publish(&mut message("a", Qos::AtMostOnce, "old"), &plenty()).unwrap();
        router.publish(&mut message("b", Qos::AtMostOnce, "new"), &plenty()).unwrap();
        let got = tokio::time::timeout(LONG, second.next()).await.unwrap().unwrap();
        assert_eq!(got.topic, "b");
    }

    #[tokio::test]
    async fn a_burst_far_larger_than_the_logs_arrives_complete_because_the_gate_holds_it_back() {
        let limits = Limits { window: 16 * 1024, exact_window: 2 * 1024, ..Limits::default() };
        for filter in ["#", "a/b"] {
            let (router, _heartbeat) = Router::start(&limits).unwrap();
            let mut reader = router.reader().await.unwrap();
            reader.subscribe(filter, &plenty()).await.unwrap();
            let source = Arc::clone(&router);
            let publishing = tokio::spawn(async move {
                for number in 0..20_000_u32 {
                    source.opened().await;
                    source.publish(&mut message("a/b", Qos::AtMostOnce, &number.to_string()), &plenty()).unwrap();
                }
            });
            for number in 0..20_000_u32 {
                let got = tokio::time::timeout(LONG, reader.next()).await.unwrap().unwrap();
                assert_eq!(got.payload, number.to_string(), "{filter}");
            }
            publishing.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_dropped_in_the_middle_of_its_work_holds_nobody_back() {
        let limits = Limits { window: 16 * 1024, ..Limits::default() };
        let (router, _heartbeat) = Router::start(&limits).unwrap();
        for _ in 0..3 {
            let mut lost = router.reader().await.unwrap();
            lost.subscribe("#", &plenty()).await.unwrap();
        }
        let mut reader = router.reader().await.unwrap();
        reader.subscribe("t", &plenty()).await.unwrap();
        for number in 0..2000_u32 {
            tokio::time::timeout(LONG, router.opened()).await.unwrap();
            router.publish(&mut message("t", Qos::AtMostOnce, &number.to_string()), &plenty()).unwrap();
            let got = tokio::time::timeout(LONG, reader.next()).await.unwrap().unwrap();
            assert_eq!(got.payload, number.to_string());
        }
    }

    #[tokio::test]
    async fn the_heartbeat_notices_that_the_router_thread_died() {
        let (router, heartbeat) = Router::start(&Limits::default()).unwrap();
        let beating = heartbeat.run(Duration::from_millis(20), Duration::from_secs(3), || {});
        tokio::pin!(beating);
        assert!(tokio::time::timeout(Duration::from_millis(200), &mut beating).await.is_err(), "it beats");
        kill(&router);
        assert_eq!(tokio::time::timeout(LONG, beating).await.unwrap(), Gone);
    }
}
