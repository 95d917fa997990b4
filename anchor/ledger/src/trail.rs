//! Reading a trail from a node, without key or index.
//!
//! A record every ten minutes makes 52,560 a year, which take about a thousand calls. So all records are read in parts: what was
//! read stays when a node fails and the next one is asked, and a node that limits us is given time.

use std::ops::Range;

use iota_sdk::types::{Object, ObjectId};

use crate::audit_trail::{AuditTrail, Data, RecordField, read, record_id};
use crate::backoff::patiently;
use crate::error::LedgerError;
use crate::ledger::Record;
use crate::network::{Endpoints, Packages};
use crate::node::{Node, OBJECTS_AT_ONCE};
use crate::nodes::Nodes;
use crate::seal::Seal;

/// So many records are read in one call, with the one before them, which tells the transaction that added the first.
const RECORDS_AT_ONCE: usize = OBJECTS_AT_ONCE - 1;

/// A trail that can be read. All that a verifier needs.
#[derive(Clone, Debug)]
pub struct TrailReader {
    nodes: Nodes,
    packages: Packages,
    trail: ObjectId,
}

/// What is done with a record that holds bytes.
#[derive(Clone, Copy)]
enum Bytes {
    Refused,
    AsEmptyText,
}

impl TrailReader {
    /// Asks a node which chain it serves, and reads nothing yet. `chain` is what is expected where the network does
    /// not say it ([`crate::Network::chain`]): a mock or local network that was made anew is another one.
    pub async fn open(endpoints: &Endpoints, chain: Option<&str>, trail: ObjectId) -> Result<Self, LedgerError> {
        let packages = endpoints.packages.ok_or(LedgerError::NoPackages(endpoints.network))?;
        // Whoever has no network is told at once.
        let is_limit = |error: &LedgerError| matches!(error, LedgerError::RateLimited { .. });
        let expected = endpoints.network.chain().or(chain);
        let nodes = patiently(is_limit, || Nodes::connect(&endpoints.grpc, expected)).await?;
        Ok(Self::on(nodes, packages, trail))
    }

    pub(crate) fn on(nodes: Nodes, packages: Packages, trail: ObjectId) -> Self {
        Self { nodes, packages, trail }
    }

    /// A reader of another trail on the same ledger.
    pub fn of(&self, trail: ObjectId) -> Self {
        Self { trail, ..self.clone() }
    }

    /// The chain that is read ([`crate::Network::chain`]).
    pub fn chain(&self) -> &str {
        self.nodes.chain()
    }

    /// The trail's id.
    pub fn trail(&self) -> ObjectId {
        self.trail
    }

    /// What the trail is sealed against; [`LedgerError::NotSealed`] if it is not sealed. Asks again for a while.
    pub async fn seal(&self) -> Result<Seal, LedgerError> {
        self.ask_patiently(|node| async move { self.seal_at(&node).await }).await
    }

    /// The records with this sequence number and above, in order.
    pub async fn records(&self, from: u64) -> Result<Vec<Record>, LedgerError> {
        let question = |node: Node| async move {
            let trail = self.read(&node).await?;
            self.records_at(&node, &trail, from..trail.sequence_number, Bytes::Refused).await
        };
        self.nodes.ask(question).await
    }

    /// All records, in order. One that holds bytes and not text, which whoever has the key may add, counts as an empty text.
    /// Asks again for a while whatever a node does not answer.
    pub async fn all_records(&self) -> Result<Vec<Record>, LedgerError> {
        let trail = &self.ask_patiently(|node| async move { self.read(&node).await }).await?;
        let mut records = Vec::new();
        for from in (0..trail.sequence_number).step_by(RECORDS_AT_ONCE) {
            let to = trail.sequence_number.min(from + RECORDS_AT_ONCE as u64);
            let part = |node: Node| async move { self.records_at(&node, trail, from..to, Bytes::AsEmptyText).await };
            records.extend(self.ask_patiently(part).await?);
        }
        Ok(records)
    }

    /// The ledger's clock: when the newest checkpoint was that the node has executed, in Unix milliseconds. A ledger
    /// makes several a second.
    pub async fn clock(&self) -> Result<u64, LedgerError> {
        self.nodes.clock().await
    }

    pub(crate) async fn seal_at(&self, node: &Node) -> Result<Seal, LedgerError> {
        let (seal, added) = Seal::of(self.read(node).await?);
        seal.sealed(added)
    }

