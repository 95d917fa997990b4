//! What a person or a script says of a device, in one word each: `ina219:0x40,0x41`, `relay:17`, `cp-1:L1L2L3`.

use std::fmt;
use std::str::FromStr;

use grid_protocol::message::{DeviceKind, Phase};
use grid_protocol::topic::Name;
use grid_protocol::units::MilliAmps;

/// A word that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{word:?}: expected {expected}")]
pub struct BadWord {
    word: String,
    expected: &'static str,
}

fn bad(word: &str, expected: &'static str) -> BadWord {
    BadWord { word: word.to_owned(), expected }
}

/// A current per phase: milliamps, without sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current(pub MilliAmps);

impl FromStr for Current {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        let current: u32 = word.parse().map_err(|_| bad(word, "milliamps, such as 6000"))?;
        Ok(Self(MilliAmps(current.into())))
    }
}

impl fmt::Display for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}

/// Phases in the order of the meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phases(pub Vec<Phase>);

const PHASES: &str = "phases, each once, such as L1L2L3 or L2";

impl FromStr for Phases {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        let mut rest = word;
        let mut phases = Vec::new();
        while !rest.is_empty() {
            let next = Phase::ALL.into_iter().find_map(|phase| Some((phase, rest.strip_prefix(&phase.to_string())?)));
            let (phase, after) = next.filter(|(phase, _)| !phases.contains(phase)).ok_or_else(|| bad(word, PHASES))?;
            phases.push(phase);
            rest = after.trim_start_matches([',', ' ']);
        }
        if phases.is_empty() { Err(bad(word, PHASES)) } else { Ok(Self(phases)) }
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|phase| phase.fmt(f))
    }
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub DeviceKind);

const KINDS: [(&str, DeviceKind); 4] = [
    ("ev", DeviceKind::Ev),
    ("heat_pump", DeviceKind::HeatPump),
    ("battery", DeviceKind::Battery),
    ("other", DeviceKind::Other),
];

impl FromStr for Kind {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        let kind = KINDS.into_iter().find(|(name, _)| *name == word);
        kind.map(|(_, kind)| Self(kind)).ok_or_else(|| bad(word, "ev, heat_pump, battery or other"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.into_iter().find(|(_, kind)| *kind == self.0).map_or("other", |(name, _)| name))
    }
}

/// What measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MeterWord {
    /// INA219 at these addresses, one for each phase.
    Ina219(Vec<u8>),
    /// Sensors that Linux reads, one for each phase: folders or devices such as `1-0040`. None: the only one there is.
    Hwmon(Vec<String>),
    /// None, but this constant for each phase.
    None(Vec<Current>),
}

const METERS: &str = "ina219:ADDRESS,… such as ina219:0x40,0x41,0x44, hwmon[:DEVICE,…] such as hwmon:1-0040, or none:MA,… such as none:0,0,0";

impl MeterWord {
    /// How many phases it measures.
    pub fn phases(&self) -> usize {
        match self {
            Self::Ina219(addresses) => addresses.len(),
            Self::Hwmon(sensors) => sensors.len().max(1),
            Self::None(constants) => constants.len(),
        }
    }

    /// Whether what it shows is to be scaled.
    pub fn has_scale(&self) -> bool {
        !matches!(self, Self::None(_))
    }
}

impl FromStr for MeterWord {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        let wrong = || bad(word, METERS);
        let (kind, rest) = word.split_once(':').map_or((word, None), |(kind, rest)| (kind, Some(rest)));
        let parts = || rest.into_iter().flat_map(|rest| rest.split(',')).map(str::trim);
        let full = parts().count() > 0 && parts().all(|part| !part.is_empty());
        match kind {
            "ina219" if full => {
                let address = |part: &str| match part.strip_prefix("0x") {
                    Some(hex) => u8::from_str_radix(hex, 16),
                    None => part.parse(),
                };
                parts().map(address).collect::<Result<_, _>>().map(Self::Ina219).map_err(|_| wrong())
            }
            "hwmon" if full || rest.is_none() => Ok(Self::Hwmon(parts().map(str::to_owned).collect())),
            "none" if full => parts().map(str::parse).collect::<Result<_, _>>().map(Self::None).map_err(|_| wrong()),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for MeterWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, parts): (_, Vec<String>) = match self {
            Self::Ina219(addresses) => ("ina219", addresses.iter().map(|address| format!("{address:#04x}")).collect()),
            Self::Hwmon(sensors) => ("hwmon", sensors.clone()),
            Self::None(constants) => ("none", constants.iter().map(Current::to_string).collect()),
        };
        let colon = if parts.is_empty() { "" } else { ":" };
        write!(f, "{kind}{colon}{}", parts.join(","))
    }
}

