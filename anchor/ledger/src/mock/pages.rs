//! The mock's pages, at the paths of IOTA's explorer, and its faucet.

use std::fmt::Write as _;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use iota_sdk::types::framework::Coin;
use iota_sdk::types::{
    Address, ExecutionStatus, Object, ObjectId, Owner, Transaction, TransactionDigest, TransactionEffects,
};
use iota_sdk_grpc_types::tonic::Status;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::chain::{Block, Chain};
use super::rejection::Rejection;
use super::{NOT_IOTA, Shared};
use crate::audit_trail::{AuditTrail, Capability, Data, RecordAdded, RecordField, read, record_id};
use crate::network::Packages;

const PACKAGES: Packages = Packages::MOCK;
/// Records and transactions shown on one page: the newest.
const SHOWN: usize = 100;

/// Pages and faucet.
pub(super) fn router(chain: Shared) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/txblock/{digest}", get(transaction))
        .route("/object/{id}", get(object))
        .route("/address/{address}", get(address))
        // Real faucets have both.
        .route("/gas", post(faucet))
        .route("/v1/gas", post(faucet))
        .with_state(chain)
}

#[derive(Deserialize)]
struct FaucetRequest {
    #[serde(rename = "FixedAmountRequest")]
    fixed_amount_request: FixedAmountRequest,
}

#[derive(Deserialize)]
struct FixedAmountRequest {
    recipient: Address,
}

async fn faucet(
    State(chain): State<Shared>,
    Json(request): Json<FaucetRequest>,
) -> (StatusCode, Json<serde_json::Value>) {
    let recipient = request.fixed_amount_request.recipient;
    match chain.lock().give(recipient) {
        Ok((digest, coins)) => {
            tracing::info!(%recipient, coins = coins.len(), "the faucet gave ({NOT_IOTA})");
            let coins = coins
                .into_iter()
                .map(|(id, amount)| serde_json::json!({ "amount": amount, "id": id, "transferTxDigest": digest }));
            let coins: Vec<_> = coins.collect();
            (StatusCode::CREATED, Json(serde_json::json!({ "transferredGasObjects": coins, "error": null })))
        }
        Err(rejection) => {
            let error = rejection.message;
            let answer = serde_json::json!({ "transferredGasObjects": [], "error": error });
            (StatusCode::INTERNAL_SERVER_ERROR, Json(answer))
        }
    }
}

type Answer = (StatusCode, Html<String>);

/// For paths of neither a page nor a service that the mock has.
pub(super) async fn nothing_here(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        return Status::from(Rejection::beyond_the_mock(request.uri().path())).into_http();
    }
    not_found(&format!("nothing at {}", request.uri().path())).into_response()
}

async fn front(State(chain): State<Shared>) -> Answer {
    let chain = chain.lock();
    let mut page = Page::new("Mock ledger");
    page.fact("Chain", &chain.name());
    page.fact("Transactions", &chain.blocks().len().to_string());
    let trails: Vec<_> = chain.objects().filter_map(|it| read::<AuditTrail>(it, &PACKAGES.trail())?.ok()).collect();
    page.fact("Audit trails", &trails.len().to_string());
    page.heading("Audit trails");
    for trail in &trails {
        let name = trail.immutable_metadata.as_ref().map_or("(no name)", |metadata| &metadata.name);
        page.link(&format!("/object/{}", trail.id), &format!("{name}: {} records", trail.records.size));
    }
    page.heading("Newest transactions");
    for block in chain.blocks().iter().rev().take(SHOWN) {
        page.transaction_link(block);
    }
    page.answer()
}

