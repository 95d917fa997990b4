//! Who gets how much: max-min fairness by progressive filling, phase by phase.
//!
//! First every device that wants current gets its minimum, in the order given, as far as all fit: less than the minimum
//! is not usable (a car does not charge below 6 A, IEC 61851-1). Then the lowest rise together until a phase is full or
//! a device has all that it wants. Nobody can then get more without somebody who has no more getting less, which is what
//! max-min fair means.
//!
//! A pure function of its arguments in integers: the same street gives the same limits, whatever order equal devices
//! stand in. A few milliamperes that do not divide evenly stay unused.

use grid_protocol::message::{Phase, Reason};
use grid_protocol::units::MilliAmps;

/// What a device would like to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The phases it draws from, the same current on each.
    pub phases: Vec<Phase>,
    /// Less than this is not usable; at most `max`.
    pub min: MilliAmps,
    /// The most it can take.
    pub max: MilliAmps,
    /// What it wants now; 0 for nothing. Less than the minimum counts as the minimum.
    pub demand: MilliAmps,
}

/// What a device gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The limit per phase.
    pub limit: MilliAmps,
    /// What bound it.
    pub reason: Reason,
}

impl Claim {
    /// The most that is of use now: nothing, or something between minimum and maximum.
    fn useful(&self) -> MilliAmps {
        if self.demand > MilliAmps::ZERO { self.demand.max(self.min).min(self.max) } else { MilliAmps::ZERO }
    }

    fn satisfied(&self) -> Reason {
        if self.demand >= self.max { Reason::Maximum } else { Reason::Demand }
    }
}

/// Shares `room` (per phase L1, L2, L3) among the claims; the shares come in the same order.
pub fn allocate(room: [MilliAmps; 3], claims: &[Claim]) -> Vec<Share> {
    let mut left = room;
    let mut rising = Vec::new();
    let mut shares = Vec::with_capacity(claims.len());
    for (index, claim) in claims.iter().enumerate() {
        let minimum = claim.min;
        let fits = claim.phases.iter().all(|phase| left[phase.index()] >= minimum);
        let share = match (claim.useful() > MilliAmps::ZERO, fits) {
            (false, _) => Share { limit: MilliAmps::ZERO, reason: Reason::Demand },
            (true, false) => Share { limit: MilliAmps::ZERO, reason: Reason::Turn },
            (true, true) => {
                claim.phases.iter().for_each(|phase| left[phase.index()] -= minimum);
                rising.push(index);
                Share { limit: minimum, reason: claim.satisfied() }
            }
        };
        shares.push(share);
    }
    let mut full = [false; 3];
    while let Some(level) = rising.iter().map(|index| shares[*index].limit).min() {
        raise(level, claims, &rising, &mut shares, &mut left, &mut full);
        rising.retain(|index| {
            let (claim, share) = (&claims[*index], &mut shares[*index]);
            if share.limit == claim.useful() {
                return false;
            }
            let bound = claim.phases.iter().find(|phase| full[phase.index()]);
            if let Some(phase) = bound {
                share.reason = if share.limit == claim.min { Reason::Minimum } else { Reason::Phase(*phase) };
            }
            bound.is_none()
        });
    }
    shares
}

