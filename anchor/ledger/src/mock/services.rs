//! The gRPC services of a node, as far as the mock plays them.

use std::collections::BTreeMap;

use axum::Router;
use futures::stream::{self, Iter};
use iota_sdk::types::{
    Address, ExecutionStatus, ObjectId, SignedTransaction, StructTag, Transaction, TransactionDigest,
};
use iota_sdk_grpc_types::field::FieldMaskTree;
use iota_sdk_grpc_types::read_masks::{
    EXECUTE_TRANSACTIONS_READ_MASK, GET_EPOCH_READ_MASK, GET_OBJECTS_READ_MASK, GET_SERVICE_INFO_READ_MASK,
    GET_TRANSACTIONS_READ_MASK, LIST_OWNED_OBJECTS_READ_MASK, SIMULATE_TRANSACTIONS_READ_MASK,
};
use iota_sdk_grpc_types::tonic::{Request, Response, Status, async_trait, service::Routes};
use iota_sdk_grpc_types::v1::epoch::{Epoch, ProtocolAttributes, ProtocolConfig};
use iota_sdk_grpc_types::v1::ledger_service::ledger_service_server::{LedgerService, LedgerServiceServer};
use iota_sdk_grpc_types::v1::ledger_service::{
    CheckpointData, GetCheckpointRequest, GetEpochRequest, GetEpochResponse, GetHealthRequest, GetHealthResponse,
    GetObjectsRequest, GetObjectsResponse, GetServiceInfoRequest, GetServiceInfoResponse, GetTransactionsRequest,
    GetTransactionsResponse, ObjectRequest, ObjectResult, StreamCheckpointsRequest, TransactionResult,
};
use iota_sdk_grpc_types::v1::object::Object;
use iota_sdk_grpc_types::v1::state_service::state_service_server::{StateService, StateServiceServer};
use iota_sdk_grpc_types::v1::state_service::{
    GetCoinInfoRequest, GetCoinInfoResponse, ListDynamicFieldsRequest, ListDynamicFieldsResponse,
    ListOwnedObjectsRequest, ListOwnedObjectsResponse,
};
use iota_sdk_grpc_types::v1::transaction::ExecutedTransaction;
use iota_sdk_grpc_types::v1::transaction_execution_service::simulate_transaction_item::TransactionCheckModes;
use iota_sdk_grpc_types::v1::transaction_execution_service::transaction_execution_service_server::{
    TransactionExecutionService, TransactionExecutionServiceServer,
};
use iota_sdk_grpc_types::v1::transaction_execution_service::{
    ExecuteTransactionItem, ExecuteTransactionResult, ExecuteTransactionsRequest, ExecuteTransactionsResponse,
    SimulateTransactionItem, SimulateTransactionResult, SimulateTransactionsRequest, SimulateTransactionsResponse,
    SimulatedTransaction, ViewFunctionCallsRequest, ViewFunctionCallsResponse,
};
use iota_sdk_grpc_types::v1::types;

use super::chain::Chain;
use super::check::Wanted;
use super::faults::{Fate, FaultKind};
use super::limits::{self, GAS_PRICE};
use super::refusal::Refusal;
use super::rejection::Rejection;
use super::render::{self, mask};
use super::{NOT_IOTA, Shared};

const OBJECTS_PER_MESSAGE: usize = 100;
const OWNED_PER_PAGE: usize = 50;
const MOST_OWNED_PER_PAGE: usize = 1000;
/// Transactions of one request; on a node whoever operates it decides.
const MOST_ITEMS: usize = 20;
/// The one at which costs were measured.
const PROTOCOL_VERSION: u64 = 2;

/// All services, as HTTP routes.
pub(super) fn router(chain: &Shared) -> Router {
    Routes::new(LedgerServiceServer::new(chain.clone()))
        .add_service(StateServiceServer::new(chain.clone()))
        .add_service(TransactionExecutionServiceServer::new(chain.clone()))
        .into_axum_router()
}

type Answers<T> = Iter<std::vec::IntoIter<Result<T, Status>>>;

