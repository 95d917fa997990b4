//! Several nodes: one that fails is passed over, and what it executed is never done twice.

#![allow(clippy::unwrap_used)]

mod support;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grid_ledger::{Endpoints, Ledger, LedgerError, Remedy, Step, TrailReader};
use support::proxy::{Proxy, limiter};
use support::setting::{Setting, record};
use support::{Mock, stop_at};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

fn nodes(urls: &[&str]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_node_that_fails_is_passed_over_and_the_one_that_answers_is_kept() {
    let setting = Setting::new().await;
    let (first, second) = (Proxy::to(setting.mock.listens).await, Proxy::to(setting.mock.listens).await);
    let mut ledger = setting.open_at(nodes(&[&first.url, &second.url])).await.unwrap();
    ledger.append(&record("through the first")).await.unwrap();
    assert_eq!(second.connections(), 0);
    first.close();
    ledger.append(&record("through the second")).await.unwrap();
    first.open();
    let before = first.connections();
    ledger.append(&record("through the second again")).await.unwrap();
    assert_eq!(first.connections(), before);
    second.close();
    ledger.append(&record("through the first again")).await.unwrap();
    assert_eq!(setting.texts().await.len(), 4);
}

#[tokio::test]
async fn a_verifier_reads_through_the_node_that_answers() {
    let setting = Setting::new().await;
    let mut ledger = setting.open_at(nodes(&[NOBODY, &format!("http://{}", setting.mock.listens)])).await.unwrap();
    let receipt = ledger.append(&record("text")).await.unwrap();
    assert!(ledger.clock().await.unwrap() >= receipt.added_ms);
    let grpc = nodes(&[NOBODY, &format!("http://{}", setting.mock.listens)]);
    let endpoints = Endpoints { grpc, ..setting.mock.endpoints() };
    let reader = TrailReader::open(&endpoints, None, setting.report.trail).await.unwrap();
    assert_eq!(reader.records(0).await.unwrap().len(), 1);
    assert!(reader.clock().await.unwrap() >= receipt.added_ms);
    let nobody = Endpoints { grpc: nodes(&[NOBODY, NOBODY]), ..setting.mock.endpoints() };
    let error = TrailReader::open(&nobody, None, setting.report.trail).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unreachable { .. }) && error.is_transient(), "{error}");
    let none = Endpoints { grpc: Vec::new(), ..setting.mock.endpoints() };
    let error = TrailReader::open(&none, None, setting.report.trail).await.unwrap_err();
    assert!(matches!(error, LedgerError::NoNodes) && error.remedy() == Remedy::Person, "{error}");
}

#[tokio::test]
async fn a_node_of_another_chain_is_never_used() {
    let setting = Setting::new().await;
    let other = Mock::start(&setting.path("other")).await;
    let (right, wrong) = (format!("http://{}", setting.mock.listens), format!("http://{}", other.listens));
    let mut ledger = setting.open_at(nodes(&[&wrong, &right])).await.unwrap();
    ledger.append(&record("text")).await.unwrap();
    drop(ledger);
    let refused = setting.open_at(nodes(&[&wrong])).await.err().unwrap();
    assert!(matches!(&refused, LedgerError::WrongChain { .. }) && refused.remedy() == Remedy::Person, "{refused}");
    // The right node may come back.
    let refused = setting.open_at(nodes(&[&wrong, NOBODY])).await.err().unwrap();
    assert!(matches!(&refused, LedgerError::Unreachable { .. }), "{refused}");
}

#[tokio::test]
async fn an_address_behind_which_another_chain_comes_up_is_not_used_any_more() {
    let mut setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    ledger.append(&record("before")).await.unwrap();
    setting.mock.stop().await;
    assert!(ledger.append(&record("none")).await.unwrap_err().is_transient());
    let state = setting.path("mock");
    std::fs::rename(&state, setting.path("kept")).unwrap();
    setting.mock.start_again().await;
    let refused = ledger.append(&record("at another")).await.unwrap_err();
    assert!(matches!(refused, LedgerError::WrongChain { .. }), "{refused}");
    setting.mock.stop().await;
    std::fs::rename(setting.path("kept"), &state).unwrap();
    setting.mock.start_again().await;
    // A connection to the other one may still be closing.
    while let Err(error) = ledger.append(&record("after")).await {
        assert!(error.is_transient(), "{error}");
    }
    assert_eq!(setting.texts().await, ["before", "after"]);
}

#[tokio::test]
async fn an_answer_that_is_lost_at_one_node_is_found_at_the_next() {
    let setting = Setting::new().await;
    let (first, second) = (Proxy::to(setting.mock.listens).await, Proxy::to(setting.mock.listens).await);
    let mut ledger = setting.open_at(nodes(&[&first.url, &second.url])).await.unwrap();
    ledger.append(&record("before")).await.unwrap();
    for number in 0..3 {
        let signed = Arc::new(Mutex::new(Vec::new()));
        let (seen, losing) = (Arc::clone(&signed), if number % 2 == 0 { first.clone() } else { second.clone() });
        ledger.watch(Box::new(move |step| {
            if let Step::Signed { transaction, .. } = step {
                seen.lock().unwrap().push(transaction);
                losing.lose_answer();
            }
            ControlFlow::Continue(())
        }));
        let receipt = ledger.append(&record(&format!("once {number}"))).await.unwrap();
        // The very transaction that was signed, and no other one.
        assert_eq!(*signed.lock().unwrap(), [receipt.transaction]);
        first.open();
        second.open();
    }
    assert_eq!(setting.texts().await, ["before", "once 0", "once 1", "once 2"]);
}

