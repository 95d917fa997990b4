//! `grid-broker setup`: from an installed package to a broker that serves.
//!
//! | step | what is there afterwards |
//! |---|---|
//! | questions | site, hosts, ports, users |
//! | authority | `/var/lib/grid/ca`: made if it is not there, with the broker's certificate |
//! | copies | `/etc/grid/ca.pem`, `broker.pem`, `broker.key` (0600): what the service is given |
//! | settings | `/etc/grid/broker.toml`, from the commented example |
//! | service | `grid-broker.service`: enabled, started, ready |
//!
//! It may be run again: what is there gives the defaults, and what is there and says otherwise stays as it is, and is told.

mod answers;
mod authority;
mod error;
mod next;
mod settings;

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use grid_broker::settings::{Listen, Settings};
use grid_protocol::identity::Issuer;
use grid_protocol::topic::Name;
use grid_service::chain;
use grid_service::setup::{Readers, Report, Root, Service};

use crate::ca::{self, CaError, Folder, HostList, Hosts};
use crate::check;
use answers::Answers;
use error::Failure;

/// The settings of the service.
pub const CONFIG: &str = "/etc/grid/broker.toml";
const CERTIFICATE: &str = "/etc/grid/broker.pem";
const KEY: &str = "/etc/grid/broker.key";
const AUTHORITY: &str = "/etc/grid/ca.pem";
const UNIT: &str = "grid-broker.service";
/// The group of the service's user: the settings hold hashes of passwords, and are for nobody else.
const GROUP: &str = "grid-broker";

/// Set up the broker of a site on this machine: authority, certificate, settings, service.
///
/// Asks what is not given, if there is a terminal; else takes the defaults. Then it starts the service, checks as
/// `grid-broker check` does, and says what to do next. It may be run again: what is there and the same is left alone, and so is
/// what says otherwise, which is then told.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  sudo grid-broker setup\n  sudo grid-broker setup --site main-street --host \
                        broker.local --operator anna --password-file anna.password\n\nExit codes: 0 done, and all is \
                        well; 1 done, but something is wrong; 2 not done.")]
pub struct Arguments {
    /// The site: the street, car park or model. 1 to 32 of a-z, 0-9 and '-'.
    #[arg(long)]
    site: Option<Name>,
    #[command(flatten)]
    hosts: Hosts,
    /// The port for agents, anchor and people: MQTT over TLS, on all addresses. Default: 8883.
    #[arg(long)]
    port: Option<u16>,
    /// The port for browsers: MQTT over WebSocket and TLS, on all addresses. Default: 8884.
    #[arg(long, value_name = "PORT")]
    websocket_port: Option<u16>,
    /// The port for programs on this machine: MQTT without TLS, on 127.0.0.1. Default: 1883.
    #[arg(long, value_name = "PORT")]
    local_port: Option<u16>,
    /// The port for /healthz and /metrics, on 127.0.0.1. Default: 9883.
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// The site's transformer. Default: trafo-1.
    #[arg(long, value_name = "NAME")]
    transformer: Option<Name>,
    /// The site's anchor. Default: anchor-1.
    #[arg(long, value_name = "NAME")]
    anchor: Option<Name>,
    /// Who reads everything and gives commands, with a password. Default: operator.
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
    /// The file whose first line is the operator's password. Default: one is made up and shown.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Also a user `homeassistant`, who shows and commands all devices in Home Assistant.
    #[arg(long)]
    home_assistant: bool,
    /// The file whose first line is the password of Home Assistant. Default: one is made up and shown.
    #[arg(long, value_name = "FILE", requires = "home_assistant")]
    home_assistant_password_file: Option<PathBuf>,
    /// Write below this folder instead of /, and start nothing.
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

/// Does it, tells it on standard output, and returns the program's exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    ca::allow_others_to_read();
    match set_up(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("grid-broker: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

fn set_up(arguments: Arguments) -> Result<u8, Failure> {
    let root = Root::new(arguments.root.clone());
    root.check_rights()?;
    let there = settings::that_are_there(&root)?;
    let folder = root.at(ca::DEFAULT_FOLDER);
    let authority = if folder.exists() { Some(Folder::make(folder.clone())?) } else { None };
    let issuer = match &authority {
        Some(authority) if authority.is_there()? => Some(authority.issuer()?),
        Some(_) | None => None,
    };
    let hosts_there = authority.as_ref().map(Folder::hosts).transpose()?.unwrap_or_default();
    let site_there = issuer.as_ref().map(Issuer::site);
    let answers = Answers::get(arguments, there.as_ref(), site_there, HostList(hosts_there.clone()))?;
    if let Some(issuer) = issuer.as_ref().filter(|issuer| *issuer.site() != answers.site) {
        let (theirs, wanted) = (issuer.site().clone(), answers.site.clone());
        return Err(CaError::OtherSite { folder, theirs, wanted }.into());
    }
    // All that could keep this from being done comes before the first thing is written.
    authority::check_copy(&root, issuer.as_ref())?;
    let new = match &there {
        Some(there) => answers.check_against(there).map(|()| None)?,
        None => Some(settings::text(&answers)?),
    };
    let is_new = new.is_some();
    let service = Service::find(&root, UNIT)?;
    if root.is_this_machine() && !service.ran() {
        check_ports(&there.as_ref().map_or_else(|| answers.listen(), |there| there.listen.clone()))?;
    }

    let authority = match authority {
        Some(authority) => authority,
        None => Folder::make(folder)?,
    };
    authority::see_to(&authority, issuer, &answers, &hosts_there)?;
    let has_changed = authority::copy(&root, &authority)? || is_new;
    if let Some((text, _)) = &new {
        root.write(CONFIG, text.as_bytes(), Readers::Group(GROUP))?;
    }
    root.let_read(CONFIG, Readers::Group(GROUP))?;
    root.tell(CONFIG, !is_new);
    // Before the service could fail to start: they are kept nowhere.
    next::tell_passwords(&answers);
    let mut out = std::io::stdout();
    let mut report = Report::to(&mut out);
    if root.is_this_machine()
        && let Some(settings) = new.map(|(_, settings)| settings).or(there)
    {
        service.start(&mut report, has_changed, &format!("grid-broker run --config {CONFIG}"));
        check::tell(&mut report, &settings, &root.at(CONFIG));
    }
    next::tell(&answers, &root, report.whether_all_is_well());
    Ok(report.exit_code())
}

/// A port that somebody else has would only be noticed once everything is written.
fn check_ports(listen: &Listen) -> Result<(), Failure> {
    let Listen { mqtt, mqtts, wss, http, .. } = listen;
    for (address, flag) in [(mqtt, "--local-port"), (mqtts, "--port"), (wss, "--websocket-port"), (http, "--http-port")]
    {
        let Some(address) = *address else { continue };
        TcpListener::bind(address).map_err(|source| Failure::Port { address, flag, source })?;
    }
    Ok(())
}
