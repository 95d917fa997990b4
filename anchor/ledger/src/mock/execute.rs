//! From a transaction that was found in order to its effects: gas, versions and digests.
//!
//! Storage costs 7,600 NANOS per byte of every object that is written, and what an object's last writer paid is given
//! back when it is written again or deleted (IOTA's rebate is the whole of it). Computation costs the smallest bucket,
//! 1,000 units: none of these calls needs more.

use std::collections::{BTreeMap, BTreeSet};

use iota_sdk::types::{
    ChangedObject, ExecutionError, ExecutionStatus, GasCostSummary, IdOperation, Object, ObjectData, ObjectId,
    ObjectIn, ObjectOut, Owner, StructTag, Transaction, TransactionDigest, TransactionEffects, TransactionEffectsV1,
    TransactionEvents, UnchangedSharedKind, UnchangedSharedObject, Version,
};

use super::chain::Chain;
use super::check::{Checked, Wanted};
use super::commands::{Machine, Returned, Slot};
use super::limits::{COMPUTATION_UNITS, LARGEST_OBJECT, NANOS_PER_BYTE};
use super::refusal::Refusal;
use super::rejection::Rejection;

/// Owner, transaction digest and rebate, as the node's structures hold them.
const METADATA_BYTES: usize = 40 + 32 + 8;
const VERSION_BYTES: usize = 8;
/// What a transaction does.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) effects: TransactionEffects,
    pub(super) events: TransactionEvents,
    pub(super) written: Vec<Object>,
    pub(super) removed: Vec<ObjectId>,
    /// What each command returned, if all went well.
    pub(super) returned: Vec<Returned>,
}

/// Coins of IOTA, as objects.
pub(super) mod coin {
    use iota_sdk::types::{ObjectId, StructTag};

    pub(in crate::mock) fn tag() -> StructTag {
        StructTag::new_gas_coin()
    }

    pub(in crate::mock) fn contents(id: ObjectId, balance: u64) -> Vec<u8> {
        let mut contents = id.as_bytes().to_vec();
        contents.extend(balance.to_le_bytes());
        contents
    }

    /// The balance in a coin's contents.
    pub(in crate::mock) fn balance(contents: &[u8]) -> Option<u64> {
        let (_, balance) = contents.split_at_checked(ObjectId::LENGTH)?;
        Some(u64::from_le_bytes(balance.try_into().ok()?))
    }
}

/// An object whose rebate is not known yet.
pub(super) fn object(
    tag: StructTag,
    version: Version,
    contents: Vec<u8>,
    owner: Owner,
    previous_transaction: TransactionDigest,
) -> Object {
    // A Move object begins with its id, so it is never too short.
    let value = iota_sdk::types::MoveStruct::new(tag.into(), version, contents);
    #[allow(clippy::expect_used, reason = "all contents made here begin with an id of 32 bytes")]
    let value = value.expect("contents begin with an id");
    Object::new(ObjectData::Struct(value), owner, previous_transaction, 0)
}

/// What an object's storage costs.
pub(super) fn storage_rebate(object: &Object) -> u64 {
    let bytes = object.as_opt_struct().map_or(0, |value| {
        let tag = bcs::serialized_size(value.object_type()).unwrap_or(0);
        value.contents().len() + tag + VERSION_BYTES
    });
    (METADATA_BYTES + bytes) as u64 * NANOS_PER_BYTE
}

/// Checks and executes. With `abort`, the first Move call aborts.
pub(super) fn run(
    chain: &Chain,
    transaction: &Transaction,
    now_ms: u64,
    wanted: Wanted,
    abort: bool,
) -> Result<Outcome, Refusal> {
    let checked = Checked::new(chain, transaction, wanted)?;
    let digest = transaction.digest();
    let machine = || {
        let mut machine =
            Machine::new(checked.slots(), checked.gas, checked.sender, digest, now_ms, checked.inputs.clone());
        machine.withhold(checked.budget);
        machine
    };
    let mut running = machine();
    let commands = &checked.program.commands;
    let status = match running.run(commands, |id| chain.object(id).cloned(), abort) {
        ExecutionStatus::Success => match checked.settle(&mut running) {
            Ok(summary) => return Ok(checked.outcome(running, digest, ExecutionStatus::Success, summary)),
            Err(error) => ExecutionStatus::Failure { error, command: None },
        },
        failure => failure,
    };
    // Everything is rolled back but the gas, and the versions of what was to be written.
    let mut failed = machine();
    let summary = checked.charge(&mut failed).map_err(|error| Rejection::broken(error.to_string()))?;
    Ok(checked.outcome(failed, digest, status, summary))
}

