//! `grid-anchor show`.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;

use super::Failure;
use crate::policy::Policy;
use crate::show::sessions::{self, ChargingSession, CsvLine, legend, table};
use crate::show::{Extent, Line, Selection, parse_date};

#[derive(Args)]
pub struct ShowArguments {
    /// The log's folder: the one with the file `checkpoint`.
    #[arg(long, value_name = "DIR")]
    log: PathBuf,
    /// Only what was said on this device's topics.
    #[arg(long)]
    device: Option<Name>,
    /// Only messages of this kind: measurement, setpoint, event, set/limit …
    #[arg(long)]
    kind: Option<String>,
    /// Only what was received then or later: 2026-05-01 or 2026-05-01T08:00:00Z
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    from: Option<UnixMillis>,
    /// Only what was received before.
    #[arg(long, value_parser = parse_date, value_name = "DATE")]
    to: Option<UnixMillis>,
    /// Show charging sessions: who charged when, how much, and what held them back.
    ///
    /// The columns of --csv are device, start, began_before, end, ended_by, waited_s, duration_s, energy_wh, average_w,
    /// held_back_percent, held_back_by, restarts, time_factor. JSON has the same members, times and spans also in
    /// milliseconds, and held_back_by as a list of reason, ms and percent. start is when the device began to draw;
    /// began_before: it was drawing already when the log or the range began. ended_by is event, measurement (no
    /// charging_ended came: what the last measurement says) or not_yet. waited is how long it wanted current before it
    /// drew any. held_back is the share of waiting and charging in which it might draw less than it asked for, and
    /// held_back_by the reasons of the setpoints that it obeyed then. In a simulation (time_factor above 1) times are the
    /// log's, energy and average power the plant's.
    #[arg(long, conflicts_with = "kind")]
    sessions: bool,
    /// Count only messages in sessions that the authority in this site.policy vouches for. Without it a forged message
    /// that was logged as evidence counts too.
    #[arg(long, requires = "sessions", value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

/// Prints to `out`, and to `remarks` what is no part of the answer.
pub(super) fn show_log(
    arguments: &ShowArguments,
    out: &mut impl Write,
    remarks: &mut impl Write,
) -> Result<u8, Failure> {
    let selection = Selection {
        device: arguments.device.clone(),
        kind: arguments.kind.clone(),
        from: arguments.from,
        to: arguments.to,
    };
    let log = Extent::of(&arguments.log)?;
    if log.is_cut() {
        let first = log.first;
        writeln!(
            remarks,
            "the log begins with entry {first}: older ones were dropped when their retention time was over"
        )?;
    }
    let mut out = io::BufWriter::new(out);
    if arguments.sessions {
        return ended(show_sessions(arguments, &log, &selection, &mut out)?);
    }
    let mut written = Ok(());
    let mut print = printer(arguments, &mut out)?;
    selection.lines(&log, |line| {
        written = print(&line);
        written.is_ok()
    })?;
    drop(print);
    ended(written.and_then(|()| out.flush()))
}

fn ended(written: io::Result<()>) -> Result<u8, Failure> {
    match written {
        // A reader that has seen enough, such as head.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => other.map(|()| 0).map_err(Into::into),
    }
}

type Printer<'a> = Box<dyn FnMut(&Line) -> io::Result<()> + 'a>;

fn printer<'a>(arguments: &ShowArguments, out: &'a mut impl Write) -> io::Result<Printer<'a>> {
    if arguments.csv {
        let mut csv = csv::Writer::from_writer(out);
        return Ok(Box::new(move |line| csv.serialize(line).map_err(io::Error::from)));
    }
    if arguments.json {
        return Ok(Box::new(move |line| writeln!(out, "{}", serde_json::to_string(line)?)));
    }
    writeln!(out, "{:<24}  {:<12}  {:<12}  {:<12}  message", "time", "device", "kind", "from")?;
    Ok(Box::new(move |line| {
        let Line { time, device, kind, from, message, .. } = line;
        writeln!(out, "{time:<24}  {device:<12}  {kind:<12}  {from:<12}  {message}")
    }))
}

fn show_sessions(
    arguments: &ShowArguments,
    log: &Extent,
    selection: &Selection,
    out: &mut impl Write,
) -> Result<io::Result<()>, Failure> {
    let policy = match &arguments.policy {
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
            Some(Policy::read(&text).map_err(|error| format!("{}: {error}", file.display()))?)
        }
        None => None,
    };
    let sessions = sessions::read(log, selection, policy.as_ref())?;
    Ok(print_sessions(&sessions, arguments, out))
}

fn print_sessions(sessions: &[ChargingSession], arguments: &ShowArguments, out: &mut impl Write) -> io::Result<()> {
    if arguments.csv {
        let mut csv = csv::Writer::from_writer(out);
        for session in sessions {
            csv.serialize(CsvLine::from(session)).map_err(io::Error::from)?;
        }
        return csv.flush();
    }
    if arguments.json {
        for session in sessions {
            writeln!(out, "{}", serde_json::to_string(session)?)?;
        }
        return out.flush();
    }
    write!(out, "{}", table(sessions))?;
    for mark in legend(sessions) {
        writeln!(out, "{mark}")?;
    }
    out.flush()
}
