//! From the mock's values to the messages of the gRPC services. Only what the read mask asks for is filled in, as a
//! node does: a client that forgets to ask must notice it here.

use iota_sdk::types::{self as sdk, Argument, Event, Object, TransactionEffects, TransactionEvents, TypeTag};
use iota_sdk_grpc_types::field::{FieldMaskTree, FieldMaskUtil, MessageFields};
use iota_sdk_grpc_types::prost_types::{FieldMask, Timestamp};
use iota_sdk_grpc_types::proto::timestamp_ms_to_proto;
use iota_sdk_grpc_types::v1::bcs::BcsData;
use iota_sdk_grpc_types::v1::command::{CommandOutput, CommandOutputs, CommandResult, CommandResults};
use iota_sdk_grpc_types::v1::transaction_execution_service::ExecutionError;
use iota_sdk_grpc_types::v1::versioned::{VersionedEvent, VersionedObject};
use iota_sdk_grpc_types::v1::{event as event_messages, object as object_messages, signatures, transaction, types};

use super::chain::Block;
use super::commands::Returned;
use super::rejection::Rejection;

/// What a request for such messages asks for, or else the service's default.
pub(super) fn mask<M: MessageFields>(asked: Option<FieldMask>, default: &str) -> Result<FieldMaskTree, Rejection> {
    let mask = asked.unwrap_or_else(|| FieldMask::from_str(default));
    mask.validate::<M>().map_err(|path| Rejection::invalid(format!("invalid read_mask path: {path}")))?;
    Ok(FieldMaskTree::from(mask))
}

pub(super) fn timestamp(ms: u64) -> Timestamp {
    timestamp_ms_to_proto(ms)
}

/// An object.
pub(super) fn object(value: &Object, mask: &FieldMaskTree) -> Result<object_messages::Object, Rejection> {
    let mut message = object_messages::Object::default();
    let mut reference = types::ObjectReference::default();
    if mask.contains("reference.object_id") {
        reference = reference.with_object_id(types::ObjectId::from(value.id()));
    }
    if mask.contains("reference.version") {
        reference = reference.with_version(value.version().as_u64());
    }
    if mask.contains("reference.digest") {
        reference = reference.with_digest(types::Digest::from(value.digest()));
    }
    message.reference = mask.contains("reference").then_some(reference);
    if mask.contains("bcs") {
        message.bcs = Some(encode(&VersionedObject::V1(value.clone()))?);
    }
    Ok(message)
}

/// Everything about a transaction: executed, or simulated without checkpoint and signatures.
pub(super) struct Transaction<'a> {
    pub(super) transaction: &'a iota_sdk::types::Transaction,
    pub(super) effects: &'a TransactionEffects,
    pub(super) events: &'a TransactionEvents,
    pub(super) written: &'a [Object],
    pub(super) block: Option<(u64, &'a Block)>,
    /// Whether the answer may say in which checkpoint it is, and when that was.
    pub(super) is_final: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn of(checkpoint: u64, block: &'a Block, is_final: bool) -> Self {
        Self {
            transaction: &block.signed.transaction,
            effects: &block.effects,
            events: &block.events,
            written: &block.written,
            block: Some((checkpoint, block)),
            is_final,
        }
    }

    pub(super) fn message(&self, mask: &FieldMaskTree) -> Result<transaction::ExecutedTransaction, Rejection> {
        let mut message = transaction::ExecutedTransaction::default();
        if mask.contains("transaction") {
            let mut part = transaction::Transaction::default();
            if mask.contains("transaction.digest") {
                part = part.with_digest(types::Digest::from(self.transaction.digest()));
            }
            if mask.contains("transaction.bcs") {
                part = part.with_bcs(encode(self.transaction)?);
            }
            message = message.with_transaction(part);
        }
        if mask.contains("effects") {
            let mut part = transaction::TransactionEffects::default();
            if mask.contains("effects.digest") {
                part = part.with_digest(types::Digest::from(self.effects.digest()));
            }
            if mask.contains("effects.bcs") {
                part = part.with_bcs(encode(self.effects)?);
            }
            message = message.with_effects(part);
        }
        if mask.contains("events") {
            message = message.with_events(self.events_message(mask)?);
        }
        if mask.contains("output_objects")
            && let Some(mask) = mask.subtree("output_objects")
        {
            let mut objects = object_messages::Objects::default();
            objects.objects = self.written.iter().map(|it| object(it, &mask)).collect::<Result<_, _>>()?;
            message = message.with_output_objects(objects);
        }
        let Some((checkpoint, block)) = self.block else { return Ok(message) };
        if mask.contains("signatures") {
            let list = block
                .signed
                .signatures
                .iter()
                .map(|signature| Ok(signatures::UserSignature::default().with_bcs(encode(signature)?)));
            let list = list.collect::<Result<_, Rejection>>()?;
            message = message.with_signatures(signatures::UserSignatures::default().with_signatures(list));
        }
        if self.is_final && mask.contains("checkpoint") {
            message = message.with_checkpoint(checkpoint);
        }
        if self.is_final && mask.contains("timestamp") {
            message = message.with_timestamp(timestamp(block.time_ms));
        }
        Ok(message)
    }

    fn events_message(&self, mask: &FieldMaskTree) -> Result<transaction::TransactionEvents, Rejection> {
        let mut message = transaction::TransactionEvents::default();
        if mask.contains("events.digest") {
            message = message.with_digest(types::Digest::from(self.events.digest()));
        }
        if let Some(mask) = mask.subtree("events.events").or_else(|| mask.subtree("events")) {
            let list = self.events.0.iter().map(|it| event(it, &mask)).collect::<Result<_, _>>()?;
            message = message.with_events(event_messages::Events::default().with_events(list));
        }
        Ok(message)
    }
}

