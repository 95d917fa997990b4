//! The trails that a trail continues, one after the other.
//!
//! The description of a trail says which other it continues; its first record says from which checkpoint there, and is
//! signed ([`crate::succession`]). Everything is compared with what the old trail shows. Where the log is the same, the
//! old trail's records count as the new one's do. They are those up to the record that is named: what comes after it in
//! the old trail may be of whoever has stolen its key. It is told, and where the log's key signed it, the log must
//! nevertheless agree: that key signs one history.

use grid_ledger::{ObjectId, Record, TrailReader};
use grid_protocol::units::UnixMillis;
use serde::Serialize;

use super::LedgerFailure;
use super::ledger::NewestRecord;
use super::trail::{Trail, Vouched};
use crate::checkpoint::Head;
use crate::inscription::Inscription;
use crate::policy::Policy;
use crate::succession::{Signed, Statement};

/// More trails than a log has in a lifetime.
const MOST_TRAILS: usize = 64;

/// A trail that another one continues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Continued {
    /// The old trail's id.
    pub trail: String,
    /// The vkey of its log.
    pub log: String,
    /// Whether that is the log that is verified. Its records count like those of the newest trail.
    pub is_same_log: bool,
    /// The SHA-256 of the certificate of its authority, if that is another one.
    pub other_authority: Option<String>,
    /// Whether the old log's key signed that the new trail continues this one. Otherwise only whoever made the new trail
    /// says so.
    pub signed: bool,
    /// When that was said, on the ledger's clock.
    pub said_ms: UnixMillis,
    /// How many checkpoints it holds, up to the one from which it is continued.
    pub records: u64,
    /// How many others it holds up to there: its log's key did not sign them as checkpoints, or they go back.
    pub foreign: u64,
    /// The one from which it is continued.
    pub newest: Option<NewestRecord>,
    /// Records after that, which were there before it was said that the trail is continued.
    pub not_named: u64,
    /// Records that were added later: somebody still uses the keys of the old trail.
    pub added_later: u64,
}

/// The newest trail of a log and those that it continues.
pub struct Chain {
    /// The newest trail's id.
    pub trail: ObjectId,
    /// How many records that has.
    pub records: u64,
    /// How many of them no anchor added: the log's key did not sign them as checkpoints, or they go back.
    pub foreign: u64,
    /// The log's checkpoints in all its trails, in order.
    pub vouched: Vec<Vouched>,
    /// What else the log's key signed: old checkpoints that were added again, and what old trails hold after the record
    /// that is named.
    pub beside: Vec<Vouched>,
    /// The trails that are continued, the newest first.
    pub continued: Vec<Continued>,
    /// Why no older one was looked at.
    pub untold: Option<LedgerFailure>,
}

/// One step back.
struct Link {
    old: Trail,
    inscription: Inscription,
    /// The checkpoints up to the one that is named.
    vouched: Vec<Vouched>,
    /// The checkpoints among them that were there before.
    again: Vec<Vouched>,
    continued: Continued,
    /// The records after that.
    later: Vec<Record>,
}

impl Chain {
    /// Reads the newest trail, which must be sealed and this log's, and all those behind it. Where an older one cannot be
    /// read, or does not say how it continues another, the chain ends there ([`Self::untold`]).
    pub async fn read(policy: &Policy, reader: &TrailReader) -> Result<Self, LedgerFailure> {
        let newest = Trail::read(reader).await?;
        let inscription = newest.inscription().ok().filter(|inscription| inscription.is_of(policy));
        let mut inscription = inscription.ok_or_else(|| other_log(policy, &newest))?;
        let should_be = newest.after_statement(&inscription);
        let (vouched, beside) = newest.all_vouched(&policy.log, should_be)?;
        let foreign = (should_be.len() - vouched.len()) as u64;
        let (trail, records) = (newest.id, newest.records.len() as u64);
        let continued = Vec::new();
        let mut chain = Self { trail, records, foreign, vouched, beside, continued, untold: None };
        let mut here = newest;
        let mut seen = vec![trail];
        while let Some(id) = inscription.continues {
            let link = match here.statement(&inscription.log, id) {
                Err(why) if here.id == trail => return Err(why),
                Err(why) => Err(why.of(here.id)),
                Ok(statement) => link(policy, reader, statement, &seen).await.map_err(|why| why.of(id)),
            };
            let link = match link {
                // The newest trail's first record is the log's word of today. What an older one says wrong was said
                // when that was made, and cannot be mended.
                Err(why) if why.is_unknown() || (here.id != trail && why.is_of_first_record()) => {
                    chain.untold = Some(why);
                    break;
                }
                other => other?,
            };
            seen.push(id);
            (here, inscription) = chain.add(policy, link)?;
        }
        Ok(chain)
    }

