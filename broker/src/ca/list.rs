//! What `ca list` shows.

use std::time::{Duration, SystemTime};

use grid_protocol::identity::{BACKDATED, Serial};
use grid_protocol::message::Role;
use grid_protocol::revocation::Revocations;
use grid_protocol::topic::Name;
use grid_protocol::units::UnixMillis;
use serde::Serialize;

use super::error::CaError;
use super::folder::Issued;

/// One certificate.
#[derive(Debug, Serialize)]
pub struct Row {
    name: Name,
    role: Role,
    serial: Serial,
    issued_ms: UnixMillis,
    valid_until_ms: UnixMillis,
    revoked: bool,
}

/// One row per certificate. A certificate is backdated, so it was issued later than it is valid.
pub fn rows(issued: Vec<Issued>, revocations: &Revocations) -> Vec<Row> {
    let backdated = u64::try_from(BACKDATED.as_millis()).unwrap_or(u64::MAX);
    let row = |Issued { identity, serial, validity }| Row {
        revoked: revocations.contains(&serial),
        name: identity.name,
        role: identity.role,
        serial,
        issued_ms: UnixMillis(validity.from.0.saturating_add(backdated)),
        valid_until_ms: validity.until,
    };
    issued.into_iter().map(row).collect()
}

/// For programs: one array.
pub fn json(rows: &[Row]) -> Result<String, CaError> {
    serde_json::to_string(rows).map(|text| text + "\n").map_err(CaError::Json)
}

/// For people: one line each, in columns.
pub fn table(rows: &[Row]) -> String {
    let titles = ["NAME", "ROLE", "SERIAL", "ISSUED", "VALID UNTIL", "REVOKED"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(titles).chain(rows.iter().map(columns)).collect();
    let widths: Vec<usize> = (0..6).map(|at| lines.iter().map(|line| line[at].len()).max().unwrap_or(0)).collect();
    let line = |line: &[String; 6]| {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

fn columns(row: &Row) -> [String; 6] {
    [
        row.name.to_string(),
        row.role.to_string(),
        row.serial.to_string(),
        date(row.issued_ms),
        date(row.valid_until_ms),
        if row.revoked { "revoked" } else { "no" }.to_owned(),
    ]
}

/// The day, in UTC.
fn date(at: UnixMillis) -> String {
    let text = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(at.0)).to_string();
    text.split('T').next().unwrap_or(&text).to_owned()
}
