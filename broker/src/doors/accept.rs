//! Accepting connections, also when file descriptors are short.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tracing::{debug, warn};

/// Pause after an accept that failed, which it does at once and again while file descriptors are short.
const PAUSE: Duration = Duration::from_millis(100);
/// At most one line about the same trouble in this time.
const LOG: Duration = Duration::from_secs(10);

/// A listening socket whose faults are waited out.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    failures: Seldom,
}

impl Acceptor {
    /// Accepts from `listener`.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, failures: Seldom::default() }
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
                    if let Some(more) = self.failures.say(Instant::now()) {
                        warn!(%error, more, "cannot accept connections; trying again every {PAUSE:?}");
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

/// Keeps what others can cause at will from filling the log.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Mutex<(Option<Instant>, u64)>,
}

impl Seldom {
    /// Whether to say it now, and how many times it was not said before.
    pub fn say(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0.is_some_and(|at| now < at + LOG) {
            last.1 += 1;
            return None;
        }
        last.0 = Some(now);
        Some(std::mem::take(&mut last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_failures_are_two_lines_and_the_second_has_their_number() {
        let seldom = Seldom::default();
        let start = Instant::now();
        assert_eq!(seldom.say(start), Some(0));
        for millis in 1..999 {
            assert_eq!(seldom.say(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(seldom.say(start + LOG), Some(998));
        assert_eq!(seldom.say(start + LOG), None);
    }
}
