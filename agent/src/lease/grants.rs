//! The transformer's side of a lease: what could this device possibly be entitled to.

use grid_protocol::message::{Measurement, Reference, Session};
use grid_protocol::units::{BootTime, MilliAmps};

/// One setpoint that was sent and may be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Granted {
    /// The device session whose measurement it answered.
    device_session: Session,
    seq: u64,
    limit: MilliAmps,
    over: BootTime,
}

/// Everything one device could be entitled to by setpoints of this transformer session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grants {
    failsafe: MilliAmps,
    granted: Vec<Granted>,
    measured: Option<Measured>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Measured {
    /// Per phase of the device.
    current: Vec<MilliAmps>,
    over: BootTime,
}

impl Grants {
    /// A device that was granted nothing. `failsafe` is reserved for it whether it was heard of or not (rule 5).
    pub fn new(failsafe: MilliAmps) -> Self {
        Self { failsafe, granted: Vec::new(), measured: None }
    }

    /// Reserves more from now on, if the device says that its failsafe is higher than we believed.
    pub fn reserve_at_least(&mut self, failsafe: MilliAmps) {
        self.failsafe = self.failsafe.max(failsafe);
    }

    /// Notes a setpoint that is about to be sent. `over` is when it can no longer be in force (rule 3).
    pub fn grant(&mut self, answers: Reference, seq: u64, limit: MilliAmps, over: BootTime, now: BootTime) {
        self.granted.retain(|granted| now < granted.over);
        self.granted.push(Granted { device_session: answers.session, seq, limit, over });
    }

    /// Notes a measurement of `device_session`; `over` is when its current is no longer reserved. Where it proves that a
    /// setpoint of `our_session` is obeyed and settled, everything sent before that one to the same device session stops
    /// counting (rule 4).
    pub fn measured(
        &mut self,
        device_session: Session,
        measurement: &Measurement,
        our_session: Session,
        over: BootTime,
    ) {
        self.measured = Some(Measured { current: measurement.current_ma.clone(), over });
        let Some(obeys) = measurement.obeys else { return };
        if measurement.settled && obeys.session == our_session {
            self.granted.retain(|granted| granted.device_session != device_session || granted.seq >= obeys.seq);
        }
    }

    /// The largest limit of all setpoints that may be in force (rule 3); nothing if there is none.
    pub fn largest(&self, now: BootTime) -> Option<MilliAmps> {
        self.granted.iter().filter(|granted| now < granted.over).map(|granted| granted.limit).max()
    }

    /// What counts for this device on its `phase`-th phase: the largest limit in force, the measured current and the
    /// failsafe, whichever is most (rule 5).
    pub fn counted(&self, phase: usize, now: BootTime) -> MilliAmps {
        let limit = self.largest(now).unwrap_or(MilliAmps::ZERO);
        let measured = self.measured.as_ref().filter(|measured| now < measured.over);
        let current = measured.and_then(|measured| measured.current.get(phase)).copied().unwrap_or(MilliAmps::ZERO);
        limit.max(current).max(self.failsafe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::message::Activity;
    use grid_protocol::units::{MilliVolts, MilliWattHours, Millis};

    const DEVICE: Session = Session(1);
    const OURS: Session = Session(2);
    const NOW: BootTime = BootTime(1000);
    const LATER: BootTime = BootTime(4190);

    fn answers() -> Reference {
        Reference { session: DEVICE, seq: 1 }
    }

    fn report(obeys: Option<u64>, settled: bool, current: i64) -> Measurement {
        Measurement {
            uptime_ms: Millis(0),
            state: Activity::Charging,
            current_ma: vec![MilliAmps(current)],
            voltage_mv: vec![MilliVolts(230_000)],
            stale_ms: None,
            limit_ma: MilliAmps(0),
            obeys: obeys.map(|seq| Reference { session: OURS, seq }),
            settled,
            lease_ms: Millis(0),
            demand_ma: MilliAmps(16_000),
            energy_mwh: MilliWattHours(0),
            priority: None,
        }
    }

    fn grants() -> Grants {
        let mut grants = Grants::new(MilliAmps(0));
        grants.grant(answers(), 5, MilliAmps(16_000), LATER, NOW);
        grants.grant(answers(), 6, MilliAmps(8_000), LATER, NOW);
        grants
    }

    #[test]
    fn the_largest_setpoint_counts_until_it_is_over_whatever_was_sent_after_it() {
        let grants = grants();
        assert_eq!(grants.counted(0, BootTime(4189)), MilliAmps(16_000));
        assert_eq!(grants.counted(0, LATER), MilliAmps(0));
    }

    #[test]
    fn a_settled_report_that_obeys_the_decrease_supersedes_what_was_sent_before() {
        let mut grants = grants();
        grants.measured(DEVICE, &report(Some(6), true, 8_000), OURS, LATER);
        assert_eq!(grants.counted(0, NOW), MilliAmps(8_000));
    }

    #[test]
    fn nothing_else_supersedes() {
        let unsettled = report(Some(6), false, 8_000);
        let obeys_the_old = report(Some(5), true, 8_000);
        let obeys_none = report(None, true, 0);
        for (session, report) in [
            (DEVICE, &unsettled),
            (DEVICE, &obeys_the_old),
            (DEVICE, &obeys_none),
            (Session(9), &report(Some(6), true, 0)),
        ] {
            let mut grants = grants();
            grants.measured(session, report, OURS, LATER);
            assert_eq!(grants.counted(0, NOW), MilliAmps(16_000), "{report:?}");
        }
        let mut other_transformer = grants();
        other_transformer.measured(DEVICE, &report(Some(6), true, 8_000), Session(7), LATER);
        assert_eq!(other_transformer.counted(0, NOW), MilliAmps(16_000));
    }

    #[test]
    fn measured_current_and_failsafe_are_reserved() {
        let mut grants = Grants::new(MilliAmps(6_000));
        assert_eq!(grants.counted(0, NOW), MilliAmps(6_000));
        grants.measured(DEVICE, &report(None, true, 9_000), OURS, LATER);
        assert_eq!(grants.counted(0, NOW), MilliAmps(9_000));
        assert_eq!(grants.counted(0, LATER), MilliAmps(6_000));
    }
}
