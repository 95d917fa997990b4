//! What a person is told about a folder whose content is known.

use std::time::Duration;

use super::*;
use crate::intake::{Arrival, Now};
use crate::recorder::{Progress, Recorder};
use crate::testing::{Street, at, folder, name, recorder_settings};
use grid_durable::Stop;
use grid_protocol::message::Session;

struct Desk {
    folder: tempfile::TempDir,
    street: Street,
    settings: Settings,
}

impl Desk {
    fn new() -> Self {
        let folder = folder();
        let settings = Settings::new(name("demo"), name("anchor-1"), folder.path().to_owned());
        Self { folder, street: Street::new(), settings }
    }

    fn open(&self, session: u64) -> Recorder {
        let (path, settings) = (self.folder.path(), recorder_settings());
        Recorder::open(path, settings, self.street.anchor(), Session(session), Stop::never(), at(0)).unwrap()
    }

    fn status(&self, now: Now) -> Status {
        Status::read(&self.settings, now.unix).unwrap()
    }
}

/// Commands, evenly over a span that ends at `until`.
fn fill(recorder: &mut Recorder, count: u64, span: u64, until: u64) {
    for number in 1..=count {
        let payload = format!("{number}");
        let arrival = Arrival { topic: "grid/demo/cp-1/set/limit", payload: payload.as_bytes(), retained: false };
        recorder.receive(arrival, at(until - span + span * number / count)).unwrap();
    }
}

#[test]
fn a_running_anchors_folder_says_how_far_it_is() {
    let desk = Desk::new();
    let mut recorder = desk.open(1);
    fill(&mut recorder, 5, 1000, 1000);
    recorder.settle(at(60_000)).unwrap();
    fill(&mut recorder, 2, 1000, 62_000);
    recorder.settle(at(63_500)).unwrap();
    let status = desk.status(at(64_000));
    let Progress { entries, durable, checkpoint_size, .. } = recorder.progress();
    assert_eq!((status.logged, status.checkpoint_size), (entries, checkpoint_size));
    assert_eq!((entries, checkpoint_size), (7, 5));
    assert!(status.durable >= checkpoint_size && status.durable <= durable);
    assert!(status.running && status.problems.is_empty(), "{:?}", status.problems);
    assert_eq!((status.minimum_index, status.begins_ms), (0, Some(at(200).unix)));
    assert_eq!((status.bytes_per_day, status.full_in_days, status.receipt), (None, None, None));
    assert!(status.disk_bytes > 0 && status.free_bytes > 0);
    drop(recorder);
    let status = desk.status(at(64_000));
    assert!(!status.running && status.problems.len() == 1 && status.problems[0].contains("no anchor runs"));
}

#[test]
fn what_a_day_takes_is_measured_over_the_last_day() {
    let desk = Desk::new();
    let mut recorder = desk.open(1);
    // Ten days in which little happened, and one in which there was more.
    fill(&mut recorder, 1024, 10 * DAY, 10 * DAY);
    fill(&mut recorder, 2560, DAY, 11 * DAY);
    recorder.finish(at(11 * DAY)).unwrap();
    let bytes = desk.status(at(11 * DAY)).bytes_per_day.unwrap();
    let taken = |tile: Tile| on_disk(&fs::metadata(desk.folder.path().join("log").join(tile.path())).unwrap());
    let of_a_bundle = dropped_with(6).into_iter().map(taken).sum::<u64>();
    assert!((of_a_bundle * 9..of_a_bundle * 11).contains(&bytes), "{bytes} with {of_a_bundle} a bundle");
}

#[test]
fn the_disk_lasts_as_long_as_retention_lets_it() {
    let desk = Desk::new();
    drop(desk.open(1));
    let of = |per_day: u64, free_bytes: u64, retention_days: u64, kept: u64| {
        let status = desk.status(at(0));
        let begins_ms = Some(at(0).unix);
        let status = Status { bytes_per_day: Some(per_day), free_bytes, retention_days, begins_ms, ..status };
        status.full_in_days(at(kept * DAY).unix)
    };
    assert_eq!(of(10, 1000, 0, 5), Some(100));
    assert_eq!(of(10, 1000, 30, 5), None);
    assert_eq!(of(10, 240, 30, 5), Some(24));
    assert_eq!(of(10, 250, 30, 5), None);
    assert_eq!(of(10, 0, 30, 31), None);
    assert_eq!(of(0, 0, 0, 5), None);
}

