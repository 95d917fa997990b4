//! Continuing a trail with a new one, when a key of the old one is lost, stolen, or to be left.
//!
//! Nothing is made before the old trail was read and everything fits: what is on the ledger is there for good. Then the
//! files of the old trail are set aside, the new trail is made, and the first record is added ([`crate::succession`]).
//! Each step leaves its trace before the next begins, so that whatever is interrupted is run again.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use grid_durable::{Durable, Stop};
use grid_ledger::{
    Endpoints, InFolder, InitReport, IotaLedger, Ledger, NewRecord, ObjectId, Record, TrailReader, Watch, set_aside,
};
use grid_protocol::identity::Authority;
use grid_protocol::topic::Name;

use super::{InitError, make_trail, name_trail};
use crate::checkpoint::{Head, LogKey};
use crate::inscription::Inscription;
use crate::policy::{Policy, TrailAddress};
use crate::recorder::keep_policy;
use crate::store::{CHECKPOINT, read_key, read_or_make_key};
use crate::succession::{BadStatement, Signed, Statement};
use crate::verify::Trail;

/// What is to be continued.
pub struct Predecessor<'a> {
    /// The old trail.
    pub trail: ObjectId,
    /// The key of its log, if another log goes on and the key survives.
    pub log_key: Option<&'a LogKey>,
}

/// What came of it.
pub struct Continuation {
    /// The new trail.
    pub report: InitReport,
    /// What its first record says.
    pub statement: Statement,
    /// Whether the old log's key signed that.
    pub is_signed: bool,
    /// The page of the transaction that added it, where the ledger still tells which that was.
    pub link: Option<String>,
    /// Whether the same log goes on.
    pub is_same_log: bool,
    /// The SHA-256 of the certificate of the old trail's authority, if that is another one.
    pub other_authority: Option<String>,
    /// The files in `data_dir` that hold what was there of the old trail.
    pub kept: Vec<String>,
}

/// The old trail, as it was read.
struct Old {
    address: TrailAddress,
    trail: Trail,
    inscription: Inscription,
    last: Option<(u64, Head)>,
}

/// Makes a sealed trail that continues another, adds the record that says how, and writes the new trail into
/// `site.policy`. Where `data_dir` holds the old trail's log it goes on, with another ledger key; otherwise there is
/// another log. Interrupted anywhere, it is run again and goes on: there is one trail and one such record.
pub async fn continue_trail(
    data_dir: &Path,
    (site, origin): (&Name, Option<&str>),
    authority: &Authority,
    endpoints: &Endpoints,
    predecessor: &Predecessor<'_>,
    watch: Option<Watch>,
) -> Result<Continuation, InitError> {
    // Held to the end: nobody else writes here meanwhile.
    let mut durable = Durable::open(data_dir, Stop::never())?;
    let reader = TrailReader::open(endpoints, None, predecessor.trail).await?;
    let old = Old::read(&reader, endpoints, site).await?;
    let log = &old.inscription.log;
    if let Some(given) = predecessor.log_key.filter(|given| given.public() != log) {
        let (given, expected) = (given.public().vkey().to_owned(), log.vkey().to_owned());
        return Err(InitError::OtherOldKey { given, expected });
    }
    check_log(&durable, &old, origin)?;
    let key = read_or_make_key(&mut durable, site, origin)?;
    let is_same_log = key.public() == log;
    let policy = Policy { site: site.clone(), log: key.public().clone(), authority: authority.clone(), trail: None };
    keep_policy(&mut durable, &policy)?;
    let kept = leave(data_dir, &old)?;
    let [watch, watch_record] = shared(watch);
    let mut report = make_trail(data_dir, &policy, Some(old.trail.id), endpoints, watch).await?;
    let record = match first_record(&reader.of(report.trail)).await? {
        Some(record) => record,
        None => {
            let statement = Statement {
                trail: old.address.clone(),
                last: old.last.clone(),
                log: key.public().clone(),
                ledger: report.address,
            };
            let text = statement.sign(&key, predecessor.log_key).map_err(|why| wrong(&report, why))?;
            let (added, balance) = add(data_dir, endpoints, text, watch_record).await?;
            report.balance = balance;
            added.ok_or(InitError::Unfinished(old.trail.id))?
        }
    };
    let signed = Signed::open(&record.text, key.public(), old.trail.id).map_err(|why| wrong(&report, why))?;
    let is_signed = signed.is_signed_by(log).map_err(|why| wrong(&report, why))?;
    let own = Inscription::new(&policy, None).authority_sha256;
    name_trail(&mut durable, policy, endpoints, &report)?;
    Ok(Continuation {
        report,
        statement: signed.statement,
        is_signed,
        link: record.transaction.map(|transaction| endpoints.transaction_page(transaction)),
        is_same_log,
        other_authority: Some(old.inscription.authority_sha256).filter(|found| *found != own),
        kept,
    })
}

