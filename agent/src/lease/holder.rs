//! The device's side of a lease: what am I entitled to, and until when.

use std::collections::{BTreeMap, VecDeque};

use grid_protocol::message::{Reference, Session, Setpoint};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

/// A limit and the time until which it may be obeyed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The limit per phase.
    pub limit: MilliAmps,
    /// When it is over. The actuator's change to the failsafe limit begins before, so that it is complete by then.
    pub ends: BootTime,
    /// The setpoint that granted it.
    pub by: Reference,
}

/// Why a setpoint was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It answers no measurement that this session sent within the longest ttl.
    #[error("it answers measurement {seq} of session {session}, which this session has not sent lately", seq = .0.seq, session = .0.session)]
    AnswersNothing(Reference),
    /// Its lease would already be over.
    #[error("its lease ended {0} ago")]
    Over(Millis),
    /// A transformer that started later has spoken.
    #[error("its epoch {its} is older than {ours}")]
    OldEpoch {
        /// The setpoint's.
        its: u64,
        /// The newest accepted.
        ours: u64,
    },
    /// A setpoint that was sent later has been accepted.
    #[error("its sequence number {its} is not above {ours}")]
    OldSeq {
        /// The setpoint's.
        its: u64,
        /// The highest accepted of that session.
        ours: u64,
    },
    /// Its limit is negative.
    #[error("its limit {0} is negative")]
    Negative(MilliAmps),
}

/// What a device remembers of its leases. One per session of the device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    session: Session,
    failsafe: MilliAmps,
    max_ttl: Millis,
    change_time: Millis,
    /// Measurements that could still be answered: number and when they were sent.
    sent: VecDeque<(u64, BootTime)>,
    lease: Option<Lease>,
    accepted: Option<Accepted>,
}

/// The order of what was accepted (rule 2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Accepted {
    epoch: u64,
    highest: BTreeMap<Session, u64>,
}

impl Holder {
    /// A device session without a lease.
    ///
    /// `max_ttl` is the site's longest ttl. `change_time` is how long the actuator takes to go to the failsafe limit:
    /// leases end that much earlier, so that the change is complete in time (rule 1).
    pub fn new(session: Session, failsafe: MilliAmps, max_ttl: Millis, change_time: Millis) -> Self {
        Self { session, failsafe, max_ttl, change_time, sent: VecDeque::new(), lease: None, accepted: None }
    }

    /// Notes that measurement `seq` was sent. `at` must have been taken before the message was built (rule 1).
    pub fn measurement_sent(&mut self, seq: u64, at: BootTime) {
        while self.sent.front().is_some_and(|(_, sent)| at.since(*sent) > self.max_ttl) {
            self.sent.pop_front();
        }
        self.sent.push_back((seq, at));
    }

    /// Takes a setpoint whose sender has been verified to be our transformer, or says why not.
    pub fn accept(&mut self, setpoint: &Setpoint, by: Reference, now: BootTime) -> Result<Lease, Refusal> {
        self.forget_order_after_a_long_silence(now);
        // Rule 1: the lease runs from when we sent what it answers, at most for the site's longest ttl.
        let answers = setpoint.answers;
        let sent = self.sent.iter().find(|(seq, _)| answers.session == self.session && *seq == answers.seq);
        let (_, sent_at) = sent.ok_or(Refusal::AnswersNothing(answers))?;
        let ends = *sent_at + Millis(setpoint.ttl_ms.0.min(self.max_ttl.0)) - self.change_time;
        // Rule 2: in order, and not over.
        if now >= ends {
            return Err(Refusal::Over(now.since(ends)));
        }
        if let Some(accepted) = &self.accepted {
            if setpoint.epoch < accepted.epoch {
                return Err(Refusal::OldEpoch { its: setpoint.epoch, ours: accepted.epoch });
            }
            if let Some(highest) = accepted.highest.get(&by.session).copied()
                && by.seq <= highest
            {
                return Err(Refusal::OldSeq { its: by.seq, ours: highest });
            }
        }
        if setpoint.limit_ma < MilliAmps::ZERO {
            return Err(Refusal::Negative(setpoint.limit_ma));
        }
        // Rule 6: a hold never raises.
        let limit = if setpoint.hold { setpoint.limit_ma.min(self.limit(now)) } else { setpoint.limit_ma };
        let lease = Lease { limit, ends, by };
        self.lease = Some(lease);
        self.remember_order(setpoint.epoch, by);
        Ok(lease)
    }

    /// What this device is entitled to draw per phase: the lease while it lives, else the failsafe limit (rule 11).
    pub fn limit(&self, now: BootTime) -> MilliAmps {
        self.lease(now).map_or(self.failsafe, |lease| lease.limit)
    }

    /// The lease, if one is alive.
    pub fn lease(&self, now: BootTime) -> Option<Lease> {
        self.lease.filter(|lease| now < lease.ends)
    }

    fn remember_order(&mut self, epoch: u64, by: Reference) {
        let accepted = self.accepted.get_or_insert_with(|| Accepted { epoch, highest: BTreeMap::new() });
        if epoch > accepted.epoch {
            // Sessions of older epochs are refused by their epoch from now on.
            *accepted = Accepted { epoch, highest: BTreeMap::new() };
        }
        accepted.highest.insert(by.session, by.seq);
    }

