//! A street without a network: an authority, who speaks on the street with its certificates, and an anchor that writes
//! down what they say. For tests in the crate (`testing`), beside it, and for fuzzers.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use grid_anchor::intake::{Arrival, Now};
use grid_anchor::recorder::{AnchorIdentity, Recorder, RecorderError, RecorderSettings};
use grid_anchor::speech::Speakers;
use grid_durable::Stop;
use grid_protocol::author::{Author, Signed};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{
    Activity, Capabilities, DeviceKind, Event, Measurement, Part, Phase, Presence, PreviousSession, Reason, Reference,
    Replay, Role, Session, Setpoint, Status,
};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, MilliWattHours, Millis, UnixMillis};

/// When everything begins.
pub const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// So many milliseconds later.
pub fn at(ms: u64) -> Now {
    Now { unix: UnixMillis(START.0 + ms), boot: BootTime(50_000 + ms) }
}

/// A name.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A folder in memory where that is possible: syncing a disk takes long, and no test cuts the power.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A site.
pub struct Street {
    /// Its authority.
    pub issuer: Issuer,
}

impl Street {
    /// A new one.
    pub fn new() -> Self {
        Self { issuer: Issuer::create(&name("demo"), START).unwrap() }
    }

    /// Nobody is known.
    pub fn speakers(&self) -> Speakers {
        Speakers::new(name("demo"), self.issuer.authority())
    }

    fn certify(&self, who: &str, role: Role, key: &SigningKey) -> Vec<u8> {
        let identity = Identity { site: name("demo"), role, name: name(who), key: key.verifying_key() };
        self.issuer.issue(&identity, START).unwrap().0
    }

    /// Somebody with a certificate; `seed` makes key and session.
    pub fn speaker(&self, who: &str, role: Role, seed: u8) -> Speaker {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let certificate = self.certify(who, role, &key);
        let author = Author::new(name("demo"), name(who), Session(seed.into()), key.clone());
        Speaker { author, key, certificate, role }
    }

    /// The anchor.
    pub fn anchor(&self) -> AnchorIdentity {
        let message_key = SigningKey::from_bytes(&[200; 32]);
        let certificate = self.certify("anchor-1", Role::Anchor, &message_key);
        AnchorIdentity { message_key, certificate, authority: self.issuer.authority() }
    }

    /// The anchor at work in a folder.
    pub fn recorder(&self, data_dir: &Path, session: u64, now: Now) -> Result<Recorder, RecorderError> {
        Recorder::open(data_dir, recorder_settings(), self.anchor(), Session(session), Stop::never(), now)
    }
}

/// The settings of an anchor that does nothing by itself but every minute, and drops nothing.
pub fn recorder_settings() -> RecorderSettings {
    RecorderSettings {
        site: name("demo"),
        name: name("anchor-1"),
        commit: Millis(1000),
        checkpoint: Millis(60_000),
        min_free_mb: 0,
        origin: None,
        retention: Default::default(),
    }
}

/// Tells the anchor what was said.
pub fn receive(recorder: &mut Recorder, signed: &Signed, now: Now) {
    let topic = signed.topic.to_string();
    recorder.receive(Arrival { topic: &topic, payload: &signed.payload, retained: false }, now).unwrap();
}

/// Somebody who signs.
pub struct Speaker {
    /// Session and sequence.
    pub author: Author,
    /// What signs.
    pub key: SigningKey,
    /// DER.
    pub certificate: Vec<u8>,
    role: Role,
}

impl Speaker {
    /// The same, started again.
    pub fn restarted(&self, street: &Street, seed: u8) -> Self {
        street.speaker(self.author.name().as_str(), self.role, seed)
    }

    fn status(&self, state: Presence, ends: Option<u64>, previous: Option<PreviousSession>) -> Status {
        let (kind, phases) = (DeviceKind::Ev, vec![Phase::L1]);
        let part = match self.role {
            Role::Device => Part::Device(Capabilities::any_current(kind, phases, MilliAmps(6_000), MilliAmps(16_000))),
            Role::Transformer => Part::Transformer { phases: Phase::ALL.to_vec() },
            Role::Anchor | Role::Operator | Role::Guest => Part::Anchor {},
        };
        Status {
            state,
            part,
            software: "test".into(),
            time_factor: 1,
            plant_time_ms: None,
            ends,
            previous,
            certificate: STANDARD.encode(&self.certificate),
        }
    }

    /// A birth.
    pub fn birth(&mut self) -> Signed {
        self.birth_after(None)
    }

    /// A birth that names the session before.
    pub fn birth_after(&mut self, previous: Option<PreviousSession>) -> Signed {
        let status = self.status(Presence::Online, None, previous);
        self.author.say(Kind::Status, status, START).unwrap()
    }

    /// The last will that ends a birth.
    pub fn will(&self, ends: u64) -> Signed {
        let status = self.status(Presence::Offline, Some(ends), None);
        self.author.say_unnumbered(self.author.name(), Kind::Status, status, START).unwrap()
    }

    /// A measurement.
    pub fn measurement(&mut self) -> Signed {
        let body = Measurement {
            uptime_ms: Millis(1000),
            state: Activity::Charging,
            current_ma: vec![MilliAmps(11_950)],
            voltage_mv: vec![MilliVolts(229_800)],
            stale_ms: None,
            limit_ma: MilliAmps(12_000),
            obeys: None,
            settled: true,
            lease_ms: Millis(2310),
            demand_ma: MilliAmps(16_000),
            energy_mwh: MilliWattHours(1_843_000),
            priority: None,
        };
        self.author.say(Kind::Measurement, body, START).unwrap()
    }

    /// An event.
    pub fn event(&mut self, event: Event) -> Signed {
        self.author.say(Kind::Event, event, START).unwrap()
    }

    /// A setpoint for a device.
    pub fn setpoint(&mut self, device: &str) -> Signed {
        let body = Setpoint {
            answers: Reference { session: Session(1), seq: 1 },
            limit_ma: MilliAmps(8000),
            ttl_ms: Millis(3000),
            hold: false,
            epoch: 1,
            reason: Reason::Phase(Phase::L3),
        };
        self.author.say_to(&name(device), Kind::Setpoint, body, START).unwrap()
    }

    /// A replay of a message.
    pub fn replay(&self, message: &Signed) -> Signed {
        let payload = String::from_utf8(message.payload.clone()).unwrap();
        let body = Replay { topic: message.topic.to_string(), payload };
        self.author.say_unnumbered(self.author.name(), Kind::Replay, body, START).unwrap()
    }
}
