//! The mock's ledger: live objects, and the transactions that made them so.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use iota_sdk::crypto::ed25519::{Ed25519PrivateKey, Ed25519Verifier};
use iota_sdk::crypto::{IotaSigner, IotaVerifier};
use iota_sdk::types::{
    Address, Digest, GasPayment, Object, ObjectId, Owner, ProgrammableTransaction, SignedTransaction, Transaction,
    TransactionDigest, TransactionEffects, TransactionEvents, TransactionExpiration, TransactionKind, TransactionV1,
    Version,
};
use iota_sdk::types::{Argument, Command, Input, SimpleSignature, SplitCoins, TransferObjects, UserSignature};
use serde::{Deserialize, Serialize};

use super::check::Wanted;
use super::execute::{self, coin, storage_rebate};
use super::journal::{Journal, MockError};
use super::limits::{GAS_PRICE, LARGEST_TRANSACTION};
use super::refusal::{InputError, Refusal, SignatureError};
use super::rejection::Rejection;
use crate::audit_trail::struct_tag;

/// What the faucet starts with: as much as a `u64` of NANOS may hold without care about sums.
const FAUCET_BALANCE: u64 = 1 << 60;
/// Real faucets give several coins; so clients must merge here too.
const COINS: usize = 5;
/// Each of them, in NANOS. As generous as the faucet of a local network, so that the demo's purse lasts for weeks.
const COIN: u64 = 200_000_000_000;
const FAUCET_BUDGET: u64 = 50_000_000;

/// A transaction that happened. One per checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Block {
    pub(super) signed: SignedTransaction,
    pub(super) effects: TransactionEffects,
    pub(super) events: TransactionEvents,
    pub(super) written: Vec<Object>,
    pub(super) removed: Vec<ObjectId>,
    pub(super) time_ms: u64,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    Genesis { chain: Digest, faucet: [u8; 32], time_ms: u64 },
    Block(Box<Block>),
}

/// Everything there is.
pub(super) struct Chain {
    journal: Journal,
    id: Digest,
    faucet: Ed25519PrivateKey,
    objects: BTreeMap<ObjectId, Object>,
    blocks: Vec<Block>,
    by_digest: HashMap<TransactionDigest, usize>,
    time_ms: u64,
}

impl Chain {
    pub(super) fn open(path: &Path) -> Result<Self, MockError> {
        let (mut journal, entries) = Journal::open::<Entry>(path)?;
        let damaged = |reason: &str| MockError::Damaged { path: path.to_owned(), reason: reason.to_owned() };
        let mut entries = entries.into_iter();
        let genesis = match entries.next() {
            Some(genesis) => genesis,
            None => {
                // A random id makes this chain unlike any other.
                let (chain, faucet) = (Digest::new(rand::random()), rand::random());
                let genesis = Entry::Genesis { chain, faucet, time_ms: machine_time_ms() };
                journal.append(&genesis)?;
                genesis
            }
        };
        let Entry::Genesis { chain: id, faucet, time_ms } = genesis else {
            return Err(damaged("it does not begin with a genesis"));
        };
        let faucet = Ed25519PrivateKey::new(faucet);
        let objects = genesis_objects(faucet.public_key().derive_address(), time_ms);
        let (blocks, by_digest) = (Vec::new(), HashMap::new());
        let mut chain = Self { journal, id, faucet, objects, blocks, by_digest, time_ms };
        for entry in entries {
            let Entry::Block(block) = entry else { return Err(damaged("it has two geneses")) };
            chain.apply(*block);
        }
        Ok(chain)
    }

