//! No meter: a constant.

use std::time::Duration;

use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use serde::{Deserialize, Serialize};

use super::{Meter, MeterError, PhaseReading, Reading};

/// A constant is as fresh whenever it is asked for; so often is enough to keep control going.
const EVERY: Duration = Duration::from_millis(200);
const EXPECTED_INTERVAL: Millis = Millis(600);

/// A node without a meter of its own.
///
/// ```toml
/// [meter.none]
/// base_ma = [12000, 12000, 12000]
/// ```
///
/// - **A transformer** (or a fuse that is led like one) takes `base_ma` for its uncontrolled load, whatever flows: devices
///   share what the limit leaves above it. Give the most that may flow besides them, since nobody sees when it is more;
///   what devices draw above their limits is not seen either.
/// - **A device** reports `base_ma` as its current, whatever it draws. Give what it draws for certain, mostly 0: what it
///   draws above that looks to its transformer like a load that nobody controls, while its lease counts in full. So it
///   takes its share twice while it draws, which is safe and wastes room; its energy and sessions are not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoMeterSettings {
    /// The constant for each phase, in milliamps.
    pub base_ma: Vec<MilliAmps>,
    /// The voltage that is reported, in millivolts. Default: 230000.
    #[serde(default = "super::settings::nominal")]
    pub nominal_mv: MilliVolts,
}

/// Reads what is configured, over and over.
pub struct NoMeter {
    settings: NoMeterSettings,
    fresh: bool,
}

impl NoMeter {
    /// A meter that is none.
    pub fn new(settings: NoMeterSettings) -> Self {
        Self { settings, fresh: true }
    }
}

impl Meter for NoMeter {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        self.fresh = !self.fresh;
        if self.fresh {
            return Ok(None);
        }
        let voltage = self.settings.nominal_mv;
        let phases = self.settings.base_ma.iter();
        let phases = phases.map(|current| PhaseReading { current: *current, voltage, saturated: false }).collect();
        Ok(Some(Reading::now(phases)))
    }

    fn phases(&self) -> usize {
        self.settings.base_ma.len()
    }

    fn poll_interval(&self) -> Duration {
        EVERY
    }

    fn expected_interval(&self) -> Millis {
        EXPECTED_INTERVAL
    }

    fn is_constant(&self) -> bool {
        true
    }
}
