//! The bodies of all messages.
//!
//! A payload is a [`Message`]: the members that every signed message has, then those of its body, then the signature
//! (added by [`crate::seal`]). Arrays run over the device's own phases in the order in which its status names them.
//! Unknown members are ignored, so that newer agents can say more to older ones.

mod event;
mod status;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use event::Event;
pub use status::{Capabilities, DeviceKind, Part, Presence, PreviousSession, Role, Status};

use crate::topic::Name;
use crate::units::{MilliAmps, MilliVolts, MilliWattHours, Millis, UnixMillis};

/// One run of an agent: 64 random bits, new at each start; 16 hex digits in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Session(pub u64);

/// Text that is not a [`Session`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a session: expected 16 of the hex digits 0-9 and a-f")]
pub struct BadSession(String);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Session {
    type Err = BadSession;

    fn from_str(text: &str) -> Result<Self, BadSession> {
        let hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match u64::from_str_radix(text, 16) {
            Ok(bits) if text.len() == 16 && text.bytes().all(hex) => Ok(Self(bits)),
            _ => Err(BadSession(text.chars().take(40).collect())),
        }
    }
}

impl TryFrom<String> for Session {
    type Error = BadSession;

    fn try_from(text: String) -> Result<Self, BadSession> {
        text.parse()
    }
}

impl From<Session> for String {
    fn from(session: Session) -> Self {
        session.to_string()
    }
}

/// A phase of the three-phase grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The first.
    L1,
    /// The second.
    L2,
    /// The third.
    L3,
}

impl Phase {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::L1, Self::L2, Self::L3];

    /// 0, 1 or 2: where this phase stands in an array over all three.
    pub fn index(self) -> usize {
        match self {
            Self::L1 => 0,
            Self::L2 => 1,
            Self::L3 => 2,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
        })
    }
}

/// Names one message: what was answered, or what is obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The session in which it was sent.
    pub session: Session,
    /// Its sequence number there.
    pub seq: u64,
}

/// What every signed message says before its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Who says it.
    pub from: Name,
    /// In which run.
    pub session: Session,
    /// 1, 2, 3 … in that session over all topics; absent where the message is not logged, and in a last will.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// When, as the sender believes.
    pub time_ms: UnixMillis,
}

/// A whole message without its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<B> {
    /// Who, in which run, the how manieth, when.
    #[serde(flatten)]
    pub header: Header,
    /// What.
    #[serde(flatten)]
    pub body: B,
}

/// What a device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It wants no current.
    Idle,
    /// It wants current and may not have it.
    Waiting,
    /// It draws.
    Charging,
    /// It has no live lease and obeys its failsafe limit.
    Failsafe,
    /// Its meter or its actuator does not work.
    Fault,
    /// A command switched it off.
    Off,
}

/// What a device measures and obeys now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// Time since the device's agent started.
    pub uptime_ms: Millis,
    /// What it is doing.
    pub state: Activity,
    /// Measured current per phase.
    pub current_ma: Vec<MilliAmps>,
    /// Voltage per phase.
    pub voltage_mv: Vec<MilliVolts>,
    /// How old that is, if the meter is late: then nobody knows what flows now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_ms: Option<Millis>,
    /// The limit obeyed now, per phase.
    pub limit_ma: MilliAmps,
    /// The setpoint that this limit comes from; absent in failsafe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obeys: Option<Reference>,
    /// The actuator is set, and the measured current has followed or had its time to.
    pub settled: bool,
    /// How long the lease still lasts; 0 in failsafe.
    pub lease_ms: Millis,
    /// The current wanted per phase; 0 if none.
    pub demand_ma: MilliAmps,
    /// Energy drawn since the meter was installed.
    pub energy_mwh: MilliWattHours,
    /// Its priority, if a command made it another than its status says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// A leased limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setpoint {
    /// The measurement that this answers. The lease runs from when the device sent it.
    pub answers: Reference,
    /// The limit per phase.
    pub limit_ma: MilliAmps,
    /// How long the lease lasts from then on.
    pub ttl_ms: Millis,
    /// Do not raise: apply the smaller of this and what is obeyed now.
    pub hold: bool,
    /// Higher for each start of the transformer.
    pub epoch: u64,
    /// What bound the limit.
    pub reason: Reason,
}

/// What bound a limit: why a device gets what it gets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Reason {
    /// It gets all that it wants.
    Demand,
    /// It gets the most that it can take.
    Maximum,
    /// This phase of the transformer is full.
    Phase(Phase),
    /// This fuse is full.
    Fuse(Name),
    /// It gets its minimum, and more is not there.
    Minimum,
    /// Less than its minimum is left: its turn comes later.
    Turn,
    /// It rises step by step.
    Ramp,
    /// A grid operator's order.
    Dimming,
    /// A person's command.
    Operator,
    /// Something is wrong, and everybody goes to the safe limit.
    Failsafe,
}

