//! What a device and a transformer do with their book, as far as the lease rules are concerned.
//!
//! A device's book says what it is entitled to. Its actuator may be behind: after a decrease it still allows what the
//! lease before allowed, until it has followed or that lease is over (a lease binds the actuator, not the process). Both
//! together are what the device is *entitled to draw*, and only an actuator that has followed is reported as settled.

use std::collections::BTreeMap;

use grid_agent::lease::{Lease, PerPhase, Terms};
use grid_protocol::message::{Reference, Session};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use crate::twin::{Order, Place, Report, TwinGranter, TwinHolder, Weakness};

/// What all parties of a street are configured with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Site {
    /// The lease rule that is broken; none in the code that runs.
    pub weakness: Option<Weakness>,
    /// How long leases last.
    pub terms: Terms,
    /// Of each node, its parent.
    pub parents: Vec<Option<usize>>,
    /// The devices.
    pub places: Vec<Place>,
}

/// A device of one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Device {
    book: TwinHolder,
    reports: u64,
    /// The lease that the actuator still follows although the book has a lower limit.
    behind: Option<Lease>,
    /// The newest transformer session that it has accepted a setpoint of, and its epoch.
    newest: Option<(u64, Session)>,
}

impl Device {
    /// A device that starts. It has set its actuator to the failsafe limit.
    pub fn new(site: &Site, number: usize, session: Session) -> Self {
        let failsafe = site.places[number].failsafe;
        Self {
            book: TwinHolder::new(site.weakness, session, failsafe, site.terms.max_ttl),
            reports: 0,
            behind: None,
            newest: None,
        }
    }

    /// What it would report now, and notes that it did.
    pub fn report(&mut self, current: MilliAmps, now: BootTime) -> Report {
        self.reports += 1;
        self.book.measurement_sent(self.reports, now);
        Report {
            reference: Reference { session: self.book.session(), seq: self.reports },
            limit: self.book.limit(now),
            obeys: self.book.lease(now).map(|lease| lease.by),
            settled: self.behind(now).is_none(),
            current,
        }
    }

    /// Takes a setpoint. The actuator has not followed yet. Nothing if the setpoint is refused.
    pub fn accept(&mut self, order: &Order, now: BootTime) -> Option<Lease> {
        let allowed = self.behind(now).or(self.book.lease(now));
        let lease = self.book.accept(order, now)?;
        self.behind = allowed.filter(|allowed| allowed.limit > lease.limit);
        self.newest = self.newest.max(Some((order.epoch, order.by.session)));
        Some(lease)
    }

    /// The actuator has followed the book.
    pub fn settle(&mut self) {
        self.behind = None;
    }

    /// The lease that the actuator still follows although the book has a lower limit.
    pub fn behind(&self, now: BootTime) -> Option<Lease> {
        self.behind.filter(|lease| now < lease.ends)
    }

    /// Forgets what the actuator was behind with, once it no longer is.
    pub fn forget_what_is_over(&mut self, now: BootTime) {
        self.behind = self.behind(now);
    }

    /// Whether it is entitled to anything by a lease.
    pub fn holds_a_lease(&self, now: BootTime) -> bool {
        self.book.lease(now).is_some() || self.behind(now).is_some()
    }

    /// Its own session.
    pub fn session(&self) -> Session {
        self.book.session()
    }

    /// What its book entitles it to.
    pub fn limit(&self, now: BootTime) -> MilliAmps {
        self.book.limit(now)
    }

    /// The lease in its book, if one is alive.
    pub fn lease(&self, now: BootTime) -> Option<Lease> {
        self.book.lease(now)
    }

    /// What book and actuator allow it to draw.
    pub fn entitled(&self, now: BootTime) -> MilliAmps {
        self.behind(now).map_or(self.limit(now), |lease| lease.limit.max(self.limit(now)))
    }
}

/// A transformer of one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transformer {
    book: TwinGranter,
    ttl: Millis,
    setpoints: u64,
    /// Of each device and each session of it, the newest measurement acted on.
    acted_on: Vec<BTreeMap<Session, u64>>,
    /// Of each device, the last measured current and when it came.
    measured: Vec<Option<(MilliAmps, BootTime)>>,
}

impl Transformer {
    /// A transformer that starts.
    pub fn new(site: &Site, session: Session, epoch: u64, now: BootTime) -> Self {
        let by = (session, epoch);
        Self {
            book: TwinGranter::new(site.weakness, by, site.terms, site.parents.clone(), &site.places, now),
            ttl: site.terms.ttl,
            setpoints: 0,
            acted_on: vec![BTreeMap::new(); site.places.len()],
            measured: vec![None; site.places.len()],
        }
    }

    /// Its book.
    pub fn book(&self) -> &TwinGranter {
        &self.book
    }

    /// Whether a report is newer than what was acted on in its session. Others are ignored.
    pub fn is_news(&self, device: usize, report: &Report) -> bool {
        let Reference { session, seq } = report.reference;
        self.acted_on[device].get(&session).is_none_or(|acted_on| seq > *acted_on)
    }

    /// Takes a report, if it is news.
    pub fn hear(&mut self, device: usize, report: &Report, now: BootTime) {
        if self.is_news(device, report) {
            self.acted_on[device].insert(report.reference.session, report.reference.seq);
            self.measured[device] = Some((report.current, now));
            self.book.measured(device, report, now);
        }
    }

    /// Sends a setpoint of `limit`, if the device said something lately that it can answer.
    pub fn send(&mut self, device: usize, limit: MilliAmps, rooms: &[PerPhase], now: BootTime) -> Option<Order> {
        let order = self.book.send(device, limit, rooms, self.setpoints + 1, now)?;
        self.setpoints += 1;
        Some(order)
    }

    /// Whether it has heard of any device.
    pub fn has_heard(&self) -> bool {
        self.measured.iter().any(Option::is_some)
    }

    /// The current that a device reported within the last ttl.
    pub fn measured(&self, device: usize, now: BootTime) -> MilliAmps {
        let fresh = self.measured[device].filter(|(_, at)| now < *at + self.ttl);
        fresh.map_or(MilliAmps::ZERO, |(current, _)| current)
    }

    /// What of a device's entitlement this session's book must cover. What other sessions granted it need not while it is
    /// starting: until the device has accepted its first setpoint that is all, and then it is what the actuator is behind
    /// with. `at` is the device's time.
    pub fn answers_for(&self, device: &Device, at: BootTime, now: BootTime) -> MilliAmps {
        let (starting, ours) = (self.book.is_starting(now), self.book.session());
        let bound = !starting || device.newest.is_some_and(|(_, session)| session == ours);
        let behind = device.behind(at).filter(|lease| !starting || lease.by.session == ours);
        let limit = if bound { device.limit(at) } else { MilliAmps::ZERO };
        behind.map_or(limit, |lease| lease.limit.max(limit))
    }
}