async fn transaction(State(chain): State<Shared>, Path(digest): Path<String>) -> Answer {
    let chain = chain.lock();
    let Some((checkpoint, block)) = digest.parse().ok().and_then(|digest: TransactionDigest| chain.find(digest)) else {
        return not_found(&format!("no transaction {digest}"));
    };
    let mut page = Page::new("Transaction");
    page.fact("Digest", &digest);
    page.fact("Status", &status(block));
    page.fact("Time", &time(block.time_ms));
    page.fact("Checkpoint", &checkpoint.to_string());
    if let Transaction::V1(transaction) = &block.signed.transaction {
        page.linked_fact("Sender", &format!("/address/{}", transaction.sender), &transaction.sender.to_string());
    }
    if let TransactionEffects::V1(effects) = &block.effects {
        let gas = &effects.gas_cost_summary;
        page.fact("Computation", &format!("{} NANOS", gas.computation_cost));
        page.fact("Storage", &format!("{} NANOS", gas.storage_cost));
        page.fact("Storage rebate", &format!("{} NANOS", gas.storage_rebate));
        page.fact("Paid", &format!("{} NANOS", gas.net_gas_usage()));
    }
    for event in &block.events.0 {
        page.heading(&format!("Event {}", event.struct_tag.name().as_str()));
        if event.struct_tag == PACKAGES.record_added()
            && let Ok(added) = bcs::from_bytes::<RecordAdded>(&event.contents)
        {
            page.linked_fact("Trail", &format!("/object/{}", added.trail_id), &added.trail_id.to_string());
            page.fact("Record", &added.sequence_number.to_string());
            let written = block.written.iter().find_map(|it| record(it).filter(|it| it.name == added.sequence_number));
            if let Some(field) = written {
                page.record(&field);
            }
        } else {
            page.fact("Type", &event.struct_tag.to_string());
        }
    }
    page.heading("Objects written");
    for object in &block.written {
        page.object_link(object);
    }
    page.answer()
}

async fn object(State(chain): State<Shared>, Path(id): Path<String>) -> Answer {
    let chain = chain.lock();
    let Some(object) = id.parse().ok().and_then(|id: ObjectId| chain.object(id)) else {
        return not_found(&format!("no object {id} (any more)"));
    };
    let mut page = Page::new("Object");
    page.fact("Id", &object.id().to_string());
    page.fact("Type", &object.struct_tag().map_or_else(String::new, |tag| tag.to_string()));
    page.fact("Version", &object.version().to_string());
    page.fact("Digest", &object.digest().to_string());
    page.owner(object.owner);
    let changed = object.previous_transaction;
    page.linked_fact("Last changed by", &format!("/txblock/{changed}"), &changed.to_string());
    if let Ok(coin) = Coin::try_from_object(object) {
        page.fact("Balance", &format!("{} NANOS", coin.balance()));
    }
    if let Some(Ok(capability)) = read::<Capability>(object, &PACKAGES.capability()) {
        page.fact("Role", &capability.role);
        page.linked_fact("Trail", &format!("/object/{}", capability.target_key), &capability.target_key.to_string());
        page.fact("Issued to", &capability.issued_to.map_or_else(|| "anybody".to_owned(), |it| it.to_string()));
    }
    if let Some(field) = record(object) {
        page.record(&field);
    }
    if let Some(Ok(trail)) = read::<AuditTrail>(object, &PACKAGES.trail()) {
        page.trail(&chain, &trail);
    }
    page.answer()
}

async fn address(State(chain): State<Shared>, Path(text): Path<String>) -> Answer {
    let Ok(address) = text.parse::<Address>() else { return not_found(&format!("{text} is no address")) };
    let chain = chain.lock();
    let mut page = Page::new("Address");
    page.fact("Address", &address.to_string());
    let coins = chain.owned_by(address).filter_map(|object| Coin::try_from_object(object).ok());
    page.fact("Balance", &format!("{} NANOS", coins.map(|coin| coin.balance()).sum::<u64>()));
    page.heading("Objects");
    for object in chain.owned_by(address) {
        page.object_link(object);
    }
    page.heading("Newest transactions");
    let own = |block: &&Block| matches!(&block.signed.transaction, Transaction::V1(it) if it.sender == address);
    for block in chain.blocks().iter().rev().filter(own).take(SHOWN) {
        page.transaction_link(block);
    }
    page.answer()
}

fn record(object: &Object) -> Option<RecordField> {
    read::<RecordField>(object, &PACKAGES.record_field())?.ok()
}

fn status(block: &Block) -> String {
    match &block.effects.as_v1().status {
        ExecutionStatus::Failure { error, command: Some(command) } => format!("failure in command {command}: {error}"),
        ExecutionStatus::Failure { error, command: None } => format!("failure: {error}"),
        _ => "success".to_owned(),
    }
}

/// A time on the ledger's clock, which counts Unix milliseconds.
fn time(ms: u64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    let readable = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok().and_then(|time| time.format(&Rfc3339).ok());
    readable.unwrap_or_else(|| format!("{ms} ms after 1970"))
}

fn not_found(what: &str) -> Answer {
    let mut page = Page::new("Not found");
    page.fact("There is", what);
    let (_, html) = page.answer();
    (StatusCode::NOT_FOUND, html)
}

/// A page in the making.
struct Page(String);

