//! What the day was like for the transformer.

use std::time::Duration;

use grid_protocol::units::MilliAmps;

use super::energy::MilliWatts;
use super::{PhaseCurrents, PlantTime};

/// What was seen since the day's start, of the true load and not of what any meter showed. All times are plant time:
/// divide them by the time factor for what a clock on the wall saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// The largest load, in watts over all phases.
    pub peak_w: u64,
    /// When that load began.
    pub peak_at: PlantTime,
    /// For how long the load was above the limit although the base load alone was not.
    ///
    /// Above means on any phase. That includes the sum: three phases at their limits carry the limit in watts, so who is
    /// above in sum is above on one of them. While the base load alone is above on any phase nothing counts, since then
    /// no charge point can help.
    pub over_limit: Duration,
    /// The longest stretch of it without interruption.
    pub longest_over_limit: Duration,
    /// The stretch that reaches to the present.
    present_over_limit: Duration,
}

impl Statistics {
    /// Counts what was constant from `from` until `until`.
    pub(super) fn record(
        &mut self,
        from: PlantTime,
        until: PlantTime,
        total: PhaseCurrents,
        base: PhaseCurrents,
        limit: MilliAmps,
    ) {
        let load = MilliWatts::of(total.into_iter().sum(), 1);
        let load_w = u64::try_from(load.0 / 1_000).unwrap_or_default();
        if load_w > self.peak_w {
            (self.peak_w, self.peak_at) = (load_w, from);
        }
        let above = |currents: PhaseCurrents| currents.into_iter().any(|current| current > limit);
        if above(total) && !above(base) {
            let span = until.since(from);
            self.over_limit += span;
            self.present_over_limit += span;
            self.longest_over_limit = self.longest_over_limit.max(self.present_over_limit);
        } else {
            self.present_over_limit = Duration::ZERO;
        }
    }
}
