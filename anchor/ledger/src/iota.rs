//! The ledger that is a sealed audit trail on IOTA, or on its mock.
//!
//! Every record in the trail is one of ours, and we know how many there are. So before one is added, the trail is looked
//! at: with fewer, the node is behind; with more, either a transaction that was given up was executed after all, or
//! somebody else has our key, and then nothing is added any more.

use std::path::Path;
use std::time::Duration;

use iota_sdk::types::framework::Coin;
use iota_sdk::types::{Address, Object, ObjectId, ObjectReference, TransactionDigest};
use iota_sdk_grpc_types::tonic::async_trait;
use tokio::time::sleep;

use crate::audit_trail::RecordAdded;
use crate::error::LedgerError;
use crate::file::Folder;
use crate::key::LedgerKey;
use crate::ledger::{Ledger, NewRecord, Receipt, Record, Watch, text_sha256};
use crate::money::Purse;
use crate::network::Endpoints;
use crate::node::{Executed, GasCoin, Node};
use crate::nodes::Nodes;
use crate::program::Program;
use crate::seal::Seal;
use crate::state::{Pending, Progress, Purpose, Sealed, State};
use crate::trail::{TrailReader, read_trail};
use crate::wallet::{Settled, Wallet, choose, total};

/// A pure argument has fewer than 16,384 bytes, its length of up to three bytes included.
const LONGEST_TEXT: usize = 16_380;
/// What a record may take unless somebody says otherwise, in NANOS: five times what one takes at the usual gas price.
pub const MOST_NANOS_PER_RECORD: u64 = 100_000_000;
/// How often a record is built anew because something had changed under it.
const ATTEMPTS: usize = 3;
/// A node shows an object's new version before it lists it.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(200);

/// A sealed trail that we may add to.
pub struct IotaLedger {
    wallet: Wallet,
    state: State,
    sealed: Sealed,
    reader: TrailReader,
    most_nanos_per_record: u64,
    /// The coin that paid last.
    coin: Option<ObjectId>,
    /// The newest transaction that the node may not show yet.
    unsettled: Option<TransactionDigest>,
}

/// What a record is built from, as one node shows it.
struct View {
    recorder: ObjectReference,
    coins: Vec<GasCoin>,
    /// How many records there are.
    records: u64,
}

impl IotaLedger {
    /// Opens the trail that [`crate::init`] made in the folder. Checks that the node serves the same chain, that the
    /// trail is there and sealed, that we may add to it, and that nobody else has; settles a record that was left over. So
    /// it needs a node: where the error [is transient](LedgerError::is_transient), try again later.
    pub async fn open(folder: &Path, endpoints: &Endpoints) -> Result<Self, LedgerError> {
        let folder = Folder::open(folder)?;
        let not_initialised = || LedgerError::NotInitialised(folder.root().to_owned());
        let state = State::load(&folder)?.ok_or_else(not_initialised)?;
        let Progress::Sealed(sealed) = &state.progress else { return Err(not_initialised()) };
        let sealed = Sealed::clone(sealed);
        let key = LedgerKey::load(&folder)?.ok_or_else(not_initialised)?;
        let pairs = [
            ("network", state.network.to_string(), endpoints.network.to_string()),
            ("address", state.address.to_string(), key.address().to_string()),
        ];
        for (what, stored, given) in pairs {
            if stored != given {
                return Err(LedgerError::Different { folder: folder.root().to_owned(), what, stored, given });
            }
        }
        let nodes = Nodes::connect(&endpoints.grpc, Some(&state.chain)).await?;
        let packages = state.packages;
        let reader = TrailReader::on(nodes.clone(), packages, sealed.trail.id);
        let wallet = Wallet { folder, nodes, key, packages, watch: None };
        let most_nanos_per_record = MOST_NANOS_PER_RECORD;
        let mut ledger = Self { wallet, state, sealed, reader, most_nanos_per_record, coin: None, unsettled: None };
        ledger.check().await?;
        ledger.settle().await?;
        ledger.catch_up().await?;
        Ok(ledger)
    }

    /// Is told every step from now on.
    pub fn watch(&mut self, watch: Watch) {
        self.wallet.watch = Some(watch);
    }

    /// From now on nothing is added that may take more than this, in NANOS ([`LedgerError::TooDear`]).
    pub fn limit_cost(&mut self, most_nanos_per_record: u64) {
        self.most_nanos_per_record = most_nanos_per_record;
    }

    /// The trail.
    pub fn trail(&self) -> ObjectId {
        self.sealed.trail.id
    }

    /// The chain it is on.
    pub fn chain(&self) -> &str {
        &self.state.chain
    }

    /// The address that adds and pays.
    pub fn address(&self) -> Address {
        self.state.address
    }

    /// Of the newest record that is known to be there. After a restart this includes what was left over, so an anchor
    /// that was killed before it could note a receipt finds it here.
    pub fn last_receipt(&self) -> Option<&Receipt> {
        self.sealed.last.as_ref()
    }

