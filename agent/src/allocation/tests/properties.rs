//! What must hold on every street.

use super::reference::allocate_slowly;
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A transformer with up to three fuses, some below others.
fn any_nodes(most: i64) -> impl Strategy<Value = Vec<Node>> {
    vec((proptest::array::uniform3(-most / 10..most), any::<prop::sample::Index>()), 1..5).prop_map(|rooms| {
        let node = |(index, (room, parent)): (usize, ([i64; 3], prop::sample::Index))| Node {
            name: (index > 0).then(|| format!("fuse-{index}").parse().unwrap()),
            parent: (index > 0).then(|| parent.index(index)),
            room: room.map(MilliAmps),
        };
        rooms.into_iter().enumerate().map(node).collect()
    })
}

/// Devices with minima and steps of about `unit`.
fn any_claims(unit: i64, nodes: usize, count: usize) -> impl Strategy<Value = Vec<Claim>> {
    let phases = select(vec![vec![L1], vec![L2], vec![L3], vec![L1, L2], vec![L1, L2, L3]]);
    let steps = select(vec![vec![], vec![], vec![], vec![2], vec![1, 3], vec![2, 3, 4]]);
    let flags = (0..10_u8, 0..3_u8, 0..4_u64);
    let range = (select(vec![0, unit / 3, unit]), unit..6 * unit, 0..7 * unit);
    let claim = (phases, steps, flags, range, 0..nodes);
    vec(claim, 1..count).prop_map(move |drawn| {
        let claim = |(index, (phases, steps, (flag, class, turn), (min, max, demand), node)): (usize, _)| Claim {
            name: format!("device-{index}").parse().unwrap(),
            node,
            phases,
            class,
            turn,
            min: MilliAmps(min),
            max: MilliAmps(max),
            demand: MilliAmps(demand),
            steps: Vec::into_iter(steps).map(|step: i64| MilliAmps(step * unit)).collect(),
            runs_on: flag == 0,
            rests: flag == 1,
            barred: flag == 2,
        };
        drawn.into_iter().enumerate().map(claim).collect()
    })
}

/// A street, and an order of the grid operator.
fn any_street(unit: i64, count: usize) -> impl Strategy<Value = (Vec<Node>, Vec<Claim>, Dimming)> {
    let order = (0..count as i64 * 3 * unit, 0..6 * unit);
    let order = order.prop_map(|(cap, floor)| Dimming { cap: MilliAmps(cap), floor: MilliAmps(floor) });
    let nodes = any_nodes(12 * unit);
    (nodes, order).prop_flat_map(move |(nodes, order)| {
        let claims = any_claims(unit, nodes.len(), count);
        (Just(nodes), claims, Just(order))
    })
}

/// The nodes from this one up to the transformer.
fn up_from(nodes: &[Node], node: usize) -> Vec<usize> {
    std::iter::successors(Some(node), |node| nodes[*node].parent).collect()
}

/// Claims and shares on a phase of a node and below.
fn on<'a>(
    nodes: &'a [Node],
    claims: &'a [Claim],
    shares: &'a [Share],
    node: usize,
    phase: Phase,
) -> impl Iterator<Item = (&'a Claim, &'a Share)> {
    let here = move |claim: &Claim| up_from(nodes, claim.node).contains(&node) && claim.phases.contains(&phase);
    claims.iter().zip(shares).filter(move |(claim, _)| here(claim))
}

fn left(nodes: &[Node], claims: &[Claim], shares: &[Share], node: usize, phase: Phase) -> i64 {
    nodes[node].room[phase.index()].0
        - on(nodes, claims, shares, node, phase).map(|(_, share)| share.limit.0).sum::<i64>()
}

/// The phases of nodes that a claim meets and that are full up to what does not divide evenly.
fn full(nodes: &[Node], claims: &[Claim], shares: &[Share], claim: &Claim) -> Vec<(usize, Phase)> {
    let met = up_from(nodes, claim.node).into_iter().flat_map(|node| claim.phases.iter().map(move |p| (node, *p)));
    met.filter(|(node, phase)| {
        left(nodes, claims, shares, *node, *phase) < on(nodes, claims, shares, *node, *phase).count() as i64
    })
    .collect()
}

fn all_currents(claims: &[Claim], shares: &[Share]) -> i64 {
    claims.iter().zip(shares).map(|(claim, share)| share.limit.0 * claim.phases.len() as i64).sum()
}

/// Served, able to take any value, and short of what it wants.
fn could_use_more(claim: &Claim, share: &Share) -> bool {
    claim.steps.is_empty() && share.limit < claim.useful() && (share.limit > MilliAmps::ZERO || claim.min.0 <= 0)
}

