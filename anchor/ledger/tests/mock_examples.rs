//! What the SDK's examples do (`iota-sdk` 3.0.0-rc.1, folder `examples`), with its own client and builder against the
//! mock: all that need nothing beyond coins, objects, transactions and simulation. Those that speak GraphQL there speak
//! gRPC here; the mock has no GraphQL.
//!
//! | examples | here |
//! |---|---|
//! | `grpc_execute_transaction`, `sign_send_iota`, `prepare_send_iota`, `dry_run_bytes`, `faucet` | sending |
//! | `transaction_signer_callback` | a signer |
//! | `prepare_merge_coins`, `prepare_split_coins`, `prepare_send_coins`, `prepare_send_iota_multi`, `prepare_transfer_objects` | coins |
//! | `prepare_transfer_objects_offline` | offline |
//! | `gas_sponsor` (which calls `0x1::u8::max`; here coins are sent) | a sponsor |
//! | `grpc_get_object`, `grpc_owned_objects`, `grpc_service_info`, `chain_id`, `epoch`, `get_object`, `get_transaction`, `owned_objects`, `coin_balances`, `pagination` | reading |
//!
//! Without a node: `address_from_mnemonic`, `generate_ed25519_address`, `generate_mnemonic`, `json_roundtrip`. They
//! cannot run against the mock: those that call or publish Move code (`abstract_account`, `decode_staked_iota`,
//! `dev_inspect`, `generic_move_function`, `grpc_view_function_call`, `move_view_call`, `publish_upgrade`, `stake`,
//! `tx_command_results`, `unstake`), look at Move packages (`move_functions`, `package_events`, `package_inspect`),
//! need an index or checkpoints (`address_transactions`, `dynamic_fields`, `grpc_checkpoints_stream`, `move_objects`,
//! `objects_by_type`, `transactions_with_function`, `transactions_with_shared`), GraphQL itself (`custom_query`,
//! `json_query`, `subscriptions_graphql`), a gas station (`gas_station`), or several keys for one address (`multisig`).

#![allow(clippy::unwrap_used)]

mod support;

use grid_ledger::{Address, ObjectId};
use iota_sdk::crypto::ed25519::Ed25519PrivateKey;
use iota_sdk::crypto::{IotaSigner, SignatureError};
use iota_sdk::grpc_client::{GrpcClient, ResponseExt};
use iota_sdk::transaction_builder::{TransactionBuilder, TransactionSigner, WaitForTransaction, assigned};
use iota_sdk::types::framework::Coin;
use iota_sdk::types::{
    ExecutionStatus, ObjectReference, Owner, SignedTransaction, StructTag, Transaction, TransactionEffects,
    UserSignature,
};
use support::Mock;

/// Somebody with coins of 2 IOTA, who knows two others.
struct Wallet {
    _folder: tempfile::TempDir,
    mock: Mock,
    node: GrpcClient,
    key: Ed25519PrivateKey,
}

const RECIPIENT: Address = Address::new([0xa4; 32]);
const ANOTHER: Address = Address::new([0xa5; 32]);

impl Wallet {
    /// With what the faucet gives at a time: five coins.
    async fn with_gift() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mock = Mock::start(&folder.path().join("mock")).await;
        let node = GrpcClient::new(mock.endpoints().grpc[0].as_str()).unwrap();
        let wallet = Self { _folder: folder, mock, node, key: Ed25519PrivateKey::new([3; 32]) };
        wallet.mock.give(wallet.address()).await;
        wallet
    }

    fn address(&self) -> Address {
        self.key.public_key().derive_address()
    }

    /// Coins with their balances, in the order of their ids.
    async fn coins(&self, owner: Address) -> Vec<(ObjectReference, u64)> {
        let coins =
            self.node.owned_objects(owner).object_type(StructTag::new_gas_coin()).page_size(2).collect(50).await;
        let coins = coins.unwrap().into_inner();
        let coin =
            |object: iota_sdk::types::Object| (object.object_ref(), Coin::try_from_object(&object).unwrap().balance());
        coins.iter().map(|object| coin(object.object().unwrap())).collect()
    }

    async fn balances(&self, owner: Address) -> Vec<u64> {
        let mut balances: Vec<_> = self.coins(owner).await.into_iter().map(|(_, balance)| balance).collect();
        balances.sort_unstable();
        balances
    }

    async fn ids(&self) -> Vec<ObjectId> {
        self.coins(self.address()).await.into_iter().map(|(coin, _)| coin.object_id).collect()
    }

    /// Simulates, signs and executes.
    async fn submit(&self, transaction: Transaction) -> TransactionEffects {
        let simulated = self.node.simulate_transaction(transaction.clone()).await.unwrap().into_inner();
        assert!(simulated.execution_error().is_none(), "{:?}", simulated.execution_error());
        let commands = transaction.as_v1().kind.as_programmable().commands.len();
        assert_eq!(simulated.command_results().unwrap().results.len(), commands);
        let signature = self.key.sign_transaction(&transaction).unwrap();
        let signed = SignedTransaction { transaction: transaction.clone(), signatures: vec![signature] };
        let executed = self.node.execute_transaction(signed).await.unwrap().into_inner();
        assert_eq!(executed.transaction().unwrap().digest().unwrap(), transaction.digest());
        let effects = executed.effects().unwrap().effects().unwrap();
        assert_eq!(effects.as_v1().status, ExecutionStatus::Success);
        effects
    }
}

