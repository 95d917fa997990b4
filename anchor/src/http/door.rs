//! Who comes in, how many at a time, and for how long.
//!
//! A connection is worth little: a reader that is cut off comes again. So nobody may hold one up. From one answer to the
//! next, be it that the request comes slowly, or that the answer is read slowly, or that nothing comes at all, no more
//! than [`EXCHANGE`] may pass.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at a time. Further ones wait in the kernel's backlog.
const CONNECTIONS: usize = 32;
/// Time from one answer to the next.
const EXCHANGE: Duration = Duration::from_secs(15);
/// Time to finish an answer when the anchor stops.
const LAST_ANSWER: Duration = Duration::from_millis(500);
/// Pause after an accept that failed, which it does at once and again while file descriptors are short.
const PAUSE: Duration = Duration::from_millis(500);

/// A listening socket with a place for each who may come in.
pub struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    stop: watch::Receiver<()>,
    exchange: Duration,
}

impl Door {
    /// Lets in until the sender of `stop` is gone.
    pub fn new(listener: TcpListener, stop: watch::Receiver<()>) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS)), stop, exchange: EXCHANGE }
    }
}

/// Resolves when the anchor stops.
pub async fn stopped(mut stop: watch::Receiver<()>) {
    while stop.changed().await.is_ok() {}
}

impl axum::serve::Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
            // Nobody closes the semaphore.
            return std::future::pending().await;
        };
        let (stream, peer) = loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => break (stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept HTTP connections; trying again every {PAUSE:?}");
                    sleep(PAUSE).await;
                }
            }
        };
        // Without it, only slower.
        stream.set_nodelay(true).unwrap_or(());
        let stop = self.stop.clone();
        let end = Box::pin(async move {
            stopped(stop).await;
            sleep(LAST_ANSWER).await;
        });
        let (patience, exchange) = (Box::pin(sleep(self.exchange)), self.exchange);
        (Visit { stream, end: Some(end), patience, exchange, answering: false, _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends by itself.
pub struct Visit {
    stream: TcpStream,
    /// The anchor stops. Present until that has come.
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// When the next answer must be through.
    patience: Pin<Box<Sleep>>,
    exchange: Duration,
    /// Part of an answer was written, and maybe not all of it.
    answering: bool,
    _place: OwnedSemaphorePermit,
}

impl Visit {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<Pin<&mut TcpStream>> {
        let over = match &mut self.end {
            None => true,
            Some(end) => end.as_mut().poll(context).is_ready(),
        };
        if over {
            self.end = None;
        }
        if over || self.patience.as_mut().poll(context).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "its time is up"));
        }
        Ok(Pin::new(&mut self.stream))
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?.poll_read(context, into)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.answering = true;
        self.check(context)?.poll_write(context, bytes)
    }

    /// The server flushes when it has handed over all that it had to say.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.check(context)?.poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) && std::mem::take(&mut self.answering) {
            let next = Instant::now() + self.exchange;
            self.patience.as_mut().reset(next);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?.poll_shutdown(context)
    }
}

/// When a connection was made.
#[derive(Clone, Copy, Debug)]
pub struct Since(pub Instant);

impl Connected<IncomingStream<'_, Door>> for Since {
    fn connect_info(_: IncomingStream<'_, Door>) -> Self {
        Self(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    /// A server that has little patience, and a large answer at `/`.
    async fn serve() -> (SocketAddr, watch::Sender<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (stop, stopped) = watch::channel(());
        let mut door = Door::new(listener, stopped);
        door.exchange = Duration::from_secs(1);
        door.places = Arc::new(Semaphore::new(2));
        let address = axum::serve::Listener::local_addr(&door).unwrap();
        let pages = Router::new().route("/", get(|| async { "x".repeat(32 << 20) })).route("/small", get(|| async {}));
        tokio::spawn(async move { axum::serve(door, pages).await });
        (address, stop)
    }

    fn connect(address: SocketAddr) -> Client {
        let client = Client::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_says_nothing_or_says_it_slowly_is_put_out() {
        let (address, _stop) = serve().await;
        blocking(move || {
            let mut silent = connect(address);
            assert_eq!(silent.read(&mut [0; 64]).unwrap_or(0), 0);
            let mut slow = connect(address);
            let mut sent = 0;
            while slow.write_all(b"GET / HTTP/1.1\r\nX: ".get(sent % 18..=sent % 18).unwrap()).is_ok() {
                sent += 1;
                assert!(sent < 1000, "still let in");
                std::thread::sleep(Duration::from_millis(50));
            }
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_does_not_read_the_answer_is_put_out_and_frees_the_place() {
        let (address, _stop) = serve().await;
        blocking(move || {
            let lazy: Vec<Client> = (0..2)
                .map(|_| {
                    let mut client = connect(address);
                    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
                    client
                })
                .collect();
            let mut patient = connect(address);
            patient.write_all(b"GET /small HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            patient.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            drop(lazy);
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_asks_again_in_time_stays_until_the_anchor_stops() {
        let (address, stop) = serve().await;
        blocking(move || {
            let mut client = connect(address);
            let mut ask = || {
                client.write_all(b"GET /small HTTP/1.1\r\nHost: a\r\n\r\n").ok()?;
                let mut answer = [0; 1024];
                client.read(&mut answer).ok().filter(|length| *length > 0)
            };
            for _ in 0..15 {
                assert!(ask().is_some());
                std::thread::sleep(Duration::from_millis(100));
            }
            drop(stop);
            std::thread::sleep(LAST_ANSWER + Duration::from_millis(300));
            assert!(ask().is_none());
        })
        .await;
    }
}
