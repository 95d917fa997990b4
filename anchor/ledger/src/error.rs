//! What can go wrong between anchor and ledger.

use std::path::PathBuf;
use std::time::Duration;

use iota_sdk::types::{Address, ObjectId, TransactionDigest};

use crate::file::FileError;
use crate::network::Network;
use crate::seal::{Seal, Weakness};

/// Why the ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No answer.
    #[error("cannot reach the node at {endpoint}: {reason}. Check the address and the network, or try again later")]
    Unreachable {
        /// Its URL.
        endpoint: String,
        /// What the transport says.
        reason: String,
    },
    /// An answer that makes no sense.
    #[error("{endpoint} answered something unexpected: {reason}. Is that a node of IOTA, and one new enough?")]
    Unexpected {
        /// The URL.
        endpoint: String,
        /// What was wrong.
        reason: String,
    },
    /// Too many questions.
    #[error("{endpoint} limits how often it may be asked: {reason}. Give it less to do, or use a node of your own")]
    RateLimited {
        /// The URL.
        endpoint: String,
        /// What it says.
        reason: String,
        /// How long it says to wait.
        retry_after: Option<Duration>,
    },
    /// A node that has not caught up with the ledger, or with what we did there.
    #[error("{endpoint} is behind: it does not show {missing} yet. Try again later, or use another node")]
    Behind {
        /// The URL.
        endpoint: String,
        /// What it should show.
        missing: String,
    },
    /// Nobody to ask.
    #[error("no node is given: at least one is needed")]
    NoNodes,
    /// The node belongs to another ledger.
    #[error("{endpoint} serves chain {found}, not {expected}: give it a node of the right network")]
    WrongChain {
        /// Its URL.
        endpoint: String,
        /// The chain that was meant.
        expected: String,
        /// The one it serves.
        found: String,
    },
    /// There is nothing at that id.
    #[error("no such trail: the node at {endpoint} knows no object {trail}. Is the id right, and of this network?")]
    NoSuchTrail {
        /// The id.
        trail: ObjectId,
        /// The node's URL.
        endpoint: String,
    },
    /// There is something else at that id.
    #[error("{id} is not an audit trail of text records by the configured package, but {found}")]
    NotATrail {
        /// The id.
        id: ObjectId,
        /// Its type.
        found: String,
    },
    /// Somebody could still change what the trail says.
    #[error("trail {} is not sealed: {}", .seal.trail, join(.weaknesses))]
    NotSealed {
        /// What the trail object shows.
        seal: Box<Seal>,
        /// What is open.
        weaknesses: Vec<Weakness>,
    },
    /// A record is gone, or was never there.
    #[error("the node at {endpoint} does not show record {sequence_number} of trail {trail}; it should be there")]
    NoSuchRecord {
        /// Its trail.
        trail: ObjectId,
        /// Its number.
        sequence_number: u64,
        /// The node's URL.
        endpoint: String,
    },
    /// A record is not text.
    #[error("record {sequence_number} of trail {trail} holds bytes, not text: no checkpoint of anything")]
    NotText {
        /// Its trail.
        trail: ObjectId,
        /// Its number.
        sequence_number: u64,
    },
    /// What was read back after `init` is not what was written.
    #[error("the trail on the ledger is not the one that was made: {0}. Do not use it")]
    NotAsMade(String),
    /// The capability that should let this anchor add records does not.
    #[error("capability {capability} does not let {address} add records: {reason}")]
    NoRecorder {
        /// The capability's id.
        capability: ObjectId,
        /// Who wants to add.
        address: Address,
        /// Why not.
        reason: String,
    },
    /// Not enough money.
    #[error("{address} holds {balance} NANOS, and {needed} are needed (1 IOTA is 1,000,000,000): send it some")]
    Unfunded {
        /// Who pays.
        address: Address,
        /// What it holds in one coin, in NANOS.
        balance: u64,
        /// What must be covered, in NANOS.
        needed: u64,
    },
    /// Above the configured ceiling. Nothing was submitted.
    #[error(
        "{purpose} may take {needed} NANOS at today's gas price of {price}, and at most {ceiling} are allowed: wait until \
         the price falls, or allow more ([ledger] most_nanos_per_record)"
    )]
    TooDear {
        /// What it was for.
        purpose: &'static str,
        /// NANOS per unit of computation.
        price: u64,
        /// What must be covered, in NANOS.
        needed: u64,
        /// What is allowed, in NANOS.
        ceiling: u64,
    },
    /// Somebody else has our key.
    #[error(
        "record {sequence_number} of trail {trail} was added by {added_by}, our own address, but not by this anchor: \
         another one runs with a copy of its key, or this folder is an old copy. Stop the other one; when it is certain \
         that none runs, let `grid-anchor init` take the trail as it is"
    )]
    OtherWriter {
        /// The trail.
        trail: ObjectId,
        /// The first record that is not ours.
        sequence_number: u64,
        /// Who added it.
        added_by: Address,
    },
    /// The faucet gave nothing.
    #[error("the faucet {url} gave nothing: {reason}. Try later, or send {address} some gas by hand")]
    Faucet {
        /// Its URL.
        url: String,
        /// Why not.
        reason: String,
        /// Who should have got it.
        address: Address,
    },
    /// The transaction would abort; it was not submitted and cost nothing.
    #[error("{purpose} would fail and was not submitted: {reason}")]
    WouldFail {
        /// What it was for.
        purpose: &'static str,
        /// What the simulation says: the command, and the Move function that aborts.
        reason: String,
    },
    /// The transaction aborted. It is on the ledger, was paid for, and changed nothing.
    #[error("{purpose} failed on the ledger in transaction {transaction}: {reason}")]
    Failed {
        /// What it was for.
        purpose: &'static str,
        /// The transaction.
        transaction: TransactionDigest,
        /// Why: the command, and the Move function that aborted.
        reason: String,
    },
    /// The node will not take the transaction. It changed nothing, and what is built next excludes that it still does.
    #[error("the node refuses transaction {transaction} ({purpose}): {reason}")]
    Refused {
        /// What it was for.
        purpose: &'static str,
        /// The transaction.
        transaction: TransactionDigest,
        /// What the node says.
        reason: String,
    },
    /// The transaction may or may not be on the ledger. Its signed bytes are kept; doing the same again settles it.
    #[error("it is unclear whether transaction {transaction} ({purpose}) was executed: {reason}. Do the same again")]
    Unclear {
        /// What it was for.
        purpose: &'static str,
        /// The transaction.
        transaction: TransactionDigest,
        /// What went wrong.
        reason: String,
        /// How long a node says to wait.
        retry_after: Option<Duration>,
    },
    /// More text than a transaction carries.
    #[error("{what} has {length} bytes, and at most {most} fit into a transaction")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// How many bytes it has.
        length: usize,
        /// How many it may have.
        most: usize,
    },
    /// Nobody said where the packages are.
    #[error("{0} has no packages of its own: publish audit_trails and tf_components, and configure their addresses")]
    NoPackages(Network),
    /// There is no trail yet.
    #[error("{0} is not initialised: run init first")]
    NotInitialised(PathBuf),
    /// The folder belongs to another trail.
    #[error("{folder} was initialised with {what} {stored:?}, not {given:?}: use another folder, or give the former")]
    Different {
        /// The folder.
        folder: PathBuf,
        /// Which setting differs.
        what: &'static str,
        /// What is stored.
        stored: String,
        /// What was given.
        given: String,
    },
    /// A file of ours that we cannot read.
    #[error("{path} cannot be understood: {reason}. Restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// Cryptography or encoding failed, which no input explains.
    #[error("cannot {action}: {reason}")]
    Internal {
        /// What was tried.
        action: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// Whoever watched said stop.
    #[error("stopped on request before it could go on from: {0}")]
    Stopped(&'static str),
}

/// What helps against a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// To ask again, after a while: the network, a node, or a disk that is full.
    Waiting,
    /// Not this record, but perhaps the next: what was asked for is not possible now.
    AnotherRecord,
    /// Somebody must do what the message says.
    Person,
}

