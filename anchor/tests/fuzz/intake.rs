//! Whole conversations with the intake: what people said, changed, signed anew, wrapped into replays, at any time.

use std::collections::HashSet;

use ed25519_dalek::VerifyingKey;
use grid_anchor::entry::{self, Payload};
use grid_anchor::intake::{Admitted, Arrival, Intake, Now};
use grid_anchor::journal::{Record, Standing};
use grid_anchor::notice::Notice;
use grid_protocol::message::{Header, Session};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, UnixMillis};
use serde_json::{Value, json};

use super::journal::inflated;
use super::mutation::{edit, mutated_text};
use super::source::Source;
use super::world::{sealed_anew, world};
use super::{Verdict, require};
use crate::street::at;

const MOST_STEPS: usize = 60;
/// What nobody vouches for: at most 10/s together.
const UNVERIFIED_PER_SECOND: u64 = 10;

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    let mut intake = Intake::new(world().speakers());
    let mut log = Log::default();
    let mut now = at(0);
    for _ in 0..MOST_STEPS {
        if source.is_empty() {
            break;
        }
        now = later(&mut source, now);
        let (topic, payload) = message(&mut source);
        let retained = source.rarely(5);
        let mut admitted = Vec::new();
        intake.receive(Arrival { topic: &topic, payload: &payload, retained }, now, &mut admitted);
        if source.rarely(3) {
            intake.tick(now, &mut admitted);
        }
        let first = log.records.len() as u64;
        log.take(admitted)?;
        intake.placed(first);
        if source.rarely(4) {
            intake.durable(log.records.len() as u64);
            for (device, ack) in intake.acks(now.boot) {
                require!(log.covers(&device, ack.of, ack.through), "{device} is told of what never came: {ack:?}");
            }
        }
        let most = UNVERIFIED_PER_SECOND * ((now.boot.0 - at(0).boot.0) / 1000 + 2);
        require!(intake.counts().unverified <= most, "{} entries of nobody", intake.counts().unverified);
    }
    let mut admitted = Vec::new();
    intake.say_not_logged(now, &mut admitted);
    let first = log.records.len() as u64;
    log.take(admitted)?;
    intake.placed(first);
    a_restart_knows_the_same(&intake, &log)
}

fn later(source: &mut Source, now: Now) -> Now {
    let Now { unix, boot } = now;
    let span = *source.one_of(&[0, 1, 500, 1000, 2000, 60_000]);
    // The civil clock may be set; the other only runs.
    let unix = if source.rarely(20) { at(source.below(100_000) as u64).unix } else { UnixMillis(unix.0 + span) };
    Now { unix, boot: BootTime(boot.0 + span) }
}

fn message(source: &mut Source) -> (String, Vec<u8>) {
    let world = world();
    let chosen = source.below(world.said.len() + 8);
    let (mut topic, mut payload) = match world.said.get(chosen) {
        Some(said) => (said.topic.to_string(), said.payload.clone()),
        None if source.rarely(2) => ("grid/demo/ca/revoked".to_owned(), source.one_of(&world.lists).1.clone()),
        None => (format!("grid/demo/cp-1/set/{}", source.one_of(&["limit", "x"])), source.bytes(8)),
    };
    if source.rarely(4) {
        topic = mutated_text(source, &[&topic, "grid/demo/#", "grid/+/cp-1/status"]);
    }
    if source.rarely(3) {
        edit(source, &mut payload, &world.payloads());
    }
    if source.rarely(3) {
        payload = sealed_anew(&payload, &topic, &source.one_of(&world.people).key);
    }
    if source.rarely(4) {
        let person = source.one_of(&world.people);
        let inner = String::from_utf8_lossy(&payload).into_owned();
        let session = Session(source.below(4) as u64);
        let replay = json!({"from": person.name, "session": session, "time_ms": 5, "topic": topic, "payload": inner});
        topic = format!("grid/demo/{}/replay", person.name);
        payload = sealed_anew(replay.to_string().as_bytes(), &topic, &person.key);
    }
    (topic, payload)
}

/// What was admitted, and what that proves.
#[derive(Default)]
struct Log {
    records: Vec<Record>,
    numbered: HashSet<(Name, Session, u64)>,
    /// What senders said of numbers that never came: lost ones, and the last ones of earlier sessions.
    announces: bool,
    /// The list stands there that revokes the first of all people.
    first_is_revoked: bool,
}

