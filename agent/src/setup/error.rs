//! Why a setup was not done, and what to do about it.

use grid_protocol::message::Role;
use grid_service::setup::{BadCredentials, BadSettings, SetupError};

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
    /// The settings, those that are there or those that the answers make.
    #[error(transparent)]
    Settings(#[from] BadSettings),
}
