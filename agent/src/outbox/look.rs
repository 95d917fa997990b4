//! An outbox whose agent does not run.

use std::path::{Path, PathBuf};

use grid_durable::Durable;
use grid_protocol::topic::Name;
use grid_protocol::units::BootTime;

use super::job::Outcome;
use super::keeping::{Bounds, Outbox};
use super::report::{Around, Report};
use super::state;
use super::store::Store;

/// Why it cannot be told what waits in a folder.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// There is no such folder.
    #[error("there is no outbox in {0}: its agent has never run here")]
    Nothing(PathBuf),
    /// The folder cannot be used.
    #[error("cannot look into the outbox: {0}")]
    Failed(String),
}

/// What waits in a folder whose agent does not run. Changes nothing in it.
pub fn look(folder: &Path, name: &Name) -> Result<Report, LookError> {
    if !folder.join(state::FILE).exists() {
        return Err(LookError::Nothing(folder.to_owned()));
    }
    let bounds = Bounds { memory_bytes: 0, disk_bytes: Some(0) };
    let mut outbox = Outbox::new(bounds);
    let path = folder.to_owned();
    let mut store = Store::new(move || Durable::look(&path));
    let Some(job) = outbox.next_job(BootTime(0)) else { unreachable!("a closed folder is to be opened") };
    match store.perform(job) {
        Outcome::Failed { why } => return Err(LookError::Failed(why)),
        outcome => outbox.done(outcome, BootTime(0)),
    }
    let name = name.clone();
    Ok(outbox.report(Around { name, is_running: false, broker_is_there: false, anchor_is_there: false, view: None }))
}
