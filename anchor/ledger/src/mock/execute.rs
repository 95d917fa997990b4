//! From a transaction to its effects: what a node checks before it executes, gas, versions and digests.
//!
//! Storage costs 7,600 NANOS per byte of every object that is written, and what an object's last writer paid is given
//! back when it is written again or deleted (IOTA's rebate is the whole of it). Computation costs the smallest bucket,
//! 1,000 units: none of these calls needs more.

use std::collections::{BTreeMap, BTreeSet};

use iota_sdk::types::{
    Address, ChangedObject, ExecutionError, ExecutionStatus, GasCostSummary, IdOperation, Input, Object, ObjectData,
    ObjectId, ObjectIn, ObjectOut, ObjectReference, Owner, ProgrammableTransaction, StructTag, Transaction,
    TransactionDigest, TransactionEffects, TransactionEffectsV1, TransactionEvents, TransactionExpiration,
    TransactionKind, UnchangedSharedKind, UnchangedSharedObject, Version,
};

use super::calls;
use super::chain::{Chain, GAS_PRICE};
use super::commands::{Machine, Slot};
use super::rejection::Rejection;

const NANOS_PER_BYTE: u64 = 7600;
const COMPUTATION_UNITS: u64 = 1000;
/// Owner, transaction digest and rebate, as the node's structures hold them.
const METADATA_BYTES: usize = 40 + 32 + 8;
const VERSION_BYTES: usize = 8;
const LARGEST_BUDGET: u64 = 50_000_000_000;
const LARGEST_PURE: usize = 16 * 1024;
const LARGEST_TRANSACTION: usize = 128 * 1024;
const MOST_COMMANDS: usize = 1024;
const LARGEST_OBJECT: usize = 250 * 1024;

/// What a transaction does.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) effects: TransactionEffects,
    pub(super) events: TransactionEvents,
    pub(super) written: Vec<Object>,
    pub(super) removed: Vec<ObjectId>,
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
pub(super) fn run(chain: &Chain, transaction: &Transaction, now_ms: u64, abort: bool) -> Result<Outcome, Rejection> {
    let checked = Checked::new(chain, transaction)?;
    let digest = transaction.digest();
    let mut machine =
        Machine::new(checked.slots(), checked.gas, checked.sender, digest, now_ms, checked.inputs.clone());
    machine.withhold(checked.budget);
    let commands = &checked.program.commands;
    let status = match machine.run(commands, |id| chain.object(id).cloned(), abort) {
        ExecutionStatus::Success => match checked.settle(&mut machine) {
            Ok(summary) => return Ok(checked.outcome(machine, digest, ExecutionStatus::Success, summary)),
            Err(error) => ExecutionStatus::Failure { error, command: None },
        },
        failure => failure,
    };
    // Everything is rolled back but the gas, and the versions of what was to be written.
    let mut machine =
        Machine::new(checked.slots(), checked.gas, checked.sender, digest, now_ms, checked.inputs.clone());
    machine.withhold(checked.budget);
    let summary = checked.settle(&mut machine).map_err(|error| Rejection::broken(error.to_string()))?;
    Ok(checked.outcome(machine, digest, status, summary))
}

/// A transaction that a node would execute.
struct Checked<'a> {
    program: &'a ProgrammableTransaction,
    sender: Address,
    budget: u64,
    price: u64,
    gas: ObjectId,
    /// Coins that are merged into the gas coin before anything else.
    smashed: Vec<Object>,
    /// All objects that the transaction may write, at their present versions.
    writable: BTreeMap<ObjectId, Object>,
    /// Shared objects that it only reads.
    readable: Vec<Object>,
    inputs: Vec<super::commands::InputValue>,
    version: Version,
}

impl<'a> Checked<'a> {
    fn new(chain: &'a Chain, transaction: &'a Transaction) -> Result<Self, Rejection> {
        let Transaction::V1(transaction) = transaction else {
            return Err(Rejection::beyond_the_mock("this version of a transaction"));
        };
        let TransactionKind::Programmable(program) = &transaction.kind else {
            return Err(Rejection::invalid("Transaction kind is not supported: only programmable ones are"));
        };
        if transaction.expiration != TransactionExpiration::None {
            return Err(Rejection::beyond_the_mock("a transaction that expires"));
        }
        check_size(transaction, program)?;
        let payment = &transaction.gas_payment;
        let sender = transaction.sender;
        if payment.owner != sender {
            return Err(Rejection::beyond_the_mock("gas that somebody else pays"));
        }
        check_price(payment.price, payment.budget)?;
        let mut coins = Vec::new();
        for reference in &payment.objects {
            let coin = live(chain, reference, sender)?;
            if !coin.is_gas_coin() {
                return Err(Rejection::invalid(format!("Invalid gas object {}: not an IOTA coin", coin.id())));
            }
            coins.push(coin.clone());
        }
        let balance = coins.iter().filter_map(|it| coin::balance(it.as_opt_struct()?.contents())).sum::<u64>();
        if balance < payment.budget {
            return Err(Rejection::invalid(format!(
                "Balance of gas object {balance} is lower than the needed amount: {}",
                payment.budget
            )));
        }
        let mut checked = Self {
            program,
            sender,
            budget: payment.budget,
            price: payment.price,
            gas: coins.first().ok_or_else(|| Rejection::invalid("Missing gas payment"))?.id(),
            smashed: coins.iter().skip(1).cloned().collect(),
            writable: coins.iter().map(|coin| (coin.id(), coin.clone())).collect(),
            readable: Vec::new(),
            inputs: Vec::new(),
            version: Version::MIN_VALID_INCL,
        };
        if checked.writable.len() < payment.objects.len() {
            return Err(Rejection::invalid("Duplicate object reference in the gas payment"));
        }
        checked.take_inputs(chain)?;
        let highest = checked.writable.values().chain(&checked.readable).map(Object::version).max();
        checked.version = highest.unwrap_or_default().next().map_err(Rejection::broken)?;
        calls::check_all_known(&program.commands)?;
        Ok(checked)
    }

