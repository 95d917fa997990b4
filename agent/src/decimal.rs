//! Decimal numbers as meters and chargers write them, exactly: nothing passes through a floating point number.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

/// More digits than anything that is measured has, and fewer than overflow.
const LONGEST: usize = 40;

/// Which way a number goes that lies between two whole ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, halves away from zero.
    Nearest,
    /// Towards more.
    Up,
}

/// The number at a JSON pointer (RFC 6901), or the text there, as it is written. `None`: neither is there.
pub fn text_at(payload: &[u8], pointer: &str) -> Option<String> {
    let mut at: &RawValue = serde_json::from_slice(payload).ok()?;
    let mut tokens = pointer.split('/');
    if !tokens.next().is_some_and(str::is_empty) {
        return None;
    }
    for token in tokens {
        let token = token.replace("~1", "/").replace("~0", "~");
        at = if at.get().starts_with('[') {
            let list: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
            list.get(index(&token)?).copied()?
        } else {
            let mut map: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_str(at.get()).ok()?;
            map.remove(token.as_str())?
        };
    }
    let text = at.get();
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).ok()?;
        return Some(text.trim().to_owned());
    }
    Some(text.to_owned())
}

/// A place in a list: digits, without leading zeros.
fn index(token: &str) -> Option<usize> {
    let sound = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    sound.then(|| token.parse().ok()).flatten()
}

/// A decimal number, with or without exponent as JSON has it (RFC 8259, section 6), times ten to the power of `places`.
pub fn decimal(text: &str, places: i32, rounding: Rounding) -> Option<i64> {
    if text.len() > LONGEST {
        return None;
    }
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i8>().ok()?),
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
    // So many of the digits stand before the point, after it has moved; perhaps fewer than none.
    let before = i64::try_from(whole.len()).ok()? + i64::from(places) + i64::from(exponent);
    let mut value: i64 = 0;
    for place in 0..before {
        let digit = usize::try_from(place).ok().and_then(|place| digits.get(place)).map_or(0, |digit| digit - b'0');
        value = value.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    let cut = usize::try_from(before).map_or(digits.as_slice(), |before| digits.get(before..).unwrap_or_default());
    let further_from_zero = match rounding {
        Rounding::Nearest => before >= 0 && cut.first().is_some_and(|digit| *digit >= b'5'),
        Rounding::Up => !negative && cut.iter().any(|digit| *digit != b'0'),
    };
    let value = value.checked_add(i64::from(further_from_zero))?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_rounded_to_the_nearest_or_up() {
        for (text, places, nearest, up) in [
            ("16", 3, 16_000, 16_000),
            ("16.25", 3, 16_250, 16_250),
            ("-0.0005", 3, -1, 0),
            ("-1.0005", 3, -1_001, -1_000),
            ("0.0004", 3, 0, 1),
            ("6.0001", 3, 6_000, 6_001),
            ("6.0000000", 3, 6_000, 6_000),
            ("0.05", 0, 0, 1),
            ("0.5", 0, 1, 1),
            ("1.5e3", 0, 1_500, 1_500),
            ("1E-2", 3, 10, 10),
            ("2.5e+1", 0, 25, 25),
            ("5e-9", 3, 0, 1),
            ("0e-9", 3, 0, 0),
            ("9007199254740.993", 3, 9_007_199_254_740_993, 9_007_199_254_740_993),
            ("0", 9, 0, 0),
        ] {
            assert_eq!(decimal(text, places, Rounding::Nearest), Some(nearest), "{text}");
            assert_eq!(decimal(text, places, Rounding::Up), Some(up), "{text}");
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
            "1e+-5",
            "1e++5",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(decimal(text, 3, Rounding::Nearest), None, "{text:?}");
        }
        assert_eq!(decimal(&"1".repeat(41), 0, Rounding::Up), None);
    }

    #[test]
    fn a_number_at_a_pointer_is_what_stands_there() {
        let payload = br#" {"em":[{"power":9007199254740993.10},{"power":" 4.6e2 "}],"a/b":-23,"c~d":1,"":7} "#;
        for (pointer, text) in [
            ("/em/0/power", Some("9007199254740993.10")),
            ("/em/1/power", Some("4.6e2")),
            ("/a~1b", Some("-23")),
            ("/c~0d", Some("1")),
            ("/", Some("7")),
            ("/em/00/power", None),
            ("/em/+1/power", None),
            ("/em/2/power", None),
            ("/em/x", None),
            ("/em/0/power/x", None),
            ("em", None),
        ] {
            assert_eq!(text_at(payload, pointer).as_deref(), text, "{pointer}");
        }
        assert_eq!(text_at(b"16.5\n", "").as_deref(), Some("16.5"));
        assert_eq!(text_at(b"16,5", ""), None);
    }
}
