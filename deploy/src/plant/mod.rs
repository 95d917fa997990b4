//! The plant: what physically happens in a street, exactly.
//!
//! The base load is constant within each step of its table, a car draws a constant current until something changes, so
//! everything is piecewise constant and is integrated from event to event: base step, arrival, departure, car full, limit
//! that falls back, car that follows a limit set earlier, end of the day. Time is whole microseconds, current whole milliamps at 230 V, energy whole nanojoules (milliwatts times
//! microseconds), so nothing is rounded between events and it makes no difference in how many steps time passes. One
//! thing is rounded: a car that would be full within a microsecond draws to that microsecond's end, and is credited no
//! more than it wanted.
//!
//! The plant knows no wall clock: whoever shares one (see [`wires`]) tells it the plant time before looking.

mod charge_point;
mod energy;
mod habits;
mod statistics;
mod uncontrolled;
pub mod wires;

use std::time::Duration;

use grid_protocol::message::Phase;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, MilliWattHours, Millis};

use crate::street::{Street, current_per_phase};
use charge_point::Socket;

pub use charge_point::{ChargePointId, SessionReport};
pub use habits::Habits;
pub use statistics::Statistics;
pub use uncontrolled::{Peak, uncontrolled_peak};

/// A moment of plant time: microseconds since the day's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlantTime(pub u64);

impl PlantTime {
    /// How long it is from `earlier` until this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// So much later.
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The whole milliseconds since the day's start, as [`Street::civil`] takes them.
    pub fn millis(self) -> Millis {
        Millis(self.0 / 1_000)
    }
}

impl From<Millis> for PlantTime {
    fn from(since_start: Millis) -> Self {
        Self(since_start.0.saturating_mul(1_000))
    }
}

/// Currents on L1, L2 and L3.
pub type PhaseCurrents = [MilliAmps; 3];

/// A street while its day goes by.
#[derive(Clone, Debug)]
pub struct Plant {
    now: PlantTime,
    end: PlantTime,
    /// Microseconds that each base current holds.
    step: u64,
    /// Current of the base load on each phase, step by step.
    base: Vec<MilliAmps>,
    sockets: Vec<Socket>,
    limit_w: u64,
    statistics: Statistics,
}

impl Plant {
    /// The street at its day's start, behind a transformer of `limit_w` watts over three phases, with
    /// [prompt](Habits::PROMPT) cars. No charge point may draw anything until its [limit is set](Self::set_limit).
    pub fn new(street: &Street, limit_w: u64) -> Self {
        Self::with_habits(street, limit_w, Habits::PROMPT)
    }

    /// As [`Plant::new`], with cars of these habits.
    pub fn with_habits(street: &Street, limit_w: u64, habits: Habits) -> Self {
        Self {
            now: PlantTime(0),
            end: street.end().into(),
            step: PlantTime::from(street.step()).0,
            base: street.base().iter().map(|row| current_per_phase(row.load_w, 3)).collect(),
            sockets: street.charge_points().iter().map(|point| Socket::new(point, habits)).collect(),
            limit_w,
            statistics: Statistics::default(),
        }
    }

    /// Lets time pass until `to`. A moment that has passed already changes nothing, and time stops at the day's end.
    pub fn advance(&mut self, to: PlantTime) {
        while let Some(event) = self.next_event()
            && self.now < to
        {
            let until = event.min(to);
            let (total, base) = (self.transformer_current(), self.base_current());
            self.statistics.record(self.now, until, total, base, self.transformer_limit());
            for socket in &mut self.sockets {
                socket.advance(self.now, until);
            }
            self.now = until;
        }
    }

    /// The plant's present.
    pub fn now(&self) -> PlantTime {
        self.now
    }

    /// When the day ends. From then on no current flows, nobody wants any, and nothing is counted.
    pub fn end(&self) -> PlantTime {
        self.end
    }

    /// Whether the day has ended.
    pub fn is_over(&self) -> bool {
        self.now >= self.end
    }

    /// The next moment at which something changes by itself, if no limit is set until then; `None` after the day's end.
    pub fn next_event(&self) -> Option<PlantTime> {
        if self.is_over() {
            return None;
        }
        let base = PlantTime((self.now.0 / self.step + 1) * self.step);
        self.sockets.iter().filter_map(|socket| socket.next_event(self.now)).chain([base, self.end]).min()
    }

    /// The transformer's limit from now on, in watts over three phases.
    pub fn set_transformer_limit(&mut self, limit_w: u64) {
        self.limit_w = limit_w;
    }

