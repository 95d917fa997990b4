//! What all connections of one broker share.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::access::{Access, Owner};
use crate::budget::Left;
use crate::clients::Clients;
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::message::{Message, Millis, Qos};
use crate::metrics::{DropReason, Metrics};
use crate::retained::{Outcome, Retained};
use crate::router::{Router, Unpublished};

/// Lines about clients that may come at once: a street that reconnects after a power cut is still seen whole.
const LINES_AT_ONCE: u32 = 500;
/// One further such line in this time.
const PER_LINE: Duration = Duration::from_millis(500);
/// More than there are figures below `$SYS`, with the list of revocations.
const OWN_TOPICS: usize = 1000;

/// One broker's state.
pub struct Shared {
    /// The broker's limits.
    pub limits: Limits,
    /// Who may do what, as last loaded.
    pub access: watch::Receiver<Arc<Access>>,
    /// What is counted.
    pub metrics: Metrics,
    /// For lines that clients can provoke.
    pub log: LogLimit,
    /// Routing core.
    pub router: Arc<Router>,
    /// Retained messages.
    pub retained: Mutex<Retained>,
    /// Who is connected, and whose session is kept.
    pub clients: Arc<Clients>,
    /// Bytes that wait for all clients together.
    pub queued: Arc<AtomicUsize>,
    /// Topics that the broker itself may publish to.
    own_topics: Left,
    /// When the broker started.
    pub started: Instant,
    sessions: AtomicU64,
    /// Cancelled when the broker stops.
    pub shutdown: CancellationToken,
}

impl Shared {
    /// The state of a broker that starts now.
    pub fn new(
        limits: Limits,
        access: watch::Receiver<Arc<Access>>,
        router: Arc<Router>,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        Arc::new(Self {
            router,
            retained: Mutex::new(Retained::new(limits.retained_room())),
            clients: Clients::new(limits.clone(), shutdown.clone()),
            queued: Arc::default(),
            own_topics: Left::new(OWN_TOPICS),
            started: Instant::now(),
            // 0 is the broker itself.
            sessions: AtomicU64::new(1),
            shutdown,
            access,
            metrics: Metrics::default(),
            log: LogLimit::new(LINES_AT_ONCE, PER_LINE),
            limits,
        })
    }

    /// The time.
    pub fn now(&self) -> Millis {
        Millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// A number that no other session of this broker has.
    pub fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps the message of `owner` if it asks for it, then publishes it. In this order, so that a subscriber either
    /// finds it among the retained ones or gets it from the router; and under one lock, so that what is kept is what
    /// subscribers get last. If nobody has published to its topic yet, one of `topics` is used up.
    pub fn publish(&self, mut message: Message, owner: &Owner, topics: &Left) -> Result<Outcome, Unpublished> {
        if !message.retain {
            return self.router.publish(&mut message, topics).map(|()| Outcome::Done);
        }
        self.router.admit(&message.topic, topics)?;
        let mut retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = retained.apply(&message, owner);
        if outcome == Outcome::Full {
            self.metrics.drop(DropReason::RetainedFull, 1);
            if self.log.allows() {
                warn!(topic = message.topic, "the retained store is full: message delivered but not kept");
            }
        }
        self.router.publish(&mut message, topics).map(|()| outcome)
    }

    /// Publishes a message of the broker itself, retained.
    pub fn publish_own(&self, topic: String, payload: Bytes, qos: Qos) -> Result<Outcome, Unpublished> {
        let message = Message {
            sequence: 0,
            // No session has this number.
            publisher: 0,
            received: self.now(),
            topic,
            qos,
            retain: true,
            properties: Bytes::new(),
            payload,
        };
        self.publish(message, &Owner::Broker, &self.own_topics)
    }

    /// Looks up the figures that nobody counts.
    pub fn sample(&self) {
        let census = self.clients.census();
        let (messages, bytes) = {
            let retained = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
            (retained.len(), retained.bytes())
        };
        for (gauge, value) in [
            (&self.metrics.clients, census.connected),
            (&self.metrics.clients_maximum, census.maximum),
            (&self.metrics.sessions_away, census.away),
            (&self.metrics.retained, messages),
            (&self.metrics.retained_bytes, bytes),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.metrics.uptime.set(i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX));
    }
}
