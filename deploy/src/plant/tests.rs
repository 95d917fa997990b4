use proptest::prelude::*;

use super::energy::{MilliWatts, NanoJoules};
use super::*;

mod habits;

const HOUR: u64 = 3_600_000_000;
const UNLIMITED: MilliAmps = MilliAmps(i64::MAX);

/// Two hours from midnight with half an hour a row, and these sessions.
fn street(base_w: [u64; 4], sessions: &str) -> Street {
    let mut base = "time,base_load_w,pv_w\n".to_owned();
    for (row, watts) in base_w.iter().enumerate() {
        base += &format!("2024-01-01T{:02}:{:02}:00,{watts},0\n", row / 2, row % 2 * 30);
    }
    let sessions = format!("charge_point,max_power_w,arrival,departure,energy_wh\n{sessions}");
    Street::parse(("base", &base), ("sessions", &sessions)).unwrap()
}

/// One car at one charge point of 2,300 W, 10 A, from 00:15 to 01:45.
fn one_car(energy_wh: u64) -> (Plant, ChargePointId) {
    let row = format!("cp-1,2300,2024-01-01T00:15:00,2024-01-01T01:45:00,{energy_wh}\n");
    let plant = Plant::new(&street([6_900; 4], &row), 13_800);
    let id = plant.charge_points().next().unwrap();
    (plant, id)
}

#[test]
fn a_car_draws_what_it_may_while_it_is_there_and_not_full() {
    let (mut plant, id) = one_car(1_150);
    plant.set_limit(id, MilliAmps(8_000));
    assert_eq!((plant.demand(id), plant.current(id)), (MilliAmps::ZERO, MilliAmps::ZERO), "nobody is there yet");
    plant.advance(PlantTime(HOUR / 4));
    assert_eq!((plant.demand(id), plant.current(id)), (MilliAmps(10_000), MilliAmps(8_000)));
    plant.set_limit(id, MilliAmps(12_000));
    assert_eq!(plant.current(id), MilliAmps(10_000));
    plant.set_limit(id, MilliAmps(5_999));
    assert_eq!((plant.demand(id), plant.current(id)), (MilliAmps(10_000), MilliAmps::ZERO), "less is not charging");
    plant.set_limit(id, MilliAmps(6_000));
    assert_eq!(plant.current(id), MilliAmps(6_000));
    plant.set_limit(id, MilliAmps(10_000));
    plant.advance(PlantTime(3 * HOUR / 4));
    assert_eq!((plant.demand(id), plant.current(id)), (MilliAmps::ZERO, MilliAmps::ZERO), "half an hour filled it");
    assert_eq!(plant.present(id).unwrap().delivered_wh, 1_150);
    plant.advance(PlantTime(7 * HOUR / 4));
    assert_eq!(plant.present(id), None, "it has left");
}

#[test]
fn a_full_car_fills_to_the_microsecond() {
    let (mut plant, id) = one_car(1);
    plant.set_limit(id, MilliAmps(7_000));
    plant.advance(PlantTime(HOUR / 4));
    // 1 Wh at 7 A and 230 V takes 3,600 ÷ 1,610 s.
    let full = PlantTime(HOUR / 4 + 3_600_000_000 / 1_610 + 1);
    assert_eq!(plant.next_event(), Some(full));
    plant.advance(PlantTime(full.0 - 1));
    assert_eq!(plant.present(id).unwrap().delivered_wh, 0);
    plant.advance(full);
    assert_eq!(plant.delivered(id), MilliWattHours(1_000));
    assert_eq!(plant.current(id), MilliAmps::ZERO);
}

#[test]
fn the_current_of_the_transformer_is_base_load_and_cars_phase_by_phase() {
    let rows = "one,2300,2024-01-01T00:00:00,2024-01-01T02:00:00,9000\n\
                two,2300,2024-01-01T00:00:00,2024-01-01T02:00:00,9000\n\
                all,6900,2024-01-01T00:00:00,2024-01-01T02:00:00,9000\n";
    let mut plant = Plant::new(&street([6_900, 0, 0, 0], rows), 80_000);
    for (name, limit) in [("one", 6_000), ("two", 7_000), ("all", 8_000)] {
        let id = plant.charge_point(&name.parse().unwrap()).unwrap();
        plant.set_limit(id, MilliAmps(limit));
    }
    assert_eq!(plant.base_current(), [MilliAmps(10_000); 3]);
    assert_eq!(plant.transformer_current(), [24_000, 25_000, 18_000].map(MilliAmps));
    plant.advance(PlantTime(HOUR / 2));
    assert_eq!(plant.transformer_current(), [14_000, 15_000, 8_000].map(MilliAmps));
}

