//! The device's decisions: what to apply, what to report, when.
//!
//! A value without I/O and clock. It is told what is read, wanted and received, and answers with [`Action`]s in the order in
//! which they are to be done.
//!
//! When it reports (DESIGN, *How often*, and lease rule 9):
//!
//! | because | when |
//! |---|---|
//! | a setpoint was accepted | at once; where it changed the limit, with the first reading after the change |
//! | the change has settled | at once |
//! | current moved by more than the deadband, or the state changed | at once, through a token bucket |
//! | it draws or wants current | every heartbeat |
//! | it wants current and no setpoint came for a heartbeat and 500 ms | every 100 ms |
//! | it wants current and is in failsafe | every second or so |
//! | it is idle | every 10 s |

use grid_protocol::message::{Activity, Event, Measurement, Reference, Session, Setpoint};
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, MilliWattHours, Millis};

use crate::lease::{Holder, Refusal, heartbeat};

/// A smaller move of the current is not worth a message.
pub const DEADBAND: MilliAmps = MilliAmps(250);
/// A car has five seconds to follow a new limit (IEC 61851-1), and its meter a little more.
const TIME_TO_FOLLOW: Millis = Millis(6000);
/// How long a report of a new limit waits for a reading made after the change.
const READING_AFTER_CHANGE: Millis = Millis(20);
const UNANSWERED: Millis = Millis(500);
const REPEAT_UNANSWERED: Millis = Millis(100);
const REPEAT_IN_FAILSAFE: Millis = Millis(1000);
const REPORT_IDLE: Millis = Millis(10_000);
const BUCKET_BURST: u64 = 10;
const BUCKET_MILLIS_PER_TOKEN: u64 = 500;
/// 1 mWh is 3.6 J; current times voltage times time gives mA · mV · ms = nJ.
const NANOJOULES_PER_MWH: i128 = 3_600_000_000;

/// What the device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nature {
    /// Less than this per phase is not usable.
    pub min_ma: MilliAmps,
    /// The limit without a live lease, per phase.
    pub failsafe_ma: MilliAmps,
    /// The site's longest lease.
    pub max_ttl: Millis,
    /// How long the actuator takes to complete a change.
    pub change_time: Millis,
    /// How many times faster than the clock the simulated plant runs; 1 outside simulations.
    pub time_factor: u32,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Set the actuator, and call [`Device::applied`] when that is done.
    Set {
        /// The limit per phase.
        limit: MilliAmps,
        /// When the actuator is to go to the failsafe limit by itself; never, if this is that limit.
        until: Option<BootTime>,
    },
    /// Publish [`Device::report`].
    Report,
    /// Publish an event.
    Event(Event),
}

/// One reading of the device's meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: BootTime,
    /// Current per phase.
    pub current: Vec<MilliAmps>,
    /// Voltage per phase.
    pub voltage: Vec<MilliVolts>,
}

/// The device of one session.
#[derive(Clone, Debug)]
pub struct Device {
    nature: Nature,
    session: Session,
    holder: Holder,
    started: BootTime,
    applied: Option<(MilliAmps, BootTime)>,
    sample: Option<Sample>,
    demand: MilliAmps,
    wanted_since: Option<BootTime>,
    energy_nj: i128,
    charging: bool,
    meter_failed: bool,
    actuator_failed: bool,
    /// Meter or actuator work again, and nobody was told yet.
    recovered: bool,
    in_failsafe: bool,
    accepted_at: Option<BootTime>,
    /// How often a lease is to be renewed: as the last one said.
    beat: Millis,
    /// A setpoint was accepted and not reported yet; at the latest then it is.
    owed: Option<BootTime>,
    reported: Option<Reported>,
    bucket: Bucket,
}

/// What the last report said, as far as it decides about the next.
#[derive(Clone, Debug)]
struct Reported {
    at: BootTime,
    count: u64,
    state: Activity,
    settled: bool,
    current: Vec<MilliAmps>,
}

impl Device {
    /// A device that starts. The caller has set the actuator to its safe state.
    pub fn new(nature: Nature, session: Session, now: BootTime) -> Self {
        Self {
            holder: Holder::new(session, nature.failsafe_ma, nature.max_ttl, nature.change_time),
            beat: heartbeat(nature.max_ttl),
            nature,
            session,
            started: now,
            applied: None,
            sample: None,
            demand: MilliAmps::ZERO,
            wanted_since: None,
            energy_nj: 0,
            charging: false,
            meter_failed: false,
            actuator_failed: false,
            recovered: false,
            in_failsafe: false,
            accepted_at: None,
            owed: None,
            reported: None,
            bucket: Bucket { millis: BUCKET_BURST * BUCKET_MILLIS_PER_TOKEN, at: now },
        }
    }

