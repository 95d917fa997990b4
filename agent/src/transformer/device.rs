//! What the transformer knows of one enrolled device.

use std::collections::BTreeMap;

use grid_protocol::message::{Activity, Capabilities, DeviceKind, Header, Measurement, Phase, Reference, Session};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::load::{CHANGE_SHOWS, Reports};
use super::plan::Enrolment;
use crate::lease::PerPhase;

/// How many sessions of one device are told apart. A device has one at a time.
const SESSIONS: usize = 8;
/// After this, a report that does not obey a setpoint shows that the setpoint was lost.
pub const ON_THE_WAY: Millis = Millis(200);
/// An idle device speaks every ten seconds: after two and a half times that it is lost.
const IDLE_LOST: Millis = Millis(25_000);
/// What a device that follows a new limit said longer ago does not count as its own. (Leases of more than six seconds
/// outlast the following anyway.)
const HEARD_LATELY: Millis = Millis(1_500);
/// A device has six seconds to follow a new limit, and its report a second to arrive.
const TIME_TO_FOLLOW: Millis = Millis(7_000);

/// The newest measurement.
#[derive(Clone, Debug)]
pub struct Heard {
    pub reference: Reference,
    pub received: BootTime,
    pub measurement: Measurement,
}

impl Heard {
    /// What of it decides about what others get, besides what is measured and proven.
    pub fn wish(&self) -> (MilliAmps, MilliAmps, Activity, Option<u8>) {
        let measurement = &self.measurement;
        (measurement.demand_ma, measurement.limit_ma, measurement.state, measurement.priority)
    }
}

/// The newest setpoint.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub seq: u64,
    pub limit: MilliAmps,
    /// The first setpoint in a row with this limit.
    pub since_seq: u64,
    /// How many before it the device did not say that it has heard of.
    pub in_vain: u64,
    pub at: BootTime,
    pub answers: Reference,
}

#[derive(Clone, Debug)]
pub struct Device {
    pub name: Name,
    pub phases: Vec<Phase>,
    /// What is reserved for it: as enrolled, or as it says, whichever is more (rule 5).
    pub failsafe: MilliAmps,
    /// What it says it can.
    pub can: Capabilities,
    /// Its status contradicts its enrolment: it gets nothing but its failsafe.
    pub differs: bool,
    pub reports: Reports,
    pub heard: Option<Heard>,
    pub sent: Option<Sent>,
    pub unsettled_since: Option<BootTime>,
    pub above_limit: bool,
    /// What it draws above its limit, as far as its last settled report said so.
    pub excess: PerPhase,
    pub lost: bool,
    /// Per session the newest measurement acted on.
    acted_on: BTreeMap<Session, u64>,
}

impl Device {
    pub fn new(enrolment: &Enrolment) -> Self {
        let phases = enrolment.phases.clone();
        let nothing = MilliAmps::ZERO;
        Self {
            name: enrolment.name.clone(),
            can: Capabilities::any_current(DeviceKind::Other, phases.clone(), nothing, nothing),
            phases,
            failsafe: enrolment.failsafe_ma,
            differs: false,
            reports: Reports::default(),
            heard: None,
            sent: None,
            unsettled_since: None,
            above_limit: false,
            excess: [MilliAmps::ZERO; 3],
            lost: false,
            acted_on: BTreeMap::new(),
        }
    }

    /// Forgets what an earlier session of the transformer was told and has sent.
    pub fn start_anew(&mut self) {
        self.reports = Reports::default();
        (self.heard, self.sent, self.unsettled_since) = (None, None, None);
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

    /// What it would like to have per phase, as far as it was heard of within `in_force`. One that does not work can use
    /// nothing.
    pub fn demand(&self, in_force: Millis, now: BootTime) -> MilliAmps {
        let Some(heard) = &self.heard else { return MilliAmps::ZERO };
        let works = !self.differs && heard.measurement.state != Activity::Fault;
        let wants = works && now.since(heard.received) <= in_force;
        if wants { heard.measurement.demand_ma.min(self.can.max_ma) } else { MilliAmps::ZERO }
    }

    /// A command switched it off.
    pub fn is_off(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.measurement.state == Activity::Off)
    }

