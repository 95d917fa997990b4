//! What the anchor wants of a ledger.

use std::fmt;
use std::ops::ControlFlow;

use iota_sdk::types::{Address, TransactionDigest};
use iota_sdk_grpc_types::tonic::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::LedgerError;
use crate::key::RecoveryWords;
use crate::seal::Seal;

/// A trail of records that can be added to and read. Adding takes the ledger exclusively: the objects that pay and
/// authorise change with each transaction, so there is one at a time.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Adds a record, and returns once it is on the ledger.
    ///
    /// After [`LedgerError::Unclear`] the same call settles what became of it: the record is there once, not twice.
    async fn append(&mut self, record: &NewRecord) -> Result<Receipt, LedgerError>;

    /// The records with this sequence number and above, in order.
    async fn records(&self, from: u64) -> Result<Vec<Record>, LedgerError>;

    /// What the trail is sealed against; [`LedgerError::NotSealed`] if it is not sealed.
    async fn seal(&self) -> Result<Seal, LedgerError>;

    /// What the ledger address holds, in NANOS, over all its coins.
    async fn balance(&self) -> Result<u64, LedgerError>;

    /// The ledger's clock: when its newest checkpoint was, in Unix milliseconds.
    async fn clock(&self) -> Result<u64, LedgerError>;
}

/// A record to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    /// The signed checkpoint note.
    pub text: String,
    /// What a reader wants to know first: the entries' first and last time, and their number.
    pub metadata: Option<String>,
}

/// A record on the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number in the trail, from 0.
    pub sequence_number: u64,
    /// Its text.
    pub text: String,
    /// Its metadata.
    pub metadata: Option<String>,
    /// When it was added, in Unix milliseconds on the ledger's clock.
    pub added_ms: u64,
    /// Who added it.
    pub added_by: Address,
    /// The transaction that added it, where the objects still tell: adding a record is also the last change of the one
    /// before it. So it is known for every record but the first, and for that while it is the only one.
    pub transaction: Option<TransactionDigest>,
}

/// A record that was added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The transaction that did it.
    pub transaction: TransactionDigest,
    /// The record's number in the trail.
    pub sequence_number: u64,
    /// SHA-256 of the record's text, in hex.
    pub text_sha256: String,
    /// When, in Unix milliseconds on the ledger's clock.
    pub added_ms: u64,
    /// What it cost in NANOS. `None` if the node no longer knew the transaction.
    pub nanos: Option<i64>,
}

/// SHA-256 of a record's text, in hex.
pub fn text_sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What just happened, in the order in which it happens. Told to a [`Watch`].
#[derive(Debug)]
pub enum Step<'a> {
    /// A key was made, which is stored next. The only moment at which its words are known: show them now. Whoever is
    /// stopped here gets other words the next time, and no stored key is without words that were shown.
    NewKey {
        /// The words to write down.
        words: &'a RecoveryWords,
        /// Its address.
        address: Address,
    },
    /// Key and settings are stored.
    KeyStored {
        /// The key's address.
        address: Address,
    },
    /// The faucet was asked.
    FaucetAsked {
        /// Its URL.
        faucet: &'a str,
    },
    /// There is enough to go on with.
    Funded {
        /// In NANOS.
        balance: u64,
    },
    /// A transaction is signed and on disk, and is handed in next.
    Signed {
        /// What for.
        purpose: &'static str,
        /// Its digest.
        transaction: TransactionDigest,
    },
    /// A transaction is on the ledger, and what it did is written down next.
    Executed {
        /// What for.
        purpose: &'static str,
        /// Its digest.
        transaction: TransactionDigest,
    },
    /// What a transaction did is written down.
    Noted {
        /// What it was for.
        purpose: &'static str,
    },
    /// The trail was read back and is as it should be.
    Checked,
}

impl Step<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NewKey { .. } => "a new key",
            Self::KeyStored { .. } => "a stored key",
            Self::FaucetAsked { .. } => "asking the faucet",
            Self::Funded { .. } => "having gas",
            Self::Signed { .. } => "a signed transaction",
            Self::Executed { .. } => "an executed transaction",
            Self::Noted { .. } => "a noted transaction",
            Self::Checked => "a checked trail",
        }
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewKey { address, .. } => write!(f, "made a key, address {address}"),
            Self::KeyStored { address } => write!(f, "the key of {address} is stored"),
            Self::FaucetAsked { faucet } => write!(f, "asked {faucet} for gas"),
            Self::Funded { balance } => write!(f, "have {balance} NANOS"),
            Self::Signed { purpose, transaction } => write!(f, "{purpose}: signed {transaction}"),
            Self::Executed { purpose, transaction } => write!(f, "{purpose}: {transaction} is on the ledger"),
            Self::Noted { purpose } => write!(f, "{purpose}: done"),
            Self::Checked => f.write_str("read the trail back: it is as it should be"),
        }
    }
}

/// Is told every step, and may stop there: shows progress to people, and stands for a kill in tests.
pub type Watch = Box<dyn FnMut(Step<'_>) -> ControlFlow<()> + Send + Sync>;

pub(crate) fn tell(watch: &mut Option<Watch>, step: Step<'_>) -> Result<(), LedgerError> {
    tracing::debug!("{step}");
    let name = step.name();
    match watch.as_mut().map_or(ControlFlow::Continue(()), |watch| watch(step)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(LedgerError::Stopped(name)),
    }
}