impl Old {
    async fn read(reader: &TrailReader, endpoints: &Endpoints, site: &Name) -> Result<Self, InitError> {
        let id = reader.trail();
        let unreadable = |why| InitError::Predecessor { trail: id, why: Box::new(why) };
        let trail = Trail::read(reader).await.map_err(unreadable)?;
        let inscription = trail.inscription().map_err(|why| InitError::NotALog { trail: id, why })?;
        if inscription.site != *site {
            let (found, ours) = (inscription.site, site.clone());
            return Err(InitError::OtherSite { trail: id, found, ours });
        }
        if let Some(instead) = inscription.continues {
            let not_continuing = |why| InitError::NotContinuing { trail: id, why: Box::new(why), instead };
            trail.statement(&inscription.log, instead).map_err(not_continuing)?;
        }
        let address = TrailAddress { network: endpoints.network, chain: reader.chain().to_owned(), trail: id };
        let last = trail.newest_good(&inscription).map(|newest| (newest.number, newest.head));
        Ok(Self { address, trail, inscription, last })
    }
}

fn wrong(report: &InitReport, why: BadStatement) -> InitError {
    InitError::Statement { trail: report.trail, why }
}

/// The log in the folder must be the old trail's, and not behind it, or another one under another name.
fn check_log(durable: &Durable, old: &Old, origin: Option<&str>) -> Result<(), InitError> {
    let note = durable.read(CHECKPOINT)?;
    let log = &old.inscription.log;
    let Some(key) = read_key(durable)? else {
        if note.is_some() {
            return Err(InitError::LogWithoutKey);
        }
        return match origin {
            Some(origin) if origin == log.origin() => Err(InitError::SameOrigin(origin.to_owned())),
            _ => Ok(()),
        };
    };
    if key.public() != log {
        return match key.origin() == log.origin() {
            true => Err(InitError::SameOrigin(key.origin().to_owned())),
            false => Ok(()),
        };
    }
    let Some((_, on_ledger)) = &old.last else { return Ok(()) };
    let head = note.map(|note| log.open(&note)).transpose()?;
    match head {
        Some(head) if head.size > on_ledger.size || head == *on_ledger => Ok(()),
        other => {
            let in_log = other.map_or(0, |head| head.size);
            Err(InitError::Behind { on_ledger: on_ledger.size, in_log })
        }
    }
}

/// Sets aside what the folder has of the old trail. Returns the names of the files.
fn leave(data_dir: &Path, old: &Old) -> Result<Vec<String>, InitError> {
    let id = old.trail.id;
    let InFolder { address, begun } = InFolder::look(data_dir)?;
    let continues = |name: &str, description: &str| Inscription::read(name, description).ok()?.continues;
    match begun {
        Some(begun) if begun.trail == Some(id) => Ok(set_aside(data_dir, id)?),
        Some(begun) if continues(&begun.name, &begun.description) == Some(id) => Ok(Vec::new()),
        Some(begun) => {
            let here =
                begun.trail.map_or_else(|| "a trail that is not made yet".to_owned(), |id| format!("trail {id}"));
            Err(InitError::OtherTrail { here, asked: id })
        }
        // The state is lost or set aside; the old trail's key must not become the new one's.
        None if address == Some(old.trail.creator) => Ok(set_aside(data_dir, id)?),
        None => Ok(Vec::new()),
    }
}

async fn first_record(reader: &TrailReader) -> Result<Option<Record>, InitError> {
    Ok(reader.all_records().await?.into_iter().next())
}

/// Adds the first record, unless that was done by a run that was interrupted, and reads it back. Also returns what is left,
/// in NANOS.
async fn add(
    data_dir: &Path,
    endpoints: &Endpoints,
    text: String,
    watch: Option<Watch>,
) -> Result<(Option<Record>, u64), InitError> {
    let mut ledger = IotaLedger::open(data_dir, endpoints).await?;
    // Whoever runs this is there to read what it costs, so nothing but the protocol limits it.
    ledger.limit_cost(u64::MAX);
    if let Some(watch) = watch {
        ledger.watch(watch);
    }
    // Opening has settled what was left over.
    if ledger.records(0).await?.is_empty() {
        ledger.append(&NewRecord { text, metadata: None }).await?;
    }
    Ok((ledger.records(0).await?.into_iter().next(), ledger.balance().await?))
}

/// The same watch for two.
fn shared(watch: Option<Watch>) -> [Option<Watch>; 2] {
    let Some(watch) = watch else { return [None, None] };
    let watch = Arc::new(Mutex::new(watch));
    [(); 2].map(|()| {
        let watch = Arc::clone(&watch);
        let told: Watch = Box::new(move |step| watch.lock().unwrap_or_else(PoisonError::into_inner)(step));
        Some(told)
    })
}
