//! A street on virtual time: the transformer's and the devices' cores as they run, with a plant, meters and a network
//! between them that are as simple as can be.
//!
//! Time passes in steps of a millisecond. A message takes [`LATENCY`]; the transformer's meter reads every
//! [`METER_INTERVAL`], a device's every 10 ms.

use std::collections::VecDeque;

use grid_agent::commands::Kept;
use grid_agent::device::{Action, Device, Nature, Sample};
use grid_agent::lease::{PerPhase, Terms, counted_for};
use grid_agent::transformer::{Enrolment, Plan, Transformer, Voice};
use grid_protocol::message::{
    Capabilities, DeviceKind, Event, Header, Measurement, Part, Phase, Presence, Reference, Session, Setpoint, Status,
};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, Millis, UnixMillis};

pub const LATENCY: u64 = 2;
pub const METER_INTERVAL: u64 = 20;
/// After a restart the transformer gives every device the time to speak before it lowers anybody without need.
const LISTENS: u64 = 1_600;
pub const TERMS: Terms = Terms { ttl: Millis(3000), max_ttl: Millis(3000) };

/// How a car follows what its charger offers.
#[derive(Clone, Copy)]
pub struct Habits {
    /// How late, in milliseconds.
    pub follows_after: u64,
    /// It draws whole multiples of this, in milliamperes.
    pub step: i64,
    /// It draws so many percent of what it may.
    pub percent: i64,
}

pub const PROMPT: Habits = Habits { follows_after: 0, step: 1, percent: 100 };

/// A device, its charger and its car.
pub struct Point {
    pub name: Name,
    pub can: Capabilities,
    pub habits: Habits,
    /// What the car wants per phase; the car may draw less, of its own will.
    pub wants: i64,
    /// What it draws at most, though it wants more. Negative: it feeds in, whatever its limit.
    pub draws: i64,
    /// Cut off from the network.
    pub cut_off: bool,
    /// Setpoints to it are lost.
    pub deaf: bool,
    /// What it says is lost.
    pub mute: bool,
    /// It says that it draws this, and that it has not settled.
    pub lie: Option<i64>,
    pub meter_works: bool,
    pub actuator_works: bool,
    core: Device,
    seq: u64,
    session: u64,
    limit: i64,
    fallback: Option<u64>,
    /// Limits that the car has not followed yet, with the time at which it does.
    pending: VecDeque<(u64, i64)>,
    followed: i64,
    /// The limits that it had, with their times.
    pub limits: Vec<(u64, i64)>,
    pub reasons: Vec<(u64, i64, String)>,
    /// In milliampere-milliseconds per phase.
    pub charge: i64,
}

pub struct Street {
    pub now: u64,
    pub transformer: Transformer,
    /// The transformer is running, and connected.
    pub transformer_is_there: bool,
    pub meter_works: bool,
    pub points: Vec<Point>,
    /// Per phase.
    pub base: i64,
    pub events: Vec<(u64, String, Event)>,
    /// When load was above the limit, and base alone was not.
    pub excursions: Vec<u64>,
    /// Set once the first lease may be granted: what devices are entitled to was found above the room under which it was
    /// granted.
    pub violations: Vec<u64>,
    room: PerPhase,
    phases: Vec<Vec<Phase>>,
    /// What the limit left above the base load, from then on.
    left: VecDeque<(u64, [i64; 3])>,
    to_transformer: VecDeque<(u64, usize, Header, Measurement)>,
    to_device: VecDeque<(u64, usize, Reference, Setpoint)>,
    session: u64,
    seq: u64,
}

pub struct Ears<'a> {
    now: u64,
    session: u64,
    seq: &'a mut u64,
    sent: &'a mut VecDeque<(u64, usize, Reference, Setpoint)>,
    events: &'a mut Vec<(u64, String, Event)>,
    room: &'a mut PerPhase,
    phases: &'a [Vec<Phase>],
}

