//! A site with a throw-away authority, its broker, and what its agents need.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use grid_agent::lease::Terms;
use grid_agent::run::{Common, Credentials, OutboxSettings, Probe};
use grid_agent::transformer::{Enrolment, NOMINAL_VOLTS, Plan};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{Capabilities, DeviceKind, Phase, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::broker::Broker;
use grid_service::clock::unix_now;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Failure;

pub const TRANSFORMER: &str = "trafo-1";
pub const ANCHOR: &str = "anchor-1";
/// Less is not charging (IEC 61851-1).
pub const LEAST: MilliAmps = MilliAmps(6_000);
/// A meter of the scale model has a new reading about this often: an INA219 that averages 16 samples takes 8.51 ms each
/// for shunt and bus (TI SBOS448, table 5).
pub const READING: Duration = Duration::from_millis(17);
/// What the transformer's meter promises, as the INA219's does.
pub const EXPECTED_INTERVAL: Millis = Millis(167);

/// Tells the running broker, when dropped, to end.
pub struct Site {
    pub name: Name,
    issuer: Issuer,
    address: SocketAddr,
    broker: JoinHandle<()>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.broker.abort();
    }
}

impl Site {
    /// Starts a broker on a free port of the loopback address.
    pub async fn open() -> Result<Self, Failure> {
        let name: Name = "bench".parse()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let broker = async move {
            let running = grid_broker::run(
                listener.into(),
                grid_broker::Limits::default(),
                grid_broker::Access::open(),
                std::future::pending(),
            );
            if let Err(error) = running.await {
                eprintln!("the broker has ended: {}", grid_service::chain(&error));
            }
        };
        Ok(Self { issuer: Issuer::create(&name, unix_now())?, name, address, broker: tokio::spawn(broker) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn broker(&self) -> Broker {
        broker_at(self.address.port())
    }

    pub fn credentials(&self, name: &Name, role: Role) -> Result<Credentials, Failure> {
        let key = SigningKey::generate(&mut rand::rngs::OsRng);
        let identity = Identity { site: self.name.clone(), role, name: name.clone(), key: key.verifying_key() };
        let (certificate, _) = self.issuer.issue(&identity, unix_now())?;
        let authority = self.issuer.authority();
        Ok(Credentials { site: self.name.clone(), name: name.clone(), certificate, key, authority })
    }

    pub fn common(&self, name: &Name, role: Role, probe: Option<Arc<dyn Probe>>) -> Result<Common, Failure> {
        common(self.credentials(name, role)?, self.address.port(), probe)
    }
}

pub fn broker_at(port: u16) -> Broker {
    Broker::plain(&Ipv4Addr::LOCALHOST.to_string(), port)
}

pub fn common(credentials: Credentials, port: u16, probe: Option<Arc<dyn Probe>>) -> Result<Common, Failure> {
    let broker = broker_at(port);
    let anchor = ANCHOR.parse()?;
    // Nothing is said again: what is measured is control, and the acknowledger covers the transformer alone.
    let replay_after = Millis(3_600_000);
    let outbox = OutboxSettings::in_memory();
    Ok(Common { credentials, broker, anchor, replay_after, outbox, simulation: None, probe, home_assistant: None })
}

/// What a transformer of this benchmark keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Street {
    pub devices: usize,
    pub limit: MilliAmps,
    pub margin: MilliAmps,
    pub ttl: Millis,
    pub connected: Connected,
}

/// How devices are connected.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Connected {
    /// To all three phases.
    ThreePhase,
    /// Every third to all three phases, the others to one, in turn.
    Mixed,
}

impl Connected {
    pub fn phases(self, device: usize) -> Vec<Phase> {
        match (self, device % 9) {
            (Self::ThreePhase, _) | (Self::Mixed, 0 | 3 | 6) => Phase::ALL.to_vec(),
            (Self::Mixed, 1 | 2) => vec![Phase::L1],
            (Self::Mixed, 4 | 5) => vec![Phase::L2],
            (Self::Mixed, _) => vec![Phase::L3],
        }
    }
}

impl Street {
    pub fn plan(&self) -> Result<Plan, Failure> {
        let enrolment = |device| {
            let phases = self.connected.phases(device);
            Ok(Enrolment { name: device_name(device)?, phases, failsafe_ma: MilliAmps::ZERO, fuse: None })
        };
        let devices = (0..self.devices).map(enrolment).collect::<Result<_, Failure>>()?;
        // The least that is no less on each phase.
        let limit_w = u64::try_from(self.limit.0 * 3 * NOMINAL_VOLTS)?.div_ceil(1000);
        let terms = Terms { ttl: self.ttl, max_ttl: self.ttl };
        Ok(Plan { margin_ma: Some(self.margin), ..Plan::new(limit_w, terms, devices) })
    }

    pub fn capabilities(&self, device: usize, max: MilliAmps) -> Capabilities {
        Capabilities::any_current(DeviceKind::Ev, self.connected.phases(device), LEAST, max)
    }
}

pub fn device_name(device: usize) -> Result<Name, Failure> {
    Ok(format!("cp-{}", device + 1).parse()?)
}
