//! What the device's meter reads, and the energy that it makes up.

use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, MilliWattHours, Millis};

use super::reporting::DEADBAND;

/// 1 mWh is 3.6 J; current times voltage times time gives mA · mV · ms = nJ.
const NANOJOULES_PER_MWH: i128 = 3_600_000_000;

/// One reading of the device's meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: BootTime,
    /// Current per phase; negative if it feeds in.
    pub current: Vec<MilliAmps>,
    /// Voltage per phase.
    pub voltage: Vec<MilliVolts>,
}

impl Sample {
    /// Whether it takes current from the grid.
    pub fn draws(&self) -> bool {
        self.current.iter().any(|current| *current > DEADBAND)
    }

    /// The current on the phase that carries most.
    pub fn most(&self) -> MilliAmps {
        self.current.iter().copied().max().unwrap_or(MilliAmps::ZERO)
    }

    /// In microwatts.
    fn power(&self) -> i128 {
        self.current.iter().zip(&self.voltage).map(|(ma, mv)| i128::from(ma.0) * i128::from(mv.0)).sum()
    }
}

/// What flowed since the device started; it falls while the device feeds in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Energy {
    nanojoules: i128,
}

impl Energy {
    /// What flowed at `before` flowed for that time.
    pub fn add(&mut self, before: &Sample, plant_time: Millis) {
        self.nanojoules += before.power() * i128::from(plant_time.0);
    }

    /// So far.
    pub fn total(&self) -> MilliWattHours {
        let whole = self.nanojoules / NANOJOULES_PER_MWH;
        let most = if whole < 0 { i64::MIN } else { i64::MAX };
        MilliWattHours(i64::try_from(whole).unwrap_or(most))
    }
}
