//! Meters and actuators in memory: readings come when they are told to.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use grid_agent::actuator::{Actuator, ActuatorError};
use grid_agent::meter::{Meter, MeterError, PhaseReading, Reading};
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, Millis};

use crate::site::{EXPECTED_INTERVAL, LEAST, READING};

const VOLTAGE: MilliVolts = MilliVolts(230_000);
/// A reading is taken this often although nothing changed, before the agent takes its meter for broken.
const UNCHANGED: Duration = Duration::from_millis(400);

fn reading(currents: &[MilliAmps]) -> Reading {
    let phase = |current: &MilliAmps| PhaseReading { current: *current, voltage: VOLTAGE, saturated: false };
    Reading::now(currents.iter().map(phase).collect())
}

/// The transformer's meter: a reading is what was sent to it.
pub struct Scripted(Receiver<[MilliAmps; 3]>);

impl Scripted {
    pub fn new() -> (Sender<[MilliAmps; 3]>, Self) {
        let (script, readings) = channel();
        (script, Self(readings))
    }
}

impl Meter for Scripted {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        Ok(self.0.try_recv().ok().map(|currents| reading(&currents)))
    }

    fn phases(&self) -> usize {
        3
    }

    fn poll_interval(&self) -> Duration {
        READING
    }

    fn expected_interval(&self) -> Millis {
        EXPECTED_INTERVAL
    }

    fn read(&mut self, patience: Duration) -> Result<Reading, MeterError> {
        match self.0.recv_timeout(patience) {
            Ok(currents) => Ok(reading(&currents)),
            Err(RecvTimeoutError::Timeout) => Err(MeterError::NoConversion { waited: patience }),
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(patience);
                Err(MeterError::NoConversion { waited: patience })
            }
        }
    }
}

/// What flows through one three-phase device that takes all it may, the same on each phase.
#[derive(Default)]
pub struct Flow(AtomicI64);

impl Flow {
    pub fn current(&self) -> MilliAmps {
        MilliAmps(self.0.load(Ordering::Acquire))
    }
}

/// The actuator of a device that takes all it may at once, and its meter, which has a reading one conversion after each
/// change. `told` hears of every change.
pub fn device(
    demand: MilliAmps,
    told: impl Fn(MilliAmps) + Send + 'static,
) -> (Arc<Flow>, Box<dyn Actuator>, Box<dyn Meter>) {
    let flow = Arc::new(Flow::default());
    let (changed, changes) = channel();
    let limiter = Limiter { demand, flow: flow.clone(), changed, told: Box::new(told) };
    (flow.clone(), Box::new(limiter), Box::new(Follower { flow, changes: Mutex::new(changes) }))
}

struct Limiter {
    demand: MilliAmps,
    flow: Arc<Flow>,
    changed: Sender<()>,
    told: Box<dyn Fn(MilliAmps) + Send>,
}

impl Actuator for Limiter {
    fn set(&mut self, limit: MilliAmps, _until: Option<BootTime>) -> Result<(), ActuatorError> {
        let current = if limit < LEAST { MilliAmps::ZERO } else { limit.min(self.demand) };
        if self.flow.0.swap(current.0, Ordering::AcqRel) != current.0 {
            (self.told)(current);
            // A meter that has ended reads nothing.
            let _ = self.changed.send(());
        }
        Ok(())
    }

    fn demand(&mut self) -> Result<MilliAmps, ActuatorError> {
        Ok(self.demand)
    }

    fn change_time(&self) -> Millis {
        Millis::ZERO
    }
}

struct Follower {
    flow: Arc<Flow>,
    changes: Mutex<Receiver<()>>,
}

impl Meter for Follower {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        Ok(Some(reading(&[self.flow.current(); 3])))
    }

    fn phases(&self) -> usize {
        3
    }

    fn poll_interval(&self) -> Duration {
        READING
    }

    fn expected_interval(&self) -> Millis {
        EXPECTED_INTERVAL
    }

    fn read(&mut self, patience: Duration) -> Result<Reading, MeterError> {
        let changes = self.changes.get_mut().unwrap_or_else(PoisonError::into_inner);
        if changes.recv_timeout(patience.min(UNCHANGED)).is_ok() {
            thread::sleep(READING);
            while changes.try_recv().is_ok() {}
        }
        Ok(reading(&[self.flow.current(); 3]))
    }
}
