//! Signing and handing in, so that whatever is interrupted can be settled later.
//!
//! ```text
//! build ─► simulate ─► sign ─► write ledger.pending ─► hand in ─► look at the status ─► note what it did ─► remove it
//! ```
//!
//! A transaction that was left over is looked up by its digest at every node, and if none knows it, handed in again as
//! the same bytes. Its bytes are forgotten only when it was executed, or when a node refused it and shows why no other
//! transaction can do the same thing a second time: the object that guards it ([`Pending::guard`]) was used by another
//! one, or is still there to be used by either.

use iota_sdk::types::{Address, ExecutionError, ExecutionStatus, MoveLocation, ObjectId};

use crate::audit_trail::{Capability, Permission, read};
use crate::error::LedgerError;
use crate::file::Folder;
use crate::key::LedgerKey;
use crate::ledger::{Step, Watch, tell};
use crate::network::Packages;
use crate::node::{Executed, GasCoin, Node, Submission};
use crate::nodes::Nodes;
use crate::program::{Gas, Program};
use crate::seal::Seal;
use crate::state::{Pending, Purpose, State};

/// Most that a transaction may offer to pay (protocol limit `max_tx_gas`, 50 IOTA).
const HIGHEST_BUDGET: u64 = 50_000_000_000;
/// The units of computation that any transaction is charged for at least.
const LEAST_COMPUTATION: u64 = 1000;
/// Coins that pay for one transaction, of which there may be 256 (protocol limit `max_gas_payment_objects`).
const COINS_AT_ONCE: usize = 200;
/// What is asked for when the need is not known exactly.
const ROUGHLY_NEEDED: u64 = 50_000_000;

/// The key, the files and the node that one folder's transactions need.
pub(crate) struct Wallet {
    pub(crate) folder: Folder,
    pub(crate) nodes: Nodes,
    pub(crate) key: LedgerKey,
    pub(crate) packages: Packages,
    pub(crate) watch: Option<Watch>,
}

/// What became of a transaction that was left over.
pub(crate) enum Settled {
    /// It is on the ledger and did what it should.
    Done(Box<Executed>),
    /// It is on the ledger, aborted, and did nothing.
    Aborted(String),
    /// It is not on the ledger and is not taken, and what is built next excludes that it still is.
    Refused(String),
}

impl Wallet {
    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    pub(crate) fn tell(&mut self, step: Step<'_>) -> Result<(), LedgerError> {
        tell(&mut self.watch, step)
    }

    /// Does what the program says and returns once it is on the ledger; the coins pay, and become one by that. Nothing is
    /// submitted that might take more than `ceiling`, in NANOS. [`Self::note`] must follow. After
    /// [`LedgerError::Refused`] the signed bytes are still there, until the caller has noted that they were given up.
    pub(crate) async fn submit(
        &mut self,
        purpose: Purpose,
        program: &Program<'_>,
        coins: &[GasCoin],
        ceiling: u64,
    ) -> Result<Executed, LedgerError> {
        let pending = self.prepare(purpose, program, coins, ceiling).await?;
        pending.store(&self.folder)?;
        let (purpose, transaction) = (pending.purpose.name(), pending.transaction);
        self.tell(Step::Signed { purpose, transaction })?;
        match self.hand_in(&pending).await? {
            Settled::Done(executed) => Ok(*executed),
            Settled::Aborted(reason) => {
                Pending::remove(&self.folder)?;
                Err(LedgerError::Failed { purpose, transaction, reason })
            }
            Settled::Refused(reason) => Err(LedgerError::Refused { purpose, transaction, reason }),
        }
    }

