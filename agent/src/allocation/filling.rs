//! Progressive filling: all rise together until something stops them.
//!
//! Think of one water level. A device stands at what it has already until the level reaches it, rises with the level,
//! and stays behind when it has all that it is to get. So only two moments matter per device, and between them a limit
//! is used up at a steady rate: when it will be full is one division. The filling goes through the sorted moments;
//! whenever a limit is full before the next, all who meet it stop there. Who has the same route stops at the same level,
//! so routes stop, not devices, and a device is looked at twice, however many limits there are.

use grid_protocol::units::MilliAmps;

use super::limits::{Limits, Route};

/// Never.
const NEVER: MilliAmps = MilliAmps(i64::MAX);

/// Somebody who rises.
#[derive(Clone, Copy, Debug)]
pub(super) struct Climber {
    /// The route, by index.
    pub route: usize,
    /// What it has, which is already taken from the limits.
    pub from: MilliAmps,
    /// The most that it is to get.
    pub to: MilliAmps,
}

/// How far a climber came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Height {
    /// What it has now.
    pub current: MilliAmps,
    /// The limit that stopped it; none if it has the most that it is to get.
    pub stopped_by: Option<usize>,
}

/// Lets all climbers rise together, and takes from the limits what they gain.
pub(super) fn fill(limits: &mut Limits, routes: &[Route], climbers: &[Climber]) -> Vec<Height> {
    let mut moments: Vec<Moment> = Vec::with_capacity(climbers.len() * 2);
    for Climber { route, from, to } in climbers.iter().filter(|climber| climber.from < climber.to) {
        moments.push(Moment { level: *from, route: *route, joins: true });
        moments.push(Moment { level: *to, route: *route, joins: false });
    }
    moments.sort_unstable_by_key(|moment| moment.level);
    let mut filling = Filling::new(limits, routes, climbers);
    for at_once in moments.chunk_by(|one, next| one.level == next.level) {
        let Some(Moment { level, .. }) = at_once.first() else { continue };
        filling.rise_to(*level);
        at_once.iter().for_each(|moment| filling.pass(moment));
    }
    let heights = climbers.iter().map(|climber| match filling.stops[climber.route] {
        Some((level, limit)) if level < climber.to && climber.from < climber.to => {
            Height { current: level.max(climber.from), stopped_by: Some(limit) }
        }
        Some(_) | None => Height { current: climber.to, stopped_by: None },
    });
    heights.collect()
}

/// A device of this route starts to rise at this level, or has all that it is to get.
struct Moment {
    level: MilliAmps,
    route: usize,
    joins: bool,
}

struct Filling<'a> {
    routes: &'a [Route],
    /// What is left of each limit, as at the level in `since`.
    left: &'a mut [MilliAmps],
    since: Vec<MilliAmps>,
    /// How much of each limit a milliampere of level costs.
    rate: Vec<i64>,
    /// At which level each limit will be full, if nothing changes before.
    full_at: Vec<MilliAmps>,
    /// How many devices of each route rise now.
    rising: Vec<i64>,
    /// At which level a route stopped, and at which limit.
    stops: Vec<Option<(MilliAmps, usize)>>,
    /// The routes that anybody has.
    present: Vec<usize>,
}

impl<'a> Filling<'a> {
    fn new(limits: &'a mut Limits, routes: &'a [Route], climbers: &[Climber]) -> Self {
        let mut has_climbers = vec![false; routes.len()];
        climbers.iter().for_each(|climber| has_climbers[climber.route] = true);
        let count = limits.left.len();
        Self {
            routes,
            left: &mut limits.left,
            since: vec![MilliAmps::ZERO; count],
            rate: vec![0; count],
            full_at: vec![NEVER; count],
            rising: vec![0; routes.len()],
            stops: vec![None; routes.len()],
            present: (0..routes.len()).filter(|route| has_climbers[*route]).collect(),
        }
    }

    /// Lets the level rise, and stops those whose limits are full before it is there.
    fn rise_to(&mut self, level: MilliAmps) {
        while let Some((full_at, limit)) = self.first_full().filter(|(full_at, _)| *full_at < level) {
            for place in 0..self.present.len() {
                let route = self.present[place];
                let meets = self.routes[route].iter().any(|(met, times)| *met == limit && *times > 0);
                if meets && self.stops[route].is_none() {
                    self.stops[route] = Some((full_at, limit));
                    self.change(route, -self.rising[route], full_at);
                }
            }
        }
    }

    /// The limit that is full first: among equals the first of the row, so the transformer before its fuses.
    fn first_full(&self) -> Option<(MilliAmps, usize)> {
        let earliest = self.full_at.iter().copied().min()?;
        let limit = self.full_at.iter().position(|full_at| *full_at == earliest)?;
        Some((earliest, limit))
    }

    fn pass(&mut self, moment: &Moment) {
        if self.stops[moment.route].is_none() {
            self.change(moment.route, if moment.joins { 1 } else { -1 }, moment.level);
        }
    }

    /// From this level on so many more devices of the route rise.
    fn change(&mut self, route: usize, more: i64, level: MilliAmps) {
        self.rising[route] += more;
        for (limit, times) in self.routes[route].iter().copied() {
            self.left[limit] -= (level - self.since[limit]) * self.rate[limit];
            self.since[limit] = level;
            self.rate[limit] += more * times;
            self.full_at[limit] = match self.rate[limit] {
                0 => NEVER,
                rate => level + MilliAmps(self.left[limit].0.max(0) / rate),
            };
        }
    }
}
