//! The device's decisions: what to apply, what to report, when.
//!
//! A value without I/O and clock. It is told what is read, wanted, received and commanded, and answers with [`Action`]s in
//! the order in which they are to be done.
//!
//! | module | what it decides |
//! |---|---|
//! | [`mode`] | leased, in failsafe or out of order: a state machine, each step of which is an event |
//! | [`health`] | whether meter and actuator work |
//! | [`surroundings`] | who could be to blame that no setpoint comes |
//! | [`usage`] | what to ask for of what is wanted: what is not used is lent on |
//! | [`reporting`] | when to report |
//!
//! What is applied is the lease's limit while it lives, else the failsafe limit (rule 11); in a fault the failsafe limit,
//! whatever a lease says; and nothing at all while the device is switched off by command.

pub mod health;
pub mod mode;
pub mod reporting;
mod sample;
pub mod surroundings;
pub mod usage;

use grid_protocol::message::{Activity, Event, Header, Measurement, Reference, Session, Setpoint, Status};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use crate::commands::Kept;
use crate::lease::{Holder, Lease, Refusal, heartbeat};
use health::{Duty, Health};
use mode::{Facts, Mode};
use reporting::{Gist, Reports, Rhythm};
use sample::Energy;
use surroundings::Surroundings;
use usage::{Draw, Usage};

pub use reporting::DEADBAND;
pub use sample::Sample;

/// A car has five seconds to follow a new limit (IEC 61851-1), and its meter a little more.
const TIME_TO_FOLLOW: Millis = Millis(6000);
/// How long a report of a new limit waits for a reading made after the change.
const READING_AFTER_CHANGE: Millis = Millis(20);
/// How long to sleep if nothing is foreseen.
const NOTHING_FORESEEN: Millis = Millis(100);

/// What the device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nature {
    /// Less than this per phase is not usable.
    pub min_ma: MilliAmps,
    /// The limit without a live lease, per phase.
    pub failsafe_ma: MilliAmps,
    /// The only currents it can draw, ascending; none if it can draw any.
    pub steps_ma: Vec<MilliAmps>,
    /// Its priority, unless a command makes it another.
    pub priority: u8,
    /// The site's longest lease.
    pub max_ttl: Millis,
    /// How long the actuator takes to complete a change.
    pub change_time: Millis,
    /// What a reading may take at the most while all is well.
    pub meter_interval: Millis,
    /// How many times faster than the clock the simulated plant runs; 1 outside simulations.
    pub time_factor: u32,
}

/// A reading this old is not late yet, however quick the meter: a busy machine takes a break now and then.
const LATE: Millis = Millis(500);

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set the actuator, and call [`Device::applied`] when that is done.
    Set {
        /// The limit per phase.
        limit: MilliAmps,
        /// When the actuator is to go to the failsafe limit by itself; never, if it may stay.
        until: Option<BootTime>,
    },
    /// Publish [`Device::report`].
    Report,
    /// Publish an event.
    Event(Event),
}

/// The device of one session.
#[derive(Clone, Debug)]
pub struct Device {
    nature: Nature,
    session: Session,
    started: BootTime,
    holder: Holder,
    mode: Mode,
    health: Health,
    surroundings: Surroundings,
    usage: Usage,
    /// What the actuator was set to, and since when.
    applied: Option<(MilliAmps, BootTime)>,
    sample: Option<Sample>,
    energy: Energy,
    /// What the actuator says is wanted.
    wanted: MilliAmps,
    /// Not switched off by command.
    on: bool,
    priority: u8,
    charging: bool,
    accepted_at: Option<BootTime>,
    /// How often a lease is to be renewed: as the last one said.
    beat: Millis,
    /// A setpoint was accepted and not reported yet; at the latest then it is.
    owed: Option<BootTime>,
    reports: Reports,
}

