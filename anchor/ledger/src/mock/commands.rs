//! The commands of a programmable transaction, and the values that pass between them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use iota_sdk::types::{
    Address, Argument, Command, CommandArgumentError, Event, ExecutionError, ExecutionStatus, MakeMoveVector,
    MergeCoins, Object, ObjectId, Owner, SplitCoins, StructTag, TransactionDigest, TransferObjects, TypeTag, Version,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls;
use super::execute::{check_object_size, coin, object};

/// An input of the transaction.
#[derive(Clone, Debug)]
pub(super) enum InputValue {
    Pure(Vec<u8>),
    Owned(ObjectId),
    SharedMutable(ObjectId),
    SharedReadOnly(ObjectId),
}

/// A value between commands.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Bytes that take the type of the parameter they are given for.
    Pure(Vec<u8>),
    /// A Move value and its type.
    Typed(TypeTag, Vec<u8>),
    /// An object: an input, or one that was made and belongs to nobody yet.
    Object(ObjectId),
    /// A shared object that may only be read.
    ReadOnly(ObjectId),
}

/// What a command returned, and what it changed that it was only lent: values with their types.
#[derive(Clone, Debug, Default)]
pub(super) struct Returned {
    pub(super) values: Vec<(TypeTag, Vec<u8>)>,
    pub(super) changed: Option<(Argument, TypeTag, Vec<u8>)>,
}

/// An object while the transaction runs.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) tag: StructTag,
    pub(super) contents: Vec<u8>,
    /// `None`: made in this transaction, and not given to anybody yet.
    pub(super) owner: Option<Owner>,
    /// Becomes shared, at the version that the transaction writes.
    shared_now: bool,
}

impl Slot {
    pub(super) fn of(object: Object) -> Self {
        let owner = Some(object.owner);
        let (tag, contents) = match object.data {
            iota_sdk::types::ObjectData::Struct(value) => {
                let (tag, _, contents) = value.into_parts();
                (tag.into_struct_tag(), contents)
            }
            // There are no packages in the mock's store.
            _ => (StructTag::new_gas(), Vec::new()),
        };
        Self { tag, contents, owner, shared_now: false }
    }

    pub(super) fn to_object(&self, version: Version, digest: TransactionDigest) -> Object {
        let owner = match self.owner {
            _ if self.shared_now => Owner::Shared(version),
            Some(owner) => owner,
            None => Owner::Immutable,
        };
        object(self.tag.clone(), version, self.contents.clone(), owner, digest)
    }
}

/// A transaction at work.
pub(super) struct Machine {
    pub(super) slots: BTreeMap<ObjectId, Slot>,
    /// Dynamic fields that were fetched, as they were.
    pub(super) loaded: Vec<Object>,
    pub(super) events: Vec<Event>,
    pub(super) returned: Vec<Returned>,
    pub(super) sender: Address,
    pub(super) digest: TransactionDigest,
    pub(super) now_ms: u64,
    gas: ObjectId,
    inputs: Vec<InputValue>,
    results: Vec<Vec<Value>>,
    made: u64,
    /// Objects that were used up by value.
    taken: BTreeSet<ObjectId>,
}

/// Fetches an object that is no input: a dynamic field.
pub(super) type Fetch<'a> = &'a dyn Fn(ObjectId) -> Option<Object>;

impl Machine {
    pub(super) fn new(
        slots: BTreeMap<ObjectId, Slot>,
        gas: ObjectId,
        sender: Address,
        digest: TransactionDigest,
        now_ms: u64,
        inputs: Vec<InputValue>,
    ) -> Self {
        let (loaded, events, returned, results, taken) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
        Self { slots, loaded, events, returned, sender, digest, now_ms, gas, inputs, results, made: 0, taken }
    }

    /// While commands run, the budget is not in the gas coin: it cannot be spent twice.
    pub(super) fn withhold(&mut self, budget: u64) {
        if let Some(gas) = self.slots.get_mut(&self.gas)
            && let Some(balance) = coin::balance(&gas.contents)
        {
            gas.contents = coin::contents(self.gas, balance.saturating_sub(budget));
        }
    }

