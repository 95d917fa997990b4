//! The doors of the broker: one accept loop per listening socket, and the handshakes behind it.
//!
//! ```text
//!  mqtt   TCP ───────────────────────┐
//!  mqtts  TCP ── tls ── write_through┤
//!  ws     TCP ── websocket ── " ─────┼── connection::serve(stream, Arrival)
//!  wss    TCP ── tls ── websocket ───┘
//! ```
//!
//! Accepting does nothing but take a place in the [`WaitingRoom`], so that nobody can hold up a door. Handshakes run in
//! the task of their connection, and from accept to CONNECT there is one time limit for all of it
//! ([`Limits::connect_timeout`](crate::Limits::connect_timeout)). TCP_NODELAY is set on every socket: without it small
//! messages wait for the acknowledgement of those before, tens of milliseconds now and then.

mod accept;
mod tls;
mod waiting;
mod websocket;
mod write_through;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use self::write_through::WriteThrough;
use crate::connection::serve;
use crate::metrics::RefusedRequest;
use crate::shared::Shared;

pub use self::accept::Acceptor;
pub use self::waiting::{Waiting, WaitingRoom};

/// Time for connections to end when the broker stops; then they are dropped.
const GRACE: Duration = Duration::from_secs(2);

/// Where the broker listens: a socket for each kind of door that it should have, already bound. MQTT 3.1.1 and 5 share
/// each of them.
#[derive(Debug, Default)]
pub struct Sockets {
    /// MQTT over TCP.
    pub mqtt: Option<TcpListener>,
    /// MQTT over TLS. Clients may show a certificate.
    pub mqtts: Option<TcpListener>,
    /// MQTT over WebSocket, at `/` and `/mqtt`, subprotocol `mqtt`.
    pub ws: Option<TcpListener>,
    /// MQTT over WebSocket over TLS. Browsers cannot show a certificate of the site unless a person installed it in
    /// them, and the `Origin` they send is not looked at: who comes this way proves by user and password who it is.
    pub wss: Option<TcpListener>,
    /// HTTP with `/healthz` and `/metrics`, without any login: for loopback or a network of the operator.
    pub http: Option<TcpListener>,
}

impl From<TcpListener> for Sockets {
    /// MQTT over TCP and nothing else.
    fn from(mqtt: TcpListener) -> Self {
        Self { mqtt: Some(mqtt), ..Self::default() }
    }
}

/// What is known of a connection before its first MQTT packet.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The other end.
    pub peer: SocketAddr,
    /// The certificate (DER) that it showed in a TLS handshake, which proved that it holds the key.
    pub certificate: Option<Vec<u8>>,
    /// When its CONNECT must be there.
    pub deadline: Instant,
}

/// How MQTT is carried through a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Inside TLS.
    pub tls: bool,
    /// Inside WebSocket.
    pub websocket: bool,
}

impl Kind {
    /// What a person calls it.
    pub fn name(self) -> &'static str {
        match (self.tls, self.websocket) {
            (false, false) => "MQTT",
            (true, false) => "MQTT over TLS",
            (false, true) => "MQTT over WebSocket",
            (true, true) => "MQTT over WebSocket and TLS",
        }
    }
}

/// One listening socket for MQTT.
#[derive(Debug)]
pub struct Door {
    /// What comes through it.
    pub kind: Kind,
    /// The socket.
    pub listener: TcpListener,
}

impl Sockets {
    /// The doors for MQTT, and the socket for HTTP.
    pub(crate) fn into_doors(self) -> (Vec<Door>, Option<TcpListener>) {
        let doors =
            [(self.mqtt, false, false), (self.mqtts, true, false), (self.ws, false, true), (self.wss, true, true)]
                .into_iter()
                .filter_map(|(listener, tls, websocket)| {
                    Some(Door { kind: Kind { tls, websocket }, listener: listener? })
                })
                .collect();
        (doors, self.http)
    }
}

