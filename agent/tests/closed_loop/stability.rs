//! Nobody is troubled without need.

use grid_protocol::message::Phase::{L1, L2, L3};

use crate::street::{Habits, PROMPT, Street, car, plan};

/// 60 A a phase.
const LIMIT_W: u64 = 41_400;

/// Three cars of 32 A on a base of 20 A: each gets about 12.9 A.
fn three_cars(habits: Habits) -> Street {
    let devices = vec![car(&[L1, L2, L3], 32_000); 3];
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, habits, 20_000);
    street.points.iter_mut().for_each(|point| point.wants = 32_000);
    street
}

fn assert_steady(mut street: Street) {
    street.pass(150_000);
    for place in 0..street.points.len() {
        let changes = street.changes(place, 120_000);
        assert!(
            changes < 2,
            "{}: {changes} changes in two minutes: {:?}",
            street.points[place].name,
            street.points[place].reasons
        );
        assert!(street.points[place].current() > 9_000, "{}", street.points[place].current());
    }
    assert!(street.violations.is_empty());
}

#[test]
fn cars_that_follow_at_once_are_left_alone() {
    assert_steady(three_cars(PROMPT));
}

#[test]
fn cars_that_follow_after_five_seconds_are_left_alone() {
    assert_steady(three_cars(Habits { follows_after: 5_000, ..PROMPT }));
}

#[test]
fn cars_that_draw_whole_amperes_are_left_alone() {
    assert_steady(three_cars(Habits { step: 1_000, ..PROMPT }));
}

#[test]
fn cars_that_draw_a_tenth_less_than_they_may_are_left_alone() {
    assert_steady(three_cars(Habits { percent: 90, ..PROMPT }));
}

#[test]
fn slow_cars_that_draw_less_in_whole_amperes_are_left_alone() {
    assert_steady(three_cars(Habits { follows_after: 5_000, step: 1_000, percent: 90 }));
}

#[test]
fn a_car_that_rises_late_by_26_amperes_does_not_curtail_another_for_longer_than_100_ms() {
    let devices = vec![car(&[L1, L2, L3], 32_000); 2];
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, PROMPT, 5_000);
    // The second draws only 6 A although it may draw more, until it rises by 26 A at once.
    street.points[0].wants = 20_000;
    street.points[1].wants = 32_000;
    street.points[1].draws = 6_000;
    street.pass(8_000);
    assert_eq!((street.points[0].limit(), street.points[1].limit()), (20_000, 32_000));
    street.points[1].draws = i64::MAX;
    let mut curtailed = 0;
    street.pass_with(3_000, |street| curtailed += u64::from(street.points[0].limit() < 20_000));
    assert_eq!(street.points[1].current(), 32_000);
    assert!(curtailed <= 100, "{curtailed} ms");
    assert!(street.excursions.is_empty());
}

#[test]
fn a_base_load_that_flickers_by_a_twentieth_once_a_second_does_not_curtail_for_longer_than_100_ms() {
    let mut street = three_cars(PROMPT);
    let flicker = |street: &mut Street| street.base = if street.now % 1_000 < 500 { 20_000 } else { 21_000 };
    street.pass_with(20_000, flicker);
    let before: Vec<usize> = street.points.iter().map(|point| point.limits.len()).collect();
    street.pass_with(60_000, flicker);
    let after: Vec<usize> = street.points.iter().map(|point| point.limits.len()).collect();
    assert_eq!(before, after);
    let limits: Vec<i64> = street.points.iter().map(|point| point.limit()).collect();
    assert!(limits.iter().all(|limit| *limit >= 12_300), "{limits:?}");
}

#[test]
fn what_a_car_does_not_use_is_lent_on_and_given_back_within_a_second_of_being_wanted() {
    let mut street = three_cars(PROMPT);
    street.points[2].wants = 0;
    street.pass(10_000);
    assert!(street.points[0].current() >= 19_000, "{}", street.points[0].current());
    street.points[2].wants = 32_000;
    let wanted = street.now;
    street.pass_with(1_000, |_| {});
    assert!(
        street.points[2].current() >= 12_500,
        "{} since {wanted}: {:?}",
        street.points[2].current(),
        street.points[2].reasons
    );
    assert!(street.violations.is_empty() && street.excursions.is_empty());
}

/// How often each car's limit changes when the base load steps up by 8.7 A, and for how long the limit is exceeded.
fn after_a_step(habits: Habits) -> (Vec<usize>, usize) {
    let mut street = three_cars(habits);
    street.pass(30_000);
    street.base += 8_700;
    let before: Vec<usize> = street.points.iter().map(|point| point.limits.len()).collect();
    street.pass(20_000);
    assert!(street.violations.is_empty());
    let changes = street.points.iter().zip(before).map(|(point, before)| point.limits.len() - before).collect();
    (changes, street.excursions.len())
}

#[test]
fn a_step_of_the_base_load_is_followed_once() {
    let (changes, over_limit) = after_a_step(PROMPT);
    assert!(changes.iter().all(|changes| (1..=2).contains(changes)), "{changes:?}");
    assert!(over_limit <= 30, "{over_limit} ms");
    // Slow cars exceed the limit for as long as they need.
    let (changes, over_limit) = after_a_step(Habits { follows_after: 5_000, ..PROMPT });
    assert!(changes.iter().all(|changes| (1..=2).contains(changes)), "{changes:?}");
    assert!(over_limit <= 5_030, "{over_limit} ms");
}

#[test]
fn what_a_car_wants_but_does_not_draw_is_lent_on_too_and_given_back_within_a_second_of_being_drawn() {
    let devices = vec![car(&[L1, L2, L3], 32_000); 2];
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, PROMPT, 20_000);
    street.points.iter_mut().for_each(|point| point.wants = 32_000);
    street.points[1].draws = 7_000;
    street.pass(40_000);
    // 130 % of 7 A and 1.5 A are left to it.
    assert_eq!(street.points[1].limit(), 10_600);
    assert!(street.points[0].current() >= 27_500, "{}", street.points[0].current());
    street.points[1].draws = i64::MAX;
    street.pass(1_000);
    assert!(street.points[1].current() >= 18_500, "{:?}", street.points[1].reasons);
    assert!(street.violations.is_empty() && street.excursions.is_empty());
}
