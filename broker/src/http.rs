//! The HTTP door, for service managers and monitoring: `/healthz` and `/metrics`, and nothing else.
//!
//! It is answered without any login and tells nothing of messages or clients. Its connections are few and short-lived
//! by force, so that they cannot use up the file descriptors that MQTT needs.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::warn;

use crate::doors::Acceptor;
use crate::shared::Shared;

/// Connections at a time. Further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 16;
/// How long one lasts, whatever happens on it.
const LIFETIME: Duration = Duration::from_secs(10);
/// Time to finish an answer when the broker stops.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// The format of Prometheus' page (OpenMetrics 1.0, section *protocol negotiation*).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How much later than its interval a heartbeat may be answered on a busy machine.
const SLACK: Duration = Duration::from_secs(1);

/// Whether the router still answers.
#[derive(Debug)]
pub struct Health {
    interval: Duration,
    answered: Mutex<Instant>,
}

impl Health {
    /// Healthy for now; a heartbeat is to be answered in each `interval`.
    pub fn new(interval: Duration) -> Self {
        Self { interval, answered: Mutex::new(Instant::now()) }
    }

    /// A heartbeat was answered.
    pub fn answered(&self) {
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How long ago the last one was, if that is too long.
    fn overdue(&self) -> Option<Duration> {
        let since = self.answered.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        (since > self.interval + SLACK).then_some(since)
    }
}

#[derive(Clone)]
struct Pages {
    shared: Arc<Shared>,
    health: Arc<Health>,
    registry: Arc<Registry>,
}

/// Answers HTTP requests until the broker stops.
pub async fn run(listener: TcpListener, shared: Arc<Shared>, health: Arc<Health>) {
    let registry = Arc::new(shared.metrics.registry());
    let door = Door {
        acceptor: Acceptor::new(listener),
        places: Arc::new(Semaphore::new(CONNECTIONS)),
        shared: Arc::clone(&shared),
    };
    let stop = shared.shutdown.clone();
    let pages = Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state(Pages {
        shared,
        health,
        registry,
    });
    let serving = axum::serve(door, pages).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = serving.await {
        warn!(%error, "the HTTP door has closed");
    }
}

async fn healthz(State(pages): State<Pages>) -> Response {
    match pages.health.overdue() {
        None => "ok\n".into_response(),
        Some(since) => {
            let sentence = format!(
                "the router has not answered for {:.1} s; the broker ends by itself after {:?}\n",
                since.as_secs_f64(),
                pages.shared.limits.heartbeat_timeout
            );
            (StatusCode::SERVICE_UNAVAILABLE, sentence).into_response()
        }
    }
}

async fn metrics(State(pages): State<Pages>) -> Response {
    pages.shared.sample();
    let mut page = String::new();
    match encode(&mut page, &pages.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write the figures: {error}\n")).into_response()
        }
    }
}

struct Door {
    acceptor: Acceptor,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl axum::serve::Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        let (stream, peer) = self.acceptor.accept().await;
        let stop = self.shared.shutdown.clone();
        let end = Box::pin(async move {
            let stopping = async {
                stop.cancelled().await;
                tokio::time::sleep(LAST_ANSWER).await;
            };
            let _ = tokio::time::timeout(LIFETIME, stopping).await;
        });
        (Visit { stream, end: Some(end), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.acceptor.local_addr()
    }
}

/// A connection that ends by itself.
struct Visit {
    stream: TcpStream,
    /// Present until it has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<&mut TcpStream> {
        if let Some(end) = &mut self.end {
            match end.as_mut().poll(context) {
                Poll::Ready(()) => self.end = None,
                Poll::Pending => return Ok(&mut self.stream),
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "its time is up"))
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.check(context)?).poll_read(context, into)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.check(context)?).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.check(context)?).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.check(context)?).poll_shutdown(context)
    }
}
