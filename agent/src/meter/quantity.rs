//! Decimal numbers with a unit, as meters write them, without floating point.

use grid_protocol::units::{MilliAmps, MilliVolts};
use serde::{Deserialize, Serialize};

/// More digits than any meter has, and fewer than overflow.
const LONGEST: usize = 40;

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
        let current = match self {
            Self::A => decimal(text, 3)?,
            Self::MilliA => decimal(text, 0)?,
            // Microwatts over millivolts are milliamps.
            Self::W => over(decimal(text, 6)?, nominal)?,
            Self::KiloW => over(decimal(text, 9)?, nominal)?,
        };
        Some(MilliAmps(current))
    }
}

fn over(microwatts: i64, nominal: MilliVolts) -> Option<i64> {
    (nominal.0 > 0).then(|| super::config::divide_rounded(microwatts, nominal.0))
}

/// A decimal number, with or without exponent as JSON has it (RFC 8259, section 6), times ten to the power of `places`,
/// to the nearest, halves away from zero.
pub fn decimal(text: &str, places: i32) -> Option<i64> {
    if text.len() > LONGEST {
        return None;
    }
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.strip_prefix('+').unwrap_or(exponent).parse::<i8>().ok()?),
        None => (text, 0),
    };
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if whole.is_empty() || text.ends_with('.') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // So many of the digits stand before the point, after it has moved.
    let before = i64::try_from(whole.len()).ok()? + i64::from(places) + i64::from(exponent);
    let mut value: i64 = 0;
    for place in 0..before {
        let digit = usize::try_from(place).ok().and_then(|place| digits.get(place)).map_or(0, |digit| digit - b'0');
        value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    let next = usize::try_from(before).ok().and_then(|place| digits.get(place)).map_or(0, |digit| digit - b'0');
    let value = value.checked_add(i64::from(next >= 5))?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_rounded_to_the_nearest() {
        for (text, places, value) in [
            ("16", 3, 16_000),
            ("16.25", 3, 16_250),
            ("-0.0005", 3, -1),
            ("0.0004", 3, 0),
            ("0.05", 0, 0),
            ("1.5e3", 0, 1_500),
            ("1E-2", 3, 10),
            ("2.5e+1", 0, 25),
            ("5e-9", 3, 0),
            ("9007199254740.993", 3, 9_007_199_254_740_993),
            ("0", 9, 0),
        ] {
            assert_eq!(decimal(text, places), Some(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_decimal_number_is_none() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1,5",
            "1.2.3",
            "NaN",
            "inf",
            "0x10",
            "+5",
            "1e",
            "1e999",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(decimal(text, 3), None, "{text:?}");
        }
        assert_eq!(decimal(&"1".repeat(41), 0), None);
    }

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