/// What limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActuatorWord {
    /// The control pilot of a charge point.
    ControlPilot,
    /// A lamp or motor on PWM.
    Pwm,
    /// A contactor on this line.
    Relay(u32),
    /// Nothing: the limit is only told.
    None,
}

impl FromStr for ActuatorWord {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        match word {
            "control-pilot" => Ok(Self::ControlPilot),
            "pwm" => Ok(Self::Pwm),
            "none" => Ok(Self::None),
            other => other
                .strip_prefix("relay:")
                .and_then(|line| line.parse().ok())
                .map(Self::Relay)
                .ok_or_else(|| bad(word, "control-pilot, pwm, relay:LINE such as relay:17, or none")),
        }
    }
}

impl fmt::Display for ActuatorWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ControlPilot => f.write_str("control-pilot"),
            Self::Pwm => f.write_str("pwm"),
            Self::Relay(line) => write!(f, "relay:{line}"),
            Self::None => f.write_str("none"),
        }
    }
}

/// A device that a transformer leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceWord {
    /// Its name.
    pub name: Name,
    /// The phases that it is connected to.
    pub phases: Phases,
    /// What it may draw when nobody leads it, if that is another than the others'.
    pub failsafe: Option<Current>,
}

const DEVICE: &str = "NAME:PHASES or NAME:PHASES:FAILSAFE_MA, such as cp-1:L1L2L3 or heat-pump-1:L1L2L3:0";

impl FromStr for DeviceWord {
    type Err = BadWord;

    fn from_str(word: &str) -> Result<Self, BadWord> {
        let wrong = || bad(word, DEVICE);
        let mut parts = word.split(':');
        let name = parts.next().and_then(|name| name.parse().ok()).ok_or_else(wrong)?;
        let phases = parts.next().and_then(|phases| phases.parse().ok()).ok_or_else(wrong)?;
        let failsafe = parts.next().map(|failsafe| failsafe.parse().map_err(|_| wrong())).transpose()?;
        if parts.next().is_some() { Err(wrong()) } else { Ok(Self { name, phases, failsafe }) }
    }
}

impl fmt::Display for DeviceWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, self.phases)?;
        self.failsafe.map_or(Ok(()), |failsafe| write!(f, ":{failsafe}"))
    }
}

/// All devices of a transformer: none as an empty line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceWords(pub Vec<DeviceWord>);

impl FromStr for DeviceWords {
    type Err = BadWord;

    fn from_str(words: &str) -> Result<Self, BadWord> {
        let words = words.split([' ', ',']).filter(|word| !word.is_empty());
        Ok(Self(words.map(str::parse).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for DeviceWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(DeviceWord::to_string).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn reads_back<T: FromStr<Err: Debug> + fmt::Display>(words: &[&str]) {
        for word in words {
            assert_eq!(word.parse::<T>().unwrap().to_string(), *word);
        }
    }

    fn is_none<T: FromStr<Err = BadWord> + Debug>(words: &[&str]) {
        for word in words {
            let error = word.parse::<T>().unwrap_err().to_string();
            assert!(error.contains(&format!("{word:?}: expected ")), "{error}");
        }
    }

    #[test]
    fn each_word_reads_back_as_it_was_written() {
        reads_back::<Current>(&["0", "6000"]);
        reads_back::<Phases>(&["L1", "L3L1L2"]);
        reads_back::<Kind>(&["ev", "heat_pump", "battery", "other"]);
        reads_back::<MeterWord>(&[
            "ina219:0x40,0x41,0x44",
            "hwmon",
            "hwmon:1-0040,/sys/class/hwmon/hwmon1",
            "none:0,500",
        ]);
        reads_back::<ActuatorWord>(&["control-pilot", "pwm", "relay:17", "none"]);
        reads_back::<DeviceWords>(&["cp-1:L1L2L3 heat-pump-1:L2:0", ""]);
        assert_eq!("L1, L2".parse::<Phases>().unwrap().to_string(), "L1L2");
        assert_eq!("ina219:64".parse::<MeterWord>().unwrap().to_string(), "ina219:0x40");
    }

    #[test]
    fn what_means_nothing_is_said_with_what_was_expected() {
        is_none::<Current>(&["6A", "-1", ""]);
        is_none::<Phases>(&["", "L1L1", "L4", "1"]);
        is_none::<Kind>(&["car", "EV"]);
        is_none::<MeterWord>(&[
            "ina219",
            "ina219:",
            "ina219:0x400",
            "hwmon:",
            "none",
            "none:x",
            "mqtt",
            "ina219:0x40,",
        ]);
        is_none::<ActuatorWord>(&["relay", "relay:x", "mqtt", ""]);
        is_none::<DeviceWord>(&["cp-1", "CP:L1", "cp-1:L4", "cp-1:L1:x", "cp-1:L1:0:0"]);
    }
}
