//! What we ask a node, through the SDK's gRPC client; answers as values, failures sorted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use iota_sdk::grpc_client::read_mask_fields::{ServiceInfoField, SimulateField, TransactionField};
use iota_sdk::grpc_client::tonic::Code;
use iota_sdk::grpc_client::{GrpcClient, GrpcError};
use iota_sdk::grpc_types::v1::transaction::ExecutedTransaction;
use iota_sdk::transaction_builder::{
    TransactionBuilderExecutionClient, TransactionBuilderLedgerClient, WaitForTransaction,
};
use iota_sdk::types::framework::Coin;
use iota_sdk::types::{
    Address, Event, Object, ObjectId, ObjectReference, SignedTransaction, StructTag, Transaction, TransactionDigest,
    TransactionEffects, TransactionEffectsV1,
};
use iota_sdk_grpc_types::google::rpc::{RetryInfo, Status as RpcStatus};
use iota_sdk_grpc_types::prost::Message;
use tokio::time::timeout;

use crate::error::LedgerError;

/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long executing may take, which waits for consensus, and how long a node may take to show what it did.
const EXECUTED_WITHIN: Duration = Duration::from_secs(30);
/// The longest that a node may ask us to stay away.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Objects asked for at once.
pub(crate) const OBJECTS_AT_ONCE: usize = 50;
/// Pages of coins looked at. Who owns more than a few thousand coins has a problem that we cannot solve.
const COIN_PAGES: usize = 100;

/// A node.
#[derive(Clone)]
pub(crate) struct Node {
    client: GrpcClient,
    endpoint: Arc<str>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.endpoint)
    }
}

/// A transaction that is on the ledger.
#[derive(Clone, Debug)]
pub(crate) struct Executed {
    pub(crate) effects: TransactionEffectsV1,
    pub(crate) events: Vec<Event>,
}

/// What came of handing in a transaction.
#[derive(Debug)]
pub(crate) enum Submission {
    /// It is on the ledger; whether it succeeded, its status says.
    Executed(Box<Executed>),
    /// The node will not have it.
    Refused(String),
    /// No answer, or one that does not say.
    Unclear(LedgerError),
}

/// A coin of IOTA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GasCoin {
    pub(crate) reference: ObjectReference,
    pub(crate) balance: u64,
}

