//! What a transformer can do just now, as a state machine.
//!
//! ```text
//!              older leases are over           3 intervals without a reading
//!  Starting ─────────────────────────► Leading ─────────────────────────────► MeterStale
//!     │  ▲                              ▲   ▲                                  │    │
//!     │  │ a reading                    │   └────────── a reading ─────────────┘    │ 10 intervals,
//!     │  │ (older leases may be alive)  │ a reading                                 │ at least 2 s
//!     ▼  │                              │                                           ▼
//!     MeterFailed ──────────────────────┴────────────────────────────────────── MeterFailed
//! ```
//!
//! | state | it sends |
//! |---|---|
//! | `Starting` | holds at or below what devices report (lease rule 7) |
//! | `Leading` | everything |
//! | `MeterStale` | renewals and decreases; what roofs and batteries feed in no longer makes room |
//! | `MeterFailed` | holds at the failsafe limit |
//!
//! A transformer that is cut off from the broker starts anew when it is back. A limit below the uncontrolled load is no
//! state of its own: there is no room, so everybody goes to the failsafe limit, and the overload is told of.

use grid_protocol::message::Event;
use grid_protocol::units::Millis;

/// A meter without a reading for so many of its intervals is late.
const STALE_INTERVALS: u64 = 3;
/// After so many it has failed …
const FAILED_INTERVALS: u64 = 10;
/// … but not before this.
const FAILED_AFTER: Millis = Millis(2000);

/// What a transformer can do just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Leases of an earlier transformer may be alive.
    Starting,
    /// All is well.
    Leading,
    /// The newest reading is late.
    MeterStale,
    /// There is no reading.
    MeterFailed,
}

impl Condition {
    /// What follows from whether older leases may be alive, and from the time since the newest reading.
    pub fn of(starting: bool, silence: Millis, meter_interval: Millis) -> Self {
        if silence > Millis(meter_interval.0.saturating_mul(FAILED_INTERVALS)).max(FAILED_AFTER) {
            Self::MeterFailed
        } else if starting {
            Self::Starting
        } else if silence > Millis(meter_interval.0.saturating_mul(STALE_INTERVALS)) {
            Self::MeterStale
        } else {
            Self::Leading
        }
    }

    /// What is to be told when this condition becomes another.
    pub fn becomes(self, other: Self, silence: Millis) -> Option<Event> {
        match (self, other) {
            (Self::Starting, Self::Starting)
            | (Self::Leading, Self::Leading)
            | (Self::MeterStale, Self::MeterStale)
            | (Self::MeterFailed, Self::MeterFailed)
            // A new session: its birth says so.
            | (Self::Leading | Self::MeterStale, Self::Starting) => None,
            (Self::Starting, Self::Leading) => Some(Event::LeadingBegan {}),
            (Self::Starting | Self::Leading, Self::MeterStale) => Some(Event::MeterStale { for_ms: silence }),
            (_, Self::MeterFailed) => Some(Event::MeterFailed { why: format!("no reading for {silence}") }),
            (Self::MeterStale, Self::Leading) | (Self::MeterFailed, _) => Some(Event::Recovered {}),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Condition::{Leading, MeterFailed, MeterStale, Starting};
    use super::*;

    const INTERVAL: Millis = Millis(20);

    #[test]
    fn a_meter_is_stale_after_three_intervals_and_has_failed_after_ten_but_not_before_two_seconds() {
        for (silence, interval, expected) in [
            (60, INTERVAL, Leading),
            (61, INTERVAL, MeterStale),
            (2000, INTERVAL, MeterStale),
            (2001, INTERVAL, MeterFailed),
            (4999, Millis(500), MeterStale),
            (5001, Millis(500), MeterFailed),
        ] {
            assert_eq!(Condition::of(false, Millis(silence), interval), expected, "{silence}");
        }
        assert_eq!(Condition::of(true, Millis(61), INTERVAL), Starting);
        assert_eq!(Condition::of(true, Millis(2001), INTERVAL), MeterFailed);
    }

    #[test]
    fn every_transition_but_that_to_a_new_session_is_an_event() {
        let all = [Starting, Leading, MeterStale, MeterFailed];
        for was in all {
            for is in all {
                let told = was.becomes(is, Millis(70)).is_some();
                let silent = was == is || (matches!(was, Leading | MeterStale) && is == Starting);
                assert_eq!(told, !silent, "{was:?} {is:?}");
            }
        }
    }
}
