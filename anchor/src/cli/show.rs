//! `grid-anchor show`.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use clap::Args;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;

use super::Failure;
use crate::pruning::minimum_index;
use crate::show::{Line, Selection, parse_date, show};

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
    /// Print one JSON object a line.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV.
    #[arg(long)]
    csv: bool,
}

pub(super) fn show_log(arguments: &ShowArguments) -> Result<u8, Failure> {
    let selection = Selection {
        device: arguments.device.clone(),
        kind: arguments.kind.clone(),
        from: arguments.from,
        to: arguments.to,
    };
    let first = minimum_index(&arguments.log).unwrap_or(0);
    if first > 0 {
        eprintln!("the log begins with entry {first}: older ones were dropped when their retention time was over");
    }
    let mut written = Ok(());
    let mut print = printer(arguments)?;
    show(&arguments.log, &selection, |line| {
        written = print(&line);
        written.is_ok()
    })?;
    match written {
        // A reader that has seen enough, such as head.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => other.map(|()| 0).map_err(Into::into),
    }
}

type Printer = Box<dyn FnMut(&Line) -> io::Result<()>>;

fn printer(arguments: &ShowArguments) -> io::Result<Printer> {
    let mut out = io::BufWriter::new(io::stdout().lock());
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
