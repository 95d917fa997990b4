//! Which coins pay, how much a record may take, and how long the money lasts.

#![allow(clippy::unwrap_used)]

mod support;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use grid_ledger::{Ledger, LedgerError, Remedy, Step};
use support::setting::{Setting, record};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

#[tokio::test]
async fn above_the_ceiling_nothing_is_submitted_and_below_it_again_it_is() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    let before = ledger.balance().await.unwrap();
    ledger.limit_cost(10_000_000);
    let refused = ledger.append(&record("text")).await.unwrap_err();
    match &refused {
        LedgerError::TooDear { price: 1000, needed, ceiling: 10_000_000, .. } => assert!(*needed > 10_000_000),
        other => panic!("{other}"),
    }
    assert_eq!(refused.remedy(), Remedy::AnotherRecord);
    assert!(refused.to_string().contains("1000") && refused.to_string().contains("10000000"), "{refused}");
    // Not even the least computation at today's price.
    ledger.limit_cost(999_999);
    assert!(matches!(ledger.append(&record("text")).await, Err(LedgerError::TooDear { needed: 1_000_000, .. })));
    assert!(!setting.has_pending());
    assert_eq!(ledger.balance().await.unwrap(), before);
    ledger.limit_cost(20_000_000);
    ledger.append(&record("text")).await.unwrap();
    assert_eq!(setting.texts().await, ["text"]);
}

#[tokio::test]
async fn small_coins_pay_together_when_none_holds_enough_alone_and_the_others_are_left() {
    let setting = Setting::new().await;
    let owner = setting.owner();
    owner.keep(&[55_000_000, 9_000_000, 8_000_000], 45_000_000).await;
    assert_eq!(owner.coins().await.len(), 4);
    let mut ledger = setting.open().await.unwrap();
    ledger.append(&record("first")).await.unwrap();
    let coins = owner.coins().await;
    assert_eq!((coins.len(), &coins[1..]), (3, &[9_000_000, 8_000_000][..]));
    // What is left of them is too little for the next, and a large coin that came meanwhile pays that alone.
    setting.mock.give(setting.report.address).await;
    let receipt = ledger.append(&record("second")).await.unwrap();
    let after = owner.coins().await;
    assert_eq!(after[0], 200_000_000_000);
    assert!(after.contains(&(200_000_000_000 - receipt.nanos.unwrap() as u64)), "{after:?}");
    assert_eq!(after[5..], coins);
    assert_eq!(setting.texts().await, ["first", "second"]);
}

#[tokio::test]
async fn money_runs_out_and_comes_back() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    ledger.append(&record("before")).await.unwrap();
    setting.owner().keep(&[], 1000).await;
    let broke = ledger.append(&record("none")).await.unwrap_err();
    match &broke {
        LedgerError::Unfunded { balance, needed, .. } => assert!(balance < needed),
        other => panic!("{other}"),
    }
    assert_eq!(broke.remedy(), Remedy::Person);
    assert!(!setting.has_pending());
    setting.mock.give(setting.report.address).await;
    ledger.append(&record("after")).await.unwrap();
    assert_eq!(setting.texts().await, ["before", "after"]);
}

#[tokio::test]
async fn the_purse_tells_what_a_record_costs_also_after_a_restart() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    assert_eq!(ledger.purse().await.unwrap().nanos_per_record, None);
    let first = ledger.append(&record(&"x".repeat(250))).await.unwrap().nanos.unwrap();
    let second = ledger.append(&record(&"x".repeat(50))).await.unwrap().nanos.unwrap();
    drop(ledger);
    let purse = setting.open().await.unwrap().purse().await.unwrap();
    assert_eq!(purse.nanos_per_record, Some((first + second) as u64 / 2));
    assert_eq!(purse.balance, setting.report.balance - (first + second) as u64);
    assert!(purse.days_left(144).unwrap() > 1);
}

/// Between signing and handing in, a person moves the coin that was to pay.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_coin_was_moved_under_it_is_built_anew_and_added_once() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    ledger.append(&record("before")).await.unwrap();
    let signed = Arc::new(Mutex::new(Vec::new()));
    let (seen, owner) = (Arc::clone(&signed), setting.owner());
    ledger.watch(Box::new(move |step| {
        if let Step::Signed { transaction, .. } = step {
            let mut signed = seen.lock().unwrap();
            signed.push(transaction);
            if signed.len() == 1 {
                block_in_place(|| Handle::current().block_on(owner.keep(&[], 500_000_000)));
            }
        }
        ControlFlow::Continue(())
    }));
    let receipt = ledger.append(&record("once")).await.unwrap();
    let signed = signed.lock().unwrap().clone();
    assert_eq!((signed.len(), signed[1]), (2, receipt.transaction));
    assert!(!setting.has_pending());
    assert_eq!(setting.texts().await, ["before", "once"]);
}
