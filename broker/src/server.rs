//! The broker: accepts connections, watches over the router, stops.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::access::Access;
use crate::connection::{Arrival, serve};
use crate::limits::Limits;
use crate::router::{Heartbeat, Router};
use crate::shared::Shared;

/// Pause after an accept that failed, which it does at once and again while file descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// At most one line about that in this time.
const ACCEPT_LOG: Duration = Duration::from_secs(10);
/// Time for connections to end when the broker stops; then they are dropped.
const GRACE: Duration = Duration::from_secs(2);

/// Why a broker ended by itself.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// The listener is not usable.
    #[error("the listener has no address: {0}; bind it before running the broker")]
    Listener(#[source] io::Error),
    /// The router's thread could not be started.
    #[error("the router did not start; see the log above for what it said")]
    RouterStart,
    /// A message of the broker to itself did not come back through the router.
    #[error(
        "the router did not return a heartbeat within {limit:?}: no message moves any more. Restart the broker; clients \
         reconnect by themselves"
    )]
    RouterStuck {
        /// [`Limits::heartbeat_timeout`].
        limit: Duration,
    },
}

/// Runs a broker on `listener` until `shutdown` resolves, or its router stops working.
///
/// All state lives in this call: several brokers may run in one process. When it returns, all connections are closed
/// and all its tasks have ended. One thread remains, parked, until the process ends: rumqttd's router gives no way to
/// end it.
///
/// # Errors
///
/// [`BrokerError::RouterStuck`] is the one to expect in operation: the caller should end the process with an error, so
/// that its service manager starts it again.
pub async fn run(
    sockets: Sockets,
    limits: Limits,
    access: watch::Receiver<Arc<Access>>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), BrokerError> {
    let (router, heartbeat) = Router::start(&limits).map_err(|_| BrokerError::RouterStart)?;
    run_with(sockets, limits, access, shutdown, router, heartbeat).await
}

/// Where the broker listens.
#[derive(Debug)]
pub struct Sockets {
    /// MQTT over TCP.
    pub tcp: TcpListener,
}

impl From<TcpListener> for Sockets {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp }
    }
}

async fn run_with(
    sockets: Sockets,
    limits: Limits,
    access: watch::Receiver<Arc<Access>>,
    shutdown: impl Future<Output = ()>,
    router: Arc<Router>,
    heartbeat: Heartbeat,
) -> Result<(), BrokerError> {
    let listener = sockets.tcp;
    let address = listener.local_addr().map_err(BrokerError::Listener)?;
    let stop = CancellationToken::new();
    let shared = Shared::new(limits.clone(), access, router, stop.clone());
    let mut connections = JoinSet::new();
    info!("listening on {address}");
    let result = tokio::select! {
        () = shutdown => Ok(()),
        _ = heartbeat.run(limits.heartbeat, limits.heartbeat_timeout) => {
            Err(BrokerError::RouterStuck { limit: limits.heartbeat_timeout })
        }
        never = accept(&listener, &shared, &mut connections) => match never {},
    };
    drop(listener);
    stop.cancel();
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all_ended).await.is_err() {
        connections.shutdown().await;
    }
    info!("stopped");
    result
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) -> std::convert::Infallible {
    let waiting = Arc::new(Semaphore::new(shared.limits.max_waiting));
    let mut last_log: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection's task failed");
                }
                continue;
            }
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &waiting, shared, connections),
            Err(error) => {
                if last_log.is_none_or(|at| at.elapsed() > ACCEPT_LOG) {
                    warn!(%error, "cannot accept connections; trying again every {ACCEPT_PAUSE:?}");
                    last_log = Some(Instant::now());
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    waiting: &Arc<Semaphore>,
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let Ok(permit) = Arc::clone(waiting).try_acquire_owned() else {
        debug!(%peer, "too many connections without CONNECT; closed");
        return;
    };
    // Without this, small messages wait for the acknowledgement of those before, tens of milliseconds now and then.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "gone already");
        return;
    }
    let deadline = Instant::now() + shared.limits.connect_timeout;
    let arrival = Arrival { peer, certificate: None, deadline };
    connections.spawn(serve(Arc::clone(shared), stream, arrival, permit));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::kill;

    #[tokio::test]
    async fn a_broker_whose_router_died_ends_with_an_error_that_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let limits = Limits {
            heartbeat: Duration::from_millis(50),
            heartbeat_timeout: Duration::from_millis(500),
            ..Limits::default()
        };
        let (router, heartbeat) = Router::start(&limits).unwrap();
        let running = tokio::spawn(run_with(
            listener.into(),
            limits,
            Access::open(),
            std::future::pending(),
            Arc::clone(&router),
            heartbeat,
        ));
        kill(&router);
        let result = tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap();
        assert!(matches!(result, Err(BrokerError::RouterStuck { .. })), "{result:?}");
    }
}
