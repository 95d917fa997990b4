//! Several nodes of one network, of which one is asked for as long as it answers.
//!
//! A question goes to the node that answered last. If that one does not answer, limits us, makes no sense or is behind,
//! the next one is asked, and stays the one that is. A node must serve our chain before it is asked anything, and again
//! after each failure: behind an address there may be another node than before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use iota_sdk::types::{
    Address, Object, ObjectId, SignedTransaction, Transaction, TransactionDigest, TransactionEffectsV1,
};

use crate::error::LedgerError;
use crate::node::{Executed, GasCoin, Node, Submission};

/// The nodes. Clones share what was learned about them.
#[derive(Clone, Debug)]
pub(crate) struct Nodes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    members: Vec<Member>,
    chain: String,
    /// Whom to ask first.
    current: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    node: Node,
    /// It was seen to serve the chain, and has not failed since.
    is_trusted: AtomicBool,
}

impl Nodes {
    /// The nodes at these addresses, of which at least one must answer. They must serve the chain that is expected; if
    /// none is, whatever the first that answers serves.
    pub(crate) async fn connect(endpoints: &[String], expected: Option<&str>) -> Result<Self, LedgerError> {
        let nodes = endpoints.iter().map(|endpoint| Node::new(endpoint)).collect::<Result<Vec<_>, _>>()?;
        let mut failures = Failures::default();
        for (at, node) in nodes.iter().enumerate() {
            let failure = match node.chain().await {
                Ok(found) => match is_expected(node, expected, found) {
                    Ok(chain) => {
                        let trusted = |it: usize| AtomicBool::new(it == at);
                        let members = nodes.iter().cloned().enumerate();
                        let members = members.map(|(at, node)| Member { node, is_trusted: trusted(at) }).collect();
                        return Ok(Self(Arc::new(Shared { members, chain, current: AtomicUsize::new(at) })));
                    }
                    Err(other) => other,
                },
                Err(error) => error,
            };
            failures.push(failure);
        }
        Err(failures.into_error())
    }

    /// The chain that they serve: the first four bytes of the genesis checkpoint's digest, in hex.
    pub(crate) fn chain(&self) -> &str {
        &self.0.chain
    }

    /// Asks one node after the other until one answers. A question may be several calls, which then see one node's state.
    pub(crate) async fn ask<T, A>(&self, question: impl Fn(Node) -> A) -> Result<T, LedgerError>
    where
        A: Future<Output = Result<T, LedgerError>>,
    {
        let mut failures = Failures::default();
        for (at, member) in self.in_turn() {
            let answer = match self.trust(member).await {
                Ok(()) => question(member.node.clone()).await,
                Err(error) => Err(error),
            };
            match answer {
                Err(error) if is_of_the_node(&error) => self.fail(member, error, &mut failures),
                answer => {
                    self.stay_with(at);
                    return answer;
                }
            }
        }
        Err(failures.into_error())
    }

    /// Hands a transaction to one node after the other until one says what became of it. It is the same transaction for
    /// all of them, so it is executed once.
    pub(crate) async fn execute(&self, signed: &SignedTransaction) -> Submission {
        let mut failures = Failures::default();
        for (at, member) in self.in_turn() {
            let submission = match self.trust(member).await {
                Ok(()) => member.node.execute(signed.clone()).await,
                Err(error) => Submission::Unclear(error),
            };
            match submission {
                Submission::Unclear(error) => self.fail(member, error, &mut failures),
                submission => {
                    self.stay_with(at);
                    return submission;
                }
            }
        }
        Submission::Unclear(failures.into_error())
    }

    /// Looks for a transaction at every node: one may know what another has not heard of yet, or has forgotten. `None` if
    /// nobody who answers knows it.
    pub(crate) async fn transaction(&self, digest: TransactionDigest) -> Result<Option<Executed>, LedgerError> {
        let mut failures = Failures::default();
        let mut answered = false;
        for (_, member) in self.in_turn() {
            let found = match self.trust(member).await {
                Ok(()) => member.node.transaction(digest).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(Some(executed)) => return Ok(Some(executed)),
                Ok(None) => answered = true,
                Err(error) => self.fail(member, error, &mut failures),
            }
        }
        if answered { Ok(None) } else { Err(failures.into_error()) }
    }