impl LedgerError {
    /// What helps.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unreachable { .. }
            | Self::Unexpected { .. }
            | Self::RateLimited { .. }
            | Self::Behind { .. }
            | Self::Unclear { .. } => Remedy::Waiting,
            // The files are locked while an anchor that was just stopped is still letting go of them.
            Self::File(error) if error.is_full() || matches!(error, FileError::Locked(_)) => Remedy::Waiting,
            Self::TooDear { .. }
            | Self::WouldFail { .. }
            | Self::Failed { .. }
            | Self::Refused { .. }
            | Self::TooLong { .. }
            | Self::Stopped(_) => Remedy::AnotherRecord,
            Self::NoNodes
            | Self::WrongChain { .. }
            | Self::NoSuchTrail { .. }
            | Self::NotATrail { .. }
            | Self::NotSealed { .. }
            | Self::NoSuchRecord { .. }
            | Self::NotText { .. }
            | Self::NotAsMade(_)
            | Self::NoRecorder { .. }
            | Self::Unfunded { .. }
            | Self::OtherWriter { .. }
            | Self::Faucet { .. }
            | Self::NoPackages(_)
            | Self::NotInitialised(_)
            | Self::Different { .. }
            | Self::Damaged { .. }
            | Self::File(_)
            | Self::Internal { .. } => Remedy::Person,
        }
    }

    /// Whether the same may work a while later.
    pub fn is_transient(&self) -> bool {
        self.remedy() == Remedy::Waiting
    }

    /// Whether it is about settings or files of ours, rather than about what is on the ledger.
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::NoNodes
                | Self::NoPackages(_)
                | Self::NotInitialised(_)
                | Self::Different { .. }
                | Self::Damaged { .. }
                | Self::File(_)
                | Self::Internal { .. }
        )
    }

    /// How long a node that limits us says to wait before it is asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unclear { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn join(weaknesses: &[Weakness]) -> String {
    weaknesses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
