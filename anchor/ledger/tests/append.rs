//! Records are added once and read back in order, whatever is interrupted.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use grid_ledger::{IotaLedger, Ledger, LedgerError, NewRecord, text_sha256};
use support::setting::{Setting, record};
use support::{init_in, stop_at};

#[tokio::test]
async fn three_hundred_records_are_read_back_in_order() {
    let mut setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    let before = ledger.balance().await.unwrap();
    let (mut receipts, mut spent, mut took) = (Vec::new(), 0, Vec::new());
    for number in 0..300 {
        let text = format!("checkpoint {number}\n");
        let metadata = (number % 3 == 0).then(|| format!("{number} entries"));
        let start = Instant::now();
        let receipt = ledger.append(&NewRecord { text: text.clone(), metadata }).await.unwrap();
        took.push(start.elapsed());
        assert_eq!((receipt.sequence_number, &receipt.text_sha256), (number, &text_sha256(&text)));
        spent += receipt.nanos.unwrap();
        receipts.push(receipt);
    }
    took.sort();
    println!("append: median {:?}, p99 {:?}, worst {:?}", took[150], took[297], took[299]);
    assert_eq!(ledger.balance().await.unwrap(), before - spent as u64);
    drop(ledger);

    setting.mock.restart().await;
    let ledger = setting.open().await.unwrap();
    let start = Instant::now();
    let records = ledger.records(0).await.unwrap();
    println!("reading 300 records: {:?}", start.elapsed());
    assert_eq!(records.len(), 300);
    for (number, (record, receipt)) in records.iter().zip(&receipts).enumerate() {
        assert_eq!(record.sequence_number, number as u64);
        assert_eq!(record.text, format!("checkpoint {number}\n"));
        assert_eq!(record.metadata.is_some(), number % 3 == 0);
        assert_eq!((record.added_ms, record.added_by), (receipt.added_ms, setting.report.address));
        // Only the first cannot be told, as soon as there is a second.
        assert_eq!(record.transaction, (number > 0).then_some(receipt.transaction));
    }
    assert_eq!(ledger.records(297).await.unwrap(), records[297..]);
    assert_eq!(ledger.records(300).await.unwrap(), []);
    assert_eq!(ledger.last_receipt(), receipts.last());
    assert_eq!(ledger.seal().await.unwrap().records, 300);
}

#[tokio::test]
async fn records_cost_what_they_cost_on_iota() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    let long = "x".repeat(250);
    for _ in 0..3 {
        assert_eq!(ledger.append(&record(&long)).await.unwrap().nanos, Some(5_962_800));
    }
    let short = NewRecord { text: "x".repeat(12), metadata: Some("y".repeat(10)) };
    assert_eq!(ledger.append(&short).await.unwrap().nanos, Some(4_230_000));
}

#[tokio::test]
async fn the_first_record_tells_its_transaction_while_it_is_the_only_one() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    let receipt = ledger.append(&record("first")).await.unwrap();
    assert_eq!(ledger.records(0).await.unwrap()[0].transaction, Some(receipt.transaction));
    let page = setting.mock.page(&format!("/txblock/{}", receipt.transaction)).await;
    assert!(page.contains("RecordAdded") && page.contains("<pre>first</pre>"), "{page}");
}

#[tokio::test]
async fn an_append_stopped_anywhere_and_done_again_adds_one_record() {
    for at in 0.. {
        let mut setting = Setting::new().await;
        let mut ledger = setting.open().await.unwrap();
        ledger.append(&record("before")).await.unwrap();
        let (watch, steps) = stop_at(at);
        ledger.watch(watch);
        let stopped = ledger.append(&record("once")).await;
        if stopped.is_ok() {
            assert!(at >= 3, "{:?}", steps.lock().unwrap());
            return;
        }
        // Once in the same process, once after a restart of everything.
        if at % 2 == 0 {
            drop(ledger);
            setting.mock.restart().await;
            ledger = setting.open().await.unwrap();
            assert!(!setting.has_pending());
            assert_eq!(ledger.last_receipt().unwrap().text_sha256, text_sha256("once"));
            assert_eq!(setting.texts().await, ["before", "once"], "{at}");
        } else {
            let receipt = ledger.append(&record("once")).await.unwrap();
            assert_eq!((receipt.sequence_number, receipt.text_sha256), (1, text_sha256("once")));
            assert_eq!(setting.texts().await, ["before", "once"], "{at}");
        }
        let receipt = ledger.append(&record("after")).await.unwrap();
        assert_eq!(receipt.sequence_number, 2);
        assert_eq!(setting.texts().await, ["before", "once", "after"], "{at}");
    }
}

