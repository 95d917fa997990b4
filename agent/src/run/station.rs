//! What both roles do alike: speak, be born, be acknowledged, say again what is missing.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::author::{Author, Signed};
use grid_protocol::message::{Ack, Event, Message, Part, Presence, Replay, Session, Status};
use grid_protocol::seal::SealError;
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::{BootTime, Millis};
use grid_service::clock::{boot_now, unix_now};
use grid_service::link::{Delivery, Incoming, Link, Loss, Received, Will};
use grid_service::systemd::Systemd;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock_watch::ClockWatch;
use super::evidence::Evidence;
use super::outage::Outage;
use super::{AgentError, Common, Credentials, Summary};
use crate::bucket::Bucket;
use crate::commands::{self, Command, Kept, Refusal};
use crate::directory::{Directory, Distrust};
use crate::home_assistant::{self, HomeAssistant};
use crate::outbox::{Around, Lost};
use crate::view::View;

/// Missing messages are said again at most 200 times a second: ten every 50 ms.
const REPLAY_EVERY: Millis = Millis(50);
const REPLAY_AT_ONCE: usize = 10;
/// What had to go is declared at most this often, and so many declarations may wait for their acknowledgement.
const DECLARE_LOSS: Millis = Millis(10_000);
const DECLARED_AT_ONCE: usize = 20;
/// At the end, how long acks are waited for.
const LAST_ACKS: Duration = Duration::from_secs(10);
/// At the end nobody waits long for an ack before saying it again.
const LAST_PATIENCE: Millis = Millis(1500);
/// Commands that are not obeyed are told of ten at once, and one a second: whoever floods must not fill the log.
const REFUSALS_AT_ONCE: u64 = 10;
const REFUSAL_EVERY: Millis = Millis(1000);
/// Two clocks were not read together if that took longer.
const READ_TOGETHER: Millis = Millis(100);
/// Who gave a command, behind a broker that does not tell.
const UNKNOWN: &str = "unknown";
/// What is ignored is reported this often.
const REPORT_IGNORED: Millis = Millis(60_000);

/// An agent's voice and ears.
pub struct Station {
    common: Common,
    part: Part,
    author: Author,
    link: Link,
    incoming: mpsc::Receiver<Incoming>,
    directory: Directory,
    evidence: Evidence,
    finished_sessions: Vec<(Session, u64)>,
    /// A birth that waits for its connection: the last will that went ahead names it.
    birth: Option<Signed>,
    /// What Home Assistant is told, and where.
    description: Option<(String, Vec<u8>)>,
    /// The anchor that is there, as far as is known.
    anchor: Option<Session>,
    /// The birth has gone out on this connection: nothing goes before it.
    greeted: bool,
    outage: Outage,
    /// The connection is back after so long, and nobody was told yet.
    reconnected: Option<Millis>,
    clock: ClockWatch,
    refusals: Bucket,
    /// Commands that were refused beyond what may be told.
    untold: u64,
    refused_at: BootTime,
    replayed_at: BootTime,
    declared_at: BootTime,
    ignored: u64,
    reported_at: BootTime,
    systemd: Systemd,
    /// What it said last of what flows.
    view: Option<View>,
}

impl Station {
    /// Is born, and starts to connect. `subscriptions` are topics of the site without `grid/{site}/`.
    pub async fn open(common: Common, part: Part, subscriptions: &[String]) -> Result<Self, AgentError> {
        let credentials = &common.credentials;
        let site = subscriptions.iter().map(|filter| format!("grid/{}/{filter}", credentials.site));
        let filters = site.chain(common.home_assistant.as_ref().map(HomeAssistant::status_topic)).collect();
        let evidence = Evidence::open(&common.outbox, credentials.name.as_str(), boot_now).await;
        let (link, incoming) = Link::open(&common.broker, &credentials.name, filters);
        let mut station = Self {
            evidence,
            author: author(credentials),
            directory: Directory::new(credentials.site.clone(), credentials.authority.clone()),
            common,
            part,
            link,
            incoming,
            finished_sessions: Vec::new(),
            birth: None,
            description: None,
            anchor: None,
            greeted: false,
            outage: Outage::default(),
            reconnected: None,
            clock: ClockWatch::new(boot_now(), unix_now()),
            refusals: Bucket::new(REFUSALS_AT_ONCE, REFUSAL_EVERY, boot_now()),
            untold: 0,
            refused_at: boot_now(),
            replayed_at: boot_now(),
            declared_at: boot_now(),
            ignored: 0,
            reported_at: boot_now(),
            systemd: Systemd::of_this_process(),
            view: None,
        };
        station.evidence.outbox.begin(station.author.session());
        // A birth is the first message of its session, so that the log shows the key before anything signed with it.
        station.birth = Some(station.be_born()?);
        Ok(station)
    }

