//! The log over HTTP, as C2SP tlog-tiles says (section APIs), so that mirrors, verifiers and other people's tools read
//! it.
//!
//! | path | what | for whom | kept by caches |
//! |---|---|---|---|
//! | `/checkpoint` | the newest signed head | everybody | no more than seconds |
//! | `/tile/<L>/<N>[.p/<W>]` | hashes | everybody | for ever |
//! | `/tile/entries/<N>[.p/<W>]` | the entries, in gzip | this machine, or who has the token | for ever, by the reader alone |
//! | `/site.policy` | what a verifier starts from; take it from a source that you trust | everybody | for seconds |
//! | `/metrics` | figures for Prometheus | everybody | no |
//! | `/healthz` | 200 while the anchor works | everybody | no |
//! | `/` | a page for a person | everybody | no |
//!
//! Only what the newest checkpoint covers is served. A partial tile is served for any size up to that, as long as its
//! full tile was not dropped. GET and HEAD alone; what else is asked for is 404, 405 or 401, with a sentence that says
//! why.
//!
//! None of this touches the recorder: files are read on threads of their own, few at a time, and [`door`] bounds
//! what a slow or hostile client can hold.

mod access;
mod door;
mod files;
mod metrics;
mod page;
mod refusal;
mod settings;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
    LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::hex::hex;
use crate::recorder::Progress;
use crate::tile::{Level, Tile};
use access::Access;
use door::{Door, Since, stopped};
use files::{Files, NotServed};
use refusal::Refusal;
pub use settings::{BadToken, HttpSettings, Token};

/// How many files are read at a time.
const READERS: usize = 4;
/// A connection that is older is closed with its next answer, so that places change hands.
const LONGEST_VISIT: Duration = Duration::from_secs(60);
/// The recorder looks at the time much more often than this, unless the disk or something else holds it up.
const HEALTHY_WITHIN: Duration = Duration::from_secs(10);

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// The format of Prometheus' page (OpenMetrics 1.0, section *protocol negotiation*).
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const SECONDS: &str = "public, max-age=2";
const FOR_EVER: &str = "public, max-age=31536000, immutable";
const FOR_EVER_BY_READER: &str = "private, max-age=31536000, immutable";

/// Why the log cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] BadToken),
    /// The address cannot be had.
    #[error("cannot listen on http.listen = {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// A bound socket; nobody is served yet.
pub struct Http {
    listener: TcpListener,
    address: SocketAddr,
    token: Option<Token>,
    data_dir: PathBuf,
}

/// A running server. It ends soon after this is dropped.
pub struct Serving {
    address: SocketAddr,
    _stop: watch::Sender<()>,
}

impl Serving {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Http {
    /// Takes the address.
    pub async fn bind(settings: &HttpSettings, data_dir: PathBuf) -> Result<Self, HttpError> {
        let token = settings.token()?;
        let refused = |source| HttpError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        Ok(Self { listener, address, token, data_dir })
    }

    /// Serves the log of an anchor that tells its progress.
    pub fn serve(self, progress: watch::Receiver<Progress>) -> Serving {
        let Self { listener, address, token, data_dir } = self;
        let site = Site {
            files: Files::new(data_dir),
            access: Arc::new(Access::new(token, address)),
            readers: Arc::new(Semaphore::new(READERS)),
            progress,
        };
        let pages = Router::new()
            .route("/", get(front_page))
            .route("/checkpoint", get(checkpoint))
            .route("/site.policy", get(policy))
            .route("/metrics", get(figures))
            .route("/healthz", get(health))
            .fallback(get(tile))
            .layer(from_fn(part_in_time))
            .with_state(site);
        let (stop, is_stopped) = watch::channel(());
        let door = Door::new(listener, is_stopped.clone());
        tracing::info!("serving the log at http://{address}/");
        tokio::spawn(async move {
            let service = pages.into_make_service_with_connect_info::<Since>();
            if let Err(error) = axum::serve(door, service).with_graceful_shutdown(stopped(is_stopped)).await {
                tracing::error!(%error, "the log is not served any more");
            }
        });
        Serving { address, _stop: stop }
    }
}

#[derive(Clone)]
struct Site {
    files: Files,
    access: Arc<Access>,
    readers: Arc<Semaphore>,
    progress: watch::Receiver<Progress>,
}

impl Site {
    /// Reads files where nobody else waits for the disk.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Files) -> Result<T, NotServed> + Send + 'static,
    ) -> Result<T, Refusal> {
        let files = self.files.clone();
        let reader = Arc::clone(&self.readers).acquire_owned().await;
        let read = tokio::task::spawn_blocking(move || {
            let read = work(&files);
            drop(reader);
            read
        });
        let read = read.await.map_err(|error| Refusal::Failed(error.to_string()))?;
        if let Err(error @ (NotServed::Damaged { .. } | NotServed::Unreadable { .. })) = &read {
            tracing::warn!(%error, "cannot serve a file of the log");
        }
        Ok(read?)
    }
}

