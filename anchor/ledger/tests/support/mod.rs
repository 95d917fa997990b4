//! A mock ledger that tests can stop and start again, and a folder initialised on it.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod client;
pub mod forms;
pub mod owner;
pub mod proxy;
pub mod setting;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use grid_ledger::mock::{self, Faults, MockError};
use grid_ledger::{Address, Endpoints, InitReport, InitSettings, LedgerError, Watch, init};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub const NAME: &str = "demo-00112233.invalid";
pub const DESCRIPTION: &str = "Log key demo-00112233.invalid+01234567+AAAA\nCA certificate SHA-256 00ff";

pub struct Mock {
    pub listens: SocketAddr,
    pub faults: Faults,
    state: PathBuf,
    running: Option<Running>,
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), MockError>>,
}

impl Mock {
    pub async fn start(state: &Path) -> Self {
        let listens = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut mock = Self { listens, faults: Faults::default(), state: state.into(), running: None };
        mock.start_again().await;
        mock
    }

    /// On the same port, with the same state.
    pub async fn start_again(&mut self) {
        let listener = TcpListener::bind(self.listens).await.unwrap();
        self.listens = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (state, faults) = (self.state.clone(), self.faults.clone());
        let task = tokio::spawn(async move {
            mock::run_with_faults(listener, &state, &faults, async {
                let _ = stopped.await;
            })
            .await
        });
        self.running = Some(Running { stop, task });
    }

    pub async fn stop(&mut self) {
        let Running { stop, task } = self.running.take().unwrap();
        stop.send(()).unwrap();
        task.await.unwrap().unwrap();
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.start_again().await;
    }

    /// From now on this goes wrong.
    pub fn fail(&self, plan: &str) {
        self.faults.set(plan.parse().unwrap());
    }

    pub fn endpoints(&self) -> Endpoints {
        Endpoints::mock(self.listens)
    }

    pub async fn page(&self, path: &str) -> String {
        http(self.listens, &format!("GET {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n")).await
    }

    /// Asks the faucet for coins, under its other name.
    pub async fn give(&self, recipient: Address) {
        let body = format!(r#"{{"FixedAmountRequest":{{"recipient":"{recipient}"}}}}"#);
        let length = body.len();
        let request = format!(
            "POST /v1/gas HTTP/1.1\r\nhost: mock\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        let answer = http(self.listens, &request).await;
        assert!(answer.starts_with("HTTP/1.1 201") && answer.contains("transferTxDigest"), "{answer}");
    }

    /// How many audit trails there are, sealed or not.
    pub async fn trails(&self) -> usize {
        let front = self.page("/").await;
        let (_, rest) = front.split_once("<dt>Audit trails</dt><dd>").unwrap();
        rest.split_once('<').unwrap().0.parse().unwrap()
    }
}

async fn http(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

pub async fn init_in(folder: &Path, mock: &Mock, watch: Option<Watch>) -> Result<InitReport, LedgerError> {
    let endpoints = mock.endpoints();
    init(InitSettings { folder, endpoints: &endpoints, name: NAME, description: DESCRIPTION }, watch).await
}

/// Stops at step number `at`, and writes down the steps.
pub fn stop_at(at: usize) -> (Watch, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let steps = Arc::clone(&seen);
    let watch = Box::new(move |step: grid_ledger::Step<'_>| {
        let mut steps = steps.lock().unwrap();
        steps.push(step.to_string());
        if steps.len() == at + 1 { std::ops::ControlFlow::Break(()) } else { std::ops::ControlFlow::Continue(()) }
    });
    (watch, seen)
}
