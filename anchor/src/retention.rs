//! When old entries are dropped, and which.
//!
//! Once a day the recorder looks for bundles whose last entry was received longer ago than the retention time. It says
//! again what the rest of the log needs of them ([`crate::intake::Intake::carry`]), writes that and its intent to drop
//! them down with a checkpoint, and then removes their files, oldest first, a few at a time. Killed anywhere, it goes on
//! from the intent at the next start.
//!
//! Evidence is dropped by the clock, and clocks go wrong. So
//!
//! - after the clock has jumped, nothing is looked for until it has held for an hour;
//! - where there is a ledger, its clock must agree, and only what it vouches for is dropped;
//! - a bundle with a time in the future is as old as those after it.
//!
//! No I/O, no clock.

use grid_protocol::units::{BootTime, Millis, UnixMillis};

use crate::intake::Now;
use crate::tile::FULL;

/// The first look after a start.
const FIRST: Millis = Millis(60_000);
/// The time between two looks.
const EVERY: Millis = Millis(86_400_000);
/// So much the clock may differ from the time that passed before it counts as a jump.
const JUMP: i128 = 3_600_000;
/// So long a clock that jumped must hold.
const HOLD: Millis = Millis(3_600_000);
/// How many bundles are read at a time.
const LOOK_AT: u64 = 4;
/// How many bundles are removed at a time.
const DROP_AT: u64 = 16;

/// How long entries are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionSettings {
    /// For how long; `None`: for ever.
    pub keep: Option<Millis>,
    /// Whether there is a ledger that must vouch for an entry before it is dropped.
    pub ledger: bool,
}

/// What bounds how far entries may be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many entries are under the newest checkpoint.
    pub checkpoint_size: u64,
    /// For how many of them the ledger vouches.
    pub notarized: u64,
    /// When it did so last, by its clock.
    pub notarized_at: Option<UnixMillis>,
}

/// What is to be done next. Bundles are counted from the beginning of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Tell [`Retention::looked`] of these bundles when their last entries were received.
    Look {
        /// The first.
        from: u64,
        /// The one after the last.
        until: u64,
    },
    /// Carry over what is needed of all bundles before this one, write a checkpoint, and tell [`Retention::carried`].
    Carry {
        /// The first that stays.
        until: u64,
    },
    /// Remove these bundles, which a checkpoint of at least this size says are to be dropped.
    Drop {
        /// The first.
        from: u64,
        /// The one after the last.
        until: u64,
        /// The size of the checkpoint that must be there.
        covered: u64,
    },
}

/// The state of dropping.
#[derive(Debug)]
pub struct Retention {
    settings: RetentionSettings,
    due: BootTime,
    clock: Now,
    task: Task,
}

#[derive(Clone, Copy, Debug)]
enum Task {
    Rest,
    /// Bundles up to `next` were looked at; those before `old` are old enough. None from `end` on may be dropped.
    Look {
        before: UnixMillis,
        first: u64,
        next: u64,
        old: u64,
        end: u64,
    },
    Carry {
        until: u64,
    },
    Drop {
        next: u64,
        until: u64,
        covered: u64,
    },
}

impl Retention {
    /// Nothing is to be dropped for now.
    pub fn new(settings: RetentionSettings, now: Now) -> Self {
        Self { settings, due: after(now.boot, FIRST), clock: now, task: Task::Rest }
    }

    /// A drop was under way: bundles from `from` to before `until`, written down with a snapshot of `covered` entries.
    pub fn resume(&mut self, from: u64, until: u64, covered: u64) {
        self.task = Task::Drop { next: from, until, covered };
    }

    /// What is to be done now in a log whose first bundle is `first`.
    pub fn step(&mut self, first: impl FnOnce() -> u64, bounds: Bounds, now: Now) -> Step {
        self.watch_clock(now);
        if let (Task::Rest, Some(keep)) = (self.task, self.settings.keep)
            && now.boot >= self.due
        {
            self.due = after(now.boot, EVERY);
            self.start(first(), keep, bounds, now);
        }
        match self.task {
            Task::Rest => Step::Rest,
            Task::Look { next, end, .. } => Step::Look { from: next, until: end.min(next + LOOK_AT) },
            Task::Carry { until } => Step::Carry { until },
            Task::Drop { next, until, covered } => Step::Drop { from: next, until: until.min(next + DROP_AT), covered },
        }
    }

