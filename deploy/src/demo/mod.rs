//! The demo: a whole street in one process, of the same parts that run on separate machines elsewhere.
//!
//! Broker, transformer, charge points and anchor speak to each other through the broker's port like everybody else; it may
//! also be somebody else's broker. Only what they measure and limit is simulated: INA219 chips down to their registers ([`grid_agent::simulated_ina219`]) and,
//! behind those, the plant ([`crate::plant`]).

mod agents;
mod broker;
mod charger;
mod error;
mod report;
mod setup;
mod street;
mod watch;

pub use broker::Broker;
pub use error::DemoError;
pub use report::{DeviceLine, Report, SessionLine};
pub use setup::{Cars, Options, Pace};
pub use street::{Demo, MOCK_STATE, Progress};
pub use watch::{Latency, Watch};
