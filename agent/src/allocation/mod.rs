//! Who gets how much: max-min fairness by progressive filling, phase by phase, on a tree of limits.
//!
//! The transformer has so much room on each phase, and fuses below it have theirs ([`Node`]); a device draws the same
//! current on each of its phases, and that current counts at its node and at every node above. Then
//!
//! 1. devices in their minimum on-time get their minimum, whatever their class: only room can end them;
//! 2. the classes go strictly one after the other, 0 first: a class has all that it wants, as far as there is room,
//!    before the next gets anything;
//! 3. in a class every device that wants current gets its minimum, in the order of `turn`, since less is not usable (a
//!    car does not charge below 6 A, IEC 61851-1). One whose minimum does not fit waits, and those after it that fit go;
//! 4. then all that are served rise together until a phase, a fuse or what they want stops them.
//!
//! Nobody of a class can then get more without somebody of it who has no more getting less, which is what max-min fair
//! means. Devices that know only steps rise with the others, are taken down to a step, and what that frees goes to
//! those who can use it (`sharing.rs`). A grid operator's order takes back what is above its cap, but from nobody below
//! a floor (`dimming.rs`).
//!
//! A pure function in integers: the same street gives the same limits, whatever order its devices stand in. What does
//! not divide evenly stays unused: on a phase of a node fewer milliamperes than devices share it, of a grid operator's cap
//! fewer than they have phases. The cost is that of sorting the devices (`filling.rs`).

mod dimming;
mod filling;
mod limits;
mod sharing;
#[cfg(test)]
mod tests;

use grid_protocol::message::{Phase, Reason};
use grid_protocol::topic::Name;
use grid_protocol::units::MilliAmps;

use limits::{LimitKind, Limits};
use sharing::{Given, Stop, Street};

/// A place with a limit of its own: the transformer, or a fuse below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What the fuse is called; nothing for the transformer.
    pub name: Option<Name>,
    /// The node that feeds this one, by its index, which is lower than this one's; nothing for the transformer.
    pub parent: Option<usize>,
    /// What devices at this node and below may draw together on L1, L2 and L3. Below zero is the same as zero.
    pub room: [MilliAmps; 3],
}

/// What a device would like to have, and what is known of it.
///
/// Currents are per phase. What contradicts itself (a minimum above the maximum, only steps outside both) gets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The device. Unlike all others; it decides between equal turns.
    pub name: Name,
    /// The node that it hangs on, by index.
    pub node: usize,
    /// The phases that it draws from, the same current on each.
    pub phases: Vec<Phase>,
    /// Its priority class: 0 goes first, 9 last.
    pub class: u8,
    /// Its place in the order in which the devices of its class get their minimum; lower goes first.
    pub turn: u64,
    /// Less than this is not usable. Who has no minimum is never passed over, but may rise no further than 0.
    pub min: MilliAmps,
    /// The most it can take.
    pub max: MilliAmps,
    /// What it wants now; 0 for nothing. Less than the minimum counts as the minimum, and what lies between two steps
    /// as the higher one.
    pub demand: MilliAmps,
    /// Empty: it can take any value from minimum to maximum. Otherwise the only ones it can take, ascending: one if it
    /// can only be on or off.
    pub steps: Vec<MilliAmps>,
    /// It must go on for now (minimum on-time): as long as it wants current, its minimum comes before all others,
    /// whatever their class.
    pub runs_on: bool,
    /// It must stay off for now (minimum off-time), which goes before `runs_on`.
    pub rests: bool,
    /// A person switched it off, which goes before everything.
    pub barred: bool,
}

/// A grid operator's order to draw less.
///
/// § 14a EnWG allows the operator of a German grid to dim heat pumps, charge points and batteries, but each to no less
/// than 4.2 kW: at 230 V, 18,260 mA summed over its phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimming {
    /// What all devices may draw together: the sum of limit × number of phases.
    pub cap: MilliAmps,
    /// What each device may draw whatever the cap, summed over its phases. The nearest value above that it can take
    /// counts: its minimum, its next step, a whole milliampere on each phase.
    pub floor: MilliAmps,
}

