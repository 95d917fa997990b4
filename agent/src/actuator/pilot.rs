//! The control pilot of IEC 61851-1: a square wave of 1 kHz, whose duty tells the car what it may draw.
//!
//! | current | duty in % | duty in ns of a period of 1 ms |
//! |---|---|---|
//! | below 6 A | 100, no square wave: connected, but not to charge (state B1) | 1 000 000 |
//! | 6 A to 51 A | I / 0.6 | mA · 50 / 3 |
//! | above 51 A to 80 A | I / 2.5 + 64 | mA · 4 + 640 000 |
//! | above 80 A | as for 80 A: the table ends there | 960 000 |
//!
//! All is rounded down, so a car is never told more than the limit. Between 51 A and 52.5 A the second formula gives a
//! duty that a car reads by the first: it is told a little less.

use grid_protocol::units::MilliAmps;

/// The period: 1 kHz (IEC 61851-1, table A.2).
pub const PERIOD_NS: u64 = 1_000_000;
/// The least that can be told.
pub const LEAST: MilliAmps = MilliAmps(6_000);
/// The most that can be told.
pub const MOST: MilliAmps = MilliAmps(80_000);
/// Up to here the first formula holds.
const KNEE: MilliAmps = MilliAmps(51_000);

/// How long the pilot is high in each period, so that the car may draw `limit`.
pub fn duty_ns(limit: MilliAmps) -> u64 {
    let ns = match limit.min(MOST) {
        limit if limit < LEAST => return PERIOD_NS,
        limit if limit <= KNEE => limit.0 * 50 / 3,
        limit => limit.0 * 4 + 640_000,
    };
    u64::try_from(ns).unwrap_or(PERIOD_NS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a car reads from a duty (IEC 61851-1, table A.8), in microamperes.
    fn advertised_ua(duty_ns: u64) -> u64 {
        match duty_ns {
            0..80_000 => 0,
            80_000..100_000 => 6_000_000,
            100_000..=850_000 => duty_ns * 60,
            850_001..=960_000 => (duty_ns - 640_000) * 250,
            960_001..=970_000 => 80_000_000,
            970_001.. => 0,
        }
    }

    #[test]
    fn the_corners_of_the_table_hold_both_ways() {
        for (ma, ns) in [
            (0, PERIOD_NS),
            (5_999, PERIOD_NS),
            (6_000, 100_000),
            (10_000, 166_666),
            (16_000, 266_666),
            (32_000, 533_333),
            (51_000, 850_000),
            (52_500, 850_000),
            (63_000, 892_000),
            (80_000, 960_000),
            (80_001, 960_000),
            (200_000, 960_000),
        ] {
            assert_eq!(duty_ns(MilliAmps(ma)), ns, "{ma} mA");
        }
        for (ns, ua) in [(100_000, 6_000_000), (850_000, 51_000_000), (960_000, 80_000_000), (PERIOD_NS, 0)] {
            assert_eq!(advertised_ua(ns), ua, "{ns} ns");
        }
        assert_eq!(duty_ns(MilliAmps(-1)), PERIOD_NS);
    }

    proptest! {
        #[test]
        fn a_car_is_never_told_more_than_the_limit_and_hardly_less(ma in 0_i64..100_000) {
            let told = advertised_ua(duty_ns(MilliAmps(ma)));
            let limit = u64::try_from(ma).unwrap() * 1000;
            prop_assert!(told <= limit, "{told} µA of {limit}");
            // Half an ampere is the step at the knee.
            let slack = if (51_000..52_500).contains(&ma) { 1_500_000 } else { 250 };
            let reachable = if ma < 6_000 { 0 } else { limit.min(80_000_000) };
            prop_assert!(told + slack >= reachable, "{told} µA of {limit}");
        }
    }
}
