//! The configuration register (SBOS448G, section 8.6.2.1) and what its fields mean.

/// The register's value after power-on: 32 V, ±320 mV, 12 bits, both voltages continuously (table 2).
const POWER_ON: u16 = 0x399F;
/// Bit 15: resets the whole chip and clears itself.
const RESET: u16 = 1 << 15;
/// Bit 14 has no function and reads as zero.
const UNUSED: u16 = 1 << 14;

/// The configuration register's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Configuration(u16);

/// The MODE bits (table 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nothing is converted and the inputs draw no current; waking takes 40 µs.
    PowerDown,
    /// Nothing is converted.
    AdcOff,
    /// One conversion after each write of the configuration.
    Triggered,
    /// One conversion after the other.
    Continuous,
}

impl Configuration {
    pub(super) const POWER_ON: Self = Self(POWER_ON);

    /// What a write leaves in the register; `None` if it asks for a reset.
    pub(super) fn written(bits: u16) -> Option<Self> {
        (bits & RESET == 0).then_some(Self(bits & !UNUSED))
    }

    pub(super) fn bits(self) -> u16 {
        self.0
    }

    pub(super) fn mode(self) -> Mode {
        match self.0 & 0b111 {
            0b000 => Mode::PowerDown,
            0b100 => Mode::AdcOff,
            0b001..=0b011 => Mode::Triggered,
            _ => Mode::Continuous,
        }
    }

    pub(super) fn measures_shunt(self) -> bool {
        self.0 & 0b001 != 0
    }

    pub(super) fn measures_bus(self) -> bool {
        self.0 & 0b010 != 0
    }

    /// End of the shunt range (PG bits, table 4) in the register's unit of 10 µV: 40 mV times 1, 2, 4 or 8.
    pub(super) fn shunt_full_scale(self) -> i64 {
        4_000 << ((self.0 >> 11) & 0b11)
    }

    /// End of the bus range (BRNG bit) in the register's unit of 4 mV: 16 V or 32 V.
    pub(super) fn bus_full_scale(self) -> i64 {
        4_000 << ((self.0 >> 13) & 1)
    }

    pub(super) fn shunt_adc(self) -> Adc {
        Adc((self.0 >> 3) & 0b1111)
    }

    pub(super) fn bus_adc(self) -> Adc {
        Adc((self.0 >> 7) & 0b1111)
    }

    /// How long one conversion of everything that the mode measures takes, in microseconds.
    pub(super) fn conversion_us(self) -> u64 {
        let shunt = if self.measures_shunt() { self.shunt_adc().conversion_us() } else { 0 };
        let bus = if self.measures_bus() { self.bus_adc().conversion_us() } else { 0 };
        shunt + bus
    }
}

/// The four bits that set resolution or averaging of one voltage (SADC, BADC; table 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adc(u16);

impl Adc {
    /// Conversion time in microseconds (table 5, typical).
    fn conversion_us(self) -> u64 {
        match self.0 {
            // Without the highest bit, bit 2 does not matter.
            0b0000 | 0b0100 => 84,
            0b0001 | 0b0101 => 148,
            0b0010 | 0b0110 => 276,
            0b0011 | 0b0111 | 0b1000 => 532,
            0b1001 => 1_060,
            0b1010 => 2_130,
            0b1011 => 4_260,
            0b1100 => 8_510,
            0b1101 => 17_020,
            0b1110 => 34_050,
            _ => 68_100,
        }
    }

    /// How many of the lowest bits of a 12-bit value this resolution does not tell: 3 for 9 bits, 0 for 12 and averages.
    fn untold_bits(self) -> u32 {
        match self.0 {
            0b0000 | 0b0100 => 3,
            0b0001 | 0b0101 => 2,
            0b0010 | 0b0110 => 1,
            _ => 0,
        }
    }

    /// A value as this resolution shows it: the nearest step, at most `full_scale` in magnitude.
    pub(super) fn quantize(self, value: i64, full_scale: i64) -> i64 {
        let step = 1 << self.untold_bits();
        let steps = (value.clamp(-full_scale, full_scale) + step / 2).div_euclid(step);
        (steps * step).clamp(-full_scale, full_scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(bits: u16) -> Configuration {
        Configuration::written(bits).expect("no reset asked for")
    }

    #[test]
    fn power_on_measures_both_voltages_continuously_with_12_bits_over_320_mv_and_32_v() {
        let configuration = Configuration::POWER_ON;
        assert_eq!(configuration.mode(), Mode::Continuous);
        assert!(configuration.measures_shunt() && configuration.measures_bus());
        assert_eq!(configuration.shunt_full_scale(), 32_000);
        assert_eq!(configuration.bus_full_scale(), 8_000);
        assert_eq!(configuration.conversion_us(), 532 + 532);
    }

    #[test]
    fn the_four_shunt_ranges_are_40_80_160_and_320_mv() {
        let ranges: Vec<_> = (0..4).map(|pg| written(0x019F | pg << 11).shunt_full_scale()).collect();
        assert_eq!(ranges, [4_000, 8_000, 16_000, 32_000]);
    }

    #[test]
    fn every_adc_setting_takes_the_time_of_the_datasheet() {
        // Driver and simulation were written apart, so each checks the other for all 65,536 values.
        for bits in 0..1 << 15 {
            let ours = written(bits);
            let theirs = ::ina219::configuration::Configuration::from_bits(bits).conversion_time_us();
            let converts = matches!(ours.mode(), Mode::Continuous | Mode::Triggered);
            assert_eq!(converts.then(|| ours.conversion_us()), theirs.map(u64::from), "{bits:016b}");
        }
    }

    #[test]
    fn nine_bits_show_steps_of_eight() {
        assert_eq!(Adc(0b0000).quantize(1_003, 4_000), 1_000);
        assert_eq!(Adc(0b0000).quantize(1_004, 4_000), 1_008);
        assert_eq!(Adc(0b0000).quantize(-1_003, 4_000), -1_000);
        assert_eq!(Adc(0b0011).quantize(1_003, 4_000), 1_003);
    }
}
