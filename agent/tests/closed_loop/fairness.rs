//! Who gets how much, over time.

use grid_agent::transformer::{Dim, Fuse, Plan};
use grid_protocol::message::Phase::{L1, L2, L3};
use grid_protocol::message::{Capabilities, DeviceKind};
use grid_protocol::units::{BootTime, MilliAmps, Millis, UnixMillis};

use crate::street::{PROMPT, Street, car, plan};

/// 60 A a phase.
const LIMIT_W: u64 = 41_400;

fn three_phase_cars(count: usize) -> Vec<Capabilities> {
    vec![car(&[L1, L2, L3], 32_000); count]
}

fn wanting(plan: Plan, devices: Vec<Capabilities>, base: i64) -> Street {
    let mut street = Street::new(plan, devices, PROMPT, base);
    street.points.iter_mut().for_each(|point| point.wants = point.can.max_ma.0);
    street
}

fn currents(street: &Street) -> Vec<i64> {
    street.points.iter().map(|point| point.current()).collect()
}

fn reason(street: &Street, place: usize) -> &str {
    street.points[place].reasons.last().map_or("", |(_, _, reason)| reason.as_str())
}

fn assert_kept(street: &Street) {
    assert_eq!(street.violations, [0; 0]);
    assert_eq!(street.excursions, [0; 0]);
}

#[test]
fn twelve_cars_with_room_for_five_minima_all_get_the_same_in_a_night() {
    let devices = vec![car(&[L1, L2, L3], 16_000); 12];
    // 58 A a phase less 26 A and 2 % leave room for five times 6 A. A night of twelve hours, 240 times faster.
    let plan = Plan { time_factor: 240, ..plan(40_000, &devices) };
    let mut street = wanting(plan, devices, 26_000);
    street.pass(5_000);
    street.points.iter_mut().for_each(|point| point.charge = 0);
    street.pass(180_000);
    let charges: Vec<i64> = street.points.iter().map(|point| point.charge / 1_000_000).collect();
    let mean = charges.iter().sum::<i64>() / 12;
    assert!(charges.iter().all(|charge| (charge - mean).abs() * 10 <= mean), "{charges:?}");
    // Five of twelve at 6 A, less what turning over costs.
    assert!(mean * 100 >= 180 * 6 * 5 / 12 * 85, "{mean} instead of {}", 180 * 6 * 5 / 12);
    assert_kept(&street);
}

#[test]
fn who_goes_first_has_all_it_wants_before_others_have_their_minimum() {
    let mut devices = three_phase_cars(3);
    devices[2].priority = 0;
    let mut street = wanting(plan(LIMIT_W, &devices), devices, 20_000);
    street.pass(12_000);
    assert_eq!(currents(&street), [6_800, 0, 32_000]);
    assert_eq!((reason(&street, 1), reason(&street, 2)), ("turn", "maximum"));
    assert_kept(&street);
}

#[test]
fn a_fuse_holds_back_only_who_is_behind_it() {
    let devices = three_phase_cars(3);
    let mut plan = plan(LIMIT_W, &devices);
    let garage = "garage".parse().unwrap();
    plan.fuses = vec![Fuse {
        name: "garage".parse().unwrap(),
        parent: None,
        limit_ma: MilliAmps(20_000),
        base_ma: MilliAmps(600),
    }];
    (plan.devices[0].fuse, plan.devices[1].fuse) = (Some(garage), Some("garage".parse().unwrap()));
    let mut street = wanting(plan, devices, 10_000);
    street.pass(10_000);
    // 20 A less 2 % and 0.6 A behind the fuse; 60 A less 10 A, 2 % and those for the third.
    assert_eq!(currents(&street), [9_500, 9_500, 29_800]);
    assert_eq!(reason(&street, 0), "fuse garage");
    assert_kept(&street);
}

