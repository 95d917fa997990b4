//! `grid-broker hash-password`: what the settings hold of a user's password.

use std::io::{self, BufRead, IsTerminal};

use clap::Args;
use grid_broker::{BadHash, PasswordHash};
use thiserror::Error;

/// Print the Argon2id hash of a password, for `password_hash` in the settings. The password is the first line of standard
/// input; typed in a terminal it can be seen.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  grid-broker hash-password < password.txt\n\nThe settings then say:\n  [[user]]\n  \
                        name = \"anna\"\n  role = \"operator\"\n  password_hash = \"$argon2id$v=19$m=9216,t=4,p=1$…\"\n\n\
                        Exit codes: 0 printed, 2 no password given."
)]
pub struct Arguments {}

/// Why there is no hash.
#[derive(Debug, Error)]
pub enum Failure {
    /// Nothing came.
    #[error("standard input has no password in its first line; for example: grid-broker hash-password < password.txt")]
    Empty,
    /// Standard input failed.
    #[error("standard input cannot be read: {0}")]
    Input(#[from] io::Error),
    /// The hash could not be made.
    #[error(transparent)]
    Hash(#[from] BadHash),
}

impl Arguments {
    /// Reads a password and prints its hash.
    pub fn execute(&self) -> Result<(), Failure> {
        if io::stdin().is_terminal() {
            eprintln!("Password, ended by Enter:");
        }
        let mut line = Vec::new();
        io::stdin().lock().read_until(b'\n', &mut line)?;
        let password = line.strip_suffix(b"\n").unwrap_or(&line);
        let password = password.strip_suffix(b"\r").unwrap_or(password);
        if password.is_empty() {
            return Err(Failure::Empty);
        }
        println!("{}", PasswordHash::create(password)?.as_str());
        Ok(())
    }
}