    /// Builds and signs what is affordable and would succeed now.
    async fn prepare(
        &self,
        purpose: Purpose,
        program: &Program<'_>,
        coins: &[GasCoin],
        ceiling: u64,
    ) -> Result<Pending, LedgerError> {
        let address = self.address();
        let balance = total(coins);
        let price = self.nodes.gas_price().await?;
        let unfunded = |needed| LedgerError::Unfunded { address, balance, needed };
        let too_dear = |needed| LedgerError::TooDear { purpose: purpose.name(), price, needed, ceiling };
        let least = price.saturating_mul(LEAST_COMPUTATION);
        if least > ceiling {
            return Err(too_dear(least));
        }
        if least > balance {
            return Err(unfunded(least.max(ROUGHLY_NEEDED)));
        }
        let coins: Vec<_> = coins.iter().map(|coin| coin.reference).collect();
        let gas = |budget| Gas { coins: coins.clone(), price, budget };
        let draft = program.build(&self.packages, address, gas(balance.min(HIGHEST_BUDGET)))?;
        let refused = |reason| LedgerError::Refused { purpose: purpose.name(), transaction: draft.digest(), reason };
        let effects = self.nodes.simulate(&draft).await?.map_err(refused)?;
        match &effects.status {
            ExecutionStatus::Success => {}
            ExecutionStatus::Failure { error: ExecutionError::InsufficientGas, .. } if balance >= ceiling => {
                return Err(too_dear(balance));
            }
            ExecutionStatus::Failure { error: ExecutionError::InsufficientGas, .. } => {
                return Err(unfunded(ROUGHLY_NEEDED.max(balance.saturating_mul(2))));
            }
            status => {
                return Err(LedgerError::WouldFail { purpose: purpose.name(), reason: describe(status) });
            }
        }
        // The rebate comes only afterwards.
        let used = effects.gas_cost_summary.gas_used();
        if used > ceiling {
            return Err(too_dear(used));
        }
        // A fifth more, should the ledger have changed by then.
        let budget = used.saturating_add(used / 5).min(ceiling).min(HIGHEST_BUDGET);
        if budget > balance {
            return Err(unfunded(budget));
        }
        let transaction = program.build(&self.packages, address, gas(budget))?;
        Ok(Pending { purpose, transaction: transaction.digest(), signed: self.key.sign(transaction)? })
    }

    /// Settles a transaction that was left over, if there is one. [`Self::note`] must follow.
    pub(crate) async fn settle(&mut self) -> Result<Option<(Pending, Settled)>, LedgerError> {
        let Some(pending) = Pending::load(&self.folder)? else { return Ok(None) };
        tracing::info!(transaction = %pending.transaction, "settling what was left over: {}", pending.purpose.name());
        let settled = match self.nodes.transaction(pending.transaction).await? {
            Some(executed) => self.judge(&pending, executed)?,
            None => self.hand_in(&pending).await?,
        };
        Ok(Some((pending, settled)))
    }

    async fn hand_in(&mut self, pending: &Pending) -> Result<Settled, LedgerError> {
        match self.nodes.execute(&pending.signed).await {
            Submission::Executed(executed) => self.judge(pending, *executed),
            Submission::Refused(reason) => match self.after_refusal(pending).await {
                Ok(Some(executed)) => self.judge(pending, executed),
                Ok(None) => Ok(Settled::Refused(reason)),
                Err(error) => Err(unclear(pending, error)),
            },
            Submission::Unclear(error) => Err(unclear(pending, error)),
        }
    }

    /// What a refusal means: a node that is behind refuses what others have executed, or still will. One that is not
    /// shows the guard at the version of the transaction, which is then for whatever is built next, or at a later one.
    async fn after_refusal(&self, pending: &Pending) -> Result<Option<Executed>, LedgerError> {
        let uses_nothing =
            || LedgerError::Internal { action: "settle a transaction", reason: "it uses nothing".to_owned() };
        let guard = pending.guard().ok_or_else(uses_nothing)?;
        let look = |node: Node| async move {
            match node.object(guard.object_id).await? {
                Some(object) if object.version() < guard.version => {
                    Err(node.behind(format!("object {} at version {}", guard.object_id, guard.version)))
                }
                // Gone: a coin that was merged into another since.
                Some(_) | None => Ok(()),
            }
        };
        self.nodes.ask(look).await?;
        // A node that shows a later version knows the transaction that made it, so it is asked afterwards.
        self.nodes.transaction(pending.transaction).await
    }

    /// Being executed is not success: a Move call that aborts is executed, and paid for.
    fn judge(&mut self, pending: &Pending, executed: Executed) -> Result<Settled, LedgerError> {
        self.tell(Step::Executed { purpose: pending.purpose.name(), transaction: pending.transaction })?;
        Ok(match &executed.effects.status {
            ExecutionStatus::Success => Settled::Done(Box::new(executed)),
            status => Settled::Aborted(describe(status)),
        })
    }

    /// Writes down what a transaction did, and only then forgets its bytes.
    pub(crate) fn note(&mut self, purpose: &Purpose, state: &State) -> Result<(), LedgerError> {
        state.store(&self.folder)?;
        Pending::remove(&self.folder)?;
        self.tell(Step::Noted { purpose: purpose.name() })
    }

