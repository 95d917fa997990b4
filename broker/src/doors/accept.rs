//! Accepting connections, also when file descriptors are short.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use crate::log_limit::LogLimit;

/// Pause after an accept that failed, which it does at once and again while file descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);
/// At most one line about the same trouble in this time.
const LOG: Duration = Duration::from_secs(10);

/// A listening socket whose faults are waited out.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    failures: LogLimit,
}

impl Acceptor {
    /// Accepts from `listener`.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, failures: LogLimit::new(1, LOG) }
    }

    /// The next connection, with TCP_NODELAY set.
    pub async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => match stream.set_nodelay(true) {
                    Ok(()) => return (stream, peer),
                    Err(error) => debug!(%peer, %error, "gone already"),
                },
                Err(error) => {
                    if self.failures.allows() {
                        warn!(%error, "cannot accept connections; trying again every {PAUSE:?}");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The listener's address.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