    /// What there is to spend, and what records have cost.
    pub async fn purse(&self) -> Result<Purse, LedgerError> {
        Ok(self.sealed.costs.purse(self.balance().await?))
    }

    /// Whether the trail is as it was made, and we may add to it.
    async fn check(&self) -> Result<(), LedgerError> {
        let check = |node: Node| async move {
            self.count_records(&node, node.object(self.trail()).await?)?;
            let seal = self.reader.seal_at(&node).await?;
            self.wallet.check_recorder(&node, self.sealed.recorder, &seal).await
        };
        self.wallet.nodes.ask(check).await
    }

    /// How many records the trail has, none of which we know not: else the node is behind.
    fn count_records(&self, node: &Node, trail: Option<Object>) -> Result<u64, LedgerError> {
        let trail = trail.ok_or_else(|| node.behind(format!("trail {}", self.trail())))?;
        let records = read_trail(&trail, &self.wallet.packages)?.sequence_number;
        if records < self.sealed.known {
            return Err(node.behind(format!("record {} of trail {}", self.sealed.known - 1, self.trail())));
        }
        Ok(records)
    }

    /// Settles a record that was left over; its receipt, if it is on the ledger, is [`Self::last_receipt`] from now on.
    async fn settle(&mut self) -> Result<Option<Receipt>, LedgerError> {
        let Some(pending) = Pending::load(&self.wallet.folder)? else { return Ok(None) };
        let Purpose::Add { text_sha256 } = &pending.purpose else {
            // `init` noted what it did, and was stopped before it could remove it.
            Pending::remove(&self.wallet.folder)?;
            return Ok(None);
        };
        let Some((_, settled)) = self.wallet.settle().await? else { return Ok(None) };
        let transaction = pending.transaction;
        match settled {
            Settled::Done(executed) => {
                self.unsettled = Some(transaction);
                let receipt = self.receipt(&executed, text_sha256.clone())?;
                self.note(receipt.clone())?;
                Ok(Some(receipt))
            }
            Settled::Aborted(reason) => {
                tracing::warn!(%transaction, reason, "a record that was left over was not added");
                Pending::remove(&self.wallet.folder)?;
                Ok(None)
            }
            Settled::Refused(reason) => {
                tracing::warn!(%transaction, reason, "a record that was left over is refused");
                self.give_up()?;
                Ok(None)
            }
        }
    }

    /// Looks at the records that we do not know. They must be of transactions that were given up: nodes forget what they
    /// executed after some weeks, but not what it did, and a transaction may be executed after it was refused. Returns
    /// their receipts.
    async fn catch_up(&mut self) -> Result<Vec<Receipt>, LedgerError> {
        let mut found = Vec::new();
        for record in self.reader.records(self.sealed.known).await? {
            let text_sha256 = text_sha256(&record.text);
            if !self.sealed.given_up.contains(&text_sha256) {
                let (sequence_number, added_by) = (record.sequence_number, record.added_by);
                return Err(LedgerError::OtherWriter { trail: self.trail(), sequence_number, added_by });
            }
            let transaction = record.transaction.unwrap_or(TransactionDigest::ZERO);
            let (sequence_number, added_ms) = (record.sequence_number, record.added_ms);
            found.push(Receipt { transaction, sequence_number, text_sha256, added_ms, nanos: None });
        }
        for receipt in &found {
            self.note(receipt.clone())?;
        }
        Ok(found)
    }

    fn note(&mut self, receipt: Receipt) -> Result<(), LedgerError> {
        let purpose = Purpose::Add { text_sha256: receipt.text_sha256.clone() };
        self.sealed.note(receipt);
        self.state.progress = Progress::Sealed(Box::new(self.sealed.clone()));
        self.wallet.note(&purpose, &self.state)
    }

    /// Forgets a transaction that was refused, but not that it is ours.
    fn give_up(&mut self) -> Result<(), LedgerError> {
        let Some(pending) = Pending::load(&self.wallet.folder)? else { return Ok(()) };
        if let Purpose::Add { text_sha256 } = pending.purpose {
            self.sealed.give_up(text_sha256);
            self.state.progress = Progress::Sealed(Box::new(self.sealed.clone()));
            self.state.store(&self.wallet.folder)?;
        }
        Pending::remove(&self.wallet.folder)
    }

    fn receipt(&self, executed: &Executed, text_sha256: String) -> Result<Receipt, LedgerError> {
        let tag = self.wallet.packages.record_added();
        let added = executed.events.iter().find(|event| event.struct_tag == tag);
        let added = added.ok_or_else(|| self.wallet.nodes.unexpected("a record was added without an event"))?;
        let added: RecordAdded =
            bcs::from_bytes(&added.contents).map_err(|error| self.wallet.nodes.unexpected(error))?;
        let effects = &executed.effects;
        Ok(Receipt {
            transaction: effects.transaction_digest,
            sequence_number: added.sequence_number,
            text_sha256,
            added_ms: added.timestamp,
            nanos: Some(effects.gas_cost_summary.net_gas_usage()),
        })
    }

