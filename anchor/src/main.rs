//! `grid-anchor`: the log of every message in the street.

use std::process::ExitCode;

use clap::Parser;
use grid_anchor::cli::{Arguments, UNKNOWN, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    grid_service::log::begin("grid-anchor", "info");
    match run(arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            grid_service::last_words("grid-anchor", &grid_service::chain(error.as_ref()));
            ExitCode::from(UNKNOWN)
        }
    }
}
