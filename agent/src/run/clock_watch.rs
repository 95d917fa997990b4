//! Notices that the civil clock was set.

use grid_protocol::units::{BootTime, UnixMillis};

/// A clock that moves by more than this between two looks was set; less is drift, or a clock that is being disciplined.
const STEP_MS: i64 = 1000;

/// Compares the civil clock with the one that never jumps.
#[derive(Clone, Copy, Debug)]
pub struct ClockWatch {
    /// Unix time less boot time.
    difference: i64,
}

impl ClockWatch {
    pub fn new(boot: BootTime, unix: UnixMillis) -> Self {
        Self { difference: difference(boot, unix) }
    }

    /// By how much the civil clock was set since the last look, if it was. To be called often, with times taken together.
    pub fn look(&mut self, boot: BootTime, unix: UnixMillis) -> Option<i64> {
        let before = std::mem::replace(&mut self.difference, difference(boot, unix));
        let moved = self.difference.saturating_sub(before);
        (moved.abs() > STEP_MS).then_some(moved)
    }
}

fn difference(boot: BootTime, unix: UnixMillis) -> i64 {
    let signed = |millis| i64::try_from(millis).unwrap_or(i64::MAX);
    signed(unix.0).saturating_sub(signed(boot.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: u64 = 1_795_366_800_000;

    fn watch() -> ClockWatch {
        ClockWatch::new(BootTime(5_000), UnixMillis(UNIX))
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once_with_direction_and_size() {
        let mut watch = watch();
        assert_eq!(watch.look(BootTime(6_000), UnixMillis(UNIX + 1_000 + 3_600_000)), Some(3_600_000));
        assert_eq!(watch.look(BootTime(7_000), UnixMillis(UNIX + 2_000 + 3_600_000)), None);
        assert_eq!(watch.look(BootTime(8_000), UnixMillis(UNIX + 3_000)), Some(-3_600_000));
        assert_eq!(watch.look(BootTime(9_000), UnixMillis(0)), Some(-4_000 - UNIX as i64));
    }

    #[test]
    fn a_clock_that_drifts_or_is_slewed_is_followed() {
        let mut watch = watch();
        for second in 1..100_000_u64 {
            // 500 ppm, the most by which ntpd slews.
            let unix = UNIX + second * 1000 + second / 2;
            assert_eq!(watch.look(BootTime(5_000 + second * 1000), UnixMillis(unix)), None);
        }
    }

    #[test]
    fn a_machine_that_slept_is_no_step() {
        let mut watch = watch();
        assert_eq!(watch.look(BootTime(5_000 + 86_400_000), UnixMillis(UNIX + 86_400_000)), None);
    }

    #[test]
    fn a_second_is_not_a_step_yet() {
        assert_eq!(watch().look(BootTime(5_000), UnixMillis(UNIX + 1_000)), None);
        assert_eq!(watch().look(BootTime(5_000), UnixMillis(UNIX + 1_001)), Some(1_001));
    }
}
