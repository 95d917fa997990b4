//! Reads one to three INA219, one for each phase.

use std::time::Duration;

use embedded_hal::i2c::I2c;
use grid_protocol::units::Millis;
use grid_service::clock::boot_micros;
use ina219::SyncIna219;
use ina219::address::Address;
use ina219::calibration::UnCalibrated;
use ina219::configuration::{
    BusVoltageRange, Configuration, MeasuredSignals, OperatingMode, Reset, Resolution, ShuntVoltageRange,
};
use ina219::errors::{
    BusVoltageReadError, ConfigurationReadError, InitializationError, InitializationErrorReason, ShuntVoltageReadError,
};

use super::bus::{BusError, BusFault};
use super::config::{Adc, ChipConfig, ConfigError, ShuntRange, problems};
use super::{Meter, MeterError, PhaseReading, Reading};

/// The slowest setting converts in 68.6 ms and a poll comes a fraction of that later, so this leaves room for a busy
/// machine; three of them are the 500 ms after which an INA219 counts as stale.
const EXPECTED_INTERVAL: Millis = Millis(167);

/// A chip that answered and converted nothing for so long, and twice its conversion time, is reset.
const CONVERTS_WITHIN_US: u64 = 400_000;

/// Tells microseconds since boot.
type Clock = Box<dyn Fn() -> u64 + Send>;
/// Opens the bus of that name.
type OpenBus<I2C> = Box<dyn FnMut(&str) -> Result<I2C, MeterError> + Send>;

/// A meter of one to three INA219 chips on any I2C bus.
///
/// A chip that fails is opened anew with each poll, its bus included: so it comes back by itself when its wire does, or
/// its USB adapter, whose old device file is worth nothing.
pub struct Ina219Meter<I2C> {
    chips: Vec<Chip<I2C>>,
    open_bus: OpenBus<I2C>,
    clock: Clock,
}

struct Chip<I2C> {
    config: ChipConfig,
    /// None after a failure.
    driver: Option<SyncIna219<I2C, UnCalibrated>>,
    /// The newest conversion that no reading has contained.
    fresh: Option<Fresh>,
    /// A look before then is not worth a transfer, in microseconds since boot.
    look_at: u64,
    /// Until then at least the conversion went on that is ready next.
    converting_at: u64,
    /// When the chip was last known to convert.
    converted_at: u64,
}

#[derive(Clone, Copy)]
struct Fresh {
    taken_us: u64,
    phase: PhaseReading,
}

impl<I2C: I2c<Error: BusError>> Ina219Meter<I2C> {
    /// A meter of these chips, one for each phase in this order, that the first poll resets and configures.
    ///
    /// `open_bus` is asked once for each chip for a handle to the bus that its configuration names, and again whenever the
    /// chip failed.
    ///
    /// # Errors
    /// If the configuration has [`problems`] by itself: the first is returned; the limit is the caller's to judge.
    pub fn new(
        chips: Vec<ChipConfig>,
        open_bus: impl FnMut(&str) -> Result<I2C, MeterError> + Send + 'static,
    ) -> Result<Self, ConfigError> {
        Self::with_clock(chips, Box::new(open_bus), Box::new(boot_micros))
    }

    fn with_clock(chips: Vec<ChipConfig>, open_bus: OpenBus<I2C>, clock: Clock) -> Result<Self, ConfigError> {
        if let Some(problem) = problems(&chips, None).into_iter().next() {
            return Err(problem);
        }
        let chip = |config| Chip { config, driver: None, fresh: None, look_at: 0, converting_at: 0, converted_at: 0 };
        Ok(Self { chips: chips.into_iter().map(chip).collect(), open_bus, clock })
    }

    /// The same for chips that must be there: they are reset and configured at once.
    ///
    /// # Errors
    /// As [`new`](Self::new); if a bus cannot be opened, or a chip does not answer as an INA219 does.
    pub fn open(
        chips: Vec<ChipConfig>,
        open_bus: impl FnMut(&str) -> Result<I2C, MeterError> + Send + 'static,
    ) -> Result<Self, MeterError> {
        Self::open_with_clock(chips, open_bus, boot_micros)
    }

    /// The same with another clock than that of the machine, in microseconds.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with_clock(
        chips: Vec<ChipConfig>,
        open_bus: impl FnMut(&str) -> Result<I2C, MeterError> + Send + 'static,
        clock: impl Fn() -> u64 + Send + 'static,
    ) -> Result<Self, MeterError> {
        let mut meter = Self::with_clock(chips, Box::new(open_bus), Box::new(clock))?;
        for chip in &mut meter.chips {
            chip.open(&mut meter.open_bus, &meter.clock)?;
        }
        Ok(meter)
    }
}

