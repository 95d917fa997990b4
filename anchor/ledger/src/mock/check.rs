//! What a node checks before it executes or simulates a transaction, in its order: form, what is there, gas, and whether
//! every object is used as it may be (`crates/iota-types/src/transaction.rs` and `gas_model/gas_v1.rs`,
//! `crates/iota-transaction-checks`, `crates/iota-core/src/transaction_input_loader.rs` of `iotaledger/iota`).

use std::collections::{BTreeMap, BTreeSet};

use iota_sdk::types::{
    Address, Command, GasPayment, Input, Object, ObjectId, ObjectReference, Owner, ProgrammableTransaction,
    SharedObjectReference, Transaction, TransactionDigest, TransactionExpiration, TransactionKind, TransactionV1,
    TypeTag, Version,
};

use super::calls;
use super::chain::Chain;
use super::commands::InputValue;
use super::execute::{coin, object};
use super::limits::{
    COMPUTATION_UNITS, GAS_PRICE, HIGHEST_GAS_PRICE, LARGEST_BUDGET, LARGEST_PURE, MOST_ARGUMENTS, MOST_COMMANDS,
    MOST_GAS_OBJECTS, MOST_INPUT_OBJECTS,
};
use super::refusal::{InputError, Refusal};
use super::rejection::Rejection;
use crate::network::Packages;

/// What is wanted with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// To execute it.
    Execution,
    /// To see what it would do. If nobody pays for it, a coin from nowhere does.
    Simulation,
    /// To see what it would cost: whose the objects are does not matter, and a budget of 0 is the largest.
    Estimate,
}

/// What a coin from nowhere holds, in NANOS.
const SIMULATED_COIN: u64 = 1_000_000_000_000_000_000;

/// A transaction that a node would execute.
pub(super) struct Checked<'a> {
    pub(super) program: &'a ProgrammableTransaction,
    pub(super) sender: Address,
    pub(super) budget: u64,
    pub(super) price: u64,
    pub(super) gas: ObjectId,
    /// Coins that are merged into the gas coin before anything else.
    pub(super) smashed: Vec<Object>,
    /// All objects that the transaction may write, at their present versions.
    pub(super) writable: BTreeMap<ObjectId, Object>,
    /// Shared objects that it only reads.
    pub(super) readable: Vec<Object>,
    pub(super) inputs: Vec<InputValue>,
    /// Of everything that it writes.
    pub(super) version: Version,
}

impl<'a> Checked<'a> {
    pub(super) fn new(chain: &Chain, transaction: &'a Transaction, wanted: Wanted) -> Result<Self, Refusal> {
        let Transaction::V1(transaction) = transaction else {
            return Err(Rejection::beyond_the_mock("this version of a transaction").into());
        };
        let TransactionKind::Programmable(program) = &transaction.kind else {
            return Err(Rejection::beyond_the_mock("a transaction of the system").into());
        };
        match transaction.expiration {
            // There is one epoch, 0, and it does not end.
            TransactionExpiration::None | TransactionExpiration::Epoch(_) => {}
            _ => return Err(Rejection::beyond_the_mock("this way to expire").into()),
        }
        check_form(transaction, program, wanted)?;
        check_packages(program)?;
        let shared = program.inputs.iter().filter_map(|input| match input {
            Input::Shared(reference) => Some(there(chain, reference.object_id)),
            _ => None,
        });
        shared.collect::<Result<Vec<_>, _>>()?;
        let mut inputs = Vec::new();
        for input in &program.inputs {
            inputs.push(match input {
                Input::Pure(bytes) => Loaded::Pure(bytes.clone()),
                Input::ImmutableOrOwned(reference) => Loaded::Owned(*reference, live(chain, reference)?.clone()),
                Input::Shared(reference) => Loaded::Shared(*reference, there(chain, reference.object_id)?.clone()),
                _ => return Err(Rejection::beyond_the_mock("receiving an object").into()),
            });
        }
        let payment = &transaction.gas_payment;
        let coins = coins(chain, payment, wanted)?;
        let budget = check_gas(payment, &coins, wanted)?;
        let checked = Self::with_objects(transaction, program, coins, inputs, budget, wanted)?;
        calls::check_all_known(&program.commands)?;
        Ok(checked)
    }