fn answers<T>(messages: Vec<T>) -> Response<Answers<T>> {
    Response::new(stream::iter(messages.into_iter().map(Ok).collect::<Vec<_>>()))
}

fn beyond(what: &str) -> Status {
    Rejection::beyond_the_mock(what).into()
}

#[async_trait]
impl LedgerService for Shared {
    async fn get_health(&self, _: Request<GetHealthRequest>) -> Result<Response<GetHealthResponse>, Status> {
        let height = self.lock().blocks().len() as u64;
        Ok(Response::new(GetHealthResponse::default().with_executed_checkpoint_height(height)))
    }

    async fn get_service_info(
        &self,
        request: Request<GetServiceInfoRequest>,
    ) -> Result<Response<GetServiceInfoResponse>, Status> {
        let mask = mask::<GetServiceInfoResponse>(request.into_inner().read_mask, GET_SERVICE_INFO_READ_MASK)?;
        let chain = self.lock();
        let mut answer = GetServiceInfoResponse::default();
        if mask.contains("chain_id") {
            answer = answer.with_chain_id(types::Digest::from(chain.id()));
        }
        if mask.contains("chain") {
            answer = answer.with_chain("mock");
        }
        if mask.contains("epoch") {
            answer = answer.with_epoch(0);
        }
        if mask.contains("executed_checkpoint_height") {
            answer = answer.with_executed_checkpoint_height(chain.blocks().len() as u64);
        }
        if mask.contains("executed_checkpoint_timestamp") {
            answer = answer.with_executed_checkpoint_timestamp(render::timestamp(chain.last_ms()));
        }
        if mask.contains("lowest_available_checkpoint") {
            answer = answer.with_lowest_available_checkpoint(0);
        }
        if mask.contains("lowest_available_checkpoint_objects") {
            answer = answer.with_lowest_available_checkpoint_objects(0);
        }
        if mask.contains("server") {
            answer = answer.with_server(NOT_IOTA);
        }
        Ok(Response::new(answer))
    }

    type GetObjectsStream = Answers<GetObjectsResponse>;

    async fn get_objects(
        &self,
        request: Request<GetObjectsRequest>,
    ) -> Result<Response<Self::GetObjectsStream>, Status> {
        let request = request.into_inner();
        let mask = mask::<Object>(request.read_mask, GET_OBJECTS_READ_MASK)?;
        let requests = request.requests.unwrap_or_default().requests;
        let chain = self.lock();
        let results: Vec<_> = requests.iter().map(|request| object_result(&chain, request, &mask)).collect();
        drop(chain);
        let messages = results.len().div_ceil(OBJECTS_PER_MESSAGE);
        let messages = results.chunks(OBJECTS_PER_MESSAGE).enumerate().map(|(at, objects)| {
            GetObjectsResponse::default().with_objects(objects.to_vec()).with_has_next(at + 1 < messages)
        });
        Ok(answers(messages.collect()))
    }

    type GetTransactionsStream = Answers<GetTransactionsResponse>;

    async fn get_transactions(
        &self,
        request: Request<GetTransactionsRequest>,
    ) -> Result<Response<Self::GetTransactionsStream>, Status> {
        let request = request.into_inner();
        let mask = mask::<ExecutedTransaction>(request.read_mask, GET_TRANSACTIONS_READ_MASK)?;
        let requests = request.requests.unwrap_or_default().requests;
        let chain = self.lock();
        let results = requests.iter().map(|request| {
            let found = digest(request.digest.as_ref()).and_then(|digest| {
                let (checkpoint, block) = chain
                    .find(digest)
                    .ok_or_else(|| Rejection::not_found(format!("Transaction {digest} not found")))?;
                render::Transaction::of(checkpoint, block, true).message(&mask)
            });
            match found {
                Ok(transaction) => TransactionResult::default().with_executed_transaction(transaction),
                Err(rejection) => TransactionResult::default().with_error(rejection.status()),
            }
        });
        let answer = GetTransactionsResponse::default().with_transaction_results(results.collect());
        Ok(answers(vec![answer]))
    }

