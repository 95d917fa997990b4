//! Trails that take many calls to read, at nodes that do not answer all of them.

#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::time::{Duration, Instant};

use grid_ledger::{Endpoints, Ledger, LedgerError, Record, TrailReader};
use support::Mock;
use support::client::Attacker;
use support::proxy::limiter;
use support::setting::{Setting, record};

fn are_in_order(records: &[Record], count: usize) {
    let texts: Vec<String> = (0..count).map(|number| format!("record {number}")).collect();
    assert_eq!(records.iter().map(|record| record.text.as_str()).collect::<Vec<_>>(), texts);
    assert!((0..).zip(records).all(|(number, record)| record.sequence_number == number));
    // Which transaction added a record, only the one before it tells.
    assert!(records.iter().skip(1).all(|record| record.transaction.is_some()));
}

async fn append(setting: &Setting, numbers: std::ops::Range<u32>) {
    let mut ledger = setting.open().await.unwrap();
    for number in numbers {
        ledger.append(&record(&format!("record {number}"))).await.unwrap();
    }
}

/// A reader that asks the setting's own mock first, and then another.
async fn reader(setting: &Setting, then: &Mock) -> TrailReader {
    let grpc = [setting.mock.listens, then.listens].map(|address| format!("http://{address}")).to_vec();
    let endpoints = Endpoints { grpc, ..setting.mock.endpoints() };
    TrailReader::open(&endpoints, None, setting.report.trail).await.unwrap()
}

#[tokio::test]
async fn a_long_trail_is_read_in_order_from_a_node_that_limits_every_fifth_question() {
    let client = Attacker::new().await;
    for first in (0..400).step_by(20) {
        let add = |calls: &mut support::client::Calls| {
            (first..first + 20).for_each(|number| calls.add(&format!("record {number}")));
        };
        client.try_out(&client.anchor, add).await.unwrap();
    }
    client.mock.fail("rate-limit:0.2:on=read,seed=7");
    let reader = TrailReader::open(&client.mock.endpoints(), None, client.report.trail).await.unwrap();
    reader.seal().await.unwrap();
    are_in_order(&reader.all_records().await.unwrap(), 400);
    assert!(client.mock.faults.happened() > 0);
}

#[tokio::test]
async fn what_one_node_showed_is_kept_when_the_next_one_is_asked() {
    let setting = Setting::new().await;
    append(&setting, 0..60).await;
    fs::copy(setting.path("mock"), setting.path("second")).unwrap();
    let second = Mock::start(&setting.path("second")).await;
    second.fail("delay:1ms:on=read");
    // Its chain, the trail, and the first part.
    setting.mock.fail("refuse:after=3:on=read");
    let reader = reader(&setting, &second).await;
    are_in_order(&reader.all_records().await.unwrap(), 60);
    // The other one's chain, and the second part.
    assert_eq!(second.faults.happened(), 2);
}

#[tokio::test]
async fn a_node_that_has_not_heard_of_a_record_is_behind_and_does_not_make_the_trail_one_with_gaps() {
    let setting = Setting::new().await;
    append(&setting, 0..30).await;
    fs::copy(setting.path("mock"), setting.path("behind")).unwrap();
    let behind = Mock::start(&setting.path("behind")).await;
    append(&setting, 30..60).await;
    setting.mock.fail("refuse:after=2:first=1:on=read");
    let reader = reader(&setting, &behind).await;
    are_in_order(&reader.all_records().await.unwrap(), 60);
}

#[tokio::test]
async fn a_node_that_wants_to_be_left_alone_for_long_is_not_waited_for_and_one_that_never_answers_not_for_ever() {
    let setting = Setting::new().await;
    append(&setting, 0..1).await;
    let limiting = limiter(("retry-after", "600")).await;
    let endpoints = Endpoints { grpc: vec![limiting], ..setting.mock.endpoints() };
    let began = Instant::now();
    let error = TrailReader::open(&endpoints, None, setting.report.trail).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(600)));
    assert!(began.elapsed() < Duration::from_secs(60));

    let reader = TrailReader::open(&setting.mock.endpoints(), None, setting.report.trail).await.unwrap();
    setting.mock.fail("rate-limit:on=read");
    tokio::time::pause();
    let error = reader.all_records().await.unwrap_err();
    assert!(matches!(error, LedgerError::RateLimited { .. }), "{error}");
}
