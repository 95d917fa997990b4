//! How much of the load nobody controls.
//!
//! Per phase it is the transformer's reading less what devices say they draw. The two do not come at the same moment, and
//! a report can be lost, so it is estimated twice, each time on the safe side:
//!
//! - **for raising** a device counts with the smallest value it reported since 100 ms before the reading, or was told to
//!   fall to in the last 100 ms: a car that has just risen or fallen leaves no room. And the highest estimate counts of all
//!   that were made while a report stays in force: a car that has fallen without saying so (its power was cut, its report
//!   was lost) leaves no room either, since it may rise again while its lease is alive.
//! - **for lowering** it counts with the largest value it reported since the reading, or may have risen to in the last
//!   100 ms: a car that has just risen or fallen does not look like a jump of the base load. A car may also follow an older
//!   setpoint only now, with its report still on the way: as long as leases can explain a rise and the limit is kept, the
//!   lowest estimate of the last 100 ms counts ([`Rises`]).
//!
//! A device whose own meter is late counts with nothing in both: all that it draws may be uncontrolled.
//!
//! What a device feeds in (a battery that discharges) is not taken off the load: it counts as negative uncontrolled load,
//! since nobody is obliged to go on with it.

use std::collections::VecDeque;

use grid_protocol::units::{BootTime, MilliAmps, Millis};

use crate::device::DEADBAND;
use crate::lease::PerPhase;

/// Within this time a change shows in the reading and in the report, whichever is first.
pub const CHANGE_SHOWS: Millis = Millis(100);

/// What one device reported lately, per phase of the device.
#[derive(Clone, Debug, Default)]
pub struct Reports(VecDeque<(BootTime, Vec<MilliAmps>)>);

impl Reports {
    /// Notes a report that was received `at`. Says whether it differs from the one before.
    pub fn note(&mut self, at: BootTime, current: Vec<MilliAmps>) -> bool {
        // The newest report before the window is still in force at its beginning.
        while self.0.get(1).is_some_and(|next| at.since(next.0) > CHANGE_SHOWS * 2) {
            self.0.pop_front();
        }
        let before = |phase: usize| self.newest(phase);
        let differs = current.iter().enumerate().any(|(phase, now)| (now.0 - before(phase).0).abs() > DEADBAND.0);
        self.0.push_back((at, current));
        differs
    }

    /// The newest value on the `phase`-th phase.
    pub fn newest(&self, phase: usize) -> MilliAmps {
        self.0.back().map_or(MilliAmps::ZERO, |newest| on(newest, phase))
    }

    /// The smallest value in force on the `phase`-th phase since 100 ms before `reading`. A report older than
    /// `in_force` counts as nothing.
    pub fn smallest(&self, phase: usize, reading: BootTime, in_force: Millis) -> MilliAmps {
        let start = reading - CHANGE_SHOWS;
        let values = self.since(start).map(|reported| match reported {
            Some(reported) if start.since(reported.0) <= in_force => on(reported, phase),
            Some(_) | None => MilliAmps::ZERO,
        });
        values.min().unwrap_or(MilliAmps::ZERO)
    }

    /// The largest value in force on the `phase`-th phase since `reading`. What a silent device could still draw is for its
    /// leases to bound, so a report counts until all of them are over, `silent_after`.
    pub fn largest(&self, phase: usize, reading: BootTime, silent_after: Millis) -> MilliAmps {
        let values = self.since(reading).flatten().filter(|reported| reading.since(reported.0) <= silent_after);
        values.map(|reported| on(reported, phase)).max().unwrap_or(MilliAmps::ZERO).max(MilliAmps::ZERO)
    }

    /// The reports in force since `start`; first nothing, if the device was not heard of before: then it drew nothing that
    /// we know of.
    fn since(&self, start: BootTime) -> impl Iterator<Item = Option<&(BootTime, Vec<MilliAmps>)>> {
        let first = self.0.iter().rposition(|(at, _)| *at <= start);
        let unknown = first.is_none().then_some(None);
        unknown.into_iter().chain(self.0.iter().skip(first.unwrap_or(0)).map(Some))
    }
}

