//! Commands: plain values that any MQTT client can send, without a signature.
//!
//! | topic | to | value | means |
//! |---|---|---|---|
//! | `…/set/limit` | a transformer | `72000` | what it may carry, in watts |
//! | `…/set/dimming` | a transformer | `20000 until 2026-11-22T20:00:00Z`, or `OFF` | a grid operator's order: what all controllable devices together may draw, in watts, and how long that holds |
//! | `…/set/charging` | a device | `ON` or `OFF` | whether it may draw at all |
//! | `…/set/priority` | a device | `0` to `9` | who goes first; 0 does |
//!
//! White space around a value does no harm. What is obeyed is kept over restarts ([`Kept`]), where a file is configured;
//! what is not is refused in words ([`Refusal`]), which become an event.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use grid_protocol::message::{Event, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use grid_service::file::replace;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A transformer's limit in watts: from less than a household needs to more than a street's transformer can carry.
pub const LIMIT_W: RangeInclusive<u64> = 1_000..=10_000_000;
/// A dimming order's cap in watts. 0 is one: each device keeps its floor.
pub const CAP_W: RangeInclusive<u64> = 0..=10_000_000;
/// Priorities.
pub const PRIORITY: RangeInclusive<u8> = 0..=9;
/// What somebody sent is repeated in events up to here, in characters.
const SHOWN: usize = 64;

/// A grid operator's order to draw less for a while (§ 14a EnWG).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What all controllable devices together may draw, in watts.
    pub cap_w: u64,
    /// When it ends by itself, on the civil clock.
    pub until: UnixMillis,
}

/// What somebody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// A transformer is to carry at most this.
    Limit {
        /// All phases together.
        watts: u64,
    },
    /// A transformer is to hold its devices back, or no longer to.
    Dimming(Option<Order>),
    /// A device may draw, or not.
    Charging(bool),
    /// A device goes before those of a higher number.
    Priority(u8),
}

/// Why a command is not obeyed, in words for whoever sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command} {value:?} is not obeyed: expected {expected}")]
pub struct Refusal {
    /// Which: `set/limit` and the like.
    pub command: String,
    /// What it said, cut to 64 characters.
    pub value: String,
    /// What would have been obeyed.
    pub expected: String,
}

impl Refusal {
    /// Of the command `set/{what}` with this payload.
    pub fn new(what: &Name, payload: &[u8], expected: impl Into<String>) -> Self {
        Self {
            command: format!("set/{what}"),
            value: shown(&String::from_utf8_lossy(payload)),
            expected: expected.into(),
        }
    }

    /// The event that says so.
    pub fn event(self, by: String) -> Event {
        let Self { command, value, expected } = self;
        Event::CommandIgnored { by, command, value, expected }
    }
}

/// As much of a text as belongs into an event.
pub fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

/// Reads the command `set/{what}` to somebody of this role, at `now`.
pub fn parse(to: Role, what: &Name, payload: &[u8], now: UnixMillis) -> Result<Command, Refusal> {
    let text = std::str::from_utf8(payload).unwrap_or_default().trim();
    let (command, expected) = match (to, what.as_str()) {
        (Role::Transformer, "limit") => {
            let watts = whole_number(text).filter(|watts| LIMIT_W.contains(watts));
            let expected = format!("watts, {} to {}", LIMIT_W.start(), LIMIT_W.end());
            (watts.map(|watts| Command::Limit { watts }), expected)
        }
        (Role::Transformer, "dimming") => {
            let expected = format!(
                "OFF, or watts, {} to {}, and an end in the future: 20000 until 2026-11-22T20:00:00Z",
                CAP_W.start(),
                CAP_W.end()
            );
            (dimming(text, now).map(Command::Dimming), expected)
        }
        (Role::Device, "charging") => (on_or_off(text).map(Command::Charging), "ON or OFF".to_owned()),
        (Role::Device, "priority") => {
            let priority = whole_number(text).and_then(|number| u8::try_from(number).ok());
            let expected = format!("{} to {}, {0} goes first", PRIORITY.start(), PRIORITY.end());
            (priority.filter(|priority| PRIORITY.contains(priority)).map(Command::Priority), expected)
        }
        (Role::Transformer, _) => (None, "set/limit or set/dimming".to_owned()),
        (Role::Device, _) => (None, "set/charging or set/priority".to_owned()),
        (Role::Anchor | Role::Operator | Role::Guest, _) => (None, "no command at all".to_owned()),
    };
    command.ok_or_else(|| Refusal::new(what, payload, expected))
}

