//! What a transformer is to keep.

use grid_protocol::message::Phase;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use serde::{Deserialize, Serialize};

use crate::lease::Terms;

/// The voltage between phase and neutral for which limits in watts are meant.
pub const NOMINAL_VOLTS: i64 = 230;

/// A device that the transformer leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its name.
    pub name: Name,
    /// The phases it is connected to, in the order of its own meter.
    pub phases: Vec<Phase>,
    /// What is reserved for it per phase, heard of or not (rule 5). Default: 0.
    #[serde(default)]
    pub failsafe_ma: MilliAmps,
    /// The fuse that it is behind. Default: none but the transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuse: Option<Name>,
}

/// A fuse below the transformer, without a meter of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fuse {
    /// Its name, in the reasons of setpoints.
    pub name: Name,
    /// The fuse above it, which must stand before it. Default: the transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Name>,
    /// What it carries, per phase.
    pub limit_ma: MilliAmps,
    /// What flows through it at most besides the devices, per phase: lights, sockets. Default: 0.
    #[serde(default)]
    pub base_ma: MilliAmps,
}

/// What a transformer is to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The limit over all three phases, in watts at 230 V.
    pub limit_w: u64,
    /// What is left free for deadbands and rounding, per phase; 2 % of the limit if nothing is said.
    pub margin_ma: Option<MilliAmps>,
    /// How long leases last.
    pub terms: Terms,
    /// The devices it leads.
    pub devices: Vec<Enrolment>,
    /// The fuses between it and them; each after its parent.
    pub fuses: Vec<Fuse>,
    /// Whether roofs behind it may feed in more than everything else draws.
    pub feed_in: bool,
    /// How many times faster than the clock a simulated plant runs; 1 outside simulations.
    pub time_factor: u32,
}

impl Plan {
    /// A transformer without fuses and feed-in, in real time.
    pub fn new(limit_w: u64, terms: Terms, devices: Vec<Enrolment>) -> Self {
        Self { limit_w, margin_ma: None, terms, devices, fuses: Vec::new(), feed_in: false, time_factor: 1 }
    }

    /// What a device behind this fuse is connected to: the place of the fuse among all nodes, of which the transformer is
    /// the first. A fuse that does not exist is the transformer; settings with such a name are refused.
    pub fn node(&self, fuse: Option<&Name>) -> usize {
        let place = fuse.and_then(|name| self.fuses.iter().position(|fuse| fuse.name == *name));
        place.map_or(0, |place| place + 1)
    }

    /// Of each node, its parent.
    pub fn parents(&self) -> Vec<Option<usize>> {
        let fuses = self.fuses.iter().map(|fuse| Some(self.node(fuse.parent.as_ref())));
        std::iter::once(None).chain(fuses).collect()
    }

    /// The limit per phase.
    pub fn limit(&self) -> MilliAmps {
        per_phase(self.limit_w)
    }

    /// What stays free on a node with this limit per phase.
    pub fn margin(&self, limit: MilliAmps) -> MilliAmps {
        self.margin_ma.unwrap_or(limit.percent(2))
    }

    /// Plant time: what sessions, turns and times on and off are counted in.
    pub fn plant_time(&self, since_start: Millis) -> Millis {
        Millis(since_start.0.saturating_mul(u64::from(self.time_factor)))
    }
}

/// What a limit over three phases means on each, rounded down.
pub fn per_phase(watts: u64) -> MilliAmps {
    let milliwatts = i64::try_from(watts).unwrap_or(i64::MAX).saturating_mul(1000);
    MilliAmps(milliwatts / 3 / NOMINAL_VOLTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_the_transformer_and_then_the_fuses() {
        let fuse = |name: &str, parent: Option<&str>| Fuse {
            name: name.parse().unwrap(),
            parent: parent.map(|name| name.parse().unwrap()),
            limit_ma: MilliAmps(63_000),
            base_ma: MilliAmps(0),
        };
        let terms = Terms { ttl: Millis(3000), max_ttl: Millis(3000) };
        let mut plan = Plan::new(80_000, terms, Vec::new());
        plan.fuses = vec![fuse("garage", None), fuse("row-a", Some("garage"))];
        assert_eq!(plan.parents(), [None, Some(0), Some(1)]);
        assert_eq!(plan.node(Some(&"row-a".parse().unwrap())), 2);
        assert_eq!(plan.node(None), 0);
    }

    #[test]
    fn watts_over_three_phases_are_amperes_on_each() {
        assert_eq!(per_phase(80_000), MilliAmps(115_942));
    }
}
