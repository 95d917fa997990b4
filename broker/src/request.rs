//! What a client can want, in one vocabulary for MQTT 3.1.1 and 5.

use bytes::Bytes;

use crate::message::Qos;

/// One packet from a client.
#[derive(Clone, PartialEq, Eq)]
pub enum Request {
    /// CONNECT.
    Connect(Box<Connect>),
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK of a message that was in flight; the codec has checked that and freed its packet id.
    PubAck {
        /// Of the message.
        packet_id: u16,
    },
    /// PUBREC of a QoS 2 message that was in flight.
    PubRec {
        /// Of the message.
        packet_id: u16,
        /// Whether the client does not want it (MQTT 5): then its packet id is free again.
        refused: bool,
    },
    /// PUBREL: the client will not send this message again.
    PubRel {
        /// Of the message.
        packet_id: u16,
        /// Whether a QoS 2 message with this id was received.
        known: bool,
    },
    /// PUBCOMP of a message that was released; its packet id is free again.
    PubComp {
        /// Of the message.
        packet_id: u16,
    },
    /// SUBSCRIBE.
    Subscribe {
        /// To be repeated in the SUBACK.
        packet_id: u16,
        /// At least one.
        wanted: Vec<Wanted>,
    },
    /// UNSUBSCRIBE.
    Unsubscribe {
        /// To be repeated in the UNSUBACK.
        packet_id: u16,
        /// At least one.
        filters: Vec<String>,
    },
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect {
        /// MQTT 5 reason 0x04.
        with_will: bool,
        /// Seconds that the session is to be kept, if the client has changed its mind (MQTT 5).
        session_expiry: Option<u32>,
    },
}

/// CONNECT. Without `Debug`, since it carries a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Connect {
    /// Whether the client speaks MQTT 5 (else 3.1.1).
    pub v5: bool,
    /// May be empty: then the broker assigns one.
    pub client_id: String,
    /// Clean session (3.1.1), clean start (5).
    pub clean: bool,
    /// Seconds; 0 means none.
    pub keep_alive: u16,
    /// Unacknowledged QoS 1 and 2 messages that the client takes.
    pub receive_maximum: u16,
    /// Seconds that the client would like its session to be kept after its connection; the largest number is for ever,
    /// which is also what a 3.1.1 client without clean session means.
    pub session_expiry: u32,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Whether the client named an authentication method.
    pub enhanced_authentication: bool,
    /// Last will.
    pub will: Option<Will>,
}

/// A last will, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Topic to publish to.
    pub topic: String,
    /// Its QoS.
    pub qos: Qos,
    /// Whether it is to be retained.
    pub retain: bool,
    /// As in [`Message`](crate::message::Message).
    pub properties: Bytes,
    /// The application's bytes.
    pub payload: Bytes,
}

/// PUBLISH, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Topic name.
    pub topic: String,
    /// Its QoS.
    pub qos: Qos,
    /// RETAIN flag.
    pub retain: bool,
    /// Present above QoS 0.
    pub packet_id: Option<u16>,
    /// As in [`Message`](crate::message::Message).
    pub properties: Bytes,
    /// The application's bytes.
    pub payload: Bytes,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Topic filter, not checked yet.
    pub filter: String,
    /// The highest QoS that it wants.
    pub qos: Qos,
    /// Not what this client itself publishes.
    pub no_local: bool,
    /// Pass the RETAIN flag on as the publisher set it.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
    /// Sent along with each message that matches.
    pub identifier: Option<u32>,
}

/// When a SUBSCRIBE is answered with retained messages (MQTT 5 section 3.8.3.1; 3.1.1 always).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every subscribe.
    Always,
    /// If there was no such subscription.
    IfNew,
    /// Not at all.
    Never,
}
