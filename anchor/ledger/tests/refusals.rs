//! What the mock refuses, as a node would, and what of it a client is told.

#![allow(clippy::unwrap_used)]

mod support;

use grid_ledger::{Address, Endpoints, InitReport, LedgerError, ObjectId, Packages, TrailReader, Weakness};
use iota_sdk::crypto::IotaSigner;
use iota_sdk::crypto::ed25519::Ed25519PrivateKey;
use iota_sdk::grpc_client::{GrpcClient, GrpcError};
use iota_sdk::transaction_builder::unresolved::{Argument, Command, MakeMoveVector, MoveCall, TransferObjects};
use iota_sdk::transaction_builder::{TransactionBuilder, TransactionBuilderLedgerClient};
use iota_sdk::types::{
    ExecutionError, ExecutionStatus, Identifier, Input, Object, ObjectReference, Owner, SharedObjectReference,
    SignedTransaction, StructTag, Transaction, TransactionEffectsV1, TypeTag, UserSignature, Version,
};
use support::{Mock, init_in};

const PACKAGES: Packages = Packages::MOCK;

/// Somebody with the anchor's own key, or with another one, and a plain client of the node.
struct Attacker {
    _folder: tempfile::TempDir,
    mock: Mock,
    report: InitReport,
    node: GrpcClient,
    anchor: Ed25519PrivateKey,
}

impl Attacker {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mock = Mock::start(&folder.path().join("mock")).await;
        let report = init_in(&folder.path().join("data"), &mock, None).await.unwrap();
        let pem = std::fs::read_to_string(folder.path().join("data/ledger.key")).unwrap();
        let anchor = Ed25519PrivateKey::from_pem(&pem).unwrap();
        let node = GrpcClient::new(mock.endpoints().grpc[0].as_str()).unwrap();
        Self { _folder: folder, mock, report, node, anchor }
    }

    async fn object(&self, id: ObjectId) -> Object {
        TransactionBuilderLedgerClient::object(&self.node, id, None).await.unwrap().unwrap()
    }

    async fn coin(&self, owner: Address) -> ObjectReference {
        let tag = Some(StructTag::new_gas_coin());
        let page = TransactionBuilderLedgerClient::objects(&self.node, tag, owner, None, None).await.unwrap();
        page.data[0].object_ref()
    }

    /// Another key, with coins from the faucet.
    async fn stranger(&self) -> Ed25519PrivateKey {
        let key = Ed25519PrivateKey::new([7; 32]);
        self.mock.give(key.public_key().derive_address()).await;
        key
    }

    async fn transaction(&self, sender: &Ed25519PrivateKey, calls: impl FnOnce(&mut Calls)) -> Transaction {
        let address = sender.public_key().derive_address();
        let trail = self.object(self.report.trail).await;
        let Owner::Shared(initial) = trail.owner else { panic!("{}", trail.owner) };
        let recorder = self.object(self.report.recorder).await.object_ref();
        let mut calls_ = Calls {
            builder: TransactionBuilder::new(address),
            package: PACKAGES.audit_trails_called,
            trail: Input::Shared(SharedObjectReference::new(self.report.trail, initial, true)),
            recorder: Input::ImmutableOrOwned(recorder),
        };
        calls(&mut calls_);
        let mut builder = calls_.builder;
        builder.gas([self.coin(address).await]).gas_price(1000).gas_budget(200_000_000);
        builder.finish().unwrap()
    }

    async fn submit(&self, signed: SignedTransaction) -> Result<TransactionEffectsV1, String> {
        match self.node.execute_transaction(signed).await {
            Ok(executed) => Ok(executed.body().effects().unwrap().effects().unwrap().as_v1().clone()),
            Err(GrpcError::Server(status)) => Err(status.message),
            Err(other) => panic!("{other}"),
        }
    }

    async fn try_out(
        &self,
        sender: &Ed25519PrivateKey,
        calls: impl FnOnce(&mut Calls),
    ) -> Result<TransactionEffectsV1, String> {
        let transaction = self.transaction(sender, calls).await;
        self.submit(signed(transaction, sender)).await
    }
}