/// What was reported for this phase.
fn on((_, current): &(BootTime, Vec<MilliAmps>), phase: usize) -> MilliAmps {
    current.get(phase).copied().unwrap_or(MilliAmps::ZERO)
}

/// The estimates for raising, per phase.
///
/// A reading and the report of the same change come one after the other. So an estimate of less than 100 ms before or after
/// a changed report may be wrong by as much as that changed, and counts for so much less.
#[derive(Clone, Debug, Default)]
pub struct Estimates {
    newest: PerPhase,
    /// What is certain of each.
    kept: VecDeque<(BootTime, PerPhase)>,
    /// By how much reports changed lately.
    changes: VecDeque<(BootTime, PerPhase)>,
}

impl Estimates {
    /// A device's report changed by so much: readings of this moment may or may not show it.
    pub fn report_changed(&mut self, at: BootTime, by: PerPhase) {
        for (_, estimate) in self.kept.iter_mut().filter(|(then, _)| at.since(*then) <= CHANGE_SHOWS) {
            estimate.iter_mut().zip(by).for_each(|(estimate, by)| *estimate -= by);
        }
        self.changes.push_back((at, by));
    }

    /// Notes the estimate for a reading taken `at`. Estimates count for as long as a report stays `in_force`.
    pub fn note(&mut self, at: BootTime, uncontrolled: PerPhase, in_force: Millis) {
        self.newest = uncontrolled;
        self.kept.retain(|(then, _)| at.since(*then) <= in_force);
        self.changes.retain(|(then, _)| at.since(*then) <= CHANGE_SHOWS);
        let mut certain = uncontrolled;
        for (_, by) in &self.changes {
            certain.iter_mut().zip(by).for_each(|(certain, by)| *certain -= *by);
        }
        self.kept.push_back((at, certain));
    }

    /// The highest, per phase.
    pub fn highest(&self) -> PerPhase {
        let mut highest = self.newest;
        for (_, estimate) in &self.kept {
            for (most, value) in highest.iter_mut().zip(estimate) {
                *most = (*most).max(*value);
            }
        }
        highest
    }
}

/// The estimates for lowering of the last 100 ms.
#[derive(Clone, Debug, Default)]
pub struct Rises(VecDeque<(BootTime, PerPhase)>);