    /// 0 first, 9 last.
    pub fn priority(&self) -> u8 {
        let commanded = self.heard.as_ref().and_then(|heard| heard.measurement.priority);
        commanded.unwrap_or(self.can.priority).min(9)
    }

    /// The largest limit up to `limit` that is of use to it.
    pub fn usable(&self, limit: MilliAmps) -> MilliAmps {
        let least = self.can.min_ma.max(MilliAmps(1));
        if self.can.steps_ma.is_empty() {
            return if limit < least { MilliAmps::ZERO } else { limit };
        }
        self.can.steps_ma.iter().copied().filter(|step| *step <= limit).max().unwrap_or(MilliAmps::ZERO)
    }

    /// The least limit above `limit` that is of use to it: a device that cannot rise by less rises to that.
    pub fn next_above(&self, limit: MilliAmps) -> MilliAmps {
        let next = self.can.steps_ma.iter().copied().find(|step| *step > limit);
        next.unwrap_or(self.least()).max(limit)
    }

    /// The least limit that is of use to it.
    pub fn least(&self) -> MilliAmps {
        self.can.steps_ma.first().copied().unwrap_or(self.can.min_ma).max(MilliAmps(1))
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

    /// Whether it has said that it obeys the limit that was sent last.
    pub fn has_heard_of(&self, ours: Session) -> bool {
        let obeys = self.heard.as_ref().and_then(|heard| heard.measurement.obeys);
        obeys.zip(self.sent).is_some_and(|(obeys, sent)| obeys.session == ours && obeys.seq >= sent.since_seq)
    }

    /// What the device may draw at the most before the rest counts as uncontrolled. `granted` is the largest limit that it
    /// may be obeying.
    pub fn entitled(&self, granted: Option<MilliAmps>, starting: bool, now: BootTime) -> MilliAmps {
        let reported = self.heard.as_ref().filter(|_| starting).map(|heard| heard.measurement.limit_ma);
        // A car may take longer to follow than a lease lasts; until then what it draws is its own (rule 5).
        let following =
            self.heard.as_ref().filter(|heard| self.is_following(now) && now.since(heard.received) <= HEARD_LATELY);
        let drawn = following.and_then(|heard| heard.measurement.current_ma.iter().copied().max());
        let drawn = drawn.map(|drawn| drawn.min(self.can.max_ma));
        let entitled = reported.into_iter().chain(granted).chain(drawn).max().unwrap_or(MilliAmps::ZERO);
        entitled.max(self.failsafe)
    }

    /// Whether it has a new limit that it may still be on its way to.
    fn is_following(&self, now: BootTime) -> bool {
        self.unsettled_since.is_some_and(|since| now.since(since) <= TIME_TO_FOLLOW)
    }

    /// Takes note of a measurement, before it is acted on. A device whose meter does not work repeats its last reading;
    /// when it has had its time to go to the failsafe limit, more is not believed.
    pub fn take_in(&mut self, measurement: &mut Measurement, now: BootTime) {
        self.unsettled_since = if measurement.settled { None } else { self.unsettled_since.or(Some(now)) };
        if measurement.state == Activity::Fault && self.unsettled_since.is_some() && !self.is_following(now) {
            measurement.current_ma.iter_mut().for_each(|current| *current = (*current).min(self.failsafe));
        }
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

    /// What the device draws no more than, although it has not said so: a limit that was sent just now.
    pub fn falling(&self, now: BootTime) -> MilliAmps {
        let fresh = self.sent.filter(|sent| now.since(sent.at) <= CHANGE_SHOWS);
        fresh.map_or(MilliAmps(i64::MAX), |sent| sent.limit)
    }

    /// Whether it has been silent for longer than its leases last, `silent_after`, and than it would be if it wanted
    /// nothing; `started` is since when it could have spoken.
    pub fn is_silent(&self, silent_after: Millis, started: BootTime, now: BootTime) -> bool {
        let Some(heard) = &self.heard else { return now.since(started) > silent_after.max(IDLE_LOST) };
        let idle = heard.measurement.demand_ma <= MilliAmps::ZERO;
        now.since(heard.received) > if idle { silent_after.max(IDLE_LOST) } else { silent_after }
    }
}
