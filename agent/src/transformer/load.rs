//! How much of the load nobody controls.
//!
//! Per phase it is the transformer's reading less what devices say they draw. The two do not come at the same moment, so
//! it is estimated twice, each time on the safe side:
//!
//! - **for raising** a device counts with the smallest value it reported since 100 ms before the reading, and the highest
//!   estimate of the last 200 ms holds: neither a report that is late nor a reading that is early looks like room;
//! - **for lowering** it counts with the largest value it reported since the reading: a car that has just risen or
//!   fallen does not look like a jump of the base load.

use std::collections::VecDeque;

use grid_protocol::units::{BootTime, MilliAmps, Millis};

/// Since how long before a reading a report counts for raising.
const BEFORE_THE_READING: Millis = Millis(100);
/// For how long an estimate keeps others from being raised.
const ESTIMATE_HOLDS: Millis = Millis(200);

/// What one device reported lately, per phase of the device.
#[derive(Clone, Debug, Default)]
pub struct Reports(VecDeque<(BootTime, Vec<MilliAmps>)>);

impl Reports {
    /// Notes a report that was received `at`.
    pub fn note(&mut self, at: BootTime, current: Vec<MilliAmps>) {
        // The newest report before the window is still in force at its beginning.
        while self.0.get(1).is_some_and(|(next, _)| at.since(*next) > ESTIMATE_HOLDS) {
            self.0.pop_front();
        }
        self.0.push_back((at, current));
    }

    /// The smallest value in force on the `phase`-th phase since 100 ms before `reading`. A report older than
    /// `in_force` counts as nothing.
    pub fn smallest(&self, phase: usize, reading: BootTime, in_force: Millis) -> MilliAmps {
        let values = self.since(phase, reading - BEFORE_THE_READING, in_force);
        values.min().unwrap_or(MilliAmps::ZERO)
    }

    /// The largest value in force on the `phase`-th phase since `reading`.
    pub fn largest(&self, phase: usize, reading: BootTime, in_force: Millis) -> MilliAmps {
        self.since(phase, reading, in_force).max().unwrap_or(MilliAmps::ZERO)
    }

    fn since(&self, phase: usize, start: BootTime, in_force: Millis) -> impl Iterator<Item = MilliAmps> {
        let first = self.0.iter().rposition(|(at, _)| *at <= start);
        self.0.iter().skip(first.unwrap_or(0)).enumerate().flat_map(move |(place, (at, current))| {
            let value = current.get(phase).copied().unwrap_or(MilliAmps::ZERO);
            let outdated = place == 0 && start.since(*at) > in_force;
            // A device that was not heard of before the window drew nothing that we know of when it began.
            let unknown = place == 0 && first.is_none();
            let value = if outdated { MilliAmps::ZERO } else { value };
            unknown.then_some(MilliAmps::ZERO).into_iter().chain([value])
        })
    }
}

/// The highest of the latest estimates, per phase.
#[derive(Clone, Debug, Default)]
pub struct Estimates(VecDeque<(BootTime, [MilliAmps; 3])>);

impl Estimates {
    /// Notes an estimate for a reading taken `at`.
    pub fn note(&mut self, at: BootTime, uncontrolled: [MilliAmps; 3]) {
        while self.0.front().is_some_and(|(then, _)| at.since(*then) > ESTIMATE_HOLDS) {
            self.0.pop_front();
        }
        self.0.push_back((at, uncontrolled));
    }

    /// The highest, per phase.
    pub fn highest(&self) -> [MilliAmps; 3] {
        let mut highest = [MilliAmps::ZERO; 3];
        for (_, estimate) in &self.0 {
            for (most, value) in highest.iter_mut().zip(estimate) {
                *most = (*most).max(*value);
            }
        }
        highest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_FORCE: Millis = Millis(1500);

    fn reports(list: &[(u64, i64)]) -> Reports {
        let mut reports = Reports::default();
        list.iter().for_each(|(at, current)| reports.note(BootTime(*at), vec![MilliAmps(*current)]));
        reports
    }

    #[test]
    fn a_car_that_fell_after_the_reading_leaves_no_room_and_is_no_jump() {
        let reports = reports(&[(1000, 16_000), (2005, 0)]);
        assert_eq!(reports.smallest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
        assert_eq!(reports.largest(0, BootTime(2000), IN_FORCE), MilliAmps(16_000));
    }

    #[test]
    fn a_car_that_rose_before_the_reading_counts_with_its_old_value_for_raising_only() {
        let reports = reports(&[(1000, 0), (1950, 16_000)]);
        assert_eq!(reports.smallest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
        assert_eq!(reports.largest(0, BootTime(2000), IN_FORCE), MilliAmps(16_000));
        assert_eq!(reports.smallest(0, BootTime(2051), IN_FORCE), MilliAmps(16_000));
    }

    #[test]
    fn an_old_report_counts_as_nothing_and_so_does_silence() {
        assert_eq!(reports(&[(1000, 16_000)]).largest(0, BootTime(2501), IN_FORCE), MilliAmps(0));
        assert_eq!(Reports::default().largest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
        assert_eq!(reports(&[(2001, 16_000)]).smallest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
    }

    #[test]
    fn one_low_estimate_opens_no_room() {
        let mut estimates = Estimates::default();
        let flat = |current| [MilliAmps(current); 3];
        estimates.note(BootTime(1000), flat(50_000));
        estimates.note(BootTime(1020), flat(34_000));
        assert_eq!(estimates.highest(), flat(50_000));
        estimates.note(BootTime(1201), flat(34_000));
        assert_eq!(estimates.highest(), flat(34_000));
    }
}
