//! What of a client outlives its connection: subscriptions, what waits for it, and what is not acknowledged.
//!
//! A session is in the hands of one connection, or of [`keep`] while its client is away. Both take messages off the
//! router as soon as they come: nobody else would, and publishers would be held back (see [`crate::gate`]).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, info};

use crate::access::{Identity, Rights};
use crate::clients::Login;
use crate::message::Message;
use crate::metrics::DropReason;
use crate::outbox::{Full, Outbox};
use crate::router::{Gone, Reader};
use crate::shared::Shared;
use crate::subscriptions::Subscriptions;
use crate::unacknowledged::Unacknowledged;

/// Messages taken off the router in a row, before others get their turn.
const TAKEN_IN_A_ROW: usize = 256;

/// One session.
pub struct Session {
    /// Unique in this broker.
    pub number: u64,
    /// MQTT client id.
    pub client_id: String,
    /// What it is subscribed to.
    pub subscriptions: Subscriptions,
    /// The router's end of that, from the first SUBSCRIBE on.
    pub reader: Option<Reader>,
    /// What waits for the client.
    pub outbox: Outbox,
    /// What was sent to it and is not acknowledged to the end.
    pub unacknowledged: Unacknowledged,
    /// Packet ids of QoS 2 messages from it that it has not released yet.
    pub received: HashSet<u16>,
}

/// Why no more could be taken off the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// Too much waits for the client.
    Full,
    /// The router is gone.
    Gone,
}

impl From<Gone> for Stuck {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<Full> for Stuck {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("number", &self.number).field("client_id", &self.client_id).finish()
    }
}

impl Session {
    /// A new one.
    pub fn new(shared: &Shared, number: u64, client_id: String) -> Self {
        Self {
            number,
            client_id,
            subscriptions: Subscriptions::new(number),
            reader: None,
            outbox: Outbox::new(shared.limits.queue_room(), Arc::clone(&shared.queued)),
            unacknowledged: Unacknowledged::default(),
            received: HashSet::new(),
        }
    }

    /// The next message from the router. Cancel-safe.
    pub async fn next(&mut self) -> Result<Message, Gone> {
        match &mut self.reader {
            Some(reader) => reader.next().await,
            None => std::future::pending().await,
        }
    }

    /// Takes this message, and what else is there already, into the outbox. While the client is `away`, what is sent
    /// at most once is not kept.
    pub fn take(&mut self, shared: &Shared, first: Message, rights: &Rights, away: bool) -> Result<(), Stuck> {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(message) = next {
            match self.subscriptions.deliver(message, rights) {
                Some(delivery) if away && !delivery.qos.is_assured() => shared.metrics.drop(DropReason::Away, 1),
                Some(delivery) => self.outbox.push(delivery)?,
                None => {}
            }
            taken += 1;
            next = match &mut self.reader {
                Some(reader) if taken < TAKEN_IN_A_ROW => reader.try_next()?,
                _ => None,
            };
        }
        self.count_dropped(shared);
        Ok(())
    }

    /// Counts what the outbox had to drop.
    pub fn count_dropped(&mut self, shared: &Shared) {
        let dropped = self.outbox.take_dropped();
        if dropped > 0 {
            shared.metrics.drop(DropReason::QueueFull, dropped);
        }
    }

    /// Ends it: what waits is lost, which is counted, and the link to the router is returned.
    pub async fn end(mut self, shared: &Shared) {
        self.count_dropped(shared);
        let lost = self.outbox.assured() + self.unacknowledged.undelivered();
        if lost > 0 {
            shared.metrics.drop(DropReason::SessionEnded, u64::try_from(lost).unwrap_or(u64::MAX));
            if shared.log.allows() {
                info!(client = self.client_id, lost, "its session ended with messages that it did not get");
            }
        }
        shared.metrics.drop(DropReason::Away, self.outbox.drop_plain());
        shared.metrics.subscriptions.dec_by(i64::try_from(self.subscriptions.len()).unwrap_or(i64::MAX));
        let Some(reader) = self.reader.take() else {
            return;
        };
        // A router that does not answer is the heartbeat's business; nothing is lost with the link.
        let release = reader.release(self.subscriptions.take());
        let limit = shared.limits.heartbeat_timeout;
        if !matches!(tokio::time::timeout(limit, release).await, Ok(Ok(()))) {
            debug!(client = self.client_id, "link not returned");
        }
    }
}

/// Keeps the session of a client that is away until it comes back or `expiry` has passed.
pub async fn keep(shared: Arc<Shared>, mut session: Session, login: Login, identity: Identity, expiry: Duration) {
    if !login.go_away() {
        if shared.log.allows() {
            info!(client = session.client_id, "its session is not kept: there are too many already");
        }
        drop(login);
        return session.end(&shared).await;
    }
    shared.metrics.drop(DropReason::Away, session.outbox.drop_plain());
    let mut access = shared.access.clone();
    let mut rights = access.borrow_and_update().rights(&identity);
    let expired = tokio::time::sleep(expiry);
    tokio::pin!(expired);
    while let Some(allowed) = &rights {
        tokio::select! {
            () = login.kicked.cancelled() => {
                // Nobody waits for it when the broker stops.
                if !shared.shutdown.is_cancelled() {
                    login.give_up(session);
                }
                return;
            }
            () = &mut expired => {
                shared.metrics.sessions_expired.inc();
                break;
            }
            Ok(()) = access.changed() => {
                rights = access.borrow_and_update().rights(&identity);
                if let Some(rights) = &rights {
                    session.subscriptions.reconsider(rights);
                }
            }
            message = session.next() => {
                let taken = message.map_err(Stuck::from);
                if taken.and_then(|message| session.take(&shared, message, allowed, true)).is_err() {
                    break;
                }
            }
        }
    }
    drop(login);
    session.end(&shared).await;
}
