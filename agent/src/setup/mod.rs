//! `grid-agent setup`: from a bundle to an agent that runs.
//!
//! | step | what is there afterwards |
//! |---|---|
//! | questions | broker, meter, actuator, limits |
//! | credentials | `/etc/grid/agent/NAME.bundle` (0600): what the service is given |
//! | settings | `/etc/grid/agent/NAME.toml`, from the commented example |
//! | check | what `grid-agent check` says |
//! | service | `grid-agent@NAME.service`: enabled, started, ready |
//!
//! It may be run again: what is there and says otherwise than the flags stays as it is, and is told. A newer bundle of the same
//! agent takes the place of the older one.

mod error;
mod fill;
mod next;
mod reserve;
mod wanted;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use grid_agent::settings::Settings;
use grid_agent::status::StatusError;
use grid_protocol::topic::Name;
use grid_service::chain;
use grid_service::setup::{BadSettings, Credentials, Questions, Readers, Report, Root, Service, must_be_same};

use crate::check::{self, Agent};
use error::Failure;
use wanted::{Given, Wanted};

/// Set up an agent on this machine: credentials, settings, service.
///
/// Takes the bundle that `grid-broker ca issue` made. Asks what is not given, if there is a terminal; else takes the defaults,
/// and names what has none. Then it checks as `grid-agent check` does, starts the service and says what it sees. It may be run
/// again: what is there and the same is left alone, and so is what says otherwise, which is then told.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  sudo grid-agent setup cp-1.bundle
  sudo grid-agent setup cp-1.bundle --meter ina219:0x40,0x41,0x44 --scale 15 --max-ma 32000 --actuator control-pilot
  sudo grid-agent setup lamp-1.bundle --kind other --phases L1 --meter hwmon --scale 15 --max-ma 16000 --actuator pwm
  sudo grid-agent setup trafo-1.bundle --limit-w 80000 --meter none:12000,12000,12000 --device cp-1:L1L2L3 --device cp-2:L2

A meter or charger that speaks MQTT, fuses, a dimming contact: in the file that it writes, which has comments.

Exit codes: 0 done, and all is well; 1 done, but something is wrong; 2 not done.")]
pub struct Arguments {
    /// The agent's bundle.
    bundle: PathBuf,
    #[command(flatten)]
    given: Given,
    /// Write below this folder instead of /, and check and start nothing.
    #[arg(long, value_name = "FOLDER")]
    root: Option<PathBuf>,
}

/// Where the settings of an agent are.
fn config_of(name: &Name) -> String {
    format!("/etc/grid/agent/{name}.toml")
}

/// Where the bundle of an agent is.
fn bundle_of(name: &Name) -> String {
    format!("/etc/grid/agent/{name}.bundle")
}

/// Where an agent keeps what lasts.
fn state_of(name: &Name, what: &str) -> String {
    format!("/var/lib/grid-agent/{name}/{what}")
}

/// Does it, tells it on standard output, and returns the program's exit code.
pub fn run(arguments: Arguments) -> ExitCode {
    // The service's user has to get at its settings, also where root's files are closed to others.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    match set_up(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("grid-agent: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

fn set_up(arguments: Arguments) -> Result<u8, Failure> {
    let Arguments { bundle: file, given, root } = arguments;
    let root = Root::new(root);
    root.check_rights()?;
    let credentials = Credentials::read(&file)?;
    let name = credentials.identity.name.clone();
    let wanted = Wanted::of_flags(given, &credentials.identity)?;

    // All that could keep this from being done comes before the first thing is written.
    credentials.check_against(&root, &bundle_of(&name))?;
    let new = match root.read(config_of(&name))? {
        Some(there) => check_against(&root, &String::from_utf8_lossy(&there), &wanted).map(|()| None)?,
        None => {
            let wanted = wanted.complete(&Questions::on_terminal(), || credentials.find_broker())?;
            Some((new_settings(&wanted)?, next::steps(&wanted)))
        }
    };
    let unit = format!("grid-agent@{name}.service");
    let service = Service::find(&root, &unit)?;

    let is_newer = credentials.put(&root, &bundle_of(&name))?;
    root.tell(bundle_of(&name), !is_newer);
    if let Some((text, _)) = &new {
        root.write(config_of(&name), text.as_bytes(), Readers::All)?;
    }
    root.let_read(config_of(&name), Readers::All)?;
    root.tell(config_of(&name), new.is_none());
    let config = root.at(config_of(&name));
    let has_changed = is_newer || new.is_some();
    let steps = new.map(|(_, steps)| steps).unwrap_or_default();
    if !root.is_this_machine() {
        let check = format!("grid-agent check --config {}", config_of(&name));
        println!("{steps}{}", service.elsewhere(&check));
        return Ok(0);
    }
    let settings = Settings::load(&config).map_err(BadSettings::There)?;
    let mut out = std::io::stdout();
    let mut report = Report::to(&mut out);
    let by_hand = format!("grid-agent run --config {}", config.display());
    if service.ran() {
        service.start(&mut report, has_changed, &by_hand);
        // Whatever it says: it is asked again.
        let _ = check::settled(&settings, has_changed);
        check::tell(&mut report, &settings, &config, Agent::MayRun);
    } else {
        // What is wrong with a meter is best seen before the agent has it.
        check::tell(&mut report, &settings, &config, Agent::StartsNext);
        if service.start(&mut report, has_changed, &by_hand) {
            tell_what_it_sees(&mut report, &settings);
        }
    }
    println!("{steps}\n{}\n  sudo grid-agent check --config {}", report.whether_all_is_well(), config.display());
    Ok(report.exit_code())
}

/// Fails if settings that are there say otherwise than the flags, with each difference.
fn check_against(root: &Root, there: &str, wanted: &Wanted) -> Result<(), BadSettings> {
    let file = root.at(config_of(&wanted.name));
    Settings::load(&file).map_err(BadSettings::There)?;
    must_be_same::<Settings>(file, there, &fill::changed(there, wanted)?, "")
}

/// New settings, which are checked as the agent does.
fn new_settings(wanted: &Wanted) -> Result<String, BadSettings> {
    let text = fill::new(wanted)?;
    toml::from_str::<Settings>(&text)?.check().map_err(BadSettings::Answers)?;
    Ok(text)
}

/// What the agent that was started says of itself.
fn tell_what_it_sees(report: &mut Report, settings: &Settings) {
    let name = &settings.name;
    match check::settled(settings, true) {
        Ok(said) if said.is_running => report.ok("agent", check::seen(&said)),
        Ok(_) => report.wrong("agent", format!("has ended: journalctl -u grid-agent@{name} tells why")),
        Err(StatusError::NoFolder) => report.none("agent", StatusError::NoFolder),
        Err(error) => report.wrong("agent", error),
    }
}
