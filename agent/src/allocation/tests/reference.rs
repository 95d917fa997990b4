//! The same rules without dimming, written so slowly that they are obvious: a milliampere at a time, with everything
//! counted anew each time.

use super::*;

/// What [`allocate`] without dimming must agree with.
pub fn allocate_slowly(nodes: &[Node], claims: &[Claim]) -> Vec<Share> {
    let mut slow = Slow { nodes, claims, current: vec![0; claims.len()], stop: vec![Wanting::Nothing; claims.len()] };
    let mut order: Vec<usize> = (0..claims.len()).filter(|index| slow.useful(*index) > 0).collect();
    order.sort_by_key(|index| (claims[*index].class, claims[*index].turn, claims[*index].name.clone()));
    for index in order.iter().copied().filter(|index| claims[*index].runs_on) {
        slow.serve_least(index);
    }
    for class in 0..=u8::MAX {
        let class: Vec<usize> = order.iter().copied().filter(|index| claims[*index].class == class).collect();
        class.iter().for_each(|index| slow.serve_least(*index));
        let (stepped, smooth): (Vec<usize>, Vec<usize>) =
            class.iter().partition(|index| !claims[**index].steps.is_empty());
        slow.rise(&class, &stepped, &smooth);
    }
    (0..claims.len()).map(|index| slow.told(index)).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanting {
    Nothing,
    Least,
    More(usize, Phase),
}

struct Slow<'a> {
    nodes: &'a [Node],
    claims: &'a [Claim],
    current: Vec<i64>,
    stop: Vec<Wanting>,
}

impl Slow<'_> {
    fn values(&self, index: usize) -> Vec<i64> {
        let claim = &self.claims[index];
        let in_range = |value: &i64| claim.min.0 <= *value && *value <= claim.max.0;
        match claim.steps.is_empty() {
            true => (claim.min.0..=claim.max.0).collect(),
            false => claim.steps.iter().map(|step| step.0).filter(in_range).collect(),
        }
    }

    fn useful(&self, index: usize) -> i64 {
        let claim = &self.claims[index];
        if claim.demand.0 <= 0 || claim.barred || claim.rests {
            return 0;
        }
        let values = self.values(index);
        let enough = values.iter().find(|value| **value >= claim.demand.0);
        enough.or(values.last()).copied().unwrap_or(0)
    }

    /// Whether the claim draws from this phase of this node.
    fn draws(&self, index: usize, node: usize, phase: Phase) -> bool {
        let mut at = Some(self.claims[index].node);
        while at.is_some_and(|at| at != node) {
            at = at.and_then(|at| self.nodes[at].parent);
        }
        at.is_some() && self.claims[index].phases.contains(&phase)
    }

    fn limits(&self) -> impl Iterator<Item = (usize, Phase)> + use<> {
        (0..self.nodes.len()).flat_map(|node| Phase::ALL.map(|phase| (node, phase)))
    }

    fn left(&self, node: usize, phase: Phase) -> i64 {
        let on = (0..self.claims.len()).filter(|index| self.draws(*index, node, phase));
        self.nodes[node].room[phase.index()].0 - on.map(|index| self.current[index]).sum::<i64>()
    }

    fn blocking(&self, index: usize, more: i64) -> Option<(usize, Phase)> {
        self.limits().find(|(node, phase)| self.draws(index, *node, *phase) && self.left(*node, *phase) < more)
    }

    fn serve_least(&mut self, index: usize) {
        let least = self.values(index)[0];
        if self.current[index] == 0 && least > 0 {
            match self.blocking(index, least) {
                Some(_) => self.stop[index] = Wanting::Least,
                None => self.current[index] = least,
            }
        }
    }

    fn rise(&mut self, class: &[usize], stepped: &[usize], smooth: &[usize]) {
        let before = self.current.clone();
        self.climb(class);
        for index in stepped.iter().copied() {
            let below = self.values(index).into_iter().rfind(|step| *step <= self.current[index]);
            self.current[index] = below.unwrap_or(0);
        }
        smooth.iter().for_each(|index| self.current[*index] = before[*index]);
        self.climb(smooth);
        loop {
            let mut waiting: Vec<usize> = stepped.iter().copied().filter(|index| self.climbs(*index)).collect();
            waiting.sort_by_key(|index| self.current[*index]);
            let mut lifted = false;
            for index in waiting {
                let next = self.values(index).into_iter().find(|step| *step > self.current[index]).unwrap();
                match self.blocking(index, next - self.current[index]) {
                    Some((node, phase)) => self.stop[index] = Wanting::More(node, phase),
                    None => (self.current[index], lifted) = (next, true),
                }
            }
            if !lifted {
                return;
            }
        }
    }

    fn climbs(&self, index: usize) -> bool {
        self.stop[index] != Wanting::Least && self.current[index] < self.useful(index)
    }

    /// Lifts the lowest a milliampere at a time, all of them or none.
    fn climb(&mut self, who: &[usize]) {
        let mut climbing: Vec<usize> = who.iter().copied().filter(|index| self.climbs(*index)).collect();
        while let Some(level) = climbing.iter().map(|index| self.current[*index]).min() {
            let lowest: Vec<usize> = climbing.iter().copied().filter(|index| self.current[*index] == level).collect();
            let full = self.limits().find(|(node, phase)| {
                let rising = lowest.iter().filter(|index| self.draws(**index, *node, *phase)).count() as i64;
                rising > 0 && self.left(*node, *phase) < rising
            });
            match full {
                Some((node, phase)) => {
                    let (stopped, going) = climbing.iter().partition(|index| self.draws(**index, node, phase));
                    let stopped: Vec<usize> = stopped;
                    stopped.into_iter().for_each(|index| self.stop[index] = Wanting::More(node, phase));
                    climbing = going;
                }
                None => lowest.iter().for_each(|index| self.current[*index] += 1),
            }
            climbing.retain(|index| self.climbs(*index));
        }
    }

    fn told(&self, index: usize) -> Share {
        let (claim, current) = (&self.claims[index], self.current[index]);
        let reason = match self.stop[index] {
            _ if claim.barred => Reason::Operator,
            _ if claim.demand.0 <= 0 => Reason::Demand,
            _ if claim.rests => Reason::Turn,
            _ if current > 0 && current == self.useful(index) && (claim.demand.0 >= claim.max.0.min(current + 1)) => {
                Reason::Maximum
            }
            _ if current > 0 && current == self.useful(index) => Reason::Demand,
            Wanting::Nothing => Reason::Maximum,
            Wanting::Least => Reason::Turn,
            Wanting::More(..) if current > 0 && current == self.values(index)[0] => Reason::Minimum,
            Wanting::More(node, phase) => match &self.nodes[node].name {
                Some(name) => Reason::Fuse(name.clone()),
                None => Reason::Phase(phase),
            },
        };
        Share { limit: MilliAmps(current), reason }
    }
}
