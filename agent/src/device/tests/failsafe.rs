//! Every arrow of the state machine, with what the device applies and says in each state.

use super::mode::Supply;
use super::*;
use grid_protocol::message::{Part, Phase, Presence};
use grid_protocol::units::UnixMillis;

fn entered(why: &str) -> Event {
    Event::FailsafeEntered { why: why.to_owned() }
}

fn transformer(street: &mut Street, state: Presence) {
    let from = "trafo-1".parse().unwrap();
    let header = Header { from, session: THEIRS, seq: Some(1), time_ms: UnixMillis(0) };
    let status = Status {
        state,
        part: Part::Transformer { phases: Phase::ALL.to_vec() },
        software: String::new(),
        time_factor: 1,
        plant_time_ms: None,
        ends: None,
        previous: None,
        certificate: String::new(),
    };
    street.device.on_transformer(&header, &status);
}

#[test]
fn a_device_that_starts_waits_at_the_failsafe_limit_until_it_has_a_lease() {
    let mut street = Street::new(Nature { failsafe_ma: MilliAmps(6_000), ..nature() }, &Kept::default());
    street.wanted = 16_000;
    street.run_until(60_000);
    assert_eq!((street.device.mode(), street.limit), (Mode::START, 6_000));
    assert_eq!(street.told(), [started(0)]);
    street.allowed = Some(10_000);
    street.run_for(2_000);
    assert_eq!((street.device.mode(), street.limit), (Mode::Sound(Supply::Leased), 10_000));
    assert_eq!(street.told(), [Event::LeaseBegan {}]);
}

#[test]
fn a_lease_that_runs_out_while_current_is_wanted_ends_in_failsafe_until_the_next_setpoint() {
    let mut street = Street::charging();
    street.allowed = None;
    street.run_for(4_000);
    assert_eq!((street.limit, street.last().state), (0, Activity::Failsafe));
    assert_eq!((street.last().obeys, street.last().lease_ms), (None, Millis(0)));
    assert_eq!(street.told(), [entered("no setpoint came in time")]);
    street.allowed = Some(10_000);
    street.run_for(2_000);
    assert_eq!((street.limit, street.last().state), (10_000, Activity::Charging));
    assert_eq!(street.told(), [Event::FailsafeLeft {}]);
}

#[test]
fn a_lease_ends_when_it_was_to_end_and_not_a_moment_later() {
    let mut street = Street::charging();
    street.allowed = None;
    let ends = street.device.holder.lease(BootTime(street.now)).unwrap().ends;
    street.run_until(ends.0 - STEP);
    assert_eq!((street.limit, street.device.limit(ends - Millis(1))), (16_000, MilliAmps(16_000)));
    street.run_for(STEP);
    assert_eq!((street.limit, street.events.len()), (0, 1));
}

#[test]
fn why_no_setpoint_came_is_told_as_far_as_it_is_known() {
    let mut street = Street::charging();
    street.allowed = None;
    street.device.on_link(false);
    street.run_for(4_000);
    assert_eq!(street.told(), [entered("the broker does not answer")]);
    let mut street = Street::charging();
    street.allowed = None;
    transformer(&mut street, Presence::Offline);
    street.run_for(2_000);
    assert_eq!((street.limit, street.told()), (16_000, vec![]), "a last will frees no lease");
    street.run_for(2_000);
    assert_eq!(street.told(), [entered("trafo-1 says it is offline")]);
    transformer(&mut street, Presence::Online);
    street.allowed = Some(16_000);
    street.run_for(2_000);
    street.allowed = None;
    street.run_for(4_000);
    assert_eq!(street.told(), [Event::FailsafeLeft {}, entered("no setpoint came in time")]);
}

#[test]
fn a_lease_that_runs_out_while_nothing_is_wanted_is_no_failsafe() {
    let mut street = Street::charging();
    (street.wanted, street.allowed) = (0, None);
    street.run_for(4_000);
    assert!(matches!(street.told()[..], [Event::ChargingEnded { .. }, Event::LeaseEnded {}]));
    assert_eq!((street.device.mode(), street.last().state), (Mode::START, Activity::Idle));
}

#[test]
fn an_idle_device_that_is_answered_now_and_then_tells_nothing_of_it() {
    let mut street = Street::charging();
    street.wanted = 0;
    street.run_for(10_000);
    street.told();
    street.run_for(600_000);
    assert_eq!(street.told(), []);
}

#[test]
fn a_car_that_leaves_in_failsafe_leaves_the_failsafe_to_the_next_lease() {
    let mut street = Street::charging();
    street.allowed = None;
    street.run_for(4_000);
    street.told();
    street.wanted = 0;
    street.run_for(5_000);
    assert_eq!((street.device.mode(), street.last().state), (Mode::Sound(Supply::Failsafe), Activity::Idle));
    street.allowed = Some(0);
    street.run_for(20_000);
    let told = street.told();
    assert!(
        matches!(told[..], [Event::ChargingEnded { .. }, Event::FailsafeLeft {}, Event::LeaseEnded {}]),
        "{told:?}"
    );
}

