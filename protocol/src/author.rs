//! Who signs: a name on a site, a message key, a session, and the sequence number that counts in it.

use ed25519_dalek::SigningKey;
use serde::Serialize;

use crate::message::{Header, Message, Session};
use crate::seal::{SealError, seal};
use crate::topic::{Kind, Name, Topic};
use crate::units::UnixMillis;

/// One run of an agent or the anchor, as the source of its signed messages.
pub struct Author {
    site: Name,
    name: Name,
    session: Session,
    last_seq: u64,
    key: SigningKey,
}

/// A signed message, ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Where to publish it.
    pub topic: Topic,
    /// Its place in the session; `None` where it is not logged, and in a last will.
    pub seq: Option<u64>,
    /// The payload with its signature.
    pub payload: Vec<u8>,
}

impl Author {
    /// A new session of `name`. The session is 64 random bits that the caller draws.
    pub fn new(site: Name, name: Name, session: Session, key: SigningKey) -> Self {
        Self { site, name, session, last_seq: 0, key }
    }

    /// The site on which this author speaks.
    pub fn site(&self) -> &Name {
        &self.site
    }

    /// The author's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// The sequence number of the newest numbered message; 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Signs a numbered message on the author's own topic of this kind.
    pub fn say<B: Serialize>(&mut self, kind: Kind, body: B, time_ms: UnixMillis) -> Result<Signed, SealError> {
        let device = self.name.clone();
        self.say_to(&device, kind, body, time_ms)
    }

    /// Signs a numbered message on another device's topic.
    pub fn say_to<B: Serialize>(
        &mut self,
        device: &Name,
        kind: Kind,
        body: B,
        time_ms: UnixMillis,
    ) -> Result<Signed, SealError> {
        let signed = self.sign(device, kind, Some(self.last_seq + 1), body, time_ms)?;
        self.last_seq += 1;
        Ok(signed)
    }

    /// Signs a message without a number: acks, replays and last wills.
    pub fn say_unnumbered<B: Serialize>(
        &self,
        device: &Name,
        kind: Kind,
        body: B,
        time_ms: UnixMillis,
    ) -> Result<Signed, SealError> {
        self.sign(device, kind, None, body, time_ms)
    }

    fn sign<B: Serialize>(
        &self,
        device: &Name,
        kind: Kind,
        seq: Option<u64>,
        body: B,
        time_ms: UnixMillis,
    ) -> Result<Signed, SealError> {
        let topic = Topic::new(&self.site, device, kind);
        let header = Header { from: self.name.clone(), session: self.session, seq, time_ms };
        let payload = seal(&topic, &Message { header, body }, &self.key)?;
        Ok(Signed { topic, seq, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Event;

    #[test]
    fn numbers_count_over_all_topics_and_only_what_was_signed() {
        let name: Name = "trafo-1".parse().unwrap();
        let key = SigningKey::from_bytes(&[1; 32]);
        let mut author = Author::new("demo".parse().unwrap(), name.clone(), Session(7), key);
        let first = author.say(Kind::Event, Event::FailsafeLeft {}, UnixMillis(1)).unwrap();
        let too_long = Event::MeterFailed { why: "x".repeat(9000) };
        assert!(author.say(Kind::Event, too_long, UnixMillis(2)).is_err());
        let second =
            author.say_to(&"cp-1".parse().unwrap(), Kind::Setpoint, Event::FailsafeLeft {}, UnixMillis(3)).unwrap();
        let unnumbered = author.say_unnumbered(&name, Kind::Status, Event::FailsafeLeft {}, UnixMillis(4)).unwrap();
        assert_eq!((first.seq, second.seq, unnumbered.seq), (Some(1), Some(2), None));
        assert_eq!(second.topic.to_string(), "grid/demo/cp-1/setpoint");
        assert_eq!(author.last_seq(), 2);
    }
}
