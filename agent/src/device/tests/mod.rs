//! A device in virtual time, with a car, a meter, an actuator and a transformer that may each fail.

mod commands;
mod failsafe;
mod reports;

use super::*;
use grid_protocol::message::Reason;
use grid_protocol::units::{MilliVolts, MilliWattHours};

const OURS: Session = Session(1);
const THEIRS: Session = Session(2);
const TTL: Millis = Millis(3000);
/// As an INA219 has it: stale after 510 ms, failed after two seconds.
const METER_INTERVAL: Millis = Millis(170);
const STEP: u64 = 10;
/// A transformer does not answer every report.
const RENEWED_AFTER: u64 = 900;
const SAMPLE_EVERY: u64 = 100;

fn nature() -> Nature {
    Nature {
        min_ma: MilliAmps(6_000),
        failsafe_ma: MilliAmps(0),
        steps_ma: Vec::new(),
        priority: 5,
        max_ttl: TTL,
        change_time: Millis(0),
        meter_interval: METER_INTERVAL,
        time_factor: 1,
    }
}

fn sample(at: u64, current: i64) -> Sample {
    Sample { at: BootTime(at), current: vec![MilliAmps(current)], voltage: vec![MilliVolts(230_000)] }
}

fn setpoint(answers: u64, limit: i64) -> Setpoint {
    Setpoint {
        answers: Reference { session: OURS, seq: answers },
        limit_ma: MilliAmps(limit),
        ttl_ms: TTL,
        hold: false,
        epoch: 1,
        reason: Reason::Demand,
    }
}

/// The street around one device. What is not switched off works.
struct Street {
    device: Device,
    now: u64,
    /// What the car wants.
    wanted: i64,
    /// What it takes, if not all that it may.
    takes: Option<i64>,
    /// What it draws, whatever it may.
    ignores: Option<i64>,
    meter: bool,
    /// What the actuator says to whoever sets it.
    set: Result<(), &'static str>,
    /// What it says to whoever asks what is wanted.
    ask: Result<(), &'static str>,
    /// What the transformer allows; `None`: it is not there.
    allowed: Option<i64>,
    /// What it granted last, and when.
    granted: Option<(i64, u64)>,
    limit: i64,
    seq: u64,
    /// A report that it will have in a moment.
    on_its_way: Option<u64>,
    events: Vec<(u64, Event)>,
    reports: Vec<(u64, Measurement)>,
}

impl Street {
    fn new(nature: Nature, kept: &Kept) -> Self {
        let mut device = Device::new(nature.clone(), kept, OURS, BootTime(0));
        device.on_link(true);
        Self {
            device,
            now: 0,
            wanted: 0,
            takes: None,
            ignores: None,
            meter: true,
            set: Ok(()),
            ask: Ok(()),
            allowed: None,
            granted: None,
            limit: nature.failsafe_ma.0,
            seq: 0,
            on_its_way: None,
            events: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// A car of 16 A charges with all it wants.
    fn charging() -> Self {
        let mut street = Self::new(nature(), &Kept::default());
        (street.wanted, street.allowed) = (16_000, Some(16_000));
        street.run_until(5_000);
        assert_eq!((street.limit, street.last().state), (16_000, Activity::Charging));
        street.events.clear();
        street
    }

    fn current(&self) -> i64 {
        let may = self.limit.min(self.wanted);
        self.ignores.unwrap_or(self.takes.map_or(may, |takes| takes.min(may)))
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.now += STEP;
            let now = BootTime(self.now);
            if let (Some(answers), Some(allowed)) = (self.on_its_way.take(), self.allowed)
                && self.granted.is_none_or(|(before, at)| allowed != before || self.now - at >= RENEWED_AFTER)
            {
                self.granted = Some((allowed, self.now));
                let by = Reference { session: THEIRS, seq: self.now };
                let actions = self.device.on_setpoint(&setpoint(answers, allowed), by, now).unwrap();
                self.perform(actions);
            }
            let actions = if self.meter && self.now.is_multiple_of(SAMPLE_EVERY) {
                let wanted = self.ask.map(|()| MilliAmps(self.wanted)).map_err(str::to_owned);
                self.device.on_sample(sample(self.now, self.current()), wanted, now)
            } else {
                self.device.on_tick(now)
            };
            self.perform(actions);
        }
    }

    fn run_for(&mut self, span: u64) {
        self.run_until(self.now + span);
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let now = BootTime(self.now);
        for action in actions {
            match action {
                Action::Set { limit, .. } => match self.set {
                    Ok(()) => {
                        self.limit = limit.0;
                        self.device.applied(limit, now);
                    }
                    Err(why) => {
                        let events = self.device.on_actuator_failure(why.to_owned(), now);
                        self.events.extend(events.into_iter().map(|event| (self.now, event)));
                    }
                },
                Action::Report => {
                    self.seq += 1;
                    self.reports.push((self.now, self.device.report(now)));
                    self.device.measurement_sent(self.seq, now);
                    self.on_its_way = Some(self.seq);
                }
                Action::Event(event) => self.events.push((self.now, event)),
            }
        }
    }

    fn last(&self) -> &Measurement {
        &self.reports.last().unwrap().1
    }

    /// What happened since the last call.
    fn told(&mut self) -> Vec<Event> {
        self.events.drain(..).map(|(_, event)| event).collect()
    }
}

fn started(mwh: i64) -> Event {
    Event::ChargingStarted { energy_mwh: MilliWattHours(mwh) }
}
