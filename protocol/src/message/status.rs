//! Birth and death of a device: who it is and what it can.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::{Phase, Session};
use crate::units::{MilliAmps, Millis, UnixMillis};

/// Who a certificate says somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Measures the street and grants leases.
    Transformer,
    /// Draws current by lease.
    Device,
    /// Writes the log.
    Anchor,
    /// A person who may command.
    Operator,
    /// A person who may look at the transformer.
    Guest,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::Transformer, Self::Device, Self::Anchor, Self::Operator, Self::Guest];

    /// The role's name in messages and certificates.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Device => "device",
            Self::Anchor => "anchor",
            Self::Operator => "operator",
            Self::Guest => "guest",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It has just been born, or is back.
    Online,
    /// It said goodbye, or the broker says it is gone. This frees no lease.
    Offline,
}

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A charge point for an electric vehicle.
    Ev,
    /// A heat pump.
    HeatPump,
    /// A battery.
    Battery,
    /// Anything else.
    Other,
}

/// What a controllable device can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What it is.
    pub kind: DeviceKind,
    /// The phases it is connected to, in the order of its own meter.
    pub phases: Vec<Phase>,
    /// Less than this per phase is not usable: below it, the device draws nothing.
    pub min_ma: MilliAmps,
    /// The most it can draw per phase.
    pub max_ma: MilliAmps,
    /// What it draws at most per phase without a live lease.
    pub failsafe_ma: MilliAmps,
    /// 0 goes first, 9 last.
    pub priority: u8,
    /// The only values it can draw, ascending, if it cannot draw any from minimum to maximum: one for a device that is
    /// on or off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps_ma: Vec<MilliAmps>,
    /// Once on, it should stay on for so long.
    #[serde(default, skip_serializing_if = "Millis::is_zero")]
    pub min_on_ms: Millis,
    /// Once stopped by its transformer, it must stay off for so long.
    #[serde(default, skip_serializing_if = "Millis::is_zero")]
    pub min_off_ms: Millis,
}

impl Capabilities {
    /// A device that takes any current from `min_ma` to `max_ma`, of middle priority, with nothing reserved for it.
    pub fn any_current(kind: DeviceKind, phases: Vec<Phase>, min_ma: MilliAmps, max_ma: MilliAmps) -> Self {
        Self {
            kind,
            phases,
            min_ma,
            max_ma,
            failsafe_ma: MilliAmps::ZERO,
            priority: 5,
            steps_ma: Vec::new(),
            min_on_ms: Millis::ZERO,
            min_off_ms: Millis::ZERO,
        }
    }
}

/// What somebody is, with what each needs to say about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Part {
    /// A controllable device.
    Device(Capabilities),
    /// The transformer.
    Transformer {
        /// The phases it measures.
        phases: Vec<Phase>,
    },
    /// The anchor.
    Anchor {},
}

impl Part {
    /// The role that the certificate must name for this.
    pub fn role(&self) -> Role {
        match self {
            Self::Device(_) => Role::Device,
            Self::Transformer { .. } => Role::Transformer,
            Self::Anchor {} => Role::Anchor,
        }
    }
}

/// The session before this one, so that the log shows whether something of it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousSession {
    /// The session.
    pub session: Session,
    /// Its last sequence number.
    pub seq: u64,
}

/// Birth (`online`), goodbye (`offline` with `seq`) or last will (`offline` with `ends`, without `seq`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether it is there.
    pub state: Presence,
    /// What it is.
    #[serde(flatten)]
    pub part: Part,
    /// Name and version of the software.
    pub software: String,
    /// How many times faster than the clock the simulated plant runs; 1 outside simulations.
    pub time_factor: u32,
    /// In a simulation: the plant's own time at `time_ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plant_time_ms: Option<UnixMillis>,
    /// In a last will: the `seq` of the birth that it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<u64>,
    /// In a birth: the session before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSession>,
    /// The X.509 certificate that says whose message key this is: DER in base64.
    pub certificate: String,
}