    /// After a jump of the clock a look is put off, or given up.
    fn watch_clock(&mut self, now: Now) {
        let passed = |since: u64, now: u64| i128::from(now) - i128::from(since);
        let by_date = passed(self.clock.unix.0, now.unix.0);
        let by_boot = passed(self.clock.boot.0, now.boot.0);
        self.clock = now;
        if (by_date - by_boot).abs() > JUMP {
            let held = after(now.boot, HOLD);
            if let Task::Look { .. } = self.task {
                self.task = Task::Rest;
                self.due = held;
            }
            self.due = self.due.max(held);
        }
    }

    fn start(&mut self, first: u64, keep: Millis, bounds: Bounds, now: Now) {
        let Bounds { checkpoint_size, notarized, notarized_at } = bounds;
        // The last bundle stays whatever its age: a start reads it.
        let mut end = checkpoint_size.saturating_sub(1) / u64::from(FULL);
        let mut date = now.unix;
        if self.settings.ledger {
            let Some(at) = notarized_at else {
                self.due = after(now.boot, HOLD);
                return;
            };
            end = end.min(notarized / u64::from(FULL));
            date = date.min(at);
        }
        let before = UnixMillis(date.0.saturating_sub(keep.0));
        if first < end {
            self.task = Task::Look { before, first, next: first, old: first, end };
        }
    }

    /// The last entry of the bundle that is next to be looked at was received then; `None` if it does not read.
    pub fn looked(&mut self, received: Option<UnixMillis>) {
        let Task::Look { before, first, next, old, end } = &mut self.task else { return };
        *next += 1;
        let mut young = false;
        // What is in the future, or does not read, is as old as what follows.
        if let Some(received) = received.filter(|received| *received <= self.clock.unix) {
            young = received >= *before;
            if !young {
                *old = *next;
            }
        }
        if young || *next >= *end {
            self.task = if *old > *first { Task::Carry { until: *old } } else { Task::Rest };
        }
    }

    /// What is needed is under a checkpoint of `covered` entries; the log's first bundle is `first`.
    pub fn carried(&mut self, first: u64, covered: u64) {
        if let Task::Carry { until } = self.task {
            self.task = Task::Drop { next: first, until, covered };
        }
    }

    /// Everything before this bundle is gone. Says whether that was all.
    pub fn dropped(&mut self, before: u64) -> bool {
        let Task::Drop { next, until, .. } = &mut self.task else { return false };
        *next = before;
        let is_all = before >= *until;
        if is_all {
            self.task = Task::Rest;
        }
        is_all
    }
}

