//! What a person does with a meter on the bench: `grid-agent read`, `scan` and `calibrate`.
//!
//! Each writes what it finds and returns whether all was well.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use grid_protocol::units::MilliAmps;
use grid_service::clock::boot_micros;
use serde_json::{Value, json};

use super::{AFTER_AN_ERROR, Calibration, Correction, Found, Meter, MeterError, Reading, What, Wiring, calibrate};

/// How long one reading is waited for: longer than the slowest usual meter publishes.
const PATIENCE: Duration = Duration::from_secs(3);
/// A table is drawn at most this often.
const REDRAW: Duration = Duration::from_millis(100);
/// So many readings make a mean for a calibration.
const READINGS: usize = 20;

/// How readings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// A table that is drawn over the last one, for a terminal.
    Live,
    /// A table under the last one.
    Tables,
    /// One JSON object a line.
    Json,
}

/// Reads `count` times, or until the process is ended. Returns whether each time there was a reading below the end of its
/// range.
///
/// # Errors
/// If nothing can be written.
pub fn read(
    meter: &mut dyn Meter,
    names: &[String],
    count: Option<u64>,
    show: Show,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let mut well = true;
    let mut lines = 0;
    let mut done = 0;
    while count.is_none_or(|count| done < count) {
        let reading = meter.read(PATIENCE);
        let age_ms = reading.as_ref().map_or(0, |reading| boot_micros().saturating_sub(reading.taken_us) / 1000);
        well &= reading.as_ref().is_ok_and(|reading| !reading.is_saturated());
        match show {
            Show::Json => writeln!(out, "{}", as_json(&reading, age_ms))?,
            Show::Live | Show::Tables => {
                let table = as_table(names, &reading, age_ms);
                if show == Show::Live && lines > 0 {
                    // Up to the first line of the last table, and clear from there (ECMA-48: CPL, ED).
                    write!(out, "\x1b[{lines}F\x1b[J")?;
                }
                lines = table.lines().count();
                write!(out, "{table}")?;
            }
        }
        out.flush()?;
        done += 1;
        if count.is_none_or(|count| done < count) {
            match (&reading, show) {
                (Err(_), _) => std::thread::sleep(AFTER_AN_ERROR),
                (Ok(_), Show::Live) => std::thread::sleep(REDRAW),
                (Ok(_), Show::Tables | Show::Json) => {}
            }
        }
    }
    Ok(well)
}