impl Rises {
    /// What to count with for a reading taken `at`: `newest`, except for as much as devices may be rising to by leases
    /// that they have. `explained` is the estimate if all of them drew what they are entitled to; `over` says on which
    /// phases the limit is exceeded.
    pub fn note(&mut self, at: BootTime, newest: PerPhase, explained: PerPhase, over: [bool; 3]) -> PerPhase {
        self.0.retain(|(then, _)| at.since(*then) <= CHANGE_SHOWS);
        self.0.push_back((at, newest));
        std::array::from_fn(|phase| {
            let lowest = self.0.iter().map(|(_, estimate)| estimate[phase]).min().unwrap_or(newest[phase]);
            if over[phase] { newest[phase] } else { lowest.max(explained[phase]).min(newest[phase]) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_that_leases_explain_counts_only_when_it_lasts_or_the_limit_is_exceeded() {
        let base = |current| [MilliAmps(current), MilliAmps(0), MilliAmps(0)];
        let mut rises = Rises::default();
        let calm = [false; 3];
        assert_eq!(rises.note(BootTime(0), base(20_000), base(0), calm), base(20_000));
        assert_eq!(rises.note(BootTime(20), base(46_000), base(20_000), calm), base(20_000));
        assert_eq!(rises.note(BootTime(40), base(46_000), base(30_000), calm), base(30_000));
        assert_eq!(rises.note(BootTime(60), base(46_000), base(0), [true; 3]), base(46_000));
        assert_eq!(rises.note(BootTime(121), base(46_000), base(0), calm), base(46_000));
        assert_eq!(rises.note(BootTime(130), base(21_000), base(0), calm), base(21_000));
    }

    const IN_FORCE: Millis = Millis(1500);
    const LEASES: Millis = Millis(3190);

    fn reports(list: &[(u64, i64)]) -> Reports {
        let mut reports = Reports::default();
        for (at, current) in list {
            reports.note(BootTime(*at), vec![MilliAmps(*current)]);
        }
        reports
    }

    #[test]
    fn a_car_that_fell_after_the_reading_leaves_no_room_and_is_no_jump() {
        let reports = reports(&[(1000, 16_000), (2005, 0)]);
        assert_eq!(reports.smallest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
        assert_eq!(reports.largest(0, BootTime(2000), LEASES), MilliAmps(16_000));
    }

    #[test]
    fn a_car_that_rose_before_the_reading_counts_with_its_old_value_for_raising_only() {
        let reports = reports(&[(1000, 0), (1950, 16_000)]);
        assert_eq!(reports.smallest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
        assert_eq!(reports.largest(0, BootTime(2000), LEASES), MilliAmps(16_000));
        assert_eq!(reports.smallest(0, BootTime(2051), IN_FORCE), MilliAmps(16_000));
    }

    #[test]
    fn an_old_report_counts_as_nothing_for_raising_and_for_lowering_as_long_as_leases_last() {
        assert_eq!(reports(&[(1000, 16_000)]).smallest(0, BootTime(2601), IN_FORCE), MilliAmps(0));
        assert_eq!(reports(&[(1000, 16_000)]).largest(0, BootTime(4190), LEASES), MilliAmps(16_000));
        assert_eq!(reports(&[(1000, 16_000)]).largest(0, BootTime(4191), LEASES), MilliAmps(0));
        assert_eq!(Reports::default().largest(0, BootTime(2000), LEASES), MilliAmps(0));
        assert_eq!(reports(&[(2001, 16_000)]).smallest(0, BootTime(2000), IN_FORCE), MilliAmps(0));
    }

    fn flat(current: i64) -> PerPhase {
        [MilliAmps(current); 3]
    }

    #[test]
    fn a_load_that_falls_opens_room_only_when_all_reports_are_newer() {
        let mut estimates = Estimates::default();
        estimates.note(BootTime(1000), flat(50_000), IN_FORCE);
        estimates.note(BootTime(1020), flat(34_000), IN_FORCE);
        estimates.note(BootTime(2500), flat(34_000), IN_FORCE);
        assert_eq!(estimates.highest(), flat(50_000));
        estimates.note(BootTime(2501), flat(34_000), IN_FORCE);
        assert_eq!(estimates.highest(), flat(34_000));
    }

    #[test]
    fn a_change_that_reading_and_report_show_one_after_the_other_takes_room_only_while_it_lasts() {
        let mut estimates = Estimates::default();
        estimates.note(BootTime(1000), flat(34_000), IN_FORCE);
        estimates.note(BootTime(1200), flat(50_000), IN_FORCE);
        assert_eq!(estimates.highest(), flat(50_000));
        estimates.report_changed(BootTime(1205), flat(16_000));
        estimates.note(BootTime(1210), flat(50_000), IN_FORCE);
        assert_eq!(estimates.highest(), flat(50_000));
        estimates.note(BootTime(1310), flat(34_000), IN_FORCE);
        assert_eq!(estimates.highest(), flat(34_000));
    }

    #[test]
    fn a_report_differs_by_more_than_the_deadband() {
        let mut reports = Reports::default();
        assert!(!reports.note(BootTime(1), vec![MilliAmps(250)]));
        assert!(reports.note(BootTime(2), vec![MilliAmps(501)]));
        assert!(!reports.note(BootTime(3), vec![MilliAmps(400)]));
    }
}
