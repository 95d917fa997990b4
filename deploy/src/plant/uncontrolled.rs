//! The day without control: what the limit is to be compared with.

use grid_protocol::units::{MilliAmps, Millis};

use super::{Plant, PlantTime};
use crate::street::Street;

/// The largest load of a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// In watts over all phases.
    pub load_w: u64,
    /// When it began, since the day's start.
    pub at: Millis,
}

/// The largest load if every car charges at full power from its arrival until it is full.
pub fn uncontrolled_peak(street: &Street) -> Peak {
    let mut plant = Plant::new(street, u64::MAX);
    for id in plant.charge_points() {
        plant.set_limit(id, MilliAmps(i64::MAX));
    }
    plant.advance(PlantTime(u64::MAX));
    let statistics = plant.statistics();
    Peak { load_w: statistics.peak_w, at: statistics.peak_at.millis() }
}
