//! A device and a transformer with room: what is asked for is what is allowed. Whoever asks must come to rest.

use super::*;
use proptest::prelude::*;

const A: i64 = 1000;
const STEP: u64 = 200;
const MINUTE: u64 = 60_000;
/// IEC 61851-1: a car has five seconds.
const CAR_LAG: u64 = 5_000;

/// What a car draws at a time if it may draw so much.
type Car<'a> = &'a dyn Fn(MilliAmps, u64) -> MilliAmps;

fn unless_too_little(limit: MilliAmps, current: i64) -> MilliAmps {
    if limit < MilliAmps(6 * A) { MilliAmps(0) } else { MilliAmps(current) }
}

fn prompt(limit: MilliAmps, _: u64) -> MilliAmps {
    unless_too_little(limit, limit.0)
}

fn ten_percent_less(limit: MilliAmps, _: u64) -> MilliAmps {
    unless_too_little(limit, limit.0 * 9 / 10)
}

fn whole_amperes(limit: MilliAmps, _: u64) -> MilliAmps {
    unless_too_little(limit, limit.0 / A * A)
}

fn whole_amperes_of_ten_percent_less(limit: MilliAmps, _: u64) -> MilliAmps {
    unless_too_little(limit, limit.0 * 9 / 10 / A * A)
}

/// It follows at once.
const HASTY: u64 = 0;

struct Street {
    min: MilliAmps,
    wanted: MilliAmps,
    steps: Vec<MilliAmps>,
    lag: u64,
}

impl Street {
    fn new(wanted: i64) -> Self {
        Self { min: MilliAmps(6 * A), wanted: MilliAmps(wanted), steps: Vec::new(), lag: CAR_LAG }
    }

    /// What is asked for, each time that it changes, with what is drawn. `cap` is what others leave.
    fn run(&self, car: Car<'_>, cap: &dyn Fn(u64) -> MilliAmps, until: u64) -> Vec<(u64, MilliAmps)> {
        let mut usage = Usage::default();
        let mut limits = vec![(0, MilliAmps(0))];
        let mut asked: Vec<(u64, MilliAmps)> = Vec::new();
        for now in (0..until).step_by(STEP as usize) {
            let (since, limit) = limits[limits.len() - 1];
            let (_, followed) = limits.iter().rev().find(|(at, _)| at + self.lag <= now).unwrap_or(&limits[0]);
            let current = car((*followed).min(self.wanted), now);
            let settled = current <= limit + limit.percent(5) || now >= since + 6000;
            let draw = Draw { wanted: self.wanted, limit, current, settled, min: self.min, steps: &self.steps };
            let demand = usage.observe(draw, BootTime(now));
            assert!(demand >= self.min.min(self.wanted) && demand <= self.wanted, "{demand} at {now}");
            if asked.last().is_none_or(|(_, before)| *before != demand) {
                asked.push((now, demand));
            }
            let next = demand.min(cap(now));
            if next != limit {
                limits.push((now, next));
            }
        }
        asked
    }
}

fn room(_: u64) -> MilliAmps {
    MilliAmps(1000 * A)
}

