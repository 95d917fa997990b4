//! Connects simulated sensors to a shared plant.
//!
//! A [`PlantWire`] is what a simulated INA219 senses in the street's scale model: it brings the plant up to date, and turns
//! the grid current into the voltage over the chip's shunt as the meter's configuration says, to the nearest microvolt.
//! The chip itself resolves 10 µV, so a meter reads the grid current to within 5.5 µV ÷ shunt × scale: with the usual
//! 100 mΩ and a scale of 100, 5.5 mA.
//!
//! A conversion ends slightly before it is read. If somebody has advanced the plant further meanwhile, the wire shows the
//! later state: then a reading is fresher than it could be, by at most one conversion.
//!
//! The simulated bus stays locked while its wires lock the plant: nobody may read a meter while holding the plant's lock.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use grid_agent::meter::ChipConfig;
use grid_agent::simulated_ina219::{Sensed, Wire};
use grid_protocol::message::Phase;
use grid_protocol::units::MilliAmps;

use super::{ChargePointId, Plant, PlantTime};
use crate::street::VOLTS;

/// The supply of the scale model, in millivolts, where no `voltage_scale` says what stands for 230 V.
const MODEL_SUPPLY_MV: i64 = 12_000;

/// Plant time at a moment of the simulated bus's clock, which is given in microseconds.
pub type PlantClock = Arc<dyn Fn(u64) -> PlantTime + Send + Sync>;

/// What one simulated INA219 is connected to.
#[derive(Clone)]
pub struct PlantWire {
    plant: Arc<Mutex<Plant>>,
    clock: PlantClock,
    tap: Tap,
    chip: ChipConfig,
}

/// Where in the street the shunt lies.
#[derive(Clone, Copy)]
enum Tap {
    Transformer(Phase),
    ChargePoint(ChargePointId),
}

impl PlantWire {
    /// The shunt in one phase of the transformer. `chip` is the configuration that the meter reads this chip with.
    pub fn transformer(plant: Arc<Mutex<Plant>>, clock: PlantClock, phase: Phase, chip: ChipConfig) -> Self {
        Self { plant, clock, tap: Tap::Transformer(phase), chip }
    }

    /// The shunt in a phase of a charge point (all its phases carry the same current). `chip` is the configuration that
    /// the meter reads this chip with.
    pub fn charge_point(plant: Arc<Mutex<Plant>>, clock: PlantClock, id: ChargePointId, chip: ChipConfig) -> Self {
        Self { plant, clock, tap: Tap::ChargePoint(id), chip }
    }

    fn current_at(&self, at_us: u64) -> MilliAmps {
        let now = (self.clock)(at_us);
        let mut plant = lock(&self.plant);
        plant.advance(now);
        match self.tap {
            Tap::Transformer(phase) => plant.transformer_current()[phase.index()],
            Tap::ChargePoint(id) => plant.current(id),
        }
    }
}

impl Wire for PlantWire {
    fn sense(&mut self, at_us: u64) -> Sensed {
        let bus_mv = match self.chip.voltage_scale {
            Some(scale) => VOLTS * 1_000 / i64::from(scale.max(1)),
            None => MODEL_SUPPLY_MV,
        };
        Sensed { shunt_uv: self.chip.shunt_uv(self.current_at(at_us)), bus_mv }
    }
}

/// Locks a shared plant. Whoever panicked while holding it left it between two events, so it goes on from there.
pub fn lock(plant: &Mutex<Plant>) -> MutexGuard<'_, Plant> {
    plant.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use grid_agent::meter::{Ina219Meter, Meter};
    use grid_agent::simulated_ina219::SimulatedBus;

    use super::*;
    use crate::street::Street;

    /// Plant time runs this much faster than that of the chips.
    const TIME_FACTOR: u64 = 240;

    #[test]
    fn meters_read_transformer_and_charge_point_of_a_plant_that_they_bring_up_to_date() {
        let mut plant = Plant::new(&Street::built_in().unwrap(), 80_000);
        let car = plant.charge_point(&"cp-3".parse().unwrap()).unwrap();
        plant.set_limit(car, MilliAmps(10_000));
        let plant = Arc::new(Mutex::new(plant));

        let now = Arc::new(AtomicU64::new(0));
        let bus = SimulatedBus::new({
            let now = Arc::clone(&now);
            move || now.load(Ordering::Relaxed)
        });
        let clock: PlantClock = Arc::new(|at_us| PlantTime(at_us * TIME_FACTOR));
        let chips: Vec<_> = (0x40..0x43).map(|address| ChipConfig { address, ..ChipConfig::default() }).collect();
        for (phase, chip) in Phase::ALL.into_iter().zip(&chips) {
            let wire = PlantWire::transformer(Arc::clone(&plant), Arc::clone(&clock), phase, chip.clone());
            bus.attach(chip.address, wire).unwrap();
        }
        let own = ChipConfig { address: 0x44, voltage_scale: Some(46), ..ChipConfig::default() };
        bus.attach(own.address, PlantWire::charge_point(Arc::clone(&plant), clock, car, own.clone())).unwrap();
        let open = |chips| {
            let (bus, now) = (bus.clone(), now.clone());
            Ina219Meter::open_with_clock(chips, move |_| Ok(bus.clone()), move || now.load(Ordering::Relaxed)).unwrap()
        };
        let (mut transformer, mut charge_point) = (open(chips), open(vec![own]));

        // At half past twelve cp-3 charges, on L1.
        let half_past_twelve = PlantTime(45_000_000_000);
        now.store(half_past_twelve.0 / TIME_FACTOR + 9_042, Ordering::Relaxed);
        let reading = transformer.poll().unwrap().unwrap();
        let own_reading = charge_point.poll().unwrap().unwrap();

        let plant = lock(&plant);
        assert!(plant.now() > half_past_twelve);
        let truth = plant.transformer_current();
        assert_eq!(plant.base_current()[0] + MilliAmps(10_000), truth[0]);
        for (read, true_current) in reading.currents().iter().zip(truth) {
            assert!((read.0 - true_current.0).abs() <= 6, "{read} instead of {true_current}");
        }
        assert_eq!(own_reading.currents(), [MilliAmps(10_000)]);
        assert_eq!(own_reading.voltages()[0].0, 230_000);
    }
}
