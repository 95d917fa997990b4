//! `grid-agent check`: what is configured, valid and reachable. It changes nothing and disturbs nothing that runs.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use grid_agent::meter::{MeterSettings, PhaseReading};
use grid_agent::outbox::{self, LookError};
use grid_agent::settings::Settings;
use grid_agent::status::{self, StatusError};
use grid_protocol::message::Role;
use grid_service::chain;
use grid_service::settings::SettingsError;
use grid_service::setup::Report;
use rustix::fs::{Access, access};
use rustix::process::geteuid;

/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an agent that has just begun may take to find its broker and to read its meter.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is known of the agent before anything is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// Nothing: it is asked, if it runs.
    MayRun,
    /// It does not run, and will be started next.
    StartsNext,
}

/// Tell what is configured, valid and reachable: one line a thing, `ok`, `--` (not configured, or not running) or `WRONG` with
/// what to do.
///
/// It changes nothing and disturbs nothing that runs: the actuator is not set, the broker is greeted but not logged in to, and
/// of an agent that runs the meter is not read, but what it says is told.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  sudo grid-agent check --config /etc/grid/agent/cp-1.toml\n\nExit codes: 0 nothing is \
                        wrong, 1 something is, 2 the settings cannot be used."
)]
pub struct Arguments {
    /// The agent's settings (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Does it, and returns the program's exit code.
pub fn run(arguments: &Arguments) -> ExitCode {
    match check(&arguments.config) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("grid-agent: {}", chain(&error));
            ExitCode::from(2)
        }
    }
}

fn check(config: &Path) -> Result<u8, SettingsError> {
    let settings = Settings::load(config)?;
    let mut out = io::stdout();
    let mut report = Report::to(&mut out);
    tell(&mut report, &settings, config, Agent::MayRun);
    Ok(report.exit_code())
}

/// Looks at everything.
pub fn tell(report: &mut Report, settings: &Settings, config: &Path, agent: Agent) {
    let is = match (&settings.device, &settings.transformer) {
        (Some(device), _) => format!("a device that obeys {}", device.transformer),
        (None, transformer) => match transformer.as_ref().map_or(0, |transformer| transformer.device.len()) {
            1 => "a transformer with 1 device".to_owned(),
            devices => format!("a transformer with {devices} devices"),
        },
    };
    let (name, site) = (&settings.name, &settings.site);
    report.ok("settings", format!("{}: {name} of the site {site}, {is}", config.display()));
    let role = if settings.device.is_some() { Role::Device } else { Role::Transformer };
    let identity = report.identity(&settings.identity, (site, name, role), "grid-agent");
    let running = match agent {
        Agent::MayRun => check_agent(report, settings),
        Agent::StartsNext => None,
    };
    match running.map(|running| running.view) {
        Some(Some(view)) if view.is_sound() => report.ok("meter", format!("the agent {view}")),
        Some(Some(view)) => {
            report.wrong("meter", format!("the agent {view}: journalctl -u grid-agent@{name} tells why"))
        }
        Some(None) => {
            report.wrong("meter", format!("the agent has no reading: journalctl -u grid-agent@{name} tells why"))
        }
        None => check_meter(report, settings),
    }
    check_actuator(report, settings);
    report.broker(&settings.broker, identity.as_ref());
    check_outbox(report, settings);
}