    /// What can fail at the start is done; the connection may come later.
    pub fn ready(&mut self) {
        self.systemd.ready(&format!("connecting to the broker at {}", self.common.broker));
    }

    /// How long systemd's watchdog waits for [`alive`](Self::alive), if there is one.
    pub fn watchdog(&self) -> Option<Duration> {
        self.systemd.watchdog()
    }

    /// To be called in each round of what controls.
    pub fn alive(&mut self) {
        self.systemd.alive();
    }

    /// From now on Home Assistant is told who this is, if it is to be; `transformer` is the one that is obeyed.
    pub fn introduce(&mut self, transformer: Option<&Name>) {
        let (site, name) = (&self.common.credentials.site, &self.common.credentials.name);
        self.description = self.common.home_assistant.as_ref().map(|home_assistant| {
            let description = home_assistant::describe(site, name, &self.part, transformer);
            (home_assistant.config_topic(site, name), description.to_string().into_bytes())
        });
    }

    fn describe(&self) {
        if let Some((topic, description)) = &self.description {
            // Without a connection it is said with the next one.
            let _ = self.link.publish(topic, description.clone(), Delivery::AssuredRetained);
        }
    }

    pub fn session(&self) -> Session {
        self.author.session()
    }

    /// The next thing that happens on the link.
    pub async fn next(&mut self) -> Result<Incoming, AgentError> {
        self.incoming.recv().await.ok_or(AgentError::LinkEnded)
    }

    /// The next thing that has happened on the link already, if anything has.
    pub fn try_next(&mut self) -> Option<Incoming> {
        self.incoming.try_recv().ok()
    }

    /// Signs a numbered message, keeps it for the log and sends it if there is a connection. Returns its number.
    pub fn say<B: Serialize>(
        &mut self,
        device: &Name,
        kind: Kind,
        body: B,
        delivery: Delivery,
    ) -> Result<u64, AgentError> {
        let signed = self.author.say_to(device, kind, body, unix_now())?;
        let seq = self.author.last_seq();
        self.evidence.outbox.keep(self.author.session(), &signed, boot_now(), unix_now());
        if self.greeted {
            // Not being connected is no error: the outbox has it.
            let _ = self.link.publish(&signed.topic.to_string(), signed.payload, delivery);
        }
        Ok(seq)
    }

    /// Like [`Station::say`], about oneself.
    pub fn tell<B: Serialize>(&mut self, kind: Kind, body: B, delivery: Delivery) -> Result<u64, AgentError> {
        let name = self.author.name().clone();
        self.say(&name, kind, body, delivery)
    }

    /// Remembers what is seen now, for who asks.
    pub fn sees(&mut self, view: View) {
        self.view = Some(view);
    }

    /// Publishes an event.
    pub fn event(&mut self, event: Event) -> Result<(), AgentError> {
        tracing::info!(device = %self.author.name(), ?event);
        self.tell(Kind::Event, event, Delivery::Assured).map(|_| ())
    }

    fn status(&self, state: Presence, ends: Option<u64>) -> Status {
        let simulation = self.common.simulation;
        Status {
            state,
            part: self.part.clone(),
            software: concat!("grid-agent ", env!("CARGO_PKG_VERSION")).to_owned(),
            time_factor: simulation.map_or(1, |simulation| simulation.time_factor),
            plant_time_ms: simulation.map(|simulation| simulation.plant_time(unix_now())),
            ends,
            previous: self.evidence.outbox.previous().filter(|_| state == Presence::Online),
            certificate: STANDARD.encode(&self.common.credentials.certificate),
        }
    }