    /// Mutable objects may be there once, and all as what they are.
    fn with_objects(
        transaction: &TransactionV1,
        program: &'a ProgrammableTransaction,
        coins: Vec<Object>,
        inputs: Vec<Loaded>,
        budget: u64,
        wanted: Wanted,
    ) -> Result<Self, Refusal> {
        let gas = coins.first().ok_or(InputError::NoGas)?.id();
        let (mut writable, mut readable, mut values) = (BTreeMap::new(), Vec::new(), Vec::new());
        for input in inputs {
            let (value, object) = match input {
                Loaded::Pure(bytes) => {
                    values.push(InputValue::Pure(bytes));
                    continue;
                }
                Loaded::Shared(reference, object) if !reference.mutable => {
                    if wanted != Wanted::Estimate {
                        check_shared(&reference, &object)?;
                    }
                    values.push(InputValue::SharedReadOnly(reference.object_id));
                    readable.push(object);
                    continue;
                }
                Loaded::Shared(reference, object) => {
                    if wanted != Wanted::Estimate {
                        check_shared(&reference, &object)?;
                    }
                    (InputValue::SharedMutable(reference.object_id), object)
                }
                Loaded::Owned(reference, object) => {
                    if wanted != Wanted::Estimate {
                        check_owned(&reference, &object, transaction.sender)?;
                    }
                    (InputValue::Owned(reference.object_id), object)
                }
            };
            values.push(value);
            let id = object.id();
            if writable.insert(id, object).is_some() {
                return Err(InputError::UsedTwice(id).into());
            }
        }
        for (at, coin) in coins.iter().enumerate() {
            let id = coin.id();
            if writable.insert(id, coin.clone()).is_some() {
                return Err(InputError::UsedTwice(id).into());
            }
            // A coin from nowhere has no reference.
            if let (Some(reference), true) = (transaction.gas_payment.objects.get(at), wanted != Wanted::Estimate) {
                check_owned(reference, coin, transaction.gas_payment.owner)?;
            }
        }
        let highest = writable.values().chain(&readable).map(Object::version).max();
        Ok(Self {
            program,
            sender: transaction.sender,
            budget,
            price: transaction.gas_payment.price,
            gas,
            smashed: coins.into_iter().skip(1).collect(),
            writable,
            readable,
            inputs: values,
            version: highest.unwrap_or_default().next().map_err(Rejection::broken)?,
        })
    }
}

/// An input, with the object that it names.
enum Loaded {
    Pure(Vec<u8>),
    Owned(ObjectReference, Object),
    Shared(SharedObjectReference, Object),
}

/// What can be told without looking at the ledger.
fn check_form(
    transaction: &TransactionV1,
    program: &ProgrammableTransaction,
    wanted: Wanted,
) -> Result<(), InputError> {
    let too_large = |limit: &str, value| InputError::TooLarge { limit: limit.to_owned(), value };
    let coins = transaction.gas_payment.objects.len();
    if wanted == Wanted::Execution && coins == 0 {
        return Err(InputError::NoGas);
    }
    if coins >= MOST_GAS_OBJECTS {
        return Err(too_large("maximum number of gas payment objects", MOST_GAS_OBJECTS));
    }
    if program.commands.len() >= MOST_COMMANDS {
        return Err(too_large("maximum commands in a programmable transaction", MOST_COMMANDS));
    }
    let mut objects = BTreeSet::new();
    for input in &program.inputs {
        let id = match input {
            Input::ImmutableOrOwned(reference) => reference.object_id,
            Input::Shared(reference) => reference.object_id,
            _ => continue,
        };
        if !objects.insert(id) {
            return Err(InputError::DuplicateInputs);
        }
    }
    if objects.len() + packages(program).len() > MOST_INPUT_OBJECTS {
        return Err(too_large("maximum input + receiving objects in a transaction", MOST_INPUT_OBJECTS));
    }
    for input in &program.inputs {
        if let Input::Pure(bytes) = input
            && bytes.len() >= LARGEST_PURE
        {
            return Err(too_large("maximum pure argument size", LARGEST_PURE));
        }
    }
    for command in &program.commands {
        let (arguments, may_be_empty, limit) = match command {
            Command::MoveCall(call) => (call.arguments.len(), true, "maximum arguments in a move call"),
            Command::TransferObjects(command) => (command.objects.len(), false, IN_A_COMMAND),
            Command::SplitCoins(command) => (command.amounts.len(), false, IN_A_COMMAND),
            Command::MergeCoins(command) => (command.coins_to_merge.len(), false, IN_A_COMMAND),
            Command::MakeMoveVector(command) => (command.elements.len(), command.type_tag.is_some(), IN_A_COMMAND),
            // Refused later by name.
            _ => continue,
        };
        if arguments == 0 && !may_be_empty {
            return Err(InputError::EmptyCommand);
        }
        if arguments >= MOST_ARGUMENTS {
            return Err(too_large(limit, MOST_ARGUMENTS));
        }
    }
    Ok(())
}

const IN_A_COMMAND: &str = "maximum arguments in a programmable transaction command";

/// The packages that are called, and those of type arguments.
fn packages(program: &ProgrammableTransaction) -> BTreeSet<ObjectId> {
    let mut packages = BTreeSet::new();
    for command in &program.commands {
        let mut tags = match command {
            Command::MoveCall(call) => {
                packages.insert(call.package);
                call.type_arguments.iter().collect::<Vec<_>>()
            }
            Command::MakeMoveVector(command) => command.type_tag.iter().collect(),
            _ => continue,
        };
        while let Some(tag) = tags.pop() {
            match tag {
                TypeTag::Vector(of) => tags.push(of),
                TypeTag::Struct(tag) => {
                    packages.insert(ObjectId::from(tag.address()));
                    tags.extend(tag.type_params());
                }
                _ => {}
            }
        }
    }
    packages
}