impl Voice for Ears<'_> {
    fn setpoint(&mut self, device: &Name, setpoint: Setpoint) -> u64 {
        *self.seq += 1;
        let by = Reference { session: Session(self.session), seq: *self.seq };
        self.sent.push_back((self.now + LATENCY, place_of(device), by, setpoint));
        *self.seq
    }

    fn raising(&mut self, device: &Name, room: PerPhase) {
        self.phases[place_of(device)].iter().for_each(|phase| self.room[phase.index()] = room[phase.index()]);
    }

    fn event(&mut self, event: Event) {
        self.events.push((self.now, "trafo-1".to_owned(), event));
    }
}

pub fn car(phases: &[Phase], max: i64) -> Capabilities {
    Capabilities::any_current(DeviceKind::Ev, phases.to_vec(), MilliAmps(6_000), MilliAmps(max))
}

pub fn name(place: usize) -> Name {
    format!("cp-{}", place + 1).parse().unwrap()
}

fn place_of(device: &Name) -> usize {
    device.as_str().trim_start_matches("cp-").parse::<usize>().unwrap() - 1
}

/// Devices `cp-1`, `cp-2` … behind a transformer.
pub fn plan(limit_w: u64, devices: &[Capabilities]) -> Plan {
    let enrolments = devices.iter().enumerate().map(|(place, can)| Enrolment {
        name: name(place),
        phases: can.phases.clone(),
        failsafe_ma: can.failsafe_ma,
        fuse: None,
    });
    Plan::new(limit_w, TERMS, enrolments.collect())
}

fn nature(can: &Capabilities, plan: &Plan) -> Nature {
    Nature {
        min_ma: can.min_ma,
        steps_ma: can.steps_ma.clone(),
        failsafe_ma: can.failsafe_ma,
        priority: can.priority,
        max_ttl: plan.terms.max_ttl,
        meter_interval: Millis(10),
        change_time: Millis(0),
        time_factor: plan.time_factor,
    }
}

impl Street {
    pub fn new(plan: Plan, devices: Vec<Capabilities>, habits: Habits, base: i64) -> Self {
        let transformer = Transformer::new(plan.clone(), Millis(METER_INTERVAL), Session(1), 1, BootTime(0));
        let phases = devices.iter().map(|can| can.phases.clone()).collect();
        let points = devices.into_iter().enumerate().map(|(place, can)| Point {
            name: name(place),
            core: Device::new(nature(&can, &plan), &Kept::default(), Session(1000 + place as u64), BootTime(0)),
            session: 1000 + place as u64,
            wants: 0,
            draws: i64::MAX,
            habits,
            can,
            cut_off: false,
            deaf: false,
            mute: false,
            lie: None,
            meter_works: true,
            actuator_works: true,
            seq: 0,
            limit: 0,
            fallback: None,
            pending: VecDeque::new(),
            followed: 0,
            limits: Vec::new(),
            reasons: Vec::new(),
            charge: 0,
        });
        let mut street = Self {
            now: 0,
            points: points.collect(),
            transformer,
            transformer_is_there: true,
            meter_works: true,
            base,
            events: Vec::new(),
            excursions: Vec::new(),
            violations: Vec::new(),
            left: VecDeque::new(),
            room: [MilliAmps(0); 3],
            phases,
            to_transformer: VecDeque::new(),
            to_device: VecDeque::new(),
            session: 1,
            seq: 0,
        };
        for place in 0..street.points.len() {
            street.tell_status(place);
        }
        street
    }

    fn tell_status(&mut self, place: usize) {
        let status = Status {
            state: Presence::Online,
            part: Part::Device(self.points[place].can.clone()),
            software: String::new(),
            time_factor: 1,
            plant_time_ms: None,
            ends: None,
            previous: None,
            certificate: String::new(),
        };
        self.lead(|core, ears, _| core.on_status(&name(place), &status, ears));
    }

    /// Starts the transformer anew: another session, as after a crash or a reconnect.
    pub fn restart_transformer(&mut self) {
        self.session += 1;
        let (session, now) = (Session(self.session), BootTime(self.now));
        self.transformer.start_anew(session, self.session, now);
        self.transformer_is_there = true;
    }