/// Text that is not a [`Reason`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no reason for a limit that we know")]
pub struct BadReason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demand => f.write_str("demand"),
            Self::Maximum => f.write_str("maximum"),
            Self::Phase(phase) => write!(f, "phase {phase}"),
            Self::Fuse(name) => write!(f, "fuse {name}"),
            Self::Minimum => f.write_str("minimum"),
            Self::Turn => f.write_str("turn"),
            Self::Ramp => f.write_str("ramp"),
            Self::Dimming => f.write_str("dimming"),
            Self::Operator => f.write_str("operator"),
            Self::Failsafe => f.write_str("failsafe"),
        }
    }
}

impl TryFrom<String> for Reason {
    type Error = BadReason;

    fn try_from(text: String) -> Result<Self, BadReason> {
        Ok(match text.as_str() {
            "demand" => Self::Demand,
            "maximum" => Self::Maximum,
            "phase L1" => Self::Phase(Phase::L1),
            "phase L2" => Self::Phase(Phase::L2),
            "phase L3" => Self::Phase(Phase::L3),
            "minimum" => Self::Minimum,
            "turn" => Self::Turn,
            "ramp" => Self::Ramp,
            "dimming" => Self::Dimming,
            "operator" => Self::Operator,
            "failsafe" => Self::Failsafe,
            other => match other.strip_prefix("fuse ").and_then(|name| name.parse().ok()) {
                Some(name) => Self::Fuse(name),
                None => return Err(BadReason(text)),
            },
        })
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.to_string()
    }
}

/// The transformer's summary; arrays over its phases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// The limit.
    pub limit_ma: Vec<MilliAmps>,
    /// The whole load.
    pub load_ma: Vec<MilliAmps>,
    /// The part of it that no device accounts for.
    pub uncontrolled_ma: Vec<MilliAmps>,
    /// Limit less load.
    pub headroom_ma: Vec<MilliAmps>,
    /// How many devices are enrolled.
    pub devices: u32,
    /// How much of what devices want they are not allowed, in percent.
    pub held_back_percent: u8,
    /// What it may carry, all phases together, in watts: what `set/limit` changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_w: Option<u64>,
}

/// The newest log head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// How many entries it has.
    pub tree_size: u64,
    /// Its root hash, base64.
    pub root_hash: String,
    /// The signed note (C2SP tlog-checkpoint), as it stands in the log's folder.
    pub note: String,
    /// The newest record on the ledger, once there is one. It vouches for this head or one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<LedgerReceipt>,
    /// What there is to pay records with, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purse: Option<LedgerPurse>,
}

/// A log head on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReceipt {
    /// `mainnet`, `testnet`, `devnet`, `localnet` or `mock`; the last is not IOTA.
    pub network: String,
    /// The id of the audit trail.
    pub trail: String,
    /// The record's number in it, from 0.
    pub record: u64,
    /// How many entries it vouches for: this head's, or those of one before.
    pub tree_size: u64,
    /// The digest of the transaction that added it.
    pub transaction: String,
    /// When, on the ledger's clock.
    pub added_ms: UnixMillis,
    /// A page that shows the transaction.
    pub explorer: String,
}

/// What pays for records on the ledger. A NANO is 10^-9 IOTA. What exceeds 2^53 - 1 NANOS is said as that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerPurse {
    /// The address that pays: where money is to be sent.
    pub address: String,
    /// What it holds.
    pub balance_nanos: u64,
    /// What all records have cost so far.
    pub spent_nanos: u64,
    /// What one costs: the mean of the last hundred. Absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_nanos: Option<u64>,
    /// For how many whole days the balance lasts. Absent before the first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days_left: Option<u64>,
}

/// Which messages of a device are durable at the anchor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The device's session that this is about.
    pub of: Session,
    /// Up to here, all but the missing are on disk or declared lost.
    pub through: u64,
    /// Ranges, first and last inclusive, that the anchor lacks; at most 32.
    pub missing: Vec<(u64, u64)>,
    /// The size that the log has, or will have, with all of them in it.
    pub tree_size: u64,
}

impl Ack {
    /// The most ranges that one ack names.
    pub const MOST_RANGES: usize = 32;
}

/// A message that the anchor lacks, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The topic on which it was published first.
    pub topic: String,
    /// Its payload, with its signature.
    pub payload: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_reads_back_as_it_was_written() {
        let fuse = Reason::Fuse("garage".parse().unwrap());
        let phases = Phase::ALL.map(Reason::Phase);
        let plain = [
            Reason::Demand,
            Reason::Maximum,
            Reason::Minimum,
            Reason::Turn,
            Reason::Ramp,
            Reason::Dimming,
            Reason::Operator,
            Reason::Failsafe,
        ];
        for reason in phases.into_iter().chain(plain).chain([fuse]) {
            assert_eq!(Reason::try_from(reason.to_string()).unwrap(), reason);
        }
        assert!(Reason::try_from("phase L4".to_owned()).is_err());
    }

    #[test]
    fn a_session_is_sixteen_lower_case_hex_digits() {
        assert_eq!("00000000000000ff".parse::<Session>().unwrap(), Session(255));
        for bad in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000fff"] {
            assert!(bad.parse::<Session>().is_err(), "{bad}");
        }
    }
}
