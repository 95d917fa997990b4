//! What JSON the grid accepts: one object, no key twice, integers only.
//!
//! A key that stands twice means different things to different readers, and so does a number beyond 2^53 − 1
//! (RFC 8259, sections 4 and 6). What is signed must mean one thing, so both are refused before anything else reads
//! the message.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::units::LARGEST;

/// Why a payload is not an unambiguous JSON object.
#[derive(Debug, thiserror::Error)]
#[error("not an unambiguous JSON object: {0}")]
pub struct BadJson(#[from] serde_json::Error);

/// Checks that `payload` is one JSON object without a key that stands twice in its object, without fractions, and
/// without integers beyond ±(2^53 − 1).
pub fn check(payload: &[u8]) -> Result<(), BadJson> {
    let mut reader = serde_json::Deserializer::from_slice(payload);
    Unambiguous { object: true }.deserialize(&mut reader)?;
    Ok(reader.end()?)
}

/// So many keys are compared one by one, which is quicker than hashing them. Messages have fewer; an object with more must
/// not cost their square.
const FEW: usize = 24;

struct Unambiguous {
    object: bool,
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.object { deserializer.deserialize_map(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.object { "an object" } else { "an integer, text, true, false, null, array or object" })
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        if value < -LARGEST {
            return Err(E::custom(format_args!("{value} is below -(2^53 - 1)")));
        }
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if value > LARGEST.unsigned_abs() {
            return Err(E::custom(format_args!("{value} is above 2^53 - 1")));
        }
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        Err(E::custom(format_args!("{value} is not an integer")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Self { object: false })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut few: Vec<Cow<'de, str>> = Vec::with_capacity(FEW);
        let mut many = HashSet::new();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            map.next_value_seed(Self { object: false })?;
            if few.contains(&key) || many.contains(&key) {
                return Err(A::Error::custom(format_args!("key {key:?} stands twice")));
            }
            if few.len() < FEW {
                few.push(key);
            } else {
                many.insert(key);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_objects_pass() {
        for ok in [r#"{}"#, r#"{"a":1,"b":[{"a":2},null,true,"x"],"c":-9007199254740991}"#] {
            check(ok.as_bytes()).unwrap();
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused_with_its_name() {
        for (bad, named) in [
            (r#"{"a":1,"a":1}"#, "\"a\" stands twice"),
            (r#"{"a":1,"\u0061":1}"#, "\"a\" stands twice"),
            (r#"{"x":{"b":1,"b":2}}"#, "\"b\" stands twice"),
            (r#"{"a":1.5}"#, "1.5 is not an integer"),
            (r#"{"a":1e3}"#, "not an integer"),
            (r#"{"a":9007199254740992}"#, "above 2^53"),
            (r#"{"a":-9007199254740992}"#, "below"),
            (r#"[1]"#, "expected an object"),
            (r#"{"a":1} x"#, "trailing"),
            (r#"{"a":"#, "EOF"),
        ] {
            let error = check(bad.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }

    #[test]
    fn among_many_keys_too_each_stands_once() {
        let members =
            |keys: std::ops::Range<usize>| keys.map(|key| format!("\"k{key}\":0")).collect::<Vec<_>>().join(",");
        let all = members(0..100);
        check(format!("{{{all}}}").as_bytes()).unwrap();
        for twice in 0..100 {
            let error = check(format!("{{{all},{}}}", members(twice..twice + 1)).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(&format!("\"k{twice}\" stands twice")), "{error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_exhausting_the_stack() {
        let bomb = format!(r#"{{"a":{}}}"#, "[".repeat(4000));
        assert!(check(bomb.as_bytes()).is_err());
    }
}
