//! The broker that the street speaks through: one of its own, or one that runs already.
//!
//! A broker knows each client by its id, and agents connect under their names. So two streets on one broker would throw
//! each other out, and a street does not begin where somebody speaks under one of its names; only two that begin within
//! seconds of each other do not notice. What an earlier street left there, such as the last wills of one that died, does
//! no harm: each run has an authority of its own, and agents believe
//! no other's certificates.

use std::net::SocketAddr;
use std::time::Duration;

use grid_broker::BrokerError;
use grid_protocol::topic::{Kind, Name, Topic};
use grid_service::link::{Delivery, Incoming, Link, Loss};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::DemoError;
use super::setup::{Options, anchor_name, name, site_name, transformer_name};
use super::street::told;

/// How long other streets are listened for: a transformer says its balance every second.
const LISTEN: Duration = Duration::from_millis(2500);

/// Which broker the street speaks through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broker {
    /// One of its own, which listens there on loopback. `None`: at the usual port, or another if that is taken.
    Own(Option<SocketAddr>),
    /// One that runs already and asks for no login, as `HOST:PORT`. It goes on when the street ends.
    Running(String),
}

/// The street's own broker.
pub(super) struct OwnBroker {
    task: JoinHandle<Result<(), BrokerError>>,
    stop: watch::Sender<bool>,
}

impl OwnBroker {
    pub(super) fn start(listener: TcpListener) -> Self {
        let (stop, told_broker) = watch::channel(false);
        let (limits, access) = (grid_broker::Limits::default(), grid_broker::Access::open());
        Self { task: tokio::spawn(grid_broker::run(listener.into(), limits, access, told(told_broker))), stop }
    }

    pub(super) async fn end(self) -> Result<(), DemoError> {
        self.stop.send_replace(true);
        Ok(self.task.await??)
    }
}

pub(super) fn settings(address: SocketAddr) -> grid_service::broker::Broker {
    grid_service::broker::Broker::plain(&address.ip().to_string(), address.port())
}

/// Finds the broker at `place`, and makes sure that nobody there speaks under the names of this street.
pub(super) async fn find(place: &str, options: &Options) -> Result<SocketAddr, DemoError> {
    let unusable = |why| DemoError::Unusable { broker: place.to_owned(), why };
    let spoken = ["grid/+/+/balance", "grid/+/+/measurement"].map(str::to_owned);
    let mut why = "it has no address".to_owned();
    for address in lookup_host(place).await.map_err(|error| unusable(error.to_string()))? {
        let (link, mut incoming) = match visit(address, spoken.to_vec()).await {
            Ok(visit) => visit,
            Err(refusal) => {
                why = refusal;
                continue;
            }
        };
        let ours: Vec<Name> = names(options).collect();
        let heard = timeout(LISTEN, somebody(&mut incoming, &ours)).await;
        link.close().await;
        return match heard {
            Ok(topic) => Err(DemoError::Inhabited { broker: place.to_owned(), topic }),
            Err(_silence) => Ok(address),
        };
    }
    Err(unusable(why))
}

/// Where somebody speaks under one of these names. Waits for it.
async fn somebody(incoming: &mut mpsc::Receiver<Incoming>, names: &[Name]) -> Topic {
    while let Some(happened) = incoming.recv().await {
        if let Incoming::Message(received) = happened
            && !received.retained
            && let Ok(topic) = received.topic.parse::<Topic>()
            && names.contains(&topic.device)
        {
            return topic;
        }
    }
    std::future::pending().await
}

/// Removes what the street has retained on a broker that is not its own.
pub(super) async fn clear(address: SocketAddr, options: &Options) {
    let topic = |device, kind| Topic { site: site_name(), device, kind };
    let status = names(options).map(|name| topic(name, Kind::Status));
    let others = [topic(transformer_name(), Kind::Balance), topic(anchor_name(), Kind::Checkpoint)];
    // The receiver is kept until the end: a link that nobody listens to ends at once.
    let (link, _incoming) = match visit(address, Vec::new()).await {
        Ok(visit) => visit,
        Err(why) => {
            tracing::warn!(why, "what the street has retained stays on the broker");
            return;
        }
    };
    for topic in status.chain(others) {
        // An empty message that is to be retained removes what is (MQTT 5, 3.3.1.3).
        if let Err(why) = link.publish(&topic.to_string(), Vec::new(), Delivery::AssuredRetained) {
            tracing::warn!(%topic, %why, "what is retained there stays on the broker");
        }
    }
    link.close().await;
}

/// Under what names a street connects.
fn names(options: &Options) -> impl Iterator<Item = Name> {
    let points = options.street.charge_points().iter().map(|point| point.name.clone());
    points.chain([transformer_name(), anchor_name()])
}

/// Connects under a name that nobody else has, and without a last will. Says in words why it cannot.
async fn visit(address: SocketAddr, filters: Vec<String>) -> Result<(Link, mpsc::Receiver<Incoming>), String> {
    let visitor = name(&format!("visitor-{:016x}", rand::random::<u64>()));
    let (link, mut incoming) = Link::open(&settings(address), &visitor, filters);
    loop {
        match incoming.recv().await {
            Some(Incoming::Connected) => return Ok((link, incoming)),
            Some(Incoming::Dialing(_) | Incoming::Message(_)) => {}
            Some(Incoming::Lost(Loss::Broken(why))) => return Err(why),
            Some(Incoming::Lost(Loss::ThrownOut)) | None => return Err("it ends the connection".to_owned()),
        }
    }
}
