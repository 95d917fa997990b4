//! `grid-agent`: one device behind the transformer.

mod check;
mod setup;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use grid_agent::actuator::{Actuator, Advice};
use grid_agent::meter::{LinuxBus, Meter, bench, scan};
use grid_agent::run::{AgentError, Summary, run_device, run_transformer};
use grid_agent::settings::{Agent, Settings};
use grid_agent::status;
use grid_service::clock::unix_now;
use grid_service::{chain, last_words, log, shutdown};

/// One device behind the transformer: it measures, obeys leased limits, and signs what it says.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  sudo grid-agent setup cp-1.bundle\n  grid-agent run --config \
                                 /etc/grid/agent/cp-1.toml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Setup(Box<setup::Arguments>),
    Check(check::Arguments),
    /// Run the agent until SIGINT or SIGTERM.
    ///
    /// A sensor that is not there does not end it: it says so, is in failsafe, and takes the sensor as soon as it is there.
    /// Ends with 0 if it was asked to end, 1 if something else ended it or its actuator cannot be used now, so that starting it
    /// again may help, 2 if that takes a person: the arguments, the settings or the identity cannot be used. In a systemd unit:
    /// `RestartPreventExitStatus=2`.
    #[command(after_help = "Example:\n  grid-agent run --config /etc/grid/agent/cp-1.toml")]
    Run {
        /// The agent's settings (TOML). The environment goes over it: GRID__BROKER__HOST=192.0.2.7
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print the settings in force, and end.
        #[arg(long)]
        print_config: bool,
    },
    /// Tell what the anchor has not acknowledged, and since when.
    ///
    /// Asks the agent through a socket in its outbox's folder; if it does not run, the folder's files tell. Ends with 0 if
    /// nothing has waited for more than a minute and broker and anchor are there (of an agent that does not run: if nothing
    /// waits), 1 if not, 2 if it cannot tell.
    #[command(after_help = "Example:\n  grid-agent status --config /etc/grid/agent/cp-1.toml --json")]
    Status {
        /// The agent's settings (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Set the actuator to its safe state, and end.
    ///
    /// For `ExecStopPost=` of a systemd unit: what holds when the agent has ended, however it did. It needs no identity and
    /// no broker, but for `[actuator.mqtt]`, whose broker is waited for at most two seconds. Ends with 0 if the safe state is
    /// set or there is no actuator, 1 if the hardware does not do it, 2 if the settings cannot be used.
    #[command(after_help = "Example:\n  grid-agent safe --config /etc/grid/agent/cp-1.toml")]
    Safe {
        /// The agent's settings (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Read the agent's meter and show a live table of what it measures.
    ///
    /// Ends with 0 if each reading was good, 1 if one failed or was at the end of its range, 2 if the meter cannot be opened.
    #[command(after_help = "Examples:\n  grid-agent read --config /etc/grid/agent/cp-1.toml\n  \
        grid-agent read --config /etc/grid/agent/cp-1.toml --json --count 5")]
    Read {
        /// The agent's settings (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print one JSON object a reading.
        #[arg(long)]
        json: bool,
        /// End after so many readings. Default: go on until Ctrl-C.
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Look which of the addresses 0x40 to 0x4f answer, and whether what is there behaves like an INA219.
    ///
    /// It writes no register. Ends with 0 if there is an INA219, 1 if there is none, 2 if the bus cannot be opened.
    #[command(after_help = "Example:\n  grid-agent scan --bus /dev/i2c-1")]
    Scan {
        /// The bus's device file.
        #[arg(long, value_name = "FILE", default_value = "/dev/i2c-1")]
        bus: String,
        /// Print one JSON object an address.
        #[arg(long)]
        json: bool,
    },
    /// Compare the agent's meter with a known current, and say what settings would make it right.
    ///
    /// Let the current flow through the shunt of every phase before; 0 finds the offset. Nothing is written. Ends with 0 if
    /// the meter is right within 1 %, 1 if settings would have to change, 2 if it cannot be read.
    #[command(after_help = "Example: a multimeter in the circuit shows 500 mA\n  \
        grid-agent calibrate --config /etc/grid/agent/cp-1.toml --current-ma 500")]
    Calibrate {
        /// The agent's settings (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What flows through the shunt, in milliamps, before scaling; negative if it flows towards the supply.
        #[arg(long, value_name = "N", allow_negative_numbers = true,
            value_parser = clap::value_parser!(i64).range(-1_000_000..=1_000_000))]
        current_ma: i64,
    },
    /// Write the manual pages into a folder, as the packages have them.
    #[command(hide = true)]
    Man {
        /// The folder. It must be there.
        folder: PathBuf,
    },
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::begin("grid-agent", "info");
    let result = match arguments.command {
        Command::Setup(arguments) => return setup::run(*arguments),
        Command::Check(arguments) => return check::run(&arguments),
        Command::Run { config, print_config: true } => print(&config).map(|()| true),
        Command::Run { config, print_config: false } => run(&config),
        Command::Status { config, json } => tell_status(&config, json),
        Command::Read { config, json, count } => read(&config, count, json),
        Command::Scan { bus, json } => look_for_chips(&bus, json),
        Command::Calibrate { config, current_ma } => compare(&config, current_ma),
        Command::Safe { config } => safe(&config),
        Command::Man { folder } => write_manual(&folder).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            last_words("grid-agent", &chain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

fn print(config: &Path) -> Result<(), Failure> {
    println!("{}", toml::to_string(&Settings::load(config)?)?);
    Ok(())
}

fn write_manual(folder: &Path) -> Result<(), Failure> {
    Ok(clap_mangen::generate_to(Arguments::command(), folder)?)
}

/// Says whether all is well.
fn tell_status(config: &Path, json: bool) -> Result<bool, Failure> {
    let settings = Settings::load(config)?;
    let report = status::ask(settings.outbox.dir.as_deref(), &settings.name)?;
    let now = unix_now();
    match json {
        true => println!("{}", serde_json::to_string(&report)?),
        false => print!("{}", status::text(&report, now)),
    }
    Ok(status::is_well(&report, now))
}

/// Says whether the safe state is set.
fn safe(config: &Path) -> Result<bool, Failure> {
    let settings = Settings::load(config)?;
    let name = &settings.name;
    match settings.make_safe() {
        Ok(Some(limit)) => println!("{name}: the safe state is set, {limit} per phase"),
        Ok(None) => println!("{name}: there is no actuator to set"),
        Err(error) => {
            eprintln!("grid-agent: {name} is not in its safe state: {error}");
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(config: &Path, count: Option<u64>, json: bool) -> Result<bool, Failure> {
    let settings = Settings::load(config)?;
    let mut meter = settings.meter.open(&settings.name, &settings.identity)?;
    let mut out = std::io::stdout().lock();
    let show = match (json, out.is_terminal()) {
        (true, _) => bench::Show::Json,
        (false, true) => bench::Show::Live,
        (false, false) => bench::Show::Tables,
    };
    Ok(bench::read(meter.as_mut(), &settings.phase_names(), count, show, &mut out)?)
}

fn look_for_chips(bus: &str, json: bool) -> Result<bool, Failure> {
    let found = scan(&mut LinuxBus::open(bus)?);
    Ok(bench::tell_scan(bus, &found, json, &mut std::io::stdout().lock())?)
}

fn compare(config: &Path, through_ma: i64) -> Result<bool, Failure> {
    let settings = Settings::load(config)?;
    let wirings = settings.meter.wirings();
    if wirings.is_empty() {
        return Err("there is nothing to calibrate: the meter is neither [[meter.ina219]] nor [[meter.hwmon]]".into());
    }
    let mut meter = settings.meter.open(&settings.name, &settings.identity)?;
    let names = settings.phase_names();
    bench::tell_calibration(meter.as_mut(), &wirings, &names, through_ma, &mut std::io::stdout().lock())
}

/// Says whether it ended since it was asked to. Fails only with what takes a person: all else may be over when it is started
/// again.
fn run(config: &Path) -> Result<bool, Failure> {
    let settings = Settings::load(config)?;
    // The safe state comes before all that may fail or take a while.
    let actuator = match settings.guarded_actuator() {
        Ok(actuator) => actuator,
        Err(error) => return Ok(went_wrong(&error)),
    };
    let (meter, name, identity) = (settings.meter.clone(), settings.name.clone(), settings.identity.clone());
    let agent = settings.resolve()?;
    let meter = meter.meter(&name, &identity)?;
    match run_guarded(agent, meter, actuator) {
        Ok(Summary { unacknowledged, .. }) => {
            tracing::info!(unacknowledged, "ended");
            Ok(true)
        }
        Err(error) => Ok(went_wrong(&error)),
    }
}

fn went_wrong(error: &dyn std::error::Error) -> bool {
    eprintln!("grid-agent: {}", chain(error));
    false
}

#[tokio::main(flavor = "current_thread")]
async fn run_guarded(
    agent: Agent,
    meter: Box<dyn Meter>,
    actuator: Option<Box<dyn Actuator>>,
) -> Result<Summary, AgentError> {
    match agent {
        Agent::Device(common, device) => {
            let actuator = actuator.unwrap_or_else(|| Box::new(Advice::new(device.capabilities.max_ma)));
            run_device(common, device, meter, actuator, shutdown::signalled()).await
        }
        Agent::Transformer(common, transformer) => {
            run_transformer(common, transformer, meter, shutdown::signalled()).await
        }
    }
}
