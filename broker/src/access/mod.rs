//! Who is who, and who may do what.
//!
//! One [`Access`] is everything that can be loaded again while the broker runs: certificates, users, rights and
//! revocations. Connections look at the newest one through a [`watch::Receiver`], so nobody is dropped by a reload who
//! may stay.

use std::sync::Arc;

use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use rustls::ServerConfig;
use thiserror::Error;
use tokio::sync::watch;

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody in particular: the broker is open.
    Anyone,
    /// Who holds the key of a certificate of the site.
    Certified {
        /// The name in it.
        name: Name,
        /// The role in it.
        role: Role,
        /// The certificate's serial number, by which it is revoked.
        serial: Vec<u8>,
    },
    /// Who knows a user's password.
    User {
        /// The user's name.
        name: String,
        /// The role that the settings give it.
        role: Role,
    },
}

/// Whose sessions, budget and retained messages they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// Nobody's in particular.
    Anyone,
    /// Those of who has a certificate for this name.
    Certified(Name),
    /// Those of this user.
    User(String),
}

impl Identity {
    /// Whose sessions and messages are this client's.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Anyone => Owner::Anyone,
            Self::Certified { name, .. } => Owner::Certified(name.clone()),
            Self::User { name, .. } => Owner::User(name.clone()),
        }
    }

    /// Its name, for the user property `publisher`; `None` where nobody knows.
    pub fn publisher(&self) -> Option<&str> {
        match self {
            Self::Anyone => None,
            Self::Certified { name, .. } => Some(name.as_str()),
            Self::User { name, .. } => Some(name),
        }
    }

    /// Whether it is one of the site's machines, for which room is kept. On an open broker everybody may be.
    pub fn is_machine(&self) -> bool {
        matches!(self, Self::Anyone | Self::Certified { role: Role::Transformer | Role::Device | Role::Anchor, .. })
    }

    /// Why it may not be here any more.
    pub fn gone(&self) -> Denied {
        Denied::Nothing
    }

    /// The client id to use for who asks for this one.
    pub fn client_id(&self, asked: &str) -> Result<Option<String>, Denied> {
        Ok((!asked.is_empty()).then(|| asked.to_owned()))
    }
}

/// What a client shows when it connects.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// Its TLS certificate (DER). The handshake has proved that it holds the key, nothing else.
    pub certificate: Option<Vec<u8>>,
    /// User name of the CONNECT.
    pub user: Option<String>,
    /// Password of the CONNECT.
    pub password: Option<Vec<u8>>,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// No certificate and no user name.
    #[error("neither a certificate nor a user name was shown")]
    Nothing,
}

/// What a subscription to a filter may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Everything that matches it.
    All,
    /// Some of it: each message must be looked at.
    Some,
    /// Nothing at all.
    Nothing,
}

/// What one client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights;

impl Rights {
    /// Everything.
    pub fn all() -> Self {
        Self
    }

    /// Whether it may publish to `topic`.
    pub fn may_publish(&self, _topic: &str) -> bool {
        true
    }

    /// What a subscription to the valid `filter` may bring.
    pub fn reads(&self, _filter: &str) -> Reads {
        Reads::All
    }

    /// Whether it may be sent what is published to `topic`.
    pub fn may_read(&self, _topic: &str) -> bool {
        true
    }
}

/// Certificates, users, rights and revocations at one moment.
#[derive(Debug)]
pub struct Access {
    tls: Option<Arc<ServerConfig>>,
}

impl Access {
    /// Everybody may do everything.
    pub fn open() -> watch::Receiver<Arc<Self>> {
        watch::channel(Arc::new(Self { tls: None })).1
    }

    /// Everybody may do everything, also over TLS.
    pub fn open_with_tls(tls: Arc<ServerConfig>) -> Self {
        Self { tls: Some(tls) }
    }

    /// What is shown in TLS handshakes from now on.
    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.clone()
    }

    /// Who shows these credentials.
    pub async fn identify(&self, _credentials: &Credentials) -> Result<Identity, Denied> {
        Ok(Identity::Anyone)
    }

    /// What `identity` may do; `None` if it may not be here at all (any more).
    pub fn rights(&self, _identity: &Identity) -> Option<Arc<Rights>> {
        Some(Arc::new(Rights))
    }
}
