use super::*;

const BASE: &str = "time,base_load_w,pv_w\n2016-10-07T00:00:00,18058,0\n2016-10-07T00:15:00,24317,100\n";
const HEAD: &str = "charge_point,max_power_w,arrival,departure,energy_wh\n";

/// A street of the half hour of [`BASE`] with these sessions.
fn with_sessions(rows: &str) -> Result<Street, StreetError> {
    Street::parse(("base.csv", BASE), ("sessions.csv", &format!("{HEAD}{rows}")))
}

fn with_base(base: &str) -> Result<Street, StreetError> {
    Street::parse(("base.csv", base), ("sessions.csv", HEAD))
}

fn refusal(street: Result<Street, StreetError>) -> String {
    street.expect_err("this is to be refused").to_string()
}

#[test]
fn the_built_in_street_is_a_day_of_quarter_hours_with_five_charge_points() {
    let street = Street::built_in().unwrap();
    assert_eq!((street.step(), street.end(), street.base().len()), (Millis(900_000), Millis(86_400_000), 96));
    assert_eq!(street.start().to_string(), "2016-10-07 0:00:00.0");
    assert_eq!(street.civil(Millis(72_900_000)).to_string(), "2016-10-07 20:15:00.0");
    let points: Vec<_> =
        street.charge_points().iter().map(|p| (p.name.as_str(), p.phases.len(), p.max().0, p.sessions.len())).collect();
    assert_eq!(
        points,
        [
            ("cp-1", 3, 15_797, 2),
            ("cp-3", 1, 16_086, 2),
            ("cp-4", 3, 31_594, 1),
            ("cp-5", 3, 15_797, 2),
            ("cp-6", 3, 31_594, 1)
        ]
    );
    assert_eq!(street.charge_points()[1].sessions[0].arrival, Millis(12 * 3_600_000));
    assert_eq!(street.charge_points()[0].sessions[1].departure, Millis(25 * 3_600_000));
}

#[test]
fn single_phase_charge_points_take_the_phases_in_turn_by_first_appearance() {
    let mut rows = String::new();
    for (name, power) in
        [("a", 3_700), ("b", 11_000), ("c", 2_300), ("a", 3_700), ("d", 3_701 + 500), ("e", 3_700), ("f", 1_380)]
    {
        let minute = rows.lines().count();
        rows += &format!("{name},{power},2016-10-07T00:0{minute}:00,2016-10-07T00:0{minute}:30,100\n");
    }
    let street = with_sessions(&rows).unwrap();
    let phases: Vec<_> = street.charge_points().iter().map(|point| point.phases.clone()).collect();
    let [l1, l2, l3] = Phase::ALL;
    assert_eq!(phases, [vec![l1], Phase::ALL.into(), vec![l2], Phase::ALL.into(), vec![l3], vec![l1]]);
}

#[test]
fn a_limit_in_watts_is_per_phase_a_third_of_it_at_230_volts() {
    assert_eq!(current_per_phase(80_000, 3), MilliAmps(115_942));
    assert_eq!(current_per_phase(u64::MAX, 1), MilliAmps(i64::MAX));
}

#[test]
fn any_regular_step_and_length_is_accepted() {
    let mut base = "time,base_load_w,pv_w\n".to_owned();
    for minute in 0..3 * 24 * 60 {
        let time = civil(time::macros::datetime!(2024-02-28 12:00), Millis(minute * 60_000));
        base += &format!("{},{minute},0\n", table::written(time));
    }
    let street = with_base(&base).unwrap();
    assert_eq!((street.step(), street.end()), (Millis(60_000), Millis(3 * 86_400_000)));
}

#[test]
fn forty_charge_points_are_accepted() {
    let rows: String =
        (0..40).map(|n| format!("cp-{n},11000,2016-10-07T00:00:00,2016-10-07T08:00:00,40000\n")).collect();
    assert_eq!(with_sessions(&rows).unwrap().charge_points().len(), 40);
}

#[test]
fn sessions_may_stand_in_any_order_and_one_may_begin_when_another_ends() {
    let street = with_sessions(
        "cp-1,3700,2016-10-07T00:10:00,2016-10-07T00:20:00,2\ncp-1,3700,2016-10-07T00:00:00,2016-10-07T00:10:00,1\n",
    );
    let energies: Vec<_> = street.unwrap().charge_points()[0].sessions.iter().map(|s| s.energy_wh).collect();
    assert_eq!(energies, [1, 2]);
}