    type GetCheckpointStream = Answers<CheckpointData>;

    async fn get_checkpoint(
        &self,
        _: Request<GetCheckpointRequest>,
    ) -> Result<Response<Self::GetCheckpointStream>, Status> {
        Err(beyond("reading checkpoints"))
    }

    type StreamCheckpointsStream = Answers<CheckpointData>;

    async fn stream_checkpoints(
        &self,
        _: Request<StreamCheckpointsRequest>,
    ) -> Result<Response<Self::StreamCheckpointsStream>, Status> {
        Err(beyond("reading checkpoints"))
    }

    async fn get_epoch(&self, request: Request<GetEpochRequest>) -> Result<Response<GetEpochResponse>, Status> {
        let request = request.into_inner();
        if request.epoch.is_some_and(|epoch| epoch != 0) {
            return Err(Status::not_found("Epoch not found: this mock ledger has only epoch 0"));
        }
        let mask = mask::<Epoch>(request.read_mask, GET_EPOCH_READ_MASK)?;
        let mut epoch = Epoch::default();
        if mask.contains("epoch") {
            epoch = epoch.with_epoch(0);
        }
        if mask.contains("first_checkpoint") {
            epoch = epoch.with_first_checkpoint(0);
        }
        if mask.contains("reference_gas_price") {
            epoch = epoch.with_reference_gas_price(GAS_PRICE);
        }
        if let Some(mask) = mask.subtree("protocol_config") {
            epoch = epoch.with_protocol_config(protocol_config(&mask));
        }
        Ok(Response::new(GetEpochResponse::default().with_epoch(epoch)))
    }
}

#[async_trait]
impl StateService for Shared {
    async fn list_dynamic_fields(
        &self,
        _: Request<ListDynamicFieldsRequest>,
    ) -> Result<Response<ListDynamicFieldsResponse>, Status> {
        Err(beyond("listing dynamic fields, which takes an index,"))
    }

    async fn list_owned_objects(
        &self,
        request: Request<ListOwnedObjectsRequest>,
    ) -> Result<Response<ListOwnedObjectsResponse>, Status> {
        let request = request.into_inner();
        let mask = mask::<Object>(request.read_mask, LIST_OWNED_OBJECTS_READ_MASK)?;
        let owner = request.owner.as_ref().ok_or_else(|| Status::invalid_argument("missing owner"))?;
        let owner: Address = owner.address().map_err(|error| Status::invalid_argument(error.to_string()))?;
        let wanted = request.object_type.as_deref().map(str::parse::<StructTag>).transpose();
        let wanted = wanted.map_err(|error| Status::invalid_argument(format!("invalid object_type: {error}")))?;
        let after = request.page_token.as_deref().map(ObjectId::from_bytes).transpose();
        let after = after.map_err(|_| Status::invalid_argument("invalid page_token"))?;
        let size = request
            .page_size
            .filter(|size| *size > 0)
            .map_or(OWNED_PER_PAGE, |size| size as usize)
            .min(MOST_OWNED_PER_PAGE);
        let chain = self.lock();
        let mut found = chain
            .owned_by(owner)
            .filter(|object| after.is_none_or(|after| object.id() > after))
            .filter(|object| wanted.is_none() || object.struct_tag() == wanted);
        let page: Vec<_> = found.by_ref().take(size).collect();
        let objects = page.iter().map(|object| render::object(object, &mask)).collect::<Result<_, _>>()?;
        let mut answer = ListOwnedObjectsResponse::default().with_objects(objects);
        if let (Some(last), Some(_)) = (page.last(), found.next()) {
            answer = answer.with_next_page_token(last.id().as_bytes().to_vec());
        }
        Ok(Response::new(answer))
    }

    async fn get_coin_info(&self, _: Request<GetCoinInfoRequest>) -> Result<Response<GetCoinInfoResponse>, Status> {
        Err(beyond("describing coins"))
    }
}