    /// The transformer's limit, in watts over three phases.
    pub fn transformer_limit_w(&self) -> u64 {
        self.limit_w
    }

    /// The transformer's limit on each phase.
    pub fn transformer_limit(&self) -> MilliAmps {
        current_per_phase(self.limit_w, 3)
    }

    /// What flows through the transformer: base load and cars.
    pub fn transformer_current(&self) -> PhaseCurrents {
        let mut total = self.base_current();
        for id in self.charge_points() {
            for phase in self.phases(id) {
                total[phase.index()] += self.current(id);
            }
        }
        total
    }

    /// What flows through the transformer and cannot be controlled.
    pub fn base_current(&self) -> PhaseCurrents {
        let row = usize::try_from(self.now.0 / self.step).ok().and_then(|row| self.base.get(row));
        [row.copied().unwrap_or_default(); 3]
    }

    /// All charge points, in the street's order.
    pub fn charge_points(&self) -> impl Iterator<Item = ChargePointId> + use<> {
        (0..self.sockets.len()).map(ChargePointId)
    }

    /// The charge point of this name.
    pub fn charge_point(&self, name: &Name) -> Option<ChargePointId> {
        self.charge_points().find(|id| self.name(*id) == name)
    }

    /// A charge point's name. As all that take an id, it panics if the id comes from the plant of a larger street.
    pub fn name(&self, id: ChargePointId) -> &Name {
        self.sockets[id.0].name()
    }

    /// The phases that a charge point is connected to.
    pub fn phases(&self, id: ChargePointId) -> &[Phase] {
        self.sockets[id.0].phases()
    }

    /// The most that a charge point draws on each of its phases.
    pub fn max(&self, id: ChargePointId) -> MilliAmps {
        self.sockets[id.0].max()
    }

    /// Sets what a charge point may draw on each of its phases from now on. A car [follows](Habits) it, and draws
    /// nothing below 6 A.
    pub fn set_limit(&mut self, id: ChargePointId, limit: MilliAmps) {
        self.sockets[id.0].set_limit(limit, self.now, None);
    }

    /// Sets what a charge point may draw until `at`, when it falls back to another limit by itself, unless one is set
    /// before: a charger whose controller has died.
    pub fn set_limit_until(&mut self, id: ChargePointId, limit: MilliAmps, at: PlantTime, fallback: MilliAmps) {
        self.sockets[id.0].set_limit(limit, self.now, Some((at, fallback)));
    }

    /// What a charge point allows on each of its phases now, whether or not its car follows already.
    pub fn limit(&self, id: ChargePointId) -> MilliAmps {
        self.sockets[id.0].limit()
    }

    /// The smallest base load between two moments, on each phase; nothing after the day's end.
    pub fn lowest_base_current(&self, from: PlantTime, until: PlantTime) -> MilliAmps {
        let row = |time: PlantTime| usize::try_from(time.0 / self.step).unwrap_or(usize::MAX);
        let rows = row(from)..=row(until);
        let lowest = self.base.iter().skip(*rows.start()).take(rows.count()).min();
        if until >= self.end { MilliAmps::ZERO } else { lowest.copied().unwrap_or_default() }
    }

    /// What a charge point draws on each of its phases.
    pub fn current(&self, id: ChargePointId) -> MilliAmps {
        if self.is_over() { MilliAmps::ZERO } else { self.sockets[id.0].current(self.now) }
    }

    /// What a charge point could use on each of its phases: its maximum while a car is there that is not full, else nothing.
    pub fn demand(&self, id: ChargePointId) -> MilliAmps {
        if self.is_over() { MilliAmps::ZERO } else { self.sockets[id.0].demand(self.now) }
    }

    /// The session of the car that is there now, if one is; none after the day's end.
    pub fn present(&self, id: ChargePointId) -> Option<SessionReport> {
        if self.is_over() { None } else { self.sockets[id.0].present(self.now, self.end) }
    }

    /// What a charge point has delivered since the day's start, to all its cars and over all its phases.
    pub fn delivered(&self, id: ChargePointId) -> MilliWattHours {
        self.sockets[id.0].delivered().milliwatt_hours()
    }

    /// Every session of the day with what has been delivered so far: by charge point, then by arrival.
    pub fn reports(&self) -> Vec<SessionReport> {
        self.sockets.iter().flat_map(|socket| socket.reports(self.end)).collect()
    }

    /// What was seen since the day's start.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }
}

#[cfg(test)]
mod tests;
