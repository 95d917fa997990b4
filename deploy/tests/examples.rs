//! The examples are what their texts say.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use grid::street::Street;
use grid_protocol::message::Phase;
use grid_protocol::units::Millis;

/// The corners of the harsh street's base load, as its README has them: minutes after 18:00, and watts.
const CORNERS: [(u64, u64); 8] = [
    (0, 17_000),
    (60, 17_000),
    (135, 33_000),
    (165, 33_000),
    (255, 17_000),
    (630, 17_000),
    (690, 24_000),
    (720, 24_000),
];

fn base_by_the_rule(minute: u64) -> u64 {
    let after = CORNERS.iter().position(|(corner, _)| minute < *corner).unwrap();
    let ((from, start), (to, end)) = (CORNERS[after - 1], CORNERS[after]);
    // Signed, and rounded down also where the line falls.
    let rise = (end as i64 - start as i64) * (minute - from) as i64;
    let line = start as i64 + rise.div_euclid((to - from) as i64);
    u64::try_from(line + 50 * (minute as i64 % 60 - 30).abs() - 750).unwrap()
}

#[test]
fn the_harsh_street_is_made_by_its_rule_and_harsh_but_bearable() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/harsh-street");
    let street = Street::read(&folder.join("base.csv"), &folder.join("sessions.csv")).unwrap();
    assert_eq!(street.start().to_string(), "2024-01-01 18:00:00.0");
    assert_eq!((street.step(), street.end()), (Millis(60_000), Millis(12 * 3_600_000)));
    let base: Vec<u64> = street.base().iter().map(|row| row.load_w).collect();
    assert_eq!(base, (0..720).map(base_by_the_rule).collect::<Vec<_>>());

    let limit_w = 40_000;
    assert!(base.iter().all(|watts| watts + 5_000 <= limit_w));
    assert!(base.windows(2).all(|rows| rows[0].abs_diff(rows[1]) < limit_w / 100));
    // Beside a margin of 2 %, for so many minutes there is room for five cars with 6 A each.
    let five = base.iter().filter(|watts| **watts + limit_w / 50 + 5 * 4_140 <= limit_w).count();
    assert!((360..720).contains(&five), "{five}");

    assert_eq!(street.charge_points().len(), 12);
    for point in street.charge_points() {
        assert_eq!((point.max_power_w, point.phases.as_slice()), (11_000, Phase::ALL.as_slice()));
        let [session] = point.sessions.as_slice() else { panic!("{point:?}") };
        assert_eq!((session.arrival, session.departure), (Millis(0), street.end()));
        // A twelfth of all that the limit leaves is less than what each wants.
        let left_wh = base.iter().map(|watts| limit_w - watts).sum::<u64>() / 60;
        assert!(session.energy_wh > left_wh / 12);
    }
}
