//! The transformer's decisions: which device gets which setpoint, when.
//!
//! A value without I/O and clock. It is told what is read, heard and ordered, and speaks through a [`Voice`]. Each reading
//! gives an estimate of the uncontrolled load ([`load`]); what is left is shared ([`crate::allocation`]), by [`turns`]
//! where not all can have their minimum; and each device is led to its share by setpoints that keep the lease rules
//! ([`crate::lease`]):
//!
//! - **decreases** go out at once and are repeated until the device says that it has them (rule 9);
//! - **increases** wait until what others could still be entitled to leaves room (rule 6), the reading is fresh, and the
//!   [`ramp`] allows them;
//! - everything else renews a lease once a heartbeat, as a hold where the room is not there.
//!
//! After a start or a reconnect, leases of an earlier session may still be alive: for the longest of them only holds are
//! sent, at or below what devices report (rule 7). What else may be wrong is in [`condition`].

mod balance;
mod condition;
mod decide;
mod device;
mod load;
mod orders;
mod plan;
mod ramp;
mod tell;
mod turns;

use std::collections::BTreeMap;

use grid_protocol::message::{Event, Header, Measurement, Part, Presence, Reference, Session, Setpoint, Status};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use crate::allocation::{Claim, Share};
use crate::lease::{Account, Granter, PerPhase, counted_for, heartbeat};
use condition::Condition;
use device::{Device, Heard};
use load::{Estimates, Rises};
pub use orders::Dim;
pub use plan::{Enrolment, Fuse, NOMINAL_VOLTS, Plan, per_phase};
use ramp::Ramp;
use tell::Told;
use turns::Turns;

/// Decreases are repeated this often until they are known to have arrived, or have run out (rule 9).
pub const REPEAT: Millis = Millis(50);
/// An increase by less than this is not worth a message, unless it gives a device all that it wants.
const WORTH_RAISING: MilliAmps = MilliAmps(250);
/// A base load that comes back within this time leaves no room in between.
const FLICKER: Millis = Millis(1500);

/// So much later than a heartbeat after a start every device has spoken.
const FIRST_WORDS: Millis = Millis(500);

/// Where a transformer's decisions go.
pub trait Voice {
    /// Sends a setpoint and returns the sequence number it got.
    fn setpoint(&mut self, device: &Name, setpoint: Setpoint) -> u64;
    /// Tells that the next setpoint may raise this device, since all that devices could be entitled to on its phases
    /// then still fits into this room of the transformer.
    fn raising(&mut self, device: &Name, room: PerPhase);
    /// Publishes an event.
    fn event(&mut self, event: Event);
}

/// The transformer of one session.
#[derive(Clone, Debug)]
pub struct Transformer {
    plan: Plan,
    meter_interval: Millis,
    /// When plant time began.
    began: BootTime,
    started: BootTime,
    granter: Granter,
    devices: Vec<Device>,
    /// Where each device stands in `devices`.
    places: BTreeMap<Name, usize>,
    /// What each device would like: kept, so that it need not be built for each decision.
    claims: Vec<Claim>,
    shares: Vec<Share>,
    /// The room of each node for raising, as of the last decision.
    rooms: Vec<PerPhase>,
    read: Option<Read>,
    estimates: Estimates,
    rises: Rises,
    turns: Turns,
    ramp: Ramp,
    dimming: Option<Dim>,
    /// While the utility's contact is closed: what it lets all devices together draw, in watts.
    contact: Option<u64>,
    condition: Condition,
    told: Told,
    /// The newest reading says *at least this much*: once for it, everybody gives back a tenth.
    take_back: bool,
    /// Something was heard that may change what others get.
    undecided: bool,
}

/// The newest reading and what follows from it.
#[derive(Clone, Copy, Debug)]
struct Read {
    at: BootTime,
    load: PerPhase,
    uncontrolled: PerPhase,
    /// The same without anything that is fed in.
    without_feed_in: PerPhase,
    saturated: bool,
}

impl Transformer {
    /// A transformer that starts: with a new `session` and a higher `epoch` than any before (rule 7). While all is well
    /// its meter gives a reading at least every `meter_interval`.
    pub fn new(plan: Plan, meter_interval: Millis, session: Session, epoch: u64, now: BootTime) -> Self {
        let devices: Vec<Device> = plan.devices.iter().map(Device::new).collect();
        let claims = plan.devices.iter().map(|enrolment| decide::no_claim(enrolment, &plan)).collect();
        Self {
            meter_interval,
            began: now,
            started: now,
            granter: granter(&plan, &devices, session, epoch, now),
            places: plan.devices.iter().zip(0..).map(|(enrolment, place)| (enrolment.name.clone(), place)).collect(),
            shares: Vec::new(),
            rooms: Vec::new(),
            claims,
            read: None,
            estimates: Estimates::default(),
            rises: Rises::default(),
            turns: Turns::new(devices.len()),
            ramp: Ramp::new(now),
            dimming: None,
            contact: None,
            condition: Condition::Starting,
            told: Told::default(),
            take_back: false,
            undecided: false,
            devices,
            plan,
        }
    }

