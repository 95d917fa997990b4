//! When a device reports, and what.

use super::*;

fn device() -> Device {
    Device::new(nature(), &Kept::default(), OURS, BootTime(0))
}

const WANTED: Result<MilliAmps, String> = Ok(MilliAmps(16_000));

/// A car arrives at 1000, is reported as measurement 1, and is allowed 10 A by setpoint 1.
fn charging() -> Device {
    let mut device = device();
    assert_eq!(
        device.on_sample(sample(1000, 0), WANTED, BootTime(1000)),
        [Action::Set { limit: MilliAmps(0), until: None }, Action::Report]
    );
    device.applied(MilliAmps(0), BootTime(1000));
    assert_eq!(device.report(BootTime(1000)).state, Activity::Failsafe);
    device.measurement_sent(1, BootTime(1000));
    let actions = device.on_setpoint(&setpoint(1, 10_000), by(1), BootTime(1002)).unwrap();
    let set = Action::Set { limit: MilliAmps(10_000), until: Some(BootTime(4000)) };
    assert_eq!(actions, [set, Action::Event(Event::LeaseBegan {})]);
    device.applied(MilliAmps(10_000), BootTime(1002));
    device
}

fn by(seq: u64) -> Reference {
    Reference { session: THEIRS, seq }
}

#[test]
fn an_accepted_setpoint_is_reported_with_the_first_reading_after_the_change() {
    let mut device = charging();
    let actions = device.on_sample(sample(1005, 10_000), WANTED, BootTime(1005));
    assert_eq!(actions, [Action::Event(started(0)), Action::Report]);
    let report = device.report(BootTime(1005));
    assert_eq!(report.obeys, Some(by(1)));
    assert!(report.settled && report.state == Activity::Charging && report.lease_ms == Millis(2995));
}

#[test]
fn without_a_reading_it_is_reported_all_the_same_and_not_as_settled() {
    let mut device = charging();
    assert_eq!(device.on_tick(BootTime(1021)), []);
    assert_eq!(device.on_tick(BootTime(1022)), [Action::Report]);
    assert!(!device.report(BootTime(1022)).settled);
}

#[test]
fn a_repeated_setpoint_that_changes_nothing_is_reported_at_once_and_renews_the_actuators_time() {
    let mut device = charging();
    device.on_sample(sample(1005, 10_000), WANTED, BootTime(1005));
    device.report(BootTime(1005));
    device.measurement_sent(2, BootTime(1005));
    let actions = device.on_setpoint(&setpoint(2, 10_000), by(2), BootTime(1006)).unwrap();
    let renewed = Action::Set { limit: MilliAmps(10_000), until: Some(BootTime(4005)) };
    assert_eq!(actions, [renewed, Action::Report]);
}

#[test]
fn a_car_that_does_not_follow_is_not_settled_for_six_seconds() {
    let mut street = Street::charging();
    (street.allowed, street.ignores) = (Some(10_000), Some(16_000));
    street.run_for(10_000);
    let under_the_new = street.reports.iter().filter(|(_, report)| report.limit_ma == MilliAmps(10_000));
    let (settled, not_yet): (Vec<_>, Vec<_>) = under_the_new.partition(|(_, report)| report.settled);
    let (changed, settled) = (not_yet[0].0, settled[0].0);
    assert!((5_900..=6_100).contains(&(settled - changed)), "{changed} {settled}");
}

#[test]
fn an_unanswered_device_repeats_itself_every_100_ms() {
    let mut device = charging();
    device.on_sample(sample(1005, 10_000), WANTED, BootTime(1005));
    device.report(BootTime(1005));
    let mut reports = Vec::new();
    for now in (1006..3000).map(BootTime) {
        if device.on_tick(now).contains(&Action::Report) {
            device.report(now);
            reports.push(now.0);
        }
    }
    assert_eq!(reports, [2005, 2502, 2602, 2702, 2802, 2902]);
}

#[test]
fn in_failsafe_it_speaks_every_second_or_so() {
    let mut street = Street::charging();
    street.allowed = None;
    street.run_for(5_000);
    street.reports.clear();
    street.run_for(20_000);
    let spans = street.reports.windows(2).map(|pair| pair[1].0 - pair[0].0);
    assert!(spans.clone().count() > 15 && spans.clone().all(|span| (1_000..=1_200).contains(&span)));
}

#[test]
fn small_moves_are_not_reported_and_large_ones_twice_a_second_after_a_burst() {
    let mut device = charging();
    device.on_sample(sample(1005, 10_000), WANTED, BootTime(1005));
    device.report(BootTime(1005));
    assert_eq!(device.on_sample(sample(1010, 10_250), WANTED, BootTime(1010)), []);
    let mut reports = 0;
    for step in 1..=101 {
        let now = 1010 + step * 5;
        let swinging = if step % 2 == 0 { 9_000 } else { 8_000 };
        if device.on_sample(sample(now, swinging), WANTED, BootTime(now)).contains(&Action::Report) {
            device.report(BootTime(now));
            reports += 1;
        }
    }
    assert_eq!(reports, 11);
}

