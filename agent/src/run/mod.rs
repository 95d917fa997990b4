//! The shell: connects the pure cores to meter, actuator, broker and clock.
//!
//! One task per agent owns its core, so nothing is shared and nothing is locked. The meter has a thread of its own, since
//! reading a sensor blocks.

mod clock_watch;
mod complaints;
mod contact;
mod device;
mod evidence;
mod outage;
mod sampling;
mod station;
mod transformer;

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use grid_protocol::identity::Authority;
use grid_protocol::message::{Phase, Reference, Session};
use grid_protocol::seal::SealError;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis, UnixMillis};
use grid_service::broker::Broker;
use grid_service::clock::unix_now;

use crate::commands::KeptError;
use crate::gpio::GpioError;
use crate::home_assistant::HomeAssistant;

pub use device::{DeviceSettings, run_device};
pub use evidence::{DEVICE_DISK_BYTES, MEMORY_BYTES, OutboxSettings, SOCKET as STATUS_SOCKET, TRANSFORMER_DISK_BYTES};
pub use transformer::{DimmingContact, TransformerSettings, run_transformer};

/// Who an agent is, and whom it believes.
#[derive(Clone)]
pub struct Credentials {
    /// The site.
    pub site: Name,
    /// The agent's name.
    pub name: Name,
    /// Its own certificate, DER.
    pub certificate: Vec<u8>,
    /// The key that signs its messages.
    pub key: SigningKey,
    /// The site's authority.
    pub authority: Authority,
}

/// What every agent needs.
#[derive(Clone)]
pub struct Common {
    /// Who it is.
    pub credentials: Credentials,
    /// Where the broker is.
    pub broker: Broker,
    /// Who acknowledges its messages.
    pub anchor: Name,
    /// How long a message may stay unacknowledged before it is said again.
    pub replay_after: Millis,
    /// Where its messages wait for that.
    pub outbox: OutboxSettings,
    /// In a simulation: how the plant's time relates to the clock.
    pub simulation: Option<Simulation>,
    /// Somebody who watches, or nobody.
    pub probe: Option<Arc<dyn Probe>>,
    /// Home Assistant, if it is to be told.
    pub home_assistant: Option<HomeAssistant>,
}

impl Common {
    /// The civil time that people mean: the plant's in a simulation.
    fn civil_now(&self) -> UnixMillis {
        let now = unix_now();
        self.simulation.map_or(now, |simulation| simulation.plant_time(now))
    }
}

/// A simulated plant's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// How many times faster than the clock it runs.
    pub time_factor: u32,
    /// The civil time at which it started, in the plant.
    pub plant_start: UnixMillis,
    /// The civil time at which it started, on the clock.
    pub clock_start: UnixMillis,
}

impl Simulation {
    /// The plant's civil time at `now` on the clock.
    pub fn plant_time(&self, now: UnixMillis) -> UnixMillis {
        UnixMillis(self.plant_start.0 + now.0.saturating_sub(self.clock_start.0) * u64::from(self.time_factor))
    }
}

/// Watches an agent from inside the same process: the demo measures with it, and checks the rule of the system.
/// Times are microseconds since boot.
pub trait Probe: Send + Sync {
    /// A transformer has sent a setpoint for which a reading taken at `read_at` was decisive.
    fn decided(&self, setpoint: Reference, read_at: u64);
    /// A transformer is about to send a setpoint that may raise `device`, since all that devices could be entitled to
    /// on its phases fits into `room`.
    fn raising(&self, device: &Name, room: [MilliAmps; 3]);
    /// A transformer is about to keep another limit, in watts.
    fn limit_changed(&self, limit_w: u64);
    /// A device's actuator has been set as this setpoint demands.
    fn obeyed(&self, setpoint: Reference, at: u64);
}

/// What an agent did, known when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Each session with the number of its last message.
    pub sessions: Vec<(Session, u64)>,
    /// How many messages were never acknowledged.
    pub unacknowledged: u64,
}

/// Why an agent ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A message could not be built: a fault of this program.
    #[error("a message could not be signed")]
    Seal(#[from] SealError),
    /// The connection's task has ended.
    #[error("the connection to the broker has ended for good")]
    LinkEnded,
    /// The meter's thread has ended.
    #[error("the meter's thread has ended")]
    MeterEnded,
    /// The operating system refuses a thread.
    #[error("no thread for meter or contact: {0}")]
    Thread(#[source] std::io::Error),
    /// The commands that are in force cannot be read.
    #[error(transparent)]
    Commands(#[from] KeptError),
    /// The dimming contact cannot be read.
    #[error("transformer.dimming_contact: {0}")]
    Contact(#[from] GpioError),
    /// The epoch cannot be kept.
    #[error("the transformer's epoch cannot be kept in {file}: {source}")]
    Epoch {
        /// The file.
        file: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Spreads what a meter of these phases reads over L1, L2 and L3.
fn over_all_phases(phases: &[Phase], current: &[MilliAmps]) -> [MilliAmps; 3] {
    let mut all = [MilliAmps::ZERO; 3];
    phases.iter().zip(current).for_each(|(phase, current)| all[phase.index()] = *current);
    all
}
