//! Where faults happen to the calls of a node's services, and what every answer of a node says beside its content.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use iota_sdk_grpc_types::headers;
use iota_sdk_grpc_types::tonic::Status;
use tokio::sync::Notify;

use super::faults::{Call, Fate, FaultKind};
use super::rejection::Rejection;
use super::{NOT_IOTA, Shared};

/// A connection, which can be broken off from within.
#[derive(Clone, Default)]
pub(super) struct Connection(Arc<Notify>);

impl Connection {
    fn break_off(&self) {
        self.0.notify_one();
    }

    /// Completes when the connection is to end.
    pub(super) async fn broken_off(&self) {
        self.0.notified().await;
    }
}

/// Lets a call through, with the faults that happen to it. Those that take part in executing are left to the service,
/// which finds them as a [`Fate`] with the request.
pub(super) async fn faults(
    State(shared): State<Shared>,
    Extension(connection): Extension<Connection>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let call = match path.rsplit('/').next() {
        Some("ExecuteTransactions") => Call::Execute,
        Some("SimulateTransactions") => Call::Simulate,
        Some(_) | None => Call::Read,
    };
    let fate = shared.faults.next(call);
    if fate != Fate::default() {
        tracing::info!(?fate, path, "a fault on demand ({NOT_IOTA})");
    }
    if !fate.delay().is_zero() {
        tokio::time::sleep(fate.delay()).await;
    }
    if let Some(wait) = fate.rate_limit() {
        // More than a protobuf duration holds, nobody waits for.
        let wait = wait.and_then(|wait| wait.try_into().ok());
        return Status::from(Rejection::rate_limited(wait)).into_http();
    }
    if fate.has(FaultKind::Refuse) && call != Call::Execute {
        return Status::from(Rejection::overloaded()).into_http();
    }
    request.extensions_mut().insert(fate.clone());
    let mut response = next.run(request).await;
    if fate.has(FaultKind::DropAnswer) {
        connection.break_off();
        return std::future::pending().await;
    }
    about_the_chain(&shared, response.headers_mut());
    response
}

/// The headers with which a node says how far it is.
fn about_the_chain(shared: &Shared, answer: &mut HeaderMap) {
    let chain = shared.lock();
    for (name, value) in [
        (headers::X_IOTA_CHAIN_ID, chain.id().to_string()),
        (headers::X_IOTA_CHAIN, "mock".to_owned()),
        (headers::X_IOTA_EPOCH, "0".to_owned()),
        (headers::X_IOTA_CHECKPOINT_HEIGHT, chain.blocks().len().to_string()),
        (headers::X_IOTA_TIMESTAMP_MS, chain.last_ms().to_string()),
        (headers::X_IOTA_SERVER, NOT_IOTA.to_owned()),
    ] {
        if let Ok(value) = HeaderValue::try_from(value) {
            answer.insert(HeaderName::from_static(name), value);
        }
    }
}
