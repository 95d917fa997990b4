//! Who said what: the one rule by which intake and verifier judge a message.
//!
//! A message counts as said by somebody if its signature holds for the message key in that somebody's certificate, the
//! site's authority issued the certificate, and the sender may speak on the topic: a device on its own, a transformer
//! also on the setpoint topics of others. Certificates come from the log itself: each device's status carries its own.
//! A message is judged by the status of its own session that stands before it in the log, else by the newest status of
//! its device that does; a status by the certificate in it.
//!
//! The authority itself signs which certificates are revoked. From a list on, a message that is judged by a certificate
//! in it proves nothing, whenever it claims to have been said: whoever holds a stolen key can write any date. What stands
//! before the list counts as before. No list takes back what another said: what any of them names stays revoked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::identity::{Authority, Identity, IdentityError, Serial, serial_of};
use grid_protocol::message::{Event, Header, PreviousSession, Role, Session};
use grid_protocol::revocation::{self, RevocationError, Revocations};
use grid_protocol::seal::{OpenError, Sealed};
use grid_protocol::topic::{BadTopic, Kind, Name, Topic};
use grid_protocol::units::UnixMillis;
use serde::{Deserialize, Serialize};

/// Why a message proves nothing about its sender.
#[derive(Debug, thiserror::Error)]
pub enum Unverified {
    /// Its topic is none of the grid's.
    #[error(transparent)]
    Topic(#[from] BadTopic),
    /// Its topic is another site's, or of a kind that is not logged.
    #[error("messages on {0} are not logged")]
    NotLogged(Topic),
    /// It has not the form of a signed message.
    #[error(transparent)]
    Form(#[from] OpenError),
    /// It has no sequence number where it needs one.
    #[error("it has no sequence number from 1 on")]
    Unnumbered,
    /// Its sender may not speak there.
    #[error("{from} may not speak on {topic}")]
    Sender {
        /// Who claims to have sent it.
        from: Name,
        /// Where.
        topic: Topic,
    },
    /// No status of the sender is known.
    #[error("no status of {0} with its certificate came before it")]
    Unknown(Name),
    /// The certificate is not text in base64.
    #[error("its certificate is not base64")]
    Base64,
    /// The certificate proves nothing.
    #[error(transparent)]
    Certificate(#[from] IdentityError),
    /// It is no list of revoked certificates of this site.
    #[error(transparent)]
    Revocations(#[from] RevocationError),
    /// The certificate was revoked before.
    #[error("the certificate of {name} with serial number {serial} was revoked before")]
    Revoked {
        /// Whose.
        name: Name,
        /// Which.
        serial: Serial,
    },
    /// The certificate is somebody else's.
    #[error("its certificate is that of {0}")]
    OtherIdentity(String),
    /// The signature is wrong.
    #[error("its signature does not hold")]
    Signature,
}

/// A message in its form; nobody has checked the signature.
pub enum Heard<'a> {
    /// A command: not signed, the broker's topic rights decide.
    Command(Topic),
    /// A list of revoked certificates: for [`Speakers::check_revocations`].
    Revocations(Topic),
    /// A signed message.
    Signed(Box<Signed<'a>>),
}

/// A signed message, its signature not yet checked.
pub struct Signed<'a> {
    /// Where it was said.
    pub topic: Topic,
    /// By whom, in which session, as the how manieth.
    pub header: Header,
    /// What of its content the log itself acts on.
    pub content: Content,
    sealed: Sealed<'a>,
}

/// What the log itself acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A birth or goodbye, with the sender's certificate.
    Status {
        /// DER.
        certificate: Vec<u8>,
        /// The session before this one.
        previous: Option<PreviousSession>,
    },
    /// What the broker says when the sender is gone.
    LastWill {
        /// DER.
        certificate: Vec<u8>,
        /// The birth that it ends.
        ends: u64,
    },
    /// These messages of the sender are lost.
    Overflow {
        /// Their session.
        of: Session,
        /// The first.
        from_seq: u64,
        /// The last.
        to_seq: u64,
    },
    /// Anything else.
    Other,
}

#[derive(Deserialize)]
struct StatusMembers {
    certificate: String,
    ends: Option<u64>,
    previous: Option<PreviousSession>,
}

/// Reads a message's form.
pub fn hear<'a>(topic: &str, payload: &'a [u8]) -> Result<Heard<'a>, Unverified> {
    let topic: Topic = topic.parse()?;
    if !topic.kind.is_logged() {
        return Err(Unverified::NotLogged(topic));
    }
    if !topic.kind.is_signed() {
        return Ok(Heard::Command(topic));
    }
    if topic.kind == Kind::Revoked {
        return Ok(Heard::Revocations(topic));
    }
    let sealed = Sealed::parse(payload)?;
    let header: Header = sealed.read()?;
    if topic.kind.is_from_its_device() && header.from != topic.device {
        return Err(Unverified::Sender { from: header.from, topic });
    }
    let content = read_content(&topic.kind, &sealed)?;
    let is_last_will = matches!(content, Content::LastWill { .. });
    match header.seq {
        Some(0) => return Err(Unverified::Unnumbered),
        Some(_) if is_last_will => return Err(Unverified::Unnumbered),
        None if !is_last_will => return Err(Unverified::Unnumbered),
        Some(_) | None => {}
    }
    Ok(Heard::Signed(Box::new(Signed { topic, header, content, sealed })))
}

