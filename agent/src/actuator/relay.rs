//! A contactor: closed while the limit lets the device run.
//!
//! **It opens at once**, whenever the limit falls below what the device needs and whatever minimum times say: a lower limit
//! and the end of a lease are binding, and safety goes before comfort. (That a device should stay on for a while is what
//! its transformer keeps, which alone knows whether there is room.) What protects the contactor here is that it *closes*
//! late: not before it was open for the minimum off-time, and not before a whole cycle, from closing to closing, has lasted
//! the minimum on-time and off-time together.

use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::ActuatorError;
use super::guard::Hardware;
use crate::gpio::{GpioError, Output};

/// When it closes, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habits {
    /// It is closed while the limit is at least this.
    pub on_ma: MilliAmps,
    /// A cycle lasts at least this and `min_off` together.
    pub min_on: Millis,
    /// Once open, it stays open for at least this.
    pub min_off: Millis,
}

impl Habits {
    /// Whether it is to be closed at this limit.
    pub fn is_closed_at(&self, limit: MilliAmps) -> bool {
        limit >= self.on_ma
    }
}

/// Takes the line, which is closed or open from the first moment on.
pub type Opener = Box<dyn FnMut(bool) -> Result<Box<dyn Output>, GpioError> + Send>;

/// A relay on a line.
pub struct Relay {
    open: Opener,
    /// None after it failed: it is taken again, as its chip may have gone and come back.
    line: Option<Box<dyn Output>>,
    habits: Habits,
    limit: MilliAmps,
    closed: bool,
    /// It must not close before.
    rests_until: BootTime,
    closed_at: BootTime,
}

impl Relay {
    /// Takes the line as `safe` demands. When it was closed or opened before is not known, so minimum times begin anew.
    ///
    /// # Errors
    /// If it is not there, not ours or in use.
    pub fn open(mut open: Opener, habits: Habits, safe: MilliAmps, now: BootTime) -> Result<Self, ActuatorError> {
        let closed = habits.is_closed_at(safe);
        let line = Some(open(closed).map_err(|error| ActuatorError(error.to_string()))?);
        Ok(Self { open, line, habits, limit: safe, closed, rests_until: now + habits.min_off, closed_at: now })
    }

    fn switch(&mut self, closed: bool, now: BootTime) -> Result<(), ActuatorError> {
        let set = match &mut self.line {
            Some(line) => line.set(closed),
            None => (self.open)(closed).map(|line| self.line = Some(line)),
        };
        if let Err(error) = set {
            self.line = None;
            // What it does now nobody knows. It rests as if it had opened.
            self.note(false, now);
            return Err(ActuatorError(error.to_string()));
        }
        self.note(closed, now);
        Ok(())
    }

    fn note(&mut self, closed: bool, now: BootTime) {
        match (self.closed, closed) {
            (false, true) => self.closed_at = now,
            (true, false) => {
                let cycle = self.closed_at + self.habits.min_on + self.habits.min_off;
                self.rests_until = cycle.max(now + self.habits.min_off);
            }
            (true, true) | (false, false) => {}
        }
        self.closed = closed;
    }
}

impl Hardware for Relay {
    fn apply(&mut self, limit: MilliAmps, now: BootTime) -> Result<(), ActuatorError> {
        self.limit = limit;
        let closed = self.habits.is_closed_at(limit) && (self.closed || now >= self.rests_until);
        self.switch(closed, now)
    }