fn after(now: BootTime, span: Millis) -> BootTime {
    BootTime(now.0.saturating_add(span.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;
    const KEEP: Millis = Millis(30 * DAY);
    const START: u64 = 1_800_000_000_000;

    fn at(ms: u64) -> Now {
        Now { unix: UnixMillis(START + ms), boot: BootTime(ms) }
    }

    fn bounds(bundles: u64) -> Bounds {
        Bounds { checkpoint_size: bundles * 256 + 1, notarized: 0, notarized_at: None }
    }

    fn retention(ledger: bool) -> Retention {
        Retention::new(RetentionSettings { keep: Some(KEEP), ledger }, at(0))
    }

    /// Looks at bundles that are so many days old, and says what is carried over.
    fn carried(retention: &mut Retention, first: u64, ages: &[Option<f64>], bounds: Bounds, now: Now) -> Option<u64> {
        loop {
            match retention.step(|| first, bounds, now) {
                Step::Rest => return None,
                Step::Carry { until } => return Some(until),
                Step::Look { from, until } => {
                    assert!(until - from <= LOOK_AT && from >= first);
                    for bundle in from..until {
                        let age = ages[(bundle - first) as usize];
                        retention.looked(age.map(|days| UnixMillis((now.unix.0 as f64 - days * DAY as f64) as u64)));
                    }
                }
                step @ Step::Drop { .. } => panic!("{step:?}"),
            }
        }
    }

    fn of_ages(ages: &[Option<f64>]) -> Option<u64> {
        carried(&mut retention(false), 7, ages, bounds(7 + ages.len() as u64), at(DAY))
    }

    #[test]
    fn what_is_older_than_the_retention_time_goes() {
        assert_eq!(of_ages(&[Some(40.0), Some(31.0), Some(29.9), Some(1.0)]), Some(9));
        assert_eq!(of_ages(&[Some(29.0), Some(1.0)]), None);
        assert_eq!(of_ages(&[Some(40.0); 9]), Some(16));
        assert_eq!(of_ages(&[]), None);
    }

    #[test]
    fn wrong_dates_in_the_log_take_nothing_young_with_them_and_keep_nothing_for_ever() {
        // A clock that was behind for a while, behind something young.
        assert_eq!(of_ages(&[Some(31.0), Some(29.0), Some(9000.0), Some(28.0)]), Some(8));
        // A clock that was ahead for a while, and a bundle that does not read.
        assert_eq!(of_ages(&[Some(33.0), Some(-9000.0), None, Some(31.0), Some(3.0)]), Some(11));
        assert_eq!(of_ages(&[Some(33.0), Some(-9000.0), None, Some(3.0)]), Some(8));
        assert_eq!(of_ages(&[Some(-1.0), None]), None);
    }

    #[test]
    fn it_looks_once_a_day_and_never_if_everything_is_kept() {
        let mut daily = retention(false);
        let old = [Some(40.0), Some(40.0)];
        assert_eq!(carried(&mut daily, 0, &old, bounds(2), at(0)), None);
        assert_eq!(carried(&mut daily, 0, &old[..0], bounds(0), at(60_000)), None);
        assert_eq!(carried(&mut daily, 0, &old, bounds(2), at(DAY)), None);
        assert_eq!(carried(&mut daily, 0, &old, bounds(2), at(60_000 + DAY)), Some(2));
        let mut never = Retention::new(RetentionSettings::default(), at(0));
        assert_eq!(carried(&mut never, 0, &old, bounds(2), at(400 * DAY)), None);
    }

    #[test]
    fn a_clock_that_jumped_is_not_believed_until_it_has_held() {
        let ahead = |ms: u64| Now { unix: UnixMillis(START + 365 * DAY + ms), boot: BootTime(ms) };
        let (mut retention, old) = (retention(false), [Some(365.0)]);
        assert_eq!(retention.step(|| 0, bounds(1), at(59_000)), Step::Rest);
        assert_eq!(retention.step(|| 0, bounds(1), ahead(61_000)), Step::Rest);
        // And back again.
        assert_eq!(retention.step(|| 0, bounds(1), at(1_800_000)), Step::Rest);
        assert_eq!(retention.step(|| 0, bounds(1), at(5_000_000)), Step::Rest);
        assert_eq!(retention.step(|| 0, bounds(1), at(5_500_000)), Step::Look { from: 0, until: 1 });
        // In the middle of a look.
        assert_eq!(retention.step(|| 0, bounds(1), ahead(5_600_000)), Step::Rest);
        assert_eq!(carried(&mut retention, 0, &old, bounds(1), ahead(9_100_000)), None);
        assert_eq!(carried(&mut retention, 0, &old, bounds(1), ahead(9_300_000)), Some(1));
    }

    #[test]
    fn the_ledger_must_vouch_and_its_clock_agree() {
        let old = [Some(40.0); 4];
        let with = |notarized, notarized_at| Bounds { notarized, notarized_at, ..bounds(4) };
        let fresh = |bounds| carried(&mut retention(true), 0, &old, bounds, at(DAY));
        assert_eq!(fresh(with(1024, None)), None);
        assert_eq!(fresh(with(1024, Some(UnixMillis(START + DAY)))), Some(4));
        assert_eq!(fresh(with(600, Some(UnixMillis(START + DAY)))), Some(2));
        assert_eq!(fresh(with(0, Some(UnixMillis(START + DAY)))), None);
        assert_eq!(fresh(with(1024, Some(UnixMillis(START - 20 * DAY)))), None);
    }

    #[test]
    fn it_drops_a_few_at_a_time_and_then_rests() {
        let mut retention = retention(false);
        assert_eq!(carried(&mut retention, 3, &[Some(40.0); 20], bounds(23), at(DAY)), Some(23));
        retention.carried(3, 6000);
        let step = |retention: &mut Retention| retention.step(|| unreachable!(), bounds(23), at(DAY));
        assert_eq!(step(&mut retention), Step::Drop { from: 3, until: 19, covered: 6000 });
        assert!(!retention.dropped(19));
        assert_eq!(step(&mut retention), Step::Drop { from: 19, until: 23, covered: 6000 });
        assert!(retention.dropped(23));
        assert_eq!(step(&mut retention), Step::Rest);
        retention.resume(23, 25, 6100);
        assert_eq!(step(&mut retention), Step::Drop { from: 23, until: 25, covered: 6100 });
    }
}