fn signed(transaction: Transaction, key: &Ed25519PrivateKey) -> SignedTransaction {
    let signature = key.sign_transaction(&transaction).unwrap();
    SignedTransaction { transaction, signatures: vec![signature] }
}

struct Calls {
    builder: TransactionBuilder,
    package: ObjectId,
    trail: Input,
    recorder: Input,
}

impl Calls {
    fn call(&mut self, path: (&str, &str), about_data: bool, arguments: Vec<Argument>) -> Argument {
        let types = if about_data { vec![data()] } else { vec![] };
        let (module, function) = (Identifier::new(path.0).unwrap(), Identifier::new(path.1).unwrap());
        self.builder.command(Command::MoveCall(MoveCall::new(self.package, module, function, types, arguments)))
    }

    fn trail(&mut self) -> Argument {
        self.builder.input(self.trail.clone())
    }

    fn recorder(&mut self) -> Argument {
        self.builder.input(self.recorder.clone())
    }

    fn clock(&mut self) -> Argument {
        self.builder.input(Input::Shared(SharedObjectReference::new(ObjectId::CLOCK, Version::from_u64(1), false)))
    }

    fn add(&mut self, text: &str) {
        let text = self.builder.pure(text);
        let text = self.call(("record", "new_text"), false, vec![text]);
        let none = self.builder.pure(None::<String>);
        let arguments = vec![self.trail(), self.recorder(), text, none, none, self.clock()];
        self.call(("main", "add_record"), true, arguments);
    }
}

fn data() -> TypeTag {
    tag("record", "Data")
}

fn tag(module: &str, name: &str) -> TypeTag {
    let (module, name) = (Identifier::new(module).unwrap(), Identifier::new(name).unwrap());
    StructTag::new(*PACKAGES.audit_trails.as_address(), module, name, vec![]).into()
}

