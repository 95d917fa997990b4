//! What may happen to the coins and objects of an anchor, by somebody with its key. Pure arguments are in BCS.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::Path;

use iota_sdk::crypto::IotaSigner;
use iota_sdk::crypto::ed25519::Ed25519PrivateKey;
use iota_sdk::grpc_client::GrpcClient;
use iota_sdk::transaction_builder::TransactionBuilderLedgerClient;
use iota_sdk::types::framework::Coin;
use iota_sdk::types::{
    Address, Argument, Command, GasPayment, Input, Object, ProgrammableTransaction, SignedTransaction, SplitCoins,
    StructTag, Transaction, TransactionExpiration, TransactionKind, TransactionV1, TransferObjects,
};

/// Somebody with the anchor's key and a wallet program.
pub struct Owner {
    key: Ed25519PrivateKey,
    node: GrpcClient,
}

const BUDGET: u64 = 8_000_000;

impl Owner {
    pub fn new(data: &Path, node: String) -> Self {
        let pem = std::fs::read_to_string(data.join("ledger.key")).unwrap();
        let node = GrpcClient::new(node).unwrap();
        Self { key: Ed25519PrivateKey::from_pem(&pem).unwrap(), node }
    }

    pub fn address(&self) -> Address {
        self.key.public_key().derive_address()
    }

    async fn coin_objects(&self) -> Vec<Object> {
        let tag = Some(StructTag::new_gas_coin());
        let page = TransactionBuilderLedgerClient::objects(&self.node, tag, self.address(), None, None);
        page.await.unwrap().data
    }

    /// The balances of the coins, the largest first.
    pub async fn coins(&self) -> Vec<u64> {
        let coins = self.coin_objects().await;
        let mut balances: Vec<_> = coins.iter().map(|coin| Coin::try_from_object(coin).unwrap().balance()).collect();
        balances.sort_by_key(|balance| std::cmp::Reverse(*balance));
        balances
    }

    /// Has coins of these balances beside one of about `rest`; everything else goes to somebody else.
    pub async fn keep(&self, coins: &[u64], rest: u64) {
        let all = self.coin_objects().await;
        let balance: u64 = all.iter().map(|coin| Coin::try_from_object(coin).unwrap().balance()).sum();
        let gone = balance - coins.iter().sum::<u64>() - rest - BUDGET;
        let amounts = coins.iter().copied().chain([gone]);
        let mut inputs: Vec<_> = amounts.map(|amount| Input::Pure(amount.to_le_bytes().to_vec())).collect();
        let count = u16::try_from(inputs.len()).unwrap();
        let (own, others) = (count, count + 1);
        inputs.extend([self.address(), Address::ZERO].map(|address| Input::Pure(address.as_bytes().to_vec())));
        let coin = |at| Argument::NestedResult(0, at);
        let transfer =
            |objects, to| Command::TransferObjects(TransferObjects { objects, address: Argument::Input(to) });
        let amounts = (0..count).map(Argument::Input).collect();
        let mut commands = vec![Command::SplitCoins(SplitCoins { coin: Argument::Gas, amounts })];
        if count > 1 {
            commands.push(transfer((0..count - 1).map(coin).collect(), own));
        }
        commands.push(transfer(vec![coin(count - 1)], others));
        let kind = TransactionKind::Programmable(ProgrammableTransaction { inputs, commands });
        let objects = all.iter().map(Object::object_ref).collect();
        let gas_payment = GasPayment { objects, owner: self.address(), price: 1000, budget: BUDGET };
        self.submit(kind, gas_payment).await;
    }

    /// Gives away an object.
    pub async fn give_away(&self, object: iota_sdk::types::ObjectId) {
        let object = TransactionBuilderLedgerClient::object(&self.node, object, None).await.unwrap().unwrap();
        let inputs = vec![Input::ImmutableOrOwned(object.object_ref()), Input::Pure(Address::ZERO.as_bytes().to_vec())];
        let objects = vec![Argument::Input(0)];
        let transfer = TransferObjects { objects, address: Argument::Input(1) };
        let commands = vec![Command::TransferObjects(transfer)];
        let kind = TransactionKind::Programmable(ProgrammableTransaction { inputs, commands });
        let objects = vec![self.coin_objects().await[0].object_ref()];
        let gas_payment = GasPayment { objects, owner: self.address(), price: 1000, budget: BUDGET };
        self.submit(kind, gas_payment).await;
    }

    async fn submit(&self, kind: TransactionKind, gas_payment: GasPayment) {
        let sender = self.address();
        let expiration = TransactionExpiration::None;
        let transaction = Transaction::V1(TransactionV1 { kind, sender, gas_payment, expiration });
        let signature = self.key.sign_transaction(&transaction).unwrap();
        let signed = SignedTransaction { transaction, signatures: vec![signature] };
        let executed = self.node.execute_transaction(signed).await.unwrap();
        let effects = executed.body().effects().unwrap().effects().unwrap();
        assert_eq!(effects.as_v1().status, iota_sdk::types::ExecutionStatus::Success);
    }
}
