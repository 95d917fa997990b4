//! Reads one to three INA219, one for each phase.

use std::time::Duration;

use embedded_hal::i2c::{ErrorKind, I2c};
use grid_protocol::units::Millis;
use ina219::SyncIna219;
use ina219::address::Address;
use ina219::calibration::UnCalibrated;
use ina219::configuration::{
    BusVoltageRange, Configuration, MeasuredSignals, OperatingMode, Reset, Resolution, ShuntVoltageRange,
};
use ina219::errors::{ConfigurationReadError, InitializationErrorReason, MeasurementError};

use super::config::{Adc, ChipConfig, ConfigError, ShuntRange, problems};
use super::{Meter, MeterError, PhaseReading, Reading};

/// The slowest setting converts in 68.6 ms and a poll comes a fraction of that later, so this leaves room for a busy
/// machine; three of them are the 500 ms after which an INA219 counts as stale.
const EXPECTED_INTERVAL: Millis = Millis(167);

/// A meter of one to three INA219 chips on any I2C bus.
pub struct Ina219Meter<I2C> {
    chips: Vec<Chip<I2C>>,
}

struct Chip<I2C> {
    driver: SyncIna219<I2C, UnCalibrated>,
    config: ChipConfig,
    /// The newest conversion that no reading has contained.
    fresh: Option<PhaseReading>,
}

impl<I2C: I2c> Ina219Meter<I2C> {
    /// Resets and configures the chips, one for each phase in this order.
    ///
    /// `open_bus` is asked once for each chip for a handle to the bus that its configuration names.
    ///
    /// # Errors
    /// If the configuration has [`problems`] by itself (the first is returned; the limit is the caller's to judge), a
    /// bus cannot be opened, or a chip does not answer as an INA219 does.
    pub fn open(
        chips: Vec<ChipConfig>,
        mut open_bus: impl FnMut(&str) -> Result<I2C, MeterError>,
    ) -> Result<Self, MeterError> {
        if let Some(problem) = problems(&chips, None).into_iter().next() {
            return Err(problem.into());
        }
        let chips =
            chips.into_iter().map(|config| Chip::open(open_bus(&config.bus)?, config)).collect::<Result<_, _>>()?;
        Ok(Self { chips })
    }
}

impl<I2C: I2c + Send> Meter for Ina219Meter<I2C> {
    /// Every chip converts at its own pace: a reading is complete when each has converted anew since the last one. A
    /// chip that fails does not keep the others from being asked, and what they showed is kept for the next poll.
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        let mut failed = None;
        for chip in &mut self.chips {
            if let Err(error) = chip.poll() {
                chip.fresh = None;
                failed.get_or_insert(error);
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if self.chips.iter().any(|chip| chip.fresh.is_none()) {
            return Ok(None);
        }
        Ok(Some(Reading { phases: self.chips.iter_mut().filter_map(|chip| chip.fresh.take()).collect() }))
    }

    fn phases(&self) -> usize {
        self.chips.len()
    }

    /// A quarter of the slowest chip's conversion, but at least half a millisecond: each poll of a chip takes four
    /// transfers, together about 2 ms on a bus at 100 kHz.
    fn poll_interval(&self) -> Duration {
        let slowest = self.chips.iter().filter_map(|chip| chip.config.register().conversion_time()).max();
        (slowest.unwrap_or_default() / 4).max(Duration::from_micros(500))
    }

    fn expected_interval(&self) -> Millis {
        EXPECTED_INTERVAL
    }
}

impl<I2C: I2c> Chip<I2C> {
    fn open(i2c: I2C, config: ChipConfig) -> Result<Self, MeterError> {
        let address = Address::from_byte(config.address)
            .map_err(|_| ConfigError::Address { bus: config.bus.clone(), address: config.address })?;
        let driver = SyncIna219::new(i2c, address).map_err(|error| match error.reason {
            InitializationErrorReason::I2cError(error) => config.transfer_failed(&error),
            InitializationErrorReason::ConfigurationNotDefaultAfterReset => {
                config.not_an_ina219("its configuration is not the default after a reset")
            }
            InitializationErrorReason::RegisterNotZeroAfterReset(register) => {
                config.not_an_ina219(&format!("its register {register:?} is not zero after a reset"))
            }
            InitializationErrorReason::ShuntVoltageOutOfRange => {
                config.not_an_ina219("its shunt voltage is out of range after a reset")
            }
            InitializationErrorReason::BusVoltageOutOfRange => {
                config.not_an_ina219("its bus voltage is out of range after a reset")
            }
        })?;
        let mut chip = Self { driver, config, fresh: None };
        chip.configure()?;
        Ok(chip)
    }

