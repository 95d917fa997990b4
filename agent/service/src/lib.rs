//! What every service of the street shares: settings, logging, clock, shutdown, and the connection to the broker.
//!
//! Agent and anchor are shells around pure cores. This crate is the part of the shell that they have in common.

use std::io::IsTerminal;

pub mod broker;
pub mod clock;
pub mod file;
pub mod identity;
pub mod link;
pub mod settings;
pub mod shutdown;
mod tls;
pub mod watchdog;

/// Sends log lines to standard error. `RUST_LOG` chooses what is shown; without it, `default` does (`info`, `warn`, …).
pub fn log_to_stderr(default: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(format!("{default},rumqttd=off,rumqttc=warn")));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    lines.with_target(false).with_ansi(colours).init();
}

/// An error with what caused it, for a person.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}