/// Closes a connection that has lasted long enough, after this answer.
async fn part_in_time(ConnectInfo(Since(since)): ConnectInfo<Since>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if since.elapsed() > LONGEST_VISIT {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn checkpoint(State(site): State<Site>, headers: HeaderMap) -> Result<Response, Refusal> {
    let files::CheckpointFile { note, written } = site.read(Files::checkpoint).await?;
    let tag = format!("\"{}\"", hex(&Sha256::digest(&note)[..16]));
    let known = headers.get(IF_NONE_MATCH).and_then(|known| known.to_str().ok()).unwrap_or_default();
    let same = known.split(',').any(|known| [tag.as_str(), "*"].contains(&known.trim().trim_start_matches("W/")));
    let about = [
        (CONTENT_TYPE, TEXT.to_owned()),
        (CACHE_CONTROL, SECONDS.to_owned()),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
        (LAST_MODIFIED, http_date(written)),
        (ETAG, tag),
    ];
    Ok(if same { (StatusCode::NOT_MODIFIED, about).into_response() } else { (about, note).into_response() })
}

/// A date as HTTP writes it (RFC 9110 section 5.6.7).
fn http_date(at: SystemTime) -> String {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    OffsetDateTime::from(at).format(format).unwrap_or_default()
}

async fn policy(State(site): State<Site>) -> Result<Response, Refusal> {
    let policy = site.read(Files::policy).await?;
    let about = [(CONTENT_TYPE, TEXT), (CACHE_CONTROL, SECONDS), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    Ok((about, policy).into_response())
}

async fn tile(State(site): State<Site>, uri: Uri, headers: HeaderMap) -> Result<Response, Refusal> {
    let Some(tile) = uri.path().strip_prefix('/').and_then(Tile::from_path) else {
        return Err(Refusal::NoSuchPath);
    };
    if tile.level == Level::Entries {
        site.access.check(&headers)?;
    }
    let bytes = site.read(move |files| files.tile(tile)).await?;
    Ok(match tile.level {
        Level::Entries => {
            let about = [(CONTENT_TYPE, BYTES), (CONTENT_ENCODING, "gzip"), (CACHE_CONTROL, FOR_EVER_BY_READER)];
            (about, bytes).into_response()
        }
        Level::Hashes(_) => {
            let about = [(CONTENT_TYPE, BYTES), (CACHE_CONTROL, FOR_EVER), (ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
            (about, bytes).into_response()
        }
    })
}

async fn front_page(State(site): State<Site>, headers: HeaderMap) -> Result<Response, Refusal> {
    let state = site
        .read(|files| {
            let minimum = files.minimum_index().unwrap_or(0);
            files.checkpoint().map(|checkpoint| (checkpoint, minimum))
        })
        .await?;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let (checkpoint, minimum_index) = state;
    Ok(page::page(&checkpoint, minimum_index, host, site.access.is_by_token()).into_response())
}

async fn figures(State(site): State<Site>) -> Result<Response, Refusal> {
    let progress = *site.progress.borrow();
    let (journal_bytes, minimum_index) =
        site.read(|files| Ok((files.journal_length(), files.minimum_index().unwrap_or(0)))).await?;
    let page = metrics::page(&progress, journal_bytes, minimum_index);
    let page = page.map_err(|error| Refusal::Failed(error.to_string()))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS), (CACHE_CONTROL, "no-store")], page).into_response())
}

/// Well is an anchor whose recorder still looks at the time.
async fn health(State(site): State<Site>) -> Result<Response, Refusal> {
    let mut progress = site.progress;
    progress.mark_unchanged();
    match timeout(HEALTHY_WITHIN, progress.changed()).await {
        Ok(Ok(())) => Ok(([(CACHE_CONTROL, "no-store")], "ok\n").into_response()),
        Ok(Err(_)) => Err(Refusal::Unwell("the recorder has ended".to_owned())),
        Err(_) => {
            Err(Refusal::Unwell(format!("the recorder has not moved for {HEALTHY_WITHIN:?}: is the disk stuck?")))
        }
    }
}
