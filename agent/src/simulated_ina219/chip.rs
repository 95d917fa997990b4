//! One chip: registers, conversions, faults.
//!
//! Nothing runs by itself. Whenever the chip is addressed it first catches up with the clock: it takes the newest
//! conversion that has completed since.

use super::configuration::{Configuration, Mode};
use super::{Fault, NoAcknowledge, Wire};

/// Waking from power-down takes this long (SBOS448G, section 8.4).
const WAKE_US: u64 = 40;

/// Register addresses (table 2).
const CONFIGURATION: u8 = 0;
const SHUNT_VOLTAGE: u8 = 1;
const BUS_VOLTAGE: u8 = 2;
const POWER: u8 = 3;
const CURRENT: u8 = 4;
const CALIBRATION: u8 = 5;

/// How the configuration of an INA226 reads (SBOS547A, table 4).
const INA226: u16 = 0x4127;

/// Conversion ready: bit 1 of the bus voltage register.
const CNVR: u16 = 1 << 1;
/// Math overflow: bit 0 of the bus voltage register.
const OVF: u16 = 1;

pub(super) struct Chip {
    wire: Box<dyn Wire + Send>,
    fault: Fault,
    pointer: u8,
    registers: Registers,
    /// When the conversion under way began or will begin, in microseconds of the bus's clock.
    converting_since: Option<u64>,
    /// Where the series of noise is.
    random: u64,
}

/// What a reset sets back.
#[derive(Clone, Copy)]
struct Registers {
    configuration: Configuration,
    /// In 10 µV.
    shunt: i16,
    /// In 4 mV, not yet shifted over the flags.
    bus: u16,
    power: u16,
    current: i16,
    calibration: u16,
    ready: bool,
    overflow: bool,
}

impl Registers {
    const POWER_ON: Self = Self {
        configuration: Configuration::POWER_ON,
        shunt: 0,
        bus: 0,
        power: 0,
        current: 0,
        calibration: 0,
        ready: false,
        overflow: false,
    };

    /// Current and power as the chip's multiplier computes them after each conversion (section 8.5.1):
    /// current = shunt × calibration / 4096, power = current × bus / 5000.
    fn multiply(&mut self) {
        let current = i64::from(self.shunt) * i64::from(self.calibration) / 4_096;
        // The power register has no sign (section 8.6.3.3).
        let power = current.abs() * i64::from(self.bus) / 5_000;
        self.overflow = i16::try_from(current).is_err() || u16::try_from(power).is_err();
        // Past the range both "may be meaningless" (section 8.6.3.2): the low 16 bits remain.
        self.current = current as i16;
        self.power = power as u16;
    }
}

impl Chip {
    /// A chip that is powered on at `now_us`.
    pub(super) fn new(wire: Box<dyn Wire + Send>, now_us: u64) -> Self {
        Self {
            wire,
            fault: Fault::None,
            pointer: CONFIGURATION,
            registers: Registers::POWER_ON,
            converting_since: Some(now_us),
            random: 0x2545_F491_4F6C_DD1D,
        }
    }

    /// What happens before `now_us` still happens under the old fault.
    pub(super) fn set_fault(&mut self, fault: Fault, now_us: u64) {
        self.catch_up(now_us);
        self.fault = fault;
    }

    /// The supply dips: everything is as after power-on (section 8.5.6.2).
    pub(super) fn brown_out(&mut self, now_us: u64) {
        self.pointer = CONFIGURATION;
        self.reset(now_us);
    }

    pub(super) fn acknowledges(&self) -> bool {
        self.fault != Fault::Absent
    }

    /// One more operation on the bus: a chip that disappears may be gone before it.
    fn operate(&mut self) -> Result<(), NoAcknowledge> {
        match &mut self.fault {
            Fault::DisappearsAfter(0) => {
                self.fault = Fault::Absent;
                Err(NoAcknowledge)
            }
            Fault::DisappearsAfter(left) => {
                *left -= 1;
                Ok(())
            }
            Fault::None
            | Fault::Absent
            | Fault::StuckValue
            | Fault::NoConversion
            | Fault::SwappedPolarity
            | Fault::NoAcknowledgeOfData
            | Fault::Noise(_)
            | Fault::OtherKind
            | Fault::StuckLow => Ok(()),
        }
    }

    /// Takes one write: the register pointer, and the register if two more bytes follow (section 8.5.6).
    pub(super) fn write(&mut self, bytes: &[u8], now_us: u64) -> Result<(), NoAcknowledge> {
        self.operate()?;
        self.catch_up(now_us);
        match self.fault {
            Fault::NoAcknowledgeOfData if !bytes.is_empty() => return Err(NoAcknowledge),
            Fault::StuckLow => return Ok(()),
            _ => {}
        }
        let Some((&pointer, data)) = bytes.split_first() else { return Ok(()) };
        self.pointer = pointer;
        if self.fault == Fault::OtherKind {
            return Ok(());
        }
        let &[high, low, ..] = data else { return Ok(()) };
        let value = u16::from_be_bytes([high, low]);
        match pointer {
            CONFIGURATION => self.configure(value, now_us),
            // Bit 0 cannot be written and stays zero (section 8.6.4.1).
            CALIBRATION => self.registers.calibration = value & !1,
            // The others are read-only (table 2).
            _ => {}
        }
        Ok(())
    }

