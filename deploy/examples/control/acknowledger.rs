//! Stands in for the anchor: tells the transformer, once a second, that all it said is on disk. Without that its outbox
//! would grow and be measured along.

use grid_agent::run::Credentials;
use grid_protocol::author::Author;
use grid_protocol::message::{Ack, Header, Part, Presence, Session, Status};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Name};
use grid_service::broker::Broker;
use grid_service::clock::unix_now;
use grid_service::link::{Delivery, Incoming, Link, Received};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::fleet::certificate_text;

/// Ends when dropped.
pub struct Acknowledger(JoinHandle<()>);

impl Drop for Acknowledger {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Acknowledger {
    pub fn start(credentials: Credentials, transformer: Name, broker: &Broker) -> Self {
        let balance = format!("grid/{}/{transformer}/balance", credentials.site);
        let (link, incoming) = Link::open(broker, &credentials.name, vec![balance]);
        let running = Running { credentials, transformer, link };
        Self(tokio::spawn(async move {
            if let Err(error) = running.run(incoming).await {
                eprintln!("the acknowledger has ended: {error}");
            }
        }))
    }
}

struct Running {
    credentials: Credentials,
    transformer: Name,
    link: Link,
}

impl Running {
    async fn run(self, mut incoming: mpsc::Receiver<Incoming>) -> Result<(), Failure> {
        let Credentials { site, name, key, .. } = self.credentials.clone();
        let mut author = Author::new(site, name, Session(rand::random()), key);
        while let Some(happened) = incoming.recv().await {
            match happened {
                Incoming::Connected => {
                    let status = Status {
                        state: Presence::Online,
                        part: Part::Anchor {},
                        software: "control benchmark".to_owned(),
                        time_factor: 1,
                        plant_time_ms: None,
                        ends: None,
                        previous: None,
                        certificate: certificate_text(&self.credentials.certificate),
                    };
                    let birth = author.say(Kind::Status, status, unix_now())?;
                    self.link.publish(&birth.topic.to_string(), birth.payload, Delivery::AssuredRetained)?;
                }
                Incoming::Message(received) => self.acknowledge(&author, &received)?,
                Incoming::Dialing(_) | Incoming::Lost(_) => {}
            }
        }
        Ok(())
    }

    /// A balance is numbered like all that its transformer says, and comes once a second.
    fn acknowledge(&self, author: &Author, balance: &Received) -> Result<(), Failure> {
        let header: Header = Sealed::parse(&balance.payload)?.read()?;
        let Some(through) = header.seq else { return Ok(()) };
        let ack = Ack { of: header.session, through, missing: Vec::new(), tree_size: through };
        let ack = author.say_unnumbered(&self.transformer, Kind::Ack, ack, unix_now())?;
        self.link.publish(&ack.topic.to_string(), ack.payload, Delivery::Once)?;
        Ok(())
    }
}