#[test]
fn a_car_that_takes_what_it_gets_asks_for_all_the_time_for_all_it_wants() {
    let cars: [Car<'_>; 4] = [&prompt, &ten_percent_less, &whole_amperes, &whole_amperes_of_ten_percent_less];
    for car in cars {
        for wanted in (6_000..=32_000).step_by(100) {
            for lag in [HASTY, CAR_LAG] {
                let asked = Street { lag, ..Street::new(wanted) }.run(car, &room, MINUTE);
                assert_eq!(asked, [(0, MilliAmps(wanted))]);
            }
        }
    }
}

#[test]
fn so_it_does_at_whatever_limit_others_leave() {
    let cars: [Car<'_>; 4] = [&prompt, &ten_percent_less, &whole_amperes, &whole_amperes_of_ten_percent_less];
    for car in cars {
        let rises_and_falls = |now: u64| MilliAmps(6 * A + (now as i64 / 7 - 10_000).abs());
        let asked = Street::new(32 * A).run(car, &rises_and_falls, 4 * MINUTE);
        assert_eq!(asked, [(0, MilliAmps(32 * A))]);
    }
}

#[test]
fn a_car_that_takes_less_whatever_it_gets_asks_for_about_that_and_stays_there() {
    for takes in (0..=32_000).step_by(50) {
        let car = |limit: MilliAmps, _: u64| unless_too_little(limit, takes.min(limit.0));
        let asked = Street::new(32 * A).run(&car, &room, 5 * MINUTE);
        let lent = takes < 23 * A - 1;
        assert_eq!(asked.len(), if lent { 2 } else { 1 }, "{takes}: {asked:?}");
        if lent {
            assert_eq!(
                asked[1],
                (WATCHED_FOR.0 + asked[1].0 % 10_000, MilliAmps((takes * 13 / 10 + 1_500).max(6 * A)))
            );
        }
    }
}

#[test]
fn so_does_a_device_without_a_minimum_however_little_it_takes() {
    for takes in (-5_000..=5_000).step_by(10) {
        let device = |limit: MilliAmps, _: u64| MilliAmps(takes.min(limit.0));
        let asked = Street { min: MilliAmps(0), ..Street::new(16 * A) }.run(&device, &room, 5 * MINUTE);
        assert_eq!(asked.len(), 2, "{takes}: {asked:?}");
        assert!(asked[1].1 >= MilliAmps(1_500), "a battery that feeds in still wants: {asked:?}");
    }
}

#[test]
fn a_car_that_tapers_off_asks_for_less_and_less_at_most_every_ten_seconds() {
    let taper = |limit: MilliAmps, now: u64| unless_too_little(limit, limit.0.min(20 * A - now as i64 / 40).max(0));
    let asked = Street::new(32 * A).run(&taper, &room, 15 * MINUTE);
    assert!(asked.windows(2).all(|pair| pair[1].1 + WORTH_LENDING < pair[0].1), "{asked:?}");
    assert!(asked.windows(2).skip(1).all(|pair| pair[1].0 >= pair[0].0 + WATCHED_FOR.0), "{asked:?}");
    assert!(asked.last().unwrap().1 <= MilliAmps(6 * A) + WORTH_LENDING);
}

#[test]
fn noise_does_not_make_it_ask_for_something_else_again_and_again() {
    let noisy = |limit: MilliAmps, now: u64| {
        let noise = (now as i64 / 200 * 7919) % 501 - 250;
        unless_too_little(limit, limit.0.min(9 * A + noise))
    };
    let asked = Street::new(32 * A).run(&noisy, &room, 30 * MINUTE);
    assert_eq!(asked.len(), 2, "{asked:?}");
}

#[test]
fn what_was_lent_is_asked_for_again_with_the_first_reading_that_shows_it_is_wanted() {
    let cars: [Car<'_>; 4] = [&prompt, &ten_percent_less, &whole_amperes, &whole_amperes_of_ten_percent_less];
    for car in cars {
        for takes in (0..=16_000).step_by(100) {
            let wakes = |limit: MilliAmps, now: u64| match now {
                0..MINUTE => unless_too_little(limit, takes.min(car(limit, now).0)),
                _ => car(limit, now),
            };
            let asked = Street { lag: HASTY, ..Street::new(32 * A) }.run(&wakes, &room, 5 * MINUTE);
            assert_eq!(asked.len(), 3, "{takes}: {asked:?}");
            assert_eq!(asked[2], (MINUTE, MilliAmps(32 * A)));
        }
    }
}

#[test]
fn a_car_that_may_not_charge_is_not_held_to_need_little() {
    let none = |now: u64| if now < 5 * MINUTE { MilliAmps(5 * A) } else { MilliAmps(0) };
    assert_eq!(Street::new(32 * A).run(&prompt, &none, 10 * MINUTE), [(0, MilliAmps(32 * A))]);
}

#[test]
fn a_device_with_steps_asks_for_one_of_them() {
    let heat_pump = |limit: MilliAmps, _: u64| if limit < MilliAmps(9 * A) { MilliAmps(0) } else { MilliAmps(4 * A) };
    let steps = vec![MilliAmps(9 * A)];
    let on_or_off = Street { min: MilliAmps(9 * A), steps, ..Street::new(9 * A) };
    assert_eq!(on_or_off.run(&heat_pump, &room, 5 * MINUTE), [(0, MilliAmps(9 * A))]);
    let steps = [6, 10, 16].map(|step| MilliAmps(step * A)).to_vec();
    let stepped = Street { steps, ..Street::new(16 * A) };
    let takes_five = |limit: MilliAmps, _: u64| unless_too_little(limit, 5 * A);
    assert_eq!(stepped.run(&takes_five, &room, 5 * MINUTE)[1].1, MilliAmps(10 * A));
}

#[test]
fn a_new_car_asks_for_all_it_wants() {
    let mut usage = Usage { wanted: MilliAmps(16 * A), claim: Claim::Part(MilliAmps(6 * A)), watch: None };
    let draw = Draw {
        wanted: MilliAmps(0),
        limit: MilliAmps(6 * A),
        current: MilliAmps(0),
        settled: true,
        min: MilliAmps(6 * A),
        steps: &[],
    };
    assert_eq!(usage.observe(draw, BootTime(0)), MilliAmps(0));
    assert_eq!(usage.observe(Draw { wanted: MilliAmps(16 * A), ..draw }, BootTime(200)), MilliAmps(16 * A));
}

proptest! {
    #[test]
    fn any_steady_car_comes_to_rest_under_any_steady_limit(
        wanted in 6_000..63_000_i64,
        cap in 0..63_000_i64,
        percent in 0..=100_i64,
        grain in prop::sample::select(vec![1, 100, 500, 1_000]),
        most in 0..63_000_i64,
        lag in 0..=CAR_LAG,
    ) {
        let car = |limit: MilliAmps, _: u64| {
            unless_too_little(limit, (limit.0 * percent / 100).min(most) / grain * grain)
        };
        let asked = Street { lag, ..Street::new(wanted) }.run(&car, &|_| MilliAmps(cap), 20 * MINUTE);
        // One that draws two thirds of what it may asks for less ten minutes long, a little at a time.
        let late = asked.iter().filter(|(at, _)| *at > 15 * MINUTE).count();
        let raised = asked.windows(2).filter(|pair| pair[1].1 > pair[0].1).count();
        prop_assert_eq!((late, raised), (0, 0), "{:?}", asked);
    }
}