fn read_content(kind: &Kind, sealed: &Sealed) -> Result<Content, Unverified> {
    match kind {
        Kind::Status => {
            let status: StatusMembers = sealed.read()?;
            let certificate = STANDARD.decode(status.certificate).map_err(|_| Unverified::Base64)?;
            Ok(match status.ends {
                Some(ends) => Content::LastWill { certificate, ends },
                None => Content::Status { certificate, previous: status.previous },
            })
        }
        Kind::Event => match sealed.read::<Event>() {
            Ok(Event::OutboxOverflow { of, from_seq, to_seq }) => Ok(Content::Overflow { of, from_seq, to_seq }),
            // An event that we cannot read is an event all the same: newer agents may say more.
            Ok(_) | Err(_) => Ok(Content::Other),
        },
        Kind::Measurement
        | Kind::Setpoint
        | Kind::Balance
        | Kind::Checkpoint
        | Kind::Ack
        | Kind::Replay
        | Kind::Revoked
        | Kind::Set(_) => Ok(Content::Other),
    }
}

impl Signed<'_> {
    /// Checks the signature against the key of `who`.
    pub fn verify(&self, who: &Vouched) -> Result<(), Unverified> {
        self.sealed.verify(&self.topic.to_string(), &who.identity.key).map_err(|_| Unverified::Signature)
    }
}

/// A certificate that the site's authority vouches for.
#[derive(Debug, PartialEq, Eq)]
pub struct Vouched {
    /// DER.
    pub certificate: Vec<u8>,
    /// What it says.
    pub identity: Identity,
    /// The number by which it is revoked.
    pub serial: Serial,
}

/// The certificates of a device as a snapshot keeps them: each once, in base64.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificates {
    certificates: Vec<String>,
    newest: usize,
    sessions: BTreeMap<Session, usize>,
}

/// Whose certificates are known at one point of the log.
pub struct Speakers {
    site: Name,
    authority: Authority,
    known: HashMap<Name, Speaker>,
    revoked: BTreeSet<Serial>,
}

struct Speaker {
    newest: Arc<Vouched>,
    /// Whether it is from a status, and not only from what the anchor repeats.
    is_from_status: bool,
    sessions: HashMap<Session, Arc<Vouched>>,
}

impl Speakers {
    /// Nobody is known yet.
    pub fn new(site: Name, authority: Authority) -> Self {
        Self { site, authority, known: HashMap::new(), revoked: BTreeSet::new() }
    }

    /// The site.
    pub fn site(&self) -> &Name {
        &self.site
    }

    /// Checks a certificate (DER) as received `at` a time. Whether it is revoked is not looked at.
    pub fn vouch(&self, certificate: &[u8], at: UnixMillis) -> Result<Vouched, Unverified> {
        let identity = self.authority.check(certificate, at)?;
        if identity.site != self.site {
            return Err(Unverified::OtherIdentity(identity.to_uri()));
        }
        Ok(Vouched { certificate: certificate.to_vec(), identity, serial: serial_of(certificate)? })
    }

    /// Reads a list of revoked certificates, and checks that it is this site's, signed by its authority. It counts from
    /// [`Self::revoke`] on.
    pub fn check_revocations(&self, topic: &Topic, payload: &[u8]) -> Result<Revocations, Unverified> {
        if *topic != revocation::topic(&self.site) {
            return Err(Unverified::NotLogged(topic.clone()));
        }
        Ok(revocation::read(payload, &self.site, &self.authority)?.body)
    }

    /// Takes note of a list that holds: from now on what is judged by a certificate in it proves nothing.
    pub fn revoke(&mut self, list: &Revocations) {
        self.revoked.extend(list.serials().cloned());
    }

    /// The serial numbers of all certificates that are revoked, for a snapshot.
    pub fn revoked(&self) -> &BTreeSet<Serial> {
        &self.revoked
    }

    /// Takes over what a snapshot says is revoked.
    pub fn restore_revoked(&mut self, serials: BTreeSet<Serial>) {
        self.revoked.extend(serials);
    }

