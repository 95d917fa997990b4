//! Failsafe as a state machine.
//!
//! ```text
//!                lease, and wants current
//!   ┌──────────┐        LeaseBegan        ┌────────┐ ◄──── lease, FailsafeLeft ─────── ┌──────────┐
//!   │ Unleased │ ───────────────────────► │ Leased │                                  │ Failsafe │
//!   └──────────┘ ◄─────────────────────── └────────┘ ── no lease, but wants current ─► └──────────┘
//!        ▲       no lease, wants nothing                  FailsafeEntered {why}
//!      start            LeaseEnded
//!
//!   ┌───────────────────┐     meter fails: MeterFailed {why}; actuator fails: ActuatorFailed {why}     ┌───────┐
//!   │ any of the above  │ ───────────────────────────────────────────────────────────────────────────► │ Fault │
//!   │                   │ ◄─────────────────────────────────────────────────────────────────────────── │       │
//!   └───────────────────┘   both work again: Recovered, back to where it was, and on from there        └───────┘
//! ```
//!
//! Each arrow is one step with one event. A device that wants nothing stays in `Unleased` although its transformer answers
//! it now and then: such leases need not be told of. `Failsafe` is left only with a lease (rule 11), also by a device that
//! wants nothing any more. In `Fault` the second part may fail too, which is told as well; leases come and go unseen.

use grid_protocol::message::Event;

/// Whether a device that works has a lease, and whether it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// It has no lease and missed none: it has just started, or it wants nothing.
    Unleased,
    /// It has a lease.
    Leased,
    /// It wanted current when its lease ran out.
    Failsafe,
}

/// What state a device is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Meter and actuator work.
    Sound(Supply),
    /// Meter or actuator do not work: the failsafe limit is obeyed, whatever a lease says.
    Fault {
        /// The meter does not.
        meter: bool,
        /// The actuator does not.
        actuator: bool,
        /// What it was before.
        before: Supply,
    },
}

/// What decides about the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Whether a lease is alive.
    pub leased: bool,
    /// Whether current is wanted.
    pub wants: bool,
    /// Why the meter is held to have failed, if it is.
    pub meter: Option<String>,
    /// Why the actuator is held to have failed, if it is.
    pub actuator: Option<&'a str>,
    /// What is known to keep setpoints from coming.
    pub silence: String,
}

impl Mode {
    /// That of a device that starts.
    pub const START: Self = Self::Sound(Supply::Unleased);