/// Raises those at `level` together: to the next level above, to the first who then has all it wants, or until a phase
/// has less left than they are; that phase is full.
fn raise(
    level: MilliAmps,
    claims: &[Claim],
    rising: &[usize],
    shares: &mut [Share],
    left: &mut [MilliAmps; 3],
    full: &mut [bool; 3],
) {
    let mut lowest = Vec::new();
    let mut on_phase = [0_i64; 3];
    let mut step = MilliAmps(i64::MAX);
    for index in rising.iter().copied() {
        if shares[index].limit > level {
            step = step.min(shares[index].limit - level);
            continue;
        }
        step = step.min(claims[index].useful() - level);
        claims[index].phases.iter().for_each(|phase| on_phase[phase.index()] += 1);
        lowest.push(index);
    }
    for (left, count) in left.iter().zip(on_phase).filter(|(_, count)| *count > 0) {
        step = step.min(MilliAmps(left.0 / count));
    }
    lowest.into_iter().for_each(|index| shares[index].limit += step);
    for ((left, full), count) in left.iter_mut().zip(full).zip(on_phase).filter(|(_, count)| *count > 0) {
        *left -= step * count;
        *full |= left.0 < count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Phase::{L1, L2, L3};
    use proptest::prelude::*;

    fn car(phases: &[Phase], max: i64) -> Claim {
        Claim { phases: phases.to_vec(), min: MilliAmps(6_000), max: MilliAmps(max), demand: MilliAmps(max) }
    }

    fn limits(room: i64, claims: &[Claim]) -> Vec<i64> {
        allocate([MilliAmps(room); 3], claims).into_iter().map(|share| share.limit.0).collect()
    }

    fn reasons(room: i64, claims: &[Claim]) -> Vec<String> {
        allocate([MilliAmps(room); 3], claims).into_iter().map(|share| share.reason.to_string()).collect()
    }

    #[test]
    fn all_get_what_they_want_where_there_is_room() {
        let claims = [car(&[L1, L2, L3], 32_000), car(&[L1], 16_000)];
        assert_eq!(limits(60_000, &claims), [32_000, 16_000]);
        assert_eq!(reasons(60_000, &claims), ["maximum", "maximum"]);
    }

    #[test]
    fn what_is_short_is_shared_equally_and_what_one_does_not_want_goes_to_the_others() {
        let mut claims = [car(&[L1, L2, L3], 32_000), car(&[L1, L2, L3], 32_000), car(&[L1], 16_000)];
        assert_eq!(limits(30_000, &claims), [10_000, 10_000, 10_000]);
        claims[2].demand = MilliAmps(7_000);
        assert_eq!(limits(30_000, &claims), [11_500, 11_500, 7_000]);
        assert_eq!(reasons(30_000, &claims), ["phase L1", "phase L1", "demand"]);
    }

    #[test]
    fn a_full_phase_holds_back_only_those_who_use_it() {
        let claims = [car(&[L1, L2, L3], 32_000), car(&[L1], 32_000), car(&[L2], 32_000)];
        let room = [MilliAmps(20_000), MilliAmps(40_000), MilliAmps(40_000)];
        let shares = allocate(room, &claims);
        assert_eq!(shares.iter().map(|share| share.limit.0).collect::<Vec<_>>(), [10_000, 10_000, 30_000]);
        assert_eq!(shares[2].reason, Reason::Phase(L2));
    }

    #[test]
    fn less_than_the_minimum_goes_to_nobody_and_first_come_is_first_served() {
        let claims = [car(&[L1], 16_000), car(&[L1], 16_000), car(&[L1], 16_000)];
        assert_eq!(limits(13_000, &claims), [6_500, 6_500, 0]);
        assert_eq!(limits(12_000, &claims), [6_000, 6_000, 0]);
        assert_eq!(reasons(12_000, &claims), ["minimum", "minimum", "turn"]);
        assert_eq!(limits(5_999, &claims), [0, 0, 0]);
    }

    #[test]
    fn no_room_and_no_wish_give_nothing() {
        assert_eq!(limits(-5_000, &[car(&[L1], 16_000)]), [0]);
        let idle = Claim { demand: MilliAmps(0), ..car(&[L1], 16_000) };
        assert_eq!(limits(50_000, std::slice::from_ref(&idle)), [0]);
        assert_eq!(reasons(50_000, &[idle]), ["demand"]);
        assert!(allocate([MilliAmps(0); 3], &[]).is_empty());
    }

    fn any_claim() -> impl Strategy<Value = Claim> {
        let phases = proptest::sample::select(vec![vec![L1], vec![L2], vec![L3], vec![L1, L2], vec![L1, L2, L3]]);
        let min = proptest::sample::select(vec![0, 1_000, 6_000]);
        (phases, min, 6_000..40_000_i64, 0..40_000_i64).prop_map(|(phases, min, max, demand)| Claim {
            phases,
            min: MilliAmps(min),
            max: MilliAmps(max),
            demand: MilliAmps(demand),
        })
    }

    proptest! {
        #[test]
        fn no_phase_ever_carries_more_than_its_room_and_nobody_gets_more_than_it_wants(
            room in proptest::array::uniform3(-10_000..200_000_i64),
            claims in proptest::collection::vec(any_claim(), 0..20),
        ) {
            let shares = allocate(room.map(MilliAmps), &claims);
            for phase in Phase::ALL {
                let on = claims.iter().zip(&shares).filter(|(claim, _)| claim.phases.contains(&phase));
                let sum: MilliAmps = on.map(|(_, share)| share.limit).sum();
                prop_assert!(sum.0 <= room[phase.index()].max(0));
            }
            for (claim, share) in claims.iter().zip(&shares) {
                prop_assert!(share.limit <= claim.useful());
                prop_assert!(share.limit.0 == 0 || share.limit >= claim.min);
            }
        }

        #[test]
        fn nobody_who_is_served_can_be_raised_without_a_full_phase_or_an_equal_or_lower_getting_less(
            room in proptest::array::uniform3(0..200_000_i64),
            claims in proptest::collection::vec(any_claim(), 1..20),
        ) {
            let shares = allocate(room.map(MilliAmps), &claims);
            for (claim, share) in claims.iter().zip(&shares) {
                if share.limit.0 == 0 || share.limit == claim.useful() {
                    continue;
                }
                // Some phase of it is full, and nobody on it has more without that being its own minimum.
                let bottleneck = claim.phases.iter().any(|phase| {
                    let on = || claims.iter().zip(&shares).filter(|(other, _)| other.phases.contains(phase));
                    let sum: i64 = on().map(|(_, share)| share.limit.0).sum();
                    room[phase.index()] - sum < claims.len() as i64
                        && on().all(|(other, its)| its.limit <= share.limit || its.limit == other.min)
                });
                prop_assert!(bottleneck, "{claim:?} {share:?}");
            }
        }

        #[test]
        fn equal_claims_get_equal_shares_whatever_their_order(
            room in 0..300_000_i64,
            claims in proptest::collection::vec(any_claim(), 1..12),
        ) {
            // Without minima nobody is left out, so that order cannot matter.
            let claims: Vec<Claim> = claims.into_iter().map(|claim| Claim { min: MilliAmps(0), ..claim }).collect();
            let reversed: Vec<Claim> = claims.iter().rev().cloned().collect();
            let mut back = limits(room, &reversed);
            back.reverse();
            prop_assert_eq!(limits(room, &claims), back);
        }
    }
}
