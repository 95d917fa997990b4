//! Why a setup was not done, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use grid_broker::BadHash;
use grid_service::setup::{BadSettings, SetupError};

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
    /// The settings, those that are there or those that the answers make.
    #[error(transparent)]
    Settings(#[from] BadSettings),
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
}