    /// A connection is attempted: prepares the birth, and answers with the last will that ends it.
    pub fn dialing(&mut self, answer: tokio::sync::oneshot::Sender<Will>) -> Result<(), AgentError> {
        let birth = match self.birth.take() {
            Some(birth) => birth,
            None => self.be_born()?,
        };
        self.greeted = false;
        let will = self.status(Presence::Offline, birth.seq);
        let will = self.author.say_unnumbered(self.author.name(), Kind::Status, will, unix_now())?;
        self.birth = Some(birth);
        // If the link has ended meanwhile, `next` will say so.
        let _ = answer.send(Will { topic: will.topic.to_string(), payload: will.payload });
        Ok(())
    }

    /// The connection is gone, or was not made.
    pub fn lost(&mut self, loss: Loss) -> Result<(), AgentError> {
        self.greeted = false;
        self.outage.lost(boot_now());
        match loss {
            Loss::ThrownOut => {
                self.systemd.status("somebody else connected to the broker under this name");
                self.event(Event::ThrownOut {})
            }
            Loss::Broken(why) => {
                self.systemd.status(&format!("no connection to the broker at {}: {why}", self.common.broker));
                tracing::warn!(device = %self.author.name(), why, "no connection to the broker");
                Ok(())
            }
        }
    }

    fn be_born(&mut self) -> Result<Signed, AgentError> {
        let birth = self.author.say(Kind::Status, self.status(Presence::Online, None), unix_now())?;
        self.evidence.outbox.keep(self.author.session(), &birth, boot_now(), unix_now());
        Ok(birth)
    }

    /// The connection stands: publishes the birth.
    pub fn connected(&mut self) {
        self.systemd.status(&format!("connected to the broker at {}", self.common.broker));
        if let Some(birth) = self.birth.take() {
            let _ = self.link.publish(&birth.topic.to_string(), birth.payload, Delivery::AssuredRetained);
        }
        self.describe();
        self.greeted = true;
        self.reconnected = self.outage.connected(boot_now()).or(self.reconnected);
    }

    /// Goes on under a new session (lease rule 7). What the old one said stays in the outbox.
    pub fn new_session(&mut self) {
        let finished = std::mem::replace(&mut self.author, author(&self.common.credentials));
        self.finished_sessions.push((finished.session(), finished.last_seq()));
        self.evidence.outbox.begin(self.author.session());
        self.birth = None;
    }

    /// Takes somebody's birth, goodbye or last will.
    pub fn learn(&mut self, topic: &Topic, payload: &[u8]) -> Option<Message<Status>> {
        let learned = self.directory.learn(topic, payload, unix_now());
        let status = self.believe(topic, learned)?;
        if status.header.from == self.common.anchor {
            let online = Some(status.header.session).filter(|_| status.body.state == Presence::Online);
            self.anchor_is(online);
        }
        Some(status)
    }

    /// The anchor is there in this session, or not at all.
    fn anchor_is(&mut self, session: Option<Session>) {
        if session.is_some() && session != self.anchor {
            self.evidence.outbox.anchor_began();
        }
        self.anchor = session;
    }

    /// Opens a message of `expected`, or counts it as ignored.
    pub fn open_from<B: DeserializeOwned>(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        expected: &Name,
    ) -> Option<Message<B>> {
        let opened = self.directory.open(topic, payload, expected);
        self.believe(topic, opened)
    }

    fn believe<T>(&mut self, topic: &Topic, result: Result<T, Distrust>) -> Option<T> {
        result.map_err(|reason| self.ignore(topic, &reason)).ok()
    }

    /// Counts a message that is not acted on.
    pub fn ignore(&mut self, topic: &Topic, reason: &dyn std::fmt::Display) {
        self.ignored += 1;
        tracing::debug!(device = %self.author.name(), %topic, %reason, "ignored");
    }

