//! The MQTT broker of the street: rumqttd's router behind a door of our own.
//!
//! One TCP port takes MQTT 3.1.1 and MQTT 5; the version is taken from the CONNECT. The router (crate `rumqttd`) finds
//! out who gets which message, and does that fast. Its own listeners and sessions are not used, because ordinary
//! traffic stops them; everything that concerns one client is done by the door:
//!
//! ```text
//!  TCP ── connection ── wire (mqtt-protocol-core: bytes ↔ packets)
//!              │  └──── outbox (bounded), subscriptions, will
//!              │
//!   retained ──┼── gate ── router (rumqttd) ── reader of each subscribed client
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `settings`, `limits` | [`Settings`]: what a person configures; [`Limits`]: every limit and time, with its rule |
//! | `access` | [`Access`]: who is who, and who may do what |
//! | `reload` | [`Reload`]: what is read again while the broker runs |
//! | `server` | [`run`]: accept, heartbeat, stop |
//! | `login`, `connection` | one client from its first byte to its will |
//! | `wire`, `request`, `ending` | packets of both versions in one vocabulary; why a connection ends |
//! | `outbox`, `subscriptions` | what waits for a client; which message becomes which delivery |
//! | `clients` | one connection per client id; takeover |
//! | `retained` | retained messages |
//! | `gate`, `router`, `link`, `topic`, `message` | the way through the router, and why nothing can hurt it |
//!
//! # What it offers
//!
//! QoS 0 and 1. A subscription that asks for 2 is granted 1; a message published at QoS 2 ends the connection (5:
//! reason 0x9B). Retained messages, wills, keep-alive, takeover of a client id, MQTT 5 properties of messages
//! (stripped for 3.1.1 subscribers), message expiry, no local, retain handling, retain as published, subscription
//! identifiers, receive maximum and maximum packet size of the client. Not offered, and announced so in the MQTT 5
//! CONNACK: QoS 2, topic aliases, shared subscriptions.
//!
//! # What persists
//!
//! Nothing survives the broker's process: neither retained messages nor sessions. Nothing of a session survives its
//! connection either: CONNECT without clean start is accepted and answered with *session present* 0, and an MQTT 5
//! client that asks for a session expiry is told 0. Subscriptions, the messages that waited, and unacknowledged QoS 1
//! messages are gone when the connection ends; clients subscribe again after each CONNACK. The will is published as soon
//! as the connection ends, whatever will delay was asked for.
//!
//! # What can be lost
//!
//! A QoS 1 message is acknowledged when it was handed to the router and, if retained, kept. From there it reaches every
//! subscriber that stays connected; one for whom too many QoS 1 messages wait is disconnected rather than skipped. QoS 0
//! messages are dropped, oldest first, for a client that is too slow; see [`Limits::max_queued`].

mod access;
mod answers;
mod budget;
mod clients;
mod connection;
mod doors;
mod ending;
mod gate;
mod http;
mod limits;
mod link;
mod log_limit;
mod login;
mod message;
mod metrics;
mod outbox;
mod reload;
mod request;
mod retained;
mod router;
mod server;
mod session;
pub mod settings;
mod shared;
mod subscriptions;
mod sys;
mod topic;
mod unacknowledged;
mod wire;

pub use access::{Access, BadHash, Credentials, Denied, Identity, Owner, PasswordHash, Reads, Rights};
pub use doors::Sockets;
pub use limits::Limits;
pub use reload::Reload;
pub use server::{BrokerError, run};
pub use settings::{Settings, Source};
