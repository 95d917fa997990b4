//! Starting the transformer and the charge points, with simulated meters and chargers.

use std::sync::Arc;

use grid_agent::lease::Terms;
use grid_agent::meter::{Adc, ChipConfig, Ina219Meter};
use grid_agent::run::{
    Common, DEVICE_DISK_BYTES, DeviceSettings, OutboxSettings, Probe, Simulation, TRANSFORMER_DISK_BYTES,
    TransformerSettings, run_device, run_transformer,
};
use grid_agent::simulated_ina219::SimulatedBus;
use grid_agent::transformer::{Enrolment, Plan};
use grid_protocol::message::{Capabilities, DeviceKind, Phase, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::clock::boot_micros;

use super::broker;
use super::charger::SimulatedCharger;
use super::error::DemoError;
use super::setup::{Site, anchor_name, transformer_name};
use super::street::{Demo, TTL, told};
use crate::plant::wires::{PlantWire, lock};
use crate::plant::{ChargePointId, uncontrolled_peak};
use crate::street::{LEAST_CHARGING, current_per_phase};

/// Shunt and range of a simulated chip let it measure this much before scaling.
const CHIP_RANGE: MilliAmps = MilliAmps(3200);
const FIRST_ADDRESS: u8 = 0x40;
/// How long a message may stay unacknowledged before it is said again.
const REPLAY_AFTER: Millis = Millis(5000);

impl Demo {
    fn common(&self, site: &Site, name: &Name, role: Role, simulation: Simulation) -> Result<Common, DemoError> {
        Ok(Common {
            credentials: site.credentials(name, role)?,
            broker: broker::settings(self.address),
            anchor: anchor_name(),
            replay_after: REPLAY_AFTER,
            outbox: OutboxSettings::on_disk(
                self.options.data_dir.join("outbox").join(name.as_str()),
                if role == Role::Transformer { TRANSFORMER_DISK_BYTES } else { DEVICE_DISK_BYTES },
            ),
            simulation: Some(simulation),
            probe: Some(self.watch.clone() as Arc<dyn Probe>),
            home_assistant: None,
        })
    }

    pub(super) fn start_transformer(&mut self, site: &Site, simulation: Simulation) -> Result<(), DemoError> {
        let name = transformer_name();
        let limit_ma = current_per_phase(self.options.limit_w, 3);
        let uncontrolled = current_per_phase(uncontrolled_peak(&self.options.street).load_w, 3);
        let chips = chips(3, uncontrolled.max(MilliAmps(limit_ma.0 * 3 / 2)));
        let bus = SimulatedBus::new(boot_micros);
        for (phase, chip) in Phase::ALL.into_iter().zip(&chips) {
            let wire = PlantWire::transformer(self.plant.clone(), self.clock.clone(), phase, chip.clone());
            bus.attach(chip.address, wire)?;
        }
        let meter = Ina219Meter::open(chips, move |_| Ok(bus.clone()))?;
        let points = self.options.street.charge_points().iter();
        let devices = points.map(|point| Enrolment {
            name: point.name.clone(),
            phases: point.phases.clone(),
            failsafe_ma: MilliAmps::ZERO,
            fuse: None,
        });
        let plan = Plan::new(self.options.limit_w, Terms { ttl: TTL, max_ttl: TTL }, devices.collect());
        let settings = TransformerSettings::new(plan);
        let common = self.common(site, &name, Role::Transformer, simulation)?;
        let stop = told(self.stop_agents.subscribe());
        self.agents.insert(name, tokio::spawn(run_transformer(common, settings, Box::new(meter), stop)));
        Ok(())
    }

    pub(super) fn start_charge_point(
        &mut self,
        site: &Site,
        simulation: Simulation,
        id: ChargePointId,
    ) -> Result<(), DemoError> {
        let (name, phases, max_ma) = {
            let plant = lock(&self.plant);
            (plant.name(id).clone(), plant.phases(id).to_vec(), plant.max(id))
        };
        let chips = chips(phases.len(), MilliAmps(max_ma.0 * 3 / 2));
        let bus = SimulatedBus::new(boot_micros);
        for chip in &chips {
            let wire = PlantWire::charge_point(self.plant.clone(), self.clock.clone(), id, chip.clone());
            bus.attach(chip.address, wire)?;
        }
        let meter = Ina219Meter::open(chips, move |_| Ok(bus.clone()))?;
        let charger = SimulatedCharger::new(self.plant.clone(), self.clock.clone(), id, self.watch.clone());
        let settings = DeviceSettings {
            transformer: transformer_name(),
            capabilities: Capabilities::any_current(DeviceKind::Ev, phases, LEAST_CHARGING, max_ma),
            max_ttl: TTL,
            commands_file: None,
        };
        let common = self.common(site, &name, Role::Device, simulation)?;
        let stop = told(self.stop_agents.subscribe());
        let task = run_device(common, settings, Box::new(meter), Box::new(charger), stop);
        self.agents.insert(name, tokio::spawn(task));
        Ok(())
    }
}

/// Chips of which each measures up to `most` grid milliamps.
fn chips(count: usize, most: MilliAmps) -> Vec<ChipConfig> {
    let scale = u32::try_from(most.0.max(1).div_euclid(CHIP_RANGE.0) + 1).unwrap_or(u32::MAX);
    let addresses = (FIRST_ADDRESS..).take(count);
    addresses.map(|address| ChipConfig { address, scale, adc: Adc::Average16, ..ChipConfig::default() }).collect()
}