#[tokio::test]
async fn iota_is_sent_after_a_simulation_with_gas_that_the_builder_found() {
    let wallet = Wallet::with_gift().await;
    let mut builder = TransactionBuilder::new(wallet.address()).with_client(&wallet.node);
    builder.send_iota(RECIPIENT, 1_000_u64);
    let transaction = builder.finish().await.unwrap();
    let payment = &transaction.as_v1().gas_payment;
    assert_eq!((payment.objects.len(), payment.price), (5, 1_000));
    assert!((1_000_001..20_000_000).contains(&payment.budget), "{}", payment.budget);
    let simulated = wallet.node.simulate_transaction(transaction.clone()).await.unwrap().into_inner();
    assert_eq!(simulated.suggested_gas_price, Some(1_000));
    // The split changes the gas coin that it is lent, and returns a coin.
    let split = &simulated.command_results().unwrap().results[0];
    let (changed, returned) = (split.mutated_by_ref.as_ref().unwrap(), split.return_values.as_ref().unwrap());
    assert_eq!((changed.outputs.len(), returned.outputs.len()), (1, 1));
    let coin = returned.outputs[0].bcs.as_ref().unwrap().data.clone();
    assert_eq!(coin[32..], 1_000_u64.to_le_bytes());

    // As bytes, as wallets pass transactions on.
    let transaction: Transaction = Transaction::from_base64(&transaction.to_base64()).unwrap();
    wallet.submit(transaction).await;
    assert_eq!(wallet.balances(RECIPIENT).await, [1_000]);
    assert_eq!(wallet.coins(wallet.address()).await.len(), 1, "gas coins have become one");
}

#[tokio::test]
async fn a_signer_of_ones_own_signs_and_waits_until_it_is_final() {
    struct Slow(Ed25519PrivateKey);
    impl TransactionSigner for Slow {
        type Error = SignatureError;

        async fn sign(&self, transaction: &Transaction) -> Result<UserSignature, Self::Error> {
            tokio::task::yield_now().await;
            self.0.sign_transaction(transaction)
        }
    }
    let wallet = Wallet::with_gift().await;
    let mut builder = wallet.node.transaction_builder(wallet.address());
    builder.send_iota(RECIPIENT, 1_000_u64);
    let effects = builder.execute(&Slow(wallet.key.clone()), WaitForTransaction::Finalized).await.unwrap();
    assert_eq!(effects.as_v1().status, ExecutionStatus::Success);
    assert_eq!(wallet.balances(RECIPIENT).await, [1_000]);
}

#[tokio::test]
async fn coins_are_merged_split_and_given_away() {
    let wallet = Wallet::with_gift().await;
    let [first, second, ..] = wallet.ids().await[..] else { panic!() };
    let mut builder = wallet.node.transaction_builder(wallet.address());
    builder.merge_coins(first, [second]);
    wallet.submit(builder.finish().await.unwrap()).await;

    // The builder takes all others for gas, so that they are one now too.
    let [first] = wallet.ids().await[..] else { panic!() };

    let mut builder = wallet.node.transaction_builder(wallet.address());
    builder.split_coins(first, [1_000_u64, 2_000, 3_000]).assign(("coin1", "coin2", "coin3"));
    builder.transfer_objects(wallet.address(), (assigned("coin1"), assigned("coin2"), assigned("coin3")));
    // Over gRPC a node simulates without a budget only if it is to skip its checks.
    let simulated = builder.clone().dry_run(true).await.unwrap();
    assert!(simulated.execution_error().is_none());
    wallet.submit(builder.finish().await.unwrap()).await;
    assert_eq!(wallet.balances(wallet.address()).await[..3], [1_000, 2_000, 3_000]);

    let mut builder = wallet.node.transaction_builder(wallet.address());
    builder.send_coins([first], RECIPIENT, 50_000_u64);
    wallet.submit(builder.finish().await.unwrap()).await;
    assert_eq!(wallet.balances(RECIPIENT).await, [50_000]);

    let mut builder = wallet.node.transaction_builder(wallet.address());
    builder.split_coins(first, [10_000_u64, 20_000]).assign(vec!["coin0", "coin1"]);
    builder.transfer_objects(RECIPIENT, [assigned("coin0")]).transfer_objects(ANOTHER, [assigned("coin1")]);
    wallet.submit(builder.finish().await.unwrap()).await;
    assert_eq!(
        (wallet.balances(RECIPIENT).await, wallet.balances(ANOTHER).await),
        (vec![10_000, 50_000], vec![20_000])
    );

    wallet.mock.give(wallet.address()).await;
    let mut builder = wallet.node.transaction_builder(wallet.address());
    builder.transfer_objects(ANOTHER, [first]);
    wallet.submit(builder.finish().await.unwrap()).await;
    let given = wallet.node.objects([first]).await.unwrap().into_inner().remove(0).unwrap();
    assert_eq!(given.object().unwrap().owner, Owner::Address(ANOTHER));
}