impl Node {
    /// Connects when first asked.
    pub(crate) fn new(endpoint: &str) -> Result<Self, LedgerError> {
        let client = GrpcClient::new(endpoint).map_err(|error| unreachable(endpoint, &error))?;
        Ok(Self { client, endpoint: endpoint.into() })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The chain that it serves: the first four bytes of the genesis checkpoint's digest, in hex.
    pub(crate) async fn chain(&self) -> Result<String, LedgerError> {
        let answer = self.ask(async { self.client.service_info().await }).await?;
        let digest = answer.body().chain_identifier().map_err(|error| self.unexpected(error))?;
        Ok(digest.bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect())
    }

    /// The newest versions of objects, in order; `None` for those that are not there.
    pub(crate) async fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Option<Object>>, LedgerError> {
        let mut objects = Vec::with_capacity(ids.len());
        for ids in ids.chunks(OBJECTS_AT_ONCE) {
            let ids: Vec<_> = ids.iter().map(|id| (*id, None)).collect();
            objects.extend(self.ask(self.client.objects_by_id(&ids)).await?);
        }
        Ok(objects)
    }

    pub(crate) async fn object(&self, id: ObjectId) -> Result<Option<Object>, LedgerError> {
        Ok(self.objects(&[id]).await?.pop().flatten())
    }

    /// All coins of an address, the largest first.
    pub(crate) async fn coins(&self, owner: Address) -> Result<Vec<GasCoin>, LedgerError> {
        let (mut coins, mut cursor) = (Vec::new(), None);
        for _ in 0..COIN_PAGES {
            let tag = Some(StructTag::new_gas_coin());
            let page =
                self.ask(TransactionBuilderLedgerClient::objects(&self.client, tag, owner, cursor, None)).await?;
            for object in &page.data {
                let coin = Coin::try_from_object(object).map_err(|error| self.unexpected(error))?;
                coins.push(GasCoin { reference: object.object_ref(), balance: coin.balance() });
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        coins.sort_by_key(|coin| (std::cmp::Reverse(coin.balance), coin.reference.object_id));
        Ok(coins)
    }

    /// NANOS per unit of computation in this epoch.
    pub(crate) async fn gas_price(&self) -> Result<u64, LedgerError> {
        let price = self.ask(TransactionBuilderLedgerClient::reference_gas_price(&self.client, None)).await?;
        price.ok_or_else(|| self.unexpected("an epoch without gas price"))
    }

    /// The time of the newest checkpoint that the node has executed, in Unix milliseconds.
    pub(crate) async fn clock(&self) -> Result<u64, LedgerError> {
        let question = self.client.service_info().read_mask(ServiceInfoField::EXECUTED_CHECKPOINT_TIMESTAMP);
        let answer = self.ask(async { question.await }).await?;
        let time = answer.body().executed_checkpoint_timestamp.as_ref();
        let time = time.ok_or_else(|| self.unexpected("a newest checkpoint without time"))?;
        let millis = i128::from(time.seconds) * 1000 + i128::from(time.nanos) / 1_000_000;
        u64::try_from(millis).map_err(|_| self.unexpected(format!("a checkpoint {millis} ms after 1970")))
    }

    /// What would come of a transaction, or why the node would not have it. All checks on: one that would abort shows it
    /// here, for free.
    pub(crate) async fn simulate(
        &self,
        transaction: &Transaction,
    ) -> Result<Result<TransactionEffectsV1, String>, LedgerError> {
        let question = self
            .client
            .simulate_transaction(transaction.clone())
            .read_mask(SimulateField::EXECUTED_TRANSACTION_EFFECTS_BCS);
        let answer = match timeout(ANSWER_WITHIN, async { question.await }).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if is_final(&error) || is_about_inputs(&error) => return Ok(Err(message(&error))),
            Ok(Err(error)) => return Err(self.failed(&error)),
            Err(_) => return Err(self.silent(ANSWER_WITHIN)),
        };
        let executed = answer.body().executed_transaction().map_err(|error| self.unexpected(error))?;
        Ok(Ok(self.effects(executed)?))
    }

    /// Hands in a transaction. The same one may be handed in again: it is executed once, and the answer is the same.
    pub(crate) async fn execute(&self, signed: SignedTransaction) -> Submission {
        let question = self
            .client
            .execute_transaction(signed)
            .read_mask([TransactionField::EFFECTS_BCS, TransactionField::EVENTS_EVENTS_BCS]);
        match timeout(EXECUTED_WITHIN, async { question.await }).await {
            Err(_) => Submission::Unclear(self.silent(EXECUTED_WITHIN)),
            Ok(Err(error)) if is_final(&error) => Submission::Refused(message(&error)),
            Ok(Err(error)) => Submission::Unclear(self.failed(&error)),
            Ok(Ok(answer)) => match self.executed(answer.body()) {
                Ok(executed) => Submission::Executed(Box::new(executed)),
                Err(error) => Submission::Unclear(error),
            },
        }
    }

    /// A transaction that was executed before; `None` if the node does not know it.
    pub(crate) async fn transaction(&self, digest: TransactionDigest) -> Result<Option<Executed>, LedgerError> {
        let question = self
            .client
            .transactions([digest])
            .read_mask([TransactionField::EFFECTS_BCS, TransactionField::EVENTS_EVENTS_BCS]);
        let answer = self.ask(async { question.await }).await?.into_inner().pop();
        match answer {
            Some(Ok(executed)) => Ok(Some(self.executed(&executed)?)),
            Some(Err(error)) if error.is_not_found() => Ok(None),
            Some(Err(error)) => Err(self.failed(&error)),
            None => Err(self.unexpected("no result for a transaction")),
        }
    }

    /// Waits until the node shows what a transaction did. A node answers for the validators before it has caught up.
    pub(crate) async fn settled(&self, digest: TransactionDigest) -> Result<(), LedgerError> {
        let shown = self.client.wait_for_transaction(digest, WaitForTransaction::IndexedOnNode);
        match timeout(EXECUTED_WITHIN, shown).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.behind(format!("transaction {digest}, which was executed"))),
        }
    }

    fn executed(&self, executed: &ExecutedTransaction) -> Result<Executed, LedgerError> {
        let effects = self.effects(executed)?;
        // A transaction without events, such as one that aborted, has no list of them.
        let events = match &executed.events {
            Some(events) if events.events.is_some() => events.events().map_err(|error| self.unexpected(error))?.0,
            Some(_) | None => Vec::new(),
        };
        Ok(Executed { effects, events })
    }

    fn effects(&self, executed: &ExecutedTransaction) -> Result<TransactionEffectsV1, LedgerError> {
        let effects = executed.effects().map_err(|error| self.unexpected(error))?;
        match effects.effects().map_err(|error| self.unexpected(error))? {
            TransactionEffects::V1(effects) => Ok(*effects),
            other => Err(self.unexpected(format!("effects of a version from after this program: {other:?}"))),
        }
    }