/// One reading as a table, or why there is none.
fn as_table(names: &[String], reading: &Result<Reading, MeterError>, age_ms: u64) -> String {
    let reading = match reading {
        Ok(reading) => reading,
        Err(error) => return format!("no reading: {error}\n"),
    };
    let mut table = format!("phase   current [mA]   voltage [mV]   {age_ms} ms old\n");
    for (place, phase) in reading.phases.iter().enumerate() {
        let name = names.get(place).map_or("?", String::as_str);
        let bound = if phase.saturated { "   or more: the end of the range" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{name:<5} {:>14} {:>14}{bound}", phase.current.0, phase.voltage.0);
    }
    table
}

/// One reading as JSON, or why there is none.
fn as_json(reading: &Result<Reading, MeterError>, age_ms: u64) -> Value {
    let reading = match reading {
        Ok(reading) => reading,
        Err(error) => return json!({ "error": error.to_string() }),
    };
    let phases: Vec<Value> = reading
        .phases
        .iter()
        .map(|phase| {
            json!({ "current_ma": phase.current.0, "voltage_mv": phase.voltage.0, "saturated": phase.saturated })
        })
        .collect();
    json!({ "age_ms": age_ms, "phases": phases })
}

/// Says what a scan of `bus` found. Returns whether there is an INA219.
///
/// # Errors
/// If nothing can be written.
pub fn tell_scan(bus: &str, found: &[Found], as_json: bool, out: &mut dyn Write) -> io::Result<bool> {
    for found in found {
        if as_json {
            writeln!(out, "{}", serde_json::to_string(found)?)?;
            continue;
        }
        write!(out, "{:#04x}  ", found.address)?;
        match &found.what {
            What::Ina219 { fresh: true, .. } => writeln!(out, "behaves like an INA219, as after power-on")?,
            What::Ina219 { configuration, fresh: false } => {
                writeln!(out, "behaves like an INA219, set up with configuration {configuration:#06x}")?;
            }
            What::Other { why } => writeln!(out, "no INA219: {why}")?,
            What::Unknown { why } => writeln!(out, "cannot be asked: {why}")?,
        }
    }
    if found.is_empty() && !as_json {
        writeln!(
            out,
            "nothing answers at 0x40 to 0x4f on {bus}: check supply, ground, SDA and SCL, and whether it is this bus \
             (`i2cdetect -l` lists them)"
        )?;
    }
    Ok(found.iter().any(|found| matches!(found.what, What::Ina219 { .. })))
}

/// Reads while `through_ma` flows through each shunt, and says what would make the meter right. Returns whether it is.
///
/// # Errors
/// If the meter cannot be read.
pub fn tell_calibration(
    meter: &mut dyn Meter,
    wirings: &[Wiring],
    names: &[String],
    through_ma: i64,
    out: &mut dyn Write,
) -> Result<bool, Box<dyn std::error::Error>> {
    let readings: Vec<Vec<MilliAmps>> =
        (0..READINGS).map(|_| meter.read(PATIENCE).map(|reading| reading.currents())).collect::<Result<_, _>>()?;
    let mut right = true;
    for (place, wiring) in wirings.iter().enumerate() {
        let of_phase: Vec<MilliAmps> = readings.iter().filter_map(|currents| currents.get(place).copied()).collect();
        let Some(calibration) = calibrate(wiring, &of_phase, through_ma) else { continue };
        right &= matches!(calibration, Calibration { advice: Correction::Right, .. });
        writeln!(out, "{}: {calibration}", names.get(place).map_or("?", String::as_str))?;
    }
    Ok(right)
}

#[cfg(test)]
mod tests {
    use grid_protocol::units::MilliVolts;

    use super::super::{ChipConfig, Ina219Meter, PhaseReading};
    use super::*;
    use crate::simulated_ina219::{Fault, Sensed, SimulatedBus};

    fn bench() -> (SimulatedBus, Ina219Meter<SimulatedBus>) {
        let bus = SimulatedBus::new(boot_micros);
        bus.attach(0x40, |_| Sensed { shunt_uv: 16_000, bus_mv: 5_000 }).unwrap();
        let handle = bus.clone();
        let meter = Ina219Meter::open(vec![ChipConfig::default()], move |_| Ok(handle.clone())).unwrap();
        (bus, meter)
    }

    fn written(tell: impl FnOnce(&mut Vec<u8>) -> bool) -> (bool, String) {
        let mut out = Vec::new();
        let well = tell(&mut out);
        (well, String::from_utf8(out).unwrap())
    }

    #[test]
    fn readings_are_a_table_or_a_line_of_json_each() {
        let (_bus, mut meter) = bench();
        let names = ["L2".to_owned()];
        let (well, table) = written(|out| read(&mut meter, &names, Some(1), Show::Tables, out).unwrap());
        assert!(well && table.lines().count() == 2, "{table}");
        assert!(table.contains("L2") && table.contains("16000") && table.contains("230000"), "{table}");
        let (_, json) = written(|out| read(&mut meter, &names, Some(2), Show::Json, out).unwrap());
        assert_eq!(json.lines().count(), 2);
        for line in json.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["phases"], json!([{ "current_ma": 16_000, "voltage_mv": 230_000, "saturated": false }]));
        }
    }

    #[test]
    fn a_live_table_is_drawn_over_the_last_one() {
        let (_bus, mut meter) = bench();
        let (_, text) = written(|out| read(&mut meter, &["L1".to_owned()], Some(2), Show::Live, out).unwrap());
        assert_eq!(text.matches("\x1b[2F\x1b[J").count(), 1, "{text:?}");
    }

    #[test]
    fn a_failure_is_shown_and_is_not_well() {
        let (bus, mut meter) = bench();
        bus.set_fault(0x40, Fault::Absent).unwrap();
        let (well, text) = written(|out| read(&mut meter, &[], Some(1), Show::Json, out).unwrap());
        assert!(!well && text.contains("\"error\"") && text.contains("0x40"), "{text}");
        let saturated = PhaseReading { current: MilliAmps(1), voltage: MilliVolts(1), saturated: true };
        assert!(as_table(&["L1".to_owned()], &Ok(Reading::now(vec![saturated])), 0).contains("or more"));
    }

    #[test]
    fn a_scan_says_what_is_there_or_what_to_check() {
        let (bus, _meter) = bench();
        let found = super::super::scan(&mut bus.clone());
        let (well, text) = written(|out| tell_scan("/dev/i2c-1", &found, false, out).unwrap());
        assert!(well && text.starts_with("0x40  behaves like an INA219"), "{text}");
        let (well, text) = written(|out| tell_scan("/dev/i2c-1", &[], false, out).unwrap());
        assert!(!well && text.contains("/dev/i2c-1") && text.contains("SDA"), "{text}");
    }

    #[test]
    fn a_calibration_says_what_to_set() {
        let (_bus, mut meter) = bench();
        let wiring = [Wiring { shunt_milliohm: Some(100), scale: 100, invert: false, offset_ma: 0 }];
        let names = ["L1".to_owned()];
        let mut told = |ma| written(|out| tell_calibration(&mut meter, &wiring, &names, ma, out).unwrap());
        assert!(told(160).0);
        let (right, text) = told(-200);
        assert!(!right && text.contains("set invert = true and shunt_milliohm = 80"), "{text}");
        let (right, text) = told(0);
        assert!(!right && text.contains("offset_ma = -16000"), "{text}");
    }
}
