//! One anchor adds to one trail: a second with the same key is found out, and so is a trail that is another's.

#![allow(clippy::unwrap_used)]

mod support;

use std::ops::ControlFlow;
use std::path::Path;

use grid_ledger::{InitSettings, IotaLedger, Ledger, LedgerError, NewRecord, Remedy, Step, Watch, init};
use support::setting::{Setting, record};
use support::{DESCRIPTION, NAME, init_in, stop_at};

async fn open(setting: &Setting, folder: &Path) -> Result<IotaLedger, LedgerError> {
    IotaLedger::open(folder, &setting.mock.endpoints()).await
}

fn is_other_writer(error: &LedgerError, number: u64) -> bool {
    matches!(error, LedgerError::OtherWriter { sequence_number, .. } if *sequence_number == number)
        && error.remedy() == Remedy::Person
}

#[tokio::test]
async fn a_second_anchor_with_the_same_key_refuses_at_its_next_record_and_at_its_start() {
    let setting = Setting::new().await;
    let copy = setting.copy("copy");
    let mut second = open(&setting, &copy).await.unwrap();
    let mut first = setting.open().await.unwrap();
    first.append(&record("by the first")).await.unwrap();
    let before = first.balance().await.unwrap();
    for _ in 0..2 {
        let refused = second.append(&record("by the second")).await.unwrap_err();
        assert!(is_other_writer(&refused, 0), "{refused}");
    }
    drop(second);
    let refused = open(&setting, &copy).await.err().unwrap();
    assert!(is_other_writer(&refused, 0), "{refused}");
    assert_eq!(first.balance().await.unwrap(), before);
    first.append(&record("by the first again")).await.unwrap();
    assert_eq!(setting.texts().await, ["by the first", "by the first again"]);
}

#[tokio::test]
async fn a_person_lets_the_second_take_over_and_then_the_first_refuses() {
    let setting = Setting::new().await;
    let copy = setting.copy("copy");
    let mut first = setting.open().await.unwrap();
    first.append(&record("by the first")).await.unwrap();
    assert!(open(&setting, &copy).await.is_err());
    init_in(&copy, &setting.mock, None).await.unwrap();
    let mut second = open(&setting, &copy).await.unwrap();
    assert_eq!(second.append(&record("by the second")).await.unwrap().sequence_number, 1);
    let refused = first.append(&record("none")).await.unwrap_err();
    assert!(is_other_writer(&refused, 1), "{refused}");
    assert_eq!(setting.texts().await, ["by the first", "by the second"]);
}

/// Two at the same moment use the same version of the capability, of which the ledger lets one win.
#[tokio::test]
async fn of_two_that_add_at_the_same_moment_one_is_refused() {
    let setting = Setting::new().await;
    let copy = setting.copy("copy");
    let mut second = open(&setting, &copy).await.unwrap();
    let mut first = setting.open().await.unwrap();
    let (watch, _) = stop_at(0);
    second.watch(watch);
    // The second has signed, and hands in after the first.
    second.append(&record("by the second")).await.unwrap_err();
    first.append(&record("by the first")).await.unwrap();
    second.watch(Box::new(|_| ControlFlow::Continue(())));
    let refused = second.append(&record("by the second")).await.unwrap_err();
    assert!(is_other_writer(&refused, 0), "{refused}");
    assert_eq!(setting.texts().await, ["by the first"]);
}

/// An anchor that was stopped when it had signed the record A, which got on the ledger by a transaction that is not the one
/// it knows: as if nodes had forgotten that one.
async fn stopped_while_it_got_there(setting: &Setting) -> IotaLedger {
    let copy = setting.copy("copy");
    let mut ledger = setting.open().await.unwrap();
    let (watch, _) = stop_at(0);
    ledger.watch(watch);
    ledger.append(&record("A")).await.unwrap_err();
    let mut other = open(setting, &copy).await.unwrap();
    let elsewhere = NewRecord { text: "A".to_owned(), metadata: Some("elsewhere".to_owned()) };
    other.append(&elsewhere).await.unwrap();
    ledger
}

#[tokio::test]
async fn a_record_whose_transaction_nobody_knows_is_found_in_the_trail() {
    let setting = Setting::new().await;
    drop(stopped_while_it_got_there(&setting).await);
    let mut ledger = setting.open().await.unwrap();
    let found = ledger.last_receipt().unwrap().clone();
    assert_eq!((found.sequence_number, found.nanos), (0, None));
    assert!(!setting.has_pending());
    assert_eq!(ledger.append(&record("B")).await.unwrap().sequence_number, 1);
    assert_eq!(setting.texts().await, ["A", "B"]);
}