    /// Splits a received message's topic, and takes acks and what Home Assistant says, which are the same for all.
    pub fn sort(&mut self, received: &Received) -> Option<Topic> {
        if self.common.home_assistant.as_ref().is_some_and(|told| told.status_topic() == received.topic) {
            if received.payload.as_ref() == home_assistant::BORN && !received.retained {
                self.describe();
            }
            return None;
        }
        let Ok(topic) = received.topic.parse::<Topic>() else {
            self.ignored += 1;
            return None;
        };
        if topic.kind != Kind::Ack {
            return Some(topic);
        }
        let anchor = self.common.anchor.clone();
        if let Some(ack) = self.open_from::<Ack>(&topic, &received.payload, &anchor) {
            self.anchor_is(Some(ack.header.session));
            self.evidence.outbox.acknowledged(&ack.body, boot_now());
        }
        None
    }

    /// Reads a command, `grid/{site}/{device}/set/{what}`: what it wants, and who gave it. One that is not to be obeyed
    /// is told of in an event.
    ///
    /// A retained one is not: it would be obeyed again at each connection, long after whoever gave it has forgotten it.
    pub fn command(&mut self, topic: &Topic, received: &Received) -> Result<Option<(Command, String)>, AgentError> {
        let what = match &topic.kind {
            Kind::Set(what) if topic.device == *self.author.name() => what,
            _ => {
                self.ignore(topic, &"no command to this agent");
                return Ok(None);
            }
        };
        let by = commands::shown(received.publisher.as_deref().unwrap_or(UNKNOWN));
        let read = match received.retained {
            true => Err(Refusal::new(what, &received.payload, "a command that is not retained")),
            false => commands::parse(self.part.role(), what, &received.payload, self.common.civil_now()),
        };
        match read {
            Ok(command) => Ok(Some((command, by))),
            Err(refusal) => self.refuse(refusal, by).map(|()| None),
        }
    }

    /// Keeps what a command changes in `file`, so that it holds after a restart. Where that fails the command is refused,
    /// and `false` returned.
    pub fn keep(
        &mut self,
        kept: &Kept,
        file: Option<&Path>,
        (what, payload): (&Name, &[u8]),
        by: &str,
    ) -> Result<bool, AgentError> {
        let Err(error) = kept.store(file) else { return Ok(true) };
        let refusal = Refusal::new(what, payload, format!("a place to keep it, but: {error}"));
        self.refuse(refusal, by.to_owned()).map(|()| false)
    }

    /// Tells that a command is not obeyed, unless that was told too often.
    pub fn refuse(&mut self, refusal: Refusal, by: String) -> Result<(), AgentError> {
        if self.refusals.take(boot_now()) {
            return self.event(refusal.event(by));
        }
        self.untold += 1;
        Ok(())
    }

    /// Tells what happened to connection and clock, and says again what is missing. To be called often.
    pub fn replay(&mut self, now: BootTime) -> Result<(), AgentError> {
        if let Some(after_ms) = self.reconnected.take() {
            self.event(Event::Reconnected { after_ms })?;
        }
        let (before, unix, after) = (boot_now(), unix_now(), boot_now());
        if after.since(before) <= READ_TOGETHER
            && let Some(by_ms) = self.clock.look(after, unix)
        {
            self.event(Event::ClockStepped { by_ms })?;
        }
        self.replay_after(now, self.common.replay_after)
    }

