//! The thread that reads the meter.

use std::thread;
use std::time::Duration;

use grid_protocol::units::BootTime;
use grid_service::clock::boot_micros;
use tokio::sync::mpsc;

use super::AgentError;
use crate::meter::{Meter, MeterError, Reading};

/// How long a reading is waited for before that is reported as an error.
const PATIENCE: Duration = Duration::from_millis(500);
/// A failing meter is not asked more often than this.
const AFTER_AN_ERROR: Duration = Duration::from_millis(200);
/// Readings that nobody takes wait here; more than a few are worthless.
const QUEUE: usize = 2;

/// What the meter said.
pub struct Sampled {
    /// When its owner had it, in microseconds since boot.
    pub at_us: u64,
    /// The reading.
    pub reading: Result<Reading, MeterError>,
}

impl Sampled {
    pub fn at(&self) -> BootTime {
        BootTime(self.at_us / 1000)
    }
}

/// Starts to read the meter over and over, until the receiver is dropped.
pub fn start(mut meter: Box<dyn Meter>) -> Result<mpsc::Receiver<Sampled>, AgentError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let sample = move || {
        while !sender.is_closed() {
            let reading = meter.read(PATIENCE);
            let failed = reading.is_err();
            // A full queue means that the owner is busy: the next reading is newer anyway.
            let _ = sender.try_send(Sampled { at_us: boot_micros(), reading });
            if failed {
                thread::sleep(AFTER_AN_ERROR);
            }
        }
    };
    thread::Builder::new().name("meter".to_owned()).spawn(sample).map_err(AgentError::Thread)?;
    Ok(receiver)
}
