//! `grid-broker`: the broker as a program.

mod cli;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing::error;

/// MQTT broker for the devices behind one transformer.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example:\n  grid-broker run --listen 127.0.0.1:1883")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(cli::run::Arguments),
    HashPassword(cli::hash_password::Arguments),
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    grid_service::log_to_stderr("info");
    match command {
        Command::Run(arguments) => arguments.execute().map_err(|failure| {
            error!("{failure}");
            failure.exit_code()
        }),
        Command::HashPassword(arguments) => arguments.execute().map_err(|failure| {
            error!("{failure}");
            2
        }),
    }
    .map_or_else(ExitCode::from, |()| ExitCode::SUCCESS)
}
