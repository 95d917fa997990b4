//! What a device does not use is lent on, and given back when it wants it.
//!
//! A car may be allowed 16 A and draw 5, since it is almost full or its cable is thin. Nobody else may use the rest: a
//! lease is a promise (rule 10). So the device itself asks for less, and its transformer lowers the lease.
//!
//! ```text
//!            draws far less than allowed, for ten seconds: asks for 130 % of what it draws and 1.5 A
//!   ┌─────┐ ───────────────────────────────────────────────────────────────────────────────────────► ┌──────┐
//!   │ All │                                                                                          │ Part │ ⟲ even less
//!   └─────┘ ◄─────────────────────────────────────────────────────────────────────────────────────── └──────┘
//!            draws about as much as it may
//! ```
//!
//! *Far less* is below 75 % of the limit less 1 A; *about as much* is from 88 % of it, or from 90 % less 1.05 A. These
//! fit each other and real cars:
//!
//! - A car that draws 10 % less than allowed, in whole amperes besides, draws more than 0.9 limit − 1 A. That is *about as
//!   much*, so what it gets is given back at whatever limit, and never *far less*.
//! - A car that draws I whatever it may, and asks for 1.3 I + 1.5 A, does not draw *about as much*:
//!   0.9 (1.3 I + 1.5 A) − 1.05 A is more than I, and so is 0.88 (1.3 I + 1.5 A). So nothing is given back to it.

use grid_protocol::units::{BootTime, MilliAmps, Millis};

/// A car has followed a new limit after six seconds; four more show that it does not want to.
const WATCHED_FOR: Millis = Millis(10_000);
/// A limit that rose by more than this is another: what is drawn under it is watched anew.
const SAME_LIMIT: MilliAmps = MilliAmps(250);
/// To ask for even less is not worth it for less than this.
const WORTH_LENDING: MilliAmps = MilliAmps(500);

/// What a device asks for, of what it wants.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    wanted: MilliAmps,
    claim: Claim,
    watch: Option<Watch>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Claim {
    #[default]
    All,
    Part(MilliAmps),
}

/// It draws far less than it may, all that time.
#[derive(Clone, Debug)]
struct Watch {
    since: BootTime,
    limit: MilliAmps,
    most: MilliAmps,
}

/// What is drawn, and what could be.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// What the actuator says is wanted, per phase.
    pub wanted: MilliAmps,
    /// What is allowed.
    pub limit: MilliAmps,
    /// What flows on the phase that carries most, measured under that limit.
    pub current: MilliAmps,
    /// The device has followed the limit.
    pub settled: bool,
    /// Less is not usable.
    pub min: MilliAmps,
    /// The only currents it can draw, ascending; none if it can draw any.
    pub steps: &'a [MilliAmps],
}

impl Usage {
    /// What to ask for: all that is wanted, or about as much as is used. 0 only if nothing is wanted.
    pub fn observe(&mut self, draw: Draw<'_>, now: BootTime) -> MilliAmps {
        let wants_more = draw.wanted > std::mem::replace(&mut self.wanted, draw.wanted);
        if wants_more || draw.is_unusable() || draw.is_about_as_much_as_allowed() {
            self.claim = Claim::All;
            self.watch = None;
        } else if draw.settled && draw.is_far_less_than_allowed() {
            self.watch(draw, now);
        } else {
            self.watch = None;
        }
        self.claim(draw.wanted)
    }

    /// What to ask for while nothing is measured that would say more.
    pub fn claim(&self, wanted: MilliAmps) -> MilliAmps {
        match self.claim {
            Claim::All => wanted,
            Claim::Part(part) => part.min(wanted),
        }
    }

    fn watch(&mut self, draw: Draw<'_>, now: BootTime) {
        let begin = Watch { since: now, limit: draw.limit, most: draw.current };
        let watch = self.watch.get_or_insert_with(|| begin.clone());
        if draw.limit > watch.limit + SAME_LIMIT {
            *watch = begin;
            return;
        }
        watch.most = watch.most.max(draw.current);
        if now.since(watch.since) < WATCHED_FOR {
            return;
        }
        let part = draw.usable(MilliAmps(watch.most.0.max(0).saturating_mul(13) / 10 + 1_500));
        if part + WORTH_LENDING < self.claim(draw.wanted) {
            self.claim = Claim::Part(part);
        }
        self.watch = Some(begin);
    }
}

impl Draw<'_> {
    /// What it draws then says nothing about what it would like to.
    fn is_unusable(&self) -> bool {
        self.limit < self.min || self.wanted <= MilliAmps::ZERO
    }

    fn is_about_as_much_as_allowed(&self) -> bool {
        self.current >= self.limit.percent(88).min(self.limit.percent(90) - MilliAmps(1_050))
    }

    fn is_far_less_than_allowed(&self) -> bool {
        self.current < self.limit.percent(75) - MilliAmps(1_000)
    }

    /// The least that is usable and not below `part`.
    fn usable(&self, part: MilliAmps) -> MilliAmps {
        let part = part.max(self.min);
        match self.steps {
            [] => part,
            steps => steps.iter().copied().find(|step| *step >= part).unwrap_or(self.wanted),
        }
    }
}

#[cfg(test)]
#[path = "tests/usage.rs"]
mod tests;
