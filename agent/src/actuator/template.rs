//! What a charger is told, with the limit in it, and what it says back.

use std::fmt;
use std::str::FromStr;

use grid_protocol::units::MilliAmps;
use serde::{Deserialize, Serialize};

use crate::decimal::{Rounding, decimal, text_at};
use crate::transformer::NOMINAL_VOLTS;

/// A payload with placeholders for the limit, each rounded down:
///
/// | placeholder | 13 500 mA on three phases |
/// |---|---|
/// | `{{amps}}` | `13.5` |
/// | `{{whole_amps}}` | `13` |
/// | `{{milliamps}}` | `13500` |
/// | `{{watts}}` | `9315`, of all phases together at 230 V |
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Limit(Form),
}

/// How the limit is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Amps,
    WholeAmps,
    MilliAmps,
    Watts,
}

impl Form {
    const ALL: [Self; 4] = [Self::Amps, Self::WholeAmps, Self::MilliAmps, Self::Watts];

    fn name(self) -> &'static str {
        match self {
            Self::Amps => "amps",
            Self::WholeAmps => "whole_amps",
            Self::MilliAmps => "milliamps",
            Self::Watts => "watts",
        }
    }
}

/// Why a payload is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It names something that there is not.
    #[error(
        "{{{{{0}}}}} is no placeholder: there are {{{{amps}}}}, {{{{whole_amps}}}}, {{{{milliamps}}}} and {{{{watts}}}}"
    )]
    Unknown(String),
    /// It has no placeholder.
    #[error(
        "it does not say the limit: put {{{{amps}}}}, {{{{whole_amps}}}}, {{{{milliamps}}}} or {{{{watts}}}} into it"
    )]
    NoLimit,
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            // A brace before a placeholder is text: `{"i":{{{amps}}}` is none.
            let Some((name, behind)) = after.split_once("}}") else { break };
            let form = Form::ALL.into_iter().find(|form| form.name() == name.trim());
            let form = form.ok_or_else(|| TemplateError::Unknown(name.trim().to_owned()))?;
            pieces.extend([Piece::Text(before.to_owned()), Piece::Limit(form)]);
            rest = behind;
        }
        if pieces.is_empty() {
            return Err(TemplateError::NoLimit);
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self(pieces))
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateError;

    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Limit(form) => write!(f, "{{{{{}}}}}", form.name()),
        })
    }
}

impl Template {
    /// The payload for this limit per phase.
    pub fn fill(&self, limit: MilliAmps, phases: usize) -> String {
        let ma = limit.0.max(0);
        let written = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Limit(Form::Amps) => {
                let decimal = format!("{}.{:03}", ma / 1000, ma % 1000);
                decimal.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            Piece::Limit(Form::WholeAmps) => (ma / 1000).to_string(),
            Piece::Limit(Form::MilliAmps) => ma.to_string(),
            Piece::Limit(Form::Watts) => (ma.saturating_mul(volts(phases)) / 1000).to_string(),
        };
        self.0.iter().map(written).collect()
    }
}

/// All phases together.
fn volts(phases: usize) -> i64 {
    NOMINAL_VOLTS * i64::try_from(phases.max(1)).unwrap_or(1)
}

/// The unit of what a charger says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChargerUnit {
    /// Amperes per phase.
    #[default]
    A,
    /// Milliamperes per phase.
    #[serde(rename = "mA")]
    MilliA,
    /// Watts, of all phases together at 230 V.
    W,
}

