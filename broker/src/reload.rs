//! What is read again while the broker runs: users, rights, certificates and revocations.
//!
//! At SIGHUP the settings and all files that they name; when the file of revocations changes, the same files under the
//! settings in force, so that `grid-broker ca revoke` works without a further step. What was read goes to the connections
//! at once, and each of them looks whether it may stay. If anything is wrong, all of it is logged and nothing changes.

use std::convert::Infallible;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use grid_service::settings::SettingsError;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

use crate::access::Access;
use crate::settings::{Settings, Source};

/// How often the file of revocations is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads again what can be read again, and tells the connections.
#[derive(Debug)]
pub struct Reload {
    source: Source,
    /// In force, apart from what takes a restart.
    settings: Settings,
    /// The file of revocations as it was when it was last read.
    revocations: Option<Stamp>,
    sender: watch::Sender<Arc<Access>>,
}

/// What tells a file from what it was before; another number is another file under this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    number: u64,
    size: u64,
    modified: Option<SystemTime>,
}

impl Reload {
    /// Reads the files that `settings`, which came from `source`, name. The receiver is for [`run`](crate::run()).
    ///
    /// # Errors
    ///
    /// All that is wrong with settings and files, at once.
    pub fn start(source: Source, settings: Settings) -> Result<(Self, watch::Receiver<Arc<Access>>), SettingsError> {
        let revocations = stamp(&settings);
        let (sender, receiver) = watch::channel(Arc::new(Access::load(&settings)?));
        Ok((Self { source, settings, revocations, sender }, receiver))
    }

    /// Reloads at each `hangup` and when the file of revocations has changed, for ever. The signal is made by the caller,
    /// before anybody can know that the broker runs: without a handler it would end the process.
    pub async fn run(mut self, mut hangup: Signal) -> Infallible {
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hangup.recv() => self.reload(),
                _ = ticks.tick() => self.reload_if_revocations_changed(),
            };
        }
    }

    /// Reads settings and files. Returns whether they are in force now.
    pub fn reload(&mut self) -> bool {
        match self.source.read() {
            Ok(settings) => self.take(settings),
            Err(error) => {
                error!("not reloaded, what was in force stays: {error}");
                false
            }
        }
    }

    /// Reads the files under the settings in force if that of the revocations is another than it was. Returns whether
    /// they are in force now.
    pub fn reload_if_revocations_changed(&mut self) -> bool {
        stamp(&self.settings) != self.revocations && self.take(self.settings.clone())
    }

    fn take(&mut self, settings: Settings) -> bool {
        // Taken first: should the file change meanwhile, it is read once more. Also after a failure, so that the same
        // wrong file is not reported every few seconds.
        self.revocations = stamp(&settings);
        let loaded = self.sender.borrow().load_again(&settings);
        let access = match loaded {
            Ok(access) => access,
            Err(error) => {
                error!("not reloaded, what was in force stays: {error}");
                return false;
            }
        };
        if settings.listen != self.settings.listen || settings.limits != self.settings.limits {
            warn!("[listen] and [limits] have changed: they hold from the next start of the broker");
        }
        info!("users, rights, certificates and revocations are reloaded");
        self.settings = settings;
        self.sender.send_replace(Arc::new(access));
        true
    }
}

fn stamp(settings: &Settings) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(settings.access.revocations.as_ref()?).ok()?;
    Some(Stamp { number: file.ino(), size: file.len(), modified: file.modified().ok() })
}

#[cfg(test)]
mod tests;
