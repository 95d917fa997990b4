//! The transformer's decisions: which device gets which setpoint, when.
//!
//! A value without I/O and clock. It is told what is read and heard, and speaks through a [`Voice`]. Each reading gives
//! an estimate of the uncontrolled load ([`load`]); what is left is shared ([`crate::allocation`]); and each device is
//! led to its share by setpoints that keep the lease rules ([`crate::lease`]):
//!
//! - **decreases** go out at once and are repeated until they are proven or everything older has run out (rule 9);
//! - **increases** wait until what others could still be entitled to leaves room (rule 6) and the reading is fresh;
//! - everything else renews a lease once a heartbeat, as a hold where the room is not there.
//!
//! After a start or a reconnect, leases of an earlier session may still be alive: for the longest of them only holds are
//! sent, at or below what devices report (rule 7).

mod device;
mod load;

use std::collections::BTreeMap;

use grid_protocol::message::{
    Balance, Event, Header, Measurement, Part, Phase, Reason, Reference, Session, Setpoint, Status,
};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use serde::{Deserialize, Serialize};

use crate::allocation::{Share, allocate};
use crate::lease::{counted_for, heartbeat};
use device::{Device, Heard, ON_THE_WAY, Sent};
use load::Estimates;

/// Decreases are repeated this often until they are superseded or run out (rule 9).
pub const REPEAT: Millis = Millis(50);
/// An increase by less than this is not worth a message, unless it gives a device all that it wants.
const WORTH_RAISING: MilliAmps = MilliAmps(250);
/// Shared limits are multiples of this, so that the last digit of a reading moves nobody.
const STEP: MilliAmps = MilliAmps(50);
/// What control takes back within this time is no overload yet.
const OVERLOAD_AFTER: Millis = Millis(200);
/// A meter without a reading for at least this long has failed.
const METER_FAILED: Millis = Millis(2000);

/// A device that the transformer leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its name.
    pub name: Name,
    /// The phases it is connected to, in the order of its own meter.
    pub phases: Vec<Phase>,
    /// What is reserved for it per phase, heard of or not (rule 5). Default: 0.
    #[serde(default)]
    pub failsafe_ma: MilliAmps,
}

/// What a transformer is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The limit per phase.
    pub limit_ma: MilliAmps,
    /// What is left free for deadbands and rounding.
    pub margin_ma: MilliAmps,
    /// How long a lease lasts.
    pub ttl: Millis,
    /// The longest lease of the site, also of earlier transformers.
    pub max_ttl: Millis,
    /// The devices it leads.
    pub devices: Vec<Enrolment>,
}

/// Where a transformer's decisions go.
pub trait Voice {
    /// Sends a setpoint and returns the sequence number it got.
    fn setpoint(&mut self, device: &Name, setpoint: Setpoint) -> u64;
    /// Tells that the next setpoint may raise this device, since all that devices could be entitled to on its phases
    /// then still fits into this room.
    fn raising(&mut self, device: &Name, room: [MilliAmps; 3]);
    /// Publishes an event.
    fn event(&mut self, event: Event);
}

/// The transformer of one session.
#[derive(Clone, Debug)]
pub struct Transformer {
    plan: Plan,
    meter_interval: Millis,
    session: Session,
    epoch: u64,
    started: BootTime,
    devices: BTreeMap<Name, Device>,
    read: Option<Read>,
    estimates: Estimates,
    over_since: [Option<BootTime>; 3],
    overloaded: [bool; 3],
    reserve_exceeds: [bool; 3],
    meter_failed: bool,
    /// The newest reading says *at least this much*: once for it, everybody gives back a tenth.
    take_back: bool,
    shares: BTreeMap<Name, Share>,
}

/// The newest reading and what follows from it.
#[derive(Clone, Copy, Debug)]
struct Read {
    at: BootTime,
    load: [MilliAmps; 3],
    uncontrolled: [MilliAmps; 3],
    saturated: bool,
}

impl Transformer {
    /// A transformer that starts or has reconnected: with a new `session` and a higher `epoch` than any before (rule 7).
    /// While all is well its meter gives a reading at least every `meter_interval`.
    pub fn new(plan: Plan, meter_interval: Millis, session: Session, epoch: u64, now: BootTime) -> Self {
        let devices = plan.devices.iter().map(|enrolment| (enrolment.name.clone(), Device::new(enrolment.clone())));
        Self {
            devices: devices.collect(),
            plan,
            meter_interval,
            session,
            epoch,
            started: now,
            read: None,
            estimates: Estimates::default(),
            over_since: [None; 3],
            overloaded: [false; 3],
            reserve_exceeds: [false; 3],
            meter_failed: false,
            take_back: false,
            shares: BTreeMap::new(),
        }
    }

