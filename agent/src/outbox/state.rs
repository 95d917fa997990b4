//! What the outbox knows beside the messages themselves: one small file, replaced whole.
//!
//! It may be older than the segments: what they hold beyond it is found by reading them. It is never newer.

use grid_protocol::message::Session;
use grid_protocol::sequence::Sequence;
use grid_protocol::units::UnixMillis;
use serde::{Deserialize, Serialize};

use super::losses::Lost;
use super::shelf::Segment;

/// The file's name in the outbox's folder.
pub const FILE: &str = "state.json";
const FORMAT: u32 = 2;

/// The state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// In the order in which they began.
    pub sessions: Vec<KeptSession>,
    /// What the log may not know to be lost.
    pub lost: Vec<Lost>,
    /// What the segments hold.
    pub segments: Vec<KeptSegment>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSession {
    /// Which.
    pub session: Session,
    /// Its last message as far as was known: exact if the agent ended in order.
    pub last_seq: u64,
    /// Ranges that are acknowledged or lost.
    pub settled: Vec<(u64, u64)>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSegment {
    /// Which.
    pub number: u32,
    /// The how-manieth of all that were begun.
    pub generation: u64,
    /// Up to this byte it is described here.
    pub end: u64,
    /// Nothing more is appended to it.
    pub is_full: bool,
    /// Bytes of measurements in it.
    pub measurement_bytes: u64,
    /// Bytes of setpoints in it.
    pub setpoint_bytes: u64,
    /// When its oldest message was said.
    pub oldest_ms: UnixMillis,
    /// Ranges of messages in it, by session.
    pub holds: Vec<(Session, Vec<(u64, u64)>)>,
}

impl State {
    /// The state of these.
    pub fn new(sessions: Vec<KeptSession>, lost: Vec<Lost>, segments: Vec<KeptSegment>) -> Self {
        Self { format: FORMAT, sessions, lost, segments }
    }

    /// The file's content.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("numbers are always JSON: {error}"))
    }

    /// Reads the file's content; `None` if it is not such a file.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|state: &Self| state.format == FORMAT)
    }
}

impl KeptSegment {
    /// As the shelf has it.
    pub fn restore(&self) -> Segment {
        let set = |ranges: &[(u64, u64)]| {
            let mut set = Sequence::default();
            ranges.iter().for_each(|(first, last)| set.insert_range(*first, *last));
            set
        };
        Segment {
            number: self.number,
            generation: self.generation,
            end: self.end,
            is_full: self.is_full,
            measurement_bytes: self.measurement_bytes,
            setpoint_bytes: self.setpoint_bytes,
            oldest: self.oldest_ms,
            holds: self.holds.iter().map(|(session, ranges)| (*session, set(ranges))).collect(),
            waiting: 0,
            said: None,
        }
    }
}
