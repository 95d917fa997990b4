//! The MQTT broker of the street: rumqttd's router behind doors of our own.
//!
//! A door takes MQTT 3.1.1 and MQTT 5 on one port, plain, in TLS, in WebSocket, or in both; the version is taken from the
//! CONNECT. The router (crate `rumqttd`) finds out who gets which message, and does that fast. Its own listeners and
//! sessions are not used, because ordinary traffic stops them; everything that concerns one client is done here:
//!
//! ```text
//!  TCP ─ TLS ─ WebSocket ── connection ── wire (mqtt-protocol-core: bytes ↔ packets)
//!        doors                  │  └───── session: outbox (bounded), subscriptions, what is not acknowledged
//!                               │
//!   access (who may what) ──────┤
//!                               │
//!         retained ─────────────┼── gate ── router (rumqttd) ── reader of each session
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `settings`, `limits` | [`Settings`]: what a person configures; [`Limits`]: every limit and time, with its rule |
//! | `access` | [`Access`]: who is who, and who may do what |
//! | `reload` | [`Reload`]: what is read again while the broker runs |
//! | `server` | [`run`]: doors, heartbeat, stop |
//! | `doors` | listeners, handshakes of TLS and WebSocket |
//! | `login`, `connection`, `answers` | one client from its first byte to its will |
//! | `session`, `outbox`, `subscriptions`, `unacknowledged` | what outlives a connection |
//! | `wire`, `request`, `ending` | packets of both versions in one vocabulary; why a connection ends |
//! | `clients`, `budget` | one connection per session; takeover; how fast one client may send |
//! | `retained`, `revocations` | retained messages; among them the list of revoked certificates |
//! | `gate`, `router`, `link`, `topic`, `message` | the way through the router, and why nothing can hurt it |
//! | `sys`, `metrics`, `http`, `log_limit` | what the broker says about itself |
//!
//! # What it offers
//!
//! QoS 0, 1 and 2. Sessions that outlive their connection, with MQTT 5 expiry. Retained messages, wills, keep-alive,
//! takeover of a session, MQTT 5 properties of messages (stripped for 3.1.1 subscribers), message expiry, no local, retain
//! handling, retain as published, subscription identifiers, receive maximum and maximum packet size of the client.
//! Not offered: topic aliases and shared subscriptions, which the MQTT 5 CONNACK says, and will delay, for which it has no
//! word: a will is published as soon as its connection ends.
//!
//! Each message of a client that is known by name carries its name as MQTT 5 user property `publisher`. Nobody else can
//! write that property.
//!
//! # What persists
//!
//! Nothing survives the broker's process, neither retained messages nor sessions: devices publish their status again when
//! they reconnect, and keep evidence themselves until it is acknowledged.
//!
//! A session survives its connection if the client asked for that: 3.1.1 without clean session, 5 with a session expiry,
//! at most for [`Limits::max_session_expiry`]. It belongs to an identity and a client id, so nobody takes over another's.
//!
//! # What can be lost
//!
//! A QoS 1 or 2 message is acknowledged when it was handed to the router and, if retained, kept. From there it reaches
//! every subscriber whose session lasts; a session for which too many such messages wait is ended rather than robbed of
//! some, and its client is told (*session present* 0). QoS 0 messages are dropped, oldest first, for a client that is too
//! slow, and are not kept for one that is away; see [`Limits::max_queued`]. Whatever somebody did not get is counted by
//! reason, in `$SYS/broker/publish/messages/dropped/…` and in the metrics.

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
mod revocations;
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