    /// What the next record is built from. The trail is read last: it shows every record that was added before the
    /// capability came to the version that is used.
    async fn look(&self, node: Node) -> Result<View, LedgerError> {
        let mut ids = vec![self.sealed.recorder];
        ids.extend(self.coin);
        let mut objects = node.objects(&ids).await?.into_iter();
        let recorder = objects.next().flatten();
        let recorder = recorder.ok_or_else(|| node.behind(format!("capability {}", self.sealed.recorder)))?;
        let coins = self.coins(&node, objects.next().flatten()).await?;
        let records = self.count_records(&node, node.object(self.trail()).await?)?;
        Ok(View { recorder: recorder.object_ref(), coins, records })
    }

    /// The coins that pay: the one that paid last, as just read, as long as it holds enough; then the largest, and if that
    /// holds too little, more of them.
    async fn coins(&self, node: &Node, last: Option<Object>) -> Result<Vec<GasCoin>, LedgerError> {
        let (address, enough) = (self.wallet.address(), self.most_nanos_per_record);
        let last = last.filter(|object| object.owner == address).and_then(|object| {
            let coin = Coin::try_from_object(&object).ok()?;
            Some(GasCoin { reference: object.object_ref(), balance: coin.balance() })
        });
        match last {
            Some(coin) if coin.balance >= enough => Ok(vec![coin]),
            Some(_) | None => Ok(choose(&node.coins(address).await?, enough).to_vec()),
        }
    }

    /// Adds a record that is not there.
    async fn add(&mut self, record: &NewRecord, text_sha256: &str) -> Result<Receipt, LedgerError> {
        if let Some(transaction) = self.unsettled {
            self.wallet.nodes.settled(transaction).await?;
            self.unsettled = None;
        }
        let view = self.wallet.nodes.ask(|node| self.look(node)).await?;
        if view.records > self.sealed.known {
            let found = self.catch_up().await?;
            if let Some(receipt) = found.into_iter().find(|receipt| receipt.text_sha256 == text_sha256) {
                return Ok(receipt);
            }
        }
        self.coin = view.coins.first().map(|coin| coin.reference.object_id);
        let program = Program::Add {
            trail: self.sealed.trail,
            recorder: view.recorder,
            text: &record.text,
            metadata: record.metadata.as_deref(),
        };
        let purpose = Purpose::Add { text_sha256: text_sha256.to_owned() };
        let submitted = self.wallet.submit(purpose, &program, &view.coins, self.most_nanos_per_record).await;
        if let Err(LedgerError::Refused { .. }) = &submitted {
            self.give_up()?;
        }
        let executed = submitted?;
        self.unsettled = Some(executed.effects.transaction_digest);
        let receipt = self.receipt(&executed, text_sha256.to_owned())?;
        self.note(receipt.clone())?;
        Ok(receipt)
    }
}

#[async_trait]
impl Ledger for IotaLedger {
    async fn append(&mut self, record: &NewRecord) -> Result<Receipt, LedgerError> {
        let metadata_length = record.metadata.as_ref().map_or(0, String::len);
        for (what, length) in [("the record", record.text.len()), ("its metadata", metadata_length)] {
            if length > LONGEST_TEXT {
                return Err(LedgerError::TooLong { what, length, most: LONGEST_TEXT });
            }
        }
        let text_sha256 = text_sha256(&record.text);
        // The same call again after an unclear outcome: that outcome is now its result.
        if let Some(receipt) = self.settle().await?
            && receipt.text_sha256 == text_sha256
        {
            return Ok(receipt);
        }
        let mut attempts = 1;
        loop {
            match self.add(record, &text_sha256).await {
                // An object, the gas price or the epoch has changed since it was looked at.
                Err(error @ LedgerError::Refused { .. }) if attempts < ATTEMPTS => {
                    tracing::info!(%error, attempts, "building it anew");
                    attempts += 1;
                    sleep(BETWEEN_ATTEMPTS).await;
                }
                added => return added,
            }
        }
    }

    async fn records(&self, from: u64) -> Result<Vec<Record>, LedgerError> {
        self.reader.records(from).await
    }

    async fn seal(&self) -> Result<Seal, LedgerError> {
        self.wallet.nodes.ask(|node| async move { self.reader.seal_at(&node).await }).await
    }

    async fn balance(&self) -> Result<u64, LedgerError> {
        Ok(total(&self.wallet.nodes.coins(self.wallet.address()).await?))
    }

    async fn clock(&self) -> Result<u64, LedgerError> {
        self.wallet.nodes.clock().await
    }
}