    fn attend(&mut self, now: BootTime) -> Result<Option<BootTime>, ActuatorError> {
        if self.closed || !self.habits.is_closed_at(self.limit) {
            return Ok(None);
        }
        if now < self.rests_until {
            return Ok(Some(self.rests_until));
        }
        self.switch(true, now).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpio::GpioError;
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Wire(Arc<Mutex<(bool, bool)>>);

    impl Wire {
        fn is_closed(&self) -> bool {
            self.0.lock().unwrap().0
        }
    }

    impl Output for Wire {
        fn set(&mut self, active: bool) -> Result<(), GpioError> {
            let mut wire = self.0.lock().unwrap();
            if wire.1 {
                return Err(GpioError::Failed { chip: "/dev/gpiochip0".into(), line: 17, why: "gone".to_owned() });
            }
            wire.0 = active;
            Ok(())
        }
    }

    const HABITS: Habits = Habits { on_ma: MilliAmps(9_000), min_on: Millis(1_000), min_off: Millis(300) };

    fn relay(safe: i64) -> (Relay, Wire) {
        let wire = Wire::default();
        let end = wire.clone();
        let open: Opener = Box::new(move |closed| {
            let mut line = end.clone();
            line.set(closed)?;
            Ok(Box::new(line))
        });
        (Relay::open(open, HABITS, MilliAmps(safe), BootTime(1_000)).unwrap(), wire)
    }

    #[test]
    fn it_closes_when_the_limit_is_enough_and_it_was_open_for_long_enough() {
        let (mut relay, wire) = relay(0);
        relay.apply(MilliAmps(9_000), BootTime(1_100)).unwrap();
        assert!(!wire.is_closed(), "nobody knows when it was opened");
        assert_eq!(relay.attend(BootTime(1_100)), Ok(Some(BootTime(1_300))));
        assert_eq!(relay.attend(BootTime(1_300)), Ok(None));
        assert!(wire.is_closed());
        relay.apply(MilliAmps(8_999), BootTime(5_000)).unwrap();
        assert!(!wire.is_closed());
        assert_eq!(relay.attend(BootTime(6_000)), Ok(None), "nothing is waited for");
        relay.apply(MilliAmps(9_000), BootTime(6_000)).unwrap();
        assert!(wire.is_closed());
    }

    #[test]
    fn it_opens_at_once_however_short_it_was_closed_and_then_rests_for_the_whole_cycle() {
        let (mut relay, wire) = relay(9_000);
        assert!(wire.is_closed());
        relay.apply(MilliAmps(0), BootTime(1_010)).unwrap();
        assert!(!wire.is_closed());
        relay.apply(MilliAmps(9_000), BootTime(1_400)).unwrap();
        assert!(!wire.is_closed(), "the minimum off-time is over, the cycle is not");
        assert_eq!(relay.attend(BootTime(1_400)), Ok(Some(BootTime(2_300))));
    }

    #[test]
    fn a_line_that_cannot_be_set_is_an_error_and_is_not_believed_to_be_set() {
        let (mut relay, wire) = relay(9_000);
        wire.0.lock().unwrap().1 = true;
        let error = relay.apply(MilliAmps(0), BootTime(5_000)).unwrap_err();
        assert!(error.0.contains("line 17") && error.0.contains("gone"), "{error}");
        relay.apply(MilliAmps(0), BootTime(5_050)).unwrap_err();
        wire.0.lock().unwrap().1 = false;
        relay.apply(MilliAmps(0), BootTime(5_100)).unwrap();
        assert!(!wire.is_closed());
        relay.apply(MilliAmps(9_000), BootTime(5_200)).unwrap();
        assert!(!wire.is_closed(), "it rests as after any opening");
        assert_eq!(relay.attend(BootTime(5_300)), Ok(None));
        assert!(wire.is_closed());
    }

    proptest! {
        #[test]
        fn whatever_is_ordered_it_is_never_closed_below_its_limit_and_never_cycles_too_fast(
            orders in proptest::collection::vec((0_i64..18_000, 1_u64..700), 1..60),
        ) {
            let (mut relay, wire) = relay(0);
            let mut now = BootTime(1_000);
            let (mut was, mut closings): (bool, Vec<BootTime>) = (false, Vec::new());
            for (limit, pause) in orders {
                relay.apply(MilliAmps(limit), now).unwrap();
                prop_assert!(!wire.is_closed() || limit >= 9_000);
                let end = now + Millis(pause);
                while now < end {
                    relay.attend(now).unwrap();
                    prop_assert!(!wire.is_closed() || limit >= 9_000);
                    if wire.is_closed() && !was {
                        closings.push(now);
                    }
                    was = wire.is_closed();
                    now = now + Millis(10);
                }
                was = wire.is_closed();
            }
            for pair in closings.windows(2) {
                prop_assert!(pair[1].since(pair[0]) >= Millis(1_300));
            }
        }
    }
}
