//! How fast devices may rise together: a wrong estimate of the uncontrolled load can then do little harm before the next
//! reading corrects it.

use grid_protocol::message::Phase;
use grid_protocol::units::{BootTime, MilliAmps};

/// Of the limit, per phase and second.
const PERCENT_A_SECOND: i64 = 20;

/// What may still be raised on each phase. It fills up to what one second brings.
#[derive(Clone, Debug)]
pub struct Ramp {
    /// In microamperes, so that nothing is lost in rounding. Negative after a device had to rise by more at once.
    budget: [i64; 3],
    filled_at: BootTime,
}

impl Ramp {
    pub fn new(now: BootTime) -> Self {
        Self { budget: [0; 3], filled_at: now }
    }

    /// Lets time pass, at this limit per phase.
    pub fn fill(&mut self, limit: MilliAmps, now: BootTime) {
        let a_second = limit.percent(PERCENT_A_SECOND).0.saturating_mul(1000);
        let span = i64::try_from(now.since(self.filled_at).0.min(60_000)).unwrap_or(0);
        self.filled_at = now;
        for budget in &mut self.budget {
            *budget = budget.saturating_add(a_second / 1000 * span).min(a_second);
        }
    }

    /// By how much a device on these phases may rise; nothing, if others have just risen.
    pub fn allows(&self, phases: &[Phase]) -> MilliAmps {
        let least = phases.iter().map(|phase| self.budget[phase.index()]).min().unwrap_or(0);
        MilliAmps(least.max(0) / 1000)
    }

    /// A device on these phases rises by `step`. Where it cannot rise by less, it may be more than is allowed; the next
    /// wait longer then.
    pub fn spend(&mut self, phases: &[Phase], step: MilliAmps) {
        for phase in phases {
            let budget = &mut self.budget[phase.index()];
            *budget = budget.saturating_sub(step.0.saturating_mul(1000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{L1, L2};

    const LIMIT: MilliAmps = MilliAmps(100_000);

    #[test]
    fn a_fifth_of_the_limit_a_second_and_no_more_at_once() {
        let mut ramp = Ramp::new(BootTime(0));
        assert_eq!(ramp.allows(&[L1]), MilliAmps(0));
        ramp.fill(LIMIT, BootTime(500));
        assert_eq!(ramp.allows(&[L1]), MilliAmps(10_000));
        ramp.fill(LIMIT, BootTime(9_000));
        assert_eq!(ramp.allows(&[L1]), MilliAmps(20_000));
        ramp.spend(&[L1], MilliAmps(15_000));
        assert_eq!((ramp.allows(&[L1, L2]), ramp.allows(&[L2])), (MilliAmps(5_000), MilliAmps(20_000)));
    }

    #[test]
    fn who_must_rise_by_more_delays_the_next() {
        let mut ramp = Ramp::new(BootTime(0));
        ramp.fill(MilliAmps(10_000), BootTime(1_000));
        ramp.spend(&[L1], MilliAmps(6_000));
        ramp.fill(MilliAmps(10_000), BootTime(2_999));
        assert_eq!(ramp.allows(&[L1]), MilliAmps(0));
        ramp.fill(MilliAmps(10_000), BootTime(3_500));
        assert_eq!(ramp.allows(&[L1]), MilliAmps(1_000));
    }

    #[test]
    fn small_limits_fill_in_small_steps() {
        let mut ramp = Ramp::new(BootTime(0));
        (1..=1000).for_each(|at| ramp.fill(MilliAmps(1_000), BootTime(at)));
        assert_eq!(ramp.allows(&[L1]), MilliAmps(200));
    }
}
