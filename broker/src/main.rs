//! `grid-broker`: the broker as a program.

mod ca;
mod check;
mod cli;
mod setup;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// MQTT broker for the devices behind one transformer.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  sudo grid-broker setup\n  sudo grid-broker ca issue cp-1 --role device\n  grid-broker run \
                                 --listen 127.0.0.1:1883"
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(cli::run::Arguments),
    HashPassword(cli::hash_password::Arguments),
    /// The site's certificate authority: who may connect, as whom.
    Ca(ca::Arguments),
    Setup(setup::Arguments),
    Check(check::Arguments),
    /// Write the manual pages into a folder, as the packages have them.
    #[command(hide = true)]
    Man {
        /// The folder. It must be there.
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let outcome = match command {
        Command::Ca(arguments) => return ca::run(arguments),
        Command::Setup(arguments) => return setup::run(arguments),
        Command::Check(arguments) => return check::run(&arguments),
        Command::Run(arguments) => {
            grid_service::log::begin("grid-broker", "info");
            arguments.execute().map_err(|failure| {
                grid_service::last_words("grid-broker", &failure.to_string());
                failure.exit_code()
            })
        }
        Command::Man { folder } => clap_mangen::generate_to(Arguments::command(), folder).map_err(|failure| {
            eprintln!("grid-broker: {failure}");
            2
        }),
        Command::HashPassword(arguments) => arguments.execute().map_err(|failure| {
            eprintln!("grid-broker: {failure}");
            2
        }),
    };
    outcome.map_or_else(ExitCode::from, |()| ExitCode::SUCCESS)
}