#[async_trait]
impl TransactionExecutionService for Shared {
    async fn execute_transactions(
        &self,
        request: Request<ExecuteTransactionsRequest>,
    ) -> Result<Response<ExecuteTransactionsResponse>, Status> {
        let fate = request.extensions().get::<Fate>().cloned().unwrap_or_default();
        let request = request.into_inner();
        check_batch(request.transactions.len())?;
        let mask = mask::<ExecutedTransaction>(request.read_mask, EXECUTE_TRANSACTIONS_READ_MASK)?;
        // Every transaction is in a checkpoint at once, but a node says so only to who would wait for it.
        let is_final = request.checkpoint_inclusion_timeout_ms.is_some_and(|timeout| timeout > 0);
        let mut chain = self.lock();
        let results = request.transactions.iter().map(|item| match execute(&mut chain, item, &mask, is_final, &fate) {
            Ok(executed) => executed,
            Err(rejection) => {
                tracing::info!(reason = rejection.message, "refused a transaction ({NOT_IOTA})");
                ExecuteTransactionResult::default().with_error(rejection.status())
            }
        });
        let answer = ExecuteTransactionsResponse::default().with_transaction_results(results.collect());
        Ok(Response::new(answer))
    }

    async fn simulate_transactions(
        &self,
        request: Request<SimulateTransactionsRequest>,
    ) -> Result<Response<SimulateTransactionsResponse>, Status> {
        let request = request.into_inner();
        check_batch(request.transactions.len())?;
        let mask = mask::<SimulatedTransaction>(request.read_mask, SIMULATE_TRANSACTIONS_READ_MASK)?;
        let chain = self.lock();
        let results = request.transactions.iter().map(|item| match simulate(&chain, item, &mask) {
            Ok(simulated) => SimulateTransactionResult::default().with_simulated_transaction(simulated),
            Err(rejection) => SimulateTransactionResult::default().with_error(rejection.status()),
        });
        let answer = SimulateTransactionsResponse::default().with_transaction_results(results.collect());
        Ok(Response::new(answer))
    }

    async fn view_function_calls(
        &self,
        _: Request<ViewFunctionCallsRequest>,
    ) -> Result<Response<ViewFunctionCallsResponse>, Status> {
        Err(beyond("calling view functions"))
    }
}

fn execute(
    chain: &mut Chain,
    item: &ExecuteTransactionItem,
    mask: &FieldMaskTree,
    is_final: bool,
    fate: &Fate,
) -> Result<ExecuteTransactionResult, Rejection> {
    if fate.has(FaultKind::Refuse) {
        return Err(Rejection::overloaded());
    }
    let transaction = transaction(item.transaction.as_ref())?;
    let signatures = item.signatures.as_ref().ok_or_else(|| Rejection::invalid("missing signatures"))?;
    let signatures = Vec::try_from(signatures).map_err(|error| Rejection::invalid(error.to_string()))?;
    let signed = SignedTransaction { transaction, signatures };
    let (checkpoint, block) = chain.execute(signed, fate.has(FaultKind::Abort)).map_err(Refusal::when_executed)?;
    let digest = block.signed.transaction.digest();
    tracing::info!(checkpoint, transaction = %digest, status = ?block.effects.as_v1().status, "executed ({NOT_IOTA})");
    if fate.has(FaultKind::TimeOut) {
        return Err(Rejection::timed_out());
    }
    let executed = render::Transaction::of(checkpoint, block, is_final).message(mask)?;
    Ok(ExecuteTransactionResult::default().with_executed_transaction(executed))
}

