//! Streets in which little happens: limits must stay where they are.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use grid::demo::{Broker, Cars, Demo, Options, Pace};
use grid::plant::PlantTime;
use grid::plant::wires::lock;
use grid::street::Street;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use tokio::time::sleep;

const LIMIT_W: u64 = 40_000;
/// What control may take to find its balance, from the day's start.
const SETTLE: Duration = Duration::from_secs(15);
/// For how long nothing may change then. Less than one change per car and minute means none in it.
const STEADY: Duration = Duration::from_secs(15);

/// A street from midnight, with so many seconds to a row of base load.
fn street(seconds: u64, base_w: &[u64], sessions: &str) -> Street {
    let mut base = "time,base_load_w,pv_w\n".to_owned();
    for (second, watts) in (0..).step_by(seconds as usize).zip(base_w) {
        base += &format!("2024-01-01T{:02}:{:02}:{:02},{watts},0\n", second / 3600, second / 60 % 60, second % 60);
    }
    let sessions = format!("charge_point,max_power_w,arrival,departure,energy_wh\n{sessions}");
    Street::parse(("base", &base), ("sessions", &sessions)).unwrap()
}

/// Three cars of which two want more than they can get beside a base load.
const THREE_CARS: &str = "cp-1,11000,2024-01-01T00:00:00,2024-01-01T02:00:00,90000\n\
                          cp-2,22000,2024-01-01T00:00:00,2024-01-01T02:00:00,90000\n\
                          cp-3,3700,2024-01-01T00:00:00,2024-01-01T02:00:00,90000\n";

async fn start(folder: &Path, street: Street, cars: Cars, time_factor: u32) -> Demo {
    let options = Options {
        street,
        limit_w: LIMIT_W,
        cars,
        pace: Pace::Factor(time_factor),
        broker: Broker::Own(Some("127.0.0.1:0".parse().unwrap())),
        data_dir: folder.join("run"),
    };
    Demo::start(options).await.unwrap()
}

async fn until_plant_time(demo: &Demo, wall: Duration) {
    let due = PlantTime::default().after(wall * demo.time_factor());
    while lock(demo.plant()).now() < due {
        sleep(Duration::from_millis(20)).await;
    }
}

/// How often each limit changes when there is no reason to.
async fn changes_in_steady_state(street: Street, cars: Cars, time_factor: u32) -> BTreeMap<Name, u64> {
    let folder = tempfile::tempdir().unwrap();
    let demo = start(folder.path(), street, cars, time_factor).await;
    until_plant_time(&demo, SETTLE).await;
    let before = demo.watch().limit_changes();
    sleep(STEADY).await;
    let after = demo.watch().limit_changes();
    {
        let plant = lock(demo.plant());
        let charging = plant.charge_points().filter(|id| plant.current(*id) > MilliAmps::ZERO);
        assert_eq!(charging.count(), after.len(), "this test is about cars that charge");
    }
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
    after.into_iter().map(|(name, count)| (name.clone(), count - before[&name])).collect()
}

fn none(names: &[&str]) -> BTreeMap<Name, u64> {
    names.iter().map(|name| (name.parse().unwrap(), 0)).collect()
}

// Whole streets take half a minute each, so some share a test to run beside each other on a machine with few cores.

#[tokio::test(flavor = "multi_thread")]
async fn cars_that_draw_whole_amperes_or_a_tenth_less_are_left_alone() {
    let street = street(3600, &[18_000; 2], THREE_CARS);
    let stepped = changes_in_steady_state(street.clone(), Cars::Stepped, 1);
    let modest = changes_in_steady_state(street, Cars::Modest, 1);
    let (stepped, modest) = tokio::join!(stepped, modest);
    assert_eq!(stepped, none(&["cp-1", "cp-2", "cp-3"]));
    assert_eq!(modest, none(&["cp-1", "cp-2", "cp-3"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cars_that_follow_five_seconds_later_are_left_alone() {
    let street = street(3600, &[18_000; 2], THREE_CARS);
    assert_eq!(changes_in_steady_state(street, Cars::Slow, 1).await, none(&["cp-1", "cp-2", "cp-3"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_load_that_flickers_by_5_percent_once_a_second_moves_nobody() {
    // A row is half a second at twice the clock's speed.
    let flicker: Vec<u64> = (0..100).map(|row| if row % 2 == 0 { 18_000 } else { 18_900 }).collect();
    let street = street(1, &flicker, THREE_CARS);
    assert_eq!(changes_in_steady_state(street, Cars::Prompt, 2).await, none(&["cp-1", "cp-2", "cp-3"]));
}

/// For how long at a time cp-1 may less than its maximum while cp-2 rises by 26 A, and how far cp-2 came.
async fn longest_curtailment_beside_a_rise(cars: Cars) -> (Duration, MilliAmps) {
    // The limit less a margin of 2 % leaves 56.8 A; base load and cp-1 take 30.3 A of them.
    let sessions = "cp-1,11000,2024-01-01T00:00:00,2024-01-01T02:00:00,90000\n\
                    cp-2,22000,2024-01-01T00:00:15,2024-01-01T02:00:00,90000\n";
    let folder = tempfile::tempdir().unwrap();
    let demo = start(folder.path(), street(3600, &[9_900; 2], sessions), cars, 1).await;
    until_plant_time(&demo, Duration::from_secs(14)).await;
    let id = |name: &str| lock(demo.plant()).charge_point(&name.parse().unwrap()).unwrap();
    let (first, second) = (id("cp-1"), id("cp-2"));
    let mut below_since = None;
    let mut longest = Duration::ZERO;
    while lock(demo.plant()).now() < PlantTime::from(Millis(30_000)) {
        let below = {
            let plant = lock(demo.plant());
            plant.limit(first) < plant.max(first)
        };
        below_since = below.then(|| below_since.unwrap_or_else(Instant::now));
        longest = longest.max(below_since.map_or(Duration::ZERO, |since| since.elapsed()));
        sleep(Duration::from_millis(2)).await;
    }
    let risen = lock(demo.plant()).current(second);
    let report = demo.finish().await.unwrap();
    assert!(report.holds(), "{report:?}");
    (longest, risen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_car_that_rises_by_26_amperes_at_once_or_late_curtails_another_for_at_most_100_ms() {
    let prompt = longest_curtailment_beside_a_rise(Cars::Prompt);
    let slow = longest_curtailment_beside_a_rise(Cars::Slow);
    let (prompt, slow) = tokio::join!(prompt, slow);
    for (cars, (longest, risen)) in [("prompt", prompt), ("slow", slow)] {
        assert!(risen >= MilliAmps(25_500), "{cars}: it rose to {risen}");
        assert!(longest <= Duration::from_millis(100), "{cars}: {longest:?}");
    }
}
