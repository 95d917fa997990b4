//! Why a node does not execute a transaction at all, in its words (`UserInputError` and the signatures' part of
//! `IotaError` in `crates/iota-types/src/error.rs` of `iotaledger/iota`, July 2026).
//!
//! A client of a node sees these through the call it made: handing in answers INVALID_ARGUMENT, simulating INTERNAL.

use iota_sdk::types::{Address, ObjectDigest, ObjectId, ObjectReference, Version};
use iota_sdk_grpc_types::tonic::Code;

use super::rejection::Rejection;

/// Why it is not executed.
#[derive(Debug)]
pub(super) enum Refusal {
    Signature(SignatureError),
    Input(InputError),
    /// Not a node's reason, but the mock's.
    Mock(Rejection),
}

/// What is wrong with the signatures.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("Expect {expected} signer signatures but got {actual}")]
    Number { expected: usize, actual: usize },
    #[error("Required Signature from {expected} is absent {actual:?}")]
    Absent { expected: Address, actual: Vec<String> },
    #[error("Signature is not valid: {0}")]
    Invalid(String),
}

/// What is wrong with the transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum InputError {
    #[error("Mutable object {0} cannot appear more than once in one transaction")]
    UsedTwice(ObjectId),
    #[error("The transaction inputs contain duplicated ObjectReference's")]
    DuplicateInputs,
    #[error("Could not find the referenced object {id} at version {version:?}")]
    NotFound { id: ObjectId, version: Option<Version> },
    #[error(
        "Object ID {} Version {} Digest {} is not available for consumption, current version: {current}",
        .given.object_id, .given.version, .given.digest
    )]
    Stale { given: ObjectReference, current: Version },
    #[error("Invalid Object digest for object {id}. Expected digest : {expected}")]
    WrongDigest { id: ObjectId, expected: ObjectDigest },
    #[error("Dependent package not found on-chain: {0}")]
    NoPackage(ObjectId),
    #[error(
        "Transaction was not signed by the correct sender: Object {id} is owned by account address {owner}, but given \
         owner/signer address is {given}"
    )]
    WrongOwner { id: ObjectId, owner: Address, given: Address },
    #[error(
        "Object {child} is owned by object {parent}. Objects owned by other objects cannot be used as input arguments"
    )]
    Child { child: ObjectId, parent: ObjectId },
    #[error("Object used as shared is not shared")]
    NotShared,
    #[error("Wrong initial version given for shared object")]
    WrongInitialVersion,
    // The text is the wrong way round; so it is in the node.
    #[error("Mutable parameter provided, immutable parameter expected")]
    OnlyToBeRead,
    #[error("Size limit exceeded: {limit} is {value}")]
    TooLarge { limit: String, value: usize },
    #[error(
        "TransferObjects, MergeCoin, and Publish cannot have empty arguments. If MakeMoveVec has empty arguments, it \
         must have a type specified"
    )]
    EmptyCommand,
    #[error("Transaction gas payment missing")]
    NoGas,
    #[error("Gas object is not an owned object with owner: {0}")]
    GasNotOwned(iota_sdk::types::Owner),
    #[error("Object {0} is not a gas object")]
    NotGas(ObjectId),
    #[error("Gas price {given} under reference gas price (RGP) {reference}")]
    PriceTooLow { given: u64, reference: u64 },
    #[error("Gas price cannot exceed {0} nanos")]
    PriceTooHigh(u64),
    #[error("Gas budget: {given} is higher than max: {most}")]
    BudgetTooHigh { given: u64, most: u64 },
    #[error("Gas budget: {given} is lower than min: {least}")]
    BudgetTooLow { given: u64, least: u64 },
    #[error("Balance of gas object {balance} is lower than the needed amount: {budget}")]
    BalanceTooLow { balance: u128, budget: u64 },
}

impl From<InputError> for Refusal {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl From<SignatureError> for Refusal {
    fn from(error: SignatureError) -> Self {
        Self::Signature(error)
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Self::Mock(rejection)
    }
}

impl Refusal {
    /// As the answer to who hands the transaction in: the validators' errors, gathered by the node.
    pub(super) fn when_executed(self) -> Rejection {
        match self {
            Self::Signature(error) => Rejection::invalid(format!("Invalid user signature: {error}")),
            Self::Input(error) => Rejection::invalid(format!(
                "Transaction execution failed due to issues with transaction inputs, please review the errors and try \
                 again: {error}."
            )),
            Self::Mock(rejection) => rejection,
        }
    }

    /// As the answer to who simulates the transaction.
    pub(super) fn when_simulated(self) -> Rejection {
        let internal =
            |reason: String| Rejection::new(Code::Internal, format!("transaction simulation failed: {reason}"));
        match self {
            Self::Signature(error) => internal(error.to_string()),
            Self::Input(error) => internal(format!("Error checking transaction input objects: {error}")),
            Self::Mock(rejection) => rejection,
        }
    }
}