#[tokio::test]
async fn what_was_built_offline_is_executed() {
    let wallet = Wallet::with_gift().await;
    let coins = wallet.coins(wallet.address()).await;
    let (gas, rest) = coins.split_first().unwrap();
    let price = wallet.node.reference_gas_price().await.unwrap().into_inner();
    let mut builder = TransactionBuilder::new(wallet.address());
    builder.transfer_objects(RECIPIENT, rest.iter().map(|(coin, _)| *coin).collect::<Vec<_>>());
    builder.gas([gas.0]).gas_price(price).gas_budget(500_000_000);
    wallet.submit(builder.finish().unwrap()).await;
    assert_eq!(wallet.balances(RECIPIENT).await, [200_000_000_000; 4]);
}

#[tokio::test]
async fn a_sponsor_pays_and_both_must_have_signed() {
    let wallet = Wallet::with_gift().await;
    let sponsor = Ed25519PrivateKey::new([4; 32]);
    let sponsors = sponsor.public_key().derive_address();
    wallet.mock.give(sponsors).await;
    let coin = wallet.ids().await[0];
    let build = || {
        let mut builder = wallet.node.transaction_builder(wallet.address());
        builder.transfer_objects(RECIPIENT, [coin]).sponsor(sponsors);
        builder
    };
    let alone = build().execute(&wallet.key, None).await.unwrap_err();
    assert!(alone.to_string().contains("Expect 2 signer signatures but got 1"), "{alone}");
    let effects =
        build().execute_with_sponsor_signer(&wallet.key, &sponsor, WaitForTransaction::Finalized).await.unwrap();
    assert_eq!(effects.as_v1().status, ExecutionStatus::Success);
    assert_eq!(wallet.balances(RECIPIENT).await, [200_000_000_000]);
    assert_eq!(wallet.balances(wallet.address()).await, [200_000_000_000; 4], "it has cost the sender nothing");
    assert_eq!(wallet.coins(sponsors).await.len(), 1, "the sponsor's coins were taken for gas");
}

#[tokio::test]
async fn the_chain_its_objects_and_transactions_are_read() {
    let wallet = Wallet::with_gift().await;
    let info = wallet.node.service_info().await.unwrap();
    assert!(info.body().chain_id.as_ref().unwrap().digest().is_ok());
    assert_eq!((info.body().epoch, info.body().executed_checkpoint_height), (Some(0), Some(1)));
    assert_eq!(info.checkpoint_height(), Some(1), "as every answer says in its headers");
    assert_eq!(info.epoch(), Some(0));
    let epoch = wallet.node.epoch().await.unwrap().into_inner();
    assert_eq!((epoch.epoch, epoch.reference_gas_price), (Some(0), Some(1_000)));
    assert_eq!(wallet.node.reference_gas_price().await.unwrap().into_inner(), 1_000);

    let page = wallet.node.owned_objects(wallet.address()).page_size(3).await.unwrap().into_inner();
    assert_eq!(page.items.len(), 3);
    let rest = wallet.node.owned_objects(wallet.address()).page_token(page.next_page_token.unwrap());
    let rest = rest.await.unwrap().into_inner();
    assert_eq!((rest.items.len(), rest.next_page_token), (2, None));

    let coin = page.items[0].object().unwrap();
    assert_eq!(coin.owner, Owner::Address(wallet.address()));
    let found = wallet.node.transactions([coin.previous_transaction]).await.unwrap().into_inner().remove(0).unwrap();
    assert_eq!(found.transaction().unwrap().digest().unwrap(), coin.previous_transaction);
    assert_eq!(found.checkpoint_sequence_number().unwrap(), 1);
    let none = wallet.node.objects([ObjectId::ZERO]).await.unwrap().into_inner().remove(0);
    assert!(none.unwrap_err().is_not_found());
}
