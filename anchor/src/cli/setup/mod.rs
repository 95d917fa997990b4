//! `grid-anchor setup`: from a bundle to an anchor that runs.
//!
//! | step | what is there afterwards |
//! |---|---|
//! | questions | broker, network |
//! | ledger | keys and a sealed trail, as `grid-anchor init` makes them; not with the network `none` |
//! | credentials | `/etc/grid/anchor.bundle` (0600): what the service is given |
//! | settings | `/etc/grid/anchor.toml`, from the commented example |
//! | service | `grid-anchor.service`: enabled, started, ready |
//!
//! It may be run again: what is there and says otherwise than the flags stays as it is, and is told. A newer bundle of the same
//! anchor takes the place of the older one.

mod error;
mod fill;

use std::path::PathBuf;

use clap::Args;
use grid_protocol::message::Role;
use grid_service::setup::{
    BadSettings, BrokerAt, Credentials, Put, Questions, Readers, Report, Root, Service, SetupError, must_be_same,
};

use super::ledger::{InitArguments, init};
use super::{Failure, check};
use crate::settings::Settings;
use error::SetupFailure;
use fill::{Notarized, Wanted};

pub const EXAMPLES: &str = "Examples:
  sudo grid-anchor setup anchor-1.bundle
  sudo grid-anchor setup anchor-1.bundle --network testnet
  sudo grid-anchor setup anchor-1.bundle --network none --broker broker.local

Exit codes: 0 done, and all is well; 1 done, but something is wrong; 2 not done.";

/// The settings of the service.
pub const CONFIG: &str = "/etc/grid/anchor.toml";
const BUNDLE: &str = "/etc/grid/anchor.bundle";
const AUTHORITY: &str = "/etc/grid/ca.pem";
const DATA_DIR: &str = "/var/lib/grid-anchor";
const UNIT: &str = "grid-anchor.service";
const USER: &str = "grid-anchor";

#[derive(Args)]
pub struct SetupArguments {
    /// The anchor's bundle.
    bundle: PathBuf,
    /// Where the broker is. Default: the first that the bundle names and that answers.
    #[arg(long, value_name = "HOST[:PORT]")]
    broker: Option<BrokerAt>,
    /// Where the log's head is notarized: mainnet, testnet, devnet, mock (which is not IOTA), or none. For a localnet, whose
    /// packages have addresses of their own, run `grid-anchor init` and add [ledger] to the settings.
    #[arg(long)]
    network: Option<Notarized>,
    /// The gRPC services of nodes, if others than the network's own.
    #[arg(long, value_name = "URL[,URL…]", value_delimiter = ',')]
    grpc: Vec<String>,
    /// Who gives gas away, if another than the network's own.
    #[arg(long, value_name = "URL")]
    faucet: Option<String>,
    /// Write below this folder instead of /, and check and start nothing.
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

/// Does it, and tells it on standard output.
pub fn set_up(arguments: SetupArguments) -> Result<u8, Failure> {
    // The service's user has to get at its settings, also where root's files are closed to others.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let SetupArguments { bundle, broker, network, grpc, faucet, root } = arguments;
    let root = Root::new(root);
    root.check_rights()?;
    let credentials = Credentials::read(&bundle)?;
    let identity = &credentials.identity;
    if identity.role != Role::Anchor {
        return Err(SetupFailure::OtherRole(identity.role).into());
    }
    let wanted = Wanted { site: identity.site.clone(), name: identity.name.clone(), broker, network, grpc };

    // All that could keep this from being done comes before the first thing is written.
    credentials.check_against(&root, BUNDLE)?;
    let new = match root.read(CONFIG)? {
        Some(there) => check_against(&root, &String::from_utf8_lossy(&there), &wanted).map(|()| None)?,
        None => {
            let wanted = wanted.complete(&Questions::on_terminal(), || credentials.find_broker())?;
            Some((fill::new(&wanted)?, wanted))
        }
    };
    let service = Service::find(&root, UNIT)?;

    let authority = grid_protocol::identity::certificate_pem(credentials.authority());
    if root.put(AUTHORITY, authority.as_bytes(), Readers::All)? == Put::Differs {
        return Err(SetupError::OtherAuthority(root.at(AUTHORITY)).into());
    }
    if let Some((_, Wanted { network: Some(Notarized::On(network)), site, grpc, .. })) = &new {
        // Interrupted anywhere, the next setup goes on with it: there are no settings yet.
        let (ca, data_dir) = (root.at(AUTHORITY), root.at(DATA_DIR));
        init(&InitArguments::new(*network, site.clone(), (ca, data_dir), (grpc.clone(), faucet)))?;
        root.give(DATA_DIR, USER)?;
    }
    let is_newer = credentials.put(&root, BUNDLE)?;
    root.tell(BUNDLE, !is_newer);
    if let Some((text, _)) = &new {
        root.write(CONFIG, text.as_bytes(), Readers::All)?;
    }
    root.let_read(CONFIG, Readers::All)?;
    root.tell(CONFIG, new.is_none());
    if !root.is_this_machine() {
        println!("{}", service.elsewhere("grid-anchor check"));
        return Ok(0);
    }
    let config = root.at(CONFIG);
    let settings = Settings::load(&config)?;
    let mut out = std::io::stdout();
    let mut report = Report::to(&mut out);
    service.start(&mut report, is_newer || new.is_some(), &format!("grid-anchor run --config {CONFIG}"));
    check::tell(&mut report, &settings, &config);
    let whether = report.whether_all_is_well();
    println!("\n{whether}\n  sudo grid-anchor check\nWhat is logged:\n  sudo grid-anchor status --config {CONFIG}");
    Ok(report.exit_code())
}

/// Fails if settings that are there say otherwise than the flags, with each difference.
fn check_against(root: &Root, there: &str, wanted: &Wanted) -> Result<(), BadSettings> {
    let file = root.at(CONFIG);
    Settings::load(&file).map_err(BadSettings::There)?;
    must_be_same::<Settings>(file, there, &fill::changed(there, wanted)?, "; a ledger takes grid-anchor init, too")
}