    /// The next node, and after a while all of them again.
    async fn ask_patiently<T, A>(&self, question: impl Fn(Node) -> A) -> Result<T, LedgerError>
    where
        A: Future<Output = Result<T, LedgerError>>,
    {
        patiently(LedgerError::is_transient, || self.nodes.ask(&question)).await
    }

    async fn records_at(
        &self,
        node: &Node,
        trail: &AuditTrail,
        wanted: Range<u64>,
        bytes: Bytes,
    ) -> Result<Vec<Record>, LedgerError> {
        // One earlier, since it tells the transaction that added the first.
        let numbers = wanted.start.saturating_sub(1)..wanted.end;
        let objects = node.objects(&ids(trail, numbers.clone())).await?;
        let mut records = Vec::with_capacity(objects.len());
        let mut adder_of_next = None;
        for (sequence_number, object) in numbers.zip(objects) {
            let Some(object) = object else { return Err(self.missing(node, sequence_number).await) };
            let (mut record, is_newest) = self.record(node, sequence_number, &object, bytes)?;
            let own = (sequence_number == 0 && is_newest).then_some(object.previous_transaction);
            record.transaction = adder_of_next.or(own);
            adder_of_next = Some(object.previous_transaction);
            if sequence_number >= wanted.start {
                records.push(record);
            }
        }
        Ok(records)
    }

    /// Why a node does not show a record that another one may have told of.
    async fn missing(&self, node: &Node, sequence_number: u64) -> LedgerError {
        let (trail, endpoint) = (self.trail, node.endpoint().to_owned());
        match self.read(node).await {
            Ok(seen) if seen.sequence_number <= sequence_number => {
                node.behind(format!("record {sequence_number} of trail {trail}"))
            }
            Err(LedgerError::NoSuchTrail { .. }) => node.behind(format!("trail {trail}")),
            Ok(_) => LedgerError::NoSuchRecord { trail, sequence_number, endpoint },
            Err(error) => error,
        }
    }

    fn record(
        &self,
        node: &Node,
        sequence_number: u64,
        object: &Object,
        bytes: Bytes,
    ) -> Result<(Record, bool), LedgerError> {
        let wrong = |reason: String| node.unexpected(format!("record {sequence_number}: {reason}"));
        let field = read::<RecordField>(object, &self.packages.record_field())
            .ok_or_else(|| wrong(format!("its type is {:?}", object.struct_tag())))?
            .map_err(|error| wrong(error.to_string()))?;
        if field.name != sequence_number || field.record.sequence_number != sequence_number {
            return Err(wrong(format!("it says that it is record {}", field.record.sequence_number)));
        }
        let text = match (field.record.data, bytes) {
            (Data::Text(text), _) => text,
            (Data::Bytes(_), Bytes::AsEmptyText) => String::new(),
            (Data::Bytes(_), Bytes::Refused) => {
                return Err(LedgerError::NotText { trail: self.trail, sequence_number });
            }
        };
        let record = Record {
            sequence_number,
            text,
            metadata: field.record.metadata,
            added_ms: field.record.added_at,
            added_by: field.record.added_by,
            transaction: None,
        };
        Ok((record, field.next.is_none()))
    }

    async fn read(&self, node: &Node) -> Result<AuditTrail, LedgerError> {
        let object = node.object(self.trail).await?;
        let object = object
            .ok_or_else(|| LedgerError::NoSuchTrail { trail: self.trail, endpoint: node.endpoint().to_owned() })?;
        read_trail(&object, &self.packages)
    }
}

/// The trail in an object.
pub(crate) fn read_trail(object: &Object, packages: &Packages) -> Result<AuditTrail, LedgerError> {
    let not_a_trail = |found| LedgerError::NotATrail { id: object.id(), found };
    let found = || object.struct_tag().map_or_else(|| "a Move package".to_owned(), |tag| tag.to_string());
    read::<AuditTrail>(object, &packages.trail())
        .ok_or_else(|| not_a_trail(found()))?
        .map_err(|error| not_a_trail(format!("{} with other fields ({error})", found())))
}

fn ids(trail: &AuditTrail, numbers: Range<u64>) -> Vec<ObjectId> {
    numbers.map(|number| record_id(trail.records.id, number)).collect()
}
