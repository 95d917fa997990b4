//! What a run is judged by.

use serde::Serialize;

use super::watch::Latency;
use crate::plant::SessionReport;

/// The result of a run. Times are wall-clock time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The transformer's limit at the end.
    pub limit_w: u64,
    /// The day's peak if nobody controlled anything.
    pub uncontrolled_peak_w: u64,
    /// The day's true peak.
    pub peak_w: u64,
    /// For how long the true load was above the limit while the base load alone was below it.
    pub over_limit_ms: u64,
    /// The longest stretch of that.
    pub longest_over_limit_ms: u64,
    /// What became of each charging session.
    pub sessions: Vec<SessionLine>,
    /// Each charge point, in the street's order.
    pub devices: Vec<DeviceLine>,
    /// Numbered messages that the agents signed. (The anchor writes its own before it publishes them.)
    pub messages_published: u64,
    /// Of those, how many stand in the log.
    pub messages_logged: u64,
    /// Records on the ledger.
    pub records_on_ledger: u64,
    /// Whether the log holds.
    pub verified: bool,
    /// How often the rule of the system was found broken.
    pub lease_violations: u64,
    /// From the transformer's reading to a device that obeys.
    pub control_latency_us: Latency,
}

/// What became of one charging session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionLine {
    /// The charge point.
    pub device: String,
    /// What the car wanted.
    pub wanted_wh: u64,
    /// What it got.
    pub delivered_wh: u64,
    /// What it would have got at full power until it was full, left, or the day ended.
    pub possible_wh: u64,
}

/// What one charge point was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceLine {
    /// Its name.
    pub device: String,
    /// How often its limit was set to another value than before.
    pub limit_changes: u64,
}

impl From<SessionReport> for SessionLine {
    fn from(report: SessionReport) -> Self {
        Self {
            device: report.device.to_string(),
            wanted_wh: report.wanted_wh,
            delivered_wh: report.delivered_wh,
            possible_wh: report.possible_wh,
        }
    }
}

impl Report {
    /// Whether the run shows what it should: the log holds, and the rule was never broken.
    pub fn holds(&self) -> bool {
        self.verified && self.lease_violations == 0
    }
}