    /// Whether meter or actuator do not work.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::Fault { .. })
    }

    /// Goes on as the facts demand. The events say which way.
    pub fn follow(&mut self, facts: &Facts<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some((next, event)) = self.step(facts) {
            *self = next;
            events.push(event);
        }
        events
    }

    /// One arrow of the diagram, if one leads away from here.
    fn step(self, facts: &Facts<'_>) -> Option<(Self, Event)> {
        let Facts { leased, wants, meter: broken_meter, actuator: broken_actuator, silence } = facts;
        let meter_failed = |why: &String| Event::MeterFailed { why: why.clone() };
        let actuator_failed = |why: &str| Event::ActuatorFailed { why: why.to_owned() };
        Some(match (self, broken_meter, broken_actuator) {
            (Self::Sound(before), Some(why), _) => {
                (Self::Fault { meter: true, actuator: false, before }, meter_failed(why))
            }
            (Self::Sound(before), None, Some(why)) => {
                (Self::Fault { meter: false, actuator: true, before }, actuator_failed(why))
            }
            (Self::Fault { meter: false, actuator, before }, Some(why), _) => {
                (Self::Fault { meter: true, actuator, before }, meter_failed(why))
            }
            (Self::Fault { meter, actuator: false, before }, _, Some(why)) => {
                (Self::Fault { meter, actuator: true, before }, actuator_failed(why))
            }
            (Self::Fault { before, .. }, None, None) => (Self::Sound(before), Event::Recovered {}),
            (Self::Fault { .. }, _, _) => return None,
            (Self::Sound(supply), None, None) => {
                let (next, event) = match (supply, leased, wants) {
                    (Supply::Unleased, true, true) => (Supply::Leased, Event::LeaseBegan {}),
                    (Supply::Leased, false, false) => (Supply::Unleased, Event::LeaseEnded {}),
                    (Supply::Leased, false, true) => {
                        (Supply::Failsafe, Event::FailsafeEntered { why: silence.clone() })
                    }
                    (Supply::Failsafe, true, _) => (Supply::Leased, Event::FailsafeLeft {}),
                    (Supply::Unleased, false, _) | (Supply::Unleased, true, false) => return None,
                    (Supply::Leased, true, _) | (Supply::Failsafe, false, _) => return None,
                };
                (Self::Sound(next), event)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUIET: &str = "no setpoint came in time";

    fn facts(leased: bool, wants: bool) -> Facts<'static> {
        Facts { leased, wants, meter: None, actuator: None, silence: QUIET.to_owned() }
    }

    fn broken(meter: bool, actuator: bool) -> Facts<'static> {
        let meter = meter.then(|| "it does not answer".to_owned());
        Facts { meter, actuator: actuator.then_some("stuck"), ..facts(true, true) }
    }

    fn meter_failed() -> Event {
        Event::MeterFailed { why: "it does not answer".to_owned() }
    }

    fn actuator_failed() -> Event {
        Event::ActuatorFailed { why: "stuck".to_owned() }
    }

    #[test]
    fn every_arrow_between_supplies_is_one_event() {
        let entered = Event::FailsafeEntered { why: QUIET.to_owned() };
        for (from, leased, wants, to, events) in [
            (Supply::Unleased, false, false, Supply::Unleased, vec![]),
            (Supply::Unleased, false, true, Supply::Unleased, vec![]),
            (Supply::Unleased, true, false, Supply::Unleased, vec![]),
            (Supply::Unleased, true, true, Supply::Leased, vec![Event::LeaseBegan {}]),
            (Supply::Leased, true, true, Supply::Leased, vec![]),
            (Supply::Leased, true, false, Supply::Leased, vec![]),
            (Supply::Leased, false, false, Supply::Unleased, vec![Event::LeaseEnded {}]),
            (Supply::Leased, false, true, Supply::Failsafe, vec![entered]),
            (Supply::Failsafe, false, true, Supply::Failsafe, vec![]),
            (Supply::Failsafe, false, false, Supply::Failsafe, vec![]),
            (Supply::Failsafe, true, true, Supply::Leased, vec![Event::FailsafeLeft {}]),
            (Supply::Failsafe, true, false, Supply::Leased, vec![Event::FailsafeLeft {}]),
        ] {
            let mut mode = Mode::Sound(from);
            assert_eq!(mode.follow(&facts(leased, wants)), events, "{from:?}, leased {leased}, wants {wants}");
            assert_eq!(mode, Mode::Sound(to));
        }
    }

    #[test]
    fn a_fault_begins_with_what_failed_and_ends_when_both_work() {
        for before in [Supply::Unleased, Supply::Leased, Supply::Failsafe] {
            let mut mode = Mode::Sound(before);
            assert_eq!(mode.follow(&broken(true, false)), [meter_failed()]);
            assert_eq!(mode, Mode::Fault { meter: true, actuator: false, before });
            assert_eq!(mode.follow(&broken(true, true)), [actuator_failed()]);
            assert_eq!(mode.follow(&broken(false, true)), []);
            assert_eq!(mode.follow(&broken(true, false)), []);
            assert_eq!(mode.follow(&facts(true, true))[0], Event::Recovered {});
            assert_eq!(mode, Mode::Sound(Supply::Leased));
            assert_eq!(mode.follow(&broken(false, true)), [actuator_failed()]);
        }
        let mut mode = Mode::START;
        assert_eq!(mode.follow(&broken(true, true)), [meter_failed(), actuator_failed()]);
    }

    #[test]
    fn what_became_of_the_lease_during_a_fault_is_told_after_it() {
        for (before, leased, wants, after) in [
            (Supply::Leased, true, true, None),
            (Supply::Leased, false, true, Some(Event::FailsafeEntered { why: QUIET.to_owned() })),
            (Supply::Leased, false, false, Some(Event::LeaseEnded {})),
            (Supply::Failsafe, true, true, Some(Event::FailsafeLeft {})),
            (Supply::Unleased, true, true, Some(Event::LeaseBegan {})),
        ] {
            let mut mode = Mode::Fault { meter: true, actuator: false, before };
            let told: Vec<Event> = [Event::Recovered {}].into_iter().chain(after).collect();
            assert_eq!(mode.follow(&facts(leased, wants)), told);
        }
    }

    proptest! {
        #[test]
        fn whatever_happens_it_comes_to_rest_and_a_fault_is_exactly_what_does_not_work(
            happened in proptest::collection::vec(any::<(bool, bool, bool, bool)>(), 1..50),
        ) {
            let mut mode = Mode::START;
            for (leased, wants, meter, actuator) in happened {
                let now = Facts { leased, wants, ..broken(meter, actuator) };
                let events = mode.follow(&now);
                prop_assert!(events.len() <= 2, "{events:?}");
                prop_assert_eq!(mode.is_fault(), meter || actuator);
                prop_assert_eq!(mode.follow(&now), []);
                if mode == Mode::Sound(Supply::Leased) {
                    prop_assert!(leased);
                }
            }
        }
    }
}