impl<I2C: I2c<Error: BusError> + Send> Meter for Ina219Meter<I2C> {
    /// Every chip converts at its own pace: a reading is complete when each has converted anew since the last one. A
    /// chip that fails does not keep the others from being asked, and what they showed is kept for the next poll.
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        let mut failed = None;
        for chip in &mut self.chips {
            if let Err(error) = chip.poll(&mut self.open_bus, &self.clock) {
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
        let fresh: Vec<Fresh> = self.chips.iter_mut().filter_map(|chip| chip.fresh.take()).collect();
        let taken_us = fresh.iter().map(|fresh| fresh.taken_us).min().unwrap_or_else(&self.clock);
        Ok(Some(Reading { taken_us, phases: fresh.into_iter().map(|fresh| fresh.phase).collect() }))
    }

    fn phases(&self) -> usize {
        self.chips.len()
    }

    /// Until the next of the chips is worth a look.
    fn poll_interval(&self) -> Duration {
        let next = self.chips.iter().map(|chip| chip.look_at).min().unwrap_or_default();
        Duration::from_micros(next.saturating_sub((self.clock)()))
    }

    fn expected_interval(&self) -> Millis {
        EXPECTED_INTERVAL
    }
}

impl<I2C: I2c<Error: BusError>> Chip<I2C> {
    /// Opens bus and chip, resets the chip and sets it up.
    fn open(&mut self, open_bus: &mut OpenBus<I2C>, clock: &Clock) -> Result<(), MeterError> {
        let config = &self.config;
        let address = Address::from_byte(config.address)
            .map_err(|_| ConfigError::Address { bus: config.bus.clone(), address: config.address })?;
        let driver = SyncIna219::new(open_bus(&config.bus)?, address);
        let driver = driver.map_err(|InitializationError { reason, mut device }| match reason {
            InitializationErrorReason::I2cError(error) => config.transfer_failed(&error),
            _ if reads_zero(&mut device, config.address) => config.stuck("every read gives zeros"),
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
        self.begin(driver, clock)
    }

    /// Sets the chip up, with which a conversion begins.
    fn begin(&mut self, driver: SyncIna219<I2C, UnCalibrated>, clock: &Clock) -> Result<(), MeterError> {
        self.converted_at = clock();
        self.driver = Some(self.config.set_up(driver)?);
        self.converts_since(self.converted_at);
        Ok(())
    }

    /// A conversion is under way that began then, or up to a step between looks later: half a step is waited for more than a
    /// conversion takes. That leaves no more looks in vain than keep up with the chip's clock.
    fn converts_since(&mut self, began: u64) {
        self.converting_at = began + self.config.shortest_conversion_us();
        self.look_at = began + self.config.conversion_us() + self.config.look_every_us() / 2;
    }

    /// Takes the newest conversion, if there is a new one; opens the chip, if it failed before.
    fn poll(&mut self, open_bus: &mut OpenBus<I2C>, clock: &Clock) -> Result<(), MeterError> {
        let looked_at = clock();
        if self.driver.is_some() && looked_at < self.look_at {
            return Ok(());
        }
        let Some(mut driver) = self.driver.take() else { return self.open(open_bus, clock) };
        let look = self.config.look(&mut driver)?;
        let taken = match look {
            Look::NotReady => {
                self.converting_at = self.converting_at.max(looked_at);
                let silent = looked_at.saturating_sub(self.converted_at);
                if silent > CONVERTS_WITHIN_US + 2 * self.config.conversion_us() {
                    return Err(self.config.not_converting(silent / 1000));
                }
                self.look_at = clock() + self.config.look_every_us();
                None
            }
            Look::Ready(shunt_uv, bus_mv) => {
                // It was not ready at the last look, or began too late, and the newest conversion is never older than one
                // conversion time.
                let taken_us = self.converting_at.max(looked_at.saturating_sub(self.config.conversion_us()));
                // The transfers may have taken their time: the conversion is known to be there only now.
                self.converted_at = clock();
                self.converts_since(taken_us);
                Some(Fresh { taken_us, phase: self.config.reading(shunt_uv, bus_mv) })
            }
            Look::Beyond => None,
        };
        if !matches!(look, Look::NotReady) && self.config.read_configuration(&mut driver)? != self.config.register() {
            self.begin(driver, clock)?;
            return Err(self.config.configuration_lost());
        }
        self.driver = Some(driver);
        if matches!(look, Look::Beyond) {
            return Err(self.config.beyond_range());
        }
        self.fresh = taken.or(self.fresh);
        Ok(())
    }
}

/// What a chip showed.
#[derive(Clone, Copy)]
enum Look {
    /// No conversion since the last look.
    NotReady,
    /// A conversion: shunt voltage in microvolts and bus voltage in millivolts.
    Ready(i64, i64),
    /// Something beyond the range that was set: mostly it is no longer set.
    Beyond,
}

/// Whether the configuration register reads as no INA219's can: SDA is held down, which looks like an acknowledge and like
/// zeros.
fn reads_zero<I2C: I2c>(device: &mut I2C, address: u8) -> bool {
    let mut bytes = [0xFF; 2];
    let configuration = device.write(address, &[0]).and_then(|()| device.read(address, &mut bytes));
    configuration.is_ok() && bytes == [0, 0]
}

impl ChipConfig {
    /// Writes range and resolution and reads them back.
    fn set_up<I2C: I2c<Error: BusError>>(
        &self,
        mut driver: SyncIna219<I2C, UnCalibrated>,
    ) -> Result<SyncIna219<I2C, UnCalibrated>, MeterError> {
        let wanted = self.register();
        driver.set_configuration(wanted).map_err(|error| self.transfer_failed(&error))?;
        let read = self.read_configuration(&mut driver)?;
        if read == wanted {
            return Ok(driver);
        }
        if read.as_bits() == 0 {
            return Err(self.stuck("every read gives zeros"));
        }
        let (wrote, read) = (wanted.as_bits(), read.as_bits());
        Err(MeterError::ConfigurationRefused { bus: self.bus.clone(), address: self.address, wrote, read })
    }

    fn read_configuration<I2C: I2c<Error: BusError>>(
        &self,
        driver: &mut SyncIna219<I2C, UnCalibrated>,
    ) -> Result<Configuration, MeterError> {
        match driver.configuration() {
            Ok(read) | Err(ConfigurationReadError::ConfigurationMismatch { read, .. }) => Ok(read),
            Err(ConfigurationReadError::I2cError(error)) => Err(self.transfer_failed(&error)),
        }
    }

    /// Looks at the conversion-ready bit, which comes with the bus voltage, and only if it is set at the rest.
    ///
    /// The caller looks at the configuration *after* that: then what was measured was measured with it, or the chip was
    /// reset in between and its value is dropped. Should a conversion end between the reads of power, which clears the bit
    /// (SBOS448G, section 8.6.3.2), and of the shunt voltage, its value is returned now and once more by the next look; it
    /// is not an old one.
    fn look<I2C: I2c<Error: BusError>>(&self, driver: &mut SyncIna219<I2C, UnCalibrated>) -> Result<Look, MeterError> {
        let bus = match driver.bus_voltage() {
            Ok(bus) if bus.has_math_overflowed() => {
                return Err(MeterError::Overflow { bus: self.bus.clone(), address: self.address });
            }
            Ok(bus) if !bus.is_conversion_ready() => return Ok(Look::NotReady),
            Ok(bus) => bus,
            Err(BusVoltageReadError::I2cError(error)) => return Err(self.transfer_failed(&error)),
            Err(BusVoltageReadError::BusVoltageOutOfRange { .. }) => return Ok(Look::Beyond),
        };
        driver.power_raw().map_err(|error| self.transfer_failed(&error))?;
        match driver.shunt_voltage() {
            Ok(shunt) => Ok(Look::Ready(i64::from(shunt.shunt_voltage_uv()), i64::from(bus.voltage_mv()))),
            Err(ShuntVoltageReadError::I2cError(error)) => Err(self.transfer_failed(&error)),
            Err(ShuntVoltageReadError::ShuntVoltageOutOfRange { .. }) => Ok(Look::Beyond),
        }
    }

    fn reading(&self, shunt_uv: i64, bus_mv: i64) -> PhaseReading {
        PhaseReading {
            current: self.grid_current(shunt_uv),
            voltage: self.grid_voltage(bus_mv),
            saturated: self.is_saturated(shunt_uv),
        }
    }

    /// How long a conversion of both voltages takes, in microseconds.
    fn conversion_us(&self) -> u64 {
        let time = self.register().conversion_time().unwrap_or_default();
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    }

    /// How far looks lie apart while a conversion is about to end: about so much older than it is a reading may be taken for.
    /// One look is a transfer, about 0.5 ms on a bus at 100 kHz.
    fn look_every_us(&self) -> u64 {
        (self.conversion_us() / 4).max(500)
    }

    /// The slowest chip takes a tenth longer than a typical one (SBOS448G, section 6.5). How fast one may be is not said there:
    /// by no more, it is taken.
    fn shortest_conversion_us(&self) -> u64 {
        self.conversion_us() * 9 / 10
    }

    fn configuration_lost(&self) -> MeterError {
        MeterError::ConfigurationLost { bus: self.bus.clone(), address: self.address }
    }

    fn beyond_range(&self) -> MeterError {
        MeterError::BeyondRange { bus: self.bus.clone(), address: self.address }
    }

    fn not_converting(&self, for_ms: u64) -> MeterError {
        MeterError::NotConverting { bus: self.bus.clone(), address: self.address, for_ms }
    }

    fn stuck(&self, detail: &str) -> MeterError {
        MeterError::BusStuck { bus: self.bus.clone(), address: self.address, detail: detail.to_owned() }
    }

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

    fn transfer_failed(&self, error: &impl BusError) -> MeterError {
        let (bus, address) = (self.bus.clone(), self.address);
        match error.fault() {
            BusFault::NoAcknowledge => MeterError::NotAnswering { bus, address },
            BusFault::AddressClaimed => MeterError::AddressClaimed { bus, address },
            BusFault::AdapterGone => MeterError::AdapterGone { bus },
            BusFault::LineHeld => self.stuck(&format!("{error:?}")),
            BusFault::Other => MeterError::Transfer { bus, address, detail: format!("{error:?}") },
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "transfer_tests.rs"]
mod transfer_tests;
