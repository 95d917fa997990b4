//! Why a setup was not done, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use grid_broker::BadHash;
use grid_service::settings::SettingsError;
use grid_service::setup::SetupError;

use crate::ca::CaError;

/// Why the broker is not set up.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A question, a file or the service.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The authority.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The settings that are there cannot be used.
    #[error("{0}\nMend that file, or move it away and run setup again")]
    Settings(#[from] SettingsError),
    /// The settings that are there say otherwise.
    #[error(
        "{file} is there, says otherwise, and stays as it is:\n  {}\nNothing was changed. Edit that file, or move it away and run setup \
         again",
        .differences.join("\n  ")
    )]
    Otherwise {
        /// The settings.
        file: PathBuf,
        /// One line each.
        differences: Vec<String>,
    },
    /// The copy of the authority's certificate is another's.
    #[error(
        "{0} is another authority's and stays as it is: move it away if nobody trusts it any more, and run setup again"
    )]
    OtherAuthority(PathBuf),
    /// The answers make no settings.
    #[error("these answers cannot be used: {0}")]
    Answers(SettingsError),
    /// What was made of the example is no TOML of settings: a fault of this program.
    #[error("the settings that were made cannot be read: {0}")]
    Made(#[from] toml::de::Error),
    /// No password can be kept.
    #[error(transparent)]
    Password(#[from] BadHash),
    /// Somebody listens there.
    #[error("cannot listen on {address}: {source}; choose another port with {flag}, or stop what uses it")]
    Port {
        /// Where.
        address: SocketAddr,
        /// What chooses another.
        flag: &'static str,
        /// Why.
        source: io::Error,
    },
    /// A mode cannot be set.
    #[error("cannot set the mode of {path}: {source}")]
    Mode {
        /// Of what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The example is broken: a fault of this program.
    #[error("the example of the settings cannot be filled in: {0}")]
    Example(#[from] toml_edit::TomlError),
}
