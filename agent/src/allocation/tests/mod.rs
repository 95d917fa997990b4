//! What the allocator promises.

mod golden;
mod properties;
mod reference;

use super::*;
use Phase::{L1, L2, L3};

/// A device on phase L1 of the transformer that wants all it can take.
fn device(name: &str, min: i64, max: i64) -> Claim {
    Claim {
        name: name.parse().unwrap(),
        node: 0,
        phases: vec![L1],
        class: 5,
        turn: 0,
        min: MilliAmps(min),
        max: MilliAmps(max),
        demand: MilliAmps(max),
        steps: Vec::new(),
        runs_on: false,
        rests: false,
        barred: false,
    }
}

fn transformer(room: i64) -> Vec<Node> {
    vec![Node { name: None, parent: None, room: [MilliAmps(room); 3] }]
}

fn told(nodes: &[Node], claims: &[Claim], dimming: Option<&Dimming>) -> Vec<(i64, String)> {
    allocate(nodes, claims, dimming).iter().map(|share| (share.limit.0, share.reason.to_string())).collect()
}

fn gets(limit: i64, reason: &str) -> (i64, String) {
    (limit, reason.to_owned())
}

#[test]
fn a_street_without_devices_has_no_shares() {
    assert!(allocate(&transformer(10_000), &[], None).is_empty());
}

#[test]
fn what_does_not_divide_evenly_stays_unused() {
    let claims = ["a", "b", "c"].map(|name| device(name, 0, 16_000));
    assert_eq!(told(&transformer(20_000), &claims, None), vec![gets(6_666, "phase L1"); 3]);
}

#[test]
fn equal_turns_go_by_name() {
    let claims = ["b", "c", "a"].map(|name| device(name, 6_000, 16_000));
    let shares = told(&transformer(7_000), &claims, None);
    assert_eq!(shares, [gets(0, "turn"), gets(0, "turn"), gets(7_000, "phase L1")]);
}

#[test]
fn who_contradicts_itself_gets_nothing() {
    let steps = vec![MilliAmps(2_000), MilliAmps(20_000)];
    let claims = [device("a", 9_000, 6_000), Claim { steps, ..device("b", 6_000, 16_000) }, device("c", 0, -5)];
    let order = Dimming { cap: MilliAmps(-1), floor: MilliAmps(8_000) };
    for dimming in [None, Some(&order)] {
        let shares = told(&transformer(40_000), &claims, dimming);
        assert_eq!(shares, [gets(0, "maximum"), gets(0, "maximum"), gets(0, "demand")]);
    }
}

#[test]
fn off_goes_before_rest_and_rest_before_running_on() {
    let on = Claim { runs_on: true, ..device("a", 6_000, 16_000) };
    let claims = [Claim { rests: true, barred: true, ..on.clone() }, Claim { rests: true, ..on }];
    assert_eq!(told(&transformer(40_000), &claims, None), [gets(0, "operator"), gets(0, "turn")]);
}

#[test]
fn a_device_that_wants_nothing_does_not_run_on() {
    let idle = Claim { runs_on: true, demand: MilliAmps(0), ..device("a", 6_000, 16_000) };
    assert_eq!(told(&transformer(40_000), &[idle], None), [gets(0, "demand")]);
}

#[test]
fn the_floor_of_dimming_is_rounded_up_to_whole_milliamperes() {
    let car = Claim { phases: vec![L1, L2, L3], ..device("a", 6_000, 16_000) };
    let order = Dimming { cap: MilliAmps(0), floor: MilliAmps(18_260) };
    assert_eq!(told(&transformer(40_000), &[car], Some(&order)), [gets(6_087, "dimming")]);
}

#[test]
fn a_cap_that_nobody_reaches_changes_nothing() {
    let claims = [device("a", 6_000, 16_000), device("b", 6_000, 32_000)];
    let order = Dimming { cap: MilliAmps(30_000), floor: MilliAmps(0) };
    assert_eq!(told(&transformer(30_000), &claims, Some(&order)), told(&transformer(30_000), &claims, None));
}

#[test]
fn absurd_numbers_neither_overflow_nor_exceed_the_room() {
    let huge = device("a", 0, i64::MAX);
    assert_eq!(told(&transformer(i64::MIN), std::slice::from_ref(&huge), None), [gets(0, "phase L1")]);
    let order = Dimming { cap: MilliAmps(i64::MIN), floor: MilliAmps(i64::MIN) };
    assert_eq!(told(&transformer(i64::MAX), &[huge], Some(&order)), [gets(0, "dimming")]);
}

#[test]
#[should_panic(expected = "node 1 stands before its parent 1")]
fn a_node_below_itself_is_refused() {
    let mut nodes = transformer(10_000);
    nodes.push(Node { name: Some("garage".parse().unwrap()), parent: Some(1), room: [MilliAmps(0); 3] });
    allocate(&nodes, &[Claim { node: 1, ..device("a", 0, 16_000) }], None);
}