    /// Takes a verified birth of a device.
    pub fn on_status(&mut self, name: &Name, status: &Status, voice: &mut impl Voice) {
        let Some(device) = self.devices.get_mut(name) else { return };
        let Part::Device { phases, min_ma, max_ma, failsafe_ma, .. } = &status.part else { return };
        let enrolled = &device.enrolment;
        let sound = MilliAmps::ZERO <= *min_ma && min_ma <= max_ma && MilliAmps::ZERO <= *failsafe_ma;
        let why = if !sound {
            Some(format!(
                "it says minimum {min_ma}, maximum {max_ma}, failsafe {failsafe_ma}: it gets no more than its failsafe"
            ))
        } else if *phases != enrolled.phases {
            Some(format!(
                "it says phases {phases:?}, enrolled are {:?}: it gets no more than its failsafe",
                enrolled.phases
            ))
        } else if *failsafe_ma > enrolled.failsafe_ma {
            Some(format!("it says failsafe {failsafe_ma}, enrolled are {}: more is reserved", enrolled.failsafe_ma))
        } else {
            None
        };
        device.differs = !sound || *phases != enrolled.phases;
        if sound {
            (device.min, device.max) = (*min_ma, *max_ma);
            device.failsafe = device.failsafe.max(*failsafe_ma);
            device.grants.reserve_at_least(*failsafe_ma);
        }
        if let Some(why) = why {
            voice.event(Event::EnrolmentDiffers { device: name.clone(), why });
        }
    }

    /// Takes a verified measurement of a device. Says whether it was acted on.
    pub fn on_measurement(
        &mut self,
        header: &Header,
        measurement: Measurement,
        now: BootTime,
        voice: &mut impl Voice,
    ) -> bool {
        let over = now + counted_for(self.plan.ttl);
        let (Some(device), Some(seq)) = (self.devices.get_mut(&header.from), header.seq) else { return false };
        if measurement.current_ma.len() != device.enrolment.phases.len() || !device.is_news(header, seq) {
            return false;
        }
        device.grants.measured(header.session, &measurement, self.session, over);
        if device.reports.note(now, measurement.current_ma.clone()) {
            self.estimates.report_changed(now);
        }
        device.wants_since = match measurement.demand_ma > MilliAmps::ZERO {
            true => Some(device.wants_since.unwrap_or(now)),
            false => None,
        };
        let reference = Reference { session: header.session, seq };
        device.heard = Some(Heard { reference, received: now, measurement });
        self.tell_who_draws_too_much(&header.from, now, voice);
        self.decide(now, voice);
        true
    }

    /// Takes a reading of the transformer's own meter, per phase, taken at `at`. `saturated`: at least this much.
    pub fn on_reading(
        &mut self,
        load: [MilliAmps; 3],
        saturated: bool,
        at: BootTime,
        now: BootTime,
        voice: &mut impl Voice,
    ) {
        if std::mem::take(&mut self.meter_failed) {
            voice.event(Event::Recovered {});
        }
        let in_force = Millis(heartbeat(self.plan.ttl).0 * 3 / 2);
        let starting = self.is_starting(now);
        let mut for_raising = load;
        let mut for_lowering = load;
        for device in self.devices.values() {
            let entitled = device.entitled(starting, now);
            for (place, phase) in device.phases() {
                for_raising[phase.index()] -= device.reports.smallest(place, at, in_force).min(entitled);
                let largest = device.reports.largest(place, at).max(device.rising(self.session, now));
                for_lowering[phase.index()] -= largest.min(entitled);
            }
        }
        let never_below_zero = |estimate: [MilliAmps; 3]| estimate.map(|current| current.max(MilliAmps::ZERO));
        self.estimates.note(at, never_below_zero(for_raising), in_force);
        if saturated && !self.read.is_some_and(|read| read.saturated) {
            voice.event(Event::MeterSaturated {});
        }
        self.read = Some(Read { at, load, uncontrolled: never_below_zero(for_lowering), saturated });
        self.take_back = saturated;
        self.tell_overloads(load, now, voice);
        self.tell_reserve(voice);
        self.decide(now, voice);
    }

    /// To be called at least every [`REPEAT`].
    pub fn on_tick(&mut self, now: BootTime, voice: &mut impl Voice) {
        let failed_after = Millis(self.meter_interval.0 * 10).max(METER_FAILED);
        let last = self.read.map_or(self.started, |read| read.at);
        if !self.meter_failed && now.since(last) > failed_after {
            self.meter_failed = true;
            voice.event(Event::MeterFailed { why: format!("no reading for {}", now.since(last)) });
        }
        self.decide(now, voice);
    }

