//! Signing and handing in, so that whatever is interrupted can be settled later.
//!
//! ```text
//! build ─► simulate ─► sign ─► write ledger.pending ─► hand in ─► look at the status ─► note what it did ─► remove it
//! ```
//!
//! A transaction that was left over is looked up by its digest, and if the node does not know it, handed in again as
//! the same bytes. It is never built anew before it is settled: a new one could do the same thing twice.

use iota_sdk::types::{Address, ExecutionError, ExecutionStatus, ObjectId};

use crate::audit_trail::{Capability, Permission, read};
use crate::error::LedgerError;
use crate::file::Folder;
use crate::key::LedgerKey;
use crate::ledger::{Step, Watch, tell};
use crate::network::Packages;
use crate::node::{Executed, GasCoin, Node, Submission};
use crate::program::{Gas, Program};
use crate::seal::Seal;
use crate::state::{Pending, Purpose, State};

/// Most that a transaction may offer to pay (protocol limit `max_tx_gas`, 50 IOTA).
const HIGHEST_BUDGET: u64 = 50_000_000_000;
/// Below this nothing of ours can be paid for; an average record needs a budget of 17 million.
const LOWEST_BALANCE: u64 = 10_000_000;
/// What is asked for when the need is not known exactly.
const ROUGHLY_NEEDED: u64 = 50_000_000;

/// The key, the files and the node that one folder's transactions need.
pub(crate) struct Wallet {
    pub(crate) folder: Folder,
    pub(crate) node: Node,
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
    /// The node neither knows it nor takes it.
    Refused(String),
}

impl Wallet {
    pub(crate) fn address(&self) -> Address {
        self.key.address()
    }

    pub(crate) fn tell(&mut self, step: Step<'_>) -> Result<(), LedgerError> {
        tell(&mut self.watch, step)
    }

    /// Does what the program says and returns once it is on the ledger. [`Self::note`] must follow.
    pub(crate) async fn submit(
        &mut self,
        purpose: Purpose,
        program: &Program<'_>,
        coin: GasCoin,
    ) -> Result<Executed, LedgerError> {
        let address = self.address();
        let unfunded = |needed| LedgerError::Unfunded { address, balance: coin.balance, needed };
        if coin.balance < LOWEST_BALANCE {
            return Err(unfunded(ROUGHLY_NEEDED));
        }
        let price = self.node.gas_price().await?;
        let gas = |budget| Gas { coin: coin.reference, price, budget };
        let draft = program.build(&self.packages, address, gas(coin.balance.min(HIGHEST_BUDGET)))?;
        let effects = self.node.simulate(&draft).await?;
        match effects.status {
            ExecutionStatus::Success => {}
            ExecutionStatus::Failure { error: ExecutionError::InsufficientGas, .. } => {
                return Err(unfunded(ROUGHLY_NEEDED.max(coin.balance.saturating_mul(2))));
            }
            status => {
                return Err(LedgerError::WouldFail { purpose: purpose.name(), reason: describe(&status) });
            }
        }
        // The rebate comes only afterwards. A fifth more, should the ledger have changed by then.
        let used = effects.gas_cost_summary.gas_used();
        let budget = (used + used / 5).min(HIGHEST_BUDGET);
        if budget > coin.balance {
            return Err(unfunded(budget));
        }
        let transaction = program.build(&self.packages, address, gas(budget))?;
        let digest = transaction.digest();
        let pending = Pending { purpose, transaction: digest, signed: self.key.sign(transaction)? };
        pending.store(&self.folder)?;
        let purpose = pending.purpose.name();
        self.tell(Step::Signed { purpose, transaction: digest })?;
        match self.hand_in(&pending).await? {
            Settled::Done(executed) => Ok(*executed),
            Settled::Aborted(reason) => {
                Pending::remove(&self.folder)?;
                Err(LedgerError::Failed { purpose, transaction: digest, reason })
            }
            Settled::Refused(reason) => {
                Pending::remove(&self.folder)?;
                Err(LedgerError::Refused { purpose, transaction: digest, reason })
            }
        }
    }

    /// Settles a transaction that was left over, if there is one. [`Self::note`] must follow.
    pub(crate) async fn settle(&mut self) -> Result<Option<(Pending, Settled)>, LedgerError> {
        let Some(pending) = Pending::load(&self.folder)? else { return Ok(None) };
        tracing::info!(transaction = %pending.transaction, "settling what was left over: {}", pending.purpose.name());
        let settled = match self.node.transaction(pending.transaction).await? {
            Some(executed) => self.judge(&pending, executed)?,
            None => self.hand_in(&pending).await?,
        };
        Ok(Some((pending, settled)))
    }

    async fn hand_in(&mut self, pending: &Pending) -> Result<Settled, LedgerError> {
        let (purpose, transaction) = (pending.purpose.name(), pending.transaction);
        match self.node.execute(pending.signed.clone()).await {
            Submission::Executed(executed) => self.judge(pending, *executed),
            Submission::Refused(reason) => Ok(Settled::Refused(reason)),
            Submission::Unclear(reason) => Err(LedgerError::Unclear { purpose, transaction, reason }),
        }
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
    pub(crate) async fn check_recorder(&self, capability: ObjectId, seal: &Seal) -> Result<(), LedgerError> {
        let address = self.address();
        let no = |reason: String| LedgerError::NoRecorder { capability, address, reason };
        let object = self.node.object(capability).await?;
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

/// What went wrong, and in which command.
fn describe(status: &ExecutionStatus) -> String {
    match status {
        ExecutionStatus::Failure { error, command: Some(command) } => format!("command {command}: {error}"),
        ExecutionStatus::Failure { error, command: None } => error.to_string(),
        other => format!("{other:?}"),
    }
}

/// The node must serve the chain that is meant.
pub(crate) async fn check_chain(node: &Node, expected: Option<&str>) -> Result<String, LedgerError> {
    let found = node.chain().await?;
    match expected {
        Some(expected) if expected != found => {
            Err(LedgerError::WrongChain { endpoint: node.endpoint().to_owned(), expected: expected.to_owned(), found })
        }
        Some(_) | None => Ok(found),
    }
}