#[test]
fn an_idle_device_speaks_every_ten_seconds() {
    let mut street = Street::new(nature(), &Kept::default());
    street.run_until(60_000);
    let times: Vec<u64> = street.reports.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [100, 10_100, 20_100, 30_100, 40_100, 50_100]);
}

#[test]
fn a_battery_that_feeds_in_reports_every_heartbeat_although_it_wants_nothing_and_its_energy_falls() {
    let mut street = Street::new(Nature { min_ma: MilliAmps(0), ..nature() }, &Kept::default());
    street.takes = Some(-10_000);
    street.run_until(60_000);
    assert!((58..=62).contains(&street.reports.len()), "{}", street.reports.len());
    let report = street.last();
    assert_eq!((report.state, report.demand_ma), (Activity::Idle, MilliAmps(0)));
    assert!(report.settled, "less than nothing is no more than it may");
    assert!((-38_400..=-37_000).contains(&report.energy_mwh.0), "{}", report.energy_mwh);
    assert_eq!(street.told(), []);
}

#[test]
fn a_battery_that_turns_from_feeding_in_to_charging_says_so_at_once() {
    let mut street = Street::new(Nature { min_ma: MilliAmps(0), ..nature() }, &Kept::default());
    (street.takes, street.allowed) = (Some(-10_000), Some(5_000));
    street.run_until(10_000);
    (street.takes, street.wanted) = (None, 5_000);
    street.run_for(500);
    let report = street.last();
    assert_eq!((report.state, report.current_ma[0]), (Activity::Charging, MilliAmps(5_000)));
    assert!(matches!(street.told()[..], [Event::LeaseBegan {}, Event::ChargingStarted { .. }]));
}

#[test]
fn a_shorter_ttl_makes_a_shorter_heartbeat() {
    let mut device = charging();
    let short = Setpoint { ttl_ms: Millis(900), ..setpoint(1, 10_000) };
    device.on_setpoint(&short, by(2), BootTime(1003)).unwrap();
    device.on_sample(sample(1005, 10_000), WANTED, BootTime(1005));
    device.report(BootTime(1005));
    assert_eq!(device.on_tick(BootTime(1304)), []);
    assert_eq!(device.on_tick(BootTime(1305)), [Action::Report]);
}

#[test]
fn energy_is_what_flowed() {
    let mut street = Street::charging();
    let before = street.last().energy_mwh;
    street.run_for(3_600_000);
    // 16 A at 230 V for an hour, within one report.
    let flowed = street.last().energy_mwh.0 - before.0;
    assert!((flowed - 3_680_000).abs() < 2_000, "{flowed}");
}

#[test]
fn what_flowed_while_there_was_no_reading_is_not_made_up() {
    let mut device = charging();
    device.on_sample(sample(2000, 10_000), WANTED, BootTime(2000));
    device.on_sample(sample(3_602_000, 10_000), WANTED, BootTime(3_602_000));
    // Two seconds of 2.3 kW.
    assert_eq!(device.report(BootTime(3_602_000)).energy_mwh, MilliWattHours(1_277));
}

#[test]
fn what_a_car_does_not_use_is_not_asked_for_and_asked_for_again_at_once() {
    let mut street = Street::charging();
    street.takes = Some(5_000);
    street.run_for(20_000);
    assert_eq!(street.last().demand_ma, MilliAmps(8_000));
    street.allowed = Some(8_000);
    street.run_for(20_000);
    assert_eq!((street.limit, street.last().demand_ma), (8_000, MilliAmps(8_000)));
    street.takes = None;
    street.reports.clear();
    street.run_for(200);
    assert_eq!(street.last().demand_ma, MilliAmps(16_000));
}

#[test]
fn who_asks_for_more_is_heard_although_the_bucket_is_empty() {
    let mut device = device();
    device.on_sample(sample(1000, 0), WANTED, BootTime(1000));
    device.applied(MilliAmps(0), BootTime(1000));
    device.report(BootTime(1000));
    device.on_sample(sample(1001, 0), WANTED, BootTime(1001));
    assert!(device.report(BootTime(1001)).settled);
    let mut now = 1001;
    let mut reports_of = |device: &mut Device, wanted: i64| {
        now += 1;
        let actions = device.on_sample(sample(now, 0), Ok(MilliAmps(wanted)), BootTime(now));
        actions.contains(&Action::Report).then(|| device.report(BootTime(now))).is_some()
    };
    let burst = (0..20).filter(|step| reports_of(&mut device, 15_000 - step * 500)).count();
    assert_eq!(burst, 10);
    assert!(!reports_of(&mut device, 8_000));
    assert!(reports_of(&mut device, 16_000), "more than was reported");
    assert!(!reports_of(&mut device, 20_000), "not within the same second");
}
