//! A mock ledger that can go wrong and be cut off.

#![allow(dead_code, reason = "each test file uses its part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use grid_ledger::mock::{self, Faults};
use grid_ledger::{Address, Endpoints, ObjectId, Record, TrailReader};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A mock ledger, which runs as long as the test.
pub struct Node {
    pub faults: Faults,
    address: SocketAddr,
}

impl Node {
    pub async fn start(state: &Path) -> Self {
        let (listener, address) = listen().await;
        let (faults, state) = (Faults::default(), state.to_owned());
        let its_faults = faults.clone();
        tokio::spawn(async move {
            mock::run_with_faults(listener, &state, &its_faults, std::future::pending()).await.unwrap();
        });
        Self { faults, address }
    }

    /// From now on this goes wrong.
    pub fn fail(&self, plan: &str) {
        self.faults.set(plan.parse().unwrap());
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn endpoints(&self) -> Endpoints {
        Endpoints::mock(self.address)
    }

    /// Has the faucet give coins.
    pub async fn give(&self, address: Address) {
        let body = format!(r#"{{"FixedAmountRequest":{{"recipient":"{address}"}}}}"#);
        let url = format!("{}/gas", self.url());
        let give = move || ureq::post(url).content_type("application/json").send(body);
        tokio::task::spawn_blocking(give).await.unwrap().unwrap();
    }

    pub async fn records(&self, trail: ObjectId) -> Vec<Record> {
        let reader = TrailReader::open(&self.endpoints(), None, trail).await.unwrap();
        reader.records(0).await.unwrap()
    }
}

/// Another address of a node, which can be closed.
pub struct Door {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
    came: Arc<[AtomicU64; 2]>,
}

impl Door {
    pub async fn to(node: &Node) -> Self {
        let (listener, address) = listen().await;
        let (is_open, open) = watch::channel(true);
        let (node, came) = (node.address, Arc::new([AtomicU64::new(0), AtomicU64::new(0)]));
        let counts = Arc::clone(&came);
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut open = open.clone();
                let lets_in = *open.borrow();
                counts[usize::from(lets_in)].fetch_add(1, Ordering::SeqCst);
                if lets_in {
                    tokio::spawn(async move {
                        let mut server = TcpStream::connect(node).await.unwrap();
                        // The connection ends with either side, or when the door is closed.
                        tokio::select! {
                            _ = copy_bidirectional(&mut client, &mut server) => {}
                            _ = open.wait_for(|open| !open) => {}
                        }
                    });
                }
            }
        });
        Self { address, is_open, came }
    }

    pub fn endpoints(&self) -> Endpoints {
        Endpoints::mock(self.address)
    }

    /// Connections end, and new ones too.
    pub fn close(&self) {
        self.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }

    /// How many connections were let in.
    pub fn let_in(&self) -> u64 {
        self.came[1].load(Ordering::SeqCst)
    }

    /// How many connections stood before the closed door.
    pub fn turned_away(&self) -> u64 {
        self.came[0].load(Ordering::SeqCst)
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}
