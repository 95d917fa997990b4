//! Whether what devices may draw when nobody leads them fits below the limit, all together (lease rule 5).

use std::fmt;

use grid_agent::lease::Terms;
use grid_agent::transformer::Plan;
use grid_protocol::message::Phase;
use grid_protocol::units::{MilliAmps, Millis};

use super::words::DeviceWords;

/// What is reserved on each phase, and what there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    phases: [MilliAmps; 3],
    room: MilliAmps,
}

impl Reserve {
    /// Of these devices behind a transformer of so many watts.
    pub fn of(devices: &DeviceWords, limit_w: u32) -> Self {
        // Leases play no part in it.
        let terms = Terms { ttl: Millis::ZERO, max_ttl: Millis::ZERO };
        let plan = Plan::new(limit_w.into(), terms, Vec::new());
        let on = |phase: Phase| {
            let there = devices.0.iter().filter(|device| device.phases.0.contains(&phase));
            there.filter_map(|device| device.failsafe).map(|failsafe| failsafe.0).sum()
        };
        Self { phases: Phase::ALL.map(on), room: plan.limit() - plan.margin(plan.limit()) }
    }

    /// Whether there is room for it.
    pub fn fits(&self) -> bool {
        self.phases.iter().all(|phase| *phase <= self.room)
    }
}

impl fmt::Display for Reserve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three] = self.phases;
        write!(f, "L1 {one}, L2 {two}, L3 {three} of {}", self.room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserve(devices: &str, limit_w: u32) -> Reserve {
        Reserve::of(&devices.parse().unwrap(), limit_w)
    }

    #[test]
    fn what_is_reserved_is_summed_phase_by_phase_and_fits_up_to_the_limit_less_its_margin() {
        // 13.8 kW are 20 A per phase, of which 2 % stay free.
        assert!(reserve("a:L1L2L3:6000 b:L1:6000 c:L1:7600 d:L2", 13_800).fits());
        let above = reserve("a:L1L2L3:6000 b:L1:6000 c:L1:7601", 13_800);
        assert!(!above.fits());
        assert_eq!(above.to_string(), "L1 19601 mA, L2 6000 mA, L3 6000 mA of 19600 mA");
        assert!(reserve("", 1).fits());
    }
}