    /// The summary; nothing before the first reading.
    pub fn balance(&self, now: BootTime) -> Option<Balance> {
        let read = self.read?;
        let limit = [self.plan.limit_ma; 3];
        let (mut wanted, mut held_back) = (0, 0);
        for (name, device) in &self.devices {
            let phases = device.enrolment.phases.len() as i64;
            let claim = device.claim(self.silent_after(), now);
            let share = self.shares.get(name).map_or(MilliAmps::ZERO, |share| share.limit);
            wanted += claim.demand.0 * phases;
            held_back += (claim.demand - share).0.max(0) * phases;
        }
        Some(Balance {
            limit_ma: limit.to_vec(),
            load_ma: read.load.to_vec(),
            uncontrolled_ma: read.uncontrolled.to_vec(),
            headroom_ma: read.load.iter().map(|load| self.plan.limit_ma - *load).collect(),
            devices: u32::try_from(self.devices.len()).unwrap_or(u32::MAX),
            held_back_percent: u8::try_from(held_back * 100 / wanted.max(1)).unwrap_or(100),
        })
    }

    /// Rule 7: leases of an earlier session may still be alive.
    fn is_starting(&self, now: BootTime) -> bool {
        now < self.started + counted_for(self.plan.max_ttl)
    }

    /// A device that was not heard of for this long wants nothing: none of its leases is alive.
    fn silent_after(&self) -> Millis {
        counted_for(self.plan.ttl)
    }

    /// Leads every device to its share.
    fn decide(&mut self, now: BootTime, voice: &mut impl Voice) {
        let Some(read) = self.read else { return };
        let age = now.since(read.at);
        let take_back = std::mem::take(&mut self.take_back);
        let may_raise = age <= Millis(self.meter_interval.0 * 3) && !read.saturated && !self.is_starting(now);
        let room = self.estimates.highest().map(|base| self.plan.limit_ma - self.plan.margin_ma - base);
        let bearable = read.uncontrolled.map(|base| self.plan.limit_ma - MilliAmps(self.plan.margin_ma.0 / 2) - base);

        let mut order: Vec<Name> = self.devices.keys().cloned().collect();
        order.sort_by_key(|name| self.devices[name].wants_since.unwrap_or(now));
        let claims: Vec<_> = order.iter().map(|name| self.devices[name].claim(self.silent_after(), now)).collect();
        let upward = allocate(room, &claims);
        let downward = allocate(bearable, &claims);
        for (((name, claim), up), down) in order.iter().zip(&claims).zip(upward).zip(downward) {
            let device = &self.devices[name];
            let obeyed = device.obeyed(self.session, self.is_starting(now));
            let satisfied = |share: &Share| matches!(share.reason, Reason::Demand | Reason::Maximum);
            let rounded = |share: &Share| match satisfied(share) {
                true => share.limit,
                false => MilliAmps(share.limit.0 / STEP.0 * STEP.0).max(share.limit.min(claim.min)),
            };
            // Who is left out for want of room can differ between the two, so that one gives more than the other.
            let up = if up.limit <= down.limit { up } else { down.clone() };
            let mut wish = if rounded(&down) < obeyed {
                Share { limit: rounded(&down), reason: down.reason }
            } else if may_raise && up.limit > obeyed && (satisfied(&up) || rounded(&up) - obeyed >= WORTH_RAISING) {
                Share { limit: rounded(&up), reason: up.reason }
            } else {
                Share { limit: obeyed, reason: up.reason }
            };
            if claim.demand <= MilliAmps::ZERO {
                // What is reserved for it anyway need not be taken from a device that wants nothing.
                wish.limit = obeyed.min(device.failsafe);
            }
            if self.meter_failed {
                wish = Share { limit: obeyed.min(device.failsafe), reason: Reason::Failsafe };
            } else if take_back {
                wish.limit = wish.limit.min(obeyed.percent(90));
            }
            self.lead(name, &wish, obeyed, room, now, voice);
            self.shares.insert(name.clone(), wish);
        }
    }

