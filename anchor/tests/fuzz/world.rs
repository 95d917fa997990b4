//! The street whose inputs are changed: made once, since keys and signatures take long.

use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use grid_anchor::speech::Speakers;
use grid_protocol::author::Signed;
use grid_protocol::identity::{Serial, serial_of};
use grid_protocol::message::{Ack, Balance, Event, Header, LedgerReceipt, Message, PreviousSession, Role, Session};
use grid_protocol::revocation::{self, RevocationList, Revocations, Revoked};
use grid_protocol::topic::Kind;
use grid_protocol::units::{MilliAmps, MilliWattHours};

use crate::street::{START, Speaker, Street, name};

pub struct World {
    pub street: Street,
    /// Everybody with a certificate.
    pub people: Vec<Person>,
    /// What they said, all kinds of it.
    pub said: Vec<Signed>,
    /// Lists of revoked certificates.
    pub lists: Vec<(RevocationList, Vec<u8>)>,
}

pub struct Person {
    pub name: &'static str,
    pub key: SigningKey,
    pub certificate: Vec<u8>,
}

/// The same street in all rounds of a process.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let street = Street::new();
        let device = street.speaker("cp-1", Role::Device, 1);
        let later = street.speaker("cp-1", Role::Device, 2);
        let transformer = street.speaker("trafo-1", Role::Transformer, 3);
        let anchor = street.speaker("anchor-1", Role::Anchor, 4);
        let person = |name, speaker: &Speaker| Person {
            name,
            key: speaker.key.clone(),
            certificate: speaker.certificate.clone(),
        };
        let people = vec![
            person("cp-1", &device),
            person("cp-1", &later),
            person("trafo-1", &transformer),
            person("anchor-1", &anchor),
        ];
        let lists = lists(&street, &people);
        Self { said: conversation(device, later, transformer, anchor), street, people, lists }
    }

    pub fn speakers(&self) -> Speakers {
        Speakers::new(name("demo"), self.street.issuer.authority())
    }

    pub fn payloads(&self) -> Vec<Vec<u8>> {
        self.said.iter().map(|said| said.payload.clone()).collect()
    }

    pub fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = self.said.iter().map(|said| said.topic.to_string()).collect();
        topics.extend(["grid/demo/cp-1/set/limit", "grid/demo/ca/revoked", "grid/demo/#"].map(str::to_owned));
        topics
    }

    /// Whether somebody said exactly this there.
    pub fn was_said(&self, topic: &str, payload: &[u8]) -> bool {
        self.said.iter().any(|said| said.topic.to_string() == topic && said.payload == payload)
    }
}

fn conversation(mut device: Speaker, mut later: Speaker, mut transformer: Speaker, mut anchor: Speaker) -> Vec<Signed> {
    let mut said = vec![device.birth(), transformer.birth(), anchor.birth()];
    said.extend((0..3).map(|_| device.measurement()));
    said.push(transformer.setpoint("cp-1"));
    said.push(device.event(Event::ChargingStarted { energy_mwh: MilliWattHours(1) }));
    said.push(device.event(Event::OutboxOverflow { of: Session(1), from_seq: 9, to_seq: 11 }));
    said.push(device.event(Event::MeterFailed { why: "\u{1}\"ü\\".into() }));
    said.push(device.will(1));
    said.push(later.birth_after(Some(PreviousSession { session: Session(1), seq: 12 })));
    let amps = vec![MilliAmps(100_000); 3];
    let balance = Balance {
        limit_ma: amps.clone(),
        load_ma: amps.clone(),
        uncontrolled_ma: amps.clone(),
        headroom_ma: amps,
        devices: 5,
        held_back_percent: 38,
        limit_w: Some(80_000),
    };
    said.push(transformer.author.say(Kind::Balance, balance, START).unwrap());
    let ack = Ack { of: Session(1), through: 7, missing: vec![(4, 5), (7, 7)], tree_size: 300 };
    said.push(anchor.author.say_unnumbered(&name("cp-1"), Kind::Ack, ack, START).unwrap());
    let receipt = LedgerReceipt {
        network: "mock".into(),
        trail: "0x5".into(),
        record: 3,
        tree_size: 200,
        transaction: "abc".into(),
        added_ms: START,
        explorer: "http://localhost/".into(),
    };
    let checkpoint = grid_protocol::message::Checkpoint {
        origin: "demo.invalid".into(),
        tree_size: 300,
        root_hash: "AAAA".into(),
        note: "demo.invalid\n300\nAAAA\n".into(),
        receipt: Some(receipt),
        purse: None,
    };
    said.push(anchor.author.say(Kind::Checkpoint, checkpoint, START).unwrap());
    let replays: Vec<Signed> = [0, 3, 8].map(|at| device.replay(&said[at])).into();
    said.push(later.measurement());
    said.extend(replays);
    said
}

fn lists(street: &Street, people: &[Person]) -> Vec<(RevocationList, Vec<u8>)> {
    let revoked = |serial: Serial| Revoked { serial, name: name("cp-1") };
    let first = serial_of(&people[0].certificate).unwrap();
    let other = Serial::from_bytes(&[7; 16]).unwrap();
    [vec![], vec![revoked(other.clone())], vec![revoked(other), revoked(first)]]
        .into_iter()
        .zip(1..)
        .map(|(revoked, seq)| {
            let header =
                Header { from: revocation::authority_name(), session: Session(7), seq: Some(seq), time_ms: START };
            let list = Message { header, body: Revocations { revoked } };
            let payload = revocation::write(&list, &street.issuer).unwrap();
            (list, payload)
        })
        .collect()
}

/// Signs anything as a message of `key`, be it JSON or not: what stands before the signature, with a right one.
pub fn sealed_anew(payload: &[u8], topic: &str, key: &SigningKey) -> Vec<u8> {
    let text = String::from_utf8_lossy(payload);
    let before = text.rsplit_once(",\"sig\":\"").map_or_else(|| text.trim_end_matches('}'), |(before, _)| before);
    let signature = key.sign(format!("grid/v1\n{topic}\n{before}").as_bytes());
    format!("{before},\"sig\":\"{}\"}}", URL_SAFE_NO_PAD.encode(signature.to_bytes())).into_bytes()
}
