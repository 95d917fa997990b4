//! When the next record is due for the ledger.
//!
//! One interval after the last, or early after an overload or a changed limit. Early records cost as much as others, so
//! they come at most ten times as often: a street that is overloaded all day does not empty the purse in an hour.

use std::time::Duration;

use tokio::time::Instant;

/// Early means that not a whole interval has passed, but this part of it.
const EARLY: u32 = 10;
/// How long somebody is given to help before it is tried again.
const AFTER_SOMEBODY: Duration = Duration::from_secs(600);

/// The time of the next record. No I/O; the clock is told.
#[derive(Debug)]
pub struct Schedule {
    interval: Duration,
    on_event: bool,
    due: Instant,
    earliest: Instant,
}

impl Schedule {
    /// Counts from now on.
    pub fn new(interval: Duration, on_event: bool, now: Instant) -> Self {
        Self { interval, on_event, due: now + interval, earliest: now }
    }

    /// When the next record is due.
    pub fn due(&self) -> Instant {
        self.due
    }

    /// Something has happened that is to be on the ledger soon.
    pub fn hurry(&mut self) {
        if self.on_event {
            self.due = self.due.min(self.earliest);
        }
    }

    /// What was due is looked at now. Perhaps there is nothing to add.
    pub fn asked(&mut self, now: Instant) {
        self.due = now + self.interval;
    }

    /// A record is handed in.
    pub fn handed_in(&mut self, now: Instant) {
        self.earliest = now + self.interval / EARLY;
    }

    /// A record was not added. Where waiting helps, the next is handed in at once, since the notary waits; else it is tried
    /// again in ten minutes, when somebody may have done something.
    pub fn failed(&mut self, waiting_helps: bool, now: Instant) {
        let again = if waiting_helps { now } else { now + AFTER_SOMEBODY };
        self.due = self.due.min(again);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(600);

    #[test]
    fn a_record_is_due_each_interval() {
        let start = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, true, start);
        assert_eq!(schedule.due(), start + INTERVAL);
        // However late it was, the next is a whole interval later.
        schedule.asked(start + 3 * INTERVAL);
        assert_eq!(schedule.due(), start + 4 * INTERVAL);
    }

    #[test]
    fn an_event_brings_it_forward_but_not_too_near_to_the_last() {
        let start = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, true, start);
        schedule.hurry();
        assert_eq!(schedule.due(), start);
        // There was nothing to add: that is no reason to wait.
        schedule.asked(start);
        schedule.hurry();
        assert_eq!(schedule.due(), start);
        schedule.asked(start);
        schedule.handed_in(start);
        schedule.hurry();
        schedule.hurry();
        assert_eq!(schedule.due(), start + INTERVAL / 10);
        schedule.asked(start + INTERVAL / 10);
        assert_eq!(schedule.due(), start + INTERVAL / 10 + INTERVAL);
    }

    #[test]
    fn what_failed_is_tried_again_before_the_interval_is_over() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Duration::from_secs(86_400), true, start);
        schedule.asked(start);
        schedule.failed(false, start);
        assert_eq!(schedule.due(), start + AFTER_SOMEBODY);
        schedule.failed(true, start + INTERVAL / 2);
        assert_eq!(schedule.due(), start + INTERVAL / 2);
        let mut schedule = Schedule::new(INTERVAL / 10, true, start);
        schedule.asked(start);
        schedule.failed(false, start);
        assert_eq!(schedule.due(), start + INTERVAL / 10);
    }

    #[test]
    fn where_events_are_not_to_hurry_they_do_not() {
        let start = Instant::now();
        let mut schedule = Schedule::new(INTERVAL, false, start);
        schedule.hurry();
        assert_eq!(schedule.due(), start + INTERVAL);
    }
}