/// What the agent says once it has found its broker and read its meter, or has had its time for that. One that `is_starting`
/// may take as long until it can be asked.
pub fn settled(settings: &Settings, is_starting: bool) -> Result<outbox::Report, StatusError> {
    let began = Instant::now();
    loop {
        let said = status::ask(settings.outbox.dir.as_deref(), &settings.name);
        let waits = match &said {
            Ok(report) if report.is_running => !report.broker_is_there || report.view.is_none(),
            // In its first moments it has the folder already, and cannot be asked yet.
            Err(StatusError::Silent { .. } | StatusError::Files(LookError::Failed(_))) => true,
            Ok(_) | Err(StatusError::Files(LookError::Nothing(_))) => is_starting,
            Err(StatusError::NoFolder) => false,
        };
        if !waits || began.elapsed() >= SETTLES_WITHIN {
            return said;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// What an agent that runs says of itself.
pub fn seen(report: &outbox::Report) -> String {
    let there = |is_there| if is_there { "there" } else { "not there" };
    let view = report.view.as_ref().map(|view| format!("{view}; ")).unwrap_or_default();
    let (broker, anchor) = (there(report.broker_is_there), there(report.anchor_is_there));
    format!("{view}the broker is {broker}, the anchor is {anchor}")
}

/// What the agent says, if it runs.
fn check_agent(report: &mut Report, settings: &Settings) -> Option<outbox::Report> {
    match settled(settings, false) {
        Ok(running) if running.is_running => {
            match (running.broker_is_there, running.anchor_is_there) {
                (true, true) => report.ok("agent", "runs; broker and anchor are there"),
                (true, false) => report.ok("agent", "runs; the broker is there, the anchor is not"),
                (false, _) => report.wrong("agent", "runs, but has no connection to the broker: see below"),
            }
            return Some(running);
        }
        Ok(_) | Err(StatusError::Files(LookError::Nothing(_))) => {
            report.none("agent", format!("does not run: systemctl enable --now grid-agent@{}", settings.name));
        }
        Err(StatusError::NoFolder) => report.none("agent", "without [outbox] dir it cannot be asked"),
        Err(error) => report.wrong("agent", error),
    }
    None
}

fn check_meter(report: &mut Report, settings: &Settings) {
    let reading = settings.meter.open(&settings.name, &settings.identity).map_err(|error| error.to_string());
    let reading = reading.and_then(|mut meter| meter.read(PATIENCE).map_err(|error| error.to_string()));
    let names = settings.phase_names();
    match reading {
        Err(why) => report.wrong("meter", why),
        Ok(reading) => {
            let phase = |(name, phase): (&String, &PhaseReading)| format!("{name} {}", phase.current);
            let currents: Vec<String> = names.iter().zip(&reading.phases).map(phase).collect();
            let currents = currents.join(", ");
            match (&settings.meter, reading.is_saturated()) {
                (_, true) => report.wrong("meter", format!("{currents} or more: the end of its range; see scale")),
                (MeterSettings::None(_), _) => report.ok("meter", format!("none: {currents} are taken for what flows")),
                (_, false) => report.ok("meter", format!("reads {currents}")),
            }
        }
    }
}

fn check_actuator(report: &mut Report, settings: &Settings) {
    let Some(actuator) = &settings.actuator else {
        let said = if settings.device.is_some() { "none: the limit is only told" } else { "a transformer has none" };
        report.none("actuator", said);
        return;
    };
    match actuator.look(&settings.identity) {
        Err(error) => report.wrong("actuator", error),
        Ok(found) => match found.file.as_deref().map(may_be_written) {
            Some(Err(why)) => report.wrong("actuator", format!("{}: {why}", found.said)),
            Some(Ok(())) | None => report.ok("actuator", found.said),
        },
    }
}

/// Whether this process may write the file, and if it is root, whether the agent's group may, too.
fn may_be_written(file: &Path) -> Result<(), String> {
    let shown = file.display();
    let opened = OpenOptions::new().write(true).open(file);
    opened.map_err(|error| format!("{shown} may not be written ({error}): who owns it?"))?;
    let is = fs::metadata(file).map_err(|error| format!("{shown} cannot be looked at: {error}"))?;
    if geteuid().is_root() && is.uid() == 0 && is.permissions().mode() & 0o022 == 0 {
        return Err(format!(
            "{shown} is root's alone: give it to the agent's group (sudo chgrp gpio {shown} && sudo chmod g+w {shown}), for good by \
             a udev rule as the package has it"
        ));
    }
    Ok(())
}

fn check_outbox(report: &mut Report, settings: &Settings) {
    let Some(folder) = &settings.outbox.dir else {
        report.none("outbox", "none: what the anchor has not acknowledged is lost when the agent ends");
        return;
    };
    let shown = folder.display();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.none("outbox", format!("{shown} is not there yet: the agent makes it"));
            return;
        }
        Err(error) => {
            report.wrong("outbox", format!("{shown} cannot be read: {error}"));
            return;
        }
    };
    if let Err(error) = access(folder, Access::WRITE_OK) {
        report.wrong("outbox", format!("{shown} may not be written ({error}): chown it to the agent's user"));
        return;
    }
    let sizes = entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|file| file.len());
    report.ok("outbox", format!("{shown} takes {} kB", sizes.sum::<u64>().div_ceil(1000)));
}
