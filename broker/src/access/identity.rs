//! Who a client is, what it shows to prove that, and why it is not let in.

use std::fmt;
use std::sync::Arc;

use grid_protocol::identity::{Authority, IdentityError, Serial};
use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use thiserror::Error;

use crate::access::users::PasswordHash;

/// What a client shows when it connects. Its `Debug` does not show the password.
#[derive(Clone, Default)]
pub struct Credentials {
    /// Its TLS certificate (DER). The handshake has proved that it holds the key, nothing else.
    pub certificate: Option<Vec<u8>>,
    /// User name of the CONNECT.
    pub user: Option<String>,
    /// Password of the CONNECT.
    pub password: Option<Vec<u8>>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate.as_ref().map(Vec::len))
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "(not shown)"))
            .finish()
    }
}

/// Who a client is, and by what that was proved: [`Access::rights`](crate::Access::rights) looks at both again after
/// each reload.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        serial: Serial,
        /// Who issued it.
        authority: Arc<Authority>,
    },
    /// Who knows a user's password.
    User {
        /// The user's name.
        name: String,
        /// The role that the settings give it.
        role: Role,
        /// What its password was checked against.
        password_hash: PasswordHash,
    },
}

/// Whose a session is. Sessions are found by this and the client id, so nobody can take over another's by its id.
///
/// It does not change with a new certificate or a new password.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The broker itself.
    Broker,
    /// Whoever comes, where the broker is open.
    Anyone,
    /// Who has a certificate of this name.
    Certified(Name),
    /// A user.
    User(String),
}

impl Identity {
    /// The name that subscribers are told in the MQTT 5 user property `publisher`; `None` if there is none to tell.
    pub fn publisher(&self) -> Option<&str> {
        match self {
            Self::Anyone => None,
            Self::Certified { name, .. } => Some(name.as_str()),
            Self::User { name, .. } => Some(name),
        }
    }

    /// Its role, if it has one.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Anyone => None,
            Self::Certified { role, .. } | Self::User { role, .. } => Some(*role),
        }
    }

    /// Whose its sessions are.
    pub fn owner(&self) -> Owner {
        match self {
            Self::Anyone => Owner::Anyone,
            Self::Certified { name, .. } => Owner::Certified(name.clone()),
            Self::User { name, .. } => Owner::User(name.clone()),
        }
    }

    /// Whether it is one of the site's machines, for which room is kept. On an open broker everybody may be.
    pub fn is_machine(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::Certified { role, .. } => matches!(role, Role::Transformer | Role::Device | Role::Anchor),
            Self::User { .. } => false,
        }
    }

    /// What to say of one that [`Access::rights`](crate::Access::rights) does not know any more.
    pub fn gone(&self) -> Denied {
        Denied::Gone(self.to_string())
    }

    /// The client id to use when the CONNECT says `asked`; `None` if the broker is to assign one.
    ///
    /// What speaks for itself on the grid has its name as client id, so that there is one of each (lease rule 8). People
    /// and their programs may have several connections, each with the id that it likes.
    pub fn client_id(&self, asked: &str) -> Result<Option<String>, Denied> {
        match self {
            Self::Certified { name, role: Role::Transformer | Role::Device | Role::Anchor, .. } => {
                if asked.is_empty() || asked == name.as_str() {
                    Ok(Some(name.to_string()))
                } else {
                    Err(Denied::ClientId { asked: shortened(asked), name: name.clone() })
                }
            }
            Self::Anyone | Self::User { .. } | Self::Certified { role: Role::Operator | Role::Guest, .. } => {
                Ok((!asked.is_empty()).then(|| asked.to_owned()))
            }
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Certified { name, role, .. } => write!(f, "{role} {name}"),
            Self::User { name, role, .. } => write!(f, "user {name} ({role})"),
        }
    }
}