    /// Sends one device what is due, if anything is.
    fn lead(
        &mut self,
        name: &Name,
        wish: &Share,
        obeyed: MilliAmps,
        room: [MilliAmps; 3],
        now: BootTime,
        voice: &mut impl Voice,
    ) {
        let device = &self.devices[name];
        let Some(heard) = device.answerable(self.plan.ttl, now) else { return };
        let (answers, received) = (heard.reference, heard.received);
        let idle = heard.measurement.demand_ma <= MilliAmps::ZERO && wish.limit == obeyed;
        let since_sent = device.sent.map_or(Millis(u64::MAX), |sent| now.since(sent.at));
        let answered = device.sent.is_some_and(|sent| sent.answers == answers);
        let sent_limit = device.sent.map(|sent| sent.limit);

        // Rule 6: what may raise must fit.
        let fitting = self.fitting(name, room, now);
        let limit = if wish.limit > obeyed { wish.limit.min(fitting).max(obeyed) } else { wish.limit };
        let raises = limit > obeyed;
        let hold = self.is_starting(now) || limit > fitting;

        let decrease_open = device.grants.exceeds(limit, now);
        let due = if raises {
            let worth_it = limit >= device.min && limit - obeyed >= WORTH_RAISING.min(wish.limit - obeyed);
            worth_it && (sent_limit != Some(limit) || since_sent > ON_THE_WAY)
        } else if limit < obeyed || decrease_open {
            sent_limit != Some(limit) || since_sent >= REPEAT
        } else {
            false
        };
        // What the device says once a heartbeat is answered when it comes, and its answer to that is not.
        let beat = heartbeat(self.plan.ttl);
        let wait = if now == received { Millis(beat.0 / 2) } else { beat + REPEAT * 2 };
        let renewal = !answered && since_sent >= wait && !idle;
        if !due && !renewal {
            return;
        }
        let limit = if due || !raises { limit } else { obeyed };
        if !hold {
            // Whatever is believed to be obeyed: what is no hold may raise.
            voice.raising(name, room);
        }
        let (ttl_ms, epoch, reason) = (self.plan.ttl, self.epoch, wish.reason.clone());
        let seq = voice.setpoint(name, Setpoint { answers, limit_ma: limit, ttl_ms, hold, epoch, reason });
        let over = received + counted_for(self.plan.ttl);
        if let Some(device) = self.devices.get_mut(name) {
            device.grants.grant(answers, seq, limit, over, now);
            device.sent = Some(Sent { seq, limit, at: now, answers });
        }
    }

    /// The highest limit for this device with which everything that could be in force still fits on its phases.
    fn fitting(&self, name: &Name, room: [MilliAmps; 3], now: BootTime) -> MilliAmps {
        let device = &self.devices[name];
        let left = device.phases().map(|(place, phase)| {
            let others = self.devices.iter().filter(|(other, _)| *other != name).flat_map(|(_, other)| {
                other.phases().filter(|(_, its)| *its == phase).map(|(place, _)| other.grants.counted(place, now))
            });
            let left = room[phase.index()] - others.sum();
            // What the device itself could be entitled to must fit as well.
            if device.grants.counted(place, now) > left { MilliAmps(-1) } else { left }
        });
        left.min().unwrap_or(MilliAmps(-1))
    }

    fn tell_who_draws_too_much(&mut self, name: &Name, now: BootTime, voice: &mut impl Voice) {
        let starting = self.is_starting(now);
        let Some(device) = self.devices.get_mut(name) else { return };
        let Some(heard) = &device.heard else { return };
        let entitled = device.entitled(starting, now);
        let most = heard.measurement.current_ma.iter().copied().max().unwrap_or(MilliAmps::ZERO);
        let above = most > entitled + entitled.percent(5).max(WORTH_RAISING) && heard.measurement.settled;
        if above && !device.above_limit {
            voice.event(Event::AboveLimit { device: name.clone(), current_ma: most, limit_ma: entitled });
        }
        device.above_limit = above;
    }

    fn tell_overloads(&mut self, load: [MilliAmps; 3], now: BootTime, voice: &mut impl Voice) {
        let limit_ma = self.plan.limit_ma;
        for phase in Phase::ALL {
            let (at, load_ma) = (phase.index(), load[phase.index()]);
            if load_ma <= limit_ma {
                self.over_since[at] = None;
                if std::mem::take(&mut self.overloaded[at]) {
                    voice.event(Event::OverloadEnded { phase });
                }
            } else {
                let since = *self.over_since[at].get_or_insert(now);
                if now.since(since) >= OVERLOAD_AFTER && !std::mem::replace(&mut self.overloaded[at], true) {
                    voice.event(Event::OverloadStarted { phase, load_ma, limit_ma });
                }
            }
        }
    }

    /// Rule 5: where the reserve does not fit, the rule of the system cannot be kept, and people must know.
    fn tell_reserve(&mut self, voice: &mut impl Voice) {
        let Some(read) = self.read else { return };
        for phase in Phase::ALL {
            let on_phase = self.devices.values().filter(|device| device.enrolment.phases.contains(&phase));
            let reserve_ma: MilliAmps = on_phase.map(|device| device.failsafe).sum();
            let room_ma = self.plan.limit_ma - read.uncontrolled[phase.index()];
            let exceeds = reserve_ma > MilliAmps::ZERO && reserve_ma > room_ma;
            if exceeds && !self.reserve_exceeds[phase.index()] {
                voice.event(Event::ReserveExceedsRoom { phase, reserve_ma, room_ma });
            }
            self.reserve_exceeds[phase.index()] = exceeds;
        }
    }
}

#[cfg(test)]
mod tests;