    async fn ask<T>(&self, question: impl Future<Output = Result<T, GrpcError>>) -> Result<T, LedgerError> {
        match timeout(ANSWER_WITHIN, question).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.silent(ANSWER_WITHIN)),
        }
    }

    fn failed(&self, error: &GrpcError) -> LedgerError {
        if is_rate_limit(error) {
            let (endpoint, retry_after) = (self.endpoint().to_owned(), retry_after(error));
            return LedgerError::RateLimited { endpoint, reason: message(error), retry_after };
        }
        match code(error) {
            Some(Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) => unreachable(&self.endpoint, error),
            _ => self.unexpected(message(error)),
        }
    }

    fn silent(&self, waited: Duration) -> LedgerError {
        let reason = format!("no answer within {} s", waited.as_secs());
        LedgerError::Unreachable { endpoint: self.endpoint().to_owned(), reason }
    }

    /// The node does not show what we know is there.
    pub(crate) fn behind(&self, missing: String) -> LedgerError {
        LedgerError::Behind { endpoint: self.endpoint().to_owned(), missing }
    }

    pub(crate) fn unexpected(&self, reason: impl ToString) -> LedgerError {
        LedgerError::Unexpected { endpoint: self.endpoint().to_owned(), reason: reason.to_string() }
    }
}

fn unreachable(endpoint: &str, error: &GrpcError) -> LedgerError {
    LedgerError::Unreachable { endpoint: endpoint.to_owned(), reason: message(error) }
}

/// The status code of a failed call, or of a failed item in a call that went well.
fn code(error: &GrpcError) -> Option<Code> {
    match error {
        GrpcError::Server(status) => Some(Code::from_i32(status.code)),
        GrpcError::Grpc(status) => Some(status.code()),
        _ => None,
    }
}

/// Whether the node will not have a transaction, which does not get better by waiting. Everything else may have reached
/// the validators; also ABORTED, by which a node says that they hold objects for a conflicting transaction:
/// when that is over, the same bytes are executed or refused.
fn is_final(error: &GrpcError) -> bool {
    match code(error) {
        Some(
            Code::InvalidArgument
            | Code::OutOfRange
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented,
        ) => true,
        Some(_) | None => false,
    }
}

/// Whether a simulation went wrong for what the transaction names: nodes call that INTERNAL, so only the words tell it
/// from an error of their own. Nothing was handed in.
fn is_about_inputs(error: &GrpcError) -> bool {
    code(error) == Some(Code::Internal) && message(error).contains("Error checking transaction input objects")
}

/// By the node itself, also when all that come are too many for it, and it says when to come again; or by an HTTP gateway
/// before it: tonic calls the latter's status 429 "unavailable".
fn is_rate_limit(error: &GrpcError) -> bool {
    match (code(error), error) {
        (Some(Code::ResourceExhausted), _) => true,
        (Some(Code::Unavailable), _) if retry_info(error).is_some() => true,
        (Some(Code::Unavailable), GrpcError::Grpc(status)) => status.message().contains("HTTP status code 429"),
        _ => false,
    }
}

/// How long a node that limits us says to wait: `retry-after` in seconds as in HTTP (RFC 9110, section 10.2.3), or
/// `grpc-retry-pushback-ms` (gRPC proposal A6), or what [`retry_info`] finds.
fn retry_after(error: &GrpcError) -> Option<Duration> {
    let number = |name: &str| {
        let GrpcError::Grpc(status) = error else { return None };
        status.metadata().get(name)?.to_str().ok()?.trim().parse::<u64>().ok()
    };
    let asked_for = number("retry-after").map(Duration::from_secs);
    let asked_for = asked_for.or_else(|| number("grpc-retry-pushback-ms").map(Duration::from_millis));
    asked_for.or_else(|| retry_info(error)).map(|wait| wait.min(LONGEST_RETRY_AFTER))
}

/// The `google.rpc.RetryInfo` among the details of a failed item, or of a failed call (`grpc-status-details-bin`).
fn retry_info(error: &GrpcError) -> Option<Duration> {
    let read = |status: &RpcStatus| {
        let info: RetryInfo = status.details.iter().find_map(|detail| detail.to_msg().ok())?;
        info.retry_delay?.try_into().ok()
    };
    match error {
        GrpcError::Server(status) => read(status),
        GrpcError::Grpc(status) => read(&RpcStatus::decode(status.details()).ok()?),
        _ => None,
    }
}

/// What a failure says, with what lies beneath it: tonic hides the reason of a failed connection there.
fn message(error: &GrpcError) -> String {
    let mut text = match error {
        GrpcError::Server(status) => status.message.clone(),
        GrpcError::Grpc(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    let mut beneath = match error {
        GrpcError::Grpc(status) => std::error::Error::source(status.as_ref()),
        other => std::error::Error::source(other),
    };
    while let Some(error) = beneath {
        let more = error.to_string();
        if !text.contains(&more) {
            text = if text.is_empty() { more } else { format!("{text}: {more}") };
        }
        beneath = error.source();
    }
    text
}