/// Why somebody is not let in. This is for the log: the client is told no more than whether it should try another
/// password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denied {
    /// No certificate and no user name.
    #[error("neither a certificate nor a user name was shown")]
    Nothing,
    /// The certificate proves nothing here.
    #[error("its certificate does not count: {0}")]
    Certificate(String),
    /// The certificate is for another site.
    #[error("{name} has a certificate of the site {site}, which this is not")]
    OtherSite {
        /// The name in it.
        name: Name,
        /// The site in it.
        site: Name,
    },
    /// The certificate was revoked.
    #[error("the certificate of {name} with the serial number {serial} is revoked")]
    Revoked {
        /// The name in it.
        name: Name,
        /// Its serial number.
        serial: Serial,
    },
    /// Who leads which devices is for the settings to say.
    #[error("{0} has a transformer's certificate, but the settings have no [[transformer]] with this name")]
    UnknownTransformer(Name),
    /// There is no such user.
    #[error("there is no user {0:?}")]
    UnknownUser(String),
    /// The user has another password.
    #[error("wrong password for the user {0:?}")]
    WrongPassword(String),
    /// It was revoked, removed or changed.
    #[error("{0} may not be here any more: revoked, or removed from the settings, or changed in them")]
    Gone(String),
    /// What speaks for itself must have its name as client id.
    #[error("the client id {asked:?} is not the name in its certificate, {name}")]
    ClientId {
        /// What the CONNECT said, shortened.
        asked: String,
        /// What it should have said.
        name: Name,
    },
}

impl Denied {
    /// Whether the client should be told *bad user name or password* (5: 0x86, 3.1.1: 0x04), rather than *not authorized*
    /// (5: 0x87, 3.1.1: 0x05).
    pub fn is_bad_login(&self) -> bool {
        match self {
            Self::UnknownUser(_) | Self::WrongPassword(_) => true,
            Self::Nothing
            | Self::Certificate(_)
            | Self::OtherSite { .. }
            | Self::Revoked { .. }
            | Self::UnknownTransformer(_)
            | Self::Gone(_)
            | Self::ClientId { .. } => false,
        }
    }
}

impl From<IdentityError> for Denied {
    fn from(error: IdentityError) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// As much of what a client said as belongs in a log.
pub fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certified(role: Role) -> Identity {
        let issuer = grid_protocol::identity::Issuer::create(
            &"s".parse().unwrap(),
            grid_protocol::units::UnixMillis(1_800_000_000_000),
        );
        Identity::Certified {
            name: "cp-1".parse().unwrap(),
            role,
            serial: Serial::from_bytes(&[1]).unwrap(),
            authority: Arc::new(issuer.unwrap().authority()),
        }
    }

    #[test]
    fn what_speaks_for_itself_has_its_name_as_client_id() {
        for role in [Role::Transformer, Role::Device, Role::Anchor] {
            let identity = certified(role);
            assert_eq!(identity.client_id("cp-1"), Ok(Some("cp-1".to_owned())));
            assert_eq!(identity.client_id(""), Ok(Some("cp-1".to_owned())));
            assert!(matches!(identity.client_id("cp-2"), Err(Denied::ClientId { .. })), "{role}");
        }
    }

    #[test]
    fn people_have_the_client_ids_that_they_like_and_cannot_take_over_a_devices_session() {
        let user = Identity::User {
            name: "anna".to_owned(),
            role: Role::Operator,
            password_hash: PasswordHash::from("x".to_owned()),
        };
        for identity in [&user, &certified(Role::Operator), &certified(Role::Guest), &Identity::Anyone] {
            assert_eq!(identity.client_id("cp-1"), Ok(Some("cp-1".to_owned())));
            assert_eq!(identity.client_id(""), Ok(None));
        }
        assert_ne!(user.owner(), certified(Role::Device).owner());
        assert_eq!((user.publisher(), Identity::Anyone.publisher()), (Some("anna"), None));
    }

    #[test]
    fn a_password_is_never_shown() {
        let credentials =
            Credentials { certificate: None, user: Some("anna".to_owned()), password: Some(b"geheim".to_vec()) };
        let shown = format!("{credentials:?}");
        assert!(shown.contains("anna") && shown.contains("not shown"), "{shown}");
        assert!(!shown.contains("geheim") && !shown.contains("103, 101"), "{shown}");
    }
}
