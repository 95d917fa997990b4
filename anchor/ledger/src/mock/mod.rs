//! A development double of an IOTA node, in one process. **It is not IOTA**: one program decides alone what happened.
//!
//! To a client it is a node: the same gRPC services, transactions and objects in BCS with their real digests, real
//! Ed25519 signatures, object versions, storage prices and errors. Behind that there is no Move VM: it executes the
//! Move calls of [`crate::init`] and of adding a record, splits, merges and transfers coins, and refuses everything else
//! by name. What those calls do and cost follows the source of the packages, and was checked against IOTA's own VM.
//!
//! On the same port there is a faucet (`POST /gas`) and a page for each transaction, object and address, at the paths
//! of IOTA's explorer. Time is the machine's; every transaction is final at once.
//!
//! It also does what nodes do when things go wrong, when it is told to: [`FaultPlan`] says what there is.
//!
//! The state is one file, to which every transaction is appended before it is answered; a mock that was killed goes on
//! with it.

mod calls;
mod chain;
mod check;
mod commands;
mod execute;
mod faults;
mod inject;
mod journal;
mod limits;
mod pages;
mod refusal;
mod rejection;
mod render;
mod services;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use axum::Extension;
use axum::middleware::from_fn_with_state;
use chain::Chain;
pub use faults::{FaultPlan, Faults, NoFaultPlan};
use inject::Connection;
pub use journal::MockError;

/// Said on every page and in every log line.
pub const NOT_IOTA: &str = "NOT IOTA: a development double on one machine";

/// How long to wait before accepting again when the system has no more file handles.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// The chain, shared by all connections. Each question holds it briefly, and never across an await.
#[derive(Clone)]
struct Shared {
    chain: Arc<Mutex<Chain>>,
    faults: Faults,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Chain> {
        // A transaction is applied only when nothing can fail any more, so a panic elsewhere leaves no half of one.
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves gRPC, faucet and pages on `listener` until `shutdown` completes, keeping the state in `state_file`.
///
/// When it returns, every connection is closed and the file is free for another.
pub async fn run(
    listener: TcpListener,
    state_file: &Path,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MockError> {
    run_with_faults(listener, state_file, &Faults::default(), shutdown).await
}

/// The same, with faults, which can be changed while it runs.
pub async fn run_with_faults(
    listener: TcpListener,
    state_file: &Path,
    faults: &Faults,
    shutdown: impl Future<Output = ()>,
) -> Result<(), MockError> {
    let chain = Chain::open(state_file)?;
    tracing::info!(chain = %chain.name(), state = %state_file.display(), "mock ledger ({NOT_IOTA})");
    let shared = Shared { chain: Arc::new(Mutex::new(chain)), faults: faults.clone() };
    let services = services::router(&shared).layer(from_fn_with_state(shared.clone(), inject::faults));
    let router = services.merge(pages::router(shared)).fallback(pages::nothing_here);
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Small answers to small questions: waiting for more to send only costs time.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "cannot set TCP_NODELAY ({NOT_IOTA})");
                }
                let connection = Connection::default();
                let service = TowerToHyperService::new(router.clone().layer(Extension(connection.clone())));
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    tokio::select! {
                        () = connection.broken_off() => {}
                        served = server.serve_connection(TokioIo::new(stream), service) => {
                            if let Err(error) = served {
                                tracing::debug!(error, "a connection broke ({NOT_IOTA})");
                            }
                        }
                    }
                });
            }
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept ({NOT_IOTA})");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
    connections.shutdown().await;
    Ok(())
}

fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
