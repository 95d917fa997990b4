//! A message that waits for its acknowledgement.

use std::sync::Arc;

use grid_protocol::message::Session;
use grid_protocol::topic::{Kind, Topic};
use grid_protocol::units::UnixMillis;
use serde::{Deserialize, Serialize};

/// A message as it was signed, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its session.
    pub session: Session,
    /// Its place in the session.
    pub seq: u64,
    /// When it was said, on the civil clock.
    pub said_at: UnixMillis,
    /// Where it was published first.
    pub topic: Topic,
    /// The signed bytes.
    pub payload: Vec<u8>,
}

/// Messages go to disk and out again without being copied.
pub type Shared = Arc<Message>;

/// What the log would miss least goes first when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worth {
    /// Measurements, and balances, which are a transformer's: the next one says nearly the same.
    Measurement,
    /// Setpoints: they decide disputes.
    Setpoint,
    /// Events and statuses are few, and tell what happens only once.
    Lasting,
}

impl Worth {
    /// What a message of this kind is worth.
    pub fn of(kind: &Kind) -> Self {
        match kind {
            Kind::Measurement | Kind::Balance => Self::Measurement,
            Kind::Setpoint => Self::Setpoint,
            Kind::Status | Kind::Event | Kind::Checkpoint | Kind::Ack | Kind::Replay | Kind::Revoked | Kind::Set(_) => {
                Self::Lasting
            }
        }
    }
}

impl Message {
    /// What the log would miss with it.
    pub fn worth(&self) -> Worth {
        Worth::of(&self.topic.kind)
    }
}
