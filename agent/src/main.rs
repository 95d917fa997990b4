//! `grid-agent`: one device behind the transformer.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use grid_agent::actuator::{Actuator, Advice};
use grid_agent::meter::{Meter, open_linux};
use grid_agent::run::{Summary, run_device, run_transformer};
use grid_agent::settings::{Agent, Settings};
use grid_agent::status;
use grid_service::clock::unix_now;
use grid_service::{chain, log_to_stderr, shutdown};

/// One device behind the transformer: it measures, obeys leased limits, and signs what it says.
#[derive(Parser)]
#[command(version, after_help = "Example:\n  grid-agent run --config /etc/grid/agent.toml")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the agent until SIGINT or SIGTERM.
    #[command(after_help = "Example:\n  grid-agent run --config /etc/grid/agent.toml")]
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
    #[command(after_help = "Example:\n  grid-agent status --config /etc/grid/agent.toml --json")]
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
    #[command(after_help = "Example:\n  grid-agent safe --config /etc/grid/agent.toml")]
    Safe {
        /// The agent's settings (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Read the agent's meter and print one reading per line.
    #[command(after_help = "Example:\n  grid-agent read --config /etc/grid/agent.toml --count 5")]
    Read {
        /// The agent's settings (TOML).
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How many readings to print.
        #[arg(long, default_value_t = 1)]
        count: u32,
    },
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log_to_stderr("info");
    let result = match arguments.command {
        Command::Run { config, print_config: true } => print(&config).map(|()| true),
        Command::Run { config, print_config: false } => run(&config).map(|()| true),
        Command::Status { config, json } => tell_status(&config, json),
        Command::Safe { config } => safe(&config),
        Command::Read { config, count } => read(&config, count).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("grid-agent: {}", chain(error.as_ref()));
            ExitCode::from(2)
        }
    }
}

fn print(config: &std::path::Path) -> Result<(), Failure> {
    println!("{}", toml::to_string(&Settings::load(config)?)?);
    Ok(())
}

/// Says whether all is well.
fn tell_status(config: &std::path::Path, json: bool) -> Result<bool, Failure> {
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
fn safe(config: &std::path::Path) -> Result<bool, Failure> {
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

fn read(config: &std::path::Path, count: u32) -> Result<(), Failure> {
    let mut meter = open_linux(Settings::load(config)?.meter)?;
    for _ in 0..count {
        let reading = meter.read(Duration::from_secs(2))?;
        let phases = reading.phases.iter().map(|phase| {
            let bound = if phase.saturated { " or more" } else { "" };
            format!("{} mA{bound} at {} mV", phase.current.0, phase.voltage.0)
        });
        println!("{}", phases.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

fn run(config: &std::path::Path) -> Result<(), Failure> {
    let settings = Settings::load(config)?;
    // The safe state comes before all that may fail or take a while.
    let actuator = settings.guarded_actuator()?;
    run_guarded(settings, actuator)
}

#[tokio::main(flavor = "current_thread")]
async fn run_guarded(settings: Settings, actuator: Option<Box<dyn Actuator>>) -> Result<(), Failure> {
    let chips = settings.meter.clone();
    let agent = settings.resolve()?;
    let meter = Box::new(open_linux(chips)?);
    let Summary { unacknowledged, .. } = match agent {
        Agent::Device(common, device) => {
            let actuator = actuator.unwrap_or_else(|| Box::new(Advice::new(device.capabilities.max_ma)));
            run_device(common, device, meter, actuator, shutdown::signalled()).await?
        }
        Agent::Transformer(common, transformer) => {
            run_transformer(common, transformer, meter, shutdown::signalled()).await?
        }
    };
    tracing::info!(unacknowledged, "ended");
    Ok(())
}
