//! `grid-anchor mock-ledger` as a process of its own: it is killed, and it fails on demand.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use grid_ledger::mock::NOT_IOTA;
use grid_ledger::{
    Endpoints, InitSettings, IotaLedger, Ledger, LedgerError, NewRecord, TrailReader, init, text_sha256,
};
use rand::Rng;

const BINARY: &str = env!("CARGO_BIN_EXE_grid-anchor");

/// A process that ends with the test.
struct Mock {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
    listens: SocketAddr,
}

impl Drop for Mock {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        self.process.wait().unwrap();
    }
}

impl Mock {
    fn start(listen: SocketAddr, state: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.args(["mock-ledger", "--listen", &listen.to_string(), "--state"]).arg(state).args(more);
        let mut process = command.env("RUST_LOG", "warn").stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = said.next().unwrap().unwrap();
        let listens = first.strip_prefix("mock ledger on http://").unwrap();
        let listens = listens.strip_suffix(&format!(" ({NOT_IOTA})")).unwrap().parse().unwrap();
        Self { process, said, listens }
    }

    fn kill(mut self) -> SocketAddr {
        self.process.kill().unwrap();
        self.listens
    }
}

/// `KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("KILLS").map_or(10, |kills| kills.parse().unwrap())
}

async fn texts(endpoints: &Endpoints, trail: grid_ledger::ObjectId) -> Vec<String> {
    let reader = TrailReader::open(endpoints, None, trail).await.unwrap();
    reader.records(0).await.unwrap().into_iter().map(|record| record.text).collect()
}

async fn init_on(data: &Path, endpoints: &Endpoints) -> grid_ledger::InitReport {
    let settings = InitSettings { folder: data, endpoints, name: "demo.invalid", description: "a test" };
    init(settings, None).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mock_that_is_killed_at_any_moment_knows_what_it_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (state, data) = (folder.path().join("mock.state"), folder.path().join("data"));
    let mut mock = Mock::start("127.0.0.1:0".parse().unwrap(), &state, &[]);
    let endpoints = Endpoints::mock(mock.listens);
    let report = init_on(&data, &endpoints).await;
    let (answered, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let adding = tokio::spawn({
        let (endpoints, answered, enough) = (endpoints.clone(), answered.clone(), enough.clone());
        async move {
            let mut ledger = IotaLedger::open(&data, &endpoints).await.unwrap();
            while !enough.load(Ordering::SeqCst) {
                let text = format!("checkpoint {}\n", answered.load(Ordering::SeqCst));
                match ledger.append(&NewRecord { text: text.clone(), metadata: None }).await {
                    Ok(receipt) => {
                        assert_eq!(receipt.text_sha256, text_sha256(&text));
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    // What is unclear is settled by the next attempt.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        }
    });
    for _ in 0..kills() {
        tokio::time::sleep(Duration::from_millis(rand::thread_rng().gen_range(100..400))).await;
        let listens = mock.kill();
        let answered = answered.load(Ordering::SeqCst);
        mock = Mock::start(listens, &state, &[]);
        let known = texts(&endpoints, report.trail).await;
        assert!(known.len() >= answered, "{} of {answered} records", known.len());
    }
    enough.store(true, Ordering::SeqCst);
    adding.await.unwrap();
    let answered = answered.load(Ordering::SeqCst);
    assert!(answered > kills() as usize, "only {answered} records");
    let expected: Vec<_> = (0..answered).map(|number| format!("checkpoint {number}\n")).collect();
    let known = texts(&endpoints, report.trail).await;
    // The last attempt may have failed, and be there.
    assert!(known.len() <= answered + 1, "{} of {answered} records", known.len());
    assert_eq!(known[..answered], expected);
}

#[tokio::test]
async fn faults_are_given_on_the_command_line_and_said_with_their_seed() {
    let folder = tempfile::tempdir().unwrap();
    let plan = "drop-answer:first=1,refuse:first=1:on=execute";
    let mut mock = Mock::start("127.0.0.1:0".parse().unwrap(), &folder.path().join("state"), &["--fail", plan]);
    let said = mock.said.next().unwrap().unwrap();
    assert!(
        said.starts_with("faults on demand: drop-answer:first=1:on=execute,refuse:first=1:on=execute,seed="),
        "{said}"
    );
    let endpoints = Endpoints::mock(mock.listens);
    let data = folder.path().join("data");
    let settings = InitSettings { folder: &data, endpoints: &endpoints, name: "demo.invalid", description: "a test" };
    let outcome = init(settings, None).await;
    assert!(matches!(outcome, Err(LedgerError::Unclear { .. })), "{outcome:?}");
    init_on(&data, &endpoints).await;
}

#[test]
fn a_fault_that_there_is_not_is_named() {
    let output = Command::new(BINARY).args(["mock-ledger", "--state", "none", "--fail", "lose:0.1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("\"lose\"") && said.contains("drop-answer"), "{said}");
}