    /// Runs all commands, or those up to one that fails. With `abort`, the first Move call does.
    pub(super) fn run(
        &mut self,
        commands: &[Command],
        fetch: impl Fn(ObjectId) -> Option<Object>,
        abort: bool,
    ) -> ExecutionStatus {
        let failure = |error, at: usize| ExecutionStatus::Failure { error, command: Some(at as u64) };
        for (at, command) in commands.iter().enumerate() {
            let results = match command {
                Command::MoveCall(call) if abort => Err(calls::abort_on_demand(call)),
                Command::MoveCall(call) => calls::call(self, call, &fetch),
                Command::TransferObjects(command) => self.transfer(command),
                Command::SplitCoins(command) => self.split(command),
                Command::MergeCoins(command) => self.merge(command),
                Command::MakeMoveVector(command) => self.vector(command),
                _ => Err(ExecutionError::FeatureNotYetSupported),
            };
            match results {
                Ok(results) => {
                    self.returned.push(self.returned_by(command, &results));
                    self.results.push(results);
                }
                Err(error) => return failure(error, at),
            }
        }
        let sizes = self.slots.values().try_for_each(|slot| check_object_size(&slot.contents));
        match self.nothing_left_over().and(sizes) {
            Ok(()) => ExecutionStatus::Success,
            Err(error) => failure(error, commands.len().saturating_sub(1)),
        }
    }

    fn returned_by(&self, command: &Command, results: &[Value]) -> Returned {
        let known = |value: &Value| match value {
            Value::Typed(tag, bytes) => Some((tag.clone(), bytes.clone())),
            Value::Object(id) | Value::ReadOnly(id) => {
                self.slots.get(id).map(|slot| (slot.tag.clone().into(), slot.contents.clone()))
            }
            Value::Pure(_) => None,
        };
        let lent = match command {
            Command::SplitCoins(command) => Some(command.coin),
            Command::MergeCoins(command) => Some(command.coin),
            Command::MoveCall(call) => calls::changes(call),
            _ => None,
        };
        let changed = lent.and_then(|argument| {
            let (tag, bytes) = known(&self.value(argument, 0).ok()?)?;
            Some((argument, tag, bytes))
        });
        Returned { values: results.iter().filter_map(known).collect(), changed }
    }

    /// Capabilities and coins cannot just be dropped.
    fn nothing_left_over(&self) -> Result<(), ExecutionError> {
        for (result, values) in self.results.iter().enumerate() {
            for (subresult, value) in values.iter().enumerate() {
                if let Value::Object(id) = value
                    && self.slots.get(id).is_some_and(|slot| slot.owner.is_none())
                {
                    return Err(ExecutionError::UnusedValueWithoutDrop {
                        result: u16::try_from(result).unwrap_or(u16::MAX),
                        subresult: u16::try_from(subresult).unwrap_or(u16::MAX),
                    });
                }
            }
        }
        Ok(())
    }

    pub(super) fn fresh_id(&mut self) -> ObjectId {
        let id = ObjectId::derive_id(self.digest, self.made);
        self.made += 1;
        id
    }

    /// An object that belongs to nobody yet.
    pub(super) fn make(&mut self, id: ObjectId, tag: StructTag, contents: Vec<u8>) {
        self.slots.insert(id, Slot { tag, contents, owner: None, shared_now: false });
    }

