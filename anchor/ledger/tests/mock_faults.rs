//! Faults on demand, as a client of the node meets them.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use grid_ledger::TrailReader;
use iota_sdk::grpc_client::GrpcError;
use iota_sdk::grpc_client::tonic::Code;
use iota_sdk::types::{ExecutionStatus, SignedTransaction};
use support::client::{Attacker, aborted, signed};

async fn adding(client: &Attacker, text: &str) -> SignedTransaction {
    signed(client.transaction(&client.anchor, |calls| calls.add(text)).await, &client.anchor)
}

async fn records(client: &Attacker) -> Vec<String> {
    let reader = TrailReader::open(&client.mock.endpoints(), None, client.report.trail).await.unwrap();
    reader.records(0).await.unwrap().into_iter().map(|record| record.text).collect()
}

/// The error of a call that failed as a whole.
fn failed<T: std::fmt::Debug>(result: Result<T, GrpcError>) -> (Code, String) {
    match result {
        Err(GrpcError::Grpc(status)) => (status.code(), status.message().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_is_dropped_was_executed_all_the_same_and_only_once() {
    let client = Attacker::new().await;
    let transaction = adding(&client, "text").await;
    client.mock.fail("drop-answer:first=1");
    let broken = client.node.execute_transaction(transaction.clone()).await;
    let (code, message) = failed(broken);
    assert!(matches!(code, Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled), "{code}: {message}");
    assert_eq!(client.mock.faults.happened(), 1);
    assert_eq!(records(&client).await, ["text"]);
    let effects = client.submit(transaction.clone()).await.unwrap();
    assert_eq!(effects.status, ExecutionStatus::Success);
    let known = client.node.transactions([transaction.transaction.digest()]).await.unwrap();
    assert!(known.body()[0].is_ok());
    assert_eq!(records(&client).await, ["text"]);
}

#[tokio::test]
async fn a_node_that_times_out_says_unavailable_of_what_was_executed() {
    let client = Attacker::new().await;
    let transaction = adding(&client, "text").await;
    client.mock.fail("time-out:first=1");
    let (code, message) = client.hand_in(transaction.clone()).await.unwrap_err();
    assert_eq!((code, message.as_str()), (Code::Unavailable, "timed-out before finality could be reached"));
    assert_eq!(records(&client).await, ["text"]);
    client.submit(transaction).await.unwrap();
}

#[tokio::test]
async fn a_node_that_refuses_or_limits_does_nothing() {
    let client = Attacker::new().await;
    let transaction = adding(&client, "text").await;
    client.mock.fail("refuse:on=execute");
    match client.node.execute_transaction(transaction.clone()).await {
        Err(GrpcError::Server(status)) => {
            assert_eq!((status.code, status.message.as_str()), (Code::Unavailable as i32, "system is overloaded"));
            assert_eq!(status.details.len(), 1, "when to come again");
        }
        other => panic!("{other:?}"),
    }
    client.mock.fail("rate-limit");
    let limited = (Code::ResourceExhausted, "Too many requests".to_owned());
    assert_eq!(failed(client.node.execute_transaction(transaction.clone()).await), limited);
    assert_eq!(failed(client.node.objects([client.report.trail]).await), limited);
    client.mock.fail("refuse:on=read");
    assert_eq!(failed(client.node.objects([client.report.trail]).await).0, Code::Unavailable);
    client.mock.faults.clear();
    assert!(records(&client).await.is_empty());
    client.submit(transaction).await.unwrap();
}

#[tokio::test]
async fn a_call_aborts_that_would_have_gone_well_and_is_paid_for() {
    let client = Attacker::new().await;
    let before = client.object(client.report.recorder).await.version();
    let transaction = adding(&client, "text").await;
    client.mock.fail("abort:first=1");
    let effects = client.submit(transaction.clone()).await.unwrap();
    // The first call of the transaction makes the text.
    assert_eq!(aborted(&effects), ("record".to_owned(), "new_text".to_owned()));
    assert_eq!(effects.gas_cost_summary.net_gas_usage(), 1_000_000);
    assert!(client.object(client.report.recorder).await.version() > before);
    assert_eq!(client.submit(transaction).await.unwrap(), effects, "it has happened, and stays so");
    assert!(records(&client).await.is_empty());
    let again = adding(&client, "text").await;
    assert_eq!(client.submit(again).await.unwrap().status, ExecutionStatus::Success);
}

#[tokio::test]
async fn a_slow_node_answers_in_the_end() {
    let client = Attacker::new().await;
    client.mock.fail("delay:300ms:on=read");
    let asked = Instant::now();
    client.object(client.report.trail).await;
    assert!(asked.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn pages_and_faucet_have_no_faults() {
    let client = Attacker::new().await;
    client.mock.fail("refuse,drop-answer:on=read");
    client.mock.give(client.report.address).await;
    assert_eq!(client.mock.trails().await, 1);
}