    fn take_inputs(&mut self, chain: &Chain) -> Result<(), Rejection> {
        use super::commands::InputValue;
        for input in &self.program.inputs {
            let value = match input {
                Input::Pure(bytes) => InputValue::Pure(bytes.clone()),
                Input::ImmutableOrOwned(reference) => {
                    let object = live(chain, reference, self.sender)?.clone();
                    let id = object.id();
                    if self.writable.insert(id, object).is_some() {
                        return Err(Rejection::invalid(format!("Duplicate object reference: {id}")));
                    }
                    InputValue::Owned(id)
                }
                Input::Shared(reference) => {
                    let id = reference.object_id;
                    let object = chain.object(id).ok_or_else(|| missing(id))?.clone();
                    match object.owner {
                        Owner::Shared(initial) if initial == reference.initial_shared_version => {}
                        Owner::Shared(_) => {
                            return Err(Rejection::invalid(
                                "The Shared Object version was specified, but does not match the initial shared version",
                            ));
                        }
                        _ => return Err(Rejection::invalid(format!("Object {id} is not a shared object"))),
                    }
                    if reference.mutable {
                        self.writable.insert(id, object);
                        InputValue::SharedMutable(id)
                    } else {
                        self.readable.push(object);
                        InputValue::SharedReadOnly(id)
                    }
                }
                _ => return Err(Rejection::beyond_the_mock("receiving an object")),
            };
            self.inputs.push(value);
        }
        Ok(())
    }

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

    /// Gives back what was withheld, and takes what it cost.
    fn settle(&self, machine: &mut Machine) -> Result<GasCostSummary, ExecutionError> {
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
        Outcome { effects: TransactionEffects::V1(Box::new(effects)), events, written, removed }
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

/// The object that the reference means, which must be the newest version and the sender's.
fn live<'a>(chain: &'a Chain, reference: &ObjectReference, sender: Address) -> Result<&'a Object, Rejection> {
    let object = chain.object(reference.object_id).ok_or_else(|| missing(reference.object_id))?;
    let now = object.object_ref();
    if now != *reference {
        return Err(Rejection::invalid(format!(
            "Transaction needs to be rebuilt because object {} version {} is unavailable for consumption, current \
             version: {}",
            reference.object_id, reference.version, now.version
        )));
    }
    if object.owner != sender {
        return Err(Rejection::invalid(format!(
            "Transaction was not signed by the correct sender: Object {} is owned by {}, but given owner/signer \
             address is {sender}",
            reference.object_id, object.owner
        )));
    }
    Ok(object)
}

fn missing(id: ObjectId) -> Rejection {
    Rejection::invalid(format!("Could not find the referenced object {id} at version None"))
}

fn check_price(price: u64, budget: u64) -> Result<(), Rejection> {
    if price < GAS_PRICE {
        return Err(Rejection::invalid(format!("Gas price {price} under reference gas price (RGP) {GAS_PRICE}")));
    }
    let least = COMPUTATION_UNITS * price;
    if budget < least {
        return Err(Rejection::invalid(format!("Gas budget: {budget} is lower than min: {least}")));
    }
    if budget > LARGEST_BUDGET {
        return Err(Rejection::invalid(format!("Gas budget: {budget} is higher than max: {LARGEST_BUDGET}")));
    }
    Ok(())
}

fn check_size(
    transaction: &iota_sdk::types::TransactionV1,
    program: &ProgrammableTransaction,
) -> Result<(), Rejection> {
    let exceeded = |what: &str, limit: usize| Rejection::invalid(format!("Size limit exceeded: {what} is {limit}"));
    if bcs::serialized_size(transaction).map_err(Rejection::broken)? > LARGEST_TRANSACTION {
        return Err(exceeded("serialized transaction size exceeded maximum of", LARGEST_TRANSACTION));
    }
    if program.commands.is_empty() {
        return Err(Rejection::invalid("Empty command input in transaction"));
    }
    if program.commands.len() >= MOST_COMMANDS {
        return Err(exceeded("maximum commands in a programmable transaction", MOST_COMMANDS));
    }
    for input in &program.inputs {
        if let Input::Pure(bytes) = input
            && bytes.len() >= LARGEST_PURE
        {
            return Err(exceeded("maximum pure argument size", LARGEST_PURE));
        }
    }
    Ok(())
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
