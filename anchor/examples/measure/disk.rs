//! What a street's day costs on disk: its own clock, but real files and syncs.

use std::fs;
use std::path::Path;

use grid_anchor::intake::{Arrival, Now};
use grid_anchor::recorder::Recorder;
use grid_durable::Stop;
use grid_protocol::author::Signed;
use grid_protocol::message::Session;
use grid_protocol::units::{BootTime, Millis, UnixMillis};

use crate::street::{Speaker, Street};
use crate::{Failure, Table};

/// The anchor looks at the clock so often.
const TICK_MS: u64 = 50;
/// Packaged charge points use a ttl of 10 s, a heartbeat of a third of it (design, sections 2 and 3).
const HEARTBEAT_MS: u64 = 3_333;
const IDLE_MS: u64 = 10_000;
/// A third of the devices draw or want current at any time; each changes over every four hours.
const DRAWING: u64 = 3;
const SPELL_MS: u64 = 4 * 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// What this process made the system write so far, in bytes: `write_bytes` in `/proc/self/io`.
fn written() -> Result<u64, Failure> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")).ok_or("no write_bytes")?;
    Ok(line.trim().parse()?)
}

fn size_of(path: &Path) -> Result<u64, Failure> {
    let about = fs::metadata(path)?;
    if about.is_file() {
        return Ok(about.len());
    }
    let mut size = 0;
    for child in fs::read_dir(path)? {
        size += size_of(&child?.path())?;
    }
    Ok(size)
}

/// Everything that is said on a street of so many devices between two looks at the clock.
struct Day {
    devices: Vec<Speaker>,
    transformer: Speaker,
    number: u64,
}

impl Day {
    fn said(&mut self, ms: u64, at: UnixMillis) -> Result<Vec<Signed>, Failure> {
        let mut said = Vec::new();
        let is_due = |every: u64, offset: u64| (ms + offset) / every != (ms + TICK_MS + offset) / every;
        for (number, device) in self.devices.iter_mut().enumerate() {
            let number = number as u64;
            let draws = (number + ms / SPELL_MS).is_multiple_of(DRAWING);
            if is_due(if draws { HEARTBEAT_MS } else { IDLE_MS }, number * 271) {
                self.number += 1;
                said.push(device.measurement(self.number, at)?);
                said.push(self.transformer.setpoint(&device.author, at)?);
            }
        }
        if is_due(1000, 0) {
            self.number += 1;
            said.push(self.transformer.balance(self.number, at)?);
        }
        Ok(said)
    }
}

/// Lets a street of `devices` talk for so long, with the default settings: commit 5 s, checkpoint 60 s.
pub fn disk(folder: &Path, devices: u8, minutes: u64, goal: &str, table: &mut Table) -> Result<(), Failure> {
    let street = Street::new()?;
    let mut day = Day { devices: street.devices(devices)?, transformer: street.transformer()?, number: 0 };
    let start = grid_service::clock::unix_now();
    let at = |ms: u64| Now { unix: UnixMillis(start.0 + ms), boot: BootTime(1_000_000 + ms) };
    let settings = street.settings(Millis(5000))?;
    let mut recorder = Recorder::open(folder, settings, street.anchor()?, Session(1), Stop::never(), at(0))?;
    let births: Result<Vec<Signed>, Failure> =
        day.devices.iter_mut().chain([&mut day.transformer]).map(|speaker| speaker.birth(start)).collect();
    let mut said = births?;
    let before = written()?;
    for ms in (0..minutes * 60_000).step_by(TICK_MS as usize) {
        let now = at(ms);
        for Signed { topic, payload, .. } in &said {
            recorder.receive(Arrival { topic: &topic.to_string(), payload, retained: false }, now)?;
        }
        recorder.settle(now)?;
        said = day.said(ms, now.unix)?;
    }
    recorder.finish(at(minutes * 60_000))?;
    let entries = recorder.progress().entries;
    let written = written()? - before;
    let kept = size_of(&folder.join("log"))?;
    let a_day = |bytes: u64| bytes as f64 * (DAY_MS as f64 / (minutes as f64 * 60_000.0)) / 1e9;
    let per_entry = |bytes: u64| bytes as f64 / entries as f64;
    let label = format!("{devices} devices, {:.1} entries/s", entries as f64 / (minutes as f64 * 60.0));
    let figure = |bytes| format!("{:.0} bytes an entry, {:.2} GB a day", per_entry(bytes), a_day(bytes));
    table.row(&format!("{label}: written"), figure(written), goal);
    table.row(&format!("{label}: kept as log"), figure(kept), "");
    Ok(())
}
