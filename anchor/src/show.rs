//! Reading a log: who said what, and ([`sessions`]) who charged when, how much, and what held them back.

pub mod sessions;

use std::borrow::Cow;
use std::path::Path;

use grid_protocol::message::{Balance, Checkpoint, Event, Header, Measurement, Message, Setpoint, Status};
use grid_protocol::revocation::Revocations;
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::{MilliAmps, UnixMillis};
use serde::Serialize;
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use crate::bundle;
use crate::checkpoint::{BadCheckpoint, read_unsigned};
use crate::entry::{self, BadEntry, Entry, Payload};
use crate::source::{FileError, Folder, ReadError, Source, SourceError, bundles, dropped_bundles, read_bundle};
use crate::tile::FULL;

/// Which entries to show.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Only those on this device's topics.
    pub device: Option<Name>,
    /// Only those of this kind: `measurement`, `set/limit` and the like.
    pub kind: Option<String>,
    /// Only those received then or later.
    pub from: Option<UnixMillis>,
    /// Only those received before.
    pub to: Option<UnixMillis>,
}

/// One entry for a person. Signatures are not checked here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its index in the log.
    pub index: u64,
    /// When it was received, as a date.
    pub time: String,
    /// The same in milliseconds since 1970.
    pub received_ms: UnixMillis,
    /// The device on whose topic it came.
    pub device: String,
    /// What kind of message.
    pub kind: String,
    /// Who says that he sent it.
    pub from: String,
    /// What it says, in short.
    pub message: String,
}

/// Why a log cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// It cannot be told where it begins.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The checkpoint does not read.
    #[error("checkpoint: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// An entry does not read.
    #[error("entry {index}: {why}")]
    Entry {
        /// Which.
        index: u64,
        /// What is wrong.
        why: BadEntry,
    },
}

/// A date for people, UTC, to the millisecond.
pub fn date(at: UnixMillis) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000).ok();
    moment.and_then(|moment| moment.format(format).ok()).unwrap_or_else(|| format!("{} ms", at.0))
}

/// Reads a date: RFC 3339 such as `2026-05-01T08:00:00Z`, or a day such as `2026-05-01` (its start, UTC).
pub fn parse_date(text: &str) -> Result<UnixMillis, String> {
    let whole = if text.len() == 10 { Cow::Owned(format!("{text}T00:00:00Z")) } else { Cow::Borrowed(text) };
    let wrong = || format!("{text:?} is no date: write 2026-05-01 or 2026-05-01T08:00:00Z");
    let moment = OffsetDateTime::parse(&whole, &Rfc3339).map_err(|_| wrong())?;
    u64::try_from(moment.unix_timestamp_nanos() / 1_000_000).map(UnixMillis).map_err(|_| wrong())
}

/// Where a log is shown from, and to: what retention left of it, as far as its checkpoint goes.
#[derive(Debug)]
pub struct Extent {
    folder: Folder,
    /// The index of the first entry that was not dropped.
    pub first: u64,
    /// How many entries the checkpoint covers, dropped ones included.
    pub size: u64,
}

impl Extent {
    /// Of the log in a folder. The signature on its checkpoint is not checked.
    pub fn of(folder: &Path) -> Result<Self, ShowError> {
        let source = Folder::new(folder);
        let file = |why: ReadError| FileError::Read { path: "checkpoint".to_owned(), why };
        let size = read_unsigned(&source.read("checkpoint").map_err(file)?)?.head.size;
        let first = dropped_bundles(&source, size)? * u64::from(FULL);
        Ok(Self { folder: source, first, size })
    }

    /// Whether retention dropped its beginning.
    pub fn is_cut(&self) -> bool {
        self.first > 0
    }

