//! What flows: current and voltage per phase, from a sensor behind the [`Meter`] trait.
//!
//! The one implementation here reads INA219 chips. The chip measures direct current at up to 26 V and, over the usual
//! 0.1 Ω, up to ±3.2 A: it is the sensor of a scale model, and `scale` says how many grid milliamps one of its
//! milliamps stands for. A 230 V installation needs another [`Meter`].
//!
//! A meter blocks its thread while it speaks to the sensor, and reports each conversion once.

mod config;
mod ina219_meter;
mod linux;

use std::thread;
use std::time::{Duration, Instant};

use grid_protocol::units::{MilliAmps, MilliVolts, Millis};

pub use config::{Adc, ChipConfig, ConfigError, ShuntRange, problems};
pub use ina219_meter::Ina219Meter;
pub use linux::{LinuxBus, LinuxBusError, open_linux};

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
    /// One value for each phase. With several chips the oldest can be one conversion older than the newest.
    pub phases: Vec<PhaseReading>,
}

impl Reading {
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

/// Why a meter could not be opened or read. Every variant names the bus, and the address where a chip is meant.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// The configuration cannot be read with.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// The bus has no device file.
    #[error(
        "there is no {bus}: enable I2C (on a Raspberry Pi `sudo raspi-config nonint do_i2c 0`, then restart), or name another \
         bus of `ls /dev/i2c-*` in `bus`"
    )]
    BusMissing {
        /// Path of the device file.
        bus: String,
    },
    /// The device file belongs to somebody else.
    #[error(
        "{bus} may not be opened: add the agent's user to its group (`sudo usermod -aG i2c USER`) and log in again"
    )]
    BusForbidden {
        /// Path of the device file.
        bus: String,
    },
    /// The device file cannot be opened for another reason.
    #[error("{bus} cannot be opened ({detail}): is it an I2C bus? `i2cdetect -l` lists them")]
    BusUnusable {
        /// Path of the device file.
        bus: String,
        /// The operating system's reason.
        detail: String,
    },
    /// No chip acknowledges the address.
    #[error(
        "no chip answers at {address:#04x} on {bus}: check supply, ground, SDA and SCL, and the address pins; \
         `i2cdetect -y` with the bus's number shows which addresses answer"
    )]
    NotAnswering {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
    },
    /// The transfer failed while the chip may well be there.
    #[error(
        "the transfer with {address:#04x} on {bus} failed ({detail}): check for short circuits, long cables and missing pull-ups"
    )]
    Transfer {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
        /// The bus driver's reason.
        detail: String,
    },
    /// What answers behaves like no INA219.
    #[error("what answers at {address:#04x} on {bus} is not an INA219 ({detail}): check the address")]
    NotAnIna219 {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
        /// What was not as the datasheet says.
        detail: String,
    },
    /// The chip was found reset and has been configured again; the next poll goes on. What it showed is discarded.
    #[error("the INA219 at {address:#04x} on {bus} had lost its configuration and got it again: does its supply dip?")]
    ConfigurationLost {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
    },
    /// The chip does not keep what is written to it.
    #[error(
        "the INA219 at {address:#04x} on {bus} holds configuration {read:#06x} after {wrote:#06x} was written: check supply and cables"
    )]
    ConfigurationRefused {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
        /// What was written to the configuration register.
        wrote: u16,
        /// What was read back.
        read: u16,
    },
    /// The sensor answers, but nothing new came.
    #[error("no new reading within {} ms although the sensor answers", waited.as_millis())]
    NoConversion {
        /// How long it was waited for.
        waited: Duration,
    },
}
