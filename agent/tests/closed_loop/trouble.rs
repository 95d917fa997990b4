//! Devices that lie, are deaf, or vanish at the worst moment; and loads that never rest.

use grid_protocol::message::Capabilities;
use grid_protocol::message::Phase::{L1, L2, L3};
use grid_protocol::units::MilliAmps;

use crate::street::{Habits, PROMPT, Street, car, plan};

/// 60 A a phase.
const LIMIT_W: u64 = 41_400;
const SLOW: Habits = Habits { follows_after: 5_000, ..PROMPT };

fn cars(count: usize, habits: Habits, base: i64) -> Street {
    let devices = vec![car(&[L1, L2, L3], 32_000); count];
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, habits, base);
    street.points.iter_mut().for_each(|point| point.wants = 32_000);
    street
}

fn limits(street: &Street) -> Vec<i64> {
    street.points.iter().map(|point| point.limit()).collect()
}

fn load(street: &Street) -> i64 {
    street.load()[0].0
}

#[test]
fn a_device_that_vanished_while_it_followed_a_limit_hides_no_overload() {
    let mut street = cars(2, SLOW, 10_000);
    street.pass(30_000);
    street.base = 20_000;
    street.pass(100);
    street.points[0].cut_off = true;
    street.pass(20_000);
    street.base = 45_000;
    street.pass(6_000);
    assert!(load(&street) <= street.limit(), "{}", load(&street));
}

#[test]
fn a_device_that_says_it_draws_a_hundred_amperes_hides_an_overload_for_seconds_only() {
    let mut street = cars(3, PROMPT, 20_000);
    street.points[0].wants = 0;
    street.pass(10_000);
    street.points[0].lie = Some(100_000);
    street.pass(10_000);
    street.base = 50_000;
    street.pass(1_000);
    assert!(load(&street) <= street.limit(), "{}", load(&street));
}

#[test]
fn a_transformer_that_reconnects_without_a_meter_renews_nothing() {
    let mut street = cars(2, PROMPT, 20_000);
    street.pass(10_000);
    street.meter_works = false;
    street.restart_transformer();
    street.pass(10_000);
    assert_eq!(limits(&street), [0, 0]);
}

/// Two cars and forty small devices that each move by 0.4 A, one after the other, all the time.
fn busy_street() -> (Street, impl Fn(&mut Street)) {
    let small = Capabilities { min_ma: MilliAmps(0), ..car(&[L1, L2, L3], 1_000) };
    let mut devices = vec![car(&[L1, L2, L3], 32_000); 3];
    devices.extend(vec![small; 40]);
    let mut street = Street::new(plan(103_500, &devices), devices, PROMPT, 40_000);
    street.points.iter_mut().for_each(|point| point.wants = point.can.max_ma.0);
    street.points[3..].iter_mut().for_each(|point| point.draws = 600);
    let flicker = |street: &mut Street| {
        for place in 3..street.points.len() {
            if street.now % 4_000 == (place as u64 - 3) * 100 {
                let point = &mut street.points[place];
                point.draws = if point.draws == 600 { 1_000 } else { 600 };
            }
        }
    };
    (street, flicker)
}

#[test]
fn what_a_silent_car_could_draw_again_is_given_to_nobody_in_a_busy_street_either() {
    let (mut street, flicker) = busy_street();
    street.pass_with(35_000, &flicker);
    street.points[0].mute = true;
    street.points[0].draws = 0;
    street.pass_with(1_400, &flicker);
    street.points[0].draws = i64::MAX;
    street.pass_with(5_000, &flicker);
    assert_eq!(street.violations, [0; 0]);
    assert_eq!(street.excursions, [0; 0]);
}

#[test]
fn who_cannot_use_current_holds_nobody_back_and_is_not_talked_to_all_the_time() {
    for break_it in [
        |street: &mut Street| street.points[0].actuator_works = false,
        |street: &mut Street| street.points[0].meter_works = false,
        |street: &mut Street| street.points[0].deaf = true,
    ] {
        let mut street = cars(2, PROMPT, 20_000);
        street.points[1].wants = 0;
        street.pass(10_000);
        break_it(&mut street);
        street.pass(10_000);
        street.points[1].wants = 32_000;
        street.pass(5_000);
        assert!(street.points[1].limit() >= 31_000 || street.points[0].deaf, "{:?}", limits(&street));
        let before = street.sent();
        street.pass(20_000);
        // A few a second for both.
        assert!(street.sent() - before <= 100, "{} setpoints", street.sent() - before);
        assert!(street.violations.is_empty());
    }
}

#[test]
fn a_device_that_is_never_heard_of_is_told_of_as_lost() {
    let mut street = cars(2, PROMPT, 20_000);
    street.pass(10_000);
    street.points[0].cut_off = true;
    street.restart_transformer();
    let since = street.now;
    street.pass(30_000);
    assert!(street.told(since).contains(&"trafo-1 device_lost".to_owned()), "{:?}", street.told(since));
}

#[test]
fn a_load_around_the_limit_and_a_reserve_that_just_fits_are_not_told_of_all_the_time() {
    let mut devices = vec![car(&[L1, L2, L3], 32_000); 2];
    devices.iter_mut().for_each(|can| can.failsafe_ma = MilliAmps(6_000));
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, PROMPT, 47_900);
    street.pass(10_000);
    let since = street.now;
    street.pass_with(10_000, |street| street.base = if street.now % 400 < 200 { 47_900 } else { 48_100 });
    street.base = 20_000;
    street.pass(1_000);
    let told = street.told(since);
    let count = |event: &str| told.iter().filter(|told| told.ends_with(event)).count();
    assert_eq!((count("reserve_exceeds_room"), count("reserve_fits")), (3, 3), "{told:?}");

    let mut street = cars(0, PROMPT, 50_000);
    street.pass(10_000);
    let since = street.now;
    street.pass_with(10_000, |street| street.base = if street.now % 260 < 230 { 60_100 } else { 59_900 });
    assert_eq!(street.told(since).len(), 3, "{:?}", street.told(since));
}
