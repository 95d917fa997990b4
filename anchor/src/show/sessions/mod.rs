//! Who charged when, how much, and what held them back.
//!
//! | module | what it does |
//! |---|---|
//! | `order` | what an agent said, in the order in which it said it, however late it came |
//! | `setpoints` | the reason of the setpoint that a device obeyed |
//! | `run` | what of a charging session one run of an agent tells: a session may outlive a run |
//! | `genuine` | which messages count, if somebody vouches for them |
//! | `table` | the sessions as a table and as CSV |
//!
//! A charging session begins with the event `charging_started`, when the device draws, and ends with `charging_ended`,
//! when it wants no more. Where one of them is missing, measurements say when the device drew and wanted current, and
//! how much it drew, and the session is marked. If the agent is started again in between, what it wants then tells
//! whether the session goes on; what flowed while no agent ran is not known and not counted.
//!
//! Held back is a device while what it may draw is less than what it asks for, from when it wants current until it wants
//! no more, also before it draws. Each measurement names the setpoint that it obeys, and that one's `reason` is what
//! held the device back until the next measurement, but at most 15 seconds.
//!
//! Times are the log's, on the anchor's clock. Energy is what the device's meter counted. In a simulation the plant's time
//! runs faster by its factor; then power is energy by the plant's time, as its meter would show it.

mod genuine;
mod order;
mod run;
mod setpoints;
mod table;

use std::collections::{BTreeMap, HashMap};

use grid_protocol::message::{Event, Header, Measurement, Message, Reference, Session, Setpoint, Status};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::{Millis, UnixMillis};
use serde::Serialize;

pub use genuine::Genuine;
pub use table::{CsvLine, legend, table};

use super::{Extent, Selection, ShowError, date};
use crate::entry::{Entry, Payload};
use crate::policy::Policy;
use run::{End, Part, Run, Said, What};
use setpoints::Setpoints;

/// What one reason is to blame for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The `reason` of the setpoints in force; `fault`, `failsafe`, or `unknown` where the log has no such setpoint.
    pub reason: String,
    /// How long.
    pub ms: Millis,
    /// The same in percent of the time in which the device wanted current.
    pub percent: u64,
}

/// What a session's end is known from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The event `charging_ended`.
    Event,
    /// Measurements: there is no such event.
    Measurement,
    /// It has not ended, as far as the log or the range goes.
    NotYet,
}

/// One charging session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChargingSession {
    /// The device.
    pub device: Name,
    /// When it began to draw, as a date.
    pub start: String,
    /// The same in milliseconds since 1970.
    pub start_ms: UnixMillis,
    /// It was drawing already then: the session began before the log or the range.
    pub began_before: bool,
    /// When it ended, or was last heard of.
    pub end: String,
    /// The same in milliseconds since 1970.
    pub end_ms: UnixMillis,
    /// What the end is known from.
    pub ended_by: Ending,
    /// How long it wanted current before it drew any.
    pub waited_ms: Millis,
    /// From start to end.
    pub duration_ms: Millis,
    /// What it drew.
    pub energy_wh: i64,
    /// Energy by duration, in a simulation by the plant's time.
    pub average_w: i64,
    /// How long it was held back, waiting included.
    pub held_back_ms: Millis,
    /// The same in percent of waiting and duration together.
    pub held_back_percent: u64,
    /// By what, the most first.
    pub held_back_by: Vec<Share>,
    /// How often its agent was started again meanwhile.
    pub restarts: u32,
    /// How many times faster than the clock the plant ran; 1 outside simulations.
    pub time_factor: u32,
}

/// Reads the charging sessions in a log: of one device or all, in the range that is selected. With a policy only messages
/// count whose signatures hold, by certificates that are not revoked.
pub fn read(log: &Extent, selection: &Selection, policy: Option<&Policy>) -> Result<Vec<ChargingSession>, ShowError> {
    let mut genuine = policy.map(|policy| Genuine::new(policy, log)).transpose()?;
    let mut sessions = Sessions::new(selection.from.is_none() && !log.is_cut());
    log.entries(|_, entry| {
        if let Some(genuine) = genuine.as_mut().filter(|genuine| genuine.is_teaching(&entry.topic)) {
            genuine.is(entry);
            return true;
        }
        let Ok(topic) = entry.topic.parse::<Topic>() else { return true };
        let is_wanted = selection.device.as_ref().is_none_or(|device| *device == topic.device)
            && selection.is_in_range(entry.received_ms);
        // Every status counts, also from before the range: it says whose key is whose.
        let counts = is_wanted || topic.kind == Kind::Status;
        if counts && genuine.as_mut().is_none_or(|genuine| genuine.is(entry)) {
            if is_wanted {
                sessions.add(entry);
            } else {
                sessions.note_factor(entry);
            }
        }
        true
    })?;
    Ok(sessions.finish())
}

/// Makes charging sessions of the entries of a log.
#[derive(Debug)]
pub struct Sessions {
    first: Option<u64>,
    devices: BTreeMap<Name, Device>,
}

#[derive(Debug)]
struct Device {
    runs: HashMap<Session, Run>,
    setpoints: Setpoints,
    time_factor: u32,
}

impl Default for Device {
    fn default() -> Self {
        Self { runs: HashMap::new(), setpoints: Setpoints::default(), time_factor: 1 }
    }
}

impl Sessions {
    /// Nothing is known. `whole`: the entries will be all of the log, so that every run is there from its beginning.
    pub fn new(whole: bool) -> Self {
        Self { first: whole.then_some(1), devices: BTreeMap::new() }
    }

