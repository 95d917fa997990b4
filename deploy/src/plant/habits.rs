//! What cars make of a limit.
//!
//! A charger offers its limit to the car (IEC 61851-1: by the duty cycle of the control pilot), and the car decides what
//! it draws. So there are two values: the *charger's limit*, which is what agents set and what falls back when a lease is
//! over, and the limit that *the car follows*, which may still be an older one. That is so on the way up and on the way
//! down, to nothing as well: a charger that cuts off a car that does not stop in time is not modelled.

use std::collections::VecDeque;
use std::time::Duration;

use grid_protocol::units::MilliAmps;

use super::PlantTime;
use crate::street::LEAST_CHARGING;

/// How the cars of a street behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// A car follows each change of the limit so much plant time later. IEC 61851-1 allows five seconds.
    pub follows_after: Duration,
    /// It draws a whole multiple of this, rounded down.
    pub step: MilliAmps,
    /// Of what it may draw it draws so many percent: 0 to 100.
    pub draws_percent: i64,
}

impl Habits {
    /// Draws exactly what it may, at once.
    pub const PROMPT: Self = Self { follows_after: Duration::ZERO, step: MilliAmps(1), draws_percent: 100 };

    /// What a car draws on each phase that follows a limit of `allowed`, if it wants no less.
    pub(super) fn drawn(&self, allowed: MilliAmps) -> MilliAmps {
        if allowed < LEAST_CHARGING {
            return MilliAmps::ZERO;
        }
        let step = self.step.0.max(1);
        MilliAmps(allowed.percent(self.draws_percent.clamp(0, 100)).0 / step * step)
    }
}

/// A charger's limit, and the one that the car follows.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    limit: MilliAmps,
    followed: MilliAmps,
    /// What the car has yet to follow, and when it will.
    pending: VecDeque<(PlantTime, MilliAmps)>,
}

impl Offer {
    /// What the charger allows now.
    pub(super) fn limit(&self) -> MilliAmps {
        self.limit
    }

    /// What the car follows now.
    pub(super) fn followed(&self) -> MilliAmps {
        self.followed
    }

    /// When the car follows the next change.
    pub(super) fn next_event(&self) -> Option<PlantTime> {
        self.pending.front().map(|(at, _)| *at)
    }

    /// The charger's limit is this from `now` on.
    pub(super) fn set(&mut self, limit: MilliAmps, now: PlantTime, habits: &Habits) {
        if limit != self.limit {
            self.limit = limit;
            self.pending.push_back((now.after(habits.follows_after), limit));
            self.pass(now);
        }
    }

    /// Time has come to `now`.
    pub(super) fn pass(&mut self, now: PlantTime) {
        while let Some((at, limit)) = self.pending.front().copied()
            && at <= now
        {
            self.followed = limit;
            self.pending.pop_front();
        }
    }

    /// A car is plugged in: it knows no other limit than the present one.
    pub(super) fn meet(&mut self) {
        self.followed = self.limit;
        self.pending.clear();
    }
}
