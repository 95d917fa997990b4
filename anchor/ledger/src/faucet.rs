//! Asking a faucet for gas: one HTTP POST.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use iota_sdk::types::Address;
use serde::Deserialize;
use tokio::time::timeout;

use crate::error::LedgerError;

/// Faucets wait for their own transaction, and are often busy.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const LONGEST_ANSWER: usize = 64 * 1024;

/// What faucets answer, as far as it matters: the coin itself is found by looking what the address owns.
#[derive(Deserialize)]
struct Answer {
    error: Option<serde_json::Value>,
}

/// Asks for the fixed amount that the faucet gives. The coins come some time later.
pub(crate) async fn ask(url: &str, address: Address) -> Result<(), LedgerError> {
    let refused = |reason: String| LedgerError::Faucet { url: url.to_owned(), reason, address };
    match timeout(ANSWER_WITHIN, post(url, address)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(reason)) => Err(refused(reason)),
        Err(_) => Err(refused(format!("no answer within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

async fn post(url: &str, address: Address) -> Result<(), String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(provider)
        .map_err(|error| error.to_string())?
        .https_or_http()
        .enable_http1()
        .build();
    let body = serde_json::json!({ "FixedAmountRequest": { "recipient": address.to_string() } }).to_string();
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let response = client.request(request).await.map_err(|error| causes(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await.map_err(|error| error.to_string())?;
    let body = body.to_bytes();
    if !status.is_success() {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    match serde_json::from_slice::<Answer>(&body) {
        Ok(Answer { error: None | Some(serde_json::Value::Null) }) => Ok(()),
        Ok(Answer { error: Some(error) }) => Err(error.to_string()),
        Err(error) => Err(format!("its answer cannot be understood: {error}")),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut beneath = error.source();
    while let Some(error) = beneath {
        text = format!("{text}: {error}");
        beneath = error.source();
    }
    text
}
