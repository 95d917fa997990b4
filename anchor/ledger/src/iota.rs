//! The ledger that is a sealed audit trail on IOTA, or on its mock.

use std::path::Path;

use iota_sdk::types::framework::Coin;
use iota_sdk::types::{Address, Object, ObjectId, TransactionDigest};
use iota_sdk_grpc_types::tonic::async_trait;

use crate::audit_trail::RecordAdded;
use crate::error::LedgerError;
use crate::file::Folder;
use crate::init::total;
use crate::key::LedgerKey;
use crate::ledger::{Ledger, NewRecord, Receipt, Record, Watch, text_sha256};
use crate::network::Endpoints;
use crate::node::{Executed, GasCoin, Node};
use crate::program::Program;
use crate::seal::Seal;
use crate::state::{Pending, Progress, Purpose, Sealed, State};
use crate::trail::{TrailReader, read_trail};
use crate::wallet::{Settled, Wallet, check_chain};

/// A pure argument has fewer than 16,384 bytes, its length of up to three bytes included.
const LONGEST_TEXT: usize = 16_380;
/// What any record can be paid with, in NANOS; a coin with less is compared with the others.
const COMFORTABLE: u64 = 200_000_000;

/// A sealed trail that we may add to.
pub struct IotaLedger {
    wallet: Wallet,
    state: State,
    sealed: Sealed,
    reader: TrailReader,
    /// The coin that paid last.
    coin: Option<ObjectId>,
    /// The newest transaction that the node may not show yet.
    unsettled: Option<TransactionDigest>,
}

impl IotaLedger {
    /// Opens the trail that [`crate::init`] made in the folder. Checks that the node serves the same chain, that the
    /// trail is there and sealed, and that we may add to it; settles a record that was left over. So it needs the node:
    /// on [`LedgerError::Unreachable`] and [`LedgerError::Unclear`], try again later.
    pub async fn open(folder: &Path, endpoints: &Endpoints) -> Result<Self, LedgerError> {
        let folder = Folder::open(folder)?;
        let not_initialised = || LedgerError::NotInitialised(folder.root().to_owned());
        let state = State::load(&folder)?.ok_or_else(not_initialised)?;
        let Progress::Sealed(sealed) = state.progress.clone() else { return Err(not_initialised()) };
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
        let node = Node::new(&endpoints.grpc)?;
        check_chain(&node, Some(&state.chain)).await?;
        let packages = state.packages;
        let reader = TrailReader::on(node.clone(), packages, sealed.trail.id);
        let wallet = Wallet { folder, node, key, packages, watch: None };
        let seal = reader.seal().await?;
        wallet.check_recorder(sealed.recorder, &seal).await?;
        let mut ledger = Self { wallet, state, sealed, reader, coin: None, unsettled: None };
        ledger.settle().await?;
        Ok(ledger)
    }