fn event(value: &Event, mask: &FieldMaskTree) -> Result<event_messages::Event, Rejection> {
    let mut message = event_messages::Event::default();
    if mask.contains("bcs") {
        message = message.with_bcs(encode(&VersionedEvent::V1(value.clone()))?);
    }
    if mask.contains("package_id") {
        message = message.with_package_id(types::ObjectId::from(value.package_id));
    }
    if mask.contains("module") {
        message = message.with_module(value.module.as_str());
    }
    if mask.contains("sender") {
        message = message.with_sender(types::Address::from(value.sender));
    }
    if mask.contains("event_type") {
        message = message.with_event_type(value.struct_tag.to_string());
    }
    if mask.contains("bcs_contents") {
        message = message.with_bcs_contents(BcsData::from(value.contents.clone()));
    }
    Ok(message)
}

/// What the commands of a simulated transaction returned.
pub(super) fn command_results(returned: &[Returned], mask: &FieldMaskTree) -> Result<CommandResults, Rejection> {
    let mut results = CommandResults::default();
    for Returned { values, changed } in returned {
        let mut result = CommandResult::default();
        if let Some(mask) = mask.subtree("mutated_by_ref") {
            let changed = changed.iter().map(|(argument, tag, bytes)| output(Some(*argument), tag, bytes, &mask));
            result.mutated_by_ref = Some(outputs(changed.collect::<Result<_, _>>()?));
        }
        if let Some(mask) = mask.subtree("return_values") {
            let values = values.iter().map(|(tag, bytes)| output(None, tag, bytes, &mask));
            result.return_values = Some(outputs(values.collect::<Result<_, _>>()?));
        }
        results.results.push(result);
    }
    Ok(results)
}

fn outputs(list: Vec<CommandOutput>) -> CommandOutputs {
    let mut outputs = CommandOutputs::default();
    outputs.outputs = list;
    outputs
}

fn output(
    argument: Option<Argument>,
    tag: &TypeTag,
    bytes: &[u8],
    mask: &FieldMaskTree,
) -> Result<CommandOutput, Rejection> {
    let mut output = CommandOutput::default();
    if let (Some(argument), true) = (argument, mask.contains("argument")) {
        output.argument = Some(argument.try_into().map_err(Rejection::broken)?);
    }
    if mask.contains("type_tag") {
        output.type_tag = Some(tag.into());
    }
    if mask.contains("bcs") {
        output.bcs = Some(BcsData::from(bytes.to_vec()));
    }
    Ok(output)
}

/// Why a simulated transaction failed.
pub(super) fn execution_error(
    error: &sdk::ExecutionError,
    command: Option<u64>,
    mask: &FieldMaskTree,
) -> Result<ExecutionError, Rejection> {
    let mut message = ExecutionError::default();
    if mask.contains("bcs_kind") {
        message = message.with_bcs_kind(encode(error)?);
    }
    if mask.contains("source") {
        message = message.with_source(error.to_string());
    }
    if let (Some(command), true) = (command, mask.contains("command_index")) {
        message = message.with_command_index(command);
    }
    Ok(message)
}

fn encode<T: serde::Serialize>(value: &T) -> Result<BcsData, Rejection> {
    BcsData::serialize(value).map_err(Rejection::broken)
}