#[tokio::test]
async fn an_append_dropped_at_any_time_and_done_again_adds_one_record() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    for number in 0..40_u64 {
        let text = format!("record {number}");
        let patience = Duration::from_micros(number * 250);
        let receipt = match tokio::time::timeout(patience, ledger.append(&record(&text))).await {
            Ok(receipt) => receipt.unwrap(),
            Err(_) => match setting.has_pending() {
                true => ledger.append(&record(&text)).await.unwrap(),
                // Either nothing was signed, or everything was done but saying so.
                false if ledger.last_receipt().is_some_and(|last| last.text_sha256 == text_sha256(&text)) => {
                    ledger.last_receipt().unwrap().clone()
                }
                false => ledger.append(&record(&text)).await.unwrap(),
            },
        };
        assert_eq!((receipt.sequence_number, receipt.text_sha256), (number, text_sha256(&text)));
    }
    assert_eq!(setting.texts().await.len(), 40);
}

#[tokio::test]
async fn a_node_that_dies_with_the_answer_leaves_an_unclear_outcome_that_is_settled_later() {
    let mut setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    ledger.append(&record("before")).await.unwrap();
    // Signed and on disk, and then the node is gone.
    let (signed, was_signed) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    ledger.watch(Box::new(move |step| {
        if let grid_ledger::Step::Signed { transaction, .. } = step {
            signed.send(transaction).unwrap();
            may_go_on.lock().unwrap().recv().unwrap();
        }
        std::ops::ControlFlow::Continue(())
    }));
    let appending = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let result = runtime.block_on(ledger.append(&record("once")));
        (result, ledger)
    });
    let transaction = tokio::task::spawn_blocking(move || was_signed.recv().unwrap()).await.unwrap();
    setting.mock.stop().await;
    go_on.send(()).unwrap();
    let (result, ledger) = appending.await.unwrap();
    match result {
        Err(LedgerError::Unclear { transaction: unclear, .. }) => assert_eq!(unclear, transaction),
        other => panic!("{other:?}"),
    }
    drop(ledger);
    assert!(setting.has_pending());
    assert!(matches!(setting.open().await, Err(LedgerError::Unreachable { .. })));
    setting.mock.start_again().await;
    let ledger = setting.open().await.unwrap();
    // The very transaction that was signed, not another one.
    assert_eq!(ledger.last_receipt().unwrap().transaction, transaction);
    assert_eq!(setting.texts().await, ["before", "once"]);
}

#[tokio::test]
async fn a_text_that_does_not_fit_is_refused_before_anything_is_signed() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    ledger.limit_cost(1_000_000_000);
    ledger.append(&record(&"x".repeat(16_380))).await.unwrap();
    let before = ledger.balance().await.unwrap();
    assert!(matches!(
        ledger.append(&record(&"x".repeat(16_381))).await,
        Err(LedgerError::TooLong { length: 16_381, most: 16_380, .. })
    ));
    assert_eq!(ledger.balance().await.unwrap(), before);
}

/// The bytes of a transaction that adds `text`, signed and not handed in.
async fn left_over(setting: &Setting, ledger: &mut IotaLedger, text: &str) -> Vec<u8> {
    let file = setting.folder.path().join("data/ledger.pending");
    let (watch, _) = stop_at(0);
    ledger.watch(watch);
    assert!(matches!(ledger.append(&record(text)).await, Err(LedgerError::Stopped(_))));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    bytes
}

#[tokio::test]
async fn a_left_over_record_that_can_never_be_added_does_not_stand_in_the_way() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    let bytes = left_over(&setting, &mut ledger, "A").await;
    ledger.append(&record("B")).await.unwrap();
    std::fs::write(setting.folder.path().join("data/ledger.pending"), bytes).unwrap();
    // Init looks at the trail again, and leaves the record to us.
    drop(ledger);
    init_in(&setting.folder.path().join("data"), &setting.mock, None).await.unwrap();
    assert!(setting.has_pending());
    let mut ledger = setting.open().await.unwrap();
    assert!(!setting.has_pending());
    // The same text as before is not taken for what was left over.
    assert_eq!(ledger.append(&record("B")).await.unwrap().sequence_number, 1);
    assert_eq!(setting.texts().await, ["B", "B"]);
}
