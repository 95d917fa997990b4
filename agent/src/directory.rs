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
            // Behind the session that speaks now, so that old births, said again, cannot push it out.
            sessions.truncate(SESSIONS - 1);
            sessions.insert(sessions.len().min(1), (header.session, identity));
        }
        Ok(status)
    }

    /// Opens a message of `expected`: form, sender and signature.
    pub fn open<B: DeserializeOwned>(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        expected: &Name,
    ) -> Result<Message<B>, Distrust> {
        let sealed = Sealed::parse(payload)?;
        let header: Header = sealed.read()?;
        if header.from != *expected {
            return Err(Distrust::WrongSender { from: header.from, expected: expected.clone() });
        }
        let stranger = || Distrust::Stranger(header.from.clone(), header.session);
        let sessions = self.known.get_mut(expected).ok_or_else(stranger)?;
        let place = sessions.iter().position(|(session, _)| *session == header.session).ok_or_else(stranger)?;
        sealed.verify(&topic.to_string(), &sessions[place].1.key)?;
        sessions.swap(0, place);
        Ok(sealed.read()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use grid_protocol::author::Author;
    use grid_protocol::identity::Issuer;
    use grid_protocol::message::{Event, Part, Phase, Presence, Role};

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    struct Street {
        issuer: Issuer,
        site: Name,
        name: Name,
    }

    impl Street {
        fn new() -> Self {
            let site: Name = "demo".parse().unwrap();
            Self { issuer: Issuer::create(&site, NOW).unwrap(), site, name: "trafo-1".parse().unwrap() }
        }

        fn directory(&self) -> Directory {
            Directory::new(self.site.clone(), self.issuer.authority())
        }

        /// The transformer in a session of its own key, with its birth.
        fn born(&self, number: u8) -> (Author, grid_protocol::author::Signed) {
            let key = SigningKey::from_bytes(&[number; 32]);
            let (site, name) = (self.site.clone(), self.name.clone());
            let identity = Identity { site, name, role: Role::Transformer, key: key.verifying_key() };
            let (certificate, _) = self.issuer.issue(&identity, NOW).unwrap();
            let session = Session(u64::from(number));
            let mut author = Author::new(self.site.clone(), self.name.clone(), session, key);
            let status = Status {
                state: Presence::Online,
                part: Part::Transformer { phases: Phase::ALL.to_vec() },
                software: String::new(),
                time_factor: 1,
                plant_time_ms: None,
                ends: None,
                previous: None,
                certificate: STANDARD.encode(certificate),
            };
            let birth = author.say(Kind::Status, status, NOW).unwrap();
            (author, birth)
        }
    }

    #[test]
    fn who_was_born_is_believed_on_its_own_topic_and_strangers_are_not() {
        let street = Street::new();
        let mut directory = street.directory();
        let (mut author, birth) = street.born(1);
        let said = author.say(Kind::Event, Event::FailsafeLeft {}, NOW).unwrap();
        let open = |directory: &mut Directory| directory.open::<Event>(&said.topic, &said.payload, &street.name);
        assert!(matches!(open(&mut directory), Err(Distrust::Stranger(..))));
        directory.learn(&birth.topic, &birth.payload, NOW).unwrap();
        assert_eq!(open(&mut directory).unwrap().body, Event::FailsafeLeft {});
        let elsewhere = "grid/demo/trafo-2/event".parse().unwrap();
        assert!(matches!(
            directory.open::<Event>(&elsewhere, &said.payload, &street.name),
            Err(Distrust::Signature(BadSignature))
        ));
        let other = "trafo-2".parse().unwrap();
        assert!(matches!(
            directory.open::<Event>(&said.topic, &said.payload, &other),
            Err(Distrust::WrongSender { .. })
        ));
    }

    #[test]
    fn another_sites_birth_is_not_believed() {
        let (_, birth) = Street::new().born(1);
        let learned = Street::new().directory().learn(&birth.topic, &birth.payload, NOW);
        assert!(matches!(learned, Err(Distrust::Certificate(_))));
    }

    #[test]
    fn old_births_said_again_do_not_push_out_who_speaks_now() {
        let street = Street::new();
        let mut directory = street.directory();
        let (mut author, birth) = street.born(1);
        directory.learn(&birth.topic, &birth.payload, NOW).unwrap();
        for number in 2..20 {
            let (_, old) = street.born(number);
            directory.learn(&old.topic, &old.payload, NOW).unwrap();
        }
        let said = author.say(Kind::Event, Event::FailsafeLeft {}, NOW).unwrap();
        directory.open::<Event>(&said.topic, &said.payload, &street.name).unwrap();
    }
}