impl Checked<'_> {
    /// The objects as they are before the first command: gas coins are one already.
    fn slots(&self) -> BTreeMap<ObjectId, Slot> {
        let mut slots: BTreeMap<_, _> =
            self.writable.iter().map(|(id, object)| (*id, Slot::of(object.clone()))).collect();
        let smashed: u64 = self
            .smashed
            .iter()
            .filter_map(|it| {
                slots.remove(&it.id());
                coin::balance(it.as_opt_struct()?.contents())
            })
            .sum();
        if let Some(gas) = slots.get_mut(&self.gas)
            && let Some(balance) = coin::balance(&gas.contents)
        {
            gas.contents = coin::contents(self.gas, balance + smashed);
        }
        slots
    }

    /// Takes what it cost, if the budget covers that.
    fn settle(&self, machine: &mut Machine) -> Result<GasCostSummary, ExecutionError> {
        // Computation must be less than the budget (`bucketize_computation`), so that the least budget never suffices.
        if self.budget <= COMPUTATION_UNITS * self.price {
            return Err(ExecutionError::InsufficientGas);
        }
        self.charge(machine)
    }

    /// Gives back what was withheld, and takes what it cost.
    fn charge(&self, machine: &mut Machine) -> Result<GasCostSummary, ExecutionError> {
        let computation = COMPUTATION_UNITS * self.price;
        let written = machine.slots.values();
        let storage = written.map(|slot| storage_rebate(&slot.to_object(self.version, machine.digest))).sum::<u64>();
        let before: BTreeMap<_, _> = machine
            .loaded
            .iter()
            .chain(self.writable.values())
            .map(|object| (object.id(), object.storage_rebate))
            .collect();
        let rebate = before.values().sum::<u64>();
        let cost = (computation + storage).checked_sub(rebate);
        if cost.is_some_and(|cost| cost > self.budget) {
            return Err(ExecutionError::InsufficientGas);
        }
        let invariant = ExecutionError::InvariantViolation;
        let gas = machine.slots.get_mut(&self.gas).ok_or(invariant.clone())?;
        let balance = coin::balance(&gas.contents).ok_or(invariant.clone())? + self.budget;
        let balance = (balance + rebate).checked_sub(computation + storage).ok_or(invariant)?;
        gas.contents = coin::contents(self.gas, balance);
        Ok(GasCostSummary::new(computation, computation, storage, rebate, 0))
    }

    fn outcome(
        &self,
        machine: Machine,
        digest: TransactionDigest,
        status: ExecutionStatus,
        summary: GasCostSummary,
    ) -> Outcome {
        let mut before: BTreeMap<ObjectId, &Object> = self.writable.iter().map(|(id, it)| (*id, it)).collect();
        before.extend(machine.loaded.iter().map(|object| (object.id(), object)));
        let mut written = Vec::new();
        for slot in machine.slots.values() {
            let mut object = slot.to_object(self.version, digest);
            object.storage_rebate = storage_rebate(&object);
            written.push(object);
        }
        let removed: Vec<_> = before.keys().copied().filter(|id| !machine.slots.contains_key(id)).collect();
        let mut changed: Vec<_> = written.iter().map(|object| changed_object(&before, object)).collect();
        changed.extend(removed.iter().filter_map(|id| before.get(id)).map(|object| ChangedObject {
            object_id: object.id(),
            input_state: input_state(object),
            output_state: ObjectOut::Missing,
            id_operation: IdOperation::Deleted,
        }));
        changed.sort_by_key(|change| change.object_id);
        let gas_at = changed.iter().position(|change| change.object_id == self.gas);
        let events = TransactionEvents(if status == ExecutionStatus::Success { machine.events } else { Vec::new() });
        let dependencies: BTreeSet<_> =
            before.values().copied().chain(&self.readable).map(Object::previous_transaction).collect();
        let effects = TransactionEffectsV1 {
            status,
            epoch: 0,
            gas_cost_summary: summary,
            transaction_digest: digest,
            gas_object_index: gas_at.and_then(|at| u32::try_from(at).ok()),
            events_digest: (!events.0.is_empty()).then(|| events.digest()),
            dependencies: dependencies.into_iter().collect(),
            lamport_version: self.version,
            changed_objects: changed,
            unchanged_shared_objects: self
                .readable
                .iter()
                .map(|object| UnchangedSharedObject {
                    object_id: object.id(),
                    kind: UnchangedSharedKind::ReadOnlyRoot { version: object.version(), digest: object.digest() },
                })
                .collect(),
            auxiliary_data_digest: None,
        };
        let returned = machine.returned;
        Outcome { effects: TransactionEffects::V1(Box::new(effects)), events, written, removed, returned }
    }
}

fn input_state(object: &Object) -> ObjectIn {
    ObjectIn::Data { version: object.version(), digest: object.digest(), owner: object.owner }
}

fn changed_object(before: &BTreeMap<ObjectId, &Object>, object: &Object) -> ChangedObject {
    let old = before.get(&object.id());
    ChangedObject {
        object_id: object.id(),
        input_state: old.map_or(ObjectIn::Missing, |old| input_state(old)),
        output_state: ObjectOut::ObjectWrite { digest: object.digest(), owner: object.owner },
        id_operation: if old.is_some() { IdOperation::None } else { IdOperation::Created },
    }
}

/// An object that has grown too large cannot be stored.
pub(super) fn check_object_size(contents: &[u8]) -> Result<(), ExecutionError> {
    if contents.len() > LARGEST_OBJECT {
        return Err(ExecutionError::ObjectTooBig {
            object_size: contents.len() as u64,
            max_object_size: LARGEST_OBJECT as u64,
        });
    }
    Ok(())
}