#[tokio::test]
async fn an_answer_that_is_lost_everywhere_is_unclear_until_a_node_can_be_asked() {
    let setting = Setting::new().await;
    let (first, second) = (Proxy::to(setting.mock.listens).await, Proxy::to(setting.mock.listens).await);
    let mut ledger = setting.open_at(nodes(&[&first.url, &second.url])).await.unwrap();
    let (losing, closed) = (first.clone(), second.clone());
    ledger.watch(Box::new(move |step| {
        if let Step::Signed { .. } = step {
            losing.lose_answer();
            closed.close();
        }
        ControlFlow::Continue(())
    }));
    let unclear = ledger.append(&record("once")).await.unwrap_err();
    let LedgerError::Unclear { transaction, .. } = unclear else { panic!("{unclear}") };
    // Any other record has to wait for it too.
    assert!(ledger.append(&record("later")).await.unwrap_err().is_transient());
    assert!(setting.has_pending());
    second.open();
    let receipt = ledger.append(&record("once")).await.unwrap();
    assert_eq!((receipt.transaction, receipt.sequence_number), (transaction, 0));
    assert_eq!(setting.texts().await, ["once"]);
}

#[tokio::test]
async fn a_node_that_is_behind_is_passed_over_and_its_refusal_is_not_believed() {
    let setting = Setting::new().await;
    // A node that has heard of nothing since the trail was made.
    std::fs::copy(setting.path("mock"), setting.path("behind")).unwrap();
    let behind = Mock::start(&setting.path("behind")).await;
    let (newer, older) = (format!("http://{}", setting.mock.listens), format!("http://{}", behind.listens));
    let mut ledger = setting.open_at(nodes(&[&older, &newer])).await.unwrap();
    drop(ledger);
    ledger = setting.open_at(nodes(&[&newer])).await.unwrap();
    ledger.append(&record("first")).await.unwrap();
    // Signed, and not handed in yet.
    let (watch, _) = stop_at(0);
    ledger.watch(watch);
    ledger.append(&record("second")).await.unwrap_err();
    drop(ledger);
    let error = setting.open_at(nodes(&[&older])).await.err().unwrap();
    assert!(matches!(&error, LedgerError::Behind { .. }) && error.is_transient(), "{error}");
    assert!(setting.has_pending());
    let mut ledger = setting.open_at(nodes(&[&older, &newer])).await.unwrap();
    assert_eq!(ledger.last_receipt().unwrap().sequence_number, 1);
    assert_eq!(ledger.append(&record("third")).await.unwrap().sequence_number, 2);
    assert_eq!(setting.texts().await, ["first", "second", "third"]);
}

#[tokio::test]
async fn a_node_that_limits_us_says_for_how_long_and_is_passed_over() {
    let setting = Setting::new().await;
    for (header, wait) in [
        (("retry-after", "7"), Some(Duration::from_secs(7))),
        (("grpc-retry-pushback-ms", "1500"), Some(Duration::from_millis(1500))),
        (("retry-after", "999999999"), Some(Duration::from_secs(3600))),
        (("retry-after", "nonsense"), None),
    ] {
        let limiting = limiter(header).await;
        let error = setting.open_at(vec![limiting.clone()]).await.err().unwrap();
        assert!(matches!(error, LedgerError::RateLimited { .. }) && error.is_transient(), "{error}");
        assert_eq!(error.retry_after(), wait);
        let right = format!("http://{}", setting.mock.listens);
        drop(setting.open_at(vec![limiting, right]).await.unwrap());
    }
}

#[tokio::test]
async fn a_node_that_says_in_the_details_of_its_answer_for_how_long_is_understood_too() {
    let setting = Setting::new().await;
    let mut ledger = setting.open().await.unwrap();
    for (plan, wait) in [
        ("rate-limit", None),
        ("rate-limit:7s", Some(Duration::from_secs(7))),
        ("rate-limit:1500ms", Some(Duration::from_millis(1500))),
        ("rate-limit:999999999s", Some(Duration::from_secs(3600))),
        // An overloaded one: come again in a second.
        ("refuse", Some(Duration::from_secs(1))),
    ] {
        setting.mock.fail(plan);
        let error = ledger.append(&record("text")).await.unwrap_err();
        assert!(matches!(error, LedgerError::RateLimited { .. }) && error.is_transient(), "{error}");
        assert_eq!(error.retry_after(), wait);
    }
    // That is so for one item of a call as well.
    setting.mock.fail("refuse:on=execute");
    let error = ledger.append(&record("text")).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unclear { .. }), "{error}");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
}
