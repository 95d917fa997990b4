//! The simulated charger: an actuator in the plant.

use std::sync::{Arc, Mutex};

use grid_agent::actuator::{Actuator, ActuatorError};
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use grid_service::clock::{boot_micros, boot_now};

use super::watch::Watch;
use crate::plant::wires::{PlantClock, lock};
use crate::plant::{ChargePointId, Plant};

/// How much earlier than needed a lease ends here, so that a busy machine still makes the change in time.
const CHANGE_TIME: Millis = Millis(20);

/// A charge point of the plant. Like a charger with a watchdog it falls back by itself when its lease is not renewed.
pub struct SimulatedCharger {
    plant: Arc<Mutex<Plant>>,
    clock: PlantClock,
    id: ChargePointId,
    watch: Arc<Watch>,
}

impl SimulatedCharger {
    /// Controls the charge point `id`.
    pub fn new(plant: Arc<Mutex<Plant>>, clock: PlantClock, id: ChargePointId, watch: Arc<Watch>) -> Self {
        Self { plant, clock, id, watch }
    }
}

impl Actuator for SimulatedCharger {
    fn set(&mut self, limit: MilliAmps, until: Option<BootTime>) -> Result<(), ActuatorError> {
        self.watch.entitle(self.id, limit, until, boot_now());
        let now = (self.clock)(boot_micros());
        let mut plant = lock(&self.plant);
        plant.advance(now);
        match until {
            Some(until) => {
                plant.set_limit_until(self.id, limit, (self.clock)(until.0 * 1000), MilliAmps::ZERO);
            }
            None => plant.set_limit(self.id, limit),
        }
        Ok(())
    }

    fn demand(&mut self) -> Result<MilliAmps, ActuatorError> {
        let now = (self.clock)(boot_micros());
        let mut plant = lock(&self.plant);
        plant.advance(now);
        Ok(plant.demand(self.id))
    }

    fn change_time(&self) -> Millis {
        CHANGE_TIME
    }
}