#[test]
fn the_events_of_a_day_come_in_order() {
    let (mut plant, id) = one_car(1_150);
    plant.set_limit(id, UNLIMITED);
    let mut quarters = Vec::new();
    while let Some(event) = plant.next_event() {
        quarters.push(event.0 / (HOUR / 4));
        plant.advance(event);
    }
    // Arrival, base step, full, base steps, departure, end.
    assert_eq!(quarters, [1, 2, 3, 4, 6, 7, 8]);
}

#[test]
fn after_the_days_end_everything_is_still() {
    let row = "cp-1,2300,2024-01-01T01:30:00,2024-01-01T09:00:00,9000\n";
    let mut plant = Plant::new(&street([6_900; 4], row), 13_800);
    let id = plant.charge_points().next().unwrap();
    plant.set_limit(id, UNLIMITED);
    plant.advance(PlantTime(9 * HOUR));
    assert_eq!((plant.now(), plant.is_over(), plant.next_event()), (plant.end(), true, None));
    assert_eq!(plant.transformer_current(), [MilliAmps::ZERO; 3]);
    assert_eq!((plant.demand(id), plant.present(id)), (MilliAmps::ZERO, None));
    let report = &plant.reports()[0];
    assert_eq!((report.wanted_wh, report.delivered_wh, report.possible_wh), (9_000, 1_150, 1_150));
}

#[test]
fn time_above_the_limit_counts_only_while_the_base_load_alone_is_below_it() {
    let row = "cp-1,2300,2024-01-01T00:00:00,2024-01-01T02:00:00,9000\n";
    // The limit is 15 A on each phase; the base load 10, 20, 10 and 0 A.
    let mut plant = Plant::new(&street([6_900, 13_800, 6_900, 0], row), 10_350);
    let id = plant.charge_points().next().unwrap();
    plant.set_limit(id, MilliAmps(6_000));
    plant.advance(PlantTime(1_000));
    let statistics = plant.statistics();
    assert_eq!((statistics.peak_w, statistics.peak_at), (6_900 + 1_380, PlantTime(0)));
    assert_eq!(statistics.over_limit, Duration::from_micros(1_000), "L1 alone is above");
    plant.set_limit(id, MilliAmps::ZERO);
    plant.advance(PlantTime(HOUR));
    plant.set_limit(id, MilliAmps(6_000));
    plant.advance(PlantTime(HOUR + 500));
    plant.advance(PlantTime(HOUR + 2_500));
    plant.set_limit(id, MilliAmps(5_000));
    plant.advance(PlantTime(2 * HOUR));
    let statistics = plant.statistics();
    assert_eq!(statistics.over_limit, Duration::from_micros(3_500));
    assert_eq!(statistics.longest_over_limit, Duration::from_micros(2_500));
    assert_eq!((statistics.peak_w, statistics.peak_at), (13_800, PlantTime(HOUR / 2)));
}

#[test]
fn a_lowered_transformer_limit_counts_at_once() {
    let (mut plant, id) = one_car(9_000);
    plant.set_limit(id, UNLIMITED);
    plant.advance(PlantTime(HOUR));
    assert_eq!(plant.transformer_current()[0], plant.transformer_limit());
    assert_eq!(plant.statistics().over_limit, Duration::ZERO, "at the limit is not above it");
    plant.set_transformer_limit(10_350);
    assert_eq!(plant.transformer_limit(), MilliAmps(15_000));
    plant.advance(PlantTime(HOUR + 1));
    assert_eq!(plant.statistics().over_limit, Duration::from_micros(1));
}

#[test]
fn the_built_in_day_peaks_at_110_kw_in_the_evening_without_control() {
    let street = Street::built_in().unwrap();
    let peak = uncontrolled_peak(&street);
    let when = street.civil(peak.at);
    println!("without control the day peaks at {} W at {when}", peak.load_w);
    assert!((110_000..=111_200).contains(&peak.load_w), "{} W", peak.load_w);
    assert_eq!((when.hour(), when.minute()), (20, 15));
}