/// The packages that there are: those of the system, and the ones the mock plays.
fn check_packages(program: &ProgrammableTransaction) -> Result<(), InputError> {
    const MOCK: Packages = Packages::MOCK;
    let known = [
        ObjectId::STD,
        ObjectId::FRAMEWORK,
        ObjectId::SYSTEM,
        MOCK.audit_trails,
        MOCK.audit_trails_called,
        MOCK.tf_components,
    ];
    match packages(program).into_iter().find(|package| !known.contains(package)) {
        Some(unknown) => Err(InputError::NoPackage(unknown)),
        None => Ok(()),
    }
}

/// The newest version of an object.
fn there(chain: &Chain, id: ObjectId) -> Result<&Object, InputError> {
    chain.object(id).ok_or(InputError::NotFound { id, version: None })
}

/// An object of which the newest version is named.
fn live<'a>(chain: &'a Chain, reference: &ObjectReference) -> Result<&'a Object, InputError> {
    let object = there(chain, reference.object_id)?;
    let current = object.version();
    match current.cmp(&reference.version) {
        std::cmp::Ordering::Equal => Ok(object),
        std::cmp::Ordering::Greater => Err(InputError::Stale { given: *reference, current }),
        // The node may not have caught up.
        std::cmp::Ordering::Less => {
            Err(InputError::NotFound { id: reference.object_id, version: Some(reference.version) })
        }
    }
}

fn coins(chain: &Chain, payment: &GasPayment, wanted: Wanted) -> Result<Vec<Object>, InputError> {
    if payment.objects.is_empty() && wanted != Wanted::Execution {
        let (id, version) = (ObjectId::new([0xff; ObjectId::LENGTH]), Version::INITIAL_SHARED_VERSION);
        let contents = coin::contents(id, SIMULATED_COIN);
        let owner = Owner::Address(payment.owner);
        return Ok(vec![object(coin::tag(), version, contents, owner, TransactionDigest::genesis_marker())]);
    }
    payment.objects.iter().map(|reference| live(chain, reference).cloned()).collect()
}

/// Whether price, budget and coins go together. Returns the budget.
fn check_gas(payment: &GasPayment, coins: &[Object], wanted: Wanted) -> Result<u64, InputError> {
    let GasPayment { price, budget, .. } = *payment;
    if price < GAS_PRICE {
        return Err(InputError::PriceTooLow { given: price, reference: GAS_PRICE });
    }
    if price >= HIGHEST_GAS_PRICE {
        return Err(InputError::PriceTooHigh(HIGHEST_GAS_PRICE));
    }
    let mut balance = 0;
    for object in coins {
        if !matches!(object.owner, Owner::Address(_)) {
            return Err(InputError::GasNotOwned(object.owner));
        }
        let contents = object.as_opt_struct().filter(|_| object.is_gas_coin());
        let coin = contents.and_then(|value| coin::balance(value.contents()));
        balance += u128::from(coin.ok_or_else(|| InputError::NotGas(object.id()))?);
    }
    if wanted == Wanted::Estimate {
        let wished = if budget == 0 { LARGEST_BUDGET } else { budget };
        return Ok(u64::try_from(balance).map_or(wished, |balance| wished.min(balance)));
    }
    if budget > LARGEST_BUDGET {
        return Err(InputError::BudgetTooHigh { given: budget, most: LARGEST_BUDGET });
    }
    let least = COMPUTATION_UNITS * price;
    if budget < least {
        return Err(InputError::BudgetTooLow { given: budget, least });
    }
    if balance < u128::from(budget) {
        return Err(InputError::BalanceTooLow { balance, budget });
    }
    Ok(budget)
}

fn check_owned(reference: &ObjectReference, object: &Object, user: Address) -> Result<(), InputError> {
    let (id, expected) = (object.id(), object.digest());
    if reference.digest != expected {
        return Err(InputError::WrongDigest { id, expected });
    }
    match object.owner {
        Owner::Immutable => Ok(()),
        Owner::Address(owner) if owner == user => Ok(()),
        Owner::Address(owner) => Err(InputError::WrongOwner { id, owner, given: user }),
        Owner::Object(parent) => Err(InputError::Child { child: id, parent }),
        _ => Err(InputError::NotShared),
    }
}

fn check_shared(reference: &SharedObjectReference, object: &Object) -> Result<(), InputError> {
    // Only the system turns the clock.
    if reference.object_id == ObjectId::CLOCK
        && reference.initial_shared_version == Version::INITIAL_SHARED_VERSION
        && reference.mutable
    {
        return Err(InputError::OnlyToBeRead);
    }
    match object.owner {
        Owner::Shared(initial) if initial == reference.initial_shared_version => Ok(()),
        Owner::Shared(_) => Err(InputError::WrongInitialVersion),
        _ => Err(InputError::NotShared),
    }
}