    /// Takes an entry, in the order of the log. What is not about charging is left out.
    pub fn add(&mut self, entry: &Entry) {
        let Payload::Bytes(payload) = &entry.payload else { return };
        let Ok(topic) = entry.topic.parse::<Topic>() else { return };
        let Ok(sealed) = Sealed::parse(payload) else { return };
        let Ok(header) = sealed.read::<Header>() else { return };
        let device = self.devices.entry(topic.device.clone()).or_default();
        if topic.kind == Kind::Setpoint {
            if let (Ok(Message::<Setpoint> { body, .. }), Some(seq)) = (sealed.read(), header.seq) {
                device.setpoints.add(Reference { session: header.session, seq }, body.reason);
            }
            return;
        }
        let what = match topic.kind {
            Kind::Measurement => sealed.read::<Measurement>().ok().as_ref().map(What::from),
            Kind::Event => sealed.read::<Event>().ok().as_ref().map(What::from),
            Kind::Status => {
                device.note_factor(&sealed);
                None
            }
            Kind::Balance | Kind::Checkpoint | Kind::Ack | Kind::Replay | Kind::Revoked | Kind::Set(_) => None,
            Kind::Setpoint => return,
        };
        let (Some(seq), true) = (header.seq, header.from == topic.device) else { return };
        let said = Said { received: entry.received_ms, time: header.time_ms, what: what.unwrap_or(What::Other) };
        let run = device.runs.entry(header.session).or_insert_with(|| Run::new(self.first));
        run.add(seq, said, &device.setpoints);
    }

    /// Takes no more of a status than how fast the plant runs.
    fn note_factor(&mut self, entry: &Entry) {
        let Payload::Bytes(payload) = &entry.payload else { return };
        if let (Ok(topic), Ok(sealed)) = (entry.topic.parse::<Topic>(), Sealed::parse(payload)) {
            self.devices.entry(topic.device).or_default().note_factor(&sealed);
        }
    }

    /// All sessions, by their start.
    pub fn finish(self) -> Vec<ChargingSession> {
        let mut sessions: Vec<ChargingSession> =
            self.devices.into_iter().flat_map(|(name, device)| device.finish(&name)).collect();
        sessions.sort_by(|a, b| (a.start_ms, &a.device).cmp(&(b.start_ms, &b.device)));
        sessions
    }
}

impl Device {
    fn note_factor(&mut self, status: &Sealed) {
        if let Ok(status) = status.read::<Status>() {
            self.time_factor = status.time_factor.max(1);
        }
    }

    fn finish(self, name: &Name) -> Vec<ChargingSession> {
        let Self { runs, setpoints, time_factor } = self;
        let mut runs: Vec<_> = runs.into_values().map(|run| run.finish(&setpoints)).collect();
        runs.sort_by_key(|run| run.began);
        let mut sessions: Vec<(Part, u32)> = Vec::new();
        for run in runs {
            let mut parts = run.parts.into_iter().peekable();
            if let Some((open, restarts)) = sessions.last_mut().filter(|(part, _)| part.end == End::Open) {
                match parts.next_if(|part| part.from_first) {
                    Some(part) => {
                        open.go_on(part);
                        *restarts += 1;
                    }
                    None => open.end = End::Seen,
                }
            }
            sessions.extend(parts.map(|part| (part, 0)));
        }
        sessions.into_iter().map(|(part, restarts)| conclude(name, part, restarts, time_factor, &setpoints)).collect()
    }
}

fn conclude(device: &Name, part: Part, restarts: u32, time_factor: u32, setpoints: &Setpoints) -> ChargingSession {
    let (waited_ms, duration_ms) = (part.waited(), part.duration());
    let moment = |at: i64| UnixMillis(at.max(0).unsigned_abs());
    let (start_ms, end_ms) = (moment(part.started_at), moment(part.until));
    let millis = |span: i64| Millis(span.max(0).unsigned_abs());
    let whole = (waited_ms + duration_ms).0.max(1);
    let percent = |span: Millis| {
        let rounded = (u128::from(span.0) * 100 + u128::from(whole / 2)) / u128::from(whole);
        u64::try_from(rounded).unwrap_or(u64::MAX)
    };
    let energy_wh = part.energy.0.saturating_add(500).div_euclid(1000);
    let plant_ms = i128::from(duration_ms.0) * i128::from(time_factor);
    let average_w = i128::from(part.energy.0) * 3600 / plant_ms.max(1);
    let by = part.tally.close(setpoints);
    let mut held_back_by: Vec<Share> = by
        .into_iter()
        .map(|(reason, span)| Share { reason, ms: millis(span), percent: percent(millis(span)) })
        .collect();
    held_back_by.sort_by(|a, b| b.ms.cmp(&a.ms).then_with(|| a.reason.cmp(&b.reason)));
    let held_back_ms = held_back_by.iter().map(|share| share.ms).sum();
    ChargingSession {
        device: device.clone(),
        start: date(start_ms),
        start_ms,
        began_before: !part.start_told,
        end: date(end_ms),
        end_ms,
        ended_by: match part.end {
            End::Told => Ending::Event,
            End::Seen => Ending::Measurement,
            End::Open => Ending::NotYet,
        },
        waited_ms,
        duration_ms,
        energy_wh,
        average_w: average_w.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
        held_back_ms,
        held_back_percent: percent(held_back_ms),
        held_back_by,
        restarts,
        time_factor,
    }
}

#[cfg(test)]
mod pruned_tests;
#[cfg(test)]
mod tests;