    /// Takes a step back. Returns where that leads.
    fn add(&mut self, policy: &Policy, link: Link) -> Result<(Trail, Inscription), LedgerFailure> {
        let Link { old, inscription, vouched, again, continued, later } = link;
        if continued.is_same_log {
            if let Some(before) = vouched.last() {
                let goes_on = self.vouched.partition_point(|next| next.goes_back(before));
                self.beside.extend(self.vouched.drain(..goes_on));
                self.vouched.first().map_or(Ok(()), |next| next.must_agree(before))?;
            }
            self.vouched.splice(0..0, vouched);
            self.beside.extend(again);
            self.beside.extend(later.iter().filter_map(|record| old.vouched(&policy.log, record).ok()));
        }
        self.continued.push(continued);
        Ok((old, inscription))
    }
}

/// Reads the trail that a statement is about, and compares it with that.
async fn link(
    policy: &Policy,
    reader: &TrailReader,
    (signed, said_ms): (Signed, UnixMillis),
    seen: &[ObjectId],
) -> Result<Link, LedgerFailure> {
    let Statement { trail, last, .. } = &signed.statement;
    if trail.chain != reader.chain() {
        return Err(LedgerFailure::OtherChain(trail.chain.clone()));
    }
    may_follow(seen, trail.trail)?;
    let old = Trail::read(&reader.of(trail.trail)).await?;
    let inscription = old.inscription()?;
    if inscription.site != policy.site {
        return Err(LedgerFailure::Contradicted {
            what: "the site",
            stated: policy.site.to_string(),
            found: inscription.site.to_string(),
        });
    }
    let is_signed = signed.is_signed_by(&inscription.log)?;
    let records = old.after_statement(&inscription);
    let named = last
        .as_ref()
        .map_or(0, |(number, _)| records.iter().take_while(|record| record.sequence_number <= *number).count());
    let (records, later) = records.split_at_checked(named).unwrap_or_default();
    let (vouched, again) = old.all_vouched(&inscription.log, records)?;
    let newest = vouched.last().map(|newest| (newest.number, newest.head.clone()));
    if newest != *last {
        return Err(LedgerFailure::Contradicted {
            what: "the newest checkpoint of the trail that it continues",
            stated: described(last.as_ref()),
            found: described(newest.as_ref()),
        });
    }
    let later = later.to_vec();
    let own = Inscription::new(policy, None).authority_sha256;
    let added_later = later.iter().filter(|record| record.added_ms > said_ms.0).count() as u64;
    let continued = Continued {
        trail: old.id.to_string(),
        log: inscription.log.vkey().to_owned(),
        is_same_log: inscription.log == policy.log,
        other_authority: Some(inscription.authority_sha256.clone()).filter(|found| *found != own),
        signed: is_signed,
        said_ms,
        records: vouched.len() as u64,
        foreign: (records.len() - vouched.len()) as u64,
        newest: vouched.last().map(NewestRecord::of),
        not_named: later.len() as u64 - added_later,
        added_later,
    };
    Ok(Link { old, inscription, vouched, again, continued, later })
}

/// Only a node that lies can show a circle, or a chain without end: it must not keep us busy for ever.
fn may_follow(seen: &[ObjectId], next: ObjectId) -> Result<(), LedgerFailure> {
    if seen.contains(&next) {
        return Err(LedgerFailure::Circle);
    }
    if seen.len() > MOST_TRAILS {
        return Err(LedgerFailure::TooManyTrails(MOST_TRAILS));
    }
    Ok(())
}

fn described(last: Option<&(u64, Head)>) -> String {
    match last {
        Some((number, Head { origin, size, root })) => format!("record {number} ({origin} {size} {root})"),
        None => "none".to_owned(),
    }
}

fn other_log(policy: &Policy, trail: &Trail) -> LedgerFailure {
    let expected = Inscription::new(policy, None);
    LedgerFailure::OtherLog {
        trail: trail.id,
        found: format!("{}\n{}", trail.name, trail.description),
        expected: format!("{}\n{}", expected.name(), expected.description()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_of_trails_does_not_hold_and_a_chain_without_end_cannot_be_told() {
        let trails: Vec<ObjectId> = (0..=MOST_TRAILS).map(|n| format!("0x{n:064x}").parse().unwrap()).collect();
        let next = format!("0x{:064x}", MOST_TRAILS + 1).parse().unwrap();
        let (all, most) = (trails.as_slice(), &trails[..MOST_TRAILS]);
        assert!(may_follow(most, next).is_ok());
        assert!(matches!(may_follow(most, trails[3]), Err(LedgerFailure::Circle)));
        let failure = may_follow(all, next).unwrap_err();
        assert!(matches!(failure, LedgerFailure::TooManyTrails(_)) && failure.is_unknown());
    }
}
