//! Topics and signed messages.

use std::fmt::Debug;

use grid_anchor::speech::{Content, Heard, hear};
use grid_protocol::json;
use grid_protocol::message::{Ack, Balance, Checkpoint, Event, Header, Measurement, Message, Replay, Setpoint, Status};
use grid_protocol::revocation::Revocations;
use grid_protocol::seal::{MAX_PAYLOAD, Sealed};
use grid_protocol::topic::Topic;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mutation::{mutated, mutated_text};
use super::source::Source;
use super::world::{sealed_anew, world};
use super::{Verdict, require};

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    let world = world();
    let mut topic = source.one_of(&world.topics()).clone();
    if source.rarely(3) {
        topic = mutated_text(&mut source, &[&topic]);
    }
    if let Ok(parsed) = topic.parse::<Topic>() {
        require!(parsed.to_string() == topic, "the topic {topic:?} reads as {parsed}");
    }
    let mut payload = mutated(&mut source, &world.payloads());
    let signed_anew = source.rarely(2);
    if signed_anew {
        payload = sealed_anew(&payload, &topic, &source.one_of(&world.people).key);
    }
    sealed(&topic, &payload, signed_anew)?;
    heard(&topic, &payload)
}

fn sealed(topic: &str, payload: &[u8], signed_anew: bool) -> Verdict {
    let Ok(sealed) = Sealed::parse(payload) else {
        require!(!world().was_said(topic, payload), "a message that was signed does not parse");
        return Ok(());
    };
    require!(payload.len() <= MAX_PAYLOAD, "{} bytes are a message", payload.len());
    require!(json::check(payload).is_ok(), "a message is no unambiguous JSON");
    let holds = world().people.iter().any(|person| sealed.verify(topic, &person.key.verifying_key()).is_ok());
    require!(holds == (signed_anew || world().was_said(topic, payload)), "its signature: {holds}");
    if let Ok(header) = sealed.read::<Header>() {
        reads_back(&header)?;
    }
    reads::<Status>(&sealed)?;
    reads::<Measurement>(&sealed)?;
    reads::<Setpoint>(&sealed)?;
    reads::<Event>(&sealed)?;
    reads::<Balance>(&sealed)?;
    reads::<Checkpoint>(&sealed)?;
    reads::<Ack>(&sealed)?;
    reads::<Replay>(&sealed)?;
    reads::<Revocations>(&sealed)
}

fn reads<B: Serialize + DeserializeOwned + PartialEq + Debug>(sealed: &Sealed) -> Verdict {
    sealed.read::<Message<B>>().map_or(Ok(()), |message| reads_back(&message))
}

fn reads_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> Verdict {
    let written = serde_json::to_vec(value).map_err(|why| format!("{value:?} cannot be written: {why}"))?;
    let read = serde_json::from_slice::<T>(&written).map_err(|why| format!("{value:?} cannot be read again: {why}"))?;
    require!(read == *value, "{value:?} reads back as {read:?}");
    Ok(())
}

fn heard(topic: &str, payload: &[u8]) -> Verdict {
    let Ok(Heard::Signed(signed)) = hear(topic, payload) else { return Ok(()) };
    require!(signed.topic.to_string() == topic, "heard on {}", signed.topic);
    let kind = &signed.topic.kind;
    require!(kind.is_logged() && kind.is_signed(), "heard {kind}");
    require!(!kind.is_from_its_device() || signed.header.from == signed.topic.device, "heard from another");
    let unnumbered = matches!(signed.content, Content::LastWill { .. });
    require!(signed.header.seq.is_none_or(|seq| seq > 0), "heard a message with number 0");
    require!(signed.header.seq.is_none() == unnumbered, "heard {:?} with {:?}", signed.content, signed.header.seq);
    Ok(())
}