    /// Hands over every entry with its index, in order, until `each` says no more.
    pub fn entries(&self, mut each: impl FnMut(u64, &Entry) -> bool) -> Result<(), ShowError> {
        for tile in bundles(self.size, self.first / u64::from(FULL)) {
            let plain = read_bundle(&self.folder, tile)?.plain;
            let bad = |why| FileError::Bundle { path: tile.path(), why };
            let held = bundle::entries(&plain, tile.width).map_err(bad)?;
            for (index, bytes) in (tile.index * u64::from(FULL)..).zip(held) {
                let entry = entry::read(bytes).map_err(|why| ShowError::Entry { index, why })?;
                if !each(index, &entry) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Goes through the log in a folder, from the first entry that was not dropped, and hands over what is selected, in order, until `each` says no more.
pub fn show(folder: &Path, selection: &Selection, each: impl FnMut(Line) -> bool) -> Result<(), ShowError> {
    selection.lines(&Extent::of(folder)?, each)
}

impl Selection {
    fn is_in_range(&self, at: UnixMillis) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at < to)
    }

    /// Hands over what is selected, in order, until `each` says no more.
    pub fn lines(&self, log: &Extent, mut each: impl FnMut(Line) -> bool) -> Result<(), ShowError> {
        log.entries(|index, entry| self.line(index, entry).is_none_or(&mut each))
    }

    fn line(&self, index: u64, entry: &Entry) -> Option<Line> {
        let at = entry.received_ms;
        let topic = entry.topic.parse::<Topic>().ok();
        let device = topic.as_ref().map(|topic| &topic.device);
        let kind = topic.as_ref().map_or_else(|| entry.topic.to_string(), |topic| topic.kind.to_string());
        let wanted = self.is_in_range(at)
            && (self.device.is_none() || self.device.as_ref() == device)
            && self.kind.as_ref().is_none_or(|wanted| *wanted == kind);
        wanted.then(|| {
            let (from, message) = describe(topic.as_ref().map(|topic| &topic.kind), &entry.payload);
            let device = device.map(Name::to_string).unwrap_or_default();
            Line { index, time: date(at), received_ms: at, device, kind, from, message }
        })
    }
}

/// Who says it, and what.
fn describe(kind: Option<&Kind>, payload: &Payload) -> (String, String) {
    let bytes = match payload {
        Payload::Bytes(bytes) => bytes,
        Payload::Digest { sha256, length } => return (String::new(), format!("{length} bytes with SHA-256 {sha256}")),
    };
    let raw = || cut(&String::from_utf8_lossy(bytes));
    let Some(kind) = kind.filter(|kind| kind.is_signed()) else { return (String::new(), raw()) };
    let Ok(sealed) = Sealed::parse(bytes) else { return (String::new(), raw()) };
    let from = sealed.read::<Header>().map(|header| header.from.to_string()).unwrap_or_default();
    let text = match kind {
        Kind::Status => body(&sealed, |status: Status| {
            let state = match (status.state, status.ends) {
                (grid_protocol::message::Presence::Online, _) => "online",
                (grid_protocol::message::Presence::Offline, None) => "goes offline",
                (grid_protocol::message::Presence::Offline, Some(_)) => "is gone (last will)",
            };
            format!("{state}, {} with {}", status.part.role(), status.software)
        }),
        Kind::Measurement => body(&sealed, |measured: Measurement| {
            let current = measured.current_ma.iter().map(|current| amps(*current)).collect::<Vec<_>>().join("/");
            let state = word(&measured.state);
            format!("{state}, {current} of {}, wants {}", amps(measured.limit_ma), amps(measured.demand_ma))
        }),
        Kind::Setpoint => body(&sealed, |setpoint: Setpoint| {
            let hold = if setpoint.hold { "at most " } else { "" };
            format!("{hold}{} for {} ({})", amps(setpoint.limit_ma), setpoint.ttl_ms, setpoint.reason)
        }),
        Kind::Balance => body(&sealed, |balance: Balance| {
            let over = |phases: &[MilliAmps]| phases.iter().map(|phase| amps(*phase)).collect::<Vec<_>>().join("/");
            format!(
                "load {} of {}, {} devices held back by {} %",
                over(&balance.load_ma),
                over(&balance.limit_ma),
                balance.devices,
                balance.held_back_percent
            )
        }),
        Kind::Checkpoint => body(&sealed, |checkpoint: Checkpoint| {
            format!("{} entries, root {}", checkpoint.tree_size, checkpoint.root_hash)
        }),
        Kind::Event => body(&sealed, |event: Event| {
            serde_json::to_string(&event).unwrap_or_default().replace(['{', '}', '"'], "").replace(',', ", ")
        }),
        Kind::Revoked => body(&sealed, |list: Revocations| {
            let names = list.revoked.iter().map(|revoked| format!("{} ({})", revoked.name, revoked.serial));
            format!("{} certificates are revoked: {}", list.revoked.len(), names.collect::<Vec<_>>().join(", "))
        }),
        Kind::Ack | Kind::Replay | Kind::Set(_) => None,
    };
    (from, text.unwrap_or_else(raw))
}

fn body<B: DeserializeOwned>(sealed: &Sealed, text: impl FnOnce(B) -> String) -> Option<String> {
    sealed.read::<Message<B>>().ok().map(|message| text(message.body))
}

fn word(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default().trim_matches('"').replace('_', " ")
}

fn amps(current: MilliAmps) -> String {
    let size = current.0.unsigned_abs();
    format!("{}{}.{:02} A", if current.0 < 0 { "-" } else { "" }, size / 1000, size % 1000 / 10)
}

fn cut(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Arrival;
    use crate::recorder::Recorder;
    use crate::testing::log::StreetLog;
    use crate::testing::{Street, at, folder, name, recorder_settings};
    use grid_durable::Stop;
    use grid_protocol::message::{Role, Session};
    use grid_protocol::units::MilliWattHours;

    #[test]
    fn a_log_reads_as_who_said_what_when() {
        let (folder, street) = (folder(), Street::new());
        let settings = recorder_settings();
        let opened = Recorder::open(folder.path(), settings, street.anchor(), Session(9), Stop::never(), at(0));
        let mut recorder = opened.unwrap();
        let mut device = street.speaker("cp-1", Role::Device, 1);
        let mut transformer = street.speaker("trafo-1", Role::Transformer, 2);
        let said = [
            device.birth(),
            transformer.birth(),
            device.measurement(),
            transformer.setpoint("cp-1"),
            device.event(Event::ChargingEnded { energy_mwh: MilliWattHours(5) }),
            device.will(1),
        ];
        for (second, said) in said.iter().enumerate() {
            let topic = said.topic.to_string();
            let arrival = Arrival { topic: &topic, payload: &said.payload, retained: false };
            recorder.receive(arrival, at(1000 * second as u64)).unwrap();
        }
        let command = Arrival { topic: "grid/demo/cp-1/set/charging", payload: b"OFF\n", retained: false };
        recorder.receive(command, at(6000)).unwrap();
        recorder.finish(at(7000)).unwrap();

        let lines = |selection: Selection| {
            let mut lines = Vec::new();
            show(&folder.path().join("log"), &selection, |line| {
                lines.push(format!(
                    "{} {} {} {}: {}",
                    &line.time[17..],
                    line.device,
                    line.kind,
                    line.from,
                    line.message
                ));
                true
            })
            .unwrap();
            lines
        };
        let expected = [
            "00.000Z cp-1 status cp-1: online, device with test",
            "01.000Z trafo-1 status trafo-1: online, transformer with test",
            "02.000Z cp-1 measurement cp-1: charging, 11.95 A of 12.00 A, wants 16.00 A",
            "03.000Z cp-1 setpoint trafo-1: 8.00 A for 3000 ms (phase L3)",
            "04.000Z cp-1 event cp-1: event:charging_ended, energy_mwh:5",
            "05.000Z cp-1 status cp-1: is gone (last will), device with test",
            "06.000Z cp-1 set/charging : OFF ",
            "07.000Z anchor-1 status anchor-1: goes offline, anchor with grid-anchor 0.1.0",
        ];
        assert_eq!(lines(Selection::default()), expected);
        let of_device = Selection { device: Some(name("trafo-1")), ..Selection::default() };
        assert_eq!(lines(of_device), expected[1..2]);
        let of_kind = Selection { kind: Some("set/charging".into()), ..Selection::default() };
        assert_eq!(lines(of_kind), expected[6..7]);
        let between = Selection { from: Some(at(2000).unix), to: Some(at(4000).unix), ..Selection::default() };
        assert_eq!(lines(between), expected[2..4]);
    }

    #[test]
    fn a_log_that_grows_meanwhile_is_shown_as_far_as_it_was_when_it_was_opened() {
        let log = StreetLog::of(300);
        let opened = Extent::of(&log.path()).unwrap();
        log.record(202, |desk| (0..300).for_each(|_| desk.say_raw("grid/demo/cp-1/set/charging", b"ON")));
        assert!(!log.path().join("tile/entries/001.p/44").exists());
        let mut shown = Vec::new();
        let all = |line: Line| {
            shown.push(line.index);
            true
        };
        Selection::default().lines(&opened, all).unwrap();
        assert_eq!(shown, (0..300).collect::<Vec<u64>>());
    }

    #[test]
    fn dates_read_back() {
        let at = parse_date("2026-05-01T08:00:00.250Z").unwrap();
        assert_eq!(date(at), "2026-05-01T08:00:00.250Z");
        assert_eq!(date(parse_date("2026-05-01").unwrap()), "2026-05-01T00:00:00.000Z");
        assert!(parse_date("yesterday").unwrap_err().contains("\"yesterday\""));
        assert!(parse_date("1960-01-01").is_err());
    }

    #[test]
    fn current_is_shown_in_amperes() {
        assert_eq!(amps(MilliAmps(11_950)), "11.95 A");
        assert_eq!(amps(MilliAmps(-500)), "-0.50 A");
        assert_eq!(amps(MilliAmps(i64::MIN)), "-9223372036854775.80 A");
    }
}