    pub(super) fn give(&mut self, id: ObjectId, owner: Owner) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.owner = Some(owner);
        }
    }

    pub(super) fn share(&mut self, id: ObjectId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.owner = Some(Owner::Shared(Version::MIN_VALID_INCL));
            slot.shared_now = true;
        }
    }

    pub(super) fn delete(&mut self, id: ObjectId) {
        self.slots.remove(&id);
        self.taken.insert(id);
    }

    /// Brings in a dynamic field, to be changed.
    pub(super) fn load(&mut self, id: ObjectId, fetch: Fetch<'_>) -> Result<(), ExecutionError> {
        if let Entry::Vacant(slot) = self.slots.entry(id) {
            let object = fetch(id).ok_or(ExecutionError::InvariantViolation)?;
            slot.insert(Slot::of(object.clone()));
            self.loaded.push(object);
        }
        Ok(())
    }

    /// An object's content, if it is of that type.
    pub(super) fn read<T: DeserializeOwned>(&self, id: ObjectId, tag: &StructTag) -> Option<T> {
        let slot = self.slots.get(&id).filter(|slot| slot.tag == *tag)?;
        bcs::from_bytes(&slot.contents).ok()
    }

    pub(super) fn write<T: Serialize>(&mut self, id: ObjectId, value: &T) -> Result<(), ExecutionError> {
        let contents = encode(value)?;
        self.slots.get_mut(&id).ok_or(ExecutionError::InvariantViolation)?.contents = contents;
        Ok(())
    }

    /// The value that an argument stands for.
    pub(super) fn value(&self, argument: Argument, at: usize) -> Result<Value, ExecutionError> {
        let out_of_bounds = |index: u16| wrong(at, CommandArgumentError::IndexOutOfBounds { index });
        let value = match argument {
            Argument::Gas => Value::Object(self.gas),
            Argument::Input(index) => match self.inputs.get(usize::from(index)).ok_or_else(|| out_of_bounds(index))? {
                InputValue::Pure(bytes) => Value::Pure(bytes.clone()),
                InputValue::Owned(id) | InputValue::SharedMutable(id) => Value::Object(*id),
                InputValue::SharedReadOnly(id) => Value::ReadOnly(*id),
            },
            Argument::Result(result) => {
                match self.results.get(usize::from(result)).ok_or_else(|| out_of_bounds(result))?.as_slice() {
                    [value] => value.clone(),
                    _ => return Err(wrong(at, CommandArgumentError::InvalidResultArity { result })),
                }
            }
            Argument::NestedResult(result, subresult) => {
                let values = self.results.get(usize::from(result)).ok_or_else(|| out_of_bounds(result))?;
                let value = values.get(usize::from(subresult));
                let outside = CommandArgumentError::SecondaryIndexOutOfBounds { result, subresult };
                value.ok_or_else(|| wrong(at, outside))?.clone()
            }
            _ => return Err(wrong(at, CommandArgumentError::TypeMismatch)),
        };
        match value {
            Value::Object(id) if self.taken.contains(&id) => Err(wrong(at, CommandArgumentError::InvalidValueUsage)),
            value => Ok(value),
        }
    }

    /// A pure argument.
    pub(super) fn pure<T: DeserializeOwned>(&self, argument: Argument, at: usize) -> Result<T, ExecutionError> {
        match self.value(argument, at)? {
            Value::Pure(bytes) => bcs::from_bytes(&bytes).map_err(|_| wrong(at, CommandArgumentError::InvalidBcsBytes)),
            _ => Err(wrong(at, CommandArgumentError::TypeMismatch)),
        }
    }

    /// A Move value of that type, as bytes.
    pub(super) fn typed(&self, argument: Argument, at: usize, tag: &TypeTag) -> Result<Vec<u8>, ExecutionError> {
        match self.value(argument, at)? {
            Value::Typed(found, bytes) if found == *tag => Ok(bytes),
            _ => Err(wrong(at, CommandArgumentError::TypeMismatch)),
        }
    }

    /// An object that may be changed.
    pub(super) fn object(&self, argument: Argument, at: usize) -> Result<ObjectId, ExecutionError> {
        match self.value(argument, at)? {
            Value::Object(id) => Ok(id),
            Value::ReadOnly(_) => Err(wrong(at, CommandArgumentError::InvalidObjectByMutRef)),
            Value::Pure(_) => Err(wrong(at, CommandArgumentError::InvalidUsageOfPureArgument)),
            Value::Typed(..) => Err(wrong(at, CommandArgumentError::TypeMismatch)),
        }
    }

    fn coin(&self, argument: Argument, at: usize) -> Result<(ObjectId, u64), ExecutionError> {
        let id = self.object(argument, at)?;
        let mismatch = || wrong(at, CommandArgumentError::TypeMismatch);
        let slot = self.slots.get(&id).filter(|slot| slot.tag == coin::tag()).ok_or_else(mismatch)?;
        Ok((id, coin::balance(&slot.contents).ok_or(ExecutionError::InvariantViolation)?))
    }

    fn set_balance(&mut self, id: ObjectId, balance: u64) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.contents = coin::contents(id, balance);
        }
    }

    fn split(&mut self, command: &SplitCoins) -> Result<Vec<Value>, ExecutionError> {
        let mut made = Vec::new();
        for (at, amount) in command.amounts.iter().enumerate() {
            let amount: u64 = self.pure(*amount, at + 1)?;
            let (from, balance) = self.coin(command.coin, 0)?;
            let left = balance.checked_sub(amount).ok_or(ExecutionError::InsufficientCoinBalance)?;
            self.set_balance(from, left);
            let id = self.fresh_id();
            self.make(id, coin::tag(), coin::contents(id, amount));
            made.push(Value::Object(id));
        }
        Ok(made)
    }

    fn merge(&mut self, command: &MergeCoins) -> Result<Vec<Value>, ExecutionError> {
        for (at, argument) in command.coins_to_merge.iter().enumerate() {
            let (id, balance) = self.coin(*argument, at + 1)?;
            let (into, sum) = self.coin(command.coin, 0)?;
            if id == self.gas {
                return Err(wrong(at + 1, CommandArgumentError::InvalidGasCoinUsage));
            }
            if id == into {
                return Err(wrong(at + 1, CommandArgumentError::InvalidValueUsage));
            }
            self.set_balance(into, sum.checked_add(balance).ok_or(ExecutionError::CoinBalanceOverflow)?);
            self.delete(id);
        }
        Ok(Vec::new())
    }

    fn transfer(&mut self, command: &TransferObjects) -> Result<Vec<Value>, ExecutionError> {
        let recipient: Address = self.pure(command.address, command.objects.len())?;
        for (at, argument) in command.objects.iter().enumerate() {
            let id = match self.value(*argument, at)? {
                Value::ReadOnly(_) => return Err(wrong(at, CommandArgumentError::InvalidObjectByValue)),
                _ => self.object(*argument, at)?,
            };
            let is_shared = self.slots.get(&id).is_some_and(|slot| matches!(slot.owner, Some(Owner::Shared(_))));
            if is_shared {
                return Err(ExecutionError::SharedObjectOperationNotAllowed);
            }
            self.give(id, Owner::Address(recipient));
            self.taken.insert(id);
        }
        Ok(Vec::new())
    }

    fn vector(&mut self, command: &MakeMoveVector) -> Result<Vec<Value>, ExecutionError> {
        let Some(tag) = &command.type_tag else { return Err(ExecutionError::FeatureNotYetSupported) };
        // A vector is its length (ULEB128; below 128 one byte) and its elements.
        let length = u8::try_from(command.elements.len()).ok().filter(|length| *length < 128);
        let mut bytes = vec![length.ok_or(ExecutionError::FeatureNotYetSupported)?];
        for (at, element) in command.elements.iter().enumerate() {
            bytes.extend(self.typed(*element, at, tag)?);
        }
        Ok(vec![Value::Typed(TypeTag::Vector(Box::new(tag.clone())), bytes)])
    }
}

/// A wrong argument of a command.
pub(super) fn wrong(at: usize, kind: CommandArgumentError) -> ExecutionError {
    ExecutionError::CommandArgumentError { argument: u16::try_from(at).unwrap_or(u16::MAX), kind }
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ExecutionError> {
    bcs::to_bytes(value).map_err(|_| ExecutionError::InvariantViolation)
}
