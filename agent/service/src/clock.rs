//! The two clocks: one for spans, one for dates.

use grid_protocol::units::{BootTime, UnixMillis};
use rustix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since boot, suspended time included (`CLOCK_BOOTTIME`). Leases are counted on it: unlike civil time it
/// never jumps, and unlike `CLOCK_MONOTONIC` it does not stand still while the machine sleeps and a lease runs out.
pub fn boot_micros() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

/// Now, on the clock of leases.
pub fn boot_now() -> BootTime {
    BootTime(boot_micros() / 1000)
}

/// Now, on the civil clock, as this machine believes.
pub fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_goes_forward() {
        let before = boot_micros();
        assert!(before > 0 && boot_micros() >= before);
    }
}