#[test]
fn the_built_in_day_fits_below_80_kw_and_every_car_can_be_full() {
    let mut plant = Plant::new(&Street::built_in().unwrap(), 80_000);
    let mut gave_way = Vec::new();
    while let Some(event) = plant.next_event() {
        // The largest limit for all at once that keeps every phase below the limit, or nothing.
        let fits = |plant: &mut Plant, limit| {
            for id in plant.charge_points() {
                plant.set_limit(id, limit);
            }
            plant.transformer_current().iter().all(|current| *current <= plant.transformer_limit())
        };
        let (mut fitting, mut too_much) = (0, 40_000);
        while too_much - fitting > 1 {
            let middle = (fitting + too_much) / 2;
            if fits(&mut plant, MilliAmps(middle)) { fitting = middle } else { too_much = middle }
        }
        assert!(fits(&mut plant, MilliAmps(fitting)));
        if fitting < 31_594 {
            gave_way.push(plant.now().0 / HOUR);
        }
        plant.advance(plant.next_event().unwrap_or(event));
    }
    let statistics = plant.statistics();
    assert!(statistics.peak_w <= 80_000);
    assert_eq!(statistics.over_limit, Duration::ZERO);
    for report in plant.reports() {
        assert_eq!(report.possible_wh, report.wanted_wh, "{report:?}");
        assert_eq!(report.delivered_wh, report.wanted_wh, "{report:?}");
    }
    assert_eq!((gave_way.first(), gave_way.last()), (Some(&20), Some(&21)));
}

#[test]
fn a_report_is_readable_json() {
    let (plant, _) = one_car(1_150);
    let report = serde_json::to_string(&plant.reports()).unwrap();
    assert_eq!(
        report,
        r#"[{"device":"cp-1","arrival_ms":900000,"departure_ms":6300000,"wanted_wh":1150,"delivered_wh":0,"possible_wh":1150}]"#
    );
}

/// A charge point of one or three phases with up to two cars, as rows of the sessions file.
fn any_sessions() -> impl Strategy<Value = String> {
    let minutes = || (0_u32..110, 1_u32..60, 1_u64..4_000);
    let point = (prop_oneof![1_380_u64..=3_700, 4_140_u64..=22_000], minutes(), proptest::option::of(minutes()));
    proptest::collection::vec(point, 0..6).prop_map(|points| {
        let mut rows = String::new();
        let time = |minute: u32| format!("2024-01-01T{:02}:{:02}:00", minute / 60, minute % 60);
        for (n, (power, (arrival, stay, wh), second)) in points.into_iter().enumerate() {
            let departure = arrival + stay;
            rows += &format!("cp-{n},{power},{},{},{wh}\n", time(arrival), time(departure));
            if let Some((pause, stay, wh)) = second
                && departure + pause < 120
            {
                let arrival = departure + pause;
                rows += &format!("cp-{n},{power},{},{},{wh}\n", time(arrival), time(arrival + stay));
            }
        }
        rows
    })
}

/// Moments at which some charge point's limit is set, or which just pass.
fn any_course() -> impl Strategy<Value = Vec<(u64, usize, i64)>> {
    proptest::collection::vec((0_u64..2 * HOUR + HOUR / 4, 0_usize..8, 0_i64..40_000), 0..40).prop_map(|mut course| {
        course.sort_unstable();
        course
    })
}

fn any_habits() -> impl Strategy<Value = Habits> {
    (0_u64..HOUR / 4, 1_i64..3_000, 50_i64..=100).prop_map(|(us, step, draws_percent)| Habits {
        follows_after: Duration::from_micros(us),
        step: MilliAmps(step),
        draws_percent,
    })
}

fn set(plant: &mut Plant, point: usize, limit: i64) {
    if let Some(id) = plant.charge_points().nth(point) {
        plant.set_limit(id, MilliAmps(limit));
    }
}

/// Everything that can be seen of a plant, energies to the nanojoule.
fn states(plant: &Plant) -> (PhaseCurrents, Vec<SessionReport>, Vec<NanoJoules>, Statistics) {
    let delivered = plant.sockets.iter().map(Socket::delivered).collect();
    (plant.transformer_current(), plant.reports(), delivered, plant.statistics())
}