    /// What the device is entitled to draw now, per phase.
    pub fn limit(&self, now: BootTime) -> MilliAmps {
        self.holder.limit(now)
    }

    /// The setpoint that is obeyed now, if any.
    pub fn obeys(&self, now: BootTime) -> Option<Reference> {
        self.holder.lease(now).map(|lease| lease.by)
    }

    /// Takes a reading, and the current that is wanted.
    pub fn on_sample(&mut self, sample: Sample, demand: MilliAmps, now: BootTime) -> Vec<Action> {
        let mut actions = Vec::new();
        self.recovered |= std::mem::take(&mut self.meter_failed);
        if let Some(before) = &self.sample {
            let span = i128::from(sample.at.since(before.at).0) * i128::from(self.nature.time_factor);
            let power: i128 =
                before.current.iter().zip(&before.voltage).map(|(ma, mv)| i128::from(ma.0) * i128::from(mv.0)).sum();
            self.energy_nj += power * span;
        }
        let draws = sample.current.iter().any(|current| *current > DEADBAND);
        self.sample = Some(sample);
        self.demand = demand;
        let wants = demand > MilliAmps::ZERO;
        self.wanted_since = wants.then(|| self.wanted_since.unwrap_or(now));
        let energy_mwh = self.energy();
        match (self.charging, wants) {
            (false, true) if draws => actions.push(Action::Event(Event::ChargingStarted { energy_mwh })),
            (true, false) => actions.push(Action::Event(Event::ChargingEnded { energy_mwh })),
            (_, _) => {}
        }
        self.charging = wants && (self.charging || draws);
        actions.extend(self.on_tick(now));
        actions
    }

    /// Takes note that the meter does not work.
    pub fn on_meter_failure(&mut self, why: String, now: BootTime) -> Vec<Action> {
        let first = !std::mem::replace(&mut self.meter_failed, true);
        let event = first.then_some(Action::Event(Event::MeterFailed { why }));
        event.into_iter().chain(self.on_tick(now)).collect()
    }

    /// Takes note that the actuator does not work. It is set again with the next sample or tick.
    pub fn on_actuator_failure(&mut self, why: String) -> Option<Event> {
        self.applied = None;
        let first = !std::mem::replace(&mut self.actuator_failed, true);
        first.then_some(Event::ActuatorFailed { why })
    }

    /// Takes a setpoint whose sender has been verified to be our transformer, or says why not.
    pub fn on_setpoint(&mut self, setpoint: &Setpoint, by: Reference, now: BootTime) -> Result<Vec<Action>, Refusal> {
        let lease = self.holder.accept(setpoint, by, now)?;
        let mut actions = vec![Action::Set { limit: lease.limit, until: Some(lease.ends) }];
        if std::mem::take(&mut self.in_failsafe) {
            actions.push(Action::Event(Event::FailsafeLeft {}));
        }
        let changes = self.applied.is_none_or(|(limit, _)| limit != lease.limit);
        self.accepted_at = Some(now);
        self.beat = heartbeat(setpoint.ttl_ms.min(self.nature.max_ttl));
        self.owed = Some(if changes { now + READING_AFTER_CHANGE } else { now });
        if !changes {
            actions.push(Action::Report);
        }
        Ok(actions)
    }

    /// Takes note that the actuator was set.
    pub fn applied(&mut self, limit: MilliAmps, now: BootTime) {
        self.recovered |= std::mem::take(&mut self.actuator_failed);
        if self.applied.is_none_or(|(before, _)| before != limit) {
            self.applied = Some((limit, now));
        }
    }

    /// To be called at [`Device::wake_at`] or earlier.
    pub fn on_tick(&mut self, now: BootTime) -> Vec<Action> {
        let mut actions = Vec::new();
        if std::mem::take(&mut self.recovered) {
            actions.push(Action::Event(Event::Recovered {}));
        }
        let limit = self.holder.limit(now);
        let lease = self.holder.lease(now);
        let has_lease = lease.is_some();
        if self.applied.is_none_or(|(applied, _)| applied != limit) {
            actions.push(Action::Set { limit, until: lease.map(|lease| lease.ends) });
        }
        if !has_lease && self.accepted_at.take().is_some() && self.wanted_since.is_some() {
            self.in_failsafe = true;
            let why = "no setpoint came in time".to_owned();
            actions.push(Action::Event(Event::FailsafeEntered { why }));
        }
        if self.report_is_due(now) {
            actions.push(Action::Report);
        }
        actions
    }

