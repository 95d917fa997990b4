//! A node's address that can be cut off, and one that only limits.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderMap;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Time enough for a node to do what it was asked before its answer is lost.
const UNTIL_DONE: Duration = Duration::from_millis(200);

/// Passes everything on to a node, until it is told otherwise.
#[derive(Clone)]
pub struct Proxy {
    pub url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// New connections end at once.
    is_closed: AtomicBool,
    /// The next answer is lost, and from then on it is closed.
    loses_answer: AtomicBool,
    connections: AtomicUsize,
}

impl Proxy {
    pub async fn to(node: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State::default());
        let proxy = Self { url, state: Arc::clone(&state) };
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if !state.is_closed.load(Ordering::SeqCst) {
                    state.connections.fetch_add(1, Ordering::SeqCst);
                    let server = TcpStream::connect(node).await.unwrap();
                    tokio::spawn(pass_on(client, server, Arc::clone(&state)));
                }
            }
        });
        proxy
    }

    pub fn close(&self) {
        self.state.is_closed.store(true, Ordering::SeqCst);
    }

    pub fn open(&self) {
        self.state.is_closed.store(false, Ordering::SeqCst);
        self.state.loses_answer.store(false, Ordering::SeqCst);
    }

    /// What is asked next reaches the node, and its answer does not come back.
    pub fn lose_answer(&self) {
        self.state.loses_answer.store(true, Ordering::SeqCst);
    }

    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

async fn pass_on(client: TcpStream, server: TcpStream, state: Arc<State>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async { tokio::io::copy(&mut from_client, &mut to_server).await };
    let back = async {
        let mut buffer = vec![0; 65_536];
        loop {
            match from_server.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) if state.loses_answer.load(Ordering::SeqCst) => {
                    state.is_closed.store(true, Ordering::SeqCst);
                    tokio::time::sleep(UNTIL_DONE).await;
                    return;
                }
                Ok(_) if state.is_closed.load(Ordering::SeqCst) => return,
                Ok(length) => {
                    if to_client.write_all(&buffer[..length]).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    // The connection is over when either side has no more to say.
    tokio::select! { _ = there => {}, () = back => {} }
}

/// Says to every question that there were too many, in gRPC (RESOURCE_EXHAUSTED is 8) with this header beside it.
pub async fn limiter(header: (&'static str, &'static str)) -> String {
    let answer = move || async move {
        let mut headers = HeaderMap::new();
        let said = [("content-type", "application/grpc"), ("grpc-status", "8"), ("grpc-message", "slow down"), header];
        for (name, value) in said {
            headers.insert(name, value.parse().unwrap());
        }
        headers
    };
    let router: Router = Router::new().fallback(answer);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}
