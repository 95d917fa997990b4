//! One charge point and the cars that come to it.

use grid_protocol::message::Phase;
use grid_protocol::topic::Name;
use grid_protocol::units::MilliAmps;
use serde::Serialize;

use super::PlantTime;
use super::energy::{MilliWatts, NanoJoules};
use super::habits::{Habits, Offer};
use crate::street::ChargePoint;

/// Names a charge point of a plant; made by [`Plant::charge_points`](super::Plant::charge_points) and
/// [`Plant::charge_point`](super::Plant::charge_point).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChargePointId(pub(super) usize);

/// What became of one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionReport {
    /// The charge point.
    pub device: Name,
    /// When the car came, in milliseconds since the day's start.
    pub arrival_ms: u64,
    /// When it left or will leave, in milliseconds since the day's start.
    pub departure_ms: u64,
    /// What it wanted.
    pub wanted_wh: u64,
    /// What it got so far, rounded down; a car that is full got what it wanted.
    pub delivered_wh: u64,
    /// What it would have got at full power from arrival until full, departure, or the day's end, rounded down. A
    /// difference to `wanted_wh` is nobody's fault.
    pub possible_wh: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Socket {
    name: Name,
    phases: Vec<Phase>,
    max: MilliAmps,
    habits: Habits,
    offer: Offer,
    /// When the limit falls back by itself, and to what.
    fallback: Option<(PlantTime, MilliAmps)>,
    /// In order of arrival; they do not overlap.
    cars: Vec<Car>,
    /// The first car that has not left.
    turn: usize,
}

#[derive(Clone, Debug)]
struct Car {
    arrival: PlantTime,
    departure: PlantTime,
    wanted: NanoJoules,
    delivered: NanoJoules,
}

impl Socket {
    pub(super) fn new(point: &ChargePoint, habits: Habits) -> Self {
        let cars = point.sessions.iter().map(|session| Car {
            arrival: session.arrival.into(),
            departure: session.departure.into(),
            wanted: NanoJoules::from_watt_hours(session.energy_wh),
            delivered: NanoJoules::default(),
        });
        Self {
            name: point.name.clone(),
            phases: point.phases.clone(),
            max: point.max(),
            habits,
            offer: Offer::default(),
            fallback: None,
            cars: cars.collect(),
            turn: 0,
        }
    }

    pub(super) fn name(&self) -> &Name {
        &self.name
    }

    pub(super) fn phases(&self) -> &[Phase] {
        &self.phases
    }

    pub(super) fn max(&self) -> MilliAmps {
        self.max
    }

    pub(super) fn set_limit(&mut self, limit: MilliAmps, now: PlantTime, fallback: Option<(PlantTime, MilliAmps)>) {
        self.offer.set(limit, now, &self.habits);
        self.fallback = fallback;
    }

    pub(super) fn limit(&self) -> MilliAmps {
        self.offer.limit()
    }

    fn car_at(&self, now: PlantTime) -> Option<&Car> {
        self.cars.get(self.turn).filter(|car| car.arrival <= now)
    }

    pub(super) fn demand(&self, now: PlantTime) -> MilliAmps {
        match self.car_at(now) {
            Some(car) if car.delivered < car.wanted => self.max,
            Some(_) | None => MilliAmps::ZERO,
        }
    }

    pub(super) fn current(&self, now: PlantTime) -> MilliAmps {
        self.habits.drawn(self.offer.followed().min(self.demand(now)))
    }

    fn power(&self, now: PlantTime) -> MilliWatts {
        MilliWatts::of(self.current(now), self.phases.len())
    }

    /// When the present car is full, leaves or follows another limit, the next one comes, or the limit falls back.
    pub(super) fn next_event(&self, now: PlantTime) -> Option<PlantTime> {
        let fallback = self.fallback.map(|(at, _)| at.max(now));
        self.next_of_cars(now).into_iter().chain(self.offer.next_event()).chain(fallback).min()
    }

    fn next_of_cars(&self, now: PlantTime) -> Option<PlantTime> {
        let car = self.cars.get(self.turn)?;
        if now < car.arrival {
            return Some(car.arrival);
        }
        let full = (car.wanted - car.delivered).us_at(self.power(now));
        Some(full.map_or(car.departure, |us| car.departure.min(PlantTime(now.0.saturating_add(us)))))
    }

    /// Lets time pass, at most until the next event.
    pub(super) fn advance(&mut self, now: PlantTime, until: PlantTime) {
        let power = self.power(now);
        if let Some((_, limit)) = self.fallback.take_if(|(at, _)| *at <= until) {
            self.offer.set(limit, until, &self.habits);
        }
        self.offer.pass(until);
        let Some(car) = self.cars.get_mut(self.turn) else { return };
        car.delivered = car.wanted.min(car.delivered + power.during(until.0 - now.0));
        if car.departure <= until {
            self.turn += 1;
        }
        if now < until && self.cars.get(self.turn).is_some_and(|car| car.arrival == until) {
            self.offer.meet();
        }
    }

    pub(super) fn delivered(&self) -> NanoJoules {
        self.cars.iter().map(|car| car.delivered).sum()
    }

    pub(super) fn present(&self, now: PlantTime, end: PlantTime) -> Option<SessionReport> {
        self.car_at(now).map(|car| self.report(car, end))
    }

    pub(super) fn reports(&self, end: PlantTime) -> impl Iterator<Item = SessionReport> {
        self.cars.iter().map(move |car| self.report(car, end))
    }

    fn report(&self, car: &Car, end: PlantTime) -> SessionReport {
        let stay = car.departure.min(end).0.saturating_sub(car.arrival.0);
        let most = MilliWatts::of(self.habits.drawn(self.max), self.phases.len()).during(stay);
        SessionReport {
            device: self.name.clone(),
            arrival_ms: car.arrival.millis().0,
            departure_ms: car.departure.millis().0,
            wanted_wh: car.wanted.watt_hours(),
            delivered_wh: car.delivered.watt_hours(),
            possible_wh: car.wanted.min(most).watt_hours(),
        }
    }
}