impl Device {
    /// A device that starts, with the commands that are in force. The caller has set the actuator to its safe state.
    pub fn new(nature: Nature, kept: &Kept, session: Session, now: BootTime) -> Self {
        Self {
            session,
            started: now,
            holder: Holder::new(session, nature.failsafe_ma, nature.max_ttl, nature.change_time),
            mode: Mode::START,
            health: Health::new(nature.meter_interval, now),
            surroundings: Surroundings::default(),
            usage: Usage::default(),
            applied: None,
            sample: None,
            energy: Energy::default(),
            wanted: MilliAmps::ZERO,
            on: kept.charging.unwrap_or(true),
            priority: kept.priority.unwrap_or(nature.priority),
            charging: false,
            accepted_at: None,
            beat: heartbeat(nature.max_ttl),
            owed: None,
            reports: Reports::new(session, now),
            nature,
        }
    }

    /// The session that it reports in.
    pub fn session(&self) -> Session {
        self.session
    }

    /// What state it is in.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it may draw, as far as commands go.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Its priority now.
    pub fn priority(&self) -> u8 {
        self.priority
    }

    /// What the device applies now, per phase.
    pub fn limit(&self, now: BootTime) -> MilliAmps {
        self.entitlement(now).0
    }

    /// The setpoint that is obeyed now, if any.
    pub fn obeys(&self, now: BootTime) -> Option<Reference> {
        self.lease(now).map(|lease| lease.by)
    }

    /// Takes note of what a reading may take at the most while all is well: a sensor that is found later may tell another.
    pub fn expect_readings_within(&mut self, interval: Millis) {
        self.health.expect_readings_within(interval);
    }

    /// Takes a reading, and the current that is wanted, or why that cannot be told.
    pub fn on_sample(&mut self, sample: Sample, wanted: Result<MilliAmps, String>, now: BootTime) -> Vec<Action> {
        self.health.on_reading(sample.at);
        if let Some(before) = &self.sample {
            // What flowed while there was no reading is not known.
            let span = sample.at.since(before.at).min(self.health.patience());
            self.energy.add(before, span * u64::from(self.nature.time_factor));
        }
        self.hear_actuator(wanted, now);
        self.sample = Some(sample);
        self.watch_usage(now);
        self.on_tick(now)
    }

    /// Takes note that the meter said something else than a reading, and of the current that is wanted, or why that cannot be
    /// told: what fails beside the meter is told, too.
    pub fn on_meter_complaint(&mut self, why: String, wanted: Result<MilliAmps, String>, now: BootTime) -> Vec<Action> {
        self.health.on_complaint(why);
        self.on_wanted(wanted, now)
    }

    /// Takes the current that is wanted, or why that cannot be told, between two readings.
    pub fn on_wanted(&mut self, wanted: Result<MilliAmps, String>, now: BootTime) -> Vec<Action> {
        self.hear_actuator(wanted, now);
        self.on_tick(now)
    }

    /// Takes a setpoint whose sender has been verified to be our transformer, or says why not.
    pub fn on_setpoint(&mut self, setpoint: &Setpoint, by: Reference, now: BootTime) -> Result<Vec<Action>, Refusal> {
        self.holder.accept(setpoint, by, now)?;
        self.accepted_at = Some(now);
        self.beat = heartbeat(setpoint.ttl_ms.min(self.nature.max_ttl));
        let events = self.follow(now);
        let (limit, until) = self.entitlement(now);
        let changes = self.is_to_be_set(limit);
        self.owed = Some(if changes { now + READING_AFTER_CHANGE } else { now });
        // Also where the limit is the same: the actuator must know how long it may stay.
        let set = Action::Set { limit, until };
        let report = (!changes).then_some(Action::Report);
        Ok([set].into_iter().chain(events.into_iter().map(Action::Event)).chain(report).collect())
    }

    /// Takes note that the actuator was set.
    pub fn applied(&mut self, limit: MilliAmps, now: BootTime) {
        self.health.on_actuator(Duty::Limit, Ok(()), now);
        if self.is_to_be_set(limit) {
            self.applied = Some((limit, now));
        }
    }

    /// Takes note that the actuator could not be set. That is tried again with the next sample or tick.
    pub fn on_actuator_failure(&mut self, why: String, now: BootTime) -> Vec<Event> {
        self.applied = None;
        self.health.on_actuator(Duty::Limit, Err(why), now);
        self.follow(now)
    }

    /// Takes note that the connection to the broker stands, or no longer does.
    pub fn on_link(&mut self, connected: bool) {
        self.surroundings.on_link(connected);
    }

