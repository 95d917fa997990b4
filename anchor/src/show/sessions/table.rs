//! Charging sessions as a table of at most 120 columns, and as CSV.

use serde::Serialize;

use super::{ChargingSession, Ending, Share};

/// How wide a line may be.
const LINE: usize = 120;
/// How much of it the columns between the device and the reasons take.
const COLUMNS: usize = 73;

/// A session as one line of CSV. The names of the columns are those of the fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CsvLine<'a> {
    device: &'a str,
    start: &'a str,
    began_before: bool,
    end: &'a str,
    ended_by: Ending,
    waited_s: u64,
    duration_s: u64,
    energy_wh: i64,
    average_w: i64,
    held_back_percent: u64,
    held_back_by: String,
    restarts: u32,
    time_factor: u32,
}

impl<'a> From<&'a ChargingSession> for CsvLine<'a> {
    fn from(session: &'a ChargingSession) -> Self {
        Self {
            device: session.device.as_str(),
            start: &session.start,
            began_before: session.began_before,
            end: &session.end,
            ended_by: session.ended_by,
            waited_s: session.waited_ms.0 / 1000,
            duration_s: session.duration_ms.0 / 1000,
            energy_wh: session.energy_wh,
            average_w: session.average_w,
            held_back_percent: session.held_back_percent,
            held_back_by: reasons(&session.held_back_by, usize::MAX),
            restarts: session.restarts,
            time_factor: session.time_factor,
        }
    }
}

/// `turn 40 %, phase L2 25 %`: as many as fit, the most first.
fn reasons(shares: &[Share], room: usize) -> String {
    let mut text = String::new();
    for share in shares.iter().filter(|share| share.percent > 0) {
        let more = format!("{}{} {} %", if text.is_empty() { "" } else { ", " }, share.reason, share.percent);
        // Two columns stay for saying that there are more.
        if (text.chars().count() + more.chars().count()).saturating_add(2) > room {
            return text + " …";
        }
        text.push_str(&more);
    }
    text
}

fn clock(seconds: u64) -> String {
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Thousandths, as units with three decimals.
fn thousandths(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let value = value.unsigned_abs();
    format!("{sign}{}.{:03}", value / 1000, value % 1000)
}

fn tenths(value: i64) -> String {
    let text = thousandths(value);
    text[..text.len() - 2].to_owned()
}

/// The parts of a date up to the second. What a log claims to be after the year 9999 is none.
fn day_and_time(date: &str) -> (&str, &str) {
    let parts = date.split_once('T').and_then(|(day, time)| Some((day, time.get(..8)?)));
    parts.unwrap_or(("no date", ""))
}

fn ended_on_its_day(session: &ChargingSession) -> bool {
    day_and_time(&session.start).0 == day_and_time(&session.end).0
}

/// The sessions as a table with a line of names above it.
pub fn table(sessions: &[ChargingSession]) -> String {
    let width = sessions.iter().map(|session| session.device.as_str().len()).max().unwrap_or(0).max(6);
    let mut text = format!(
        "{:<width$} {:<20} {:<11} {:>8} {:>8} {:>8} {:>5} {:>4}  because of\n",
        "device", "start", "end", "waited", "charged", "kWh", "kW", "held"
    );
    for session in sessions {
        let (day, start) = day_and_time(&session.start);
        let start = format!("{}{day} {start}", if session.began_before { "<" } else { " " });
        let (_, end) = day_and_time(&session.end);
        let mark = match session.ended_by {
            Ending::Event if ended_on_its_day(session) => "",
            Ending::Event => "+",
            Ending::Measurement => "?",
            Ending::NotYet => ">",
        };
        let restarts = match session.restarts {
            0 => String::new(),
            count => format!("*{count} "),
        };
        let room = LINE.saturating_sub(COLUMNS + width + restarts.len());
        let line = format!(
            "{:<width$} {start:<20} {:<11} {:>8} {:>8} {:>8} {:>5} {:>3}%  {restarts}{}",
            session.device.as_str(),
            format!("{end}{mark}"),
            clock(session.waited_ms.0 / 1000),
            clock(session.duration_ms.0 / 1000),
            thousandths(session.energy_wh),
            tenths(session.average_w),
            session.held_back_percent,
            reasons(&session.held_back_by, room),
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What the marks in the table mean, as far as it has any.
pub fn legend(sessions: &[ChargingSession]) -> Vec<&'static str> {
    let any = |is: fn(&ChargingSession) -> bool| sessions.iter().any(is);
    let marks = [
        (any(|session| session.began_before), "< was charging already: began before the log or the range"),
        (any(|session| session.ended_by == Ending::NotYet), "> has not ended: this is when it was last heard of"),
        (any(|session| session.ended_by == Ending::Measurement), "? no end was told: this is what measurements say"),
        (any(|session| session.ended_by == Ending::Event && !ended_on_its_day(session)), "+ on a later day"),
        (
            any(|session| session.restarts > 0),
            "* its agent was started again so often; what flowed meanwhile is not known",
        ),
        (any(|session| session.time_factor > 1), "a simulation: times are the log's, energy and power are the plant's"),
    ];
    marks.into_iter().filter_map(|(is_there, text)| is_there.then_some(text)).collect()
}
