//! One round of sharing: minimum on-times, then class by class the minima, the rise and the steps.
//!
//! A device that knows only steps rises with the others as if it could take any value, and is then taken down to the
//! step below. The others rise anew in what that leaves. What even they cannot use may lift stepped devices again, the
//! lowest first, one step at a time.

use grid_protocol::units::MilliAmps;

use super::Claim;
use super::filling::{Climber, fill};
use super::limits::{Limits, Route, Routes};

/// What a device was given, and why no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Given {
    /// The current per phase.
    pub current: MilliAmps,
    /// What stopped it.
    pub stop: Stop,
}

/// Why a device was given no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It has the most that it was to get.
    Satisfied,
    /// This limit is used up.
    Limit(usize),
    /// Its least did not fit.
    PassedOver,
}

/// The claims, prepared.
pub(super) struct Street<'a> {
    /// The claims.
    pub claims: &'a [Claim],
    /// What limits they meet.
    pub routes: Routes,
    /// Their indices by class, turn and name.
    order: Vec<usize>,
}

impl<'a> Street<'a> {
    /// Prepares the claims.
    pub fn new(claims: &'a [Claim], routes: Routes) -> Self {
        let mut order: Vec<usize> = (0..claims.len()).collect();
        let key = |index: usize| (claims[index].class, claims[index].turn, &claims[index].name);
        order.sort_unstable_by(|one, other| key(*one).cmp(&key(*other)));
        Self { claims, routes, order }
    }

    /// Shares what the limits leave, from nothing to all that is of use.
    pub fn share_all(&self, limits: Limits) -> Vec<Given> {
        let useful: Vec<MilliAmps> = self.claims.iter().map(Claim::useful).collect();
        self.share(&vec![MilliAmps::ZERO; useful.len()], &useful, limits)
    }

    /// Gives every device what it has for certain, and shares what the limits then leave, up to the most that each is to
    /// get.
    pub fn share(&self, certain: &[MilliAmps], most: &[MilliAmps], limits: Limits) -> Vec<Given> {
        let given = certain.iter().map(|current| Given { current: *current, stop: Stop::Satisfied }).collect();
        let mut round = Round { street: self, most, given, limits };
        for (index, current) in certain.iter().enumerate() {
            round.limits.take(self.route(index), *current);
        }
        let run_on: Vec<usize> = self.order.iter().copied().filter(|index| self.claims[*index].runs_on).collect();
        round.serve_least(&run_on);
        for class in self.order.chunk_by(|one, next| self.claims[*one].class == self.claims[*next].class) {
            round.serve_least(class);
            round.rise(class);
        }
        round.given
    }

    /// The limits that a claim meets.
    pub fn route(&self, index: usize) -> &Route {
        &self.routes.all[self.routes.of[index]]
    }
}

struct Round<'a> {
    street: &'a Street<'a>,
    /// The most that each is to get.
    most: &'a [MilliAmps],
    given: Vec<Given>,
    limits: Limits,
}

impl Round<'_> {
    /// Gives those that want current and have none their least, in this order, as far as it fits.
    fn serve_least(&mut self, order: &[usize]) {
        for index in order.iter().copied() {
            if self.given[index].current > MilliAmps::ZERO || self.most[index] <= MilliAmps::ZERO {
                continue;
            }
            let (least, route) = (self.street.claims[index].least(), self.street.route(index));
            match self.limits.blocking(route, least) {
                Some(limit) if limit == self.limits.dimming() => self.given[index].stop = Stop::Limit(limit),
                Some(_) if least > MilliAmps::ZERO => self.given[index].stop = Stop::PassedOver,
                Some(_) | None => {
                    self.limits.take(route, least);
                    self.given[index] = Given { current: least, stop: Stop::Satisfied };
                }
            }
        }
    }

    /// Lets those of a class that are served rise together.
    fn rise(&mut self, class: &[usize]) {
        let served = class.iter().copied().filter(|index| self.most[*index] > MilliAmps::ZERO);
        let served = served.filter(|index| {
            let has_current = self.given[*index].current > MilliAmps::ZERO;
            has_current || self.street.claims[*index].least() <= MilliAmps::ZERO
        });
        let (stepped, smooth): (Vec<usize>, Vec<usize>) =
            served.partition(|index| !self.street.claims[*index].steps.is_empty());
        if !stepped.is_empty() {
            let before = self.limits.clone();
            let heights = self.fill(&[stepped.as_slice(), smooth.as_slice()].concat());
            self.limits = before;
            for (index, (reached, _)) in stepped.iter().copied().zip(heights) {
                self.lift(index, self.step_below(index, reached));
            }
        }
        let heights = self.fill(&smooth);
        for (index, (current, stop)) in smooth.into_iter().zip(heights) {
            self.given[index] = Given { current, stop };
        }
        self.step_up(stepped);
    }

    /// Where these come to if they rise together in what is left.
    fn fill(&mut self, indices: &[usize]) -> Vec<(MilliAmps, Stop)> {
        let climbers: Vec<Climber> = indices.iter().map(|index| self.climber(*index)).collect();
        let heights = fill(&mut self.limits, &self.street.routes.all, &climbers);
        let stop = |limit: Option<usize>| limit.map_or(Stop::Satisfied, Stop::Limit);
        heights.into_iter().map(|height| (height.current, stop(height.stopped_by))).collect()
    }

    fn climber(&self, index: usize) -> Climber {
        Climber { route: self.street.routes.of[index], from: self.given[index].current, to: self.most[index] }
    }

    /// Lifts stepped devices as far as what is left allows: one step each, the lowest first, and again.
    fn step_up(&mut self, mut stepped: Vec<usize>) {
        while !stepped.is_empty() {
            stepped.sort_by_key(|index| self.given[*index].current);
            stepped.retain(|index| {
                let Some(next) = self.step_above(*index) else { return false };
                let more = next - self.given[*index].current;
                let blocking = self.limits.blocking(self.street.route(*index), more);
                match blocking {
                    Some(limit) => self.given[*index].stop = Stop::Limit(limit),
                    None => self.lift(*index, next),
                }
                blocking.is_none()
            });
        }
    }

    fn lift(&mut self, index: usize, current: MilliAmps) {
        self.limits.take(self.street.route(index), current - self.given[index].current);
        self.given[index].current = current;
    }

    /// The highest step at or below the current; what the device has if there is none.
    fn step_below(&self, index: usize, current: MilliAmps) -> MilliAmps {
        let steps = self.street.claims[index].usable_steps();
        let below = &steps[..steps.partition_point(|step| *step <= current)];
        below.last().copied().unwrap_or(self.given[index].current)
    }

    /// The step above what the device has, if it may have one.
    fn step_above(&self, index: usize) -> Option<MilliAmps> {
        let steps = self.street.claims[index].usable_steps();
        let above = steps.get(steps.partition_point(|step| *step <= self.given[index].current));
        above.copied().filter(|step| *step <= self.most[index])
    }
}