    /// Takes note of what the transformer says of itself: birth, goodbye or last will. It frees no lease.
    pub fn on_transformer(&mut self, header: &Header, status: &Status) {
        self.surroundings.on_transformer(header, status);
    }

    /// Obeys `set/charging`.
    pub fn on_charging(&mut self, on: bool, by: String, now: BootTime) -> Vec<Action> {
        let old = std::mem::replace(&mut self.on, on);
        let event = (old != on).then_some(Action::Event(Event::ChargingChanged { by, old, new: on }));
        self.watch_usage(now);
        let (set, rest): (Vec<_>, Vec<_>) =
            self.on_tick(now).into_iter().partition(|action| matches!(action, Action::Set { .. }));
        set.into_iter().chain(event).chain(rest).collect()
    }

    /// Obeys `set/priority`.
    pub fn on_priority(&mut self, priority: u8, by: String, now: BootTime) -> Vec<Action> {
        let old = std::mem::replace(&mut self.priority, priority);
        let event = Event::PriorityChanged { by, old, new: priority };
        let event = (old != priority).then_some(Action::Event(event));
        event.into_iter().chain(self.on_tick(now)).collect()
    }

    /// To be called at [`Device::wake_at`] or earlier.
    pub fn on_tick(&mut self, now: BootTime) -> Vec<Action> {
        let events = self.follow(now);
        let (limit, until) = self.entitlement(now);
        let set = self.is_to_be_set(limit).then_some(Action::Set { limit, until });
        let mut actions: Vec<Action> = set.into_iter().chain(events.into_iter().map(Action::Event)).collect();
        if self.report_is_due(now) {
            actions.push(Action::Report);
        }
        actions
    }

    /// When [`Device::on_tick`] has something to do next, if nothing else happens.
    pub fn wake_at(&self, now: BootTime) -> BootTime {
        let lease_ends = self.holder.lease(now).map(|lease| lease.ends);
        let times = [lease_ends, self.owed, self.reports.next(self.rhythm()), self.health.changes_at(now)];
        times.into_iter().flatten().min().unwrap_or(now + NOTHING_FORESEEN).max(now + Millis(1))
    }

    /// What is to be reported now. After it was signed, [`Device::measurement_sent`] must be told.
    pub fn report(&mut self, now: BootTime) -> Measurement {
        let gist = self.gist(now);
        self.reports.on_report(gist.clone(), now);
        self.owed = None;
        let lease = self.lease(now);
        Measurement {
            uptime_ms: now.since(self.started),
            state: gist.state,
            current_ma: gist.current,
            voltage_mv: self.sample.as_ref().map(|sample| sample.voltage.clone()).unwrap_or_default(),
            stale_ms: self.stale(now),
            limit_ma: self.limit(now),
            obeys: lease.map(|lease| lease.by),
            settled: gist.settled,
            lease_ms: lease.map_or(Millis::ZERO, |lease| lease.ends.since(now)),
            demand_ma: gist.demand,
            energy_mwh: self.energy.total(),
            priority: (self.priority != self.nature.priority).then_some(self.priority),
        }
    }

    /// Takes note that a measurement was signed as number `seq`; `at` was taken before it was built (rule 1).
    pub fn measurement_sent(&mut self, seq: u64, at: BootTime) {
        self.holder.measurement_sent(seq, at);
    }

    /// How old the newest reading is, if the meter is late.
    fn stale(&self, now: BootTime) -> Option<Millis> {
        let age = now.since(self.sample.as_ref()?.at);
        (!self.health.is_fresh(now) && age > LATE).then_some(age)
    }

    /// Lets the state follow the facts, and says what that meant.
    fn follow(&mut self, now: BootTime) -> Vec<Event> {
        let leased = self.holder.lease(now).is_some();
        let wants = self.wants();
        let facts = Facts {
            leased,
            wants,
            meter: self.health.meter_failure(now),
            actuator: self.health.actuator_failure(now),
            silence: self.surroundings.silence(),
        };
        let mut events = self.mode.follow(&facts);
        if !leased {
            self.accepted_at = None;
        }
        let draws = self.sample.as_ref().is_some_and(Sample::draws);
        let energy_mwh = self.energy.total();
        match (self.charging, wants) {
            (false, true) if draws => events.push(Event::ChargingStarted { energy_mwh }),
            (true, false) => events.push(Event::ChargingEnded { energy_mwh }),
            (_, _) => {}
        }
        self.charging = wants && (self.charging || draws);
        events
    }

