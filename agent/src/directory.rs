//! Who is who: the keys that births have shown, and messages opened with them.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::identity::{Authority, Identity, IdentityError};
use grid_protocol::message::{Header, Message, Session, Status};
use grid_protocol::seal::{BadSignature, OpenError, Sealed};
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::UnixMillis;
use serde::de::DeserializeOwned;

/// How many sessions of one name are remembered.
const SESSIONS: usize = 4;

/// Why a message is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// It is not a signed message.
    #[error(transparent)]
    Form(#[from] OpenError),
    /// The signature is not the sender's.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// No birth has shown the key of that sender's session.
    #[error("nobody has shown the key of {0} in session {1}")]
    Stranger(Name, Session),
    /// Somebody else than the one who may say it.
    #[error("{from} may not say this: expected {expected}")]
    WrongSender {
        /// Who says it.
        from: Name,
        /// Who may.
        expected: Name,
    },
    /// The certificate in a birth is not base64.
    #[error("the certificate in the status is not base64")]
    NotBase64,
    /// The certificate in a birth proves nothing.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// The certificate is somebody else's.
    #[error("the certificate is that of {0}")]
    OtherIdentity(String),
}

/// The keys that births have shown.
#[derive(Clone, Debug)]
pub struct Directory {
    site: Name,
    authority: Authority,
    known: BTreeMap<Name, VecDeque<(Session, Identity)>>,
}

impl Directory {
    /// An empty directory of a site.
    pub fn new(site: Name, authority: Authority) -> Self {
        Self { site, authority, known: BTreeMap::new() }
    }

    /// Checks a status (birth, goodbye or last will) and its certificate, and remembers the key of its session.
    pub fn learn(&mut self, topic: &Topic, payload: &[u8], now: UnixMillis) -> Result<Message<Status>, Distrust> {
        let sealed = Sealed::parse(payload)?;
        let status: Message<Status> = sealed.read()?;
        let certificate = STANDARD.decode(&status.body.certificate).map_err(|_| Distrust::NotBase64)?;
        let identity = self.authority.check(&certificate, now)?;
        let header = &status.header;
        let fits = identity.site == self.site
            && identity.role == status.body.part.role()
            && identity.name == header.from
            && identity.name == topic.device
            && topic.kind == Kind::Status;
        if !fits {
            return Err(Distrust::OtherIdentity(identity.to_uri()));
        }
        sealed.verify(&topic.to_string(), &identity.key)?;
        let sessions = self.known.entry(header.from.clone()).or_default();
        if !sessions.iter().any(|(session, _)| *session == header.session) {
            sessions.truncate(SESSIONS - 1);
            sessions.push_front((header.session, identity));
        }
        Ok(status)
    }

    /// Opens a message of `expected`: form, sender and signature.
    pub fn open<B: DeserializeOwned>(
        &self,
        topic: &Topic,
        payload: &[u8],
        expected: &Name,
    ) -> Result<Message<B>, Distrust> {
        let sealed = Sealed::parse(payload)?;
        let header: Header = sealed.read()?;
        if header.from != *expected {
            return Err(Distrust::WrongSender { from: header.from, expected: expected.clone() });
        }
        let sessions = self.known.get(expected).into_iter().flatten();
        let known = sessions.into_iter().find(|(session, _)| *session == header.session);
        let (_, identity) = known.ok_or_else(|| Distrust::Stranger(header.from.clone(), header.session))?;
        sealed.verify(&topic.to_string(), &identity.key)?;
        Ok(sealed.read()?)
    }
}