    /// Answers one read: the register that the pointer names, most significant byte first, again and again for as
    /// long as the controller goes on.
    pub(super) fn read(&mut self, buffer: &mut [u8], now_us: u64) -> Result<(), NoAcknowledge> {
        self.operate()?;
        self.catch_up(now_us);
        if self.fault == Fault::StuckLow {
            buffer.fill(0);
            return Ok(());
        }
        for word in buffer.chunks_mut(2) {
            let bytes = self.read_register().to_be_bytes();
            word.copy_from_slice(&bytes[..word.len()]);
        }
        Ok(())
    }

    fn read_register(&mut self) -> u16 {
        if self.fault == Fault::OtherKind {
            return if self.pointer == CONFIGURATION { INA226 } else { 0 };
        }
        let registers = &mut self.registers;
        match self.pointer {
            CONFIGURATION => registers.configuration.bits(),
            SHUNT_VOLTAGE => registers.shunt as u16,
            BUS_VOLTAGE => {
                let ready = if registers.ready { CNVR } else { 0 };
                let overflow = if registers.overflow { OVF } else { 0 };
                registers.bus << 3 | ready | overflow
            }
            POWER => {
                // Reading power is what clears the flag (section 8.6.3.2).
                registers.ready = false;
                registers.power
            }
            CURRENT => registers.current as u16,
            CALIBRATION => registers.calibration,
            // The datasheet has no register there and does not say what a read gives.
            _ => 0,
        }
    }

    fn reset(&mut self, now_us: u64) {
        self.registers = Registers::POWER_ON;
        self.converting_since = Some(now_us);
    }

    fn configure(&mut self, value: u16, now_us: u64) {
        let Some(new) = Configuration::written(value) else { return self.reset(now_us) };
        let slept = self.registers.configuration.mode() == Mode::PowerDown;
        self.registers.configuration = new;
        match new.mode() {
            // Both keep the last result readable, and its flag (section 8.6.3.2).
            Mode::PowerDown | Mode::AdcOff => self.converting_since = None,
            Mode::Triggered | Mode::Continuous => {
                self.registers.ready = false;
                self.converting_since = Some(now_us + if slept { WAKE_US } else { 0 });
            }
        }
    }

    /// Completes what has been converted by now; of several conversions only the last one is still to be seen.
    fn catch_up(&mut self, now_us: u64) {
        let Some(since) = self.converting_since else { return };
        let duration = self.registers.configuration.conversion_us();
        let completed = match (self.registers.configuration.mode(), now_us.saturating_sub(since) / duration) {
            (_, 0) | (Mode::PowerDown | Mode::AdcOff, _) => return,
            (Mode::Triggered, _) => {
                self.converting_since = None;
                since + duration
            }
            (Mode::Continuous, count) => {
                let completed = since + count * duration;
                self.converting_since = Some(completed);
                completed
            }
        };
        match self.fault {
            Fault::NoConversion | Fault::OtherKind => {}
            Fault::StuckValue => self.registers.ready = true,
            Fault::None | Fault::Absent | Fault::NoAcknowledgeOfData | Fault::DisappearsAfter(_) | Fault::StuckLow => {
                self.convert(completed, 1, 0)
            }
            Fault::SwappedPolarity => self.convert(completed, -1, 0),
            Fault::Noise(most_uv) => self.convert(completed, 1, most_uv),
        }
    }

    /// The next of a fixed series of values between `-most` and `most` (xorshift64, Marsaglia 2003): tests repeat.
    fn noise(&mut self, most: u32) -> i64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let width = 2 * u64::from(most) + 1;
        i64::try_from(self.random % width).unwrap_or(0) - i64::from(most)
    }

    fn convert(&mut self, at_us: u64, polarity: i64, noise_uv: u32) {
        let mut sensed = self.wire.sense(at_us);
        sensed.shunt_uv = sensed.shunt_uv.saturating_add(self.noise(noise_uv));
        let registers = &mut self.registers;
        let configuration = registers.configuration;
        if configuration.measures_shunt() {
            let ten_uv = divide_rounded(sensed.shunt_uv.saturating_mul(polarity), 10);
            // At most ±32,000, which i16 holds.
            registers.shunt = configuration.shunt_adc().quantize(ten_uv, configuration.shunt_full_scale()) as i16;
        }
        if configuration.measures_bus() {
            let four_mv = divide_rounded(sensed.bus_mv.max(0), 4);
            // At most 8,000.
            registers.bus = configuration.bus_adc().quantize(four_mv, configuration.bus_full_scale()) as u16;
        }
        registers.multiply();
        registers.ready = true;
    }
}

/// `value` divided by the even `divisor`, to the nearest, halves upwards.
fn divide_rounded(value: i64, divisor: i64) -> i64 {
    value.saturating_add(divisor / 2).div_euclid(divisor)
}
