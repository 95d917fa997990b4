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

/// A program's last words: to standard error, and into the line that `systemctl status` shows also when the unit has been tried
/// again meanwhile. Not to the log: the journal may look at who wrote an entry when that has ended, and not know its unit.
pub fn last_words(program: &str, why: &str) {
    eprintln!("{program}: {why}");
    systemd::Systemd::of_this_process().status(why);
}

/// An error with what caused it, for a person.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}
