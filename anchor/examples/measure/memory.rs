//! Resident memory of a process that does nothing but make messages and record them.

use std::path::Path;
use std::process::Command;

use grid_anchor::intake::Arrival;
use grid_anchor::recorder::Recorder;
use grid_durable::Stop;
use grid_protocol::message::Session;
use grid_protocol::units::Millis;
use grid_service::clock::unix_now;

use crate::intake::BATCH;
use crate::street::{Street, now};
use crate::{Failure, Table};

/// The argument that makes this program the child.
pub const CHILD: &str = "--record-and-report-memory";

fn status(key: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)).ok_or("no such line in /proc/self/status")?;
    Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
}

/// Records so many messages and prints the most that was resident, in KiB.
pub fn child(folder: &Path, count: usize) -> Result<(), Failure> {
    let street = Street::new()?;
    let mut devices = street.devices(40)?;
    let settings = street.settings(Millis(1000))?;
    let mut recorder = Recorder::open(folder, settings, street.anchor()?, Session(1), Stop::never(), now())?;
    for device in &mut devices {
        let birth = device.birth(unix_now())?;
        let arrival = Arrival { topic: &birth.topic.to_string(), payload: &birth.payload, retained: false };
        recorder.receive(arrival, now())?;
    }
    let mut number = 0;
    while number < count {
        let mut batch = Vec::new();
        for _ in 0..BATCH.min(count - number) {
            let said = devices[number % 40].measurement(number as u64, unix_now())?;
            batch.push((said.topic.to_string(), said.payload));
            number += 1;
        }
        let arrivals: Vec<Arrival> =
            batch.iter().map(|(topic, payload)| Arrival { topic, payload, retained: false }).collect();
        recorder.receive_all(&arrivals, now())?;
        recorder.settle(now())?;
    }
    recorder.finish(now())?;
    println!("{}", status("VmHWM")?);
    Ok(())
}

/// Starts the child and waits for it.
pub fn memory(folder: &Path, count: usize, table: &mut Table) -> Result<(), Failure> {
    let program = std::env::current_exe()?;
    let output = Command::new(program).arg(CHILD).arg(folder).arg(count.to_string()).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let kibibytes: u64 = String::from_utf8(output.stdout)?.trim().parse()?;
    let figure = format!("{:.1} MB at the most", kibibytes as f64 * 1.024e-3);
    table.row(&format!("resident while {count} entries go in"), figure, "60 MB");
    Ok(())
}
