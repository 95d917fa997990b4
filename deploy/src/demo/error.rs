//! What can go wrong with a street in one process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use grid_agent::meter::MeterError;
use grid_agent::run::AgentError;
use grid_anchor::initialise::InitError;
use grid_anchor::policy::BadPolicy;
use grid_anchor::service::AnchorError;
use grid_anchor::verify::LedgerFailure;
use grid_broker::BrokerError;
use grid_ledger::LedgerError;
use grid_ledger::mock::MockError;
use grid_protocol::identity::IssueError;
use grid_protocol::topic::{Name, Topic};
use grid_protocol::units::Millis;

/// Why the street could not be started, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder is in use.
    #[error("{0} is not empty: each run makes its own site with its own keys, so give it a folder of its own")]
    NotEmpty(PathBuf),
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The broker that runs already cannot be used.
    #[error(
        "the broker {broker} cannot be used: {why}; the street needs one that speaks MQTT 5 and asks for no login, or \
         starts its own without --broker"
    )]
    Unusable {
        /// As it was given.
        broker: String,
        /// Why.
        why: String,
    },
    /// Another street is on that broker.
    #[error(
        "on the broker {broker} somebody is {} already, heard on {topic}: two of one name would throw each other out; end \
         that street first, or use another broker",
        .topic.device
    )]
    Inhabited {
        /// As it was given.
        broker: String,
        /// Where it was heard.
        topic: Topic,
    },
    /// The limit is too low for the meters' margin, or absurdly high.
    #[error("a limit of {0} W cannot be kept: expected 1000 to 10000000")]
    Limit(u64),
    /// The day does not fit.
    #[error("a day of {day} does not fit into {run:?}: give it at least 10 s")]
    TooShort {
        /// The day's length.
        day: Millis,
        /// The run's.
        run: Duration,
    },
    /// No certificate could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A simulated meter could not be opened.
    #[error("a simulated meter could not be opened: {0}")]
    Meter(#[from] MeterError),
    /// A simulated chip could not be attached.
    #[error("a simulated chip could not be attached: {0}")]
    Chip(#[from] grid_agent::simulated_ina219::SimulationError),
    /// The anchor ended by itself.
    #[error("the anchor ended")]
    Anchor(#[from] AnchorError),
    /// The log could not be tied to a trail.
    #[error("no trail could be made on the mock ledger")]
    Init(#[from] InitError),
    /// The log could not be verified.
    #[error("the log could not be verified")]
    Verify(#[from] LedgerFailure),
    /// The mock ledger does not answer.
    #[error("the mock ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// The mock ledger ended by itself.
    #[error("the mock ledger ended")]
    Mock(#[from] MockError),
    /// The policy could not be read.
    #[error("the policy could not be read")]
    Policy(#[from] BadPolicy),
    /// The broker ended by itself.
    #[error("the broker ended")]
    Broker(#[from] BrokerError),
    /// An agent ended by itself.
    #[error("agent {name} ended")]
    Agent {
        /// Which.
        name: Name,
        /// Why.
        source: AgentError,
    },
    /// A task panicked.
    #[error("a part of the street crashed")]
    Crashed(#[from] tokio::task::JoinError),
}