    /// How many setpoints were sent.
    pub fn sent(&self) -> u64 {
        self.seq
    }

    /// Calls the transformer's core, and sends what it says.
    pub fn lead(&mut self, act: impl FnOnce(&mut Transformer, &mut Ears, BootTime)) {
        let mut ears = Ears {
            now: self.now,
            session: self.session,
            seq: &mut self.seq,
            sent: &mut self.to_device,
            events: &mut self.events,
            room: &mut self.room,
            phases: &self.phases,
        };
        act(&mut self.transformer, &mut ears, BootTime(self.now));
    }

    /// Lets so many milliseconds pass.
    pub fn pass(&mut self, ms: u64) {
        self.pass_with(ms, |_| {});
    }

    /// The same, with something done at the beginning of each.
    pub fn pass_with(&mut self, ms: u64, mut each: impl FnMut(&mut Self)) {
        for _ in 0..ms {
            each(self);
            self.step();
            self.now += 1;
        }
    }

    fn step(&mut self) {
        let now = self.now;
        self.points.iter_mut().for_each(|point| point.follow(now));
        self.deliver();
        if self.transformer_is_there {
            if self.meter_works && now.is_multiple_of(METER_INTERVAL) {
                let load = self.load();
                self.lead(|core, ears, now| core.on_reading(load, false, now, now, ears));
            }
            if now % 25 == 7 {
                self.lead(|core, ears, now| core.on_tick(now, ears));
            }
        }
        for place in 0..self.points.len() {
            let point = &mut self.points[place];
            let actions = if point.meter_works && (now + place as u64).is_multiple_of(10) {
                point.sample(now)
            } else {
                point.core.on_tick(BootTime(now))
            };
            self.perform(place, actions);
        }
        self.check();
    }