fn on_or_off(text: &str) -> Option<bool> {
    match text {
        "ON" => Some(true),
        "OFF" => Some(false),
        _ => None,
    }
}

/// Digits alone: no sign, no fraction.
fn whole_number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn dimming(text: &str, now: UnixMillis) -> Option<Option<Order>> {
    if text == "OFF" {
        return Some(None);
    }
    let (watts, end) = text.split_once(" until ")?;
    let cap_w = whole_number(watts.trim()).filter(|watts| CAP_W.contains(watts))?;
    let end = OffsetDateTime::parse(end.trim(), &Rfc3339).ok()?;
    let until = UnixMillis(u64::try_from(end.unix_timestamp_nanos() / 1_000_000).ok()?);
    (until > now).then_some(Some(Order { cap_w, until }))
}

/// The commands that are in force, as they are kept over restarts. Absent: nobody commanded anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kept {
    /// A transformer's limit in watts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_w: Option<u64>,
    /// A grid operator's order. Its end may have passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimming: Option<Order>,
    /// Whether a device may draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub charging: Option<bool>,
    /// A device's priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
}

/// Why commands cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// The operating system refuses.
    #[error("cannot {action} the commands in {file}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else. It was left alone.
    #[error("{file} holds no commands ({why}): repair it, or remove it to go on without")]
    Content {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

impl Kept {
    /// Reads them. No file, or none configured: no commands.
    ///
    /// # Errors
    /// If the file cannot be read, or holds something else.
    pub fn load(file: Option<&Path>) -> Result<Self, KeptError> {
        let Some(file) = file else { return Ok(Self::default()) };
        let bytes = match fs::read(file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(KeptError::Io { action: "read", file: file.to_owned(), source }),
        };
        let wrong = |why| KeptError::Content { file: file.to_owned(), why };
        // By way of an object, since an array would do for a struct.
        let read = serde_json::from_slice(&bytes).map(serde_json::Value::Object).and_then(serde_json::from_value);
        let kept: Self = read.map_err(|error| wrong(error.to_string()))?;
        match kept {
            Self { limit_w: Some(watts), .. } if !LIMIT_W.contains(&watts) => Err(wrong(format!("limit_w = {watts}"))),
            Self { priority: Some(priority), .. } if !PRIORITY.contains(&priority) => {
                Err(wrong(format!("priority = {priority}")))
            }
            Self { dimming: Some(order), .. } if !CAP_W.contains(&order.cap_w) => {
                Err(wrong(format!("dimming.cap_w = {}", order.cap_w)))
            }
            kept => Ok(kept),
        }
    }

    /// Writes them, so that they survive a power cut once this returns. None configured: does nothing.
    ///
    /// # Errors
    /// If the operating system refuses.
    pub fn store(&self, file: Option<&Path>) -> Result<(), KeptError> {
        let Some(file) = file else { return Ok(()) };
        let failed = |source| KeptError::Io { action: "keep", file: file.to_owned(), source };
        let mut bytes = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        bytes.push(b'\n');
        replace(file, &bytes).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-22T17:00:00Z.
    const NOW: UnixMillis = UnixMillis(1_795_366_800_000);

    fn read(to: Role, what: &str, payload: &str) -> Result<Command, Refusal> {
        parse(to, &what.parse().unwrap(), payload.as_bytes(), NOW)
    }

    #[test]
    fn plain_values_are_commands() {
        let until = UnixMillis(NOW.0 + 3 * 3_600_000);
        for (to, what, payload, command) in [
            (Role::Transformer, "limit", "72000", Command::Limit { watts: 72_000 }),
            (Role::Transformer, "limit", " 1000\n", Command::Limit { watts: 1_000 }),
            (Role::Transformer, "limit", "10000000", Command::Limit { watts: 10_000_000 }),
            (Role::Transformer, "dimming", "OFF", Command::Dimming(None)),
            (Role::Transformer, "dimming", "20000 until 2026-11-22T20:00:00Z", {
                Command::Dimming(Some(Order { cap_w: 20_000, until }))
            }),
            (Role::Transformer, "dimming", "0 until 2026-11-22T21:00:00.000+01:00", {
                Command::Dimming(Some(Order { cap_w: 0, until }))
            }),
            (Role::Device, "charging", "ON", Command::Charging(true)),
            (Role::Device, "charging", "OFF", Command::Charging(false)),
            (Role::Device, "priority", "0", Command::Priority(0)),
            (Role::Device, "priority", "9", Command::Priority(9)),
        ] {
            assert_eq!(read(to, what, payload), Ok(command), "{what} {payload:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_expected() {
        for (to, what, payload, expected) in [
            (Role::Transformer, "limit", "999", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "10000001", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "-72000", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "+72000", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "72 kW", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "7.2e4", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "99999999999999999999999", "watts, 1000 to 10000000"),
            (Role::Transformer, "limit", "", "watts, 1000 to 10000000"),
            (Role::Transformer, "dimming", "20000", "an end in the future"),
            (Role::Transformer, "dimming", "20000 until 2026-11-22T17:00:00Z", "an end in the future"),
            (Role::Transformer, "dimming", "20000 until 1926-11-22T20:00:00Z", "an end in the future"),
            (Role::Transformer, "dimming", "20000 until 2026-11-22T20:00:00", "an end in the future"),
            (Role::Transformer, "dimming", "20000 until tomorrow", "an end in the future"),
            (Role::Transformer, "dimming", "-1 until 2026-11-22T20:00:00Z", "OFF, or watts"),
            (Role::Transformer, "charging", "ON", "set/limit or set/dimming"),
            (Role::Device, "limit", "72000", "set/charging or set/priority"),
            (Role::Device, "charging", "on", "ON or OFF"),
            (Role::Device, "charging", "1", "ON or OFF"),
            (Role::Device, "priority", "10", "0 to 9"),
            (Role::Device, "priority", "256", "0 to 9"),
            (Role::Device, "priority", "high", "0 to 9"),
        ] {
            let refusal = read(to, what, payload).unwrap_err();
            assert_eq!((refusal.command, refusal.value), (format!("set/{what}"), payload.to_owned()));
            assert!(refusal.expected.contains(expected), "{what} {payload:?}: {}", refusal.expected);
        }
    }

    #[test]
    fn what_is_refused_is_repeated_up_to_64_characters_even_if_it_is_no_text() {
        let priority = "priority".parse().unwrap();
        let refusal = parse(Role::Device, &priority, "ä".repeat(8000).as_bytes(), NOW).unwrap_err();
        assert_eq!(refusal.value, "ä".repeat(64));
        let refusal = parse(Role::Device, &priority, &[0xff, b'5'], NOW).unwrap_err();
        assert_eq!(refusal.value, "\u{fffd}5");
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("commands.json");
        assert_eq!(Kept::load(Some(&file)).unwrap(), Kept::default());
        let order = Order { cap_w: 20_000, until: NOW };
        let kept = Kept { limit_w: Some(72_000), dimming: Some(order), charging: Some(false), priority: Some(1) };
        kept.store(Some(&file)).unwrap();
        assert_eq!(Kept::load(Some(&file)).unwrap(), kept);
        let switched_on = Kept { charging: Some(true), ..Kept::default() };
        switched_on.store(Some(&file)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"charging\":true}\n");
        assert_eq!(Kept::load(Some(&file)).unwrap(), switched_on);
    }

    #[test]
    fn without_a_file_nothing_is_kept() {
        Kept { charging: Some(false), ..Kept::default() }.store(None).unwrap();
        assert_eq!(Kept::load(None).unwrap(), Kept::default());
    }

    #[test]
    fn a_file_that_holds_something_else_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("commands.json");
        for content in ["", "{\"charging\":", "[]", "{\"charge\":true}", "{\"priority\":10}", "{\"limit_w\":999}"] {
            fs::write(&file, content).unwrap();
            let error = Kept::load(Some(&file)).unwrap_err().to_string();
            assert!(error.contains(&file.display().to_string()), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
    }
}
