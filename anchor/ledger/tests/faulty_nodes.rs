//! A hundred records through two addresses of a node at which everything goes wrong now and then.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grid_ledger::{Ledger, LedgerError, Remedy, Step};
use support::proxy::Proxy;
use support::setting::{Setting, record};
use tokio::time::sleep;

/// Each of them several times in a hundred records.
const FAULTS: &str = "refuse:0.05,rate-limit:0.05,rate-limit:1s:0.02,delay:20ms:0.1,drop-answer:0.1,drop-answer:0.02:on=read,\
                      time-out:0.1,abort:0.1,seed=20";
/// What a record costs that aborts in its first call, in NANOS.
const ABORTED: u64 = 1_000_000;

#[tokio::test]
async fn what_was_acknowledged_is_there_once_in_order_and_what_aborted_is_paid_for_and_not_there() {
    let setting = Setting::new().await;
    let (first, second) = (Proxy::to(setting.mock.listens).await, Proxy::to(setting.mock.listens).await);
    let mut ledger = setting.open_at(vec![first.url.clone(), second.url.clone()]).await.unwrap();
    let before = ledger.balance().await.unwrap();
    let executed = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = Arc::clone(&executed);
    ledger.watch(Box::new(move |step| {
        if let Step::Executed { transaction, .. } = step {
            seen.lock().unwrap().insert(transaction.to_string());
        }
        ControlFlow::Continue(())
    }));
    setting.mock.fail(FAULTS);
    let (mut acknowledged, mut spent, mut unclear, mut failed) = (Vec::new(), 0, 0, 0);
    for number in 0.. {
        if acknowledged.len() == 100 {
            break;
        }
        let text = format!("record {number}");
        loop {
            match ledger.append(&record(&text)).await {
                Ok(receipt) => {
                    assert_eq!(receipt.sequence_number, acknowledged.len() as u64);
                    spent += u64::try_from(receipt.nanos.unwrap()).unwrap();
                    acknowledged.push(text);
                    break;
                }
                Err(error) if error.is_transient() => {
                    unclear += u32::from(matches!(error, LedgerError::Unclear { .. }));
                    sleep(Duration::from_millis(5)).await;
                }
                // It will not be there; the next record covers it.
                Err(error) => {
                    assert_eq!(error.remedy(), Remedy::AnotherRecord, "{error}");
                    failed += u32::from(matches!(error, LedgerError::Failed { .. }));
                    break;
                }
            }
        }
    }
    println!("{} faults, {unclear} unclear, {failed} failed", setting.mock.faults.happened());
    assert!(unclear > 0 && failed > 0, "{unclear} unclear, {failed} failed");
    assert!(first.connections() > 1 && second.connections() > 1, "only one was asked");
    setting.mock.faults.clear();
    assert_eq!(setting.texts().await, acknowledged);
    // All that were executed were acknowledged, or aborted; also those of which that was learned only when asking again.
    let aborted = executed.lock().unwrap().len() - acknowledged.len();
    assert!(aborted >= failed as usize);
    assert_eq!(ledger.balance().await.unwrap(), before - spent - aborted as u64 * ABORTED);
    assert!(!setting.has_pending());
}
