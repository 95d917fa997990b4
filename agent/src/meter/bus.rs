//! What a failed transfer says of bus and chip.

use embedded_hal::i2c::{Error, ErrorKind};

/// How to get at a chip whose address a driver of the kernel has claimed.
pub(super) const UNCLAIM: &str = "read it by [[meter.hwmon]], or free it by `sudo rmmod ina2xx`";

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusFault {
    /// Nobody acknowledges.
    NoAcknowledge,
    /// A driver in the kernel has claimed the address, and nobody else may speak to it.
    AddressClaimed,
    /// The bus's adapter was unplugged.
    AdapterGone,
    /// One of the bus's two lines is held down.
    LineHeld,
    /// Something else.
    Other,
}

/// An error of an I2C bus, which may know more than `embedded-hal` has kinds for.
pub trait BusError: Error {
    /// What it means.
    fn fault(&self) -> BusFault {
        match self.kind() {
            ErrorKind::NoAcknowledge(_) => BusFault::NoAcknowledge,
            ErrorKind::Bus | ErrorKind::ArbitrationLoss => BusFault::LineHeld,
            _ => BusFault::Other,
        }
    }
}
