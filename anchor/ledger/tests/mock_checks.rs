//! What a node says to transactions that it does not execute, and to those that it executes in vain.
//!
//! The texts are those of `iotaledger/iota`: `UserInputError` in `crates/iota-types/src/error.rs`, and what
//! `crates/iota-grpc-server/src/error.rs` makes of them.

#![allow(clippy::unwrap_used)]

mod support;

use iota_sdk::crypto::ed25519::Ed25519PrivateKey;
use iota_sdk::grpc_client::GrpcError;
use iota_sdk::grpc_client::tonic::Code;
use iota_sdk::types::{
    Argument, Command, CommandArgumentError, Digest, ExecutionError, ExecutionStatus, Input, MoveCall, ObjectId,
    ObjectReference, ProgrammableTransaction, SharedObjectReference, SplitCoins, StructTag, Transaction,
    TransactionEffectsV1, TransactionKind, TransactionV1, TypeTag, Version,
};
use support::client::{Attacker, signed};

/// What transactions are made wrong with.
struct Things {
    coin: ObjectReference,
    others_coin: ObjectReference,
    recorder: ObjectReference,
    trail: ObjectReference,
    trail_since: Version,
    record: ObjectReference,
    record_of: ObjectId,
    destroyed_admin: ObjectReference,
    balance: u64,
}

impl Things {
    async fn of(client: &Attacker) -> Self {
        let added = client.try_out(&client.anchor, |calls| calls.add("a record")).await.unwrap();
        assert_eq!(added.status, ExecutionStatus::Success);
        let stranger = client.stranger().await.public_key().derive_address();
        let trail = client.object(client.report.trail).await;
        let record_of = ObjectId::from_bytes(&trail.as_struct().contents()[80..112]).unwrap();
        let record = record_of.derive_dynamic_child_id(&TypeTag::U64, &0_u64.to_le_bytes());
        let iota_sdk::types::Owner::Shared(trail_since) = trail.owner else { panic!("{}", trail.owner) };
        let coin = client.coin(client.report.address).await;
        let contents = client.object(coin.object_id).await.as_struct().contents()[32..].to_vec();
        // The third object that `create` makes, after the trail and its table.
        let admin = ObjectId::derive_id(client.report.create.transaction, 2);
        Self {
            coin,
            others_coin: client.coin(stranger).await,
            recorder: client.object(client.report.recorder).await.object_ref(),
            trail: trail.object_ref(),
            trail_since,
            record: client.object(record).await.object_ref(),
            record_of,
            destroyed_admin: ObjectReference::new(admin, Version::from_u64(1), Digest::new([1; 32]).into()),
            balance: u64::from_le_bytes(contents.try_into().unwrap()),
        }
    }
}

fn program(transaction: &mut TransactionV1) -> &mut ProgrammableTransaction {
    match &mut transaction.kind {
        TransactionKind::Programmable(program) => program,
        other => panic!("{other:?}"),
    }
}

/// Changes the input that names this object.
fn input(transaction: &mut TransactionV1, id: ObjectId, to: Input) {
    let found = program(transaction).inputs.iter_mut().find(|input| match input {
        Input::ImmutableOrOwned(reference) => reference.object_id == id,
        Input::Shared(reference) => reference.object_id == id,
        _ => false,
    });
    *found.unwrap() = to;
}

fn owned(reference: ObjectReference) -> Input {
    Input::ImmutableOrOwned(reference)
}

fn shared(id: ObjectId, since: Version, mutable: bool) -> Input {
    Input::Shared(SharedObjectReference::new(id, since, mutable))
}

/// The call of `add_record`.
fn call(transaction: &mut TransactionV1) -> &mut MoveCall {
    match &mut program(transaction).commands[1] {
        Command::MoveCall(call) => call,
        other => panic!("{other:?}"),
    }
}

fn split(amounts: usize) -> Command {
    Command::SplitCoins(SplitCoins { coin: Argument::Gas, amounts: vec![Argument::Input(0); amounts] })
}

fn nowhere() -> StructTag {
    "0x77::module::Name".parse().unwrap()
}

type Change = fn(&mut TransactionV1, &Things);

