//! Names and topics: `grid/{site}/{device}/{kind}`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a site or a device: 1 to 32 of `a` to `z`, `0` to `9` and `-`.
///
/// Names are parts of topics, certificates and file names, so nothing else is let in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Text that is not a [`Name`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to 32 of the characters a-z, 0-9 and '-', for example \"cp-3\"")]
pub struct BadName(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName(text.chars().take(64).collect()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a topic carries: the last part of its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Birth and death of a device; retained, and also its last will.
    Status,
    /// Current, voltage, the limit obeyed now, demand.
    Measurement,
    /// A leased limit from the transformer to this device.
    Setpoint,
    /// Overload, failsafe, charging started or ended, and the like.
    Event,
    /// The transformer's summary, once a second.
    Balance,
    /// The newest log head; retained.
    Checkpoint,
    /// Which of this device's messages are on the anchor's disk. Not logged.
    Ack,
    /// A message that the anchor lacks, wrapped. Logged unwrapped.
    Replay,
    /// Which certificates are revoked, signed by the site's authority, whose name is `ca`; retained.
    Revoked,
    /// A command of a person or a home automation: `set/limit` and the like. Not signed.
    Set(Name),
}

impl Kind {
    /// Whether the anchor writes messages of this kind to the log as they are.
    pub fn is_logged(&self) -> bool {
        match self {
            Self::Status
            | Self::Measurement
            | Self::Setpoint
            | Self::Event
            | Self::Balance
            | Self::Checkpoint
            | Self::Revoked
            | Self::Set(_) => true,
            Self::Ack | Self::Replay => false,
        }
    }

    /// Whether messages of this kind are signed: by an agent or the anchor, revocations by the site's authority.
    pub fn is_signed(&self) -> bool {
        !matches!(self, Self::Set(_))
    }

    /// Whether the sender is the device that the topic names, rather than somebody who speaks to it.
    pub fn is_from_its_device(&self) -> bool {
        match self {
            Self::Status
            | Self::Measurement
            | Self::Event
            | Self::Balance
            | Self::Checkpoint
            | Self::Replay
            | Self::Revoked => true,
            Self::Setpoint | Self::Ack | Self::Set(_) => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Measurement => f.write_str("measurement"),
            Self::Setpoint => f.write_str("setpoint"),
            Self::Event => f.write_str("event"),
            Self::Balance => f.write_str("balance"),
            Self::Checkpoint => f.write_str("checkpoint"),
            Self::Ack => f.write_str("ack"),
            Self::Replay => f.write_str("replay"),
            Self::Revoked => f.write_str("revoked"),
            Self::Set(what) => write!(f, "set/{what}"),
        }
    }
}

/// A full topic of the grid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// The street, car park or model.
    pub site: Name,
    /// The device that the message comes from or goes to.
    pub device: Name,
    /// What is said.
    pub kind: Kind,
}

/// A topic that is not one of the grid's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTopic {
    /// It has another shape.
    #[error("{0:?} is not a topic of the grid: expected grid/<site>/<device>/<kind>")]
    Shape(String),
    /// A part of it is not a name.
    #[error("in topic {topic:?}: {source}")]
    Name {
        /// The whole topic.
        topic: String,
        /// Which part, and why.
        source: BadName,
    },
    /// The kind is none that we know.
    #[error("topic {0:?} ends in no kind of message that the grid knows")]
    Kind(String),
}

impl Topic {
    /// The topic of this kind for a device.
    pub fn new(site: &Name, device: &Name, kind: Kind) -> Self {
        Self { site: site.clone(), device: device.clone(), kind }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "grid/{}/{}/{}", self.site, self.device, self.kind)
    }
}

impl FromStr for Topic {
    type Err = BadTopic;

    fn from_str(text: &str) -> Result<Self, BadTopic> {
        let shown = || text.chars().take(160).collect::<String>();
        let named = |source| BadTopic::Name { topic: shown(), source };
        let mut parts = text.split('/');
        let (Some("grid"), Some(site), Some(device), Some(kind)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadTopic::Shape(shown()));
        };
        let what = parts.next();
        if parts.next().is_some() {
            return Err(BadTopic::Shape(shown()));
        }
        let kind = match (kind, what) {
            ("status", None) => Kind::Status,
            ("measurement", None) => Kind::Measurement,
            ("setpoint", None) => Kind::Setpoint,
            ("event", None) => Kind::Event,
            ("balance", None) => Kind::Balance,
            ("checkpoint", None) => Kind::Checkpoint,
            ("ack", None) => Kind::Ack,
            ("replay", None) => Kind::Replay,
            ("revoked", None) => Kind::Revoked,
            ("set", Some(what)) => Kind::Set(what.parse().map_err(named)?),
            (_, _) => return Err(BadTopic::Kind(shown())),
        };
        Ok(Self { site: site.parse().map_err(named)?, device: device.parse().map_err(named)?, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_of_the_design_reads_back_as_it_was_written() {
        for text in [
            "grid/demo/cp-3/status",
            "grid/demo/cp-3/measurement",
            "grid/demo/cp-3/setpoint",
            "grid/demo/cp-3/event",
            "grid/demo/trafo-1/set/limit",
            "grid/demo/trafo-1/balance",
            "grid/demo/anchor-1/checkpoint",
            "grid/demo/cp-3/ack",
            "grid/demo/cp-3/replay",
            "grid/demo/ca/revoked",
        ] {
            assert_eq!(text.parse::<Topic>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_topic_of_another_shape_is_refused_and_named() {
        for text in [
            "",
            "grid",
            "grid/demo/cp-3",
            "grid/demo/cp-3/status/x",
            "grid/demo/cp-3/set",
            "grid/demo/cp-3/set/limit/x",
            "grid/demo/CP-3/status",
            "grid//cp-3/status",
            "home/demo/cp-3/status",
            "grid/demo/cp-3/gossip",
        ] {
            let error = text.parse::<Topic>().unwrap_err().to_string();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn a_name_is_short_and_plain() {
        assert!("cp-3".parse::<Name>().is_ok());
        assert!("a".repeat(32).parse::<Name>().is_ok());
        for bad in ["", "CP", "a b", "ü", &"a".repeat(33), "a/b", "+"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
