//! What comes, read once: a message, or a replay with a message in it, and whether the signatures hold.

use ed25519_dalek::VerifyingKey;
use grid_protocol::message::{Header, Replay};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Topic};
use grid_protocol::units::BootTime;

use super::Arrival;
use super::batch::{Checker, Claim};
use crate::entry::LONGEST_TOPIC;
use crate::speech::{Content, Heard, Speakers, Unverified, hear};

/// What came.
pub enum Opened<'a> {
    /// An acknowledgement: it is not logged.
    Ack,
    /// A replay that is none, or something on a topic that is too long to be logged or has a wildcard.
    Broken,
    /// A message.
    Plain(Arrival<'a>),
    /// A message in a replay.
    Replay(Box<Envelope<'a>>),
}

/// A replay without what is in it.
pub struct Envelope<'a> {
    /// Where it came.
    pub topic: Topic,
    /// Who says that he sent it.
    pub header: Header,
    sealed: Sealed<'a>,
    content: Replay,
}

/// Looks at what came.
pub fn open(arrival: Arrival) -> Opened {
    // Nobody can publish on a topic with a wildcard (MQTT 5 section 3.3.2.1), whatever a broker says: such a one is ours.
    if arrival.topic.len() > LONGEST_TOPIC || arrival.topic.contains(['#', '+']) {
        return Opened::Broken;
    }
    match arrival.topic.parse::<Topic>() {
        Ok(Topic { kind: Kind::Ack, .. }) => Opened::Ack,
        Ok(topic @ Topic { kind: Kind::Replay, .. }) => {
            Envelope::read(topic, arrival.payload).map_or(Opened::Broken, |envelope| Opened::Replay(Box::new(envelope)))
        }
        Ok(_) | Err(_) => Opened::Plain(arrival),
    }
}

impl<'a> Envelope<'a> {
    /// Reads the form, which is wrong too if there is something in it that is not logged.
    fn read(topic: Topic, payload: &'a [u8]) -> Option<Self> {
        let sealed = Sealed::parse(payload).ok()?;
        let header = sealed.read().ok()?;
        let content: Replay = sealed.read().ok()?;
        let is_logged = content.topic.parse().is_ok_and(|inner: Topic| inner.kind.is_logged());
        (is_logged && content.topic.len() <= LONGEST_TOPIC).then_some(Self { topic, header, sealed, content })
    }

    fn claim(&self, key: VerifyingKey) -> Claim {
        claim(&self.sealed, &self.topic.to_string(), key)
    }
}

/// A message that came, read once.
pub struct Reading<'a> {
    /// The message; of a replay, the one in it.
    pub arrival: Arrival<'a>,
    /// What it says.
    pub heard: Result<Heard<'a>, Unverified>,
    /// Whether its signature holds, if that was checked.
    pub verdict: Option<Verdict>,
    /// The replay that brought it.
    pub envelope: Option<&'a Envelope<'a>>,
    /// Whether that one's signature holds, if that was checked.
    pub envelope_verdict: Option<Verdict>,
}

impl<'a> Reading<'a> {
    /// Reads the message, if there is one.
    pub fn of(opened: &'a Opened<'a>) -> Option<Self> {
        let (arrival, envelope) = match opened {
            Opened::Ack | Opened::Broken => return None,
            Opened::Plain(arrival) => (*arrival, None),
            Opened::Replay(envelope) => {
                let Replay { topic, payload } = &envelope.content;
                (Arrival { topic, payload: payload.as_bytes(), retained: false }, Some(&**envelope))
            }
        };
        let heard = hear(arrival.topic, arrival.payload);
        Some(Self { arrival, heard, verdict: None, envelope, envelope_verdict: None })
    }

    /// Whether the signature of the replay that brought it holds for this key.
    pub fn envelope_holds(&self, envelope: &Envelope, key: &VerifyingKey) -> bool {
        let checked = self.envelope_verdict.and_then(|verdict| verdict.under(key));
        checked.unwrap_or_else(|| envelope.sealed.verify(&envelope.topic.to_string(), key).is_ok())
    }
}

/// What the common check of a batch says about a signature.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    key: VerifyingKey,
    holds: bool,
}

impl Verdict {
    /// Whether the signature holds under this key; nothing if another was tried.
    pub fn under(&self, key: &VerifyingKey) -> Option<bool> {
        (self.key == *key).then_some(self.holds)
    }
}

/// Checks together all signatures whose key is known already.
pub fn check_together(read: &mut [Reading], speakers: &Speakers, checker: &mut Checker, now: BootTime) {
    let key_of = |header: &Header| Some(speakers.certificate_of(&header.from, header.session)?.identity.key);
    let mut claims = Vec::new();
    let mut places: Vec<&mut Option<Verdict>> = Vec::new();
    for Reading { arrival, heard, verdict, envelope, envelope_verdict } in read {
        if let Some(envelope) = envelope
            && let Some(key) = key_of(&envelope.header)
        {
            claims.push(envelope.claim(key));
            places.push(envelope_verdict);
        }
        // A status is judged by the certificate in it.
        if let Ok(Heard::Signed(signed)) = heard
            && matches!(signed.content, Content::Overflow { .. } | Content::Other)
            && let Some(key) = key_of(&signed.header)
        {
            claims.push(claim(signed.sealed(), arrival.topic, key));
            places.push(verdict);
        }
    }
    let holds = checker.check(&claims, now);
    for ((claim, holds), place) in claims.iter().zip(holds).zip(places) {
        *place = Some(Verdict { key: claim.key, holds });
    }
}

fn claim(sealed: &Sealed, topic: &str, key: VerifyingKey) -> Claim {
    Claim { key, message: sealed.signed_bytes(topic), signature: sealed.signature() }
}