impl Log {
    fn take(&mut self, admitted: Vec<Admitted>) -> Verdict {
        for Admitted { standing, entry, .. } in admitted {
            let read = entry::read(&entry).map_err(|why| format!("an entry does not read: {why}"))?;
            if let Payload::Bytes(payload) = &read.payload {
                match standing {
                    Standing::Verified => self.must_be_said(&read.topic, payload)?,
                    Standing::Unverified => {
                        let revokes = world().lists.last().is_some_and(|(_, list)| list[..] == payload[..]);
                        self.first_is_revoked |= revokes && read.topic == "grid/demo/ca/revoked";
                    }
                }
            } else {
                require!(standing == Standing::Unverified, "a digest was verified");
            }
            if read.topic.contains('#') {
                let Payload::Bytes(payload) = &read.payload else { return Err("a notice with a digest".into()) };
                let ours = matches!(Notice::read(payload), Some(Notice::NotLogged(count)) if count > 0);
                require!(
                    ours && read.topic == "grid/demo/#",
                    "somebody spoke in the anchor's name: {}",
                    String::from_utf8_lossy(&entry)
                );
            }
            let index = self.records.len() as u64;
            self.records.push(Record { index, synced: 0, standing, entry });
        }
        Ok(())
    }

    /// Judged anew, strictly, with nothing of the intake's.
    fn must_be_said(&mut self, topic: &str, payload: &[u8]) -> Verdict {
        let sealed = Sealed::parse(payload).map_err(|why| format!("verified, but no message: {why}"))?;
        let header: Header = sealed.read().map_err(|why| format!("verified without header: {why}"))?;
        let holds = |key: &VerifyingKey| sealed.verify(topic, key).is_ok();
        let world = world();
        let signer = world
            .people
            .iter()
            .position(|person| header.from.as_str() == person.name && holds(&person.key.verifying_key()));
        require!(signer.is_some(), "nobody signed this as {} on {topic}", header.from);
        require!(!(self.first_is_revoked && signer == Some(0)), "its certificate was revoked before");
        let text = String::from_utf8_lossy(payload);
        self.announces |= text.contains("previous") || text.contains("from_seq");
        if let Some(seq) = header.seq {
            let place = (header.from, header.session, seq);
            require!(!self.numbered.contains(&place), "{place:?} stands twice in the log");
            self.numbered.insert(place);
        }
        Ok(())
    }

    /// Whether an acknowledgement says only what is there, as far as nobody declared anything lost or announced it.
    fn covers(&self, device: &Name, session: Session, through: u64) -> bool {
        let highest = self.numbered.iter().filter(|(name, of, _)| name == device && *of == session);
        self.announces || highest.map(|(_, _, seq)| *seq).max().unwrap_or(0) >= through
    }
}

fn a_restart_knows_the_same(intake: &Intake, log: &Log) -> Verdict {
    let snapshot = intake.snapshot();
    let known = without_places(&snapshot);
    let mut again = Intake::new(world().speakers());
    for record in &log.records {
        again.relearn(record);
    }
    let learned = without_places(&again.snapshot());
    require!(learned == known, "from the log it learns {learned} instead of {known}");
    let restored = Intake::restore(world().speakers(), &snapshot, log.records.len() as u64, at(0).unix)
        .map_err(|why| format!("a snapshot does not read: {why}"))?;
    let restored = without_places(&restored.snapshot());
    require!(restored == known, "a snapshot reads back as {restored} instead of {known}");
    Ok(())
}

/// What a snapshot says, but not where in the log it stands: of that only bounds are known, and a restart has others.
fn without_places(snapshot: &[u8]) -> Value {
    let mut known: Value = serde_json::from_slice(&inflated(snapshot)).unwrap();
    for sessions in known["devices"].as_object_mut().unwrap().values_mut() {
        for session in sessions.as_object_mut().unwrap().values_mut() {
            session.as_object_mut().unwrap().remove("until");
        }
    }
    let lists = known["carried"]["lists"].as_array_mut().unwrap();
    lists.iter_mut().for_each(|list| list["index"] = Value::Null);
    if lists.is_empty() {
        // What came as a list and is none is logged again after a restart.
        known["remembered"].as_object_mut().unwrap().remove("grid/demo/ca/revoked");
    }
    known
}