fn floor(claim: &Claim, order: &Dimming) -> i64 {
    let phases = claim.phases.len() as i64;
    (order.floor.0 + phases - 1) / phases
}

proptest! {
    #[test]
    fn no_phase_of_any_node_carries_more_than_its_room((nodes, claims, order) in any_street(6_000, 20)) {
        for dimming in [None, Some(&order)] {
            let shares = allocate(&nodes, &claims, dimming);
            for (index, node) in nodes.iter().enumerate() {
                for phase in Phase::ALL {
                    let carried: i64 = on(&nodes, &claims, &shares, index, phase).map(|(_, share)| share.limit.0).sum();
                    prop_assert!(carried <= node.room[phase.index()].0.max(0), "{index} {phase} {shares:?}");
                }
            }
        }
    }

    #[test]
    fn everybody_gets_nothing_or_a_value_that_it_can_take_and_wants((nodes, claims, order) in any_street(6_000, 20)) {
        for dimming in [None, Some(&order)] {
            for (claim, share) in claims.iter().zip(allocate(&nodes, &claims, dimming)) {
                let stepped = claim.steps.is_empty() || claim.steps.contains(&share.limit);
                let usable = stepped && claim.min <= share.limit && share.limit <= claim.max;
                let wanted = share.limit <= claim.useful();
                prop_assert!(share.limit.0 == 0 || usable && wanted, "{claim:?} {share:?}");
            }
        }
    }

    #[test]
    fn the_fast_filling_agrees_with_the_slow_one((nodes, claims, _) in any_street(12, 9)) {
        prop_assert_eq!(allocate(&nodes, &claims, None), allocate_slowly(&nodes, &claims));
    }

    #[test]
    fn nobody_envies_an_equal((nodes, claims, _) in any_street(6_000, 20)) {
        let shares = allocate(&nodes, &claims, None);
        for (mine, my) in claims.iter().zip(&shares).filter(|(mine, my)| could_use_more(mine, my)) {
            for (other, its) in claims.iter().zip(&shares) {
                let equals = other.steps.is_empty() && other.class == mine.class;
                let equals = equals && other.node == mine.node && other.phases == mine.phases;
                let envies = equals && its.limit > my.limit && its.limit != other.least();
                prop_assert!(!envies, "{mine:?} {my:?} envies {other:?} {its:?}");
            }
        }
    }

    #[test]
    fn who_could_use_more_meets_a_full_phase_where_nobody_of_its_class_rose_further(
        (nodes, claims, _) in any_street(6_000, 20),
    ) {
        let shares = allocate(&nodes, &claims, None);
        for (mine, my) in claims.iter().zip(&shares).filter(|(mine, my)| could_use_more(mine, my)) {
            let bottleneck = full(&nodes, &claims, &shares, mine).into_iter().any(|(node, phase)| {
                on(&nodes, &claims, &shares, node, phase).all(|(other, its)| {
                    let equals = other.steps.is_empty() && other.class == mine.class;
                    !equals || its.limit <= my.limit || its.limit == other.least()
                })
            });
            prop_assert!(bottleneck, "{mine:?} {my:?}");
        }
    }

    #[test]
    fn a_step_that_is_not_taken_does_not_fit((nodes, claims, _) in any_street(6_000, 12)) {
        let shares = allocate(&nodes, &claims, None);
        for (claim, share) in claims.iter().zip(&shares).filter(|(claim, _)| !claim.steps.is_empty()) {
            let next = claim.usable_steps().iter().find(|step| **step > share.limit && **step <= claim.useful());
            let Some(more) = next.map(|next| (*next - share.limit).0) else { continue };
            let fits = up_from(&nodes, claim.node).into_iter().all(|node| {
                claim.phases.iter().all(|phase| left(&nodes, &claims, &shares, node, *phase) >= more)
            });
            prop_assert!(!fits, "{claim:?} {share:?}");
        }
    }

    #[test]
    fn the_order_of_the_claims_changes_nothing(
        ((nodes, claims, order), shuffled) in any_street(6_000, 16).prop_flat_map(|street| {
            let shuffled = Just(street.1.clone()).prop_shuffle();
            (Just(street), shuffled)
        }),
    ) {
        for dimming in [None, Some(&order)] {
            let named = |claims: &[Claim]| {
                let shares = allocate(&nodes, claims, dimming);
                let named = claims.iter().map(|claim| claim.name.clone()).zip(shares);
                named.collect::<std::collections::BTreeMap<_, _>>()
            };
            prop_assert_eq!(named(&claims), named(&shuffled));
        }
    }

    #[test]
    fn lower_classes_change_nothing_for_higher_ones((nodes, mut claims, _) in any_street(6_000, 20)) {
        // Minimum on-times alone go before classes.
        claims.iter_mut().for_each(|claim| claim.runs_on = false);
        let higher: Vec<Claim> = claims.iter().filter(|claim| claim.class == 0).cloned().collect();
        let shares = allocate(&nodes, &claims, None);
        let of_higher = claims.iter().zip(shares).filter(|(claim, _)| claim.class == 0).map(|(_, share)| share);
        prop_assert_eq!(of_higher.collect::<Vec<_>>(), allocate(&nodes, &higher, None));
    }

    #[test]
    fn dimming_takes_nobody_below_its_floor((nodes, claims, order) in any_street(6_000, 20)) {
        let undimmed = allocate(&nodes, &claims, None);
        let dimmed = allocate(&nodes, &claims, Some(&order));
        for ((claim, before), after) in claims.iter().zip(&undimmed).zip(&dimmed) {
            prop_assert!(after.limit.0 >= before.limit.0.min(floor(claim, &order)), "{claim:?} {before:?} {after:?}");
        }
    }

    #[test]
    fn dimming_keeps_the_sum_within_the_cap_or_everybody_at_its_floor((nodes, claims, order) in any_street(6_000, 20)) {
        let shares = allocate(&nodes, &claims, Some(&order));
        let at_floor = |(claim, share): (&Claim, &Share)| share.limit <= claim.at_least(MilliAmps(floor(claim, &order)));
        let within = all_currents(&claims, &shares) <= order.cap.0;
        prop_assert!(within || claims.iter().zip(&shares).all(at_floor), "{shares:?}");
    }

    #[test]
    fn a_cap_that_is_just_reached_changes_nothing(
        (nodes, claims, order) in any_street(6_000, 20),
    ) {
        let undimmed = allocate(&nodes, &claims, None);
        let enough = Dimming { cap: MilliAmps(all_currents(&claims, &undimmed)), ..order };
        prop_assert_eq!(allocate(&nodes, &claims, Some(&enough)), undimmed);
    }

    #[test]
    fn under_dimming_nobody_can_be_raised_either((nodes, claims, order) in any_street(6_000, 20)) {
        let shares = allocate(&nodes, &claims, Some(&order));
        let phases: i64 = claims.iter().map(|claim| claim.phases.len() as i64).sum();
        let cap_is_used = order.cap.0 - all_currents(&claims, &shares) < phases;
        for (claim, share) in claims.iter().zip(&shares).filter(|(claim, share)| could_use_more(claim, share)) {
            let stopped = cap_is_used || !full(&nodes, &claims, &shares, claim).is_empty();
            prop_assert!(stopped, "{claim:?} {share:?}");
        }
    }

    #[test]
    fn where_floors_use_up_the_cap_nobody_is_kept_below_its_floor_but_by_a_node(
        (nodes, claims, order) in any_street(6_000, 20),
    ) {
        let order = Dimming { cap: MilliAmps::ZERO, ..order };
        let shares = allocate(&nodes, &claims, Some(&order));
        for (claim, share) in claims.iter().zip(&shares).filter(|(claim, share)| could_use_more(claim, share)) {
            let at_floor = share.limit.0 >= floor(claim, &order);
            prop_assert!(at_floor || !full(&nodes, &claims, &shares, claim).is_empty(), "{claim:?} {share:?}");
        }
    }

    #[test]
    fn a_reason_names_what_is_so((nodes, claims, order) in any_street(6_000, 20)) {
        for dimming in [None, Some(&order)] {
            let shares = allocate(&nodes, &claims, dimming);
            for (claim, share) in claims.iter().zip(&shares) {
                // A step needs more than what does not divide evenly.
                let full = || full(&nodes, &claims, &shares, claim);
                let is_so = match &share.reason {
                    Reason::Demand => share.limit >= claim.demand,
                    Reason::Maximum => share.limit == claim.useful() && claim.demand >= share.limit,
                    Reason::Phase(phase) => !claim.steps.is_empty() || full().contains(&(0, *phase)),
                    Reason::Fuse(name) => {
                        !claim.steps.is_empty() || full().iter().any(|(node, _)| nodes[*node].name.as_ref() == Some(name))
                    }
                    Reason::Minimum => share.limit == claim.least() && share.limit > MilliAmps::ZERO,
                    Reason::Turn => share.limit == MilliAmps::ZERO && !claim.barred,
                    Reason::Dimming => dimming.is_some() && share.limit < claim.useful(),
                    Reason::Operator => claim.barred,
                    Reason::Ramp | Reason::Failsafe => false,
                };
                prop_assert!(is_so, "{claim:?} {share:?}");
            }
        }
    }
}
