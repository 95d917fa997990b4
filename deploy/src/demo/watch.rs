//! Watches the rule of the system in every run, from outside the agents: it sees what each actuator was set to, and
//! what the plant truly carries.
//!
//! A violation is either of two things:
//!
//! - what devices are entitled to draw on a phase is more than the room that the transformer found when it last raised a
//!   device there: then the two books of [`grid_agent::lease`] do not agree;
//! - it is more than the limit less the lowest base load for as long as a lease can last: then a risen base load has not
//!   been followed.
//!
//! After the limit was lowered the former one still counts for as long as a lease can last, since all that was granted
//! under it may be in force until then.
//!
//! It also measures how long it takes from a transformer's reading to a device that obeys, and counts how often each limit
//! changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use grid_agent::lease::counted_for;
use grid_agent::run::Probe;
use grid_protocol::message::{Phase, Reference};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use grid_service::clock::boot_now;
use serde::Serialize;

use crate::plant::wires::{PlantClock, lock};
use crate::plant::{ChargePointId, Plant};

/// Decisions whose setpoint nobody obeyed are forgotten beyond this many: most were lost, or only repeated another.
const REMEMBERED_DECISIONS: usize = 4096;

/// Percentiles of a duration, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Half of them took at most this.
    pub p50: u64,
    /// 99 of 100 took at most this.
    pub p99: u64,
    /// All took at most this.
    pub max: u64,
}

