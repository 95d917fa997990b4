//! Tying a log to a trail, once: the log's key, the trail that names it, and the policy that names both.

use std::path::Path;

use grid_ledger::{Endpoints, InitReport, InitSettings, LedgerError, Watch};
use grid_protocol::identity::Authority;
use grid_protocol::topic::Name;

use crate::policy::{BadPolicy, Policy, TrailAddress};
use crate::recorder::{POLICY, RecorderError, keep_policy};
use crate::store::{StoreError, read_or_make_key};
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
    let key = read_or_make_key(&mut durable, site, origin)?;
    let policy = Policy { site: site.clone(), log: key.public().clone(), authority: authority.clone(), trail: None };
    keep_policy(&mut durable, &policy)?;
    let (name, description) = (policy.trail_name(), policy.trail_description());
    let settings = InitSettings { folder: data_dir, endpoints, name: &name, description: &description };
    let report = grid_ledger::init(settings, watch).await?;
    let trail = Some(TrailAddress { network: endpoints.network, chain: report.chain.clone(), trail: report.trail });
    durable.place(POLICY, Policy { trail, ..policy }.to_string().as_bytes())?;
    durable.settle()?;
    Ok(report)
}