    /// First four bytes of the chain's id, in hex, as networks are named.
    pub(super) fn name(&self) -> String {
        self.id.bytes().iter().take(4).map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn id(&self) -> Digest {
        self.id
    }

    pub(super) fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(&id)
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    pub(super) fn owned_by(&self, owner: Address) -> impl Iterator<Item = &Object> {
        self.objects().filter(move |object| object.owner == owner)
    }

    /// All transactions, the oldest first; the index is the checkpoint's number less 1, the genesis being 0.
    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    pub(super) fn find(&self, digest: TransactionDigest) -> Option<(u64, &Block)> {
        let at = *self.by_digest.get(&digest)?;
        Some((at as u64 + 1, self.blocks.get(at)?))
    }

    /// The ledger's clock: the machine's, but never backwards.
    pub(super) fn now_ms(&self) -> u64 {
        machine_time_ms().max(self.time_ms)
    }

    /// When the newest transaction was.
    pub(super) fn last_ms(&self) -> u64 {
        self.time_ms
    }

    /// What would happen. Signatures are not looked at.
    pub(super) fn simulate(&self, transaction: &Transaction, wanted: Wanted) -> Result<execute::Outcome, Refusal> {
        execute::run(self, transaction, self.now_ms(), wanted, false)
    }

    /// Executes a transaction, once: the same one again has the result that it had. With `abort`, its first Move call
    /// aborts.
    pub(super) fn execute(&mut self, signed: SignedTransaction, abort: bool) -> Result<(u64, &Block), Refusal> {
        check_signatures(&signed)?;
        let digest = signed.transaction.digest();
        if !self.by_digest.contains_key(&digest) {
            check_size(&signed)?;
            let time_ms = self.now_ms();
            let outcome = execute::run(self, &signed.transaction, time_ms, Wanted::Execution, abort)?;
            let execute::Outcome { effects, events, written, removed, .. } = outcome;
            let block = Block { signed, effects, events, written, removed, time_ms };
            self.journal.append(&Entry::Block(Box::new(block.clone()))).map_err(Rejection::broken)?;
            self.apply(block);
        }
        Ok(self.find(digest).ok_or_else(|| Rejection::broken("a transaction was executed and is not there"))?)
    }

    fn apply(&mut self, block: Block) {
        for object in &block.written {
            self.objects.insert(object.id(), object.clone());
        }
        for id in &block.removed {
            self.objects.remove(id);
        }
        self.time_ms = block.time_ms;
        self.by_digest.insert(block.signed.transaction.digest(), self.blocks.len());
        self.blocks.push(block);
    }

    /// Gives an address a few coins, by a transaction like any other.
    pub(super) fn give(&mut self, recipient: Address) -> Result<(TransactionDigest, Vec<(ObjectId, u64)>), Rejection> {
        let sender = self.faucet.public_key().derive_address();
        let coin = self.owned_by(sender).find(|object| object.is_gas_coin());
        let coin = coin.ok_or_else(|| Rejection::broken("the faucet is empty"))?.object_ref();
        let amount = bcs::to_bytes(&COIN).map_err(Rejection::broken)?;
        let address = bcs::to_bytes(&recipient).map_err(Rejection::broken)?;
        let amounts = (0..COINS).map(|_| Argument::Input(0)).collect();
        let coins = (0..COINS as u16).map(|coin| Argument::NestedResult(0, coin)).collect();
        let program = ProgrammableTransaction {
            inputs: vec![Input::Pure(amount), Input::Pure(address)],
            commands: vec![
                Command::SplitCoins(SplitCoins { coin: Argument::Gas, amounts }),
                Command::TransferObjects(TransferObjects { objects: coins, address: Argument::Input(1) }),
            ],
        };
        let transaction = Transaction::V1(TransactionV1 {
            kind: TransactionKind::Programmable(program),
            sender,
            gas_payment: GasPayment { objects: vec![coin], owner: sender, price: GAS_PRICE, budget: FAUCET_BUDGET },
            expiration: TransactionExpiration::None,
        });
        let signature = self.faucet.sign_transaction(&transaction).map_err(Rejection::broken)?;
        let digest = transaction.digest();
        let signed = SignedTransaction { transaction, signatures: vec![signature] };
        let (_, block) = self.execute(signed, false).map_err(Refusal::when_executed)?;
        let given = block.written.iter().filter(|object| object.owner == recipient && object.is_gas_coin());
        Ok((digest, given.map(|object| (object.id(), COIN)).collect()))
    }
}

/// The clock, and the faucet's money.
fn genesis_objects(faucet: Address, time_ms: u64) -> BTreeMap<ObjectId, Object> {
    let genesis = TransactionDigest::genesis_marker();
    let version = Version::INITIAL_SHARED_VERSION;
    let mut clock = ObjectId::CLOCK.as_bytes().to_vec();
    clock.extend(time_ms.to_le_bytes());
    let clock_type = struct_tag(ObjectId::FRAMEWORK, "clock", "Clock");
    let money = ObjectId::derive_id(genesis, 0);
    let objects = [
        execute::object(clock_type, version, clock, Owner::Shared(version), genesis),
        execute::object(coin::tag(), version, coin::contents(money, FAUCET_BALANCE), Owner::Address(faucet), genesis),
    ];
    let objects = objects.into_iter().map(|mut object| {
        object.storage_rebate = storage_rebate(&object);
        (object.id(), object)
    });
    objects.collect()
}

/// Who sends it and who pays for it must have signed, and nobody else.
fn check_signatures(signed: &SignedTransaction) -> Result<(), Refusal> {
    let Transaction::V1(transaction) = &signed.transaction else {
        return Err(Rejection::beyond_the_mock("this version of a transaction").into());
    };
    let payer = transaction.gas_payment.owner;
    let expected: Vec<_> =
        std::iter::once(transaction.sender).chain((payer != transaction.sender).then_some(payer)).collect();
    if signed.signatures.len() != expected.len() {
        return Err(SignatureError::Number { expected: expected.len(), actual: signed.signatures.len() }.into());
    }
    let actual: Vec<_> = signed.signatures.iter().map(UserSignature::derive_address).collect();
    if let Some(absent) = expected.into_iter().find(|address| !actual.contains(address)) {
        let actual = actual.iter().map(ToString::to_string).collect();
        return Err(SignatureError::Absent { expected: absent, actual }.into());
    }
    for signature in &signed.signatures {
        let UserSignature::Simple(SimpleSignature::Ed25519 { .. }) = signature else {
            return Err(Rejection::beyond_the_mock("a signature of another kind than Ed25519").into());
        };
        let verified = Ed25519Verifier::new().verify_transaction(&signed.transaction, signature);
        verified.map_err(|error| SignatureError::Invalid(error.to_string()))?;
    }
    Ok(())
}

fn check_size(signed: &SignedTransaction) -> Result<(), Refusal> {
    // What is signed is a list of one, and the three bytes of its intent.
    let size = bcs::serialized_size(&signed.transaction).map_err(Rejection::broken)?
        + bcs::serialized_size(&signed.signatures).map_err(Rejection::broken)?
        + 4;
    if size > LARGEST_TRANSACTION {
        let limit = format!("serialized transaction size exceeded maximum of {LARGEST_TRANSACTION}");
        return Err(InputError::TooLarge { limit, value: size }.into());
    }
    Ok(())
}

fn machine_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