    /// Checks that a capability lets us add records to a trail.
    pub(crate) async fn check_recorder(
        &self,
        node: &Node,
        capability: ObjectId,
        seal: &Seal,
    ) -> Result<(), LedgerError> {
        let address = self.address();
        let no = |reason: String| LedgerError::NoRecorder { capability, address, reason };
        let object = node.object(capability).await?;
        let object = object.ok_or_else(|| no("it does not exist".to_owned()))?;
        if object.owner != address {
            return Err(no(format!("it belongs to {}", object.owner)));
        }
        let content = read::<Capability>(&object, &self.packages.capability())
            .ok_or_else(|| no("it is no capability".to_owned()))?
            .map_err(|error| no(format!("it cannot be understood: {error}")))?;
        if content.target_key != seal.trail {
            return Err(no(format!("it is for trail {}", content.target_key)));
        }
        if content.issued_to.is_some_and(|holder| holder != address) {
            return Err(no("it was issued to somebody else".to_owned()));
        }
        if content.valid_from.is_some() || content.valid_until.is_some() {
            return Err(no("it is limited in time".to_owned()));
        }
        let may_add = |role: &crate::seal::Role| role.permissions.contains(&Permission::AddRecord);
        match seal.roles.iter().find(|role| role.name == content.role) {
            Some(role) if may_add(role) => Ok(()),
            Some(role) => Err(no(format!("its role {:?} may only {:?}", role.name, role.permissions))),
            None => Err(no(format!("its role {:?} does not exist", content.role))),
        }
    }
}

fn unclear(pending: &Pending, error: LedgerError) -> LedgerError {
    let (purpose, transaction) = (pending.purpose.name(), pending.transaction);
    LedgerError::Unclear { purpose, transaction, retry_after: error.retry_after(), reason: error.to_string() }
}

/// The coins that pay: the largest, and more of them only if it holds less than `wanted`, in NANOS. They are given the
/// largest first. Paying with several makes them one and gives back what the others' storage cost.
pub(crate) fn choose(coins: &[GasCoin], wanted: u64) -> &[GasCoin] {
    let mut sum = 0_u64;
    let enough = coins.iter().take(COINS_AT_ONCE).position(|coin| {
        sum = sum.saturating_add(coin.balance);
        sum >= wanted
    });
    let count = enough.map_or(coins.len().min(COINS_AT_ONCE), |last| last + 1);
    coins.get(..count).unwrap_or(coins)
}

pub(crate) fn total(coins: &[GasCoin]) -> u64 {
    coins.iter().fold(0, |sum, coin| sum.saturating_add(coin.balance))
}

/// What went wrong, and in which command. Of an abort the Move function says what happened; its code is the number of a
/// line in the package's source.
fn describe(status: &ExecutionStatus) -> String {
    let (error, command) = match status {
        ExecutionStatus::Failure { error, command } => (error, command),
        other => return format!("{other:?}"),
    };
    let what = match error {
        ExecutionError::MoveAbort { location, code } => {
            let MoveLocation { module, function_name, .. } = location;
            let function = function_name.as_ref().map_or("an unnamed function", |name| name.as_str());
            format!("{}::{function} aborts (code {code})", module.as_str())
        }
        error => error.to_string(),
    };
    match command {
        Some(command) => format!("command {command}: {what}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iota_sdk::types::{Identifier, ObjectDigest, ObjectReference, Version};

    fn coins(balances: &[u64]) -> Vec<GasCoin> {
        let reference = ObjectReference::new(ObjectId::ZERO, Version::from_u64(1), ObjectDigest::new([0; 32]));
        balances.iter().map(|balance| GasCoin { reference, balance: *balance }).collect()
    }

    #[test]
    fn the_largest_coin_pays_alone_as_long_as_it_holds_enough() {
        let count = |balances: &[u64]| choose(&coins(balances), 100).len();
        assert_eq!(count(&[100, 90, 1]), 1);
        assert_eq!(count(&[500]), 1);
        assert_eq!(count(&[99, 90, 1]), 2);
        assert_eq!(count(&[50, 30, 10, 9, 8, 7]), 5);
    }

    #[test]
    fn an_abort_is_told_by_module_and_function() {
        let location = MoveLocation {
            package: ObjectId::ZERO,
            module: Identifier::from_static("role_map"),
            function: 7,
            instruction: 3,
            function_name: Some(Identifier::from_static("assert_capability_valid")),
        };
        let mut status =
            ExecutionStatus::Failure { error: ExecutionError::MoveAbort { location, code: 65_537 }, command: Some(1) };
        assert_eq!(describe(&status), "command 1: role_map::assert_capability_valid aborts (code 65537)");
        status = ExecutionStatus::Failure { error: ExecutionError::InsufficientGas, command: None };
        assert!(describe(&status).to_lowercase().contains("gas"), "{}", describe(&status));
    }

    #[test]
    fn when_all_coins_together_are_too_little_all_are_tried() {
        assert_eq!(choose(&coins(&[3, 2, 1]), 100).len(), 3);
        assert_eq!(choose(&[], 100).len(), 0);
        assert_eq!(choose(&coins(&[1; 500]), 1000).len(), COINS_AT_ONCE);
    }
}
