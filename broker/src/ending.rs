//! Why a connection ends, and how the client is told.

use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError};
use thiserror::Error;

use crate::access::Denied;

/// Why a connection ends. The text goes into the log.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Ending {
    /// The client said goodbye; its will is discarded, unless it asked for it (MQTT 5 reason 0x04).
    #[error("client disconnected{}", if *.with_will { " and asked for its will" } else { "" })]
    Goodbye {
        /// Whether the will is to be published.
        with_will: bool,
    },
    /// The TCP connection ended without DISCONNECT.
    #[error("connection lost: {0}")]
    Lost(String),
    /// No CONNECT in time.
    #[error("no CONNECT within {0:?}")]
    ConnectTimeout(std::time::Duration),
    /// Nothing received for one and a half times the keep-alive (\[MQTT-3.1.2-22\]).
    #[error("nothing received for 1.5 times its keep-alive of {0} s")]
    KeepAlive(u16),
    /// The client takes nothing off its socket.
    #[error("took nothing for {0:?} while messages waited")]
    Stalled(std::time::Duration),
    /// Another connection uses the same client id (\[MQTT-3.1.4-2\]).
    #[error("its client id connected again")]
    TakenOver,
    /// The broker stops.
    #[error("the broker is shutting down")]
    ShuttingDown,
    /// The client broke the protocol; the codec noticed.
    #[error("protocol violation: {0}")]
    Codec(MqttError),
    /// The client broke a rule of the protocol that the codec does not know.
    #[error("protocol violation: {0}")]
    Violation(&'static str),
    /// A packet type whose fixed header has the wrong flags (\[MQTT-2.1.3-1\]), or bytes that cannot be a packet.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// A topic name that nobody may publish to.
    #[error("topic name {0:?} is not valid")]
    InvalidTopic(String),
    /// An application message above the limit.
    #[error("payload of {size} bytes; at most {max} are accepted")]
    PayloadTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Too many QoS 1 and 2 messages wait for the client.
    #[error("too many QoS 1 and 2 messages wait for it")]
    QueueFull,
    /// It was revoked, or its user was removed.
    #[error("it may not be here any more")]
    NotAllowedAnyMore,
    /// A new topic beyond the limit.
    #[error("topic {0:?} is one too many for this broker")]
    TooManyTopics(String),
    /// The CONNECT was refused, with a CONNACK where the version has a code for it.
    #[error("refused: {0}")]
    Refused(Refusal),
    /// The router does not answer.
    #[error("the router does not answer")]
    RouterGone,
}

impl Ending {
    /// The reason code for MQTT 5 clients; `None` when there is nobody to tell. (Where the codec has queued a DISCONNECT
    /// of its own, it lets no second one through.)
    pub fn reason(&self) -> Option<DisconnectReasonCode> {
        use DisconnectReasonCode as Code;
        Some(match self {
            Self::Goodbye { .. } | Self::Lost(_) | Self::ConnectTimeout(_) | Self::Refused(_) => return None,
            Self::Codec(error) => (*error).into(),
            Self::KeepAlive(_) => Code::KeepAliveTimeout,
            Self::Stalled(_) | Self::QueueFull | Self::TooManyTopics(_) => Code::QuotaExceeded,
            Self::TakenOver => Code::SessionTakenOver,
            Self::ShuttingDown => Code::ServerShuttingDown,
            Self::Violation(_) => Code::ProtocolError,
            Self::Malformed(_) => Code::MalformedPacket,
            Self::InvalidTopic(_) => Code::TopicNameInvalid,
            Self::PayloadTooLarge { .. } => Code::PacketTooLarge,
            Self::NotAllowedAnyMore => Code::NotAuthorized,
            Self::RouterGone => Code::UnspecifiedError,
        })
    }

    /// Whether the client's session may go on with another connection, if it asked for that.
    pub fn keeps_session(&self) -> bool {
        !matches!(self, Self::QueueFull | Self::NotAllowedAnyMore | Self::ShuttingDown | Self::RouterGone)
    }

    /// Whether the client's will is to be published (MQTT 5 section 3.1.2.5).
    pub fn publishes_will(&self) -> bool {
        match self {
            Self::Goodbye { with_will } => *with_will,
            // Everybody else leaves as well, so nobody would hear it.
            Self::ShuttingDown | Self::RouterGone => false,
            // It may not say anything any more.
            Self::NotAllowedAnyMore => false,
            _ => true,
        }
    }
}

/// Why a CONNECT is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Nobody knows who it is, or it may not be here. The client is not told why.
    #[error("{0}")]
    Denied(Denied),
    /// An empty client id without clean session (3.1.1), or one with a NUL.
    #[error("client id not valid")]
    ClientId,
    /// As many clients as the broker takes are connected.
    #[error("too many clients")]
    Busy,
    /// MQTT 5 enhanced authentication.
    #[error("enhanced authentication is not available")]
    AuthenticationMethod,
    /// A will topic that nobody may publish to.
    #[error("the will's topic {0:?} is not valid")]
    WillTopic(String),
    /// A will topic that this client may not publish to.
    #[error("it may not publish to the will's topic {0:?}")]
    WillNotAuthorized(String),
    /// A will above the payload limit.
    #[error("the will is too large")]
    WillTooLarge,
}

impl Refusal {
    /// The code for an MQTT 5 client.
    pub fn reason(&self) -> ConnectReasonCode {
        match self {
            Self::Denied(denied) if denied.is_bad_login() => ConnectReasonCode::BadUserNameOrPassword,
            Self::Denied(Denied::ClientId { .. }) | Self::ClientId => ConnectReasonCode::ClientIdentifierNotValid,
            Self::Denied(_) | Self::WillNotAuthorized(_) => ConnectReasonCode::NotAuthorized,
            Self::Busy => ConnectReasonCode::ServerBusy,
            Self::AuthenticationMethod => ConnectReasonCode::BadAuthenticationMethod,
            Self::WillTopic(_) => ConnectReasonCode::TopicNameInvalid,
            Self::WillTooLarge => ConnectReasonCode::PacketTooLarge,
        }
    }

    /// The code for a 3.1.1 client; `None` where it has none, and the connection is closed without CONNACK.
    pub fn return_code(&self) -> Option<ConnectReturnCode> {
        match self {
            Self::Denied(denied) if denied.is_bad_login() => Some(ConnectReturnCode::BadUserNameOrPassword),
            Self::Denied(Denied::ClientId { .. }) | Self::ClientId => Some(ConnectReturnCode::IdentifierRejected),
            Self::Denied(_) | Self::WillNotAuthorized(_) => Some(ConnectReturnCode::NotAuthorized),
            Self::Busy => Some(ConnectReturnCode::ServerUnavailable),
            Self::AuthenticationMethod | Self::WillTopic(_) | Self::WillTooLarge => None,
        }
    }
}