impl ChargerUnit {
    /// The current per phase that `payload` says at the JSON pointer, rounded up. `None`: no number, or a negative one.
    pub fn read(self, payload: &[u8], pointer: &str, phases: usize) -> Option<MilliAmps> {
        let text = text_at(payload, pointer)?;
        let times_ten_to = |places| decimal(&text, places, Rounding::Up).filter(|number| *number >= 0);
        let ma = match self {
            Self::A => times_ten_to(3)?,
            Self::MilliA => times_ten_to(0)?,
            Self::W => times_ten_to(3)?.checked_add(volts(phases) - 1)? / volts(phases),
        };
        Some(MilliAmps(ma))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(template: &str, ma: i64, phases: usize) -> String {
        template.parse::<Template>().unwrap().fill(MilliAmps(ma), phases)
    }

    #[test]
    fn a_limit_is_written_as_asked_for_and_never_rounded_up() {
        for (template, ma, phases, written) in [
            ("{\"amps\":{{amps}}}", 13_500, 3, "{\"amps\":13.5}"),
            ("{{amps}}", 16_000, 1, "16"),
            ("{{amps}}", 6_005, 1, "6.005"),
            ("{{amps}}", 0, 1, "0"),
            ("{{amps}}", 10_000, 1, "10"),
            ("{{ whole_amps }}", 13_999, 1, "13"),
            ("a{{milliamps}}b{{watts}}c", 13_500, 3, "a13500b9315c"),
            ("{{watts}}", 6_001, 1, "1380"),
            ("{{amps}}", -5, 1, "0"),
        ] {
            assert_eq!(filled(template, ma, phases), written);
        }
    }

    #[test]
    fn what_is_no_template_is_told_why() {
        let error = "{{amperes}}".parse::<Template>().unwrap_err().to_string();
        assert!(error.contains("{{amperes}}") && error.contains("{{whole_amps}}"), "{error}");
        assert_eq!("16".parse::<Template>(), Err(TemplateError::NoLimit));
        assert_eq!("{{amps".parse::<Template>(), Err(TemplateError::NoLimit));
        let text = "{\"a\":{{amps}},\"w\":{{watts}}}";
        assert_eq!(text.parse::<Template>().unwrap().to_string(), text);
    }

    #[test]
    fn what_a_charger_says_is_read_in_its_unit() {
        for (payload, pointer, unit, phases, ma) in [
            ("16", "", ChargerUnit::A, 1, Some(16_000)),
            ("{\"set\":{\"amps\":13.5}}", "/set/amps", ChargerUnit::A, 1, Some(13_500)),
            ("{\"amps\":\"6\"}", "/amps", ChargerUnit::A, 1, Some(6_000)),
            ("[13500]", "/0", ChargerUnit::MilliA, 1, Some(13_500)),
            ("6900", "", ChargerUnit::W, 3, Some(10_000)),
            ("6900.5", "", ChargerUnit::W, 3, Some(10_001)),
            ("6.0001", "", ChargerUnit::A, 1, Some(6_001)),
            ("6.0000000000000000001", "", ChargerUnit::A, 1, Some(6_001)),
            ("1.35e1", "", ChargerUnit::A, 1, Some(13_500)),
            ("{\"amps\":\" 1.6E+1 \"}", "/amps", ChargerUnit::A, 1, Some(16_000)),
            ("-6", "", ChargerUnit::A, 1, None),
            ("1e9", "/x", ChargerUnit::A, 1, None),
            ("true", "", ChargerUnit::A, 1, None),
            ("off", "", ChargerUnit::A, 1, None),
        ] {
            assert_eq!(unit.read(payload.as_bytes(), pointer, phases), ma.map(MilliAmps), "{payload}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same_limit_or_less(ma in 0_i64..100_000, phases in 1_usize..4) {
            for (template, unit) in [
                ("{{amps}}", ChargerUnit::A), ("{{whole_amps}}", ChargerUnit::A), ("{{milliamps}}", ChargerUnit::MilliA), ("{{watts}}", ChargerUnit::W),
            ] {
                let read = unit.read(filled(template, ma, phases).as_bytes(), "", phases).unwrap();
                prop_assert!(read.0 <= ma && ma - read.0 < 1_000, "{template} {ma}: {read:?}");
            }
        }
    }
}