    /// When [`Device::on_tick`] has something to do next, if nothing else happens.
    pub fn wake_at(&self, now: BootTime) -> BootTime {
        let lease_ends = self.holder.lease(now).map(|lease| lease.ends);
        let times = [lease_ends, self.owed, self.reported.as_ref().map(|reported| self.next_report(reported, now))];
        times.into_iter().flatten().min().unwrap_or(now + REPEAT_UNANSWERED).max(now + Millis(1))
    }

    /// What is to be reported now. After it was signed, [`Device::measurement_sent`] must be told.
    pub fn report(&mut self, now: BootTime) -> Measurement {
        let state = self.state(now);
        let settled = self.settled(now);
        let lease = self.holder.lease(now);
        let (current, voltage) =
            self.sample.as_ref().map(|sample| (sample.current.clone(), sample.voltage.clone())).unwrap_or_default();
        let count = self.reported.as_ref().map_or(0, |reported| reported.count) + 1;
        self.reported = Some(Reported { at: now, count, state, settled, current: current.clone() });
        self.owed = None;
        Measurement {
            uptime_ms: now.since(self.started),
            state,
            current_ma: current,
            voltage_mv: voltage,
            limit_ma: self.holder.limit(now),
            obeys: self.obeys(now),
            settled,
            lease_ms: lease.map_or(Millis::ZERO, |lease| lease.ends.since(now)),
            demand_ma: self.demand,
            energy_mwh: self.energy(),
        }
    }

    /// Takes note that a measurement was signed as number `seq`; `at` was taken before it was built (rule 1).
    pub fn measurement_sent(&mut self, seq: u64, at: BootTime) {
        self.holder.measurement_sent(seq, at);
    }

    fn energy(&self) -> MilliWattHours {
        MilliWattHours(i64::try_from(self.energy_nj / NANOJOULES_PER_MWH).unwrap_or(i64::MAX))
    }

    fn state(&self, now: BootTime) -> Activity {
        let usable = self.holder.limit(now) >= self.nature.min_ma.max(MilliAmps(1));
        match (self.meter_failed || self.actuator_failed, self.wanted_since, self.holder.lease(now)) {
            (true, _, _) => Activity::Fault,
            (false, None, _) => Activity::Idle,
            (false, Some(_), None) => Activity::Failsafe,
            (false, Some(_), Some(_)) if usable => Activity::Charging,
            (false, Some(_), Some(_)) => Activity::Waiting,
        }
    }

    /// The actuator is set, and the measured current has followed or had its time to. The tolerance may be generous: what
    /// is measured counts against the transformer's room in any case (rule 5).
    fn settled(&self, now: BootTime) -> bool {
        let Some((limit, at)) = self.applied else { return false };
        let Some(sample) = &self.sample else { return false };
        let bearable = limit + limit.percent(5).max(DEADBAND);
        let followed = sample.at > at && sample.current.iter().all(|current| *current <= bearable);
        limit == self.holder.limit(now) && (followed || now.since(at) >= TIME_TO_FOLLOW)
    }

    fn report_is_due(&mut self, now: BootTime) -> bool {
        let Some(sample) = &self.sample else { return false };
        let Some(reported) = &self.reported else { return true };
        let settled = self.settled(now);
        let reading_after_change = self.applied.is_some_and(|(_, at)| sample.at > at);
        if let Some(latest) = self.owed {
            return reading_after_change || now >= latest;
        }
        if (settled && !reported.settled) || now >= self.next_report(reported, now) {
            return true;
        }
        let moved = sample.current.iter().zip(&reported.current).any(|(now, then)| (now.0 - then.0).abs() > DEADBAND.0);
        (moved || self.state(now) != reported.state) && self.bucket.take(now)
    }

