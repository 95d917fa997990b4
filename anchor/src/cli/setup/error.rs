//! Why a setup was not done, and what to do about it.

use std::path::PathBuf;

use grid_protocol::message::Role;
use grid_service::settings::SettingsError;
use grid_service::setup::SetupError;

/// Why the anchor is not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupFailure {
    /// A question.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The bundle is another's.
    #[error(
        "this is the bundle of a {0}, not of an anchor{hint}",
        hint = if matches!(.0, Role::Device | Role::Transformer) { ": use grid-agent setup" } else { "" }
    )]
    OtherRole(Role),
    /// The copy of the authority's certificate is another's.
    #[error(
        "{0} is another authority's and stays as it is: move it away if nobody trusts it any more, and run setup again"
    )]
    OtherAuthority(PathBuf),
    /// The settings that are there cannot be used.
    #[error("{0}\nMend that file, or move it away and run setup again")]
    Settings(#[from] SettingsError),
    /// The settings that are there say otherwise.
    #[error(
        "{file} is there, says otherwise, and stays as it is:\n  {}\nNothing was changed. Edit that file, or move it away and run setup \
         again; a ledger takes grid-anchor init, too",
        .differences.join("\n  ")
    )]
    Otherwise {
        /// The settings.
        file: PathBuf,
        /// One line each.
        differences: Vec<String>,
    },
    /// What was made of the example is no settings: a fault of this program.
    #[error("the settings that were made cannot be read: {0}")]
    Made(#[from] toml::de::Error),
    /// The example is broken: a fault of this program.
    #[error("the settings cannot be filled in: {0}")]
    Example(#[from] toml_edit::TomlError),
}