/// A change that makes an ordinary transaction wrong, and what a node says to it.
fn wrong_transactions(things: &Things) -> Vec<(Change, String)> {
    let Things { coin, others_coin, recorder, trail, record, record_of, destroyed_admin, balance, .. } = things;
    let (ahead, version) = (coin.version.next().unwrap(), coin.version);
    let stale = Version::from_u64(1);
    let used_twice = |id| format!("Mutable object {id} cannot appear more than once in one transaction");
    let not_found =
        |id, version: Option<Version>| format!("Could not find the referenced object {id} at version {version:?}");
    let others = "Transaction was not signed by the correct sender: Object";
    let limit = |limit: &str| format!("Size limit exceeded: {limit}");
    vec![
        (|it, _| it.gas_payment.price = 999, "Gas price 999 under reference gas price (RGP) 1000".into()),
        (|it, _| it.gas_payment.price = 100_000, "Gas price cannot exceed 100000 nanos".into()),
        (|it, _| it.gas_payment.budget = 999_999, "Gas budget: 999999 is lower than min: 1000000".into()),
        (
            |it, _| it.gas_payment.budget = 50_000_000_001,
            "Gas budget: 50000000001 is higher than max: 50000000000".into(),
        ),
        (
            |it, things| it.gas_payment.budget = things.balance + 1,
            format!("Balance of gas object {balance} is lower than the needed amount: {}", balance + 1),
        ),
        (|it, things| it.gas_payment.objects.push(things.coin), used_twice(coin.object_id)),
        (|it, things| program(it).inputs.push(owned(things.coin)), used_twice(coin.object_id)),
        (
            |it, things| program(it).inputs.push(owned(things.recorder)),
            "The transaction inputs contain duplicated ObjectReference's".into(),
        ),
        (
            |it, things| it.gas_payment.objects = vec![things.recorder],
            format!("Object {} is not a gas object", recorder.object_id),
        ),
        (
            |it, things| it.gas_payment.objects = vec![things.trail],
            format!("Gas object is not an owned object with owner: Shared({})", things.trail_since),
        ),
        (
            |it, things| it.gas_payment.objects.push(things.others_coin),
            format!("{others} {} is owned by account address", others_coin.object_id),
        ),
        (
            |it, things| {
                let stale = ObjectReference { version: Version::from_u64(1), ..things.coin };
                it.gas_payment.objects = vec![stale];
            },
            format!(
                "Object ID {} Version {stale} Digest {} is not available for consumption, current version: {version}",
                coin.object_id, coin.digest
            ),
        ),
        (
            |it, things| {
                let ahead = ObjectReference { version: things.coin.version.next().unwrap(), ..things.coin };
                it.gas_payment.objects = vec![ahead];
            },
            not_found(coin.object_id, Some(ahead)),
        ),
        (
            |it, things| {
                let other = ObjectReference { digest: things.trail.digest, ..things.recorder };
                input(it, things.recorder.object_id, owned(other));
            },
            format!("Invalid Object digest for object {}. Expected digest : {}", recorder.object_id, recorder.digest),
        ),
        (
            |it, things| input(it, things.recorder.object_id, owned(things.destroyed_admin)),
            not_found(destroyed_admin.object_id, None),
        ),
        (
            |it, things| input(it, things.trail.object_id, shared(ObjectId::ZERO, things.trail_since, true)),
            not_found(ObjectId::ZERO, None),
        ),
        (
            |it, things| input(it, things.recorder.object_id, owned(things.others_coin)),
            format!("{others} {} is owned by account address", others_coin.object_id),
        ),
        (
            |it, things| input(it, things.recorder.object_id, owned(things.record)),
            format!(
                "Object {} is owned by object {record_of}. Objects owned by other objects cannot be used as input arguments",
                record.object_id
            ),
        ),
        (
            |it, things| input(it, things.trail.object_id, owned(things.trail)),
            "Object used as shared is not shared".into(),
        ),
        (
            |it, things| {
                input(it, things.recorder.object_id, shared(things.recorder.object_id, things.trail_since, true))
            },
            "Object used as shared is not shared".into(),
        ),
        (
            |it, things| input(it, things.trail.object_id, shared(things.trail.object_id, things.trail.version, true)),
            "Wrong initial version given for shared object".into(),
        ),
        (
            |it, _| input(it, ObjectId::CLOCK, shared(ObjectId::CLOCK, Version::from_u64(1), true)),
            "Mutable parameter provided, immutable parameter expected".into(),
        ),
        (
            |it, things| call(it).package = things.trail.object_id,
            format!("Dependent package not found on-chain: {}", trail.object_id),
        ),
        (
            |it, _| call(it).type_arguments = vec![TypeTag::Vector(Box::new(nowhere().into()))],
            format!("Dependent package not found on-chain: {}", ObjectId::from(nowhere().address())),
        ),
        (
            |it, _| program(it).inputs.push(Input::Pure(vec![0; 16 * 1024])),
            limit("maximum pure argument size is 16384"),
        ),
        (
            |it, _| program(it).commands.resize(1024, split(1)),
            limit("maximum commands in a programmable transaction is 1024"),
        ),
        (
            |it, _| program(it).commands.push(split(512)),
            limit("maximum arguments in a programmable transaction command is 512"),
        ),
        (|it, _| call(it).arguments.resize(512, Argument::Gas), limit("maximum arguments in a move call is 512")),
        (
            |it, things| it.gas_payment.objects.resize(256, things.coin),
            limit("maximum number of gas payment objects is 256"),
        ),
        (
            |it, _| program(it).commands.push(split(0)),
            "TransferObjects, MergeCoin, and Publish cannot have empty arguments. If MakeMoveVec has empty arguments, \
             it must have a type specified"
                .into(),
        ),
    ]
}

