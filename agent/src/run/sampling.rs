//! The thread that reads the meter.

use std::thread;
use std::time::Duration;

use grid_protocol::units::Millis;
use grid_service::clock::boot_micros;
use tokio::sync::mpsc;

use super::AgentError;
use crate::meter::{AFTER_AN_ERROR, Meter, MeterError, Reading};

/// A reading is waited for at least so long before that is reported as an error …
const PATIENCE: Duration = Duration::from_millis(500);
/// … and for so many of the meter's expected intervals.
const INTERVALS: u64 = 3;
/// Readings that nobody takes wait here; more than a few are worthless.
const QUEUE: usize = 2;

/// What the meter said.
pub struct Sampled {
    /// When the meter had it, in microseconds since boot: later than it was taken.
    pub had_at_us: u64,
    /// The reading.
    pub reading: Result<Reading, MeterError>,
    /// What the next may take at the most while all is well: of some sensors that is known only when they are found.
    pub expected_interval: Millis,
}

/// Starts to read the meter over and over, until the receiver is dropped.
pub fn start(mut meter: Box<dyn Meter>) -> Result<mpsc::Receiver<Sampled>, AgentError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sample = move || {
        while !sender.is_closed() {
            let intervals = Duration::from_millis(meter.expected_interval().0.saturating_mul(INTERVALS));
            let reading = meter.read(PATIENCE.max(intervals));
            let failed = reading.is_err();
            // A full queue means that the owner is busy: the next reading is newer anyway.
            let _ = sender.try_send(Sampled {
                had_at_us: boot_micros(),
                reading,
                expected_interval: meter.expected_interval(),
            });
            if failed {
                thread::sleep(AFTER_AN_ERROR);
            }
        }
    };
    thread::Builder::new().name("meter".to_owned()).spawn(sample).map_err(AgentError::Thread)?;
    Ok(receiver)
}
