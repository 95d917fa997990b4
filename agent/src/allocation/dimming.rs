//! A grid operator's order: less for all together, but for nobody less than a floor.
//!
//! Each device keeps the smaller of its floor and what it gets without the order. If that leaves something of the cap,
//! it is shared as always, the cap being one more limit that all meet. If it does not, nobody gets more than its floor,
//! but up to there the order binds nobody: what the others had to give back may bring those to their floor who had
//! less, or nothing.

use grid_protocol::units::MilliAmps;

use super::limits::Limits;
use super::sharing::{Given, Stop, Street};
use super::{Claim, Dimming};

/// What devices get under the order, from what they get without; `limits` are those of the nodes, with nothing taken.
pub(super) fn dim(street: &Street<'_>, limits: &Limits, undimmed: Vec<Given>, order: &Dimming) -> Vec<Given> {
    let dimming = limits.dimming();
    let had: Vec<MilliAmps> = undimmed.iter().map(|given| given.current).collect();
    if sum(street.claims, &had) <= order.cap {
        return undimmed;
    }
    let floors: Vec<MilliAmps> = street.claims.iter().map(|claim| claim.floor(order)).collect();
    let kept: Vec<MilliAmps> = had.iter().zip(&floors).map(|(had, floor)| *had.min(floor)).collect();
    let useful = street.claims.iter().map(Claim::useful);
    let (most, limits): (Vec<MilliAmps>, Limits) = if sum(street.claims, &kept) < order.cap {
        (useful.collect(), limits.clone().with_sum(order.cap))
    } else {
        (useful.zip(&floors).map(|(useful, floor)| useful.min(*floor)).collect(), limits.clone())
    };
    let mut given = street.share(&kept, &most, limits);
    for (given, claim) in given.iter_mut().zip(street.claims) {
        if given.stop == Stop::Satisfied && given.current < claim.useful() {
            given.stop = Stop::Limit(dimming);
        }
    }
    given
}

impl Claim {
    /// What it may draw per phase whatever the cap.
    fn floor(&self, order: &Dimming) -> MilliAmps {
        let width = self.width().max(1);
        let per_phase = MilliAmps((order.floor.0.max(0) - 1).div_euclid(width) + 1);
        self.at_least(per_phase)
    }
}

/// All currents on all phases.
fn sum(claims: &[Claim], currents: &[MilliAmps]) -> MilliAmps {
    claims.iter().zip(currents).map(|(claim, current)| *current * claim.width()).sum()
}