async fn changed(client: &Attacker, things: &Things, change: Change) -> Transaction {
    let mut transaction = client.transaction(&client.anchor, |calls| calls.add("text")).await;
    let Transaction::V1(inner) = &mut transaction else { panic!("{transaction:?}") };
    change(inner, things);
    transaction
}

const WHEN_EXECUTED: &str = "Transaction execution failed due to issues with transaction inputs, please review the \
                             errors and try again: ";
const WHEN_SIMULATED: &str = "transaction simulation failed: Error checking transaction input objects: ";

#[tokio::test]
async fn a_transaction_that_is_wrong_is_refused_in_the_words_of_a_node_and_costs_nothing() {
    let client = Attacker::with_little().await;
    let things = Things::of(&client).await;
    for (change, expected) in wrong_transactions(&things) {
        let transaction = changed(&client, &things, change).await;
        let (code, message) = client.hand_in(signed(transaction.clone(), &client.anchor)).await.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.starts_with(&format!("{WHEN_EXECUTED}{expected}")), "{message}\n{expected}");
        match client.node.simulate_transaction(transaction.clone()).await {
            Err(GrpcError::Server(status)) => {
                assert_eq!(status.code, Code::Internal as i32, "{}", status.message);
                assert!(status.message.starts_with(&format!("{WHEN_SIMULATED}{expected}")), "{}", status.message);
            }
            other => panic!("{expected}: {other:?}"),
        }
        let unknown = client.node.transactions([transaction.digest()]).await.unwrap().into_inner().remove(0);
        match unknown {
            Err(GrpcError::Server(status)) => {
                assert_eq!(status.code, Code::NotFound as i32);
                assert_eq!(status.message, format!("Transaction {} not found", transaction.digest()));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(client.coin(client.report.address).await, things.coin);
}

#[tokio::test]
async fn some_things_matter_only_when_it_is_to_be_executed() {
    let client = Attacker::new().await;
    let things = Things::of(&client).await;
    let cases: [(Change, &str); 2] = [
        (|it, _| it.gas_payment.objects.clear(), "Transaction gas payment missing"),
        (
            |it, _| program(it).inputs.extend(vec![Input::Pure(vec![0; 16_000]); 9]),
            "Size limit exceeded: serialized transaction size exceeded maximum of 131072 is 144",
        ),
    ];
    for (change, expected) in cases {
        let transaction = changed(&client, &things, change).await;
        let (code, message) = client.hand_in(signed(transaction.clone(), &client.anchor)).await.unwrap_err();
        assert_eq!(code, Code::InvalidArgument, "{message}");
        assert!(message.starts_with(&format!("{WHEN_EXECUTED}{expected}")), "{message}");
        let simulated = client.node.simulate_transaction(transaction).await.unwrap();
        let effects = simulated.body().executed_transaction().unwrap().effects().unwrap().effects().unwrap();
        assert_eq!(effects.as_v1().status, ExecutionStatus::Success);
    }
}

#[tokio::test]
async fn signatures_come_first_also_for_what_is_executed_already() {
    let client = Attacker::new().await;
    let things = Things::of(&client).await;
    let transaction = changed(&client, &things, |_, _| {}).await;
    let good = signed(transaction.clone(), &client.anchor);
    client.hand_in(good.clone()).await.unwrap();
    let other = signed(changed(&client, &things, |it, _| it.gas_payment.budget += 1).await, &client.anchor);
    let stranger = Ed25519PrivateKey::new([9; 32]);
    let strangers = signed(transaction, &stranger);
    let absent = format!(
        "Invalid user signature: Required Signature from {} is absent [\"{}\"]",
        client.report.address,
        stranger.public_key().derive_address()
    );
    for (signatures, expected) in [
        (vec![], "Invalid user signature: Expect 1 signer signatures but got 0".to_owned()),
        (
            [good.signatures.clone(), strangers.signatures.clone()].concat(),
            "Invalid user signature: Expect 1 signer signatures but got 2".to_owned(),
        ),
        (strangers.signatures, absent),
        (other.signatures, "Invalid user signature: Signature is not valid: ".to_owned()),
    ] {
        let refused = client.hand_in(iota_sdk::types::SignedTransaction { signatures, ..good.clone() }).await;
        let (code, message) = refused.unwrap_err();
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.starts_with(&expected), "{message}\n{expected}");
    }
}

fn argument_error(argument: u16, kind: CommandArgumentError) -> ExecutionError {
    ExecutionError::CommandArgumentError { argument, kind }
}

/// A change that makes an ordinary transaction fail when it is executed: in which command, and how.
fn failing_transactions() -> Vec<(Change, Option<u64>, ExecutionError)> {
    vec![
        (|it, _| it.gas_payment.budget = 1_000_000, None, ExecutionError::InsufficientGas),
        (|it, _| it.gas_payment.budget = 3_000_000, None, ExecutionError::InsufficientGas),
        (|it, _| call(it).type_arguments.clear(), Some(1), ExecutionError::TypeArityMismatch),
        (
            |it, _| call(it).type_arguments = vec![TypeTag::U64],
            Some(1),
            argument_error(0, CommandArgumentError::TypeMismatch),
        ),
        (|it, _| call(it).arguments.truncate(5), Some(1), ExecutionError::ArityMismatch),
        (
            |it, things| input(it, things.trail.object_id, shared(things.trail.object_id, things.trail_since, false)),
            Some(1),
            argument_error(0, CommandArgumentError::InvalidObjectByMutRef),
        ),
        (|it, _| call(it).arguments[1] = Argument::Gas, Some(1), argument_error(1, CommandArgumentError::TypeMismatch)),
        (
            |it, _| call(it).arguments[5] = Argument::Input(0),
            Some(1),
            argument_error(5, CommandArgumentError::InvalidUsageOfPureArgument),
        ),
        (
            |it, _| call(it).arguments[2] = Argument::Result(7),
            Some(1),
            argument_error(2, CommandArgumentError::IndexOutOfBounds { index: 7 }),
        ),
        (
            |it, _| {
                program(it).inputs.push(Input::Pure(u64::MAX.to_le_bytes().to_vec()));
                let amount = Argument::Input(u16::try_from(program(it).inputs.len()).unwrap() - 1);
                program(it)
                    .commands
                    .push(Command::SplitCoins(SplitCoins { coin: Argument::Gas, amounts: vec![amount] }));
            },
            Some(2),
            ExecutionError::InsufficientCoinBalance,
        ),
    ]
}

#[tokio::test]
async fn a_transaction_that_fails_is_executed_paid_for_and_moves_all_versions() {
    let client = Attacker::new().await;
    for (change, command, expected) in failing_transactions() {
        let things = Things::of(&client).await;
        let trail = client.object(things.trail.object_id).await;
        let transaction = signed(changed(&client, &things, change).await, &client.anchor);
        let simulated = client.node.simulate_transaction(transaction.transaction.clone()).await.unwrap();
        let error = simulated.body().execution_error().unwrap();
        let kind: ExecutionError = error.bcs_kind.as_ref().unwrap().deserialize().unwrap();
        assert_eq!((kind, error.command_index), (expected.clone(), command));

        let effects: TransactionEffectsV1 = client.hand_in(transaction.clone()).await.unwrap();
        assert_eq!(effects.status, ExecutionStatus::Failure { error: expected, command });
        assert_eq!(effects.gas_cost_summary.net_gas_usage(), 1_000_000);
        assert_eq!(effects.events_digest, None);
        for owned in [things.coin, things.recorder] {
            let now = client.object(owned.object_id).await;
            assert_eq!(
                (now.version(), now.previous_transaction),
                (effects.lamport_version, effects.transaction_digest)
            );
        }
        let unchanged = client.object(things.trail.object_id).await;
        assert_eq!(unchanged.as_struct().contents(), trail.as_struct().contents());
        assert_eq!(client.hand_in(transaction.clone()).await.unwrap(), effects, "the same again is the same");
        let known = client.node.transactions([effects.transaction_digest]).await;
        assert!(known.is_ok(), "what failed can be looked up");
    }
}
