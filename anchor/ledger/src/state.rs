//! What the anchor remembers of its trail (`ledger.json`), and the transaction that may be under way
//! (`ledger.pending`).

use iota_sdk::types::{Address, ObjectId, SignedTransaction, TransactionDigest};
use serde::{Deserialize, Serialize};

use crate::error::LedgerError;
use crate::file::Folder;
use crate::ledger::Receipt;
use crate::network::{Network, Packages};
use crate::program::Shared;

const STATE: &str = "ledger.json";
const PENDING: &str = "ledger.pending";

/// How far the trail of this folder has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub(crate) network: Network,
    /// The chain at the time of `init`: public test networks are wiped, and local ones made anew.
    pub(crate) chain: String,
    /// Those that made the trail. It is never called at another version's address, which would refuse it.
    pub(crate) packages: Packages,
    pub(crate) address: Address,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) progress: Progress,
}

/// The steps of `init` that leave something behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Progress {
    /// There is a key, and nothing of ours on the ledger.
    Key,
    /// There is a trail, and we could still change everything about it.
    Created(Created),
    /// There is a trail that we can only add to.
    Sealed(Sealed),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Created {
    pub(crate) trail: Shared,
    pub(crate) admin: ObjectId,
    pub(crate) create: Paid,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sealed {
    pub(crate) trail: Shared,
    pub(crate) admin: ObjectId,
    pub(crate) recorder: ObjectId,
    pub(crate) create: Paid,
    pub(crate) seal: Paid,
    /// Of the newest record that we know we added.
    pub(crate) last: Option<Receipt>,
}

/// A transaction and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// Its digest.
    pub transaction: TransactionDigest,
    /// Computation and storage less rebate, in NANOS.
    pub nanos: i64,
}

impl State {
    pub(crate) fn load(folder: &Folder) -> Result<Option<Self>, LedgerError> {
        read(folder, STATE)
    }

    pub(crate) fn store(&self, folder: &Folder) -> Result<(), LedgerError> {
        write(folder, STATE, self)
    }
}

/// A signed transaction that was, is being, or will be handed in: the bytes are on disk before anybody gets them, so
/// that after whatever happens the same transaction can be handed in again, which executes it at most once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pending {
    pub(crate) purpose: Purpose,
    pub(crate) transaction: TransactionDigest,
    /// BCS in base64.
    #[serde(with = "base64_bcs")]
    pub(crate) signed: SignedTransaction,
}

/// What a transaction is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "purpose", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Purpose {
    Merge,
    Create,
    Seal,
    Add {
        /// The number that the record has if nobody else adds.
        sequence_number: u64,
        /// SHA-256 of its text, in hex.
        text_sha256: String,
    },
}

impl Purpose {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Merge => "merging coins",
            Self::Create => "creating the trail",
            Self::Seal => "sealing the trail",
            Self::Add { .. } => "adding a record",
        }
    }
}

impl Pending {
    pub(crate) fn load(folder: &Folder) -> Result<Option<Self>, LedgerError> {
        read(folder, PENDING)
    }

    pub(crate) fn store(&self, folder: &Folder) -> Result<(), LedgerError> {
        write(folder, PENDING, self)
    }

    pub(crate) fn remove(folder: &Folder) -> Result<(), LedgerError> {
        Ok(folder.remove(PENDING)?)
    }
}

fn read<T: for<'de> Deserialize<'de>>(folder: &Folder, name: &str) -> Result<Option<T>, LedgerError> {
    let Some(bytes) = folder.read(name)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| LedgerError::Damaged { path: folder.path(name), reason: error.to_string() })
}

fn write<T: Serialize>(folder: &Folder, name: &str, value: &T) -> Result<(), LedgerError> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|error| LedgerError::Internal { action: "encode the state", reason: error.to_string() })?;
    bytes.push(b'\n');
    Ok(folder.place(name, &bytes)?)
}

mod base64_bcs {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use iota_sdk::types::SignedTransaction;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(signed: &SignedTransaction, to: S) -> Result<S::Ok, S::Error> {
        let bytes = bcs::to_bytes(signed).map_err(S::Error::custom)?;
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SignedTransaction, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)?;
        bcs::from_bytes(&bytes).map_err(D::Error::custom)
    }
}