fn simulate(
    chain: &Chain,
    item: &SimulateTransactionItem,
    mask: &FieldMaskTree,
) -> Result<SimulatedTransaction, Rejection> {
    let mut transaction = transaction(item.transaction.as_ref())?;
    let skips_checks = item.tx_checks.contains(&(TransactionCheckModes::DisableVmChecks as i32));
    let wanted = if skips_checks { Wanted::Estimate } else { Wanted::Simulation };
    let outcome = chain.simulate(&transaction, wanted).map_err(Refusal::when_simulated)?;
    let effects = outcome.effects.as_v1();
    if let (Transaction::V1(transaction), true) = (&mut transaction, skips_checks)
        && transaction.gas_payment.budget == 0
    {
        transaction.gas_payment.budget = effects.gas_cost_summary.gas_used();
    }
    let mut simulated = SimulatedTransaction::default();
    if let Some(mask) = mask.subtree("executed_transaction") {
        let executed = render::Transaction {
            transaction: &transaction,
            effects: &outcome.effects,
            events: &outcome.events,
            written: &outcome.written,
            block: None,
            is_final: false,
        };
        simulated = simulated.with_executed_transaction(executed.message(&mask)?);
    }
    if mask.contains("suggested_gas_price") {
        simulated = simulated.with_suggested_gas_price(GAS_PRICE);
    }
    if let Some(mask) = mask.subtree("execution_result") {
        simulated = match &effects.status {
            ExecutionStatus::Failure { error, command } => {
                let mask = mask.subtree("execution_error");
                let error = mask.map(|mask| render::execution_error(error, *command, &mask)).transpose()?;
                error.map_or(simulated.clone(), |error| simulated.with_execution_error(error))
            }
            _ => {
                let mask = mask.subtree("command_results");
                let results = mask.map(|mask| render::command_results(&outcome.returned, &mask)).transpose()?;
                results.map_or(simulated.clone(), |results| simulated.with_command_results(results))
            }
        };
    }
    Ok(simulated)
}

fn transaction(message: Option<&iota_sdk_grpc_types::v1::transaction::Transaction>) -> Result<Transaction, Rejection> {
    let message = message.ok_or_else(|| Rejection::invalid("missing transaction"))?;
    message.transaction().map_err(|error| Rejection::invalid(error.to_string()))
}

fn digest(message: Option<&types::Digest>) -> Result<TransactionDigest, Rejection> {
    let message = message.ok_or_else(|| Rejection::invalid("missing digest"))?;
    TransactionDigest::try_from(message).map_err(|error| Rejection::invalid(error.to_string()))
}

/// The newest version of an object; older ones are not kept, as on a node that prunes them.
fn object_result(chain: &Chain, request: &ObjectRequest, mask: &FieldMaskTree) -> ObjectResult {
    let found = (|| {
        let reference = request.object_ref.as_ref().ok_or_else(|| Rejection::invalid("missing object_ref"))?;
        let id = reference.object_identifier().map_err(|error| Rejection::invalid(error.to_string()))?;
        let object =
            chain.object(id).filter(|it| reference.version.is_none_or(|wanted| it.version().as_u64() == wanted));
        let at = reference.version.map(|version| format!(" at version {version}")).unwrap_or_default();
        let missing = || Rejection::not_found(format!("Object {id}{at} not found"));
        render::object(object.ok_or_else(missing)?, mask)
    })();
    match found {
        Ok(object) => ObjectResult::default().with_object(object),
        Err(rejection) => ObjectResult::default().with_error(rejection.status()),
    }
}

fn protocol_config(mask: &FieldMaskTree) -> ProtocolConfig {
    let mut config = ProtocolConfig::default();
    if mask.contains("protocol_version") {
        config = config.with_protocol_version(PROTOCOL_VERSION);
    }
    if let Some(mask) = mask.subtree("attributes") {
        let known = limits::attributes().into_iter().filter(|(name, _)| mask.contains(name));
        let known = known.map(|(name, value)| (name.to_owned(), value.to_string())).collect::<BTreeMap<_, _>>();
        config = config.with_attributes(ProtocolAttributes::default().with_attributes(known));
    }
    config
}

fn check_batch(items: usize) -> Result<(), Status> {
    match items {
        0 => Err(Status::invalid_argument("transactions list must not be empty")),
        1..=MOST_ITEMS => Ok(()),
        _ => Err(Status::invalid_argument(format!("batch size {items} exceeds maximum allowed ({MOST_ITEMS})"))),
    }
}
