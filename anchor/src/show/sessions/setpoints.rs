//! Why a device was given its limits, by the setpoint that it obeyed.

use std::collections::{BTreeMap, HashMap};

use grid_protocol::message::{Reason, Reference, Session};

/// The reasons of all setpoints for one device.
///
/// A transformer answers every measurement, so these are many, but the reason seldom changes. What is kept are spans of
/// sequence numbers in which all setpoints for the device have the same reason, in whatever order they came.
#[derive(Debug, Default)]
pub struct Setpoints {
    spans: HashMap<Session, BTreeMap<u64, Span>>,
}

#[derive(Clone, Debug)]
struct Span {
    last: u64,
    reason: Reason,
}

impl Setpoints {
    /// Takes note of a setpoint.
    pub fn add(&mut self, setpoint: Reference, reason: Reason) {
        let Reference { session, seq } = setpoint;
        let spans = self.spans.entry(session).or_default();
        let before = spans.range_mut(..=seq).next_back();
        if let Some((_, span)) = before {
            if span.reason == reason {
                span.last = span.last.max(seq);
                return;
            }
            if span.last >= seq {
                // It lies within another's span: that one goes on after it.
                let rest = Span { last: span.last, reason: span.reason.clone() };
                span.last = seq.saturating_sub(1);
                if rest.last > seq {
                    spans.insert(seq + 1, rest);
                }
            }
        }
        spans.insert(seq, Span { last: seq, reason });
    }

    /// The reason of a setpoint; nothing if the log does not have it.
    pub fn reason(&self, setpoint: Reference) -> Option<&Reason> {
        let (_, span) = self.spans.get(&setpoint.session)?.range(..=setpoint.seq).next_back()?;
        (span.last >= setpoint.seq).then_some(&span.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::message::Phase;

    const SESSION: Session = Session(7);

    #[test]
    fn in_whatever_order_setpoints_come_each_has_its_reason() {
        let reason = |seq: u64| match seq {
            0..40 => Reason::Demand,
            40 | 50 | 60 => Reason::Turn,
            41..70 => Reason::Phase(Phase::L2),
            _ => Reason::Ramp,
        };
        // Every third setpoint is for this device.
        let forwards: Vec<u64> = (1..100).filter(|seq| seq % 3 == 1 || [50, 60].contains(seq)).collect();
        let backwards = forwards.iter().rev().copied().collect::<Vec<_>>();
        let shuffled = (0..forwards.len()).map(|at| forwards[at * 17 % forwards.len()]).collect::<Vec<_>>();
        for order in [&forwards, &backwards, &shuffled] {
            let mut setpoints = Setpoints::default();
            order.iter().for_each(|seq| setpoints.add(Reference { session: SESSION, seq: *seq }, reason(*seq)));
            for seq in &forwards {
                let found = setpoints.reason(Reference { session: SESSION, seq: *seq });
                assert_eq!(found, Some(&reason(*seq)), "{seq} in {order:?}");
            }
            assert_eq!(setpoints.reason(Reference { session: Session(8), seq: 40 }), None);
            assert_eq!(setpoints.reason(Reference { session: SESSION, seq: 200 }), None);
        }
    }

    #[test]
    fn a_reason_that_stays_takes_the_room_of_one() {
        let mut setpoints = Setpoints::default();
        (1..10_000).for_each(|seq| setpoints.add(Reference { session: SESSION, seq }, Reason::Demand));
        assert_eq!(setpoints.spans[&SESSION].len(), 1);
    }
}
