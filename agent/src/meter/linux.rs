//! The I2C bus of a Linux machine, `/dev/i2c-*`, and what its errors mean.

use std::fmt;
use std::io;

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};
use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
use linux_embedded_hal::{I2CError, I2cdev};

use super::bus::{BusError, BusFault, UNCLAIM};
use super::{ChipConfig, ConfigError, Ina219Meter, MeterError};

/// `EAGAIN`: arbitration was lost; with one controller on the bus that is a line held down.
const EAGAIN: i32 = 11;
/// `EBUSY`: a driver in the kernel has claimed the address.
const EBUSY: i32 = 16;
/// `ENXIO`: how most adapters report that nobody acknowledged (Linux, Documentation/i2c/fault-codes.rst).
const ENXIO: i32 = 6;
/// `ENODEV`: the adapter was unplugged.
const ENODEV: i32 = 19;
/// `ETIMEDOUT`: somebody holds the clock line down.
const ETIMEDOUT: i32 = 110;
/// `EREMOTEIO`: how the Raspberry Pi's adapter (i2c-bcm2835) reports that nobody acknowledged.
const EREMOTEIO: i32 = 121;

/// A meter of chips on the buses that their configuration names (each handle on its own, as the kernel shares the bus).
/// They need not be there yet.
///
/// # Errors
/// As [`Ina219Meter::new`].
pub fn on_linux(chips: Vec<ChipConfig>) -> Result<Ina219Meter<LinuxBus>, ConfigError> {
    Ina219Meter::new(chips, LinuxBus::open)
}

/// One open device file of an I2C bus.
pub struct LinuxBus(I2cdev);

impl LinuxBus {
    /// Opens a device file such as `/dev/i2c-1`.
    ///
    /// # Errors
    /// [`MeterError::BusMissing`], [`MeterError::BusForbidden`] or [`MeterError::BusUnusable`].
    pub fn open(bus: &str) -> Result<Self, MeterError> {
        I2cdev::new(bus).map(Self).map_err(|error| {
            let error = io::Error::from(error);
            let bus = bus.to_owned();
            match error.kind() {
                io::ErrorKind::NotFound => MeterError::BusMissing { bus },
                io::ErrorKind::PermissionDenied => MeterError::BusForbidden { bus },
                _ => MeterError::BusUnusable { bus, detail: error.to_string() },
            }
        })
    }
}

/// A transfer that the kernel reports as failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LinuxBusError {
    /// The error number, where the kernel gave one.
    pub errno: Option<i32>,
}

impl From<I2CError> for LinuxBusError {
    fn from(error: I2CError) -> Self {
        let errno = match error.inner() {
            LinuxI2CError::Errno(errno) => Some(*errno),
            LinuxI2CError::Io(error) => error.raw_os_error(),
        };
        Self { errno }
    }
}

impl fmt::Display for LinuxBusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.errno {
            Some(EBUSY) => write!(f, "a driver of Linux has claimed the address: {UNCLAIM}"),
            Some(ETIMEDOUT) => f.write_str("transfers time out"),
            Some(EAGAIN) => f.write_str("arbitration is lost"),
            Some(ENODEV) => f.write_str("the adapter is gone"),
            Some(errno) => io::Error::from_raw_os_error(errno).fmt(f),
            None => f.write_str("unknown reason"),
        }
    }
}

// The driver shows its bus's errors with Debug only.
impl fmt::Debug for LinuxBusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for LinuxBusError {}

impl embedded_hal::i2c::Error for LinuxBusError {
    fn kind(&self) -> ErrorKind {
        match self.errno {
            Some(ENXIO | EREMOTEIO) => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            Some(ETIMEDOUT) => ErrorKind::Bus,
            Some(EAGAIN) => ErrorKind::ArbitrationLoss,
            _ => ErrorKind::Other,
        }
    }
}

impl BusError for LinuxBusError {
    fn fault(&self) -> BusFault {
        match self.errno {
            Some(ENXIO | EREMOTEIO) => BusFault::NoAcknowledge,
            Some(EBUSY) => BusFault::AddressClaimed,
            Some(ENODEV) => BusFault::AdapterGone,
            Some(ETIMEDOUT | EAGAIN) => BusFault::LineHeld,
            _ => BusFault::Other,
        }
    }
}

impl ErrorType for LinuxBus {
    type Error = LinuxBusError;
}

impl I2c for LinuxBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), LinuxBusError> {
        I2c::<u8>::transaction(&mut self.0, address, operations).map_err(LinuxBusError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Meter;
    use super::*;
    use embedded_hal::i2c::Error as _;

    fn error_of(bus: &str) -> String {
        let chip = ChipConfig { bus: bus.to_owned(), ..ChipConfig::default() };
        on_linux(vec![chip]).unwrap().poll().expect_err("there is no such bus").to_string()
    }

    #[test]
    fn a_missing_bus_is_named_with_what_enables_it() {
        let error = error_of("/dev/i2c-does-not-exist");
        assert!(error.contains("/dev/i2c-does-not-exist") && error.contains("raspi-config"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_bus_is_named_with_the_reason() {
        let error = error_of("/dev/null");
        assert!(error.contains("/dev/null") && error.contains("i2cdetect"), "{error}");
    }

    #[test]
    fn a_missing_acknowledge_is_recognized_from_the_adapter_of_a_raspberry_pi_too() {
        for errno in [ENXIO, EREMOTEIO] {
            let error = LinuxBusError { errno: Some(errno) };
            assert_eq!(error.kind(), ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown));
            assert_eq!(error.fault(), BusFault::NoAcknowledge);
        }
    }

    #[test]
    fn what_the_kernel_says_beyond_the_kinds_of_embedded_hal_is_told_apart() {
        for (errno, fault) in [
            (EBUSY, BusFault::AddressClaimed),
            (ENODEV, BusFault::AdapterGone),
            (ETIMEDOUT, BusFault::LineHeld),
            (EAGAIN, BusFault::LineHeld),
            (5, BusFault::Other),
        ] {
            assert_eq!(LinuxBusError { errno: Some(errno) }.fault(), fault, "{errno}");
        }
        assert!(LinuxBusError { errno: Some(EBUSY) }.to_string().contains("rmmod ina2xx"));
    }
}
