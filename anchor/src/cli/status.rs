//! `grid-anchor status`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use grid_protocol::message::{LedgerPurse, LedgerReceipt};
use grid_protocol::units::UnixMillis;
use grid_service::clock::unix_now;

use super::{Failure, iota};
use crate::settings::Settings;
use crate::show::date;
use crate::status::Status;

#[derive(Args)]
pub struct StatusArguments {
    /// The anchor's settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn status(arguments: &StatusArguments) -> Result<u8, Failure> {
    let now = unix_now();
    let status = Status::read(&Settings::load(&arguments.config)?, now)?;
    let mut out = io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
    } else {
        print(&status, now, &mut out)?;
    }
    Ok(u8::from(!status.problems.is_empty()))
}

fn print(status: &Status, now: UnixMillis, out: &mut impl Write) -> io::Result<()> {
    let Status { problems, running, origin, logged, durable, checkpoint_size, root_hash, checkpoint_ms, .. } = status;
    writeln!(out, "anchor     {}", if *running { "is running" } else { "is not running" })?;
    writeln!(out, "log        {origin}")?;
    writeln!(out, "logged     {logged} entries, {durable} of them durable for certain")?;
    writeln!(out, "checkpoint {checkpoint_size} entries, root {root_hash}, of {}", date(*checkpoint_ms))?;
    if let Some(LedgerReceipt { network, record, tree_size, added_ms, explorer, .. }) = &status.receipt {
        writeln!(out, "ledger     {network} vouches for {tree_size} entries: record {record}, of {}", date(*added_ms))?;
        writeln!(out, "           {explorer}")?;
    }
    if let Some(still_to_come) = status.first_record(now) {
        writeln!(out, "ledger     {still_to_come}")?;
    }
    if let Some(purse) = &status.purse {
        writeln!(out, "money      {}", money(purse))?;
        writeln!(out, "           at {}", purse.address)?;
    }
    if let Some(begins) = status.begins_ms {
        writeln!(out, "begins     with entry {}, of {}", status.minimum_index, date(begins))?;
    }
    let grows = status.bytes_per_day.map(|bytes| format!(", {} more a day", amount(bytes))).unwrap_or_default();
    writeln!(out, "disk       {} used{grows}, {} free", amount(status.disk_bytes), amount(status.free_bytes))?;
    writeln!(out, "lasts      {}", lasts(status))?;
    for problem in problems {
        writeln!(out, "ATTENTION: {problem}")?;
    }
    Ok(())
}

fn lasts(status: &Status) -> String {
    match (status.bytes_per_day, status.full_in_days, status.retention_days) {
        (None, _, _) => "too early to tell".to_owned(),
        (Some(_), Some(days), 0) => format!("{days} days; nothing is ever dropped (log.retention_days = 0)"),
        (Some(_), Some(days), keep) => format!("{days} days; entries are dropped only after {keep}"),
        (Some(_), None, 0) => "for ever at this rate".to_owned(),
        (Some(bytes), None, keep) => {
            format!("for ever: entries are dropped after {keep} days, and then take {}", amount(bytes * keep))
        }
    }
}

fn money(purse: &LedgerPurse) -> String {
    let LedgerPurse { address: _, balance_nanos, spent_nanos, record_nanos, days_left } = purse;
    let mut said = format!("{}, {} spent", iota(*balance_nanos), iota(*spent_nanos));
    if let Some(nanos) = record_nanos {
        said += &format!(", {} a record", iota(*nanos));
    }
    if let Some(days) = days_left {
        said += &format!(", lasts {days} days");
    }
    said
}

/// Bytes for a person: three digits are enough.
fn amount(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000_000 => (1_000, "kB"),
        1_000_000..1_000_000_000 => (1_000_000, "MB"),
        _ => (1_000_000_000, "GB"),
    };
    let hundredths = bytes / (unit / 100);
    match hundredths / 100 {
        whole @ 0..10 => format!("{whole}.{:02} {name}", hundredths % 100),
        whole @ 10..100 => format!("{whole}.{} {name}", hundredths % 100 / 10),
        whole => format!("{whole} {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_said_in_iota() {
        let address = String::new;
        let purse = LedgerPurse {
            address: address(),
            balance_nanos: 9_987_654_321,
            spent_nanos: 12_345_679,
            record_nanos: Some(5_962_800),
            days_left: Some(11),
        };
        let said = "9.987654321 IOTA, 0.012345679 IOTA spent, 0.005962800 IOTA a record, lasts 11 days";
        assert_eq!(money(&purse), said);
        let said = "0.000000001 IOTA, 0.000000000 IOTA spent";
        let purse = LedgerPurse { address: address(), balance_nanos: 1, ..LedgerPurse::default() };
        assert_eq!(money(&purse), said);
    }

    #[test]
    fn amounts_have_about_three_digits() {
        let shown =
            [0, 4_096, 56_700, 999_999, 1_000_000, 310_000_000, 2_345_000_000, 45_600_000_000, 1_234_000_000_000];
        let shown: Vec<String> = shown.into_iter().map(amount).collect();
        let expected =
            ["0.00 kB", "4.09 kB", "56.7 kB", "999 kB", "1.00 MB", "310 MB", "2.34 GB", "45.6 GB", "1234 GB"];
        assert_eq!(shown, expected);
    }
}
