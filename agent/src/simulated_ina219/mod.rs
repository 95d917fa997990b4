//! The INA219 current sensor, register by register, without the chip (TI datasheet SBOS448G).
//!
//! A [`SimulatedBus`] answers as an I2C bus with one or several INA219 on it, so the driver that runs on a Raspberry
//! Pi runs unchanged in the demo and in tests. What each chip senses comes from a [`Wire`]; time comes from a clock
//! that the caller owns, so a test can hold it still.
//!
//! Modelled are the six registers, the register pointer, reset, ranges of shunt and bus voltage, conversion times,
//! continuous, triggered and powered-down operation, the conversion-ready and overflow flags, and faults on demand,
//! those of the wiring included. Not modelled are drift, the alert response and high-speed mode. An average over several
//! samples is taken as the value at its end: what stands behind the wire changes in steps, so only a conversion during
//! which a step falls would differ.

mod bus;
mod chip;
mod configuration;

pub use bus::{NoAcknowledge, SimulatedBus, SimulationError};

/// What lies between the chip's pins at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sensed {
    /// Voltage over the shunt, in microvolts; negative when current flows from load to supply.
    pub shunt_uv: i64,
    /// Voltage of the bus (load side of the shunt to ground), in millivolts.
    pub bus_mv: i64,
}

/// The circuit that a simulated chip is soldered into.
pub trait Wire {
    /// What the chip senses at `at_us`, in microseconds of the bus's clock.
    ///
    /// It is asked for the end of a conversion, which lies at or before the clock's present.
    fn sense(&mut self, at_us: u64) -> Sensed;
}

impl<F: FnMut(u64) -> Sensed> Wire for F {
    fn sense(&mut self, at_us: u64) -> Sensed {
        self(at_us)
    }
}

/// What is wrong with a simulated chip.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// The chip does not acknowledge: a cable is off, or its supply is.
    Absent,
    /// Conversions go on and are flagged ready, but always show the last value from before the fault.
    StuckValue,
    /// No conversion completes any more; the registers keep what they hold.
    NoConversion,
    /// The shunt is wired the wrong way round.
    SwappedPolarity,
    /// A loose contact: the chip acknowledges its address and then nothing that is written to it.
    NoAcknowledgeOfData,
    /// A loose contact: after so many more operations the chip is gone, in the middle of a transfer perhaps.
    DisappearsAfter(u32),
    /// Up to so many microvolts, either way, are added to what each conversion senses.
    Noise(u32),
    /// Another kind of chip is soldered there: it keeps nothing that is written to it, and its configuration reads as that of
    /// an INA226 (SBOS547A, table 4).
    OtherKind,
    /// SDA is held down: every address seems to acknowledge, and every bit reads as zero.
    StuckLow,
}