/// Why a handshake led to nothing.
#[derive(Debug, Error)]
enum Unshaken {
    #[error("there is no server certificate for TLS; give one in the settings and reload")]
    NoCertificate,
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    #[error("WebSocket: {0}")]
    WebSocket(#[from] websocket::Refusal),
    #[error("no handshake within {0:?}")]
    TooSlow(Duration),
    #[error("the broker stops")]
    Stopping,
}

impl Door {
    /// Lets connections in until the broker stops; returns when all that came through this door have ended.
    pub async fn run(self, shared: Arc<Shared>, room: Arc<WaitingRoom>) {
        let mut connections = JoinSet::new();
        let acceptor = Acceptor::new(self.listener);
        loop {
            let (stream, peer) = tokio::select! {
                accepted = acceptor.accept() => accepted,
                Some(ended) = connections.join_next() => {
                    if let Err(error) = ended {
                        warn!(%error, "a connection's task failed");
                    }
                    continue;
                }
                () = shared.shutdown.cancelled() => break,
            };
            shared.metrics.connections.inc();
            let Some(waiting) = room.enter(peer.ip()) else {
                shared.metrics.refuse(RefusedRequest::Connection);
                debug!(%peer, "too many connections without CONNECT; closed");
                continue;
            };
            let deadline = Instant::now() + shared.limits.connect_timeout;
            let arrival = Arrival { peer, certificate: None, deadline };
            let shared = Arc::clone(&shared);
            if self.kind == (Kind { tls: false, websocket: false }) {
                connections.spawn(serve(shared, stream, arrival, waiting));
            } else {
                connections.spawn(receive(self.kind, shared, stream, arrival, waiting));
            }
        }
        // Nobody new, while those inside take their leave.
        drop(acceptor);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_ended).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// Does the handshakes of this kind of door, then serves the connection.
async fn receive(kind: Kind, shared: Arc<Shared>, stream: TcpStream, mut arrival: Arrival, waiting: Waiting) {
    let peer = arrival.peer;
    let result = async {
        if !kind.tls {
            return upgrade_and_serve(shared.clone(), stream, arrival, waiting).await;
        }
        let config = shared.access.borrow().tls().ok_or(Unshaken::NoCertificate)?;
        let (stream, certificate) =
            in_time(&shared, arrival.deadline, async { tls::accept(config, stream).await.map_err(Unshaken::Tls) })
                .await?;
        arrival.certificate = certificate;
        if kind.websocket {
            return upgrade_and_serve(shared.clone(), stream, arrival, waiting).await;
        }
        serve(shared.clone(), boxed(WriteThrough::new(stream)), arrival, waiting).await;
        Ok(())
    };
    if let Err(error) = result.await {
        shared.metrics.refuse(RefusedRequest::Connection);
        if shared.log.allows() {
            warn!(%peer, %error, "no connection to {}", kind.name());
        }
    }
}

async fn upgrade_and_serve<S>(
    shared: Arc<Shared>,
    mut stream: S,
    arrival: Arrival,
    waiting: Waiting,
) -> Result<(), Unshaken>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let max_packet = usize::try_from(shared.limits.max_packet()).unwrap_or(usize::MAX);
    let upgrade = async { websocket::accept(&mut stream, max_packet).await.map_err(Unshaken::WebSocket) };
    match in_time(&shared, arrival.deadline, upgrade).await {
        Ok(frames) => {
            serve(shared, boxed(WriteThrough::new(frames)), arrival, waiting).await;
            Ok(())
        }
        Err(unshaken) => {
            if let Unshaken::WebSocket(refusal) = &unshaken {
                websocket::turn_away(&mut stream, refusal).await;
            }
            Err(unshaken)
        }
    }
}

/// Ends a handshake that takes too long, or when the broker stops.
async fn in_time<T>(
    shared: &Shared,
    deadline: Instant,
    handshake: impl Future<Output = Result<T, Unshaken>>,
) -> Result<T, Unshaken> {
    tokio::select! {
        done = tokio::time::timeout_at(deadline, handshake) => {
            done.unwrap_or(Err(Unshaken::TooSlow(shared.limits.connect_timeout)))
        }
        () = shared.shutdown.cancelled() => Err(Unshaken::Stopping),
    }
}

/// Any stream that MQTT can be spoken over.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// One type for all but plain TCP, whose connections are the many: their code should not exist four times.
fn boxed<'a>(stream: impl Duplex + 'a) -> Box<dyn Duplex + 'a> {
    Box::new(stream)
}
