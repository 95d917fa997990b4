//! What happens when something is gone, and that people are told.

use grid_protocol::message::Phase::{L1, L2, L3};

use crate::street::{PROMPT, Street, car, plan};

/// 60 A a phase.
const LIMIT_W: u64 = 41_400;

/// Two cars that have what they can get: 18.8 A on a base of 20 A, so half of 37.6.
fn two_cars() -> Street {
    let devices = vec![car(&[L1, L2, L3], 32_000); 2];
    let mut street = Street::new(plan(LIMIT_W, &devices), devices, PROMPT, 20_000);
    street.points.iter_mut().for_each(|point| point.wants = 32_000);
    street.pass(10_000);
    assert!(street.points.iter().all(|point| point.current() >= 18_000));
    street
}

fn currents(street: &Street) -> Vec<i64> {
    street.points.iter().map(|point| point.current()).collect()
}

fn assert_kept(street: &Street) {
    assert_eq!(street.violations, [0; 0]);
    assert_eq!(street.excursions, [0; 0]);
}

#[test]
fn a_start_is_told_by_both_sides() {
    let street = two_cars();
    let told = street.told(0);
    assert_eq!(told.iter().filter(|told| *told == "trafo-1 leading_began").count(), 1);
    for name in ["cp-1", "cp-2"] {
        let of_device: Vec<&String> = told.iter().filter(|told| told.starts_with(name)).collect();
        assert_eq!(of_device, [&format!("{name} lease_began"), &format!("{name} charging_started")]);
    }
}

#[test]
fn when_the_broker_is_gone_all_fall_back_within_a_lease_and_when_it_is_back_all_goes_on() {
    let mut street = two_cars();
    let gone = street.now;
    street.points.iter_mut().for_each(|point| point.cut_off = true);
    street.pass(3_000);
    assert_eq!(currents(&street), [0, 0]);
    let told = street.told(gone);
    assert_eq!(told.iter().filter(|told| told.ends_with("failsafe_entered")).count(), 2);
    street.pass(1_000);
    assert_eq!(street.told(gone).iter().filter(|told| told.ends_with("device_lost")).count(), 2);
    // Who was cut off from the broker starts anew when it is back.
    let back = street.now;
    street.points.iter_mut().for_each(|point| point.cut_off = false);
    street.restart_transformer();
    street.pass(3_000);
    assert_eq!(currents(&street), [0, 0]);
    street.pass(4_000);
    assert!(currents(&street).iter().all(|current| *current >= 18_000));
    let told = street.told(back);
    for event in ["trafo-1 device_back", "trafo-1 leading_began", "cp-1 failsafe_left", "cp-2 failsafe_left"] {
        assert!(told.iter().any(|told| told == event), "{event} in {told:?}");
    }
    assert_kept(&street);
}

#[test]
fn when_the_transformer_is_gone_all_fall_back_and_a_new_one_waits_before_it_leads() {
    let mut street = two_cars();
    let gone = street.now;
    street.transformer_is_there = false;
    street.pass(1_000);
    assert!(currents(&street).iter().all(|current| *current >= 18_000), "their leases are alive");
    street.restart_transformer();
    let back = street.now;
    street.pass(3_100);
    assert!(!street.told(back).contains(&"trafo-1 leading_began".to_owned()));
    // Holds keep what they had: nobody has to stop because a transformer was replaced.
    assert!(currents(&street).iter().all(|current| *current >= 18_000), "{:?}", currents(&street));
    street.pass(1_000);
    assert!(street.told(back).contains(&"trafo-1 leading_began".to_owned()));
    assert!(!street.told(gone).iter().any(|told| told.ends_with("failsafe_entered")));
    assert_kept(&street);
}

#[test]
fn when_a_device_is_gone_its_share_goes_to_others_when_its_lease_is_over_and_comes_back_with_it() {
    let mut street = two_cars();
    let gone = street.now;
    street.points[0].cut_off = true;
    street.pass(2_900);
    assert!(street.points[1].limit() <= 19_500);
    street.pass(2_500);
    assert_eq!(currents(&street)[0], 0);
    assert_eq!(currents(&street)[1], 32_000);
    street.points[0].cut_off = false;
    street.pass(3_000);
    assert!(currents(&street).iter().all(|current| *current >= 18_000), "{:?}", currents(&street));
    let told = street.told(gone);
    for event in ["trafo-1 device_lost", "trafo-1 device_back", "cp-1 failsafe_entered", "cp-1 failsafe_left"] {
        assert_eq!(told.iter().filter(|told| *told == event).count(), 1, "{event} in {told:?}");
    }
    assert_kept(&street);
}

#[test]
fn when_the_transformers_meter_is_late_nobody_rises_and_when_it_fails_all_fall_back() {
    let mut street = two_cars();
    street.points[1].wants = 10_000;
    street.pass(3_000);
    let stale = street.now;
    street.meter_works = false;
    street.pass(100);
    street.points[1].wants = 32_000;
    street.pass(1_400);
    assert_eq!(street.points[1].limit(), 10_000);
    assert!(street.told(stale).contains(&"trafo-1 meter_stale".to_owned()));
    street.pass(600);
    assert_eq!(currents(&street), [0, 0]);
    street.meter_works = true;
    // A stop lasts a minute.
    street.pass(61_000);
    assert!(currents(&street).iter().all(|current| *current >= 6_000), "{:?}", currents(&street));
    let told: Vec<String> = street.told(stale).into_iter().filter(|told| told.contains("trafo-1")).collect();
    assert_eq!(told, ["trafo-1 meter_stale", "trafo-1 meter_failed", "trafo-1 recovered"]);
    assert_kept(&street);
}

#[test]
fn when_a_devices_own_meter_or_actuator_fails_it_falls_back_until_it_works_again() {
    let mut street = two_cars();
    let failed = street.now;
    street.points[0].meter_works = false;
    street.pass(2_500);
    assert_eq!(currents(&street)[0], 0);
    street.points[0].meter_works = true;
    street.pass(3_000);
    assert!(currents(&street)[0] >= 12_000, "{:?}", currents(&street));
    let told: Vec<String> = street.told(failed).into_iter().filter(|told| told.contains("cp-1")).collect();
    assert_eq!(told, ["cp-1 meter_failed", "cp-1 recovered"]);

    // An actuator that is stuck cannot raise, and the charger falls back by itself when its lease is over.
    let failed = street.now;
    street.points[0].actuator_works = false;
    street.pass(4_000);
    assert_eq!(currents(&street)[0], 0);
    street.points[0].actuator_works = true;
    street.pass(4_000);
    assert!(currents(&street)[0] >= 12_000, "{:?}", currents(&street));
    let told: Vec<String> = street.told(failed).into_iter().filter(|told| told.contains("cp-1")).collect();
    assert_eq!(told, ["cp-1 actuator_failed", "cp-1 recovered"]);
    assert!(street.violations.is_empty());
}
