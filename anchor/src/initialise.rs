//! Tying a log to a trail, once: the log's key, the trail that names it, and the policy that names both.

mod continuing;

use std::path::Path;

use grid_ledger::{Endpoints, InFolder, InitReport, InitSettings, LedgerError, ObjectId, Watch};
use grid_protocol::identity::Authority;
use grid_protocol::topic::Name;

use crate::checkpoint::BadCheckpoint;
use crate::inscription::Inscription;
use crate::policy::{BadPolicy, BadTrail, Policy, TrailAddress};
use crate::recorder::{POLICY, RecorderError, keep_policy};
use crate::store::{StoreError, read_or_make_key};
use crate::succession::BadStatement;
use crate::verify::LedgerFailure;
pub use continuing::{Continuation, Predecessor, continue_trail};
use grid_durable::{Durable, DurableError, Stop};

/// Why a log could not be tied to a trail.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The folder cannot be used.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The log's key cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The folder belongs to another site or log.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// The policy in the folder cannot be read.
    #[error("site.policy in data_dir: {0}")]
    Policy(#[from] BadPolicy),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The trail to be continued cannot be read.
    #[error("cannot continue the trail {trail}: {why}")]
    Predecessor {
        /// Which.
        trail: ObjectId,
        /// What is wrong with it.
        why: Box<LedgerFailure>,
    },
    /// The trail to be continued is not sealed by a log.
    #[error("cannot continue the trail {trail}: {why}")]
    NotALog {
        /// Which.
        trail: ObjectId,
        /// What is wrong with it.
        why: BadTrail,
    },
    /// The trail to be continued does not say how it continues another itself.
    #[error(
        "cannot continue the trail {trail}: {why}. Nothing was made: give --continues {instead}, which it was to continue"
    )]
    NotContinuing {
        /// Which.
        trail: ObjectId,
        /// What is wrong with its first record.
        why: Box<LedgerFailure>,
        /// The trail that it was to continue.
        instead: ObjectId,
    },
    /// The trail to be continued is that of another site.
    #[error("cannot continue the trail {trail}: it is that of site {found}, not of {ours}")]
    OtherSite {
        /// Which.
        trail: ObjectId,
        /// Its site.
        found: Name,
        /// The one given.
        ours: Name,
    },
    /// The old key is none of the old log.
    #[error("--old-log-key is the key {given}, and the old log's is {expected}: nothing was made")]
    OtherOldKey {
        /// The vkey of the one given.
        given: String,
        /// That of the old log.
        expected: String,
    },
    /// Another log wants the old one's name.
    #[error("the old log is called {0} too, with another key: give the new one another --origin")]
    SameOrigin(String),
    /// The log cannot go on without its key.
    #[error(
        "there is a log in data_dir, but not its key: restore log.key, or give a new data_dir (and --old-log-key, if it \
         survives elsewhere)"
    )]
    LogWithoutKey,
    /// The log's newest checkpoint cannot be read.
    #[error("log/checkpoint in data_dir: {0}")]
    Checkpoint(#[from] BadCheckpoint),
    /// The log is older than the old trail.
    #[error(
        "the old trail vouches for {on_ledger} entries that the log of {in_log} in data_dir does not have as they were. \
         Restore the newest copy of it; if there is none, a new log continues the trail: give a new data_dir, and \
         --old-log-key with the log.key of this one"
    )]
    Behind {
        /// How many entries the old trail vouches for.
        on_ledger: u64,
        /// How many are under the log's checkpoint.
        in_log: u64,
    },
    /// The folder belongs to yet another trail.
    #[error(
        "data_dir belongs to {here}, which neither is nor continues {asked}: give the right data_dir or --continues"
    )]
    OtherTrail {
        /// Which it belongs to.
        here: String,
        /// Which is to be continued.
        asked: ObjectId,
    },
    /// A trail that continues another was begun here.
    #[error(
        "the trail in data_dir was made to continue {0}, and its first record, which says how, is missing: run \
         init --continues {0} again, with the same arguments"
    )]
    Unfinished(ObjectId),
    /// A trail was there, and its files are gone.
    #[error(
        "site.policy in data_dir names the trail {0}, but ledger.json is not there. Restore it and ledger.key; if they are \
         lost, give --continues {0}, or to begin without that trail, remove the line from site.policy"
    )]
    Left(ObjectId),
    /// The first record of the new trail is not what it must be.
    #[error(
        "the trail {trail} in data_dir cannot be used: {why}. Move ledger.json and ledger.key away, and run this again: it \
         makes another one"
    )]
    Statement {
        /// The new trail.
        trail: ObjectId,
        /// What is wrong with its first record.
        why: BadStatement,
    },
}

/// Makes the log's key, and a sealed trail that names it, and writes both into `site.policy`. Interrupted anywhere, it
/// is run again and goes on. `origin` is the log's name; by default it is made from site and key.
pub async fn initialise(
    data_dir: &Path,
    (site, origin): (&Name, Option<&str>),
    authority: &Authority,
    endpoints: &Endpoints,
    watch: Option<Watch>,
) -> Result<InitReport, InitError> {
    // Held to the end: nobody else writes here meanwhile.
    let mut durable = Durable::open(data_dir, Stop::never())?;
    let continues = match InFolder::look(data_dir)?.begun {
        Some(begun) => Inscription::read(&begun.name, &begun.description).ok().and_then(|read| read.continues),
        None => match durable.read(POLICY)?.map(|bytes| Policy::read(&String::from_utf8_lossy(&bytes))).transpose()? {
            Some(Policy { trail: Some(left), .. }) if left.network == endpoints.network => {
                return Err(InitError::Left(left.trail));
            }
            _ => None,
        },
    };
    let key = read_or_make_key(&mut durable, site, origin)?;
    let policy = Policy { site: site.clone(), log: key.public().clone(), authority: authority.clone(), trail: None };
    keep_policy(&mut durable, &policy)?;
    let report = make_trail(data_dir, &policy, continues, endpoints, watch).await?;
    if let Some(old) = continues
        && report.seal.records == 0
    {
        return Err(InitError::Unfinished(old));
    }
    name_trail(&mut durable, policy, endpoints, &report)?;
    Ok(report)
}

/// Makes a sealed trail for the policy's log.
async fn make_trail(
    data_dir: &Path,
    policy: &Policy,
    continues: Option<ObjectId>,
    endpoints: &Endpoints,
    watch: Option<Watch>,
) -> Result<InitReport, InitError> {
    let inscription = Inscription::new(policy, continues);
    let (name, description) = (inscription.name(), inscription.description());
    let settings = InitSettings { folder: data_dir, endpoints, name, description: &description };
    Ok(grid_ledger::init(settings, watch).await?)
}

/// Writes the trail into `site.policy`.
fn name_trail(
    durable: &mut Durable,
    policy: Policy,
    endpoints: &Endpoints,
    report: &InitReport,
) -> Result<(), InitError> {
    let trail = Some(TrailAddress { network: endpoints.network, chain: report.chain.clone(), trail: report.trail });
    durable.place(POLICY, Policy { trail, ..policy }.to_string().as_bytes())?;
    Ok(durable.settle()?)
}