impl Latency {
    /// Of durations in any order; zeros if there are none.
    pub fn of(mut measured: Vec<u64>) -> Self {
        measured.sort_unstable();
        // The smallest value that so many percent do not exceed.
        let at = |percent: usize| {
            let rank = (measured.len() * percent).div_ceil(100);
            rank.checked_sub(1).and_then(|place| measured.get(place)).copied().unwrap_or_default()
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// What one charge point may draw.
#[derive(Clone, Debug)]
struct Entitled {
    phases: Vec<Phase>,
    limit: MilliAmps,
    until: Option<BootTime>,
    max: MilliAmps,
}

impl Entitled {
    /// On this phase; the failsafe of the demo's devices is 0.
    fn on(&self, phase: Phase, now: BootTime) -> MilliAmps {
        let alive = self.until.is_none_or(|until| now < until) && self.phases.contains(&phase);
        if alive { self.limit.min(self.max) } else { MilliAmps::ZERO }
    }
}

#[derive(Default)]
struct State {
    entitled: HashMap<Name, Entitled>,
    limit_changes: BTreeMap<Name, u64>,
    /// Limits of the transformer that were lowered, and when.
    former_limits: Vec<(BootTime, MilliAmps)>,
    room: [Option<MilliAmps>; 3],
    decided: HashMap<Reference, u64>,
    latencies: Vec<u64>,
    violations: u64,
}

/// The observer.
pub struct Watch {
    plant: Arc<Mutex<Plant>>,
    clock: PlantClock,
    longest_lease: Millis,
    /// Where both are locked, this before the plant.
    state: Mutex<State>,
}

impl Watch {
    /// Watches a plant whose leases last at most `max_ttl`.
    pub fn new(plant: Arc<Mutex<Plant>>, clock: PlantClock, max_ttl: Millis) -> Self {
        Self { plant, clock, longest_lease: counted_for(max_ttl), state: Mutex::default() }
    }

    /// Takes note of what an actuator is set to, before it is if it is more, and checks the rule.
    pub fn entitle(&self, id: ChargePointId, limit: MilliAmps, until: Option<BootTime>, now: BootTime) {
        let (name, phases, max) = {
            let plant = lock(&self.plant);
            (plant.name(id).clone(), plant.phases(id).to_vec(), plant.max(id))
        };
        let mut state = self.state();
        let before = state.entitled.insert(name.clone(), Entitled { phases, limit, until, max });
        let changes = state.limit_changes.entry(name).or_default();
        *changes += u64::from(before.is_some_and(|before| before.limit != limit));
        drop(state);
        self.check(now);
    }

    /// Takes note that the transformer's limit is another from now on, before it is used.
    pub fn limit_changed_at(&self, limit_w: u64, now: BootTime) {
        let mut state = self.state();
        let mut plant = lock(&self.plant);
        plant.advance((self.clock)(now.0 * 1000));
        let before = plant.transformer_limit();
        plant.set_transformer_limit(limit_w);
        if plant.transformer_limit() < before {
            state.former_limits.push((now, before));
        }
    }

    /// How often each charge point's limit was set to another value than before.
    pub fn limit_changes(&self) -> BTreeMap<Name, u64> {
        self.state().limit_changes.clone()
    }

    /// Checks the rule now.
    pub fn check(&self, now: BootTime) {
        let at = (self.clock)(now.0 * 1000);
        let before = (self.clock)((now - self.longest_lease).0 * 1000);
        let mut state = self.state();
        let (limit, base) = {
            let plant = lock(&self.plant);
            (plant.transformer_limit(), plant.lowest_base_current(before, at))
        };
        state.former_limits.retain(|(lowered, _)| now.since(*lowered) < self.longest_lease);
        let bearable = state.former_limits.iter().map(|(_, former)| *former).fold(limit, MilliAmps::max) - base;
        for phase in Phase::ALL {
            let sum: MilliAmps = state.entitled.values().map(|entitled| entitled.on(phase, now)).sum();
            let room = state.room[phase.index()].unwrap_or(MilliAmps::ZERO);
            if sum > MilliAmps::ZERO && (sum > room || sum > bearable) {
                state.violations += 1;
                tracing::error!(%phase, %sum, %room, %bearable, "the rule of the system is broken");
            }
        }
    }

    /// How often the rule was found broken.
    pub fn violations(&self) -> u64 {
        self.state().violations
    }

    /// How long it took from a reading to a device that obeys.
    pub fn latency(&self) -> Latency {
        Latency::of(self.state().latencies.clone())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe for Watch {
    fn decided(&self, setpoint: Reference, read_at: u64) {
        let mut state = self.state();
        if state.decided.len() >= REMEMBERED_DECISIONS {
            state.decided.clear();
        }
        state.decided.insert(setpoint, read_at);
    }

    fn raising(&self, device: &Name, room: [MilliAmps; 3]) {
        let mut state = self.state();
        let phases = state.entitled.get(device).map(|entitled| entitled.phases.clone()).unwrap_or_default();
        phases.iter().for_each(|phase| state.room[phase.index()] = Some(room[phase.index()]));
    }

    fn limit_changed(&self, limit_w: u64) {
        self.limit_changed_at(limit_w, boot_now());
    }

    fn obeyed(&self, setpoint: Reference, at: u64) {
        let mut state = self.state();
        if let Some(read_at) = state.decided.remove(&setpoint) {
            state.latencies.push(at.saturating_sub(read_at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::PlantTime;
    use crate::street::Street;
    use grid_protocol::message::Session;

    const TTL: Millis = Millis(3000);

    /// The built-in street at 80 kW, in real time. Its first quarter hours carry 18,058 W and 24,317 W.
    fn watch() -> (Watch, ChargePointId, Name) {
        let plant = Plant::new(&Street::built_in().unwrap(), 80_000);
        let name: Name = "cp-4".parse().unwrap();
        let id = plant.charge_point(&name).unwrap();
        let watch = Watch::new(Arc::new(Mutex::new(plant)), Arc::new(PlantTime), TTL);
        watch.entitle(id, MilliAmps(0), None, BootTime(0));
        (watch, id, name)
    }

    #[test]
    fn who_is_entitled_to_no_more_than_the_room_found_breaks_no_rule() {
        let (watch, id, name) = watch();
        watch.raising(&name, [MilliAmps(20_000); 3]);
        watch.entitle(id, MilliAmps(20_000), Some(BootTime(5000)), BootTime(2000));
        assert_eq!(watch.violations(), 0);
    }

    #[test]
    fn more_than_the_room_found_is_a_violation_on_each_phase_until_the_lease_is_over() {
        let (watch, id, name) = watch();
        watch.raising(&name, [MilliAmps(19_999); 3]);
        watch.entitle(id, MilliAmps(20_000), Some(BootTime(5000)), BootTime(2000));
        assert_eq!(watch.violations(), 3);
        watch.check(BootTime(5000));
        assert_eq!(watch.violations(), 3);
    }

    #[test]
    fn a_base_load_that_rises_must_be_followed_within_the_longest_lease() {
        let plant = Plant::new(&Street::built_in().unwrap(), 25_000);
        let name: Name = "cp-4".parse().unwrap();
        let id = plant.charge_point(&name).unwrap();
        let watch = Watch::new(Arc::new(Mutex::new(plant)), Arc::new(PlantTime), TTL);
        watch.entitle(id, MilliAmps(0), None, BootTime(0));
        watch.raising(&name, [MilliAmps(10_000); 3]);
        // 25,000 W less 18,058 W leave 10,060 mA a phase; less 24,317 W, from the first quarter hour on, 989 mA.
        watch.entitle(id, MilliAmps(10_000), Some(BootTime(2_000_000)), BootTime(2000));
        let risen = 900_000;
        watch.check(BootTime(risen + counted_for(TTL).0 - 1));
        assert_eq!(watch.violations(), 0);
        watch.check(BootTime(risen + counted_for(TTL).0));
        assert_eq!(watch.violations(), 3);
    }

    #[test]
    fn a_lowered_limit_must_be_followed_within_the_longest_lease_and_a_raised_one_counts_at_once() {
        let (watch, id, name) = watch();
        watch.raising(&name, [MilliAmps(60_000); 3]);
        // 80,000 W less 18,058 W leave 89 A a phase, 50,000 W leave 46 A, both enough for the car's 31 A.
        watch.limit_changed_at(50_000, BootTime(1000));
        watch.entitle(id, MilliAmps(31_000), Some(BootTime(60_000)), BootTime(2000));
        // 35,000 W leave 24 A.
        watch.limit_changed_at(35_000, BootTime(3000));
        assert_eq!(lock(&watch.plant).transformer_limit_w(), 35_000);
        let followed = 3000 + counted_for(TTL).0;
        watch.check(BootTime(followed - 1));
        assert_eq!(watch.violations(), 0);
        watch.check(BootTime(followed));
        assert_eq!(watch.violations(), 3);
        watch.limit_changed_at(50_000, BootTime(followed + 1));
        watch.check(BootTime(followed + 2));
        assert_eq!(watch.violations(), 3);
    }

    #[test]
    fn a_limit_that_is_renewed_has_not_changed() {
        let (watch, id, name) = watch();
        watch.raising(&name, [MilliAmps(60_000); 3]);
        for (at, limit) in [(1000, 0), (2000, 9_000), (3000, 9_000), (4000, 8_000), (5000, 9_000)] {
            watch.entitle(id, MilliAmps(limit), Some(BootTime(at + 3000)), BootTime(at));
        }
        assert_eq!(watch.limit_changes(), [(name, 3)].into());
    }

    #[test]
    fn latency_runs_from_the_reading_to_the_device_that_obeys() {
        let (watch, _, _) = watch();
        for seq in 1..=100 {
            let setpoint = Reference { session: Session(1), seq };
            watch.decided(setpoint, 1000);
            watch.obeyed(setpoint, 1000 + seq);
            watch.obeyed(setpoint, 9999);
        }
        assert_eq!(watch.latency(), Latency { p50: 50, p99: 99, max: 100 });
    }
}