    /// Refuses a certificate that is revoked.
    pub fn check_not_revoked(&self, who: &Vouched) -> Result<(), Unverified> {
        if self.revoked.contains(&who.serial) {
            return Err(Unverified::Revoked { name: who.identity.name.clone(), serial: who.serial.clone() });
        }
        Ok(())
    }

    /// Whose key must have signed this message, if it is what it says. The signature is still to be checked.
    pub fn who(&self, signed: &Signed, at: UnixMillis) -> Result<Arc<Vouched>, Unverified> {
        let Signed { topic, header, .. } = signed;
        if topic.site != self.site {
            return Err(Unverified::NotLogged(topic.clone()));
        }
        let who = match &signed.content {
            Content::Status { certificate, .. } | Content::LastWill { certificate, .. } => {
                Arc::new(self.vouch(certificate, at)?)
            }
            Content::Overflow { .. } | Content::Other => self
                .certificate_of(&header.from, header.session)
                .ok_or_else(|| Unverified::Unknown(header.from.clone()))?,
        };
        if who.identity.name != header.from {
            return Err(Unverified::OtherIdentity(who.identity.to_uri()));
        }
        self.check_not_revoked(&who)?;
        if topic.kind == Kind::Setpoint && who.identity.role != Role::Transformer {
            return Err(Unverified::Sender { from: header.from.clone(), topic: topic.clone() });
        }
        Ok(who)
    }

    /// Whose certificate counts for a session now.
    pub fn certificate_of(&self, name: &Name, session: Session) -> Option<Arc<Vouched>> {
        let speaker = self.known.get(name)?;
        Some(speaker.sessions.get(&session).unwrap_or(&speaker.newest).clone())
    }

    /// Takes note of a verified status: from now on its certificate counts.
    pub fn learn(&mut self, name: &Name, session: Session, who: Arc<Vouched>) {
        let speaker = self.known.entry(name.clone()).or_insert_with(|| Speaker::new(&who));
        let who = speaker.share(who);
        speaker.newest = who.clone();
        speaker.is_from_status = true;
        speaker.sessions.insert(session, who);
    }

    /// Takes note of a certificate that the anchor repeats for a session whose status was dropped. What a status itself
    /// taught goes before.
    pub fn learn_repeated(&mut self, name: &Name, session: Session, who: Arc<Vouched>) {
        let speaker = self.known.entry(name.clone()).or_insert_with(|| Speaker::new(&who));
        let who = speaker.share(who);
        if !speaker.is_from_status {
            speaker.newest = who.clone();
        }
        speaker.sessions.entry(session).or_insert(who);
    }

    /// All that is known, for a snapshot.
    pub fn certificates(&self) -> BTreeMap<Name, Certificates> {
        let of = |speaker: &Speaker| {
            let mut kept = Certificates::default();
            let mut place = |who: &Vouched| {
                let text = STANDARD.encode(&who.certificate);
                let at = kept.certificates.iter().position(|known| *known == text);
                at.unwrap_or_else(|| {
                    kept.certificates.push(text);
                    kept.certificates.len() - 1
                })
            };
            let newest = place(&speaker.newest);
            let sessions = speaker.sessions.iter().map(|(session, who)| (*session, place(who))).collect();
            Certificates { newest, sessions, ..kept }
        };
        self.known.iter().map(|(name, speaker)| (name.clone(), of(speaker))).collect()
    }

    /// Takes over what a snapshot keeps. A certificate that no longer holds is left out: its device must say its status
    /// again.
    pub fn restore(&mut self, kept: BTreeMap<Name, Certificates>, at: UnixMillis) {
        for (name, kept) in kept {
            let read = |text: &String| {
                let certificate = STANDARD.decode(text).ok()?;
                self.vouch(&certificate, at).ok().map(Arc::new)
            };
            let certificates: Vec<Option<Arc<Vouched>>> = kept.certificates.iter().map(read).collect();
            let get = |at: usize| certificates.get(at).cloned().flatten();
            let sessions = kept.sessions.iter().filter_map(|(session, at)| Some((*session, get(*at)?))).collect();
            if let Some(newest) = get(kept.newest) {
                self.known.insert(name, Speaker { newest, is_from_status: true, sessions });
            }
        }
    }
}

impl Speaker {
    fn new(newest: &Arc<Vouched>) -> Self {
        Self { newest: newest.clone(), is_from_status: false, sessions: HashMap::new() }
    }

    /// One certificate in memory, however many sessions use it.
    fn share(&self, who: Arc<Vouched>) -> Arc<Vouched> {
        let same = self.sessions.values().chain([&self.newest]).find(|known| ***known == *who).cloned();
        same.unwrap_or(who)
    }
}