    /// Starts anew after a reconnect: forgets all leases (rule 7), but neither orders nor whose turn it is.
    pub fn start_anew(&mut self, session: Session, epoch: u64, now: BootTime) {
        self.devices.iter_mut().for_each(Device::start_anew);
        self.granter = granter(&self.plan, &self.devices, session, epoch, now);
        self.started = now;
        self.read = None;
        self.shares.clear();
        (self.take_back, self.undecided) = (false, false);
        self.estimates = Estimates::default();
        self.rises = Rises::default();
        self.condition = Condition::Starting;
    }

    /// Takes note of what a reading may take at the most while all is well: a sensor that is found later may tell another.
    pub fn expect_readings_within(&mut self, interval: Millis) {
        self.meter_interval = interval;
    }

    /// Takes a verified birth of a device.
    pub fn on_status(&mut self, name: &Name, status: &Status, voice: &mut impl Voice) {
        let Some(place) = self.places.get(name).copied() else { return };
        let (Part::Device(can), Presence::Online) = (&status.part, status.state) else { return };
        self.undecided = true;
        let device = &mut self.devices[place];
        let enrolled = &self.plan.devices[place];
        let (min, max, failsafe) = (can.min_ma, can.max_ma, can.failsafe_ma);
        let ascending = can.steps_ma.windows(2).all(|steps| steps[0] < steps[1]);
        let within = can.steps_ma.iter().all(|step| min <= *step && *step <= max && *step > MilliAmps::ZERO);
        let sound = MilliAmps::ZERO <= min && min <= max && MilliAmps::ZERO <= failsafe && ascending && within;
        let why = if !sound {
            Some(format!(
                "it says minimum {min}, maximum {max}, failsafe {failsafe}, {} steps: it gets no more than its failsafe",
                can.steps_ma.len()
            ))
        } else if can.phases != enrolled.phases {
            Some(format!(
                "it says phases {:?}, enrolled are {:?}: it gets no more than its failsafe",
                can.phases, enrolled.phases
            ))
        } else if failsafe > enrolled.failsafe_ma {
            Some(format!("it says failsafe {failsafe}, enrolled are {}: more is reserved", enrolled.failsafe_ma))
        } else {
            None
        };
        device.differs = !sound || can.phases != enrolled.phases;
        if sound {
            device.can = can.clone();
            device.failsafe = device.failsafe.max(failsafe);
            self.granter.reserve_at_least(place, failsafe);
        }
        if let Some(why) = why {
            voice.event(Event::EnrolmentDiffers { device: name.clone(), why });
        }
    }

    /// Takes a verified measurement of a device and answers it. Says whether it was acted on. What it changes for others
    /// is decided by [`Transformer::settle`].
    pub fn on_measurement(
        &mut self,
        header: &Header,
        mut measurement: Measurement,
        now: BootTime,
        voice: &mut impl Voice,
    ) -> bool {
        let (Some(place), Some(seq)) = (self.places.get(&header.from).copied(), header.seq) else { return false };
        let device = &mut self.devices[place];
        if measurement.current_ma.len() != device.phases.len() || !device.is_news(header, seq) {
            return false;
        }
        device.take_in(&mut measurement, now);
        let counted = |granter: &Granter| granter.counted(place, now);
        let before = (counted(&self.granter), device.heard.as_ref().map(Heard::wish));
        self.granter.measured(place, header, seq, &measurement, now);
        // Of a meter that is late nobody knows what it would say now.
        let known = |current: &MilliAmps| if measurement.stale_ms.is_some() { MilliAmps::ZERO } else { *current };
        let current: Vec<MilliAmps> = measurement.current_ma.iter().map(known).collect();
        let mut change = [MilliAmps::ZERO; 3];
        for ((place, phase), current) in device.phases.iter().enumerate().zip(&current) {
            let before = device.reports.newest(place);
            change[phase.index()] = (*current - before).max(before - *current);
        }
        if device.reports.note(now, current) {
            self.estimates.report_changed(now, change);
            self.undecided = true;
        }
        let reference = Reference { session: header.session, seq };
        device.heard = Some(Heard { reference, received: now, measurement });
        let after = (counted(&self.granter), device.heard.as_ref().map(Heard::wish));
        self.undecided |= before != after;
        self.tell_who_draws_too_much(place, now, voice);
        self.tell_who_is_back(place, voice);
        if !self.undecided {
            self.renew(place, now, voice);
        }
        true
    }

    /// Decides anew if something was heard that may change what others get. To be called when nothing more is waiting to
    /// be heard.
    pub fn settle(&mut self, now: BootTime, voice: &mut impl Voice) {
        if self.undecided {
            self.decide(now, voice);
        }
    }