    /// The lease that is obeyed.
    fn lease(&self, now: BootTime) -> Option<Lease> {
        self.holder.lease(now).filter(|_| !self.mode.is_fault())
    }

    /// What may be drawn, and how long the actuator may stay there without being told again.
    fn entitlement(&self, now: BootTime) -> (MilliAmps, Option<BootTime>) {
        match self.lease(now) {
            _ if !self.on => (MilliAmps::ZERO, None),
            Some(lease) => (lease.limit, Some(lease.ends)),
            None => (self.nature.failsafe_ma, None),
        }
    }

    /// Takes the current that is wanted, or why the actuator cannot tell.
    fn hear_actuator(&mut self, wanted: Result<MilliAmps, String>, now: BootTime) {
        self.health.on_actuator(Duty::Demand, wanted.as_ref().map(|_| ()).map_err(String::clone), now);
        self.wanted = wanted.unwrap_or(self.wanted);
    }

    fn is_to_be_set(&self, limit: MilliAmps) -> bool {
        self.applied.is_none_or(|(applied, _)| applied != limit)
    }

    fn wants(&self) -> bool {
        self.on && self.wanted > MilliAmps::ZERO
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm { beat: self.beat, accepted_at: self.accepted_at, wants: self.wants() }
    }

    fn watch_usage(&mut self, now: BootTime) {
        let settled = self.settled(now);
        let (Some(sample), Some((limit, since))) = (&self.sample, self.applied) else { return };
        // A reading from before the change says nothing about the limit after it.
        if sample.at > since {
            let wanted = if self.on { self.wanted } else { MilliAmps::ZERO };
            let (min, steps) = (self.nature.min_ma, self.nature.steps_ma.as_slice());
            self.usage.observe(Draw { wanted, limit, current: sample.most(), settled, min, steps }, now);
        }
    }

    fn gist(&self, now: BootTime) -> Gist {
        Gist {
            state: self.state(now),
            settled: self.settled(now),
            current: self.sample.as_ref().map(|sample| sample.current.clone()).unwrap_or_default(),
            demand: if self.on { self.usage.claim(self.wanted) } else { MilliAmps::ZERO },
            priority: self.priority,
        }
    }

    fn state(&self, now: BootTime) -> Activity {
        let usable = self.limit(now) >= self.nature.min_ma.max(MilliAmps(1));
        match (self.mode, self.lease(now)) {
            (Mode::Fault { .. }, _) => Activity::Fault,
            (Mode::Sound(_), _) if !self.on => Activity::Off,
            (Mode::Sound(_), _) if !self.wants() => Activity::Idle,
            (Mode::Sound(_), None) => Activity::Failsafe,
            (Mode::Sound(_), Some(_)) if usable => Activity::Charging,
            (Mode::Sound(_), Some(_)) => Activity::Waiting,
        }
    }

    /// The actuator is set, and the measured current has followed or had its time to, as a reading shows that is not old.
    /// The tolerance may be generous: what is measured counts against the transformer's room in any case (rule 5).
    fn settled(&self, now: BootTime) -> bool {
        let Some((limit, at)) = self.applied else { return false };
        let Some(sample) = &self.sample else { return false };
        let bearable = limit + limit.percent(5).max(DEADBAND);
        let followed = sample.at > at && sample.current.iter().all(|current| *current <= bearable);
        limit == self.limit(now) && self.health.is_fresh(now) && (followed || now.since(at) >= TIME_TO_FOLLOW)
    }

    fn report_is_due(&mut self, now: BootTime) -> bool {
        let Some(sample) = &self.sample else { return false };
        if let Some(latest) = self.owed {
            return now >= latest || self.applied.is_some_and(|(_, at)| sample.at > at);
        }
        let gist = self.gist(now);
        let rhythm = self.rhythm();
        self.reports.is_news(&gist, rhythm, now)
    }
}

#[cfg(test)]
mod tests;