    fn deliver(&mut self) {
        let now = self.now;
        while self.to_device.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, place, by, setpoint)) = self.to_device.pop_front() else { break };
            if self.points[place].cut_off || self.points[place].deaf {
                continue;
            }
            if let Ok(actions) = self.points[place].core.on_setpoint(&setpoint, by, BootTime(now)) {
                let told = (now, setpoint.limit_ma.0, setpoint.reason.to_string());
                self.points[place].reasons.push(told);
                self.perform(place, actions);
            }
        }
        while self.to_transformer.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, place, header, measurement)) = self.to_transformer.pop_front() else { break };
            if self.points[place].cut_off || self.points[place].mute || !self.transformer_is_there {
                continue;
            }
            self.lead(|core, ears, now| {
                core.on_measurement(&header, measurement, now, ears);
                core.settle(now, ears);
            });
        }
    }

    fn perform(&mut self, place: usize, actions: Vec<Action>) {
        let now = self.now;
        for action in actions {
            let point = &mut self.points[place];
            match action {
                Action::Set { limit, until } if point.actuator_works => {
                    point.set(limit.0, until.map(|until| until.0), now);
                    point.core.applied(limit, BootTime(now));
                }
                Action::Set { .. } => {
                    let events = point.core.on_actuator_failure("stuck".to_owned(), BootTime(now));
                    self.events.extend(events.into_iter().map(|event| (now, point.name.to_string(), event)));
                }
                Action::Report => {
                    let mut report = point.core.report(BootTime(now));
                    if let Some(lie) = point.lie {
                        report.settled = false;
                        report.current_ma.iter_mut().for_each(|c| *c = MilliAmps(lie));
                    }
                    point.seq += 1;
                    point.core.measurement_sent(point.seq, BootTime(now));
                    let header = Header {
                        from: point.name.clone(),
                        session: Session(point.session),
                        seq: Some(point.seq),
                        time_ms: UnixMillis(0),
                    };
                    self.to_transformer.push_back((now + LATENCY, place, header, report));
                }
                Action::Event(event) => self.events.push((now, point.name.to_string(), event)),
            }
        }
    }

    /// What flows through the transformer.
    pub fn load(&self) -> PerPhase {
        let mut load = [MilliAmps(self.base); 3];
        for point in &self.points {
            point.can.phases.iter().for_each(|phase| load[phase.index()] += MilliAmps(point.current()));
        }
        load
    }

    pub fn limit(&self) -> i64 {
        grid_agent::transformer::per_phase(self.transformer.limit_w()).0
    }

    /// The rule of the system: what devices are entitled to is at most what the limit left above the base load at some time
    /// in the last lease and the time that a new transformer listens (and a margin of 2 %, which absorbs what meters do not tell), and the room under which the last of them was raised; or else what is reserved for all.
    fn check(&mut self) {
        let limit = self.limit();
        if self.base <= limit && self.load().iter().any(|load| load.0 > limit) {
            self.excursions.push(self.now);
        }
        let mut left = [limit - self.base; 3];
        for point in &self.points {
            point.can.phases.iter().for_each(|phase| left[phase.index()] -= point.current().min(0));
        }
        if self.left.back().is_none_or(|(_, newest)| *newest != left) {
            self.left.push_back((self.now, left));
        }
        let lease = counted_for(TERMS.ttl).0 + LISTENS;
        while self.left.get(1).is_some_and(|(at, _)| at + lease < self.now) {
            self.left.pop_front();
        }
        for phase in Phase::ALL {
            let on_phase = self.points.iter().filter(|point| point.can.phases.contains(&phase));
            let entitled: i64 = on_phase.clone().map(|point| point.limit.min(point.can.max_ma.0)).sum();
            let reserved: i64 = on_phase.map(|point| point.can.failsafe_ma.0).sum();
            let bearable = self.left.iter().map(|(_, left)| left[phase.index()]).max().unwrap_or(limit);
            if entitled > reserved && (entitled > self.room[phase.index()].0 || entitled > bearable + limit / 50) {
                self.violations.push(self.now);
            }
        }
    }

    /// How often the limits of this device changed in the last `ms`.
    pub fn changes(&self, place: usize, ms: u64) -> usize {
        self.points[place].limits.iter().filter(|(at, _)| *at + ms >= self.now).count()
    }

    /// What was told since `since`, as the names of events with who told them.
    pub fn told(&self, since: u64) -> Vec<String> {
        let told = self.events.iter().filter(|(at, ..)| *at >= since);
        told.map(|(_, who, event)| {
            let event = serde_json::to_value(event).unwrap();
            format!("{who} {}", event["event"].as_str().unwrap())
        })
        .collect()
    }
}

impl Point {
    /// The limit that the charger enforces.
    pub fn limit(&self) -> i64 {
        self.limit
    }

    pub fn current(&self) -> i64 {
        if self.draws < 0 {
            return self.draws;
        }
        let may = self.followed * self.habits.percent / 100;
        let draws = self.wants.min(self.draws).min(may) / self.habits.step * self.habits.step;
        if draws < self.can.min_ma.0 * self.habits.percent / 100 / self.habits.step * self.habits.step {
            0
        } else {
            draws
        }
    }

    fn set(&mut self, limit: i64, until: Option<u64>, now: u64) {
        self.fallback = until;
        if limit != self.limit {
            self.limit = limit;
            self.limits.push((now, limit));
            self.pending.push_back((now + self.habits.follows_after, limit));
        }
    }

    /// Lets the charger fall back, and the car follow.
    fn follow(&mut self, now: u64) {
        if self.fallback.is_some_and(|until| now >= until) {
            self.set(self.can.failsafe_ma.0, None, now);
        }
        while self.pending.front().is_some_and(|(at, _)| *at <= now) {
            self.followed = self.pending.pop_front().map_or(0, |(_, limit)| limit);
        }
        self.charge += self.current();
    }

    fn sample(&mut self, now: u64) -> Vec<Action> {
        let phases = self.can.phases.len();
        let current = vec![MilliAmps(self.current()); phases];
        let sample = Sample { at: BootTime(now), current, voltage: vec![MilliVolts(230_000); phases] };
        self.core.on_sample(sample, Ok(MilliAmps(self.wants)), BootTime(now))
    }
}