/// Where a call aborted.
fn aborted(effects: &TransactionEffectsV1) -> (String, String) {
    match &effects.status {
        ExecutionStatus::Failure { error: ExecutionError::MoveAbort { location, .. }, .. } => {
            (location.module.as_str().to_owned(), location.function_name.as_ref().unwrap().as_str().to_owned())
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn deleting_and_unlocking_are_refused_by_name_and_cost_nothing() {
    let attacker = Attacker::new().await;
    let before = attacker.coin(attacker.report.address).await;
    for function in ["delete_record", "delete_records_batch", "delete_audit_trail", "update_locking_config", "migrate"]
    {
        let refused = attacker.try_out(&attacker.anchor, |calls| {
            let arguments = vec![calls.trail(), calls.recorder(), calls.clock()];
            calls.call(("main", function), true, arguments);
        });
        let refused = refused.await.unwrap_err();
        assert!(refused.contains(&format!("main::{function}")) && refused.contains("NOT IOTA"), "{refused}");
    }
    assert_eq!(attacker.coin(attacker.report.address).await, before);
}

#[tokio::test]
async fn a_recorder_cannot_act_as_admin_and_pays_for_trying() {
    let attacker = Attacker::new().await;
    let before = attacker.report.balance;
    let effects = attacker.try_out(&attacker.anchor, |calls| {
        let permission = calls.call(("permission", "add_record"), false, vec![]);
        let vector = MakeMoveVector::new(Some(tag("permission", "Permission")), vec![permission]);
        let vector = calls.builder.command(Command::MakeMoveVector(vector));
        let permissions = calls.call(("permission", "from_vec"), false, vec![vector]);
        let tags = MoveCall::new(
            ObjectId::STD,
            Identifier::new("option").unwrap(),
            Identifier::new("none").unwrap(),
            vec![tag("record_tags", "RoleTags")],
            vec![],
        );
        let tags = calls.builder.command(Command::MoveCall(tags));
        let role = calls.builder.pure("Another");
        let arguments = vec![calls.trail(), calls.recorder(), role, permissions, tags, calls.clock()];
        calls.call(("main", "create_role"), true, arguments);
    });
    let effects = effects.await.unwrap();
    assert_eq!(aborted(&effects), ("role_map".to_owned(), "assert_capability_valid".to_owned()));
    assert_eq!(effects.gas_cost_summary.net_gas_usage(), 1_000_000);

    let effects = attacker.try_out(&attacker.anchor, |calls| {
        let role = calls.builder.pure("Admin");
        let none = calls.builder.pure(None::<u64>);
        let arguments = vec![calls.trail(), calls.recorder(), role, none, none, none, calls.clock()];
        calls.call(("main", "new_capability"), true, arguments);
    });
    assert_eq!(aborted(&effects.await.unwrap()).0, "role_map");

    let effects = attacker.try_out(&attacker.anchor, |calls| {
        let arguments = vec![calls.trail(), calls.recorder()];
        calls.call(("main", "destroy_initial_admin_capability"), true, arguments);
    });
    assert_eq!(aborted(&effects.await.unwrap()).1, "destroy_initial_admin_capability");
    let tag = Some(StructTag::new_gas_coin());
    let coins = TransactionBuilderLedgerClient::objects(&attacker.node, tag, attacker.report.address, None, None);
    let coin = iota_sdk::types::framework::Coin::try_from_object(&coins.await.unwrap().data[0]).unwrap();
    assert_eq!(coin.balance(), before - 3_000_000);
}

#[tokio::test]
async fn a_trail_is_called_at_the_version_that_made_it() {
    let attacker = Attacker::new().await;
    let effects = attacker.try_out(&attacker.anchor, |calls| {
        calls.package = PACKAGES.audit_trails;
        calls.add("to the older version of the package");
    });
    assert_eq!(aborted(&effects.await.unwrap()), ("main".to_owned(), "add_record".to_owned()));
}

#[tokio::test]
async fn nobody_else_can_use_the_capability() {
    let attacker = Attacker::new().await;
    let stranger = attacker.stranger().await;
    let refused = attacker.try_out(&stranger, |calls| calls.add("from a stranger")).await.unwrap_err();
    assert!(refused.contains("was not signed by the correct sender"), "{refused}");

    // Given away, it is still issued to the anchor alone.
    let address = stranger.public_key().derive_address();
    let given = attacker.try_out(&attacker.anchor, |calls| {
        let (capability, recipient) = (calls.recorder(), calls.builder.pure(address));
        calls.builder.command(Command::TransferObjects(TransferObjects::new(vec![capability], recipient)));
    });
    assert_eq!(given.await.unwrap().status, ExecutionStatus::Success);
    let effects = attacker.try_out(&stranger, |calls| calls.add("from a stranger")).await.unwrap();
    assert_eq!(aborted(&effects), ("role_map".to_owned(), "assert_capability_valid".to_owned()));
    assert_eq!(attacker.object(attacker.report.recorder).await.owner, address);
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    let attacker = Attacker::new().await;
    let transaction = attacker.transaction(&attacker.anchor, |calls| calls.add("text")).await;
    let other = attacker.transaction(&attacker.anchor, |calls| calls.add("other text")).await;
    let mut wrong = signed(transaction.clone(), &attacker.anchor);
    wrong.signatures = signed(other, &attacker.anchor).signatures;
    let refused = attacker.submit(wrong).await.unwrap_err();
    assert!(refused.contains("Signature is not valid"), "{refused}");
    let refused = attacker.submit(signed(transaction.clone(), &Ed25519PrivateKey::new([9; 32]))).await.unwrap_err();
    assert!(refused.contains("is absent"), "{refused}");
    let none = SignedTransaction { transaction, signatures: Vec::<UserSignature>::new() };
    assert!(attacker.submit(none).await.unwrap_err().contains("signer signatures"));
}

#[tokio::test]
async fn the_same_transaction_is_executed_once_and_one_with_stale_objects_not_at_all() {
    let attacker = Attacker::new().await;
    let first = signed(attacker.transaction(&attacker.anchor, |calls| calls.add("first")).await, &attacker.anchor);
    let stale = signed(attacker.transaction(&attacker.anchor, |calls| calls.add("stale")).await, &attacker.anchor);
    let effects = attacker.submit(first.clone()).await.unwrap();
    assert_eq!(effects.status, ExecutionStatus::Success);
    assert_eq!(attacker.submit(first).await.unwrap(), effects);
    let refused = attacker.submit(stale).await.unwrap_err();
    assert!(refused.contains("unavailable for consumption"), "{refused}");
    let reader = TrailReader::open(&attacker.mock.endpoints(), None, attacker.report.trail).await.unwrap();
    assert_eq!(reader.records(0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn ten_records_in_one_transaction_cost_what_they_cost_on_iota() {
    let attacker = Attacker::new().await;
    let effects = attacker.try_out(&attacker.anchor, |calls| {
        for _ in 0..10 {
            calls.add(&"x".repeat(250));
        }
    });
    let effects = effects.await.unwrap();
    assert_eq!(effects.gas_cost_summary.computation_cost, 1_000_000);
    assert_eq!(effects.gas_cost_summary.net_gas_usage(), 50_628_000);
}

#[tokio::test]
async fn versions_digests_and_fields_are_those_of_a_node() {
    let attacker = Attacker::new().await;
    let effects = attacker.try_out(&attacker.anchor, |calls| calls.add("text")).await.unwrap();
    for (changed, _) in effects.all_changed_objects() {
        let object = attacker.object(*changed.reference().object_id()).await;
        assert_eq!(object.object_ref(), *changed.reference());
        assert_eq!(object.version(), effects.lamport_version);
        assert_eq!(object.previous_transaction, effects.transaction_digest);
    }
    // The record is a dynamic field of the trail's table, whose id stands in the trail after 80 bytes.
    let trail = attacker.object(attacker.report.trail).await;
    let table = ObjectId::from_bytes(&trail.as_struct().contents()[80..112]).unwrap();
    let field = table.derive_dynamic_child_id(&TypeTag::U64, &0_u64.to_le_bytes());
    let field = attacker.object(field).await;
    assert_eq!(field.owner, Owner::Object(table));
    let contents = field.as_struct().contents();
    assert_eq!(contents[..32], *field.id().as_bytes());
    // Name 0, no neighbours, and `Text` of four bytes.
    assert_eq!(contents[32..47], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 4, b't', b'e', b'x']);
    let created: Vec<_> = effects.created();
    assert_eq!(created.len(), 1);
    assert_eq!(*created[0].reference(), field.object_ref());
}

#[tokio::test]
async fn what_is_wrong_with_a_trail_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let mut mock = Mock::start(&folder.path().join("mock")).await;
    let endpoints = mock.endpoints();
    let read = async |endpoints: &Endpoints, trail| match TrailReader::open(endpoints, None, trail).await {
        Ok(reader) => reader.seal().await,
        Err(error) => Err(error),
    };
    assert!(matches!(read(&endpoints, ObjectId::ZERO).await, Err(LedgerError::NoSuchTrail { .. })));
    match read(&endpoints, ObjectId::CLOCK).await {
        Err(LedgerError::NotATrail { found, .. }) => assert!(found.ends_with("clock::Clock"), "{found}"),
        other => panic!("{other:?}"),
    }
    // Made, and not sealed.
    let created = std::sync::Arc::new(std::sync::Mutex::new(None));
    let seen = std::sync::Arc::clone(&created);
    let watch: grid_ledger::Watch = Box::new(move |step| match step {
        grid_ledger::Step::Executed { purpose: "creating the trail", transaction } => {
            *seen.lock().unwrap() = Some(transaction);
            std::ops::ControlFlow::Break(())
        }
        _ => std::ops::ControlFlow::Continue(()),
    });
    init_in(&folder.path().join("data"), &mock, Some(watch)).await.unwrap_err();
    let transaction = created.lock().unwrap().unwrap();
    let page = mock.page(&format!("/txblock/{transaction}")).await;
    let (_, link) = page.split_once("AuditTrail 0x").unwrap();
    let trail: ObjectId = format!("0x{}", &link[..64]).parse().unwrap();
    match read(&endpoints, trail).await {
        Err(LedgerError::NotSealed { weaknesses, seal }) => {
            assert!(matches!(weaknesses[..], [Weakness::AdminExists(_)]), "{weaknesses:?}");
            assert_eq!(seal.trail, trail);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        TrailReader::open(&endpoints, Some("6364aad5"), trail).await,
        Err(LedgerError::WrongChain { .. })
    ));
    mock.stop().await;
    assert!(matches!(read(&endpoints, trail).await, Err(LedgerError::Unreachable { .. })));
}