    /// Takes a reading of the transformer's own meter, per phase, taken at `at`. `saturated`: at least this much.
    pub fn on_reading(&mut self, load: PerPhase, saturated: bool, at: BootTime, now: BootTime, voice: &mut impl Voice) {
        let (in_force, silent_after) = (self.in_force(), self.silent_after());
        let starting = self.granter.is_starting(now);
        let (mut for_raising, mut for_lowering, mut explained) = (load, load, load);
        let mut fed_in = [MilliAmps::ZERO; 3];
        for (place, device) in self.devices.iter().enumerate() {
            let entitled = device.entitled(self.granter.largest(place, now), starting, now);
            let rising = device.rising(self.granter.session(), now);
            let falling = device.falling(now);
            for (place, phase) in device.phases.iter().enumerate() {
                let phase = phase.index();
                let drawn = |current: MilliAmps| current.max(MilliAmps::ZERO).min(entitled);
                for_raising[phase] -= drawn(device.reports.smallest(place, at, in_force).min(falling));
                for_lowering[phase] -= drawn(device.reports.largest(place, at, silent_after).max(rising));
                explained[phase] -= entitled;
                fed_in[phase] += (-device.reports.newest(place)).max(MilliAmps::ZERO);
            }
        }
        let least = if self.plan.feed_in { MilliAmps(i64::MIN) } else { MilliAmps::ZERO };
        let at_least = |least: MilliAmps, estimate: PerPhase| estimate.map(|current| current.max(least));
        self.estimates.note(at, at_least(least, for_raising), in_force);
        let limit = self.plan.limit();
        let over = load.map(|load| load > limit - MilliAmps(self.plan.margin(limit).0 / 2));
        let newest = at_least(least, for_lowering);
        let mut uncontrolled = self.rises.note(at, newest, at_least(least, explained), over);
        if self.has_to_listen(now) {
            // What devices draw that have not spoken yet looks like base load: no reason to stop the others.
            uncontrolled = std::array::from_fn(|phase| if over[phase] { newest[phase] } else { MilliAmps::ZERO });
        }
        self.tell_saturation(saturated, now, voice);
        let mut without_feed_in = at_least(MilliAmps::ZERO, uncontrolled);
        without_feed_in.iter_mut().zip(fed_in).for_each(|(base, fed_in)| *base += fed_in);
        self.read = Some(Read { at, load, uncontrolled, without_feed_in, saturated });
        self.take_back = saturated;
        self.tell_overloads(load, now, voice);
        self.tell_reserve(voice);
        self.decide(now, voice);
    }

    /// Takes the configured load per phase where there is no meter: it is what flows besides the devices, whatever they
    /// report.
    pub fn on_base_load(&mut self, base: PerPhase, now: BootTime, voice: &mut impl Voice) {
        let mut load = base;
        for device in &self.devices {
            for (place, phase) in device.phases.iter().enumerate() {
                load[phase.index()] += device.reports.newest(place);
            }
        }
        self.estimates.note(now, base, self.in_force());
        self.read = Some(Read { at: now, load, uncontrolled: base, without_feed_in: base, saturated: false });
        self.tell_overloads(load, now, voice);
        self.tell_reserve(voice);
        self.decide(now, voice);
    }

    /// To be called at least every [`REPEAT`].
    pub fn on_tick(&mut self, now: BootTime, voice: &mut impl Voice) {
        self.tell_who_is_lost(now, voice);
        self.end_dimming(now, voice);
        self.decide(now, voice);
    }

    /// Whether this session has just begun, and a device has not had its time to speak.
    fn has_to_listen(&self, now: BootTime) -> bool {
        let beat = heartbeat(self.plan.terms.max_ttl);
        now.since(self.started) < beat + FIRST_WORDS && self.devices.iter().any(|device| device.heard.is_none())
    }

    /// A device that was not heard of for this long wants nothing: none of its leases is alive.
    fn silent_after(&self) -> Millis {
        counted_for(self.plan.terms.ttl)
    }

    /// How long a report, and an estimate made with it, counts.
    fn in_force(&self) -> Millis {
        Millis(heartbeat(self.plan.terms.ttl).0 * 3 / 2).max(FLICKER)
    }
}

/// A book without leases.
fn granter(plan: &Plan, devices: &[Device], session: Session, epoch: u64, now: BootTime) -> Granter {
    let account = |(device, enrolment): (&Device, &Enrolment)| {
        Account::new(plan.node(enrolment.fuse.as_ref()), device.phases.clone(), device.failsafe)
    };
    let accounts = devices.iter().zip(&plan.devices).map(account).collect();
    Granter::new(session, epoch, plan.terms, plan.parents(), accounts, now)
}

#[cfg(test)]
mod tests;
