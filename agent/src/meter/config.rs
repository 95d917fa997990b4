//! How one INA219 is wired and set, and whether that can measure what is to be kept.

use grid_protocol::units::{MilliAmps, MilliVolts};
use serde::{Deserialize, Serialize};

/// One INA219, measuring one phase.
///
/// ```toml
/// [[meter.ina219]]
/// bus = "/dev/i2c-1"
/// address = 0x40
/// shunt_milliohm = 100
/// range = "320mV"
/// adc = "avg16"
/// scale = 100
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChipConfig {
    /// The bus's device file. Default: `/dev/i2c-1`, the pins 3 and 5 of a Raspberry Pi.
    pub bus: String,
    /// The chip's address, 0x40 to 0x4F (64 to 79), as its pins A0 and A1 are soldered. Default: 0x40, both to ground.
    pub address: u8,
    /// The shunt resistor, in milliohms. Default: 100, what breakout boards carry.
    pub shunt_milliohm: u32,
    /// How much voltage over the shunt can be measured: `40mV`, `80mV`, `160mV` or `320mV`, in both directions.
    /// Default: `320mV`, which over 100 mΩ is 3.2 A.
    pub range: ShuntRange,
    /// Resolution, or number of averaged samples, of the current: `9bit`, `10bit`, `11bit`, `12bit`, `avg2`, `avg4`,
    /// `avg8`, `avg16`, `avg32`, `avg64` or `avg128`. Averages are calmer and slower, from 84 µs for `9bit` to 68 ms
    /// for `avg128`. Default: `avg16`, 8.5 ms. (The bus voltage is always measured with 12 bits, 0.5 ms.)
    pub adc: Adc,
    /// How many grid milliamps one milliamp through the shunt stands for. Default: 100. The range must let it cover
    /// 1.5 times the limit that is to be kept.
    pub scale: u32,
    /// The shunt is wired the wrong way round: turn the sign. Default: false.
    pub invert: bool,
    /// Added to the current after scale and sign, in grid milliamps: the negative of what is shown when nothing flows.
    /// Default: 0.
    pub offset_ma: i64,
    /// The voltage that is reported, in millivolts, while no `voltage_scale` is set: the chip sees the low voltage of
    /// the model, not that of the grid. Default: 230000.
    pub nominal_mv: i64,
    /// How many grid millivolts one millivolt of the chip's bus voltage stands for. Default: none, so that `nominal_mv` is
    /// reported.
    pub voltage_scale: Option<u32>,
}

impl Default for ChipConfig {
    fn default() -> Self {
        Self {
            bus: "/dev/i2c-1".to_owned(),
            address: 0x40,
            shunt_milliohm: 100,
            range: ShuntRange::default(),
            adc: Adc::default(),
            scale: 100,
            invert: false,
            offset_ma: 0,
            nominal_mv: 230_000,
            voltage_scale: None,
        }
    }
}

/// The programmable gain amplifier's range (SBOS448G, table 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShuntRange {
    /// ±40 mV.
    #[serde(rename = "40mV")]
    Mv40,
    /// ±80 mV.
    #[serde(rename = "80mV")]
    Mv80,
    /// ±160 mV.
    #[serde(rename = "160mV")]
    Mv160,
    /// ±320 mV.
    #[default]
    #[serde(rename = "320mV")]
    Mv320,
}

impl ShuntRange {
    /// The range's end, in microvolts.
    pub fn full_scale_uv(self) -> i64 {
        match self {
            Self::Mv40 => 40_000,
            Self::Mv80 => 80_000,
            Self::Mv160 => 160_000,
            Self::Mv320 => 320_000,
        }
    }
}

/// Resolution of the converter, or number of averaged 12-bit samples (SBOS448G, table 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Adc {
    /// 9 bits.
    #[serde(rename = "9bit")]
    Bits9,
    /// 10 bits.
    #[serde(rename = "10bit")]
    Bits10,
    /// 11 bits.
    #[serde(rename = "11bit")]
    Bits11,
    /// 12 bits.
    #[serde(rename = "12bit")]
    Bits12,
    /// 2 samples.
    #[serde(rename = "avg2")]
    Average2,
    /// 4 samples.
    #[serde(rename = "avg4")]
    Average4,
    /// 8 samples.
    #[serde(rename = "avg8")]
    Average8,
    /// 16 samples.
    #[default]
    #[serde(rename = "avg16")]
    Average16,
    /// 32 samples.
    #[serde(rename = "avg32")]
    Average32,
    /// 64 samples.
    #[serde(rename = "avg64")]
    Average64,
    /// 128 samples.
    #[serde(rename = "avg128")]
    Average128,
}

/// A value in a [`ChipConfig`] that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The grid has one or three phases, and each has one chip.
    #[error("{0} chips are configured: a meter has one to three, one for each phase")]
    ChipCount(usize),
    /// No INA219 can have this address.
    #[error("address {address:#04x} on {bus} is none of an INA219: 0x40 to 0x4f")]
    Address {
        /// Path of the device file.
        bus: String,
        /// What was configured.
        address: u8,
    },
    /// Two phases would be read from one chip.
    #[error("address {address:#04x} on {bus} is configured for two phases: each needs a chip of its own")]
    Twice {
        /// Path of the device file.
        bus: String,
        /// What was configured.
        address: u8,
    },
    /// A number must be positive to divide by or to mean anything.
    #[error("{key} of the chip at {address:#04x} on {bus} is {value}: it must be at least 1")]
    NotPositive {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
        /// Which field.
        key: &'static str,
        /// What was configured.
        value: i64,
    },
    /// The limit, and what may come above it, lies beyond what the chip can show.
    #[error(
        "scale = {scale} of the chip at {address:#04x} on {bus} lets ±{range_mv} mV over {shunt_milliohm} mΩ measure up to \
         {covers}, but 1.5 times the limit of {limit} is {needed}: set scale to at least {least_scale} and build the \
         model to match, or take a smaller shunt"
    )]
    RangeTooSmall {
        /// Path of the device file.
        bus: String,
        /// The chip's address.
        address: u8,
        /// What was configured.
        scale: u32,
        /// The configured range's end.
        range_mv: i64,
        /// What was configured.
        shunt_milliohm: u32,
        /// Grid current at the range's end.
        covers: MilliAmps,
        /// The limit per phase.
        limit: MilliAmps,
        /// One and a half times the limit.
        needed: MilliAmps,
        /// The smallest scale that would do.
        least_scale: i64,
    },
}

