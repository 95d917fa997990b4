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
mod reserve;
mod wanted;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use grid_agent::settings::Settings;
use grid_agent::status;
use grid_protocol::topic::Name;
use grid_service::chain;
use grid_service::setup::{Credentials, Questions, Readers, Report, Root, Unit, differences};

use crate::check;
use error::Failure;
use reserve::Reserve;
use wanted::{Device, Given, Part, Transformer, Wanted};
use words::DeviceWord;

/// How long an agent that was started may take to find its broker.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

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
            Some((new_settings(&wanted)?, next_steps(&wanted)))
        }
    };
    let unit = format!("grid-agent@{name}.service");
    let found = if root.is_this_machine() { Unit::find(&unit)? } else { None };
    let runs = found.as_ref().map(Unit::is_active).transpose()?.unwrap_or(false);

    let is_same = !credentials.put(&root, &bundle_of(&name))?;
    let tell = |is_same, path| {
        let mark = if is_same { "unchanged" } else { "written  " };
        println!("{mark}  {}", root.at(path).display());
    };
    tell(is_same, bundle_of(&name));
    if let Some((text, _)) = &new {
        root.write(config_of(&name), text.as_bytes(), Readers::All)?;
    }
    root.let_read(config_of(&name), Readers::All)?;
    tell(new.is_none(), config_of(&name));
    let config = root.at(config_of(&name));
    let next = new.map(|(_, next)| next).unwrap_or_default();
    if !root.is_this_machine() {
        println!("{next}");
        return Ok(0);
    }
    let settings = Settings::load(&config).map_err(Failure::Settings)?;
    if let Some(unit) = found.as_ref().filter(|_| runs && !is_same) {
        unit.restart()?;
    }
    let mut out = std::io::stdout();
    let mut report = Report::to(&mut out);
    check::tell(&mut report, &settings, &config);
    let code = report.exit_code();
    match found {
        Some(found) => {
            found.enable()?;
            println!("serves     {unit}, now and after each boot");
            say_what_it_sees(&settings);
        }
        None => println!("missing    {unit}: without it, run grid-agent run --config {}", config.display()),
    }
    println!("{next}\nWhether all is well:\n  grid-agent check --config {}", config.display());
    Ok(code)
}

/// Fails if settings that are there say otherwise than the flags, with each difference.
fn check_against(root: &Root, there: &str, wanted: &Wanted) -> Result<(), Failure> {
    let file = root.at(config_of(&wanted.name));
    Settings::load(&file).map_err(Failure::Settings)?;
    let asked = fill::changed(there, wanted)?;
    let differences = differences::<Settings>(&toml::from_str(there)?, &toml::from_str(&asked)?);
    if differences.is_empty() { Ok(()) } else { Err(Failure::Otherwise { file, differences }) }
}

/// New settings, which are checked as the agent does.
fn new_settings(wanted: &Wanted) -> Result<String, Failure> {
    let text = fill::new(wanted)?;
    toml::from_str::<Settings>(&text)?.check().map_err(Failure::Answers)?;
    Ok(text)
}

/// What the other side has to know: a transformer of its device, devices of what is reserved for them.
fn next_steps(wanted: &Wanted) -> String {
    match &wanted.part {
        Part::Device(Device {
            transformer: Some(transformer), phases: Some(phases), failsafe: Some(failsafe), ..
        }) => {
            let enrolled = DeviceWord { name: wanted.name.clone(), phases: phases.clone(), failsafe: Some(*failsafe) };
            format!(
                "\nWhen nobody leads it, it may draw {}, which {transformer} reserves for it. There it is enrolled by\n  \
                 grid-agent setup {transformer}.bundle … --device {enrolled}\nor by a [[transformer.device]] in its settings.\n",
                failsafe.0
            )
        }
        Part::Transformer(Transformer { limit_w: Some(limit_w), devices: Some(devices) }) if !devices.0.is_empty() => {
            let reserve = Reserve::of(devices, *limit_w);
            let setup = |DeviceWord { name, failsafe, .. }: &DeviceWord| {
                let failsafe = failsafe.map_or("0".to_owned(), |failsafe| failsafe.to_string());
                format!("  grid-agent setup {name}.bundle --failsafe-ma {failsafe}\n")
            };
            let setups: String = devices.0.iter().map(setup).collect();
            format!(
                "\nFor devices that nobody leads, so much is reserved at all times: {reserve}.\nThe rest has to be enough for all \
                 that is no such device. Each of them is to draw no more then:\n{setups}"
            )
        }
        Part::Device(_) | Part::Transformer(_) => String::new(),
    }
}

/// What the agent says of itself, once it is connected or has had its time for that.
fn say_what_it_sees(settings: &Settings) {
    let began = Instant::now();
    loop {
        let report = status::ask(settings.outbox.dir.as_deref(), &settings.name);
        let is_settled = report.as_ref().is_ok_and(|report| report.broker_is_there && report.view.is_some());
        if !is_settled && began.elapsed() < SETTLES_WITHIN {
            thread::sleep(LOOK_EVERY);
            continue;
        }
        match report {
            Ok(report) if report.is_running => println!("it         {}", check::seen(&report)),
            Ok(_) => println!("silent     it has ended: journalctl -u grid-agent@{}", settings.name),
            Err(error) => println!("silent     {error}"),
        }
        return;
    }
}