#[test]
fn a_dimming_order_caps_all_together_but_leaves_everybody_its_floor_until_it_ends() {
    let devices = three_phase_cars(3);
    let mut street = wanting(plan(LIMIT_W, &devices), devices, 0);
    street.pass(10_000);
    let before = currents(&street);
    let order = |street: &Street, cap_w| Dim { cap_w, ends: BootTime(street.now + 5_000), until: UnixMillis(7) };
    let dim = order(&street, 15_000);
    street.lead(|core, ears, now| core.on_dimming(Some(dim), "dso".to_owned(), now, ears));
    street.pass(1_000);
    // 15 kW are 65,217 mA over nine wires.
    assert_eq!(currents(&street), [7_246, 7_246, 7_246]);
    assert_eq!(reason(&street, 0), "dimming");
    let dim = order(&street, 5_000);
    street.lead(|core, ears, now| core.on_dimming(Some(dim), "dso".to_owned(), now, ears));
    street.pass(1_000);
    // 4.2 kW each are 6,087 mA on three phases.
    assert_eq!(currents(&street), [6_087, 6_087, 6_087]);
    street.pass(8_000);
    assert_eq!(currents(&street), before);
    assert_eq!(street.told(10_000).iter().filter(|told| told.ends_with("dimming_changed")).count(), 3);
    assert_kept(&street);
}

#[test]
fn a_closed_contact_dims_until_it_opens_and_of_it_and_an_order_the_lower_holds() {
    let devices = three_phase_cars(3);
    let mut street = wanting(plan(LIMIT_W, &devices), devices, 0);
    street.pass(10_000);
    let before = currents(&street);
    let contact = |street: &mut Street, cap_w| {
        street.lead(|core, ears, now| core.on_contact(cap_w, now, ears));
        street.pass(1_000);
    };
    contact(&mut street, Some(15_000));
    assert_eq!(currents(&street), [7_246, 7_246, 7_246]);
    let dim = Dim { cap_w: 5_000, ends: BootTime(street.now + 5_000), until: UnixMillis(7) };
    street.lead(|core, ears, now| core.on_dimming(Some(dim), "dso".to_owned(), now, ears));
    street.pass(1_000);
    assert_eq!(currents(&street), [6_087, 6_087, 6_087]);
    // The order ends by the clock; the contact is still closed.
    street.pass(8_000);
    assert_eq!(currents(&street), [7_246, 7_246, 7_246]);
    street.lead(|core, ears, now| core.on_dimming(None, "dso".to_owned(), now, ears));
    contact(&mut street, Some(15_000));
    contact(&mut street, None);
    street.pass(8_000);
    assert_eq!(currents(&street), before);
    assert_eq!(street.told(10_000).iter().filter(|told| told.ends_with("dimming_changed")).count(), 4);
    assert_kept(&street);
}

#[test]
fn an_operators_limit_is_kept_at_once_and_one_below_the_base_load_stops_everybody() {
    let devices = three_phase_cars(2);
    let mut street = wanting(plan(LIMIT_W, &devices), devices, 20_000);
    street.pass(8_000);
    street.lead(|core, ears, now| core.on_limit(27_600, "anna".to_owned(), now, ears));
    street.pass(30);
    // 40 A less half the margin of 0.8 A and 20 A.
    assert_eq!(currents(&street), [9_800, 9_800]);
    street.lead(|core, ears, now| core.on_limit(10_000, "anna".to_owned(), now, ears));
    street.pass(30);
    assert_eq!(currents(&street), [0, 0]);
    street.lead(|core, ears, now| core.on_limit(LIMIT_W, "anna".to_owned(), now, ears));
    // A stop lasts a minute.
    street.pass(59_000);
    assert_eq!(currents(&street), [0, 0]);
    street.pass(6_000);
    assert!(currents(&street).iter().all(|current| (19_150..=19_400).contains(current)), "{:?}", currents(&street));
    assert_eq!(street.told(8_000).iter().filter(|told| told.ends_with("limit_changed")).count(), 3);
    assert!(street.violations.is_empty());
}

