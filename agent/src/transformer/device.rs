//! What the transformer knows of one enrolled device.

use std::collections::BTreeMap;

use grid_protocol::message::{Header, Measurement, Phase, Reference, Session};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::Enrolment;
use super::load::{CHANGE_SHOWS, Reports};
use crate::allocation::Claim;
use crate::lease::Grants;

/// How many sessions of one device are told apart. A device has one at a time.
const SESSIONS: usize = 8;
/// After this, a report that does not obey a setpoint shows that the setpoint was lost.
pub const ON_THE_WAY: Millis = Millis(200);

/// The newest measurement.
#[derive(Clone, Debug)]
pub struct Heard {
    pub reference: Reference,
    pub received: BootTime,
    pub measurement: Measurement,
}

/// The newest setpoint.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub seq: u64,
    pub limit: MilliAmps,
    pub at: BootTime,
    pub answers: Reference,
}

#[derive(Clone, Debug)]
pub struct Device {
    pub enrolment: Enrolment,
    /// What is reserved for it: as enrolled, or as it says, whichever is more (rule 5).
    pub failsafe: MilliAmps,
    pub min: MilliAmps,
    pub max: MilliAmps,
    /// Its status contradicts its enrolment: it gets nothing but its failsafe.
    pub differs: bool,
    pub grants: Grants,
    pub reports: Reports,
    pub heard: Option<Heard>,
    pub sent: Option<Sent>,
    pub wants_since: Option<BootTime>,
    pub above_limit: bool,
    /// Per session the newest measurement acted on.
    acted_on: BTreeMap<Session, u64>,
}

impl Device {
    pub fn new(enrolment: Enrolment) -> Self {
        Self {
            grants: Grants::new(enrolment.failsafe_ma),
            failsafe: enrolment.failsafe_ma,
            enrolment,
            min: MilliAmps::ZERO,
            max: MilliAmps::ZERO,
            differs: false,
            reports: Reports::default(),
            heard: None,
            sent: None,
            wants_since: None,
            above_limit: false,
            acted_on: BTreeMap::new(),
        }
    }

    /// Whether a measurement is newer than what was acted on in its session.
    pub fn is_news(&mut self, header: &Header, seq: u64) -> bool {
        if self.acted_on.get(&header.session).is_some_and(|acted_on| seq <= *acted_on) {
            return false;
        }
        if self.acted_on.len() >= SESSIONS && !self.acted_on.contains_key(&header.session) {
            let current = self.heard.as_ref().map(|heard| heard.reference.session);
            self.acted_on.retain(|session, _| Some(*session) == current);
        }
        self.acted_on.insert(header.session, seq);
        true
    }

    /// The newest measurement, if a setpoint could still answer it.
    pub fn answerable(&self, ttl: Millis, now: BootTime) -> Option<&Heard> {
        self.heard.as_ref().filter(|heard| now < heard.received + ttl)
    }

    /// What the device would like, as far as it was heard of within `in_force`.
    pub fn claim(&self, in_force: Millis, now: BootTime) -> Claim {
        let demand = match &self.heard {
            Some(heard) if !self.differs && now.since(heard.received) <= in_force => heard.measurement.demand_ma,
            Some(_) | None => MilliAmps::ZERO,
        };
        Claim { phases: self.enrolment.phases.clone(), min: self.min, max: self.max, demand }
    }

    /// The limit that the device most likely obeys now.
    ///
    /// `ours` is this transformer session; what a device says of others is believed only while `starting` (rule 7).
    pub fn obeyed(&self, ours: Session, starting: bool) -> MilliAmps {
        let Some(heard) = &self.heard else { return self.failsafe };
        let Some(sent) = self.sent else {
            return if starting { heard.measurement.limit_ma } else { self.failsafe };
        };
        let obeys_newest = heard.measurement.obeys == Some(Reference { session: ours, seq: sent.seq });
        if obeys_newest || heard.received.since(sent.at) > ON_THE_WAY { heard.measurement.limit_ma } else { sent.limit }
    }

    /// What the device may draw at the most before the rest counts as uncontrolled.
    pub fn entitled(&self, starting: bool, now: BootTime) -> MilliAmps {
        let reported = self.heard.as_ref().filter(|_| starting).map(|heard| heard.measurement.limit_ma);
        let granted = self.grants.largest(now);
        let entitled = reported.into_iter().chain(granted).max().unwrap_or(MilliAmps::ZERO);
        entitled.max(self.failsafe)
    }

    /// What the device may draw already although it has not said so: a limit that was sent just now.
    pub fn rising(&self, ours: Session, now: BootTime) -> MilliAmps {
        let (Some(sent), Some(heard)) = (self.sent, &self.heard) else { return MilliAmps::ZERO };
        let obeys = heard.measurement.obeys.filter(|obeys| obeys.session == ours);
        let reported = obeys.is_some_and(|obeys| obeys.seq >= sent.seq);
        if reported || now.since(sent.at) > CHANGE_SHOWS {
            MilliAmps::ZERO
        } else {
            sent.limit.min(heard.measurement.demand_ma)
        }
    }

    /// The places of the device's phases among L1, L2, L3.
    pub fn phases(&self) -> impl Iterator<Item = (usize, Phase)> + '_ {
        self.enrolment.phases.iter().copied().enumerate()
    }
}