proptest! {
    #[test]
    fn many_small_steps_are_one_big_step(
        base in proptest::array::uniform4(0_u64..60_000), rows in any_sessions(), course in any_course(),
        habits in any_habits(), mut looks in proptest::collection::vec(0_u64..2 * HOUR, 0..200),
    ) {
        looks.sort_unstable();
        let street = street(base, &rows);
        let mut one = Plant::with_habits(&street, 40_000, habits);
        let mut many = one.clone();
        for (at, point, limit) in course {
            for look in looks.iter().filter(|look| **look < at) {
                many.advance(PlantTime(*look));
            }
            for plant in [&mut one, &mut many] {
                plant.advance(PlantTime(at));
                set(plant, point, limit);
            }
            prop_assert_eq!(states(&one), states(&many));
        }
    }

    #[test]
    fn what_flows_through_the_transformer_is_what_base_load_and_cars_get(
        base in proptest::array::uniform4(0_u64..60_000), rows in any_sessions(), course in any_course(),
        habits in any_habits(),
    ) {
        let mut plant = Plant::with_habits(&street(base, &rows), 40_000, habits);
        let (mut supplied, mut base_energy) = (NanoJoules::default(), NanoJoules::default());
        let mut course = course.into_iter().peekable();
        while let Some(event) = plant.next_event() {
            let until = course.peek().map_or(event, |(at, ..)| event.min(PlantTime(*at)));
            let us = until.0 - plant.now().0;
            supplied = supplied + MilliWatts::of(plant.transformer_current().into_iter().sum(), 1).during(us);
            base_energy = base_energy + MilliWatts::of(plant.base_current().into_iter().sum(), 1).during(us);
            plant.advance(until);
            while let Some((_, point, limit)) = course.next_if(|(at, ..)| *at <= until.0) {
                set(&mut plant, point, limit);
            }
        }
        let delivered: NanoJoules = plant.sockets.iter().map(Socket::delivered).sum();
        let lost = supplied - base_energy - delivered;
        // Each car's last microsecond may carry a little more than the car still took.
        let most = MilliWatts::of(MilliAmps(40_000), 3).during(plant.reports().len() as u64);
        prop_assert!(lost >= NanoJoules::default() && lost <= most, "{lost:?}");
    }

    #[test]
    fn no_car_gets_more_than_it_wanted_or_than_was_possible(
        rows in any_sessions(), course in any_course(), habits in any_habits(),
    ) {
        let mut plant = Plant::with_habits(&street([10_000; 4], &rows), 40_000, habits);
        for (at, point, limit) in course {
            plant.advance(PlantTime(at));
            set(&mut plant, point, limit);
            for report in plant.reports() {
                prop_assert!(report.delivered_wh <= report.possible_wh && report.possible_wh <= report.wanted_wh);
            }
            // Nor by a nanojoule.
            for socket in &plant.sockets {
                let wanted = socket.reports(plant.end()).map(|report| NanoJoules::from_watt_hours(report.wanted_wh));
                prop_assert!(socket.delivered() <= wanted.sum());
            }
        }
    }

    #[test]
    fn cars_that_may_draw_all_they_can_at_once_get_what_is_possible(rows in any_sessions(), habits in any_habits()) {
        let habits = Habits { follows_after: Duration::ZERO, ..habits };
        let mut plant = Plant::with_habits(&street([10_000; 4], &rows), 40_000, habits);
        for id in plant.charge_points() {
            plant.set_limit(id, UNLIMITED);
        }
        plant.advance(PlantTime(3 * HOUR));
        for report in plant.reports() {
            prop_assert_eq!(report.delivered_wh, report.possible_wh);
        }
    }
}

#[test]
fn a_limit_that_is_not_renewed_falls_back_at_its_moment() {
    let mut plant = Plant::new(&Street::built_in().unwrap(), 80_000);
    let car = plant.charge_point(&"cp-3".parse().unwrap()).unwrap();
    plant.advance(PlantTime::from(Millis(13 * 3_600_000)));
    let at = PlantTime(plant.now().0 + 1_234_567);
    plant.set_limit_until(car, MilliAmps(10_000), at, MilliAmps(7_000));
    plant.advance(PlantTime(at.0 - 1));
    assert_eq!(plant.current(car), MilliAmps(10_000));
    plant.advance(at);
    assert_eq!(plant.current(car), MilliAmps(7_000));
    plant.set_limit_until(car, MilliAmps(10_000), PlantTime(at.0 + 5), MilliAmps(0));
    plant.set_limit(car, MilliAmps(9_000));
    plant.advance(PlantTime(at.0 + 10));
    assert_eq!(plant.current(car), MilliAmps(9_000));
}

#[test]
fn the_lowest_base_load_is_found_between_two_moments() {
    let plant = Plant::new(&Street::built_in().unwrap(), 80_000);
    let quarter = |number: u64| PlantTime::from(Millis(number * 900_000));
    // 18,058 W, 24,317 W, 29,431 W, 23,278 W …
    assert_eq!(plant.lowest_base_current(quarter(1), quarter(3)), MilliAmps(23_278_000 / 690));
    assert_eq!(plant.lowest_base_current(quarter(1), quarter(2)), MilliAmps(24_317_000 / 690));
    assert_eq!(plant.lowest_base_current(quarter(95), quarter(96)), MilliAmps(0));
}
