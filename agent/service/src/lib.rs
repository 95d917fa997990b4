//! What every service of the street shares: settings, logging, setting up, clock, shutdown, and the connection to the broker.
//!
//! Agent and anchor are shells around pure cores. This crate is the part of the shell that they have in common.

pub mod broker;
pub mod clock;
pub mod file;
pub mod identity;
pub mod link;
pub mod log;
pub mod reach;
pub mod settings;
pub mod setup;
pub mod shutdown;
pub mod systemd;
mod tls;

/// An error with what caused it, for a person.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}
