//! Cars that are slow, draw in steps, or draw less than they may.

use super::*;

const SECOND: u64 = 1_000_000;
const SLOW: Habits = Habits { follows_after: Duration::from_secs(5), ..Habits::PROMPT };
const STEPPED: Habits = Habits { step: MilliAmps(1_000), ..Habits::PROMPT };
const MODEST: Habits = Habits { draws_percent: 90, ..Habits::PROMPT };

/// One car that wants 9 kWh at one charge point of 3,680 W, 16 A, from 00:15 to 01:45.
fn a_car_with(habits: Habits) -> (Plant, ChargePointId) {
    let row = "cp-1,3680,2024-01-01T00:15:00,2024-01-01T01:45:00,9000\n";
    let plant = Plant::with_habits(&street([6_900; 4], row), 13_800, habits);
    let id = plant.charge_points().next().unwrap();
    (plant, id)
}

fn at(seconds: u64) -> PlantTime {
    PlantTime(HOUR / 4 + seconds * SECOND)
}

/// What the car draws from each of these moments on, given in seconds after its arrival.
fn course(plant: &mut Plant, id: ChargePointId, moments: &[u64]) -> Vec<i64> {
    let mut currents = Vec::new();
    for moment in moments {
        plant.advance(PlantTime(at(*moment).0 - 1));
        let before = plant.current(id);
        plant.advance(at(*moment));
        currents.extend([before.0, plant.current(id).0]);
    }
    currents
}

#[test]
fn a_slow_car_follows_upwards_and_downwards_after_its_delay() {
    let (mut plant, id) = a_car_with(SLOW);
    plant.advance(at(1));
    plant.set_limit(id, MilliAmps(10_000));
    plant.advance(at(3));
    plant.set_limit(id, MilliAmps(6_000));
    assert_eq!((plant.limit(id), plant.current(id)), (MilliAmps(6_000), MilliAmps::ZERO));
    assert_eq!(plant.next_event(), Some(at(6)));
    assert_eq!(course(&mut plant, id, &[6, 8]), [0, 10_000, 10_000, 6_000]);
    plant.set_limit(id, MilliAmps::ZERO);
    assert_eq!(course(&mut plant, id, &[13]), [6_000, 0]);
    assert_eq!(plant.demand(id), MilliAmps(16_000), "what it wants is not what it draws");
}

#[test]
fn a_slow_car_follows_a_limit_that_falls_back_as_any_other() {
    let (mut plant, id) = a_car_with(SLOW);
    plant.advance(at(0));
    plant.set_limit_until(id, MilliAmps(10_000), at(20), MilliAmps::ZERO);
    plant.advance(at(10));
    plant.set_limit_until(id, MilliAmps(10_000), at(30), MilliAmps(7_000));
    assert_eq!(course(&mut plant, id, &[25, 35]), [10_000, 10_000, 10_000, 7_000]);
}

#[test]
fn a_limit_that_is_set_again_to_the_same_value_delays_nothing() {
    let (mut plant, id) = a_car_with(SLOW);
    plant.advance(at(0));
    for second in 0..5 {
        plant.set_limit(id, MilliAmps(10_000));
        plant.advance(at(second));
    }
    assert_eq!(course(&mut plant, id, &[5]), [0, 10_000]);
}

#[test]
fn a_slow_car_gets_exactly_what_it_draws() {
    let (mut plant, id) = a_car_with(SLOW);
    plant.advance(at(0));
    plant.set_limit(id, MilliAmps(10_000));
    plant.advance(at(100));
    plant.set_limit(id, MilliAmps(6_000));
    plant.advance(at(200));
    plant.set_limit(id, MilliAmps::ZERO);
    plant.advance(at(1_000));
    // From 5 s to 105 s with 10 A, to 205 s with 6 A, at 230 V.
    let milliwatts = |ampere: i128| ampere * 230_000;
    let each = i128::from(100 * SECOND);
    assert_eq!(plant.sockets[0].delivered(), NanoJoules(each * milliwatts(10) + each * milliwatts(6)));
}

#[test]
fn a_car_that_arrives_knows_only_the_limit_of_its_arrival() {
    let rows = "cp-1,3680,2024-01-01T00:15:00,2024-01-01T00:20:00,9000\n\
                cp-1,3680,2024-01-01T00:20:00,2024-01-01T01:00:00,9000\n";
    let mut plant = Plant::with_habits(&street([6_900; 4], rows), 13_800, SLOW);
    let id = plant.charge_points().next().unwrap();
    plant.set_limit(id, MilliAmps(8_000));
    assert_eq!(course(&mut plant, id, &[0, 298]), [0, 8_000, 8_000, 8_000]);
    plant.set_limit(id, MilliAmps::ZERO);
    assert_eq!(course(&mut plant, id, &[300, 303]), [8_000, 0, 0, 0]);
}

#[test]
fn a_stepped_car_draws_whole_amperes_rounded_down() {
    let (mut plant, id) = a_car_with(STEPPED);
    plant.advance(at(0));
    for (limit, drawn) in [(5_999, 0), (6_000, 6_000), (6_999, 6_000), (12_050, 12_000), (40_000, 16_000)] {
        plant.set_limit(id, MilliAmps(limit));
        assert_eq!(plant.current(id), MilliAmps(drawn), "at {limit} mA");
    }
}

#[test]
fn a_modest_car_draws_nine_tenths_and_charges_at_the_smallest_offer_too() {
    let (mut plant, id) = a_car_with(MODEST);
    plant.advance(at(0));
    for (limit, drawn) in [(5_999, 0), (6_000, 5_400), (10_001, 9_000), (40_000, 14_400)] {
        plant.set_limit(id, MilliAmps(limit));
        assert_eq!(plant.current(id), MilliAmps(drawn), "at {limit} mA");
    }
    // An hour and a half of 14.4 A at 230 V.
    assert_eq!(plant.reports()[0].possible_wh, 4_968);
    plant.advance(PlantTime(2 * HOUR));
    assert_eq!(plant.reports()[0].delivered_wh, 4_968);
}