    pub(crate) async fn object(&self, id: ObjectId) -> Result<Option<Object>, LedgerError> {
        self.ask(|node| async move { node.object(id).await }).await
    }

    pub(crate) async fn coins(&self, owner: Address) -> Result<Vec<GasCoin>, LedgerError> {
        self.ask(|node| async move { node.coins(owner).await }).await
    }

    pub(crate) async fn gas_price(&self) -> Result<u64, LedgerError> {
        self.ask(|node| async move { node.gas_price().await }).await
    }

    pub(crate) async fn clock(&self) -> Result<u64, LedgerError> {
        self.ask(|node| async move { node.clock().await }).await
    }

    pub(crate) async fn simulate(
        &self,
        transaction: &Transaction,
    ) -> Result<Result<TransactionEffectsV1, String>, LedgerError> {
        self.ask(|node| async move { node.simulate(transaction).await }).await
    }

    pub(crate) async fn settled(&self, digest: TransactionDigest) -> Result<(), LedgerError> {
        self.ask(|node| async move { node.settled(digest).await }).await
    }

    /// An answer of the node that was asked last makes no sense.
    pub(crate) fn unexpected(&self, reason: impl ToString) -> LedgerError {
        let at = self.0.current.load(Ordering::Relaxed);
        let endpoint = self.0.members.get(at).map_or_else(String::new, |member| member.node.endpoint().to_owned());
        LedgerError::Unexpected { endpoint, reason: reason.to_string() }
    }

    /// All of them, beginning with the one that answered last.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Member)> {
        let first = self.0.current.load(Ordering::Relaxed);
        let (before, after) = self.0.members.split_at(first.min(self.0.members.len()));
        (first..).zip(after).chain(before.iter().enumerate())
    }

    async fn trust(&self, member: &Member) -> Result<(), LedgerError> {
        if !member.is_trusted.load(Ordering::Relaxed) {
            is_expected(&member.node, Some(&self.0.chain), member.node.chain().await?)?;
            member.is_trusted.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn fail(&self, member: &Member, error: LedgerError, failures: &mut Failures) {
        member.is_trusted.store(false, Ordering::Relaxed);
        if self.0.members.len() > 1 {
            tracing::warn!(%error, "asking another node");
        }
        failures.push(error);
    }

    fn stay_with(&self, at: usize) {
        if self.0.current.swap(at, Ordering::Relaxed) != at
            && let Some(member) = self.0.members.get(at)
        {
            tracing::info!(endpoint = member.node.endpoint(), "asking this node from now on");
        }
    }
}

/// Whether another node may do better.
fn is_of_the_node(error: &LedgerError) -> bool {
    error.is_transient() || matches!(error, LedgerError::WrongChain { .. })
}

fn is_expected(node: &Node, expected: Option<&str>, found: String) -> Result<String, LedgerError> {
    match expected {
        Some(expected) if expected != found => {
            Err(LedgerError::WrongChain { endpoint: node.endpoint().to_owned(), expected: expected.to_owned(), found })
        }
        Some(_) | None => Ok(found),
    }
}

/// What each node said, when none could answer.
#[derive(Default)]
struct Failures(Option<LedgerError>);

impl Failures {
    /// The first failure is told; but one that may pass, rather than that a node is of another chain.
    fn push(&mut self, error: LedgerError) {
        let is_better = |before: &LedgerError| !before.is_transient() && error.is_transient();
        if self.0.as_ref().is_none_or(is_better) {
            self.0 = Some(error);
        }
    }

    fn into_error(self) -> LedgerError {
        self.0.unwrap_or(LedgerError::NoNodes)
    }
}
