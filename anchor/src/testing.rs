//! A small street for tests: an authority and speakers with certificates, and a log of what they say.

pub mod log;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use grid_protocol::author::{Author, Signed};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{
    Capabilities, DeviceKind, Event, Measurement, Part, Phase, Presence, PreviousSession, Reason, Reference, Replay,
    Role, Session, Setpoint, Status,
};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, MilliWattHours, Millis, UnixMillis};

use crate::intake::Now;
use crate::recorder::{AnchorIdentity, RecorderSettings};
use crate::speech::Speakers;

/// The start of time in tests.
pub const START: UnixMillis = UnixMillis(1_800_000_000_000);

/// So many milliseconds after the start.
pub fn at(ms: u64) -> Now {
    Now { unix: UnixMillis(START.0 + ms), boot: BootTime(50_000 + ms) }
}

/// A name.
pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A folder for a test, in memory where that is possible: syncing a disk takes long, and no test cuts the power.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
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

    /// Somebody with a certificate; `seed` makes key and session.
    pub fn speaker(&self, who: &str, role: Role, seed: u8) -> Speaker {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let identity = Identity { site: name("demo"), role, name: name(who), key: key.verifying_key() };
        let (certificate, _) = self.issuer.issue(&identity, START).unwrap();
        let author = Author::new(name("demo"), name(who), Session(seed.into()), key);
        Speaker { author, certificate, role }
    }

    /// The anchor.
    pub fn anchor(&self) -> AnchorIdentity {
        let Speaker { certificate, .. } = self.speaker("anchor-1", Role::Anchor, 200);
        AnchorIdentity {
            message_key: SigningKey::from_bytes(&[200; 32]),
            certificate,
            authority: self.issuer.authority(),
        }
    }
}

/// Its settings.
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

/// Somebody who signs.
pub struct Speaker {
    /// Key, session, sequence.
    pub author: Author,
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
        let part = match self.role {
            Role::Device => Part::Device(Capabilities::any_current(
                DeviceKind::Ev,
                vec![Phase::L1],
                MilliAmps(6_000),
                MilliAmps(16_000),
            )),
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
        self.author.say_unnumbered(&self.author.name().clone(), Kind::Status, status, START).unwrap()
    }

    /// A measurement.
    pub fn measurement(&mut self) -> Signed {
        let body = Measurement {
            uptime_ms: Millis(1000),
            state: grid_protocol::message::Activity::Charging,
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
        let body =
            Replay { topic: message.topic.to_string(), payload: String::from_utf8(message.payload.clone()).unwrap() };
        self.author.say_unnumbered(&self.author.name().clone(), Kind::Replay, body, START).unwrap()
    }
}