    fn next_report(&self, reported: &Reported, now: BootTime) -> BootTime {
        let beat = self.beat;
        let unanswered = |since: BootTime| now >= since + beat + UNANSWERED;
        let draws = reported.current.iter().any(|current| *current > DEADBAND);
        let wait = match (self.wanted_since, self.accepted_at) {
            (None, _) if draws => beat,
            (None, _) => REPORT_IDLE,
            (Some(_), Some(accepted)) if unanswered(accepted) => REPEAT_UNANSWERED,
            (Some(_), Some(_)) => beat,
            // Jitter, so that a street that comes back after a power cut does not speak in step.
            (Some(_), None) => {
                REPEAT_IN_FAILSAFE + Millis(self.session.0.rotate_left(reported.count as u32 % 64) % 200)
            }
        };
        reported.at + wait
    }
}

/// A burst of ten, then two a second.
#[derive(Clone, Debug)]
struct Bucket {
    millis: u64,
    at: BootTime,
}

impl Bucket {
    fn take(&mut self, now: BootTime) -> bool {
        let filled = self.millis + now.since(self.at).0;
        self.millis = filled.min(BUCKET_BURST * BUCKET_MILLIS_PER_TOKEN);
        self.at = now;
        let full = self.millis >= BUCKET_MILLIS_PER_TOKEN;
        if full {
            self.millis -= BUCKET_MILLIS_PER_TOKEN;
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::message::Reason;

    const BY: Session = Session(2);

    fn device() -> Device {
        let nature = Nature {
            min_ma: MilliAmps(6_000),
            failsafe_ma: MilliAmps(0),
            max_ttl: Millis(3000),
            change_time: Millis(0),
            time_factor: 1,
        };
        Device::new(nature, Session(1), BootTime(0))
    }

    fn sample(at: u64, current: i64) -> Sample {
        Sample { at: BootTime(at), current: vec![MilliAmps(current)], voltage: vec![MilliVolts(230_000)] }
    }

    fn setpoint(answers: u64, limit: i64) -> Setpoint {
        Setpoint {
            answers: Reference { session: Session(1), seq: answers },
            limit_ma: MilliAmps(limit),
            ttl_ms: Millis(3000),
            hold: false,
            epoch: 1,
            reason: Reason::Demand,
        }
    }

    /// A car arrives at 1000, is reported as measurement 1, and is allowed 10 A by setpoint 1.
    fn charging() -> Device {
        let mut device = device();
        assert_eq!(
            device.on_sample(sample(1000, 0), MilliAmps(16_000), BootTime(1000)),
            [Action::Set { limit: MilliAmps(0), until: None }, Action::Report]
        );
        device.applied(MilliAmps(0), BootTime(1000));
        assert_eq!(device.report(BootTime(1000)).state, Activity::Failsafe);
        device.measurement_sent(1, BootTime(1000));
        let by = Reference { session: BY, seq: 1 };
        let actions = device.on_setpoint(&setpoint(1, 10_000), by, BootTime(1002)).unwrap();
        assert_eq!(actions, [Action::Set { limit: MilliAmps(10_000), until: Some(BootTime(4000)) }]);
        device.applied(MilliAmps(10_000), BootTime(1002));
        device
    }

    #[test]
    fn an_accepted_setpoint_is_reported_with_the_first_reading_after_the_change() {
        let mut device = charging();
        let actions = device.on_sample(sample(1005, 10_000), MilliAmps(16_000), BootTime(1005));
        assert_eq!(actions, [Action::Event(Event::ChargingStarted { energy_mwh: MilliWattHours(0) }), Action::Report]);
        let report = device.report(BootTime(1005));
        assert_eq!(report.obeys, Some(Reference { session: BY, seq: 1 }));
        assert!(report.settled && report.state == Activity::Charging && report.lease_ms == Millis(2995));
    }

    #[test]
    fn without_a_reading_it_is_reported_all_the_same_and_not_as_settled() {
        let mut device = charging();
        assert_eq!(device.on_tick(BootTime(1021)), []);
        assert_eq!(device.on_tick(BootTime(1022)), [Action::Report]);
        assert!(!device.report(BootTime(1022)).settled);
    }

    #[test]
    fn a_car_that_does_not_follow_is_not_settled_for_six_seconds() {
        let mut device = charging();
        device.on_sample(sample(1005, 16_000), MilliAmps(16_000), BootTime(1005));
        assert!(!device.report(BootTime(1005)).settled);
        device.measurement_sent(2, BootTime(3900));
        device.on_setpoint(&setpoint(2, 10_000), Reference { session: BY, seq: 2 }, BootTime(3901)).unwrap();
        device.measurement_sent(3, BootTime(6800));
        device.on_setpoint(&setpoint(3, 10_000), Reference { session: BY, seq: 3 }, BootTime(6801)).unwrap();
        assert!(!device.report(BootTime(7001)).settled);
        assert!(device.report(BootTime(7002)).settled);
    }

    #[test]
    fn a_lease_that_is_not_renewed_ends_in_failsafe_with_an_event() {
        let mut device = charging();
        device.on_sample(sample(1005, 10_000), MilliAmps(16_000), BootTime(1005));
        device.report(BootTime(1005));
        assert_eq!(device.limit(BootTime(3999)), MilliAmps(10_000));
        let actions = device.on_tick(BootTime(4000));
        assert_eq!(actions[0], Action::Set { limit: MilliAmps(0), until: None });
        assert!(matches!(actions[1], Action::Event(Event::FailsafeEntered { .. })));
        assert_eq!(actions[2], Action::Report);
    }

    #[test]
    fn an_unanswered_device_repeats_itself_every_100_ms() {
        let mut device = charging();
        device.on_sample(sample(1005, 10_000), MilliAmps(16_000), BootTime(1005));
        device.report(BootTime(1005));
        let mut reports = Vec::new();
        for now in (1006..3000).map(BootTime) {
            if device.on_tick(now).contains(&Action::Report) {
                device.report(now);
                reports.push(now.0);
            }
        }
        assert_eq!(reports, [2005, 2502, 2602, 2702, 2802, 2902]);
    }

    #[test]
    fn small_moves_are_not_reported_and_large_ones_twice_a_second_after_a_burst() {
        let mut device = charging();
        device.on_sample(sample(1005, 10_000), MilliAmps(16_000), BootTime(1005));
        device.report(BootTime(1005));
        assert_eq!(device.on_sample(sample(1010, 10_250), MilliAmps(16_000), BootTime(1010)), []);
        let mut reports = 0;
        for step in 1..=101 {
            let now = 1010 + step * 5;
            let swinging = if step % 2 == 0 { 9_000 } else { 8_000 };
            if device.on_sample(sample(now, swinging), MilliAmps(16_000), BootTime(now)).contains(&Action::Report) {
                device.report(BootTime(now));
                reports += 1;
            }
        }
        assert_eq!(reports, 11);
    }

    #[test]
    fn an_actuator_that_fails_is_set_again_and_told_of_once() {
        let mut device = charging();
        device.on_sample(sample(1005, 10_000), MilliAmps(16_000), BootTime(1005));
        device.report(BootTime(1005));
        assert!(device.on_actuator_failure("stuck".to_owned()).is_some());
        let again = Action::Set { limit: MilliAmps(10_000), until: Some(BootTime(4000)) };
        assert_eq!(device.on_tick(BootTime(1010))[0], again);
        assert_eq!(device.on_actuator_failure("stuck".to_owned()), None);
        assert_eq!(device.report(BootTime(1011)).state, Activity::Fault);
        device.applied(MilliAmps(10_000), BootTime(1012));
        assert_eq!(device.on_tick(BootTime(1013))[0], Action::Event(Event::Recovered {}));
        assert_eq!(device.on_tick(BootTime(1014)), [Action::Report]);
        assert_eq!(device.report(BootTime(1014)).state, Activity::Charging);
    }

    #[test]
    fn a_shorter_ttl_makes_a_shorter_heartbeat() {
        let mut device = charging();
        let short = Setpoint { ttl_ms: Millis(900), ..setpoint(1, 10_000) };
        device.on_setpoint(&short, Reference { session: BY, seq: 2 }, BootTime(1003)).unwrap();
        device.on_sample(sample(1005, 10_000), MilliAmps(16_000), BootTime(1005));
        device.report(BootTime(1005));
        assert_eq!(device.on_tick(BootTime(1304)), []);
        assert_eq!(device.on_tick(BootTime(1305)), [Action::Report]);
    }

    #[test]
    fn energy_is_what_flowed() {
        let mut device = charging();
        device.on_sample(sample(2000, 10_000), MilliAmps(16_000), BootTime(2000));
        device.on_sample(sample(3_602_000, 0), MilliAmps(0), BootTime(3_602_000));
        assert_eq!(device.report(BootTime(3_602_000)).energy_mwh, MilliWattHours(2_300_000));
    }
}
