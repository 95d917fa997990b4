//! The demo: a whole street in one process, of the same parts that run on separate machines elsewhere.
//!
//! Broker, transformer, charge points and anchor speak to each other through the broker's port like everybody else. Only
//! what they measure and limit is simulated: INA219 chips down to their registers ([`grid_agent::simulated_ina219`]) and,
//! behind those, the plant ([`crate::plant`]).

mod charger;
mod report;
mod street;
mod watch;

pub use report::{Report, SessionLine};
pub use street::{Demo, DemoError, MOCK_STATE, Options, Pace, Progress};
pub use watch::{Latency, Watch};