impl Page {
    fn new(title: &str) -> Self {
        let title = escaped(title);
        Self(format!(
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
             content='width=device-width,initial-scale=1'><title>{title} – {NOT_IOTA}</title><style>\
             body{{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:auto;padding:1em}}\
             .note{{background:#fd6;color:#000;padding:.5em 1em;font-weight:bold}}\
             dt{{font-weight:bold}}dd,p{{overflow-wrap:anywhere}}pre{{background:#8882;padding:1em;overflow:auto}}\
             </style><p class=note>{NOT_IOTA}</p><p><a href='/'>Mock ledger</a></p><h1>{title}</h1>"
        ))
    }

    fn push(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(arguments);
    }

    fn heading(&mut self, text: &str) {
        self.push(format_args!("<h2>{}</h2>", escaped(text)));
    }

    fn fact(&mut self, name: &str, value: &str) {
        self.push(format_args!("<dl><dt>{}</dt><dd>{}</dd></dl>", escaped(name), escaped(value)));
    }

    fn linked_fact(&mut self, name: &str, to: &str, value: &str) {
        let (name, to, value) = (escaped(name), escaped(to), escaped(value));
        self.push(format_args!("<dl><dt>{name}</dt><dd><a href='{to}'>{value}</a></dd></dl>"));
    }

    fn link(&mut self, to: &str, text: &str) {
        self.push(format_args!("<p><a href='{}'>{}</a></p>", escaped(to), escaped(text)));
    }

    fn transaction_link(&mut self, block: &Block) {
        let digest = block.signed.transaction.digest();
        let kinds: Vec<_> = block.events.0.iter().map(|event| event.struct_tag.name().as_str()).collect();
        let failed = if block.effects.as_v1().status.is_success() { "" } else { " (failed)" };
        let text = format!("{} {digest} {}{failed}", time(block.time_ms), kinds.join(", "));
        self.link(&format!("/txblock/{digest}"), &text);
    }

    fn object_link(&mut self, object: &Object) {
        let kind = object.struct_tag().map_or_else(String::new, |tag| tag.name().as_str().to_owned());
        self.link(&format!("/object/{}", object.id()), &format!("{kind} {}", object.id()));
    }

    fn owner(&mut self, owner: Owner) {
        match owner {
            Owner::Address(address) => self.linked_fact("Owner", &format!("/address/{address}"), &address.to_string()),
            Owner::Object(id) => self.linked_fact("Owner", &format!("/object/{id}"), &format!("object {id}")),
            Owner::Shared(version) => self.fact("Owner", &format!("shared since version {version}")),
            other => self.fact("Owner", &other.to_string()),
        }
    }

    fn record(&mut self, field: &RecordField) {
        self.fact("Sequence number", &field.record.sequence_number.to_string());
        self.fact("Added", &time(field.record.added_at));
        let adder = field.record.added_by;
        self.linked_fact("By", &format!("/address/{adder}"), &adder.to_string());
        if let Some(metadata) = &field.record.metadata {
            self.fact("Metadata", metadata);
        }
        match &field.record.data {
            Data::Text(text) => self.push(format_args!("<pre>{}</pre>", escaped(text))),
            Data::Bytes(bytes) => self.fact("Bytes", &bytes.len().to_string()),
        }
    }

    fn trail(&mut self, chain: &Chain, trail: &AuditTrail) {
        self.heading("Audit trail");
        if let Some(metadata) = &trail.immutable_metadata {
            self.fact("Name", &metadata.name);
            self.push(format_args!("<pre>{}</pre>", escaped(metadata.description.as_deref().unwrap_or_default())));
        }
        self.fact("Created", &time(trail.created_at));
        self.fact("Records that cannot be deleted", &format!("{:?}", trail.locking.delete_record_window));
        self.fact("Lock against deleting the trail", &format!("{:?}", trail.locking.delete_trail_lock));
        for (name, role) in &trail.roles.roles {
            self.fact(&format!("Role {name}"), &format!("{:?}", role.permissions));
        }
        let admins = trail.roles.initial_admin_cap_ids.len();
        self.fact("Capabilities of the admin role", &admins.to_string());
        self.heading(&format!("Records: {}, the newest first", trail.records.size));
        for number in (0..trail.sequence_number).rev().take(SHOWN) {
            if let Some(field) = chain.object(record_id(trail.records.id, number)).and_then(record) {
                self.link(&format!("/object/{}", field.id), &format!("Record {number}"));
                self.record(&field);
            }
        }
    }

    fn answer(self) -> Answer {
        (StatusCode::OK, Html(self.0))
    }
}

/// Text that means nothing to a browser, also between single quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}
