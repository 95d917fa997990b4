//! The I2C bus with simulated chips on it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use embedded_hal::i2c::{ErrorKind, ErrorType, I2c, NoAcknowledgeSource, Operation};

use super::chip::Chip;
use super::{Fault, Wire};
use crate::meter::BusError;

/// An I2C bus with simulated INA219 on it.
///
/// Clones are handles to the same bus, as several open files of `/dev/i2c-1` are.
#[derive(Clone)]
pub struct SimulatedBus {
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    chips: Arc<Mutex<BTreeMap<u8, Chip>>>,
}

/// A simulation that cannot be set up like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    /// The chip's two address pins give 16 addresses (SBOS448G, table 1).
    #[error("address {0:#04x} is none of an INA219: it has 0x40 to 0x4f")]
    NotAnAddress(u8),
    /// Two chips would answer at once.
    #[error("address {0:#04x} has a chip already")]
    Taken(u8),
    /// There is no chip whose state could be changed.
    #[error("no chip was attached at address {0:#04x}")]
    NoChip(u8),
}

/// Nobody acknowledged the address byte, or what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no chip acknowledges")]
pub struct NoAcknowledge;

impl embedded_hal::i2c::Error for NoAcknowledge {
    fn kind(&self) -> ErrorKind {
        ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address)
    }
}

impl BusError for NoAcknowledge {}

impl SimulatedBus {
    /// An empty bus. `clock` tells microseconds since any fixed moment and never runs backwards.
    pub fn new(clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), chips: Arc::default() }
    }

    /// Solders a chip onto the bus and powers it on.
    ///
    /// # Errors
    /// If `address` is not 0x40 to 0x4F, or has a chip.
    pub fn attach(&self, address: u8, wire: impl Wire + Send + 'static) -> Result<(), SimulationError> {
        if !(0x40..=0x4F).contains(&address) {
            return Err(SimulationError::NotAnAddress(address));
        }
        let now = (self.clock)();
        match self.lock().entry(address) {
            Entry::Occupied(_) => Err(SimulationError::Taken(address)),
            Entry::Vacant(place) => {
                place.insert(Chip::new(Box::new(wire), now));
                Ok(())
            }
        }
    }

    /// Breaks the chip at `address` from now on, or mends it with [`Fault::None`].
    ///
    /// # Errors
    /// If no chip was attached there.
    pub fn set_fault(&self, address: u8, fault: Fault) -> Result<(), SimulationError> {
        let now = (self.clock)();
        self.with_chip(address, |chip| chip.set_fault(fault, now))
    }

    /// Takes the chip at `address` off and solders a new one into this circuit, with power on.
    ///
    /// # Errors
    /// If no chip was attached there.
    pub fn swap(&self, address: u8, wire: impl Wire + Send + 'static) -> Result<(), SimulationError> {
        let now = (self.clock)();
        self.with_chip(address, |chip| *chip = Chip::new(Box::new(wire), now))
    }

    /// Lets the supply of the chip at `address` dip: its registers are as after power-on.
    ///
    /// # Errors
    /// If no chip was attached there.
    pub fn brown_out(&self, address: u8) -> Result<(), SimulationError> {
        let now = (self.clock)();
        self.with_chip(address, |chip| chip.brown_out(now))
    }

    fn with_chip(&self, address: u8, change: impl FnOnce(&mut Chip)) -> Result<(), SimulationError> {
        self.lock().get_mut(&address).map(change).ok_or(SimulationError::NoChip(address))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u8, Chip>> {
        // A wire that panicked leaves no register half written.
        self.chips.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimulatedBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedBus").field("addresses", &self.lock().keys()).finish()
    }
}

impl ErrorType for SimulatedBus {
    type Error = NoAcknowledge;
}

impl I2c for SimulatedBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), NoAcknowledge> {
        let now = (self.clock)();
        let mut chips = self.lock();
        let chip = chips.get_mut(&address).filter(|chip| chip.acknowledges()).ok_or(NoAcknowledge)?;
        for operation in operations {
            match operation {
                Operation::Write(bytes) => chip.write(bytes, now)?,
                Operation::Read(buffer) => chip.read(buffer, now)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
