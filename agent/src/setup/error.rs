//! Why a setup was not done, and what to do about it.

use std::path::PathBuf;

use grid_protocol::message::Role;
use grid_service::settings::SettingsError;
use grid_service::setup::{BadCredentials, SetupError};

/// Why the agent is not set up.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A question, a file or the service.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The bundle.
    #[error(transparent)]
    Credentials(#[from] BadCredentials),
    /// Nobody of this role has an agent.
    #[error("this is the bundle of an {0}, who has no agent{hint}", hint = if *.0 == Role::Anchor { ": use grid-anchor setup" } else { "" })]
    NoAgent(Role),
    /// A flag says something of somebody else.
    #[error("{flag} is for a {other}, and this is the bundle of a {is}")]
    OtherRole {
        /// The flag.
        flag: &'static str,
        /// Whom it is for.
        other: &'static str,
        /// What it is.
        is: Role,
    },
    /// There is no device.
    #[error("--failsafe-ma is for each --device of a transformer, and none is given")]
    ReservesForNobody,
    /// The settings that are there cannot be used.
    #[error("{0}\nMend that file, or move it away and run setup again")]
    Settings(SettingsError),
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
    /// The answers make no settings.
    #[error("these answers cannot be used: {0}")]
    Answers(SettingsError),
    /// What was made of the example is no settings: a fault of this program.
    #[error("the settings that were made cannot be read: {0}")]
    Made(#[from] toml::de::Error),
    /// The example is broken, or the settings that are there are no text: a fault of this program.
    #[error("the settings cannot be filled in: {0}")]
    Example(#[from] toml_edit::TomlError),
}