    /// A transformer whose stored epoch was lost, and whose clock went back, must not be locked out for ever (rule 2).
    fn forget_order_after_a_long_silence(&mut self, now: BootTime) {
        if self.lease.is_some_and(|lease| now >= lease.ends + self.max_ttl) {
            self.lease = None;
            self.accepted = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::message::Reason;

    const DEVICE: Session = Session(1);
    const TRANSFORMER: Session = Session(2);
    const TTL: Millis = Millis(3000);

    fn holder() -> Holder {
        let mut holder = Holder::new(DEVICE, MilliAmps(0), TTL, Millis(0));
        holder.measurement_sent(1, BootTime(1000));
        holder
    }

    fn setpoint(answers: u64, limit: i64) -> Setpoint {
        Setpoint {
            answers: Reference { session: DEVICE, seq: answers },
            limit_ma: MilliAmps(limit),
            ttl_ms: TTL,
            hold: false,
            epoch: 10,
            reason: Reason::Demand,
        }
    }

    fn by(seq: u64) -> Reference {
        Reference { session: TRANSFORMER, seq }
    }

    #[test]
    fn a_lease_runs_from_when_the_measurement_was_sent_not_from_when_the_setpoint_came() {
        let mut holder = holder();
        holder.accept(&setpoint(1, 16_000), by(1), BootTime(3500)).unwrap();
        assert_eq!(holder.limit(BootTime(3999)), MilliAmps(16_000));
        assert_eq!(holder.limit(BootTime(4000)), MilliAmps(0));
    }

    #[test]
    fn a_setpoint_that_comes_after_its_lease_is_refused() {
        assert_eq!(holder().accept(&setpoint(1, 16_000), by(1), BootTime(4000)), Err(Refusal::Over(Millis(0))));
    }

    #[test]
    fn a_longer_ttl_than_the_sites_is_cut() {
        let mut holder = holder();
        let long = Setpoint { ttl_ms: Millis(60_000), ..setpoint(1, 16_000) };
        assert_eq!(holder.accept(&long, by(1), BootTime(1100)).unwrap().ends, BootTime(4000));
    }

    #[test]
    fn a_lease_ends_early_enough_for_the_actuator_to_complete_its_change() {
        let mut holder = Holder::new(DEVICE, MilliAmps(0), TTL, Millis(200));
        holder.measurement_sent(1, BootTime(1000));
        assert_eq!(holder.accept(&setpoint(1, 16_000), by(1), BootTime(1100)).unwrap().ends, BootTime(3800));
    }

    #[test]
    fn a_setpoint_for_another_session_or_an_unknown_measurement_is_refused() {
        let mut holder = holder();
        let other = Setpoint { answers: Reference { session: Session(9), seq: 1 }, ..setpoint(1, 16_000) };
        assert!(matches!(holder.accept(&other, by(1), BootTime(1100)), Err(Refusal::AnswersNothing(_))));
        assert!(matches!(holder.accept(&setpoint(7, 1), by(1), BootTime(1100)), Err(Refusal::AnswersNothing(_))));
    }

    #[test]
    fn a_repeated_or_overtaken_setpoint_is_refused() {
        let mut holder = holder();
        holder.accept(&setpoint(1, 8_000), by(5), BootTime(1100)).unwrap();
        for old in [4, 5] {
            let refused = holder.accept(&setpoint(1, 16_000), by(old), BootTime(1200));
            assert_eq!(refused, Err(Refusal::OldSeq { its: old, ours: 5 }));
        }
        assert_eq!(holder.limit(BootTime(1200)), MilliAmps(8_000));
    }

    #[test]
    fn a_transformer_of_an_older_epoch_is_refused_until_a_long_silence() {
        let mut holder = holder();
        holder.accept(&setpoint(1, 8_000), by(5), BootTime(1100)).unwrap();
        let older = Setpoint { epoch: 9, ..setpoint(1, 16_000) };
        let refused = holder.accept(&older, Reference { session: Session(3), seq: 1 }, BootTime(1200));
        assert_eq!(refused, Err(Refusal::OldEpoch { its: 9, ours: 10 }));
        holder.measurement_sent(2, BootTime(7000));
        let older = Setpoint { epoch: 9, ..setpoint(2, 16_000) };
        holder.accept(&older, Reference { session: Session(3), seq: 1 }, BootTime(7001)).unwrap();
    }

    #[test]
    fn a_hold_lowers_but_never_raises() {
        let mut holder = holder();
        holder.accept(&setpoint(1, 10_000), by(1), BootTime(1100)).unwrap();
        let hold = |limit| Setpoint { hold: true, ..setpoint(1, limit) };
        assert_eq!(holder.accept(&hold(16_000), by(2), BootTime(1200)).unwrap().limit, MilliAmps(10_000));
        assert_eq!(holder.accept(&hold(6_000), by(3), BootTime(1300)).unwrap().limit, MilliAmps(6_000));
    }

    #[test]
    fn a_hold_without_a_lease_grants_no_more_than_the_failsafe() {
        let mut holder = Holder::new(DEVICE, MilliAmps(6_000), TTL, Millis(0));
        holder.measurement_sent(1, BootTime(1000));
        let hold = Setpoint { hold: true, ..setpoint(1, 16_000) };
        assert_eq!(holder.accept(&hold, by(1), BootTime(1100)).unwrap().limit, MilliAmps(6_000));
    }

    #[test]
    fn a_negative_limit_is_refused() {
        let refused = holder().accept(&setpoint(1, -1), by(1), BootTime(1100));
        assert_eq!(refused, Err(Refusal::Negative(MilliAmps(-1))));
    }
}