#[test]
fn the_newest_receipt_is_found_in_the_log_and_missed_if_there_is_none() {
    let mut desk = Desk::new();
    desk.settings.ledger = Some(toml::from_str("network = \"mock\"").unwrap());
    let mut recorder = desk.open(1);
    recorder.connected(at(0)).unwrap();
    fill(&mut recorder, 5, 1000, 1000);
    let record = recorder.record_for_ledger(at(1000)).unwrap().unwrap();
    let text = |text: &str| text.to_owned();
    let receipt = LedgerReceipt {
        network: text("mock"),
        trail: text("0x7"),
        record: 12,
        tree_size: 0,
        transaction: text("T"),
        added_ms: at(1500).unix,
        explorer: text("http://localhost/T"),
    };
    let purse = LedgerPurse {
        address: text("0x5"),
        balance_nanos: 9_000,
        spent_nanos: 7,
        record_nanos: Some(7),
        days_left: Some(13),
    };
    recorder.holds(purse.clone());
    recorder.notarized(&record.text, receipt, at(2000)).unwrap();
    let found = |desk: &Desk| desk.status(at(3000)).receipt.map(|receipt| (receipt.record, receipt.tree_size));
    assert_eq!(found(&desk), Some((12, 6)));
    fill(&mut recorder, 600, 1000, 4000);
    recorder.lost();
    recorder.settle(at(70_000)).unwrap();
    // Now it stands in a bundle, not in the journal.
    assert_eq!(found(&desk), Some((12, 6)));
    let status = desk.status(at(70_000));
    assert_eq!(status.purse, Some(purse));
    assert_eq!(status.problems, ["the money for the ledger lasts for 13 days: send 0x5 some"]);
    let late = Status { problems: Vec::new(), purse: None, checkpoint_ms: at(2 * HOUR + 1500).unix, ..status };
    let problems = |mut status: Status| {
        status.look_for_problems(&desk.settings, at(3000).unix);
        status.problems
    };
    let said = "the newest record on the ledger is 2 h older than the log: see the anchor's journal";
    assert_eq!(problems(late.clone()), [said]);
    assert_eq!(problems(Status { checkpoint_ms: at(HOUR + 1500).unix, ..late }), [""; 0]);
}

#[test]
fn a_log_that_has_just_begun_waits_for_its_first_record_and_is_wrong_only_when_that_is_overdue() {
    let mut desk = Desk::new();
    let mut recorder = desk.open(1);
    assert_eq!(desk.status(at(0)).first_record(at(0).unix), None, "there is no ledger");
    desk.settings.ledger = Some(toml::from_str("network = \"mock\"").unwrap());
    let policy = File::options().append(true).open(desk.folder.path().join(POLICY)).unwrap();
    let trail_made = |now: Now| policy.set_modified(UNIX_EPOCH + Duration::from_millis(now.unix.0)).unwrap();
    let told = |desk: &Desk, now: Now| (desk.status(now).first_record(now.unix), desk.status(now).problems);
    let within = |time: &str| {
        (Some(format!("nothing is on the ledger yet: the first record comes within {time}")), Vec::<String>::new())
    };

    trail_made(at(0));
    let nothing_logged = "nothing is logged yet; once something is, the first record comes within 70 s".to_owned();
    assert_eq!(told(&desk, at(500_000)), (Some(nothing_logged), Vec::new()));
    recorder.connected(at(500_000)).unwrap();
    assert_eq!(told(&desk, at(500_000)), within("70 s"));
    assert_eq!(told(&desk, at(569_500)), within("1 s"));
    let (still_to_come, problems) = told(&desk, at(690_001));
    assert_eq!((still_to_come, problems.len()), (None, 1));
    assert!(problems[0].contains("the first record was due 2 min ago"), "{problems:?}");

    // The same once the first entry is no longer in the journal.
    fill(&mut recorder, 2, 10, 510_000);
    recorder.settle(at(580_000)).unwrap();
    assert_eq!(desk.status(at(580_000)).checkpoint_size, 3);
    assert_eq!(told(&desk, at(569_500)), within("1 s"));
    // A log that was there before its trail.
    trail_made(at(3_600_000));
    assert_eq!(told(&desk, at(3_600_000)), within("70 s"));
    desk.settings.ledger = Some(toml::from_str("network = \"mainnet\"").unwrap());
    assert_eq!(told(&desk, at(3_600_000)), within("11 min"));
}

#[test]
fn a_folder_without_a_log_cannot_be_told_of() {
    let desk = Desk::new();
    let error = Status::read(&desk.settings, at(0).unix).unwrap_err();
    assert!(matches!(error, StatusError::NoLog(_)), "{error}");
}
