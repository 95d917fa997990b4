//! Why a setup was not done, and what to do about it.

use grid_protocol::message::Role;
use grid_service::setup::{BadSettings, SetupError};

/// Why the anchor is not set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupFailure {
    /// A question, a file or the service.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The bundle is another's.
    #[error(
        "this is the bundle of a {0}, not of an anchor{hint}",
        hint = if matches!(.0, Role::Device | Role::Transformer) { ": use grid-agent setup" } else { "" }
    )]
    OtherRole(Role),
    /// The settings, those that are there or those that the answers make.
    #[error(transparent)]
    Settings(#[from] BadSettings),
}