#[test]
fn a_meter_that_fails_takes_the_device_to_its_failsafe_limit_although_it_has_a_lease() {
    let mut street = Street::charging();
    street.meter = false;
    street.run_for(1_900);
    assert_eq!((street.limit, street.told()), (16_000, vec![]));
    street.run_for(200);
    assert_eq!((street.limit, street.last().state), (0, Activity::Fault));
    assert!(street.device.holder.lease(BootTime(street.now)).is_some());
    assert_eq!((street.last().obeys, street.last().lease_ms, street.last().settled), (None, Millis(0), false));
    assert_eq!(street.told(), [Event::MeterFailed { why: "no reading for 2000 ms".to_owned() }]);
    street.run_for(10_000);
    assert_eq!((street.limit, street.told()), (0, vec![]), "setpoints change nothing about it");
    street.meter = true;
    street.run_for(1_000);
    assert_eq!((street.limit, street.last().state), (16_000, Activity::Charging));
    assert_eq!(street.told(), [Event::Recovered {}]);
}

#[test]
fn what_a_failed_meter_said_instead_is_told() {
    let mut street = Street::charging();
    street.meter = false;
    let complain = |street: &mut Street, wanted| {
        let now = BootTime(street.now + STEP);
        let actions = street.device.on_meter_complaint("no chip at 0x40".to_owned(), wanted, now);
        street.perform(actions);
    };
    complain(&mut street, Ok(MilliAmps(16_000)));
    street.run_for(3_000);
    let why = "no reading for 2000 ms: no chip at 0x40".to_owned();
    assert_eq!(street.told(), [Event::MeterFailed { why }]);
    complain(&mut street, Err("a wire is loose".to_owned()));
    assert_eq!(street.told(), [Event::ActuatorFailed { why: "a wire is loose".to_owned() }]);
}

#[test]
fn a_stale_meter_proves_nothing() {
    let mut street = Street::charging();
    street.meter = false;
    street.run_for(METER_INTERVAL.0 * 3 - STEP);
    assert!(street.device.report(BootTime(street.now)).settled);
    street.run_for(STEP);
    assert!(!street.device.report(BootTime(street.now)).settled);
    assert_eq!(street.told(), []);
}

#[test]
fn no_time_to_follow_is_granted_to_a_stale_meter() {
    let mut street = Street::charging();
    (street.meter, street.allowed) = (false, Some(8_000));
    let interval = Millis(2_000);
    street.device.health = Health::new(interval, BootTime(street.now));
    street.run_for(5_990);
    assert!(!street.last().settled);
    street.run_for(6_000);
    assert_eq!((street.limit, street.last().settled), (8_000, false));
}

#[test]
fn an_actuator_that_cannot_be_set_is_a_fault_until_it_has_worked_for_a_second() {
    let mut street = Street::charging();
    (street.set, street.allowed) = (Err("stuck"), Some(8_000));
    street.run_for(2_000);
    assert_eq!(street.last().state, Activity::Fault);
    assert!(!street.last().settled);
    assert_eq!(street.told(), [Event::ActuatorFailed { why: "stuck".to_owned() }]);
    street.set = Ok(());
    street.run_for(990);
    assert_eq!((street.limit, street.told()), (0, vec![]));
    street.run_for(1_000);
    assert_eq!((street.limit, street.last().state), (8_000, Activity::Charging));
    assert_eq!(street.told(), [Event::Recovered {}]);
}

#[test]
fn an_actuator_that_does_not_say_what_is_wanted_is_a_fault_too() {
    let mut street = Street::charging();
    street.ask = Err("no answer");
    street.run_for(5_000);
    assert_eq!((street.limit, street.last().state), (0, Activity::Fault));
    assert_eq!(street.told(), [Event::ActuatorFailed { why: "no answer".to_owned() }]);
    street.ask = Ok(());
    street.run_for(3_000);
    assert_eq!((street.limit, street.last().state), (16_000, Activity::Charging));
    assert_eq!(street.told(), [Event::Recovered {}]);
}

#[test]
fn a_lease_that_ran_out_during_a_fault_is_told_of_when_that_is_over() {
    let mut street = Street::charging();
    (street.meter, street.allowed) = (false, None);
    street.run_for(10_000);
    street.meter = true;
    street.run_for(1_000);
    assert!(matches!(
        street.told()[..],
        [Event::MeterFailed { .. }, Event::Recovered {}, Event::FailsafeEntered { .. },]
    ));
    assert_eq!(street.last().state, Activity::Failsafe);
}

#[test]
fn a_failsafe_limit_above_the_lease_is_what_a_device_that_cannot_measure_obeys() {
    let mut street = Street::new(Nature { failsafe_ma: MilliAmps(8_000), ..nature() }, &Kept::default());
    (street.wanted, street.allowed) = (16_000, Some(0));
    street.run_until(5_000);
    assert_eq!(street.limit, 0);
    street.meter = false;
    street.run_for(3_000);
    assert_eq!((street.limit, street.last().limit_ma), (8_000, MilliAmps(8_000)));
}