impl ChipConfig {
    /// The grid current that a voltage over the shunt stands for, to the nearest milliamp.
    ///
    /// Current is shunt voltage over shunt resistance. The chip's own current register is not used: it is zero after
    /// a brown-out until the calibration register is written again.
    pub fn grid_current(&self, shunt_uv: i64) -> MilliAmps {
        // Microvolts over milliohms are milliamps.
        let current = divide_rounded(shunt_uv.saturating_mul(i64::from(self.scale)), i64::from(self.shunt_milliohm));
        MilliAmps(if self.invert { -current } else { current }) + MilliAmps(self.offset_ma)
    }

    /// The voltage over the shunt, in microvolts, that stands for a grid current: the inverse of
    /// [`grid_current`](Self::grid_current), to the nearest microvolt. It is what a simulated wire must show.
    pub fn shunt_uv(&self, grid: MilliAmps) -> i64 {
        let current = (grid - MilliAmps(self.offset_ma)).0;
        let current = if self.invert { current.saturating_neg() } else { current };
        divide_rounded(current.saturating_mul(i64::from(self.shunt_milliohm)), i64::from(self.scale))
    }

    /// The voltage to report when the chip shows this bus voltage.
    pub fn grid_voltage(&self, bus_mv: i64) -> MilliVolts {
        match self.voltage_scale {
            Some(scale) => MilliVolts(bus_mv) * i64::from(scale),
            None => MilliVolts(self.nominal_mv),
        }
    }

    /// Whether a voltage over the shunt lies within 1 % of the range's end, so that there may be more than it shows.
    pub fn is_saturated(&self, shunt_uv: i64) -> bool {
        shunt_uv.abs() * 100 >= self.range.full_scale_uv() * 99
    }

    fn covers(&self) -> MilliAmps {
        MilliAmps(self.range.full_scale_uv() * i64::from(self.scale) / i64::from(self.shunt_milliohm.max(1)))
    }

    /// What is wrong with this chip's values by themselves.
    fn own_problems(&self) -> Vec<ConfigError> {
        let mut problems = Vec::new();
        if !(0x40..=0x4F).contains(&self.address) {
            problems.push(ConfigError::Address { bus: self.bus.clone(), address: self.address });
        }
        for (key, value) in [
            ("shunt_milliohm", i64::from(self.shunt_milliohm)),
            ("scale", i64::from(self.scale)),
            ("nominal_mv", self.nominal_mv),
            ("voltage_scale", self.voltage_scale.map_or(1, i64::from)),
        ] {
            if value < 1 {
                problems.push(ConfigError::NotPositive { bus: self.bus.clone(), address: self.address, key, value });
            }
        }
        problems
    }

    /// Whether the range covers one and a half times the limit: above the limit the excess must still be seen, or
    /// nobody knows how much to take back.
    ///
    /// # Errors
    /// [`ConfigError::RangeTooSmall`], naming the numbers.
    pub fn covers_limit(&self, limit: MilliAmps) -> Result<(), ConfigError> {
        let needed = MilliAmps(divide_up(limit.0.saturating_mul(3), 2));
        let covers = self.covers();
        if covers >= needed {
            return Ok(());
        }
        Err(ConfigError::RangeTooSmall {
            bus: self.bus.clone(),
            address: self.address,
            scale: self.scale,
            range_mv: self.range.full_scale_uv() / 1_000,
            shunt_milliohm: self.shunt_milliohm,
            covers,
            limit,
            needed,
            least_scale: divide_up(needed.0.saturating_mul(i64::from(self.shunt_milliohm)), self.range.full_scale_uv()),
        })
    }
}

/// Everything that is wrong with a meter of these chips that is to keep `limit` on each phase; empty if nothing is.
///
/// Without a limit (a device that only reports) the range is not judged.
pub fn problems(chips: &[ChipConfig], limit: Option<MilliAmps>) -> Vec<ConfigError> {
    let mut problems = Vec::new();
    if !(1..=3).contains(&chips.len()) {
        problems.push(ConfigError::ChipCount(chips.len()));
    }
    for (place, chip) in chips.iter().enumerate() {
        let own = chip.own_problems();
        if let (true, Some(Err(problem))) = (own.is_empty(), limit.map(|limit| chip.covers_limit(limit))) {
            problems.push(problem);
        }
        problems.extend(own);
        if chips[..place].iter().any(|other| other.bus == chip.bus && other.address == chip.address) {
            problems.push(ConfigError::Twice { bus: chip.bus.clone(), address: chip.address });
        }
    }
    problems
}

/// `value` divided by the positive `divisor`, to the nearest, halves away from zero: the same both ways round.
pub(super) fn divide_rounded(value: i64, divisor: i64) -> i64 {
    let half = divisor / 2 * value.signum();
    value.saturating_add(half) / divisor
}

/// `value` divided by the positive `divisor`, upwards.
pub(super) fn divide_up(value: i64, divisor: i64) -> i64 {
    value.div_euclid(divisor) + i64::from(value.rem_euclid(divisor) > 0)
}
