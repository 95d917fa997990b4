//! The broker: opens its doors, watches over the router, stops.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use grid_service::systemd::Systemd;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::access::Access;
use crate::doors::{Sockets, WaitingRoom};
use crate::http::{self, Health};
use crate::limits::Limits;
use crate::revocations;
use crate::router::{Heartbeat, Router};
use crate::shared::Shared;
use crate::sys;

/// Why a broker ended by itself, or did not begin.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// A listener is not usable.
    #[error("a listener has no address: {0}; bind it before running the broker")]
    Listener(#[source] io::Error),
    /// No way in for MQTT.
    #[error("there is no address to listen on for MQTT; set one of mqtt, mqtts, ws and wss")]
    NoDoor,
    /// A door with TLS, and nothing to show there.
    #[error("cannot listen on {0} with TLS: there is no server certificate; give one in the settings")]
    NoCertificate(SocketAddr),
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
    /// A fault in the broker itself.
    #[error("a part of the broker failed: {0}; restart it, and report this")]
    Fault(#[source] JoinError),
}

/// Runs a broker on `sockets` until `shutdown` resolves, or its router stops working.
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

async fn run_with(
    sockets: Sockets,
    limits: Limits,
    access: watch::Receiver<Arc<Access>>,
    shutdown: impl Future<Output = ()>,
    router: Arc<Router>,
    heartbeat: Heartbeat,
) -> Result<(), BrokerError> {
    let stop = CancellationToken::new();
    let room = WaitingRoom::new(limits.max_waiting, limits.max_waiting_per_address);
    let health = Arc::new(Health::new(limits.heartbeat));
    let shared = Shared::new(limits.clone(), access, router, stop.clone());
    // Ended with this call, however that ends.
    let mut parts = JoinSet::new();
    let (doors, http) = sockets.into_doors();
    if doors.is_empty() {
        return Err(BrokerError::NoDoor);
    }
    let mut listens = Vec::new();
    for door in doors {
        let address = door.listener.local_addr().map_err(BrokerError::Listener)?;
        if door.kind.tls && shared.access.borrow().tls().is_none() {
            return Err(BrokerError::NoCertificate(address));
        }
        info!("listening on {address} for {}", door.kind.name());
        listens.push(format!("{address} ({})", door.kind.name()));
        parts.spawn(door.run(Arc::clone(&shared), Arc::clone(&room)));
    }
    if let Some(listener) = http {
        let address = listener.local_addr().map_err(BrokerError::Listener)?;
        info!("listening on {address} for HTTP: /healthz and /metrics");
        parts.spawn(http::run(listener, Arc::clone(&shared), Arc::clone(&health)));
    }
    parts.spawn(sys::publish(Arc::clone(&shared)));
    parts.spawn(revocations::publish(Arc::clone(&shared)));
    let mut systemd = Systemd::of_this_process();
    systemd.ready(&format!("listening on {}", listens.join(", ")));
    // What came back through the router shows that neither it nor the runtime hangs.
    let answered = || {
        health.answered();
        systemd.alive();
    };
    let result = tokio::select! {
        () = shutdown => Ok(()),
        _ = heartbeat.run(limits.heartbeat, limits.heartbeat_timeout, answered) => {
            Err(BrokerError::RouterStuck { limit: limits.heartbeat_timeout })
        }
        fault = first_fault(&mut parts) => Err(BrokerError::Fault(fault)),
    };
    systemd.stopping();
    stop.cancel();
    while parts.join_next().await.is_some() {}
    info!("stopped");
    result
}

/// Waits for a task that failed. One that is done is none.
async fn first_fault(parts: &mut JoinSet<()>) -> JoinError {
    loop {
        match parts.join_next().await {
            Some(Err(fault)) => return fault,
            Some(Ok(())) => {}
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::kill;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

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

    #[tokio::test]
    async fn healthz_says_so_while_the_router_does_not_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits::default();
        // The heartbeat is not run, as if the router hung.
        let (router, _heartbeat) = Router::start(&limits).unwrap();
        let stop = CancellationToken::new();
        let shared = Shared::new(limits, Access::open(), router, stop.clone());
        let health = Arc::new(Health::new(Duration::ZERO));
        let serving = tokio::spawn(http::run(listener, shared, Arc::clone(&health)));
        assert!(healthz(address).await.ends_with("\r\n\r\nok\n"));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let answer = healthz(address).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("has not answered for 1."), "{answer}");
        health.answered();
        assert!(healthz(address).await.ends_with("\r\n\r\nok\n"));
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
    }

    async fn healthz(address: SocketAddr) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}
