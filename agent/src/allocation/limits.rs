//! All that is limited, in one row: every phase of every node, and at the end the sum that dimming allows.

use grid_protocol::message::Phase;
use grid_protocol::units::MilliAmps;

use super::{Claim, Node};

/// How much is left of everything that is limited.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Phase `p` of node `n` at `3 n + p`, and last the dimming.
    pub left: Vec<MilliAmps>,
}

/// The limits that a device meets, and how many times its current counts there. The transformer's come first.
pub(super) type Route = Vec<(usize, i64)>;

/// The routes of all claims. Whoever stands at the same node on the same phases has the same one.
#[derive(Clone, Debug)]
pub(super) struct Routes {
    /// Each route once.
    pub all: Vec<Route>,
    /// Which of them each claim has.
    pub of: Vec<usize>,
}

/// What a limit is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitKind {
    /// A phase of a node, by the node's index.
    Node(usize, Phase),
    /// The sum of all currents.
    Dimming,
}

impl Limits {
    /// Everything that is limited, with nothing taken and no dimming, and who meets what.
    pub fn new(nodes: &[Node], claims: &[Claim]) -> (Self, Routes) {
        let mut left: Vec<MilliAmps> = nodes.iter().flat_map(|node| node.room).collect();
        left.push(MilliAmps(i64::MAX));
        let mut known = vec![None; nodes.len() * 8];
        let mut all = Vec::new();
        let of = claims.iter().map(|claim| {
            let phases = Phase::ALL.map(|phase| claim.phases.contains(&phase));
            let place = phases.iter().fold(claim.node, |place, on| place * 2 + usize::from(*on));
            *known[place].get_or_insert_with(|| {
                all.push(route(nodes, claim));
                all.len() - 1
            })
        });
        let of = of.collect();
        (Self { left }, Routes { all, of })
    }

    /// The same with no more than this for the sum of all currents.
    pub fn with_sum(mut self, sum: MilliAmps) -> Self {
        if let Some(last) = self.left.last_mut() {
            *last = sum;
        }
        self
    }

    /// Where the dimming stands.
    pub fn dimming(&self) -> usize {
        self.left.len() - 1
    }

    /// What the limit is one of.
    pub fn kind(&self, limit: usize) -> LimitKind {
        match limit == self.dimming() {
            true => LimitKind::Dimming,
            false => LimitKind::Node(limit / 3, Phase::ALL[limit % 3]),
        }
    }

    /// The first limit on the route that has less than `current` left.
    pub fn blocking(&self, route: &Route, current: MilliAmps) -> Option<usize> {
        route.iter().find(|(limit, times)| self.left[*limit] < current * *times).map(|(limit, _)| *limit)
    }

    /// Takes `current` along the route.
    pub fn take(&mut self, route: &Route, current: MilliAmps) {
        route.iter().for_each(|(limit, times)| self.left[*limit] -= current * *times);
    }
}

/// From the transformer down to the claim's node, and then the dimming.
fn route(nodes: &[Node], claim: &Claim) -> Route {
    let mut path = vec![claim.node];
    let mut child = claim.node;
    while let Some(parent) = nodes[child].parent {
        assert!(parent < child, "node {child} stands before its parent {parent}");
        path.push(parent);
        child = parent;
    }
    let phases = || Phase::ALL.into_iter().filter(|phase| claim.phases.contains(phase));
    let at_nodes = path.iter().rev().flat_map(|node| phases().map(move |phase| (node * 3 + phase.index(), 1)));
    at_nodes.chain([(nodes.len() * 3, claim.width())]).collect()
}
