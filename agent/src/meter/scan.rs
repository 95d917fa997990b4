//! Which addresses of an I2C bus answer, and whether what is there behaves like an INA219.

use embedded_hal::i2c::{ErrorKind, I2c};
use serde::Serialize;

/// Power-on default of the configuration register (SBOS448G, section 8.6.2.1).
const CONFIGURATION_AT_POWER_ON: u16 = 0x399F;
/// Configuration bits that always read zero: reset, and the reserved bit 14 (table 3).
const CONFIGURATION_ZEROS: u16 = 0b1100_0000_0000_0000;
/// Bit 2 of the bus voltage register is not used and reads zero (section 8.6.3.2).
const BUS_VOLTAGE_ZEROS: u16 = 0b100;
/// Bit 0 of the calibration register cannot be set (section 8.6.4.1).
const CALIBRATION_ZEROS: u16 = 1;

/// What is read: all but power, as reading that clears the conversion-ready bit (section 8.6.3.2), for which an agent that runs
/// may be waiting.
const READ: [u8; 5] = [0, 1, 2, 4, 5];

/// What was found at one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The address.
    pub address: u8,
    /// What is there.
    #[serde(flatten)]
    pub what: What,
}

/// What answers at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum What {
    /// Every register that was read looks like one of an INA219 (or INA220, which is the same inside).
    Ina219 {
        /// The configuration register.
        configuration: u16,
        /// Whether that is the power-on default: nobody has set it up yet.
        fresh: bool,
    },
    /// It answers otherwise.
    Other {
        /// What is not as the datasheet says.
        why: String,
    },
    /// The address cannot be asked.
    Unknown {
        /// The bus driver's reason.
        why: String,
    },
}

/// Asks 0x40 to 0x4F, the addresses of an INA219, and returns what answers. No register is written: only the register
/// pointer is set, which a read needs.
pub fn scan(bus: &mut impl I2c) -> Vec<Found> {
    let found = |address| ask(bus, address).map(|what| Found { address, what });
    (0x40..=0x4F).filter_map(found).collect()
}

fn ask<I2C: I2c>(bus: &mut I2C, address: u8) -> Option<What> {
    use embedded_hal::i2c::Error as _;
    let mut registers = [0_u16; READ.len()];
    for (pointer, register) in READ.into_iter().zip(&mut registers) {
        let mut bytes = [0; 2];
        // In one transaction: nobody else can move the register pointer in between.
        match bus.write_read(address, &[pointer], &mut bytes) {
            Ok(()) => *register = u16::from_be_bytes(bytes),
            Err(error) => {
                let silent = matches!(error.kind(), ErrorKind::NoAcknowledge(_));
                return match (silent, pointer) {
                    (true, 0) => None,
                    (true, _) => Some(What::Other { why: format!("it does not acknowledge register {pointer}") }),
                    (false, _) => Some(What::Unknown { why: format!("{error:?}") }),
                };
            }
        }
    }
    Some(judge(registers))
}

fn judge(registers: [u16; READ.len()]) -> What {
    let [configuration, shunt, bus_voltage, _, calibration] = registers;
    let pga = u32::from(configuration >> 11 & 0b11);
    // 40 mV in steps of 10 µV, doubled by each step of the range (table 7).
    let full_scale = 4_000_u16 << pga;
    let why = if registers == [0; READ.len()] {
        "all registers read zero: is SDA held down?".to_owned()
    } else if registers == [u16::MAX; READ.len()] {
        "all registers read ones: it acknowledges and says nothing".to_owned()
    } else if configuration & CONFIGURATION_ZEROS != 0 {
        format!("its configuration reads {configuration:#06x}, whose upper two bits an INA219 has as zero")
    } else if bus_voltage & BUS_VOLTAGE_ZEROS != 0 {
        format!("its bus voltage reads {bus_voltage:#06x}, whose bit 2 an INA219 has as zero")
    } else if calibration & CALIBRATION_ZEROS != 0 {
        format!("its calibration reads {calibration:#06x}, whose bit 0 an INA219 has as zero")
    } else if shunt.cast_signed().unsigned_abs() > full_scale {
        format!("its shunt voltage reads {shunt:#06x}, beyond the range that its configuration sets")
    } else {
        return What::Ina219 { configuration, fresh: configuration == CONFIGURATION_AT_POWER_ON };
    };
    What::Other { why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated_ina219::{Sensed, SimulatedBus};

    #[test]
    fn a_scan_finds_the_chips_and_leaves_their_registers_alone() {
        let mut bus = SimulatedBus::new(|| 5_000);
        for address in [0x40, 0x45] {
            bus.attach(address, |_| Sensed { shunt_uv: 1_000, bus_mv: 5_000 }).unwrap();
        }
        bus.write(0x45, &[0, 0x01, 0x9F]).unwrap();
        let found = scan(&mut bus);
        let ina219 = |address, configuration, fresh| Found { address, what: What::Ina219 { configuration, fresh } };
        assert_eq!(found, [ina219(0x40, 0x399F, true), ina219(0x45, 0x019F, false)]);
        assert_eq!(scan(&mut bus), found);
        assert_eq!(
            serde_json::to_string(&found[0]).unwrap(),
            r#"{"address":64,"what":"ina219","configuration":14751,"fresh":true}"#
        );
    }

    #[test]
    fn other_chips_and_a_line_that_is_held_down_are_told_from_an_ina219() {
        for (registers, named) in [
            // Defaults of an INA226 (SBOS547A, table 4): configuration 0x4127.
            ([0x4127, 0, 0, 0, 0], "0x4127"),
            ([0; READ.len()], "SDA"),
            ([u16::MAX; READ.len()], "ones"),
            ([0x399F, 0, 0x0004, 0, 0], "bit 2"),
            ([0x399F, 0, 0, 0, 1], "calibration"),
            ([0x019F, 4_001, 0, 0, 0], "shunt"),
        ] {
            let What::Other { why } = judge(registers) else { panic!("{registers:x?}") };
            assert!(why.contains(named), "{why}");
        }
    }
}
