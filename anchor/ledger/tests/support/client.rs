//! Somebody who speaks to the mock as any client of a node does, with the anchor's own key or with another.

use grid_ledger::{Address, InitReport, ObjectId, Packages};
use iota_sdk::crypto::IotaSigner;
use iota_sdk::crypto::ed25519::Ed25519PrivateKey;
use iota_sdk::grpc_client::tonic::Code;
use iota_sdk::grpc_client::{GrpcClient, GrpcError};
use iota_sdk::transaction_builder::unresolved::{Argument, Command, MoveCall};
use iota_sdk::transaction_builder::{TransactionBuilder, TransactionBuilderLedgerClient};
use iota_sdk::types::{
    ExecutionError, ExecutionStatus, Identifier, Input, Object, ObjectReference, Owner, SharedObjectReference,
    SignedTransaction, StructTag, Transaction, TransactionEffectsV1, TypeTag, Version,
};

use super::Mock;
use super::setting::Setting;

pub const PACKAGES: Packages = Packages::MOCK;

/// Somebody with the anchor's own key, or with another one, and a plain client of the node.
pub struct Attacker {
    _folder: tempfile::TempDir,
    pub mock: Mock,
    pub report: InitReport,
    pub node: GrpcClient,
    pub anchor: Ed25519PrivateKey,
}

impl Attacker {
    pub async fn new() -> Self {
        Self::of(Setting::new().await)
    }

    /// One that has less than the largest budget, which is 50 IOTA, so that it can exceed either.
    pub async fn with_little() -> Self {
        let setting = Setting::new().await;
        setting.owner().keep(&[], 10_000_000_000).await;
        Self::of(setting)
    }

    fn of(setting: Setting) -> Self {
        let Setting { folder, mock, report } = setting;
        let pem = std::fs::read_to_string(folder.path().join("data/ledger.key")).unwrap();
        let anchor = Ed25519PrivateKey::from_pem(&pem).unwrap();
        let node = GrpcClient::new(mock.endpoints().grpc[0].as_str()).unwrap();
        Self { _folder: folder, mock, report, node, anchor }
    }

    pub async fn object(&self, id: ObjectId) -> Object {
        TransactionBuilderLedgerClient::object(&self.node, id, None).await.unwrap().unwrap()
    }

    pub async fn coin(&self, owner: Address) -> ObjectReference {
        let tag = Some(StructTag::new_gas_coin());
        let page = TransactionBuilderLedgerClient::objects(&self.node, tag, owner, None, None).await.unwrap();
        page.data[0].object_ref()
    }

    /// Another key, with coins from the faucet.
    pub async fn stranger(&self) -> Ed25519PrivateKey {
        let key = Ed25519PrivateKey::new([7; 32]);
        self.mock.give(key.public_key().derive_address()).await;
        key
    }

    pub async fn transaction(&self, sender: &Ed25519PrivateKey, calls: impl FnOnce(&mut Calls)) -> Transaction {
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

    /// Hands in a transaction. The error is the node's for this transaction, not for the call.
    pub async fn hand_in(&self, signed: SignedTransaction) -> Result<TransactionEffectsV1, (Code, String)> {
        match self.node.execute_transaction(signed).await {
            Ok(executed) => Ok(executed.body().effects().unwrap().effects().unwrap().as_v1().clone()),
            Err(GrpcError::Server(status)) => Err((Code::from_i32(status.code), status.message)),
            Err(other) => panic!("{other}"),
        }
    }

    pub async fn submit(&self, signed: SignedTransaction) -> Result<TransactionEffectsV1, String> {
        self.hand_in(signed).await.map_err(|(_, message)| message)
    }

    pub async fn try_out(
        &self,
        sender: &Ed25519PrivateKey,
        calls: impl FnOnce(&mut Calls),
    ) -> Result<TransactionEffectsV1, String> {
        let transaction = self.transaction(sender, calls).await;
        self.submit(signed(transaction, sender)).await
    }
}

pub fn signed(transaction: Transaction, key: &Ed25519PrivateKey) -> SignedTransaction {
    let signature = key.sign_transaction(&transaction).unwrap();
    SignedTransaction { transaction, signatures: vec![signature] }
}

pub struct Calls {
    pub builder: TransactionBuilder,
    pub package: ObjectId,
    pub trail: Input,
    pub recorder: Input,
}

impl Calls {
    pub fn call(&mut self, path: (&str, &str), about_data: bool, arguments: Vec<Argument>) -> Argument {
        let types = if about_data { vec![data()] } else { vec![] };
        let (module, function) = (Identifier::new(path.0).unwrap(), Identifier::new(path.1).unwrap());
        self.builder.command(Command::MoveCall(MoveCall::new(self.package, module, function, types, arguments)))
    }

    pub fn trail(&mut self) -> Argument {
        self.builder.input(self.trail.clone())
    }

    pub fn recorder(&mut self) -> Argument {
        self.builder.input(self.recorder.clone())
    }

    pub fn clock(&mut self) -> Argument {
        self.builder.input(Input::Shared(SharedObjectReference::new(ObjectId::CLOCK, Version::from_u64(1), false)))
    }

    pub fn add(&mut self, text: &str) {
        let text = self.builder.pure(text);
        let text = self.call(("record", "new_text"), false, vec![text]);
        let none = self.builder.pure(None::<String>);
        let arguments = vec![self.trail(), self.recorder(), text, none, none, self.clock()];
        self.call(("main", "add_record"), true, arguments);
    }
}

pub fn data() -> TypeTag {
    tag("record", "Data")
}

pub fn tag(module: &str, name: &str) -> TypeTag {
    let (module, name) = (Identifier::new(module).unwrap(), Identifier::new(name).unwrap());
    StructTag::new(*PACKAGES.audit_trails.as_address(), module, name, vec![]).into()
}

/// Where a call aborted.
pub fn aborted(effects: &TransactionEffectsV1) -> (String, String) {
    match &effects.status {
        ExecutionStatus::Failure { error: ExecutionError::MoveAbort { location, .. }, .. } => {
            (location.module.as_str().to_owned(), location.function_name.as_ref().unwrap().as_str().to_owned())
        }
        other => panic!("{other:?}"),
    }
}
