//! What can be wrong with a meter, and what to do about it: one message for each.

use std::time::Duration;

use super::bus::UNCLAIM;
use super::config::ConfigError;

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
         `grid-agent scan --bus {bus}` shows which addresses answer"
    )]
    NotAnswering {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
    },
    /// A driver in the kernel speaks to the chip, and nobody else may.
    #[error("a driver of Linux has claimed {address:#04x} on {bus}: {}", UNCLAIM)]
    AddressClaimed {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
    },
    /// The bus's adapter was unplugged.
    #[error("the adapter of {bus} is gone: plug it in; the bus is opened again as soon as it is back")]
    AdapterGone {
        /// Path of the device file.
        bus: String,
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
    /// Somebody holds one of the bus's two lines down, so that nobody on it can speak.
    #[error(
        "the bus {bus} is stuck ({detail}; met at {address:#04x}): SDA or SCL is held down; check for a short circuit to \
         ground, for a chip without supply, and the pull-ups, or take the supply off the chips for a moment"
    )]
    BusStuck {
        /// Path of the device file.
        bus: String,
        /// The address that was spoken to.
        address: u8,
        /// What shows it.
        detail: String,
    },
    /// What answers behaves like no INA219.
    #[error(
        "what answers at {address:#04x} on {bus} is not an INA219 ({detail}): check the address, and which \
             chip is soldered there"
    )]
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
    /// The chip's multiplier overflowed, which takes a calibration that this program never writes. The chip has been reset
    /// and configured again; what it showed is discarded.
    #[error(
        "the INA219 at {address:#04x} on {bus} reports an overflow (OVF), for which somebody must have calibrated it: does \
         another program use the chip?"
    )]
    Overflow {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
    },
    /// The chip answers, but its conversion-ready bit stays off.
    #[error(
        "the INA219 at {address:#04x} on {bus} has converted nothing for {for_ms} ms although it answers; it is reset: check \
         its supply, and whether another program powers it down"
    )]
    NotConverting {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
        /// Since the last conversion.
        for_ms: u64,
    },
    /// The chip answers and is set up as it should be, and shows more than a chip that is set up so can.
    #[error(
        "the INA219 at {address:#04x} on {bus} shows a voltage beyond its range: is there more than 26 V at Vin-, or does the \
         bus garble what it says (cables, pull-ups)?"
    )]
    BeyondRange {
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
    /// Linux shows no such sensor.
    #[error(
        "no sensor {wanted} below {folder}: there is {found}. The driver does not look for chips: load it \
         (`sudo modprobe ina2xx`) and name the chip to its bus (`echo ina219 0x40 | sudo tee \
         /sys/bus/i2c/devices/i2c-1/new_device`, after each start anew); and is it wired?"
    )]
    HwmonMissing {
        /// The folder that was searched.
        folder: String,
        /// What is configured.
        wanted: String,
        /// What is there instead.
        found: String,
    },
    /// The driver fits more than one.
    #[error("{count} sensors fit {wanted}: name one by `device`, such as \"1-0040\", or by `path`")]
    HwmonAmbiguous {
        /// What is configured.
        wanted: String,
        /// How many there are.
        count: usize,
    },
    /// The driver does not give the value.
    #[error("{file} cannot be read ({detail}): is the chip still wired?")]
    HwmonUnreadable {
        /// The attribute's file.
        file: String,
        /// The operating system's reason.
        detail: String,
    },
    /// The driver gives something else than a number.
    #[error("{file} holds {value:?} where a whole number was expected: is it a sensor of the driver ina2xx?")]
    HwmonNonsense {
        /// The attribute's file.
        file: String,
        /// What it holds.
        value: String,
    },
    /// The driver computes the current with the chip's calibration register, which a brown-out sets to zero.
    #[error(
        "{folder} shows no current although {shunt_mv} mV lie over the shunt: the chip has lost its calibration; does its supply \
         dip? Bind the driver anew (`echo {device} | sudo tee /sys/bus/i2c/drivers/ina2xx/unbind`, then `.../bind`)"
    )]
    HwmonUncalibrated {
        /// The sensor's folder.
        folder: String,
        /// Its device, as the driver names it.
        device: String,
        /// What `in0_input` shows.
        shunt_mv: i64,
    },
    /// There is no connection to the broker that the meter publishes to.
    #[error("no connection to the meter's broker {host}: {detail}")]
    NoBroker {
        /// Its host and port.
        host: String,
        /// Why.
        detail: String,
    },
    /// The meter does not publish as often as it should.
    #[error(
        "nothing came at {topic} for {for_ms} ms, expected every {interval_ms} ms: does the meter run, is the topic right, \
         and may this agent read it (a [[grant]] of the broker)?"
    )]
    TopicSilent {
        /// The topic.
        topic: String,
        /// Since the last value, or since the meter was opened.
        for_ms: u64,
        /// What is configured.
        interval_ms: u64,
    },
    /// What the meter published is no value.
    #[error("{topic} says {payload:?}: expected {expected}")]
    TopicNonsense {
        /// The topic.
        topic: String,
        /// The beginning of what came.
        payload: String,
        /// What was expected.
        expected: String,
    },
    /// The meter's thread cannot speak to a broker.
    #[error("the connection to the meter's broker cannot be made: {0}")]
    Runtime(#[source] std::io::Error),
    /// The sensor answers, but nothing new came.
    #[error("no new reading within {} ms although the sensor answers", waited.as_millis())]
    NoConversion {
        /// How long it was waited for.
        waited: Duration,
    },
}