    /// Is told every step from now on.
    pub fn watch(&mut self, watch: Watch) {
        self.wallet.watch = Some(watch);
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

    /// Settles a record that was left over; its receipt, if it is on the ledger, is [`Self::last_receipt`] from now on.
    async fn settle(&mut self) -> Result<Option<Receipt>, LedgerError> {
        let Some(pending) = Pending::load(&self.wallet.folder)? else { return Ok(None) };
        let Purpose::Add { sequence_number, text_sha256 } = &pending.purpose else {
            // `init` noted what it did, and was stopped before it could remove it.
            Pending::remove(&self.wallet.folder)?;
            return Ok(None);
        };
        let Some((_, settled)) = self.wallet.settle().await? else { return Ok(None) };
        let transaction = pending.transaction;
        let receipt = match settled {
            Settled::Done(executed) => Some(self.receipt(&executed, text_sha256.clone())?),
            Settled::Aborted(reason) => {
                tracing::warn!(%transaction, reason, "a record that was left over was not added");
                None
            }
            Settled::Refused(reason) => {
                let found = self.find(*sequence_number, text_sha256, transaction).await?;
                if found.is_none() {
                    tracing::warn!(%transaction, reason, "a record that was left over is refused, and not there");
                }
                found
            }
        };
        match &receipt {
            Some(receipt) => self.note(&pending.purpose, receipt.clone())?,
            None => Pending::remove(&self.wallet.folder)?,
        }
        Ok(receipt)
    }

    /// Looks for a record whose transaction the node does not know. Nodes forget transactions after some weeks, but not
    /// objects: the trail itself tells.
    async fn find(
        &self,
        from: u64,
        sha256: &str,
        transaction: TransactionDigest,
    ) -> Result<Option<Receipt>, LedgerError> {
        let records = self.reader.records(from).await?;
        let found = records.into_iter().find(|record| text_sha256(&record.text) == sha256);
        Ok(found.map(|record| Receipt {
            transaction: record.transaction.unwrap_or(transaction),
            sequence_number: record.sequence_number,
            text_sha256: sha256.to_owned(),
            added_ms: record.added_ms,
            nanos: None,
        }))
    }

    fn note(&mut self, purpose: &Purpose, receipt: Receipt) -> Result<(), LedgerError> {
        self.sealed.last = Some(receipt);
        self.state.progress = Progress::Sealed(self.sealed.clone());
        self.wallet.note(purpose, &self.state)
    }

    fn receipt(&self, executed: &Executed, text_sha256: String) -> Result<Receipt, LedgerError> {
        let tag = self.wallet.packages.record_added();
        let added = executed.events.iter().find(|event| event.struct_tag == tag);
        let added = added.ok_or_else(|| self.wallet.node.unexpected("a record was added without an event"))?;
        let added: RecordAdded =
            bcs::from_bytes(&added.contents).map_err(|error| self.wallet.node.unexpected(error))?;
        let effects = &executed.effects;
        Ok(Receipt {
            transaction: effects.transaction_digest,
            sequence_number: added.sequence_number,
            text_sha256,
            added_ms: added.timestamp,
            nanos: Some(effects.gas_cost_summary.net_gas_usage()),
        })
    }

    /// The coin that paid last, or else the largest. `known` is that coin as just read, if it is still ours.
    async fn gas_coin(&mut self, known: Option<Object>) -> Result<GasCoin, LedgerError> {
        let address = self.wallet.address();
        let known = known.filter(|object| object.owner == address).and_then(|object| {
            let coin = Coin::try_from_object(&object).ok()?;
            Some(GasCoin { reference: object.object_ref(), balance: coin.balance() })
        });
        let coin = match known {
            Some(coin) if coin.balance >= COMFORTABLE => coin,
            Some(_) | None => {
                let coins = self.wallet.node.coins(address).await?;
                let none = LedgerError::Unfunded { address, balance: 0, needed: COMFORTABLE };
                *coins.first().ok_or(none)?
            }
        };
        self.coin = Some(coin.reference.object_id);
        Ok(coin)
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
        if let Some(transaction) = self.unsettled {
            self.wallet.node.settled(transaction).await?;
            self.unsettled = None;
        }
        let mut ids = vec![self.sealed.trail.id, self.sealed.recorder];
        ids.extend(self.coin);
        let mut objects = self.wallet.node.objects(&ids).await?.into_iter();
        let missing = |id: ObjectId| self.wallet.node.unexpected(format!("object {id} is gone"));
        let trail = objects.next().flatten().ok_or_else(|| missing(self.sealed.trail.id))?;
        let recorder = objects.next().flatten().ok_or_else(|| missing(self.sealed.recorder))?.object_ref();
        let sequence_number = read_trail(&trail, &self.wallet.packages)?.sequence_number;
        let coin = self.gas_coin(objects.next().flatten()).await?;
        let program = Program::Add {
            trail: self.sealed.trail,
            recorder,
            text: &record.text,
            metadata: record.metadata.as_deref(),
        };
        let purpose = Purpose::Add { sequence_number, text_sha256: text_sha256.clone() };
        let executed = self.wallet.submit(purpose.clone(), &program, coin).await?;
        self.unsettled = Some(executed.effects.transaction_digest);
        let receipt = self.receipt(&executed, text_sha256)?;
        self.note(&purpose, receipt.clone())?;
        Ok(receipt)
    }

    async fn records(&self, from: u64) -> Result<Vec<Record>, LedgerError> {
        self.reader.records(from).await
    }

    async fn seal(&self) -> Result<Seal, LedgerError> {
        self.reader.seal().await
    }

    async fn balance(&self) -> Result<u64, LedgerError> {
        Ok(total(&self.wallet.node.coins(self.wallet.address()).await?))
    }
}