#[tokio::test]
async fn the_same_record_asked_for_again_is_the_one_that_is_found() {
    let setting = Setting::new().await;
    let mut ledger = stopped_while_it_got_there(&setting).await;
    ledger.watch(Box::new(|_| ControlFlow::Continue(())));
    assert_eq!(ledger.append(&record("A")).await.unwrap().sequence_number, 0);
    assert_eq!(setting.texts().await, ["A"]);
}

/// The id of a trail that was created, and then `init` was stopped.
async fn unsealed(setting: &Setting) -> String {
    let watch: Watch = Box::new(|step| match step {
        Step::Noted { purpose: "creating the trail" } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    init_in(&setting.path("open"), &setting.mock, Some(watch)).await.unwrap_err();
    let open = std::fs::read_to_string(setting.path("open/ledger.json")).unwrap();
    let open: serde_json::Value = serde_json::from_str(&open).unwrap();
    open["progress"]["trail"]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_trail_that_is_another_logs_or_not_sealed_is_refused() {
    let setting = Setting::new().await;
    let state = std::fs::read_to_string(setting.path("data/ledger.json")).unwrap();
    let with_trail = |trail: String| {
        std::fs::write(setting.path("data/ledger.json"), state.replace(&setting.report.trail.to_string(), &trail))
    };
    let another = init_in(&setting.path("another"), &setting.mock, None).await.unwrap();
    with_trail(another.trail.to_string()).unwrap();
    match setting.open().await.err().unwrap() {
        LedgerError::NoRecorder { reason, .. } => {
            assert!(reason.contains(&setting.report.trail.to_string()), "{reason}")
        }
        other => panic!("{other}"),
    }
    with_trail(unsealed(&setting).await).unwrap();
    let refused = setting.open().await.err().unwrap();
    assert!(matches!(refused, LedgerError::NotSealed { .. }), "{refused}");
    assert!(refused.to_string().contains("administers it"), "{refused}");
}

/// `init` takes a trail as it is, but only one that is this log's, sealed, and ours to add to.
#[tokio::test]
async fn init_refuses_a_trail_that_is_another_logs_or_not_sealed_and_makes_no_other() {
    let setting = Setting::new().await;
    let (file, data) = (setting.path("data/ledger.json"), setting.path("data"));
    let own = std::fs::read_to_string(&file).unwrap();
    let refused = async |state: &str| {
        std::fs::write(&file, state).unwrap();
        init_in(&data, &setting.mock, None).await.unwrap_err()
    };
    // One that the same key made for another log.
    std::fs::create_dir(setting.path("other")).unwrap();
    std::fs::copy(setting.path("data/ledger.key"), setting.path("other/ledger.key")).unwrap();
    let (folder, endpoints) = (setting.path("other"), setting.mock.endpoints());
    let other = InitSettings { folder: &folder, endpoints: &endpoints, name: "another log", description: DESCRIPTION };
    init(other, None).await.unwrap();
    let theirs = std::fs::read_to_string(setting.path("other/ledger.json")).unwrap();
    let error = refused(&theirs).await;
    assert!(matches!(error, LedgerError::Different { what: "name", .. }), "{error}");
    let error = refused(&theirs.replace("another log", NAME)).await;
    assert!(matches!(error, LedgerError::NotAsMade(_)) && error.to_string().contains("another log"), "{error}");
    assert_eq!(error.remedy(), Remedy::Person);
    let error = refused(&own.replace(&setting.report.trail.to_string(), &unsealed(&setting).await)).await;
    assert!(matches!(error, LedgerError::NotSealed { .. }), "{error}");

    assert_eq!(setting.mock.trails().await, 3);
    std::fs::write(&file, own).unwrap();
    assert_eq!(init_in(&data, &setting.mock, None).await.unwrap().trail, setting.report.trail);
}

#[tokio::test]
async fn a_capability_that_was_given_away_is_named() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    setting.owner().give_away(setting.report.recorder).await;
    let refused = ledger.append(&record("text")).await.unwrap_err();
    assert!(matches!(refused, LedgerError::Refused { .. }), "{refused}");
    assert!(!setting.has_pending());
    drop(ledger);
    match setting.open().await.err().unwrap() {
        LedgerError::NoRecorder { reason, .. } => assert!(reason.contains("belongs to"), "{reason}"),
        other => panic!("{other}"),
    }
}
