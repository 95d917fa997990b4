//! A mosquitto bridges to our broker, with the configuration in `deploy/examples/mosquitto-bridge`, and loses nothing
//! that is published at QoS 1: neither while it is stopped, nor while the connection between both is cut.
//!
//! A second mosquitto in the place of our broker shows that the story itself is right.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "peers/mosquitto.rs"]
mod mosquitto;
mod support;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;

use mosquitto::{ForeignBroker, free_address};
use rumqttc::{AsyncClient, Event, MqttOptions, Packet, QoS};
use support::{Broker, within};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

const EXAMPLE: &str = include_str!("../../deploy/examples/mosquitto-bridge/mosquitto.conf");
const STATE: &str = "bridge/street/state";
const EVENT: &str = "grid/demo/cp-1/event";
const ORDER: &str = "grid/demo/trafo-1/set/limit";
/// Messages published in each situation and direction.
const MESSAGES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_mosquitto_that_bridges_to_our_broker_loses_nothing_at_qos_1() {
    let broker = Broker::start().await;
    bridge_to(broker.address).await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mosquitto_that_bridges_to_another_mosquitto_loses_nothing_at_qos_1() {
    let (address, folder) = (free_address(), tempfile::tempdir().unwrap());
    let configuration = format!("listener {} 127.0.0.1\nallow_anonymous true\n", address.port());
    let _remote = ForeignBroker::start(folder.path(), &configuration, address);
    bridge_to(address).await;
}

/// The whole story, with the broker at `street` as the remote side of the bridge.
async fn bridge_to(street: SocketAddr) {
    let cable = Cable::to(street).await;
    let (local, folder) = (free_address(), tempfile::tempdir().unwrap());
    let configuration = example_with(local, cable.address, &format!("{}/", folder.path().display()));
    let bridge = ForeignBroker::start(folder.path(), &configuration, local);

    let mut house = Client::subscribe("house", local, &["grid/#", STATE]).await;
    let mut device = Client::subscribe("device", street, &["grid/+/+/set/#"]).await;
    let mut speaker = Client::subscribe("speaker", street, &[]).await;
    let mut person = Client::subscribe("person", local, &[]).await;
    // The bridge says that it is up before the street has its subscription.
    while house.try_receive(Duration::from_millis(100)).await != Some((EVENT.to_owned(), "are you there?".to_owned())) {
        speaker.publish(EVENT, "are you there?").await;
    }
    speaker.publish(EVENT, "good").await;
    house.receive_until(EVENT, "good").await;

    speaker.publish_all(EVENT, "while it is up").await;
    house.receive_all(EVENT, "while it is up").await;
    person.publish_all(ORDER, "while it is up").await;
    device.receive_all(ORDER, "while it is up").await;
    // Each order once: none came back from the street.
    house.receive_all(ORDER, "while it is up").await;

    (house.may_repeat, device.may_repeat) = (true, true);
    bridge.stop();
    speaker.publish_all(EVENT, "while it is stopped").await;
    let _bridge = ForeignBroker::start(folder.path(), &configuration, local);
    house.receive_all(EVENT, "while it is stopped").await;

    cable.connected.send_replace(false);
    house.expect_state("0").await;
    speaker.publish_all(EVENT, "while the cable is cut").await;
    person.publish_all(ORDER, "while the cable is cut").await;
    house.receive_all(ORDER, "while the cable is cut").await;
    cable.connected.send_replace(true);
    house.receive_all(EVENT, "while the cable is cut").await;
    device.receive_all(ORDER, "while the cable is cut").await;
}

/// The example with other addresses and another folder. A setting that it has no more fails the test.
fn example_with(local: SocketAddr, street: SocketAddr, folder: &str) -> String {
    let mut text = EXAMPLE.to_owned();
    for (from, to) in [
        ("\nlistener 1884 127.0.0.1\n", format!("\nlistener {} 127.0.0.1\n", local.port())),
        ("\naddress 127.0.0.1:1883\n", format!("\naddress {street}\n")),
        ("\npersistence_location /var/lib/mosquitto/\n", format!("\npersistence_location {folder}\n")),
    ] {
        assert!(text.contains(from), "the example has no line {from:?}");
        text = text.replace(from, &to);
    }
    text
}

/// What lies between both brokers, and can be cut.
struct Cable {
    address: SocketAddr,
    connected: watch::Sender<bool>,
}

impl Cable {
    async fn to(street: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.clone();
                tokio::spawn(async move {
                    if *state.borrow_and_update() {
                        let mut far = TcpStream::connect(street).await?;
                        tokio::select! {
                            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                            _ = state.changed() => {}
                        }
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Self { address, connected }
    }
}

/// A client with a session that is kept; it connects again whenever its connection ends.
struct Client {
    client: AsyncClient,
    received: mpsc::UnboundedReceiver<(String, String)>,
    acknowledged: mpsc::UnboundedReceiver<()>,
    polling: JoinHandle<()>,
    /// What the bridge last said about itself.
    state: String,
    /// Topic and text of what was received.
    seen: HashSet<(String, String)>,
    /// Whether what was received already may come again, as QoS 1 allows where a connection is lost before the PUBACK.
    may_repeat: bool,
}

impl Client {
    /// Connects, and waits until all filters are subscribed to.
    async fn subscribe(id: &str, broker: SocketAddr, filters: &'static [&'static str]) -> Self {
        let mut options = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        options.set_clean_session(false).set_keep_alive(Duration::from_secs(5));
        let (client, mut events) = AsyncClient::new(options, 1000);
        for filter in filters {
            client.subscribe(*filter, QoS::AtLeastOnce).await.unwrap();
        }
        let (receiving, received) = mpsc::unbounded_channel();
        let (acknowledging, acknowledged) = mpsc::unbounded_channel();
        let (subscribing, mut subscribed) = mpsc::unbounded_channel();
        let polling = tokio::spawn(async move {
            loop {
                match events.poll().await {
                    Ok(Event::Incoming(Packet::Publish(message))) => {
                        let text = String::from_utf8(message.payload.to_vec()).unwrap();
                        let _ = receiving.send((message.topic, text));
                    }
                    Ok(Event::Incoming(Packet::PubAck(_))) => drop(acknowledging.send(())),
                    Ok(Event::Incoming(Packet::SubAck(_))) => drop(subscribing.send(())),
                    Ok(_) => {}
                    // The broker is not there at the moment.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            }
        });
        for _ in filters {
            within(subscribed.recv()).await.unwrap();
        }
        Self { client, received, acknowledged, polling, state: String::new(), seen: HashSet::new(), may_repeat: false }
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    async fn publish(&mut self, topic: &str, text: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, text).await.unwrap();
        within(self.acknowledged.recv()).await.unwrap();
    }

    async fn publish_all(&mut self, topic: &str, when: &str) {
        for number in 1..=MESSAGES {
            self.publish(topic, &format!("{number} {when}")).await;
        }
    }

    /// The next message that is not about the bridge itself, if it comes in time.
    async fn try_receive(&mut self, limit: Duration) -> Option<(String, String)> {
        let next = async {
            loop {
                let (topic, text) = self.received.recv().await.unwrap();
                if topic != STATE {
                    return (topic, text);
                }
                self.state = text;
            }
        };
        tokio::time::timeout(limit, next).await.ok()
    }

    /// Waits for this message; others may come before it.
    async fn receive_until(&mut self, topic: &str, text: &str) {
        while self.receive(text).await != (topic.to_owned(), text.to_owned()) {}
    }

    async fn receive(&mut self, waiting_for: &str) -> (String, String) {
        self.try_receive(support::LONG).await.unwrap_or_else(|| panic!("{waiting_for:?} did not come"))
    }

    /// The next new messages are exactly these.
    async fn receive_all(&mut self, topic: &str, when: &str) {
        for number in 1..=MESSAGES {
            let text = format!("{number} {when}");
            let mut next = self.receive(&text).await;
            while self.may_repeat && self.seen.contains(&next) {
                next = self.receive(&text).await;
            }
            self.seen.insert(next.clone());
            assert_eq!(next, (topic.to_owned(), text));
        }
    }

    /// Waits until the bridge says this about itself; nothing new may arrive before.
    async fn expect_state(&mut self, expected: &str) {
        while self.state != expected {
            let (topic, text) = within(self.received.recv()).await.unwrap();
            if topic == STATE {
                self.state = text;
            } else {
                let message = (topic, text);
                let known = self.may_repeat && self.seen.contains(&message);
                assert!(known, "{message:?} before the bridge said {expected}");
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.polling.abort();
    }
}
