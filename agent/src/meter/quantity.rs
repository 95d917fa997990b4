//! Numbers with a unit, as meters write them.

use grid_protocol::units::{MilliAmps, MilliVolts};
use serde::{Deserialize, Serialize};

use crate::decimal::{Rounding, decimal};

/// What an existing meter's numbers mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Amperes.
    #[default]
    A,
    /// Milliamperes.
    #[serde(rename = "mA")]
    MilliA,
    /// Watts at the nominal voltage.
    W,
    /// Kilowatts at the nominal voltage.
    #[serde(rename = "kW")]
    KiloW,
}

impl Unit {
    /// The current, to the nearest milliamp, that the decimal number `text` says; none if it says none.
    pub fn current(self, text: &str, nominal: MilliVolts) -> Option<MilliAmps> {
        let times_ten_to = |places| decimal(text, places, Rounding::Nearest);
        let current = match self {
            Self::A => times_ten_to(3)?,
            Self::MilliA => times_ten_to(0)?,
            // Microwatts over millivolts are milliamps.
            Self::W => over(times_ten_to(6)?, nominal)?,
            Self::KiloW => over(times_ten_to(9)?, nominal)?,
        };
        Some(MilliAmps(current))
    }
}

fn over(microwatts: i64, nominal: MilliVolts) -> Option<i64> {
    (nominal.0 > 0).then(|| super::config::divide_rounded(microwatts, nominal.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_becomes_a_current() {
        let nominal = MilliVolts(230_000);
        for (unit, text, current) in [
            (Unit::A, "16.004", 16_004),
            (Unit::MilliA, "16004.4", 16_004),
            (Unit::W, "3680", 16_000),
            (Unit::W, "-230.115", -1_001),
            (Unit::KiloW, "3.68", 16_000),
        ] {
            assert_eq!(unit.current(text, nominal), Some(MilliAmps(current)), "{unit:?} {text}");
        }
        assert_eq!(Unit::W.current("1", MilliVolts(0)), None);
    }
}