#[test]
fn a_wrong_base_file_is_refused_with_line_column_value_and_what_is_expected() {
    let row = |row: &str| refusal(with_base(&format!("{BASE}{row}\n")));
    for (got, expected) in [
        (
            refusal(with_base("time,load\n")),
            r#"base.csv, line 1: the columns are "time,load", expected "time,base_load_w,pv_w""#,
        ),
        (refusal(with_base("")), r#"base.csv, line 1: the columns are "", expected "time,base_load_w,pv_w""#),
        (
            refusal(with_base("time,base_load_w,pv_w\n2016-10-07T00:00:00,1,0\n")),
            "base.csv has 1 rows: expected at least 2, since their distance is the step",
        ),
        (
            refusal(with_base("time,base_load_w,pv_w\n2016-10-07T00:00:00,1,0\n2016-10-07T00:00:00,1,0\n")),
            r#"base.csv, line 3, time "2016-10-07T00:00:00": expected a time after 2016-10-07T00:00:00"#,
        ),
        (
            row("half past twelve,1,0"),
            r#"base.csv, line 4, time "half past twelve": expected a local time such as 2016-10-07T14:15:00"#,
        ),
        (
            row("2016-10-07T00:20:00,1,0"),
            r#"base.csv, line 4, time "2016-10-07T00:20:00": expected 2016-10-07T00:30:00, as the first two rows are 900 s apart"#,
        ),
        (
            row("2016-10-07T00:30:00,-1,0"),
            r#"base.csv, line 4, base_load_w "-1": expected a whole number from 0 to 100000000"#,
        ),
        (
            row("2016-10-07T00:30:00,1,1.5"),
            r#"base.csv, line 4, pv_w "1.5": expected a whole number from 0 to 100000000"#,
        ),
        (row("2016-10-07T00:30:00,1"), "base.csv, line 4: 2 cells, expected the 3 cells of the first line"),
    ] {
        assert_eq!(got, expected);
    }
}

#[test]
fn a_wrong_session_is_refused_with_line_column_value_and_what_is_expected() {
    let first = "cp-1,3700,2016-10-07T00:10:00,2016-10-07T00:20:00,1\n";
    let row = |row: &str| refusal(with_sessions(&format!("{first}{row}\n")));
    for (got, expected) in [
        (
            row("CP 2,3700,2016-10-07T00:00:00,2016-10-07T00:10:00,1"),
            r#"sessions.csv, line 3, charge_point "CP 2": expected 1 to 32 of the characters a-z, 0-9 and '-'"#,
        ),
        (
            row("cp-2,4000,2016-10-07T00:00:00,2016-10-07T00:10:00,1"),
            r#"sessions.csv, line 3, max_power_w "4000": expected 1380 to 3700 (one phase) or at least 4140 (three), since a car needs 6000 mA on each phase"#,
        ),
        (
            row("cp-1,3600,2016-10-07T00:00:00,2016-10-07T00:10:00,1"),
            r#"sessions.csv, line 3, max_power_w "3600": expected 3700 as in the other rows of cp-1"#,
        ),
        (
            row("cp-2,3700,2016-10-06T23:59:59,2016-10-07T00:10:00,1"),
            r#"sessions.csv, line 3, arrival "2016-10-06T23:59:59": expected a time from 2016-10-07T00:00:00 until before 2016-10-07T00:30:00, the day of the base file"#,
        ),
        (
            row("cp-2,3700,2016-10-07T00:10:00,2016-10-07T00:10:00,1"),
            r#"sessions.csv, line 3, departure "2016-10-07T00:10:00": expected a time after the arrival, 2016-10-07T00:10:00"#,
        ),
        (
            row("cp-2,3700,2016-10-07T00:10:00,2016-13-07T00:10:00,1"),
            r#"sessions.csv, line 3, departure "2016-13-07T00:10:00": expected a local time such as 2016-10-07T14:15:00"#,
        ),
        (
            row("cp-2,3700,2016-10-07T00:10:00,2016-10-07T00:20:00,0"),
            r#"sessions.csv, line 3, energy_wh "0": expected a whole number from 1 to 1000000"#,
        ),
        (
            row("cp-1,3700,2016-10-07T00:19:59,2016-10-07T00:25:00,1"),
            r#"sessions.csv, line 3, arrival "2016-10-07T00:19:59": expected a stay that does not overlap with that from 2016-10-07T00:10:00 to 2016-10-07T00:20:00: cp-1 has one socket"#,
        ),
    ] {
        assert_eq!(got, expected);
    }
}

#[test]
fn a_file_that_is_missing_is_named() {
    let error = Street::read(Path::new("no/base.csv"), Path::new("no/sessions.csv")).expect_err("there is none");
    assert!(error.to_string().starts_with("no/base.csv cannot be read: "), "{error}");
}
