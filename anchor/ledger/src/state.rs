//! What the anchor remembers of its trail (`ledger.json`), and the transaction that may be under way
//! (`ledger.pending`).

use iota_sdk::types::{
    Address, Input, ObjectId, ObjectReference, SignedTransaction, Transaction, TransactionDigest, TransactionKind,
};
use serde::{Deserialize, Serialize};

use crate::error::LedgerError;
use crate::file::Folder;
use crate::ledger::Receipt;
use crate::money::Costs;
use crate::network::{Network, Packages};
use crate::program::Shared;

pub(crate) const STATE: &str = "ledger.json";
pub(crate) const PENDING: &str = "ledger.pending";
/// More than are ever refused between two records that are not.
const GIVEN_UP_AT_MOST: usize = 100;

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
    Sealed(Box<Sealed>),
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
    /// So many records are in the trail, all of them ours. Further ones are somebody else's, or were given up.
    pub(crate) known: u64,
    /// SHA-256, in hex, of records whose transactions were refused, and that may nevertheless still be added.
    pub(crate) given_up: Vec<String>,
    /// What records have cost.
    pub(crate) costs: Costs,
}

impl Sealed {
    /// Takes note of a record. Whatever else was signed with the same version of the capability is excluded now.
    pub(crate) fn note(&mut self, receipt: Receipt) {
        // One with an earlier number was known already, and one with a later comes after records that are not ours.
        if receipt.sequence_number == self.known {
            self.known += 1;
        }
        self.given_up.clear();
        if let Some(nanos) = receipt.nanos {
            self.costs.push(u64::try_from(nanos).unwrap_or(0), receipt.added_ms);
        }
        self.last = Some(receipt);
    }

    /// Takes note that the transaction with this record was refused.
    pub(crate) fn give_up(&mut self, text_sha256: String) {
        if !self.given_up.contains(&text_sha256) {
            let surplus = (self.given_up.len() + 1).saturating_sub(GIVEN_UP_AT_MOST);
            self.given_up.drain(..surplus);
            self.given_up.push(text_sha256);
        }
    }
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
        /// SHA-256 of the record's text, in hex.
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

    /// The object of ours that no two transactions can use at the same version: the capability, or where there is none
    /// the coin that pays. While the ledger has it at this version, neither this transaction nor any other that names
    /// that version was executed; once it has a later one, at most one was.
    pub(crate) fn guard(&self) -> Option<ObjectReference> {
        let Transaction::V1(transaction) = &self.signed.transaction else { return None };
        let owned = match &transaction.kind {
            TransactionKind::Programmable(program) => program.inputs.iter().find_map(|input| match input {
                Input::ImmutableOrOwned(reference) => Some(*reference),
                _ => None,
            }),
            _ => None,
        };
        owned.or(transaction.gas_payment.objects.first().copied())
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
