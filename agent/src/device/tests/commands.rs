//! What people want of a device.

use super::*;

fn anna() -> String {
    "operator-anna".to_owned()
}

fn switch(street: &mut Street, on: bool) {
    let actions = street.device.on_charging(on, anna(), BootTime(street.now));
    street.perform(actions);
}

#[test]
fn a_device_that_is_switched_off_draws_and_wants_nothing_under_a_live_lease() {
    let mut street = Street::charging();
    let actions = street.device.on_charging(false, anna(), BootTime(street.now));
    let changed = Event::ChargingChanged { by: anna(), old: true, new: false };
    assert_eq!(actions[..2], [Action::Set { limit: MilliAmps(0), until: None }, Action::Event(changed)]);
    street.perform(actions);
    street.run_for(500);
    let report = street.last().clone();
    assert_eq!((report.state, report.demand_ma, report.limit_ma), (Activity::Off, MilliAmps(0), MilliAmps(0)));
    assert!(report.obeys.is_some() && report.settled, "it draws no more than its lease allows");
    street.run_for(60_000);
    assert_eq!(street.limit, 0, "setpoints do not switch it on");
    street.told();
    switch(&mut street, true);
    assert!(matches!(street.told()[0], Event::ChargingChanged { old: false, new: true, .. }));
    street.run_for(1_000);
    assert_eq!((street.limit, street.last().demand_ma), (16_000, MilliAmps(16_000)));
}

#[test]
fn a_device_that_is_switched_off_draws_nothing_without_a_lease_either() {
    let mut street = Street::new(Nature { failsafe_ma: MilliAmps(6_000), ..nature() }, &Kept::default());
    street.wanted = 16_000;
    street.run_until(1_000);
    switch(&mut street, false);
    street.run_for(5_000);
    assert_eq!(street.limit, 0);
    assert!(!street.told().iter().any(|event| matches!(event, Event::FailsafeEntered { .. })));
}

#[test]
fn the_same_command_again_changes_nothing() {
    let mut street = Street::charging();
    switch(&mut street, true);
    let actions = street.device.on_priority(5, anna(), BootTime(street.now));
    assert_eq!((actions, street.told()), (vec![], vec![]));
}

#[test]
fn a_priority_is_reported_at_once_and_as_long_as_it_differs_from_the_status() {
    let mut street = Street::charging();
    assert_eq!(street.last().priority, None);
    let actions = street.device.on_priority(1, anna(), BootTime(street.now));
    let changed = Event::PriorityChanged { by: anna(), old: 5, new: 1 };
    assert_eq!(actions, [Action::Event(changed), Action::Report]);
    street.perform(actions);
    assert_eq!(street.last().priority, Some(1));
    let actions = street.device.on_priority(5, anna(), BootTime(street.now));
    street.perform(actions);
    assert_eq!(street.last().priority, None);
}

#[test]
fn commands_hold_over_a_restart() {
    let kept = Kept { charging: Some(false), priority: Some(0), ..Kept::default() };
    let mut street = Street::new(nature(), &kept);
    (street.wanted, street.allowed) = (16_000, Some(16_000));
    street.run_until(5_000);
    assert_eq!((street.limit, street.last().demand_ma, street.last().priority), (0, MilliAmps(0), Some(0)));
    assert_eq!(street.told(), []);
}