    /// Writes range and resolution and reads them back.
    fn configure(&mut self) -> Result<(), MeterError> {
        let wanted = self.config.register();
        self.driver.set_configuration(wanted).map_err(|error| self.config.transfer_failed(&error))?;
        let read = self.read_configuration()?;
        if read == wanted {
            return Ok(());
        }
        Err(MeterError::ConfigurationRefused {
            bus: self.config.bus.clone(),
            address: self.config.address,
            wrote: wanted.as_bits(),
            read: read.as_bits(),
        })
    }

    fn read_configuration(&mut self) -> Result<Configuration, MeterError> {
        match self.driver.configuration() {
            Ok(read) | Err(ConfigurationReadError::ConfigurationMismatch { read, .. }) => Ok(read),
            Err(ConfigurationReadError::I2cError(error)) => Err(self.config.transfer_failed(&error)),
        }
    }

    /// Takes the newest conversion, if there is a new one.
    ///
    /// The configuration is looked at *after* the measurement: then what was measured was measured with it, or the chip
    /// was reset in between and its value is dropped. Should a conversion end between the driver's reads of power and
    /// of the shunt voltage, its value is returned now and once more by the next poll; it is not an old one.
    fn poll(&mut self) -> Result<(), MeterError> {
        let measured = self.driver.next_measurement();
        let measured = match measured {
            Ok(measured) => measured.map(|m| (m.shunt_voltage, m.bus_voltage)),
            Err(MeasurementError::I2cError(error)) => return Err(self.config.transfer_failed(&error)),
            // Current and power are not used, so their overflow means nothing here.
            Err(MeasurementError::MathOverflow(m)) => Some((m.shunt_voltage, m.bus_voltage)),
            // Beyond the range that was set: it is no longer set. The check below finds that.
            Err(MeasurementError::ShuntVoltageReadError(_) | MeasurementError::BusVoltageReadError(_)) => None,
        };
        if self.read_configuration()? != self.config.register() {
            self.configure()?;
            return Err(MeterError::ConfigurationLost { bus: self.config.bus.clone(), address: self.config.address });
        }
        if let Some((shunt, bus)) = measured {
            let shunt_uv = i64::from(shunt.shunt_voltage_uv());
            self.fresh = Some(PhaseReading {
                current: self.config.grid_current(shunt_uv),
                voltage: self.config.grid_voltage(i64::from(bus.voltage_mv())),
                saturated: self.config.is_saturated(shunt_uv),
            });
        }
        Ok(())
    }
}

impl ChipConfig {
    /// The configuration register: both voltages, continuously.
    fn register(&self) -> Configuration {
        Configuration {
            reset: Reset::Run,
            bus_voltage_range: BusVoltageRange::Fsr32v,
            shunt_voltage_range: match self.range {
                ShuntRange::Mv40 => ShuntVoltageRange::Fsr40mv,
                ShuntRange::Mv80 => ShuntVoltageRange::Fsr80mv,
                ShuntRange::Mv160 => ShuntVoltageRange::Fsr160mv,
                ShuntRange::Mv320 => ShuntVoltageRange::Fsr320mv,
            },
            bus_resolution: Resolution::Res12Bit,
            shunt_resolution: match self.adc {
                Adc::Bits9 => Resolution::Res9Bit,
                Adc::Bits10 => Resolution::Res10Bit,
                Adc::Bits11 => Resolution::Res11Bit,
                Adc::Bits12 => Resolution::Res12Bit,
                Adc::Average2 => Resolution::Avg2,
                Adc::Average4 => Resolution::Avg4,
                Adc::Average8 => Resolution::Avg8,
                Adc::Average16 => Resolution::Avg16,
                Adc::Average32 => Resolution::Avg32,
                Adc::Average64 => Resolution::Avg64,
                Adc::Average128 => Resolution::Avg128,
            },
            operating_mode: OperatingMode::Continous(MeasuredSignals::ShutAndBusVoltage),
        }
    }

    fn not_an_ina219(&self, detail: &str) -> MeterError {
        MeterError::NotAnIna219 { bus: self.bus.clone(), address: self.address, detail: detail.to_owned() }
    }

    fn transfer_failed(&self, error: &impl embedded_hal::i2c::Error) -> MeterError {
        match error.kind() {
            ErrorKind::NoAcknowledge(_) => MeterError::NotAnswering { bus: self.bus.clone(), address: self.address },
            _ => MeterError::Transfer { bus: self.bus.clone(), address: self.address, detail: format!("{error:?}") },
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
