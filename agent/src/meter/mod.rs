//! What flows: current and voltage per phase, from a sensor behind the [`Meter`] trait.
//!
//! | meter | reads |
//! |---|---|
//! | [`Ina219Meter`] | INA219 chips on an I2C bus, by itself |
//! | [`HwmonMeter`] | the same chips and their like, through a driver of Linux |
//! | [`MqttMeter`] | an existing meter that publishes by MQTT |
//! | [`NoMeter`] | nothing: what is configured |
//!
//! An INA219 measures direct current at up to 26 V and, over the usual 0.1 Ω, up to ±3.2 A: it is the sensor of a scale
//! model, and `scale` says how many grid milliamps one of its milliamps stands for. A 230 V installation needs another
//! meter.
//!
//! A meter blocks its thread while it speaks to the sensor, and reports each conversion once.

pub mod bench;
mod bus;
mod calibrate;
mod config;
mod error;
mod hwmon;
mod ina219_meter;
mod linux;
mod mqtt;
mod none;
mod quantity;
mod scan;
mod settings;

use std::thread;
use std::time::{Duration, Instant};

use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, Millis};
use grid_service::clock::boot_micros;

pub use bus::{BusError, BusFault};
pub use calibrate::{Calibration, Correction, Wiring, calibrate};
pub use config::{Adc, ChipConfig, ConfigError, ShuntRange, problems};
pub use error::MeterError;
pub use hwmon::{HwmonConfig, HwmonMeter, SYSFS};
pub use ina219_meter::Ina219Meter;
pub use linux::{LinuxBus, LinuxBusError, on_linux};
pub use mqtt::{MqttMeter, MqttSettings, PhaseTopic};
pub use none::{NoMeter, NoMeterSettings};
pub use quantity::Unit;
pub use scan::{Found, What, scan};
pub use settings::{MeterSettings, OpenError};

/// A failing meter is not asked more often than this.
pub const AFTER_AN_ERROR: Duration = Duration::from_millis(200);

/// Measures one to three phases.
pub trait Meter: Send {
    /// The newest reading, if there is one that was not returned before.
    ///
    /// After an error the next call tries again from where the sensor is: nothing needs to be opened anew.
    ///
    /// # Errors
    /// If the sensor does not answer, or answers what cannot be trusted.
    fn poll(&mut self) -> Result<Option<Reading>, MeterError>;

    /// How many phases each reading has: 1 to 3.
    fn phases(&self) -> usize;

    /// How long to wait before a [`poll`](Self::poll) that found nothing is worth repeating.
    fn poll_interval(&self) -> Duration;

    /// What a reading may take at the most while all is well. A meter whose last reading is three of these old is stale.
    fn expected_interval(&self) -> Millis;

    /// Whether readings are a constant, which says what flows besides the devices rather than all that flows.
    fn is_constant(&self) -> bool {
        false
    }

    /// Waits for the next reading, at most for `patience`.
    ///
    /// # Errors
    /// As [`poll`](Self::poll), and [`MeterError::NoConversion`] if there was none in time.
    fn read(&mut self, patience: Duration) -> Result<Reading, MeterError> {
        let began = Instant::now();
        loop {
            if let Some(reading) = self.poll()? {
                return Ok(reading);
            }
            let waited = began.elapsed();
            if waited >= patience {
                return Err(MeterError::NoConversion { waited });
            }
            thread::sleep(self.poll_interval().min(patience - waited));
        }
    }
}

/// What a meter read, over its phases in the order of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// When the oldest of its values was taken, in microseconds since boot: a moment before which no conversion that it
    /// shows had ended. Control counts with this time, not with that of receipt.
    pub taken_us: u64,
    /// One value for each phase. With several chips the oldest can be one conversion older than the newest.
    pub phases: Vec<PhaseReading>,
}

impl Reading {
    /// A reading of this moment.
    pub fn now(phases: Vec<PhaseReading>) -> Self {
        Self { taken_us: boot_micros(), phases }
    }

    /// When the oldest of its values was taken, on the clock of leases.
    pub fn taken(&self) -> BootTime {
        BootTime(self.taken_us / 1000)
    }

    /// Whether any phase carries *at least* what the reading says.
    pub fn is_saturated(&self) -> bool {
        self.phases.iter().any(|phase| phase.saturated)
    }

    /// The current of every phase.
    pub fn currents(&self) -> Vec<MilliAmps> {
        self.phases.iter().map(|phase| phase.current).collect()
    }

    /// The voltage of every phase.
    pub fn voltages(&self) -> Vec<MilliVolts> {
        self.phases.iter().map(|phase| phase.voltage).collect()
    }
}

/// What a meter read on one phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseReading {
    /// Grid current; negative when it flows towards the transformer.
    pub current: MilliAmps,
    /// Grid voltage between phase and neutral.
    pub voltage: MilliVolts,
    /// The sensor is within 1 % of its range's end, so the magnitude of the current is *at least* this much.
    pub saturated: bool,
}
