//! `grid-anchor check`: what is configured, valid and reachable. It changes nothing and disturbs nothing that runs.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use grid_ledger::TrailReader;
use grid_protocol::message::Role;
use grid_service::clock::unix_now;
use grid_service::setup::Report;
use rustix::fs::{Access, access};

use super::Failure;
use super::setup::CONFIG;
use crate::policy::Policy;
use crate::recorder::POLICY;
use crate::settings::{LedgerSettings, Settings};
use crate::status::{Status, StatusError, is_running};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
pub struct CheckArguments {
    /// The anchor's settings (TOML).
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

/// Looks at everything. Returns the exit code.
pub fn check(arguments: &CheckArguments) -> Result<u8, Failure> {
    let settings = Settings::load(&arguments.config)?;
    let mut out = io::stdout();
    let mut report = Report::to(&mut out);
    tell(&mut report, &settings, &arguments.config);
    Ok(report.exit_code())
}

/// The lines.
pub fn tell(report: &mut Report, settings: &Settings, config: &Path) {
    let (site, name) = (&settings.site, &settings.name);
    report.ok("settings", format!("{}: {name} of the site {site}", config.display()));
    let identity = match &settings.identity {
        Some(identity) => report.identity(identity, (site, name, Role::Anchor), "grid-anchor"),
        None => {
            report.wrong("identity", "the settings have no [identity]: give it the bundle of grid-broker ca issue");
            None
        }
    };
    report.broker(&settings.broker, identity.as_ref());
    let runs = check_log(report, settings);
    match &settings.ledger {
        Some(ledger) => check_ledger(report, ledger, &settings.data_dir),
        None => report.none("ledger", "none: nobody but this log vouches for what is in it"),
    }
    check_http(report, settings, runs);
}

/// Says whether an anchor runs on the folder.
fn check_log(report: &mut Report, settings: &Settings) -> bool {
    let folder = &settings.data_dir;
    let shown = folder.display();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.none("log", format!("{shown} is not there yet: the anchor makes it"));
            return false;
        }
        Err(error) => {
            report.wrong("log", format!("{shown} cannot be read: {error}"));
            return false;
        }
        Ok(_) => {}
    }
    if let Err(error) = access(folder, Access::WRITE_OK) {
        report.wrong("log", format!("{shown} may not be written ({error}): chown it to the anchor's user"));
    }
    let now = unix_now();
    match Status::read(settings, now) {
        Ok(status) => {
            let runs = if status.running { "is logged by an anchor that runs" } else { "does not run" };
            let noun = if status.logged == 1 { "entry" } else { "entries" };
            let said = format!("{shown}: {}, {} {noun}, {runs}", status.origin, status.logged);
            if status.running {
                report.ok("log", said)
            } else {
                report.none("log", said)
            }
            if let Some(still_to_come) = status.first_record(now) {
                report.none("record", still_to_come);
            }
            status.problems.iter().for_each(|problem| report.wrong("log", problem));
            status.running
        }
        Err(error) => {
            match error {
                StatusError::NoLog(_) => report.none("log", format!("{shown} holds no log yet: the anchor begins one")),
                error => report.wrong("log", error),
            }
            // One that has just been started may run already.
            is_running(folder).unwrap_or(false)
        }
    }
}

fn check_ledger(report: &mut Report, ledger: &LedgerSettings, data_dir: &Path) {
    let file = data_dir.join(POLICY);
    let init = format!("grid-anchor init --network {} makes it", ledger.network);
    let policy = fs::read_to_string(&file).map_err(|error| error.to_string());
    let policy = policy.and_then(|text| Policy::read(&text).map_err(|error| error.to_string()));
    let trail = match policy.map(|policy| policy.trail) {
        Ok(Some(trail)) if trail.network == ledger.network => trail,
        Ok(Some(trail)) => {
            report.wrong(
                "ledger",
                format!("{} names a trail on {}, not on {}", file.display(), trail.network, ledger.network),
            );
            return;
        }
        Ok(None) => {
            report.wrong("ledger", format!("{} names no trail: {init}", file.display()));
            return;
        }
        Err(why) => {
            report.wrong("ledger", format!("{} cannot be read ({why}): {init}", file.display()));
            return;
        }
    };
    let opened = open(ledger, &trail.chain, trail.trail);
    let said = format!("{} has the trail {}", ledger.network, trail.trail);
    report.judge("ledger", opened.map(|()| said).map_err(|why| format!("{} cannot be asked: {why}", ledger.network)));
}

#[tokio::main(flavor = "current_thread")]
async fn open(ledger: &LedgerSettings, chain: &str, trail: grid_ledger::ObjectId) -> Result<(), String> {
    let endpoints = ledger.endpoints();
    match tokio::time::timeout(PATIENCE, TrailReader::open(&endpoints, Some(chain), trail)).await {
        Ok(opened) => opened.map(|_| ()).map_err(|error| error.to_string()),
        Err(_) => Err("no node answers within 10 s".to_owned()),
    }
}

fn check_http(report: &mut Report, settings: &Settings, runs: bool) {
    let Some(http) = &settings.http else {
        report.none("http", "the log is not served");
        return;
    };
    let address = http.listen;
    match (TcpStream::connect_timeout(&address, PATIENCE), runs) {
        (Ok(_), true) => report.ok("http", format!("http://{address} answers")),
        (Ok(_), false) => report.wrong("http", format!("{address} is taken: stop what uses it, or choose another")),
        (Err(error), true) => report.wrong("http", format!("{address} does not answer ({error}): restart the anchor")),
        (Err(_), false) => match TcpListener::bind(address) {
            Ok(_) => report.none("http", format!("{address} is free: the anchor does not run")),
            Err(error) => report.wrong("http", format!("{address} cannot be listened on: {error}")),
        },
    }
}