    fn replay_after(&mut self, now: BootTime, patience: Millis) -> Result<(), AgentError> {
        if now.since(self.reported_at) >= REPORT_IGNORED && self.ignored > 0 {
            tracing::warn!(device = %self.author.name(), messages = std::mem::take(&mut self.ignored), "ignored");
            self.reported_at = now;
        }
        if now.since(self.refused_at) >= REPORT_IGNORED && self.untold > 0 {
            let commands = std::mem::take(&mut self.untold);
            tracing::warn!(device = %self.author.name(), commands, "not obeyed, and too many to tell of each");
            self.refused_at = now;
        }
        let anchor_hears = self.greeted && self.anchor.is_some();
        if anchor_hears && now.since(self.declared_at) >= DECLARE_LOSS {
            self.declared_at = now;
            self.declare_losses()?;
        }
        let around = || Around {
            name: self.author.name().clone(),
            is_running: true,
            broker_is_there: self.greeted,
            anchor_is_there: self.anchor.is_some(),
            view: self.view.clone(),
        };
        let told = self.evidence.drive(now, around);
        told.into_iter().try_for_each(|event| self.event(event))?;
        // What is new goes first.
        let may_replay = anchor_hears && self.link.is_idle();
        if !may_replay || now.since(self.replayed_at) < REPLAY_EVERY {
            return Ok(());
        }
        self.replayed_at = now;
        for message in self.evidence.outbox.due(now, patience, REPLAY_AT_ONCE) {
            let name = self.author.name().clone();
            let payload = String::from_utf8_lossy(&message.payload).into_owned();
            let replay = Replay { topic: message.topic.to_string(), payload };
            match self.author.say_unnumbered(&name, Kind::Replay, replay, unix_now()) {
                Ok(signed) => {
                    let _ = self.link.publish(&signed.topic.to_string(), signed.payload, Delivery::Assured);
                }
                // Wrapping quotes every quote: a message near the limit no longer fits, and is published again as it is.
                Err(SealError::TooLong(_)) => {
                    let topic = message.topic.to_string();
                    let _ = self.link.publish(&topic, message.payload.clone(), Delivery::Assured);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn declare_losses(&mut self) -> Result<(), AgentError> {
        for lost in self.evidence.outbox.losses(DECLARED_AT_ONCE) {
            let Lost { of, from_seq, to_seq } = lost;
            tracing::warn!(device = %self.author.name(), %of, from_seq, to_seq, "messages are lost for the log");
            let event = Event::OutboxOverflow { of, from_seq, to_seq };
            let seq = self.tell(Kind::Event, event, Delivery::Assured)?;
            self.evidence.outbox.declared(lost, self.author.session(), seq);
        }
        Ok(())
    }

    /// Whether an ack is worth waiting for: what has a disk to go to waits only while somebody is there who acknowledges.
    fn awaits_acks(&self) -> bool {
        let somebody_is_there = self.greeted && self.anchor.is_some();
        self.evidence.is_at_risk() && (somebody_is_there || !self.evidence.has_disk())
    }

    /// Says goodbye, waits a little for the last acks, and disconnects.
    pub async fn close(mut self) -> Result<Summary, AgentError> {
        self.systemd.stopping();
        let goodbye = self.status(Presence::Offline, None);
        self.tell(Kind::Status, goodbye, Delivery::AssuredRetained)?;
        let give_up = Instant::now() + LAST_ACKS;
        let mut tick = tokio::time::interval(Duration::from_millis(REPLAY_EVERY.0));
        while self.awaits_acks() && Instant::now() < give_up {
            tokio::select! {
                _ = tick.tick() => self.replay_after(boot_now(), LAST_PATIENCE)?,
                incoming = self.incoming.recv() => match incoming {
                    Some(Incoming::Message(received)) => {
                        if let Some(topic) = self.sort(&received) && topic.kind == Kind::Status {
                            self.learn(&topic, &received.payload);
                        }
                    }
                    Some(Incoming::Dialing(_) | Incoming::Connected | Incoming::Lost(_)) => {}
                    None => break,
                },
            }
        }
        self.finished_sessions.push((self.author.session(), self.author.last_seq()));
        let unacknowledged = self.evidence.outbox.len();
        let summary = Summary { sessions: self.finished_sessions, unacknowledged };
        self.link.close().await;
        self.evidence.close(boot_now).await;
        Ok(summary)
    }
}

/// Who these credentials are, in a session of its own.
fn author(credentials: &Credentials) -> Author {
    let session = Session(rand::random());
    Author::new(credentials.site.clone(), credentials.name.clone(), session, credentials.key.clone())
}
