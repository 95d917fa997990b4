//! Which of a meter's complaints people are told of as events.

use std::mem::{Discriminant, discriminant};

use grid_protocol::message::Event;
use grid_protocol::units::{BootTime, Millis};

use crate::meter::{MeterError, Reading};

/// A complaint of the same kind within this time was told of.
const AGAIN: Millis = Millis(60_000);

/// When each kind of complaint was last told of: a loose contact must not fill the log, nor one kind hide another.
#[derive(Default)]
pub struct Complaints {
    told: Vec<(Discriminant<MeterError>, BootTime)>,
    saturated_at: Option<BootTime>,
}

impl Complaints {
    /// The event for this complaint, unless one of its kind was told of lately.
    pub fn event(&mut self, error: &MeterError, now: BootTime) -> Option<Event> {
        self.told.retain(|(_, told)| now.since(*told) < AGAIN);
        if self.told.iter().any(|(kind, _)| *kind == discriminant(error)) {
            return None;
        }
        self.told.push((discriminant(error), now));
        Some(Event::MeterTrouble { why: error.to_string() })
    }

    /// The event for a reading at the end of the meter's range, unless the last one was lately.
    pub fn saturation(&mut self, reading: &Reading, now: BootTime) -> Option<Event> {
        if !reading.is_saturated() {
            return None;
        }
        let before = self.saturated_at.replace(now);
        before.is_none_or(|before| now.since(before) >= AGAIN).then_some(Event::MeterSaturated {})
    }
}

#[cfg(test)]
mod tests {
    use grid_protocol::units::{MilliAmps, MilliVolts};

    use super::*;
    use crate::meter::PhaseReading;

    #[test]
    fn each_kind_of_complaint_is_told_once_a_minute() {
        let lost = |bus: &str| MeterError::ConfigurationLost { bus: bus.to_owned(), address: 0x40 };
        let silent = MeterError::NotAnswering { bus: "/dev/i2c-1".to_owned(), address: 0x40 };
        let mut complaints = Complaints::default();
        let Some(Event::MeterTrouble { why }) = complaints.event(&lost("/dev/i2c-1"), BootTime(0)) else { panic!() };
        assert!(why.contains("0x40 on /dev/i2c-1"), "{why}");
        assert!(complaints.event(&silent, BootTime(10)).is_some());
        assert_eq!(complaints.event(&lost("/dev/i2c-2"), BootTime(59_999)), None);
        assert!(complaints.event(&lost("/dev/i2c-1"), BootTime(60_000)).is_some());
        assert_eq!(complaints.event(&silent, BootTime(60_009)), None);
    }

    #[test]
    fn a_range_that_ends_is_told_once_while_it_lasts() {
        let reading = |saturated| {
            Reading::now(vec![PhaseReading { current: MilliAmps(1), voltage: MilliVolts(230_000), saturated }])
        };
        let mut complaints = Complaints::default();
        assert_eq!(complaints.saturation(&reading(false), BootTime(0)), None);
        assert_eq!(complaints.saturation(&reading(true), BootTime(1)), Some(Event::MeterSaturated {}));
        assert_eq!(complaints.saturation(&reading(true), BootTime(60_000)), None);
        assert_eq!(complaints.saturation(&reading(true), BootTime(119_999)), None);
        assert!(complaints.saturation(&reading(true), BootTime(179_999)).is_some());
    }
}
