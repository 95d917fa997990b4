//! What `grid-agent status` tells.

use std::collections::BTreeMap;

use grid_protocol::message::Session;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use serde::{Deserialize, Serialize};

use super::keeping::Outbox;
use super::message::Worth;
use crate::view::View;

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many messages.
    pub messages: u64,
    /// How many bytes: on disk as far as can be told without reading them.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, messages: u64, bytes: u64) {
        self.messages += messages;
        self.bytes += bytes;
    }
}

/// What waits of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionReport {
    /// Which.
    pub session: Session,
    /// Whether the agent speaks in it now.
    pub is_current: bool,
    /// In memory.
    pub memory: Amount,
    /// On disk.
    pub disk: Amount,
    /// When the oldest of them was said; of those on disk, the oldest of their segment.
    pub oldest_ms: Option<UnixMillis>,
}

/// How the disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskReport {
    /// None is configured.
    None,
    /// It takes what should be written.
    Works,
    /// It does not, and why.
    Fails(String),
}

/// What waits for the anchor's acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whose.
    pub name: Name,
    /// Whether the agent runs. If not, this is what is on disk.
    pub is_running: bool,
    /// Whether the agent is connected to the broker.
    pub broker_is_there: bool,
    /// Whether the anchor is there, as far as the agent has heard.
    pub anchor_is_there: bool,
    /// What the agent sees, if it runs and has seen something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<View>,
    /// All that waits in memory.
    pub memory: Amount,
    /// All that waits on disk.
    pub disk: Amount,
    /// How the disk is.
    pub disk_state: DiskReport,
    /// When the oldest of it was said.
    pub oldest_ms: Option<UnixMillis>,
    /// By session.
    pub sessions: Vec<SessionReport>,
    /// How often messages were said again since the start.
    pub replayed: u64,
    /// How many messages were lost for want of room since the start.
    pub lost: u64,
    /// The most that any of them was worth.
    pub worst_lost: Option<Worth>,
    /// How many messages are lost and not declared yet.
    pub lost_undeclared: u64,
}

/// What the outbox does not know of itself.
#[derive(Clone, Debug)]
pub struct Around {
    /// Whose it is.
    pub name: Name,
    /// Whether the agent runs.
    pub is_running: bool,
    /// Whether there is a connection.
    pub broker_is_there: bool,
    /// Whether the anchor was heard of.
    pub anchor_is_there: bool,
    /// What it sees.
    pub view: Option<View>,
}

impl Outbox {
    /// What waits, as of now.
    pub fn report(&self, around: Around) -> Report {
        let mut sessions: BTreeMap<Session, SessionReport> = BTreeMap::new();
        let new = |session| SessionReport {
            session,
            is_current: self.sessions.is_current(session),
            memory: Amount::default(),
            disk: Amount::default(),
            oldest_ms: None,
        };
        let older = |oldest: Option<UnixMillis>, than| Some(oldest.map_or(than, |oldest: UnixMillis| oldest.min(than)));
        for message in self.memory.messages() {
            let report = sessions.entry(message.session).or_insert_with(|| new(message.session));
            report.memory.add(1, message.payload.len() as u64);
            report.oldest_ms = older(report.oldest_ms, message.said_at);
        }
        for segment in self.disk.iter().flat_map(|disk| disk.shelf.segments()).filter(|segment| segment.waiting > 0) {
            for (session, waiting) in segment.waits(&self.sessions) {
                let report = sessions.entry(session).or_insert_with(|| new(session));
                let part = u128::from(segment.waiting_bytes()) * u128::from(waiting.count());
                report.disk.add(waiting.count(), (part / u128::from(segment.waiting)) as u64);
                report.oldest_ms = older(report.oldest_ms, segment.oldest);
            }
        }
        let (mut memory, mut disk) = (Amount::default(), Amount::default());
        for report in sessions.values() {
            memory.add(report.memory.messages, report.memory.bytes);
            disk.add(report.disk.messages, report.disk.bytes);
        }
        let Around { name, is_running, broker_is_there, anchor_is_there, view } = around;
        Report {
            name,
            is_running,
            broker_is_there,
            anchor_is_there,
            view,
            memory,
            disk,
            disk_state: match &self.disk {
                None => DiskReport::None,
                Some(disk) => disk.trouble.clone().map_or(DiskReport::Works, DiskReport::Fails),
            },
            oldest_ms: sessions.values().filter_map(|report| report.oldest_ms).min(),
            sessions: sessions.into_values().collect(),
            replayed: self.replayed,
            lost: self.lost,
            worst_lost: self.worst_lost,
            lost_undeclared: self.losses.count_undeclared(),
        }
    }
}
