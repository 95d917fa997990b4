//! What a person sees.

use std::io::{self, IsTerminal, Write, stdout};
use std::path::Path;
use std::time::Duration;

use grid::demo::{Demo, MOCK_STATE, Report};
use tokio::time::sleep;

const REFRESH: Duration = Duration::from_millis(200);

/// Says what runs and what to look at.
pub fn introduce(demo: &Demo, folder: &Path) -> io::Result<()> {
    let mut out = stdout().lock();
    let (host, port) = (demo.address().ip(), demo.address().port());
    writeln!(out, "A street behind one transformer, its day {} times faster than the clock.", demo.time_factor())?;
    writeln!(out, "  messages   mosquitto_sub -h {host} -p {port} -t 'grid/#' -v")?;
    writeln!(out, "  log        {}", folder.join("log").display())?;
    writeln!(out, "  ledger     {} (a double for trying things out: it is NOT IOTA)", demo.ledger().explorer)?;
    writeln!(out, "Ctrl-C ends it.\n")
}

/// Keeps one line up to date, on a terminal. Never resolves.
pub async fn show_progress(demo: &Demo, wanted: bool) {
    loop {
        if wanted && stdout().is_terminal() {
            // Carriage return, text, clear to the end of the line (ECMA-48, EL).
            let mut out = stdout().lock();
            // A terminal that is gone is no reason to stop the street.
            let _ = write!(out, "\r{}\x1b[K", line(demo)).and_then(|()| out.flush());
        }
        sleep(REFRESH).await;
    }
}

fn line(demo: &Demo) -> String {
    let progress = demo.progress();
    format!(
        "{:02}:{:02}  {:5.1} of {:.1} kW  {} charging  held back {} %  {} messages logged",
        progress.time.hour(),
        progress.time.minute(),
        kilowatts(progress.load_w),
        kilowatts(progress.limit_w),
        progress.charging,
        progress.held_back_percent,
        progress.logged,
    )
}

fn kilowatts(watts: u64) -> f64 {
    watts as f64 / 1000.0
}

/// Says what came of it, and how to check it.
pub fn summarise(report: &Report, folder: &Path, ledger: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    let (peak, limit) = (kilowatts(report.peak_w), kilowatts(report.limit_w));
    writeln!(out, "\n\ncharge point   wanted Wh   possible Wh   delivered Wh")?;
    for session in &report.sessions {
        let (device, wanted) = (&session.device, session.wanted_wh);
        writeln!(out, "{device:<14} {wanted:>9} {:>13} {:>14}", session.possible_wh, session.delivered_wh)?;
    }
    writeln!(
        out,
        "\npeak             {peak:.1} kW of {limit:.1} kW (uncontrolled {:.1} kW)",
        kilowatts(report.uncontrolled_peak_w)
    )?;
    writeln!(
        out,
        "above the limit  {} ms, at most {} ms at a time",
        report.over_limit_ms, report.longest_over_limit_ms
    )?;
    let latency = report.control_latency_us;
    writeln!(
        out,
        "reading → device {} µs (median), {} µs (99 %), {} µs (worst)",
        latency.p50, latency.p99, latency.max
    )?;
    writeln!(out, "lease violations {}", report.lease_violations)?;
    writeln!(out, "messages         {} signed, {} in the log", report.messages_published, report.messages_logged)?;
    writeln!(out, "ledger           {} records (mock: NOT IOTA)", report.records_on_ledger)?;
    writeln!(out, "verification     {}", if report.verified { "all holds" } else { "DOES NOT HOLD: see above" })?;
    writeln!(
        out,
        "\nCheck it yourself. The first runs the mock ledger again; the second asks it, in another terminal:"
    )?;
    for command in commands(folder, ledger) {
        writeln!(out, "  {command}")?;
    }
    Ok(())
}

/// The commands that verify the log: as they can be typed where this program was started.
fn commands(folder: &Path, ledger: &str) -> [String; 2] {
    let run_by_cargo = std::env::var_os("CARGO").is_some();
    let program = if run_by_cargo { "cargo run --release -p grid-anchor --" } else { "grid-anchor" };
    let listen = ledger.trim_start_matches("http://");
    let in_folder = |name: &str| folder.join(name).display().to_string();
    let (state, log, policy) = (in_folder(MOCK_STATE), in_folder("log"), in_folder("site.policy"));
    [
        format!("{program} mock-ledger --listen {listen} --state {state}"),
        format!("{program} verify --log {log} --policy {policy} --network mock --grpc {ledger}"),
    ]
}