/// What a device gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The limit per phase.
    pub limit: MilliAmps,
    /// What bound it.
    pub reason: Reason,
}

/// Shares the room of `nodes` among `claims`; the shares come in the order of the claims.
///
/// # Panics
///
/// If a claim's node or a node's parent is not there, or a parent does not stand before its children.
pub fn allocate(nodes: &[Node], claims: &[Claim], dimming: Option<&Dimming>) -> Vec<Share> {
    let (limits, routes) = Limits::new(nodes, claims);
    let street = Street::new(claims, routes);
    let undimmed = street.share_all(limits.clone());
    let given = match dimming {
        Some(dimming) => dimming::dim(&street, &limits, undimmed, dimming),
        None => undimmed,
    };
    let reasons = claims.iter().zip(&given).map(|(claim, given)| claim.reason(*given, nodes, &limits));
    given.iter().zip(reasons).map(|(given, reason)| Share { limit: given.current, reason }).collect()
}

impl Claim {
    /// The steps that it can take, if it knows only steps.
    fn usable_steps(&self) -> &[MilliAmps] {
        let enough = &self.steps[self.steps.partition_point(|step| *step < self.min || *step <= MilliAmps::ZERO)..];
        &enough[..enough.partition_point(|step| *step <= self.max)]
    }

    /// The least that it can take, above nothing: its minimum or its lowest step.
    fn least(&self) -> MilliAmps {
        self.usable_steps().first().copied().unwrap_or(self.min.max(MilliAmps::ZERO))
    }

    /// The smallest value that it can take which is no less than `current`; the largest if there is none.
    fn at_least(&self, current: MilliAmps) -> MilliAmps {
        let steps = self.usable_steps();
        match steps.last() {
            Some(highest) => steps.get(steps.partition_point(|step| *step < current)).copied().unwrap_or(*highest),
            None => current.max(self.least()).min(self.max.max(MilliAmps::ZERO)),
        }
    }

    /// Whether there is any value that it could take.
    fn can_take_something(&self) -> bool {
        match self.steps.is_empty() {
            true => self.max > MilliAmps::ZERO && self.min <= self.max,
            false => !self.usable_steps().is_empty(),
        }
    }

    /// The most that is of use to it now: nothing, or something that it can take.
    fn useful(&self) -> MilliAmps {
        let wants = self.demand > MilliAmps::ZERO && !self.barred && !self.rests && self.can_take_something();
        if wants { self.at_least(self.demand) } else { MilliAmps::ZERO }
    }

    /// How many phases it draws from.
    fn width(&self) -> i64 {
        Phase::ALL.iter().filter(|phase| self.phases.contains(phase)).count() as i64
    }

    fn reason(&self, given: Given, nodes: &[Node], limits: &Limits) -> Reason {
        if self.barred {
            return Reason::Operator;
        } else if self.demand <= MilliAmps::ZERO {
            return Reason::Demand;
        } else if self.rests {
            return Reason::Turn;
        }
        match given.stop {
            Stop::Satisfied if self.demand < self.max && self.demand <= given.current => Reason::Demand,
            Stop::Satisfied => Reason::Maximum,
            Stop::PassedOver => Reason::Turn,
            Stop::Limit(limit) => match limits.kind(limit) {
                LimitKind::Dimming => Reason::Dimming,
                LimitKind::Node(_, _) if given.current > MilliAmps::ZERO && given.current == self.least() => {
                    Reason::Minimum
                }
                LimitKind::Node(node, phase) => match &nodes[node].name {
                    Some(name) => Reason::Fuse(name.clone()),
                    None => Reason::Phase(phase),
                },
            },
        }
    }
}
