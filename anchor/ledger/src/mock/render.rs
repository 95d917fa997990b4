//! From the mock's values to the messages of the gRPC services. Only what the read mask asks for is filled in, as a
//! node does: a client that forgets to ask must notice it here.

use iota_sdk::types::{Event, Object, TransactionEffects, TransactionEvents};
use iota_sdk_grpc_types::field::FieldMaskTree;
use iota_sdk_grpc_types::prost_types::{FieldMask, Timestamp};
use iota_sdk_grpc_types::proto::timestamp_ms_to_proto;
use iota_sdk_grpc_types::v1::bcs::BcsData;
use iota_sdk_grpc_types::v1::versioned::{VersionedEvent, VersionedObject};
use iota_sdk_grpc_types::v1::{event as event_messages, object as object_messages, signatures, transaction, types};

use super::chain::Block;
use super::rejection::Rejection;

/// What a request asks for, or else the service's default.
pub(super) fn mask(asked: Option<&FieldMask>, default: &[&str]) -> FieldMaskTree {
    match asked {
        Some(asked) => FieldMaskTree::from_field_mask(asked),
        None => FieldMaskTree::from_field_mask(&FieldMask { paths: default.iter().map(ToString::to_string).collect() }),
    }
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
}

impl<'a> Transaction<'a> {
    pub(super) fn of(checkpoint: u64, block: &'a Block) -> Self {
        Self {
            transaction: &block.signed.transaction,
            effects: &block.effects,
            events: &block.events,
            written: &block.written,
            block: Some((checkpoint, block)),
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
        if mask.contains("events") && !self.events.0.is_empty() {
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
        if mask.contains("checkpoint") {
            message = message.with_checkpoint(checkpoint);
        }
        if mask.contains("timestamp") {
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

fn encode<T: serde::Serialize>(value: &T) -> Result<BcsData, Rejection> {
    BcsData::serialize(value).map_err(Rejection::broken)
}