#[test]
fn a_heat_pump_that_is_on_or_off_runs_for_its_time_and_rests_for_its_time() {
    let mut devices = three_phase_cars(2);
    devices[0] = Capabilities {
        kind: DeviceKind::HeatPump,
        min_ma: MilliAmps(9_000),
        max_ma: MilliAmps(9_000),
        steps_ma: vec![MilliAmps(9_000)],
        min_on_ms: Millis(120_000),
        min_off_ms: Millis(90_000),
        priority: 7,
        ..car(&[L1, L2, L3], 9_000)
    };
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, PROMPT, 20_000);
    street.points[0].wants = 9_000;
    // Nobody knows since when it was off.
    street.pass(89_000);
    assert_eq!(currents(&street), [0, 0]);
    street.pass(7_000);
    assert_eq!(currents(&street), [9_000, 0]);
    // A car that goes before it takes what is left, and not what it needs to go on.
    street.points[1].wants = 32_000;
    street.pass(100_000);
    assert_eq!(currents(&street), [9_000, 29_800]);
    // Its time on is over.
    street.pass(20_000);
    assert_eq!(currents(&street), [0, 32_000]);
    street.points[1].wants = 0;
    street.pass(80_000);
    assert_eq!(currents(&street), [0, 0]);
    street.pass(20_000);
    assert_eq!(currents(&street), [9_000, 0]);
    // Cut off for a moment, it went off, and has to stay so.
    street.points[0].cut_off = true;
    street.pass(5_000);
    street.points[0].cut_off = false;
    street.pass(80_000);
    assert_eq!(currents(&street), [0, 0]);
    street.pass(15_000);
    assert_eq!(currents(&street), [9_000, 0]);
    assert_kept(&street);
}

#[test]
fn a_reconnect_changes_neither_whose_turn_it_is_nor_how_long_a_stop_lasts() {
    let devices = three_phase_cars(5);
    let mut street = wanting(plan(LIMIT_W, &devices), devices, 44_000);
    street.pass(10_000);
    let before = currents(&street);
    assert_eq!(before.iter().filter(|current| **current > 0).count(), 2);
    street.restart_transformer();
    street.pass(20_000);
    assert_eq!(currents(&street), before);
    street.base = 58_000;
    street.pass(1_000);
    street.base = 20_000;
    street.restart_transformer();
    street.pass(50_000);
    let who_stopped = street.points.iter().zip(&before).filter(|(_, before)| **before > 0);
    assert!(who_stopped.clone().all(|(point, _)| point.limit() == 0), "{:?}", currents(&street));
    street.pass(20_000);
    assert!(street.points.iter().all(|point| point.limit() >= 6_000), "{:?}", currents(&street));
    assert!(street.violations.is_empty());
}

#[test]
fn behind_a_fuse_who_draws_more_than_it_may_leaves_less_for_all_behind_it() {
    let devices = three_phase_cars(2);
    let mut plan = plan(LIMIT_W, &devices);
    let garage = || "garage".parse().unwrap();
    plan.fuses = vec![Fuse { name: garage(), parent: None, limit_ma: MilliAmps(20_000), base_ma: MilliAmps(0) }];
    plan.devices.iter_mut().for_each(|enrolment| enrolment.fuse = Some(garage()));
    let mut street = wanting(plan, devices, 0);
    street.pass(10_000);
    street.points[0].habits.percent = 140;
    street.pass(30_000);
    let sum: i64 = currents(&street).iter().sum();
    assert!(sum <= 20_000, "{:?}", currents(&street));
    let told = street.told(10_000);
    assert_eq!(told.iter().filter(|told| told.ends_with("above_limit")).count(), 1, "{told:?}");
}

#[test]
fn what_a_battery_feeds_in_makes_room_only_as_long_as_it_shows() {
    let devices = three_phase_cars(2);
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, PROMPT, 40_000);
    street.points[0].wants = 32_000;
    street.pass(6_000);
    assert_eq!(currents(&street), [18_800, 0]);
    street.points[1].draws = -10_000;
    street.pass(6_000);
    assert_eq!(currents(&street), [28_800, -10_000]);
    // The meter is late: nobody can tell whether the battery still feeds in.
    street.meter_works = false;
    street.pass(200);
    assert_eq!(currents(&street), [19_400, -10_000]);
    street.meter_works = true;
    street.pass(4_000);
    assert_eq!(currents(&street), [28_800, -10_000]);
    street.points[1].draws = 0;
    street.pass(150);
    assert!(street.points[0].current() <= 19_400);
    assert!(street.violations.is_empty());
}

#[test]
fn a_roof_makes_room_beyond_the_limit_where_feed_in_is_configured() {
    let devices = three_phase_cars(2);
    let plan = Plan { feed_in: true, ..plan(LIMIT_W, &devices) };
    let mut street = wanting(plan, devices, -3_000);
    street.pass(10_000);
    assert!(currents(&street).iter().all(|current| (30_650..=30_900).contains(current)), "{:?}", currents(&street));
    assert_kept(&street);
}
