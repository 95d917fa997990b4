//! What a run needs before anything of it starts: its pace, its folder, its port, its identities.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use grid_agent::lease::counted_for;
use grid_agent::run::Credentials;
use grid_protocol::identity::{Identity, IssueError, Issuer};
use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::clock::unix_now;
use tokio::net::TcpListener;

use super::broker::Broker;
use super::error::DemoError;
use super::street::{TTL, WARM_UP};
use crate::plant::Habits;
use crate::street::Street;

/// What a run of a given duration keeps for the end: last acks, last checkpoint, verification.
const WIND_DOWN: Millis = Millis(1500);
/// What IEC 61851-1 gives a car to follow a new limit.
const SLOW_CAR: Duration = Duration::from_secs(5);
const DEFAULT_PORT: u16 = 1883;

/// How fast the day goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// This many times faster than the clock.
    Factor(u32),
    /// So that the whole day fits into a run of this length.
    Within(Duration),
}

/// How cars follow a limit. The delay is wall-clock time, as leases are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Cars {
    /// Draw exactly what they may, at once
    #[default]
    Prompt,
    /// Follow each new limit 5 s later, as IEC 61851-1 allows
    Slow,
    /// Draw whole amperes only, rounded down
    Stepped,
    /// Draw 10 % less than they may
    Modest,
}

impl Cars {
    /// What they do in a plant that is `time_factor` times faster than the clock.
    pub(super) fn habits(self, time_factor: u32) -> Habits {
        match self {
            Self::Prompt => Habits::PROMPT,
            Self::Slow => Habits { follows_after: SLOW_CAR.saturating_mul(time_factor), ..Habits::PROMPT },
            Self::Stepped => Habits { step: MilliAmps(1_000), ..Habits::PROMPT },
            Self::Modest => Habits { draws_percent: 90, ..Habits::PROMPT },
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The street and its day.
    pub street: Street,
    /// The transformer's limit.
    pub limit_w: u64,
    /// How its cars behave.
    pub cars: Cars,
    /// How fast the day goes by.
    pub pace: Pace,
    /// The broker that it speaks through.
    pub broker: Broker,
    /// A folder for the log and the keys, which must not exist or be empty.
    pub data_dir: PathBuf,
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|_| unreachable!("our own names are sound"))
}

/// Every run is a site of its own with a throw-away authority.
pub(super) struct Site {
    pub(super) name: Name,
    pub(super) issuer: Issuer,
}

impl Site {
    pub(super) fn credentials(&self, name: &Name, role: Role) -> Result<Credentials, IssueError> {
        let key = SigningKey::generate(&mut rand::rngs::OsRng);
        let identity = Identity { site: self.name.clone(), role, name: name.clone(), key: key.verifying_key() };
        let (certificate, _) = self.issuer.issue(&identity, unix_now())?;
        let authority = self.issuer.authority();
        Ok(Credentials { site: self.name.clone(), name: name.clone(), certificate, key, authority })
    }
}

pub(super) fn site_name() -> Name {
    name("demo")
}

pub(super) fn transformer_name() -> Name {
    name("trafo-1")
}

pub(super) fn anchor_name() -> Name {
    name("anchor-1")
}

pub(super) fn time_factor(options: &Options) -> Result<u32, DemoError> {
    let run = match options.pace {
        Pace::Factor(factor) => return Ok(factor.max(1)),
        Pace::Within(run) => run,
    };
    let day = options.street.end();
    let left = u64::try_from(run.as_millis()).unwrap_or(u64::MAX).saturating_sub((WARM_UP + WIND_DOWN).0);
    let too_short = || DemoError::TooShort { day, run };
    if left < counted_for(TTL).0 {
        return Err(too_short());
    }
    u32::try_from(day.0.div_ceil(left)).map_err(|_| too_short())
}

pub(super) fn make_empty(folder: &Path) -> Result<(), DemoError> {
    let failed = |source| DemoError::File { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    match std::fs::read_dir(folder).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(DemoError::NotEmpty(folder.to_owned())),
    }
}

pub(super) fn local_address(listener: &TcpListener) -> Result<SocketAddr, DemoError> {
    listener.local_addr().map_err(|source| DemoError::Listen { address: usual(), source })
}

fn usual() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()
}

pub(super) async fn listen(wanted: Option<SocketAddr>) -> Result<TcpListener, DemoError> {
    let address = wanted.unwrap_or(usual());
    let taken = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(source) => source,
    };
    if wanted.is_some() || taken.kind() != std::io::ErrorKind::AddrInUse {
        return Err(DemoError::Listen { address, source: taken });
    }
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).await.map_err(|source| DemoError::Listen { address: any, source })?;
    tracing::warn!("port {DEFAULT_PORT} is taken, so the broker takes a free one");
    Ok(listener)
}
