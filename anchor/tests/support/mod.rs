//! A street of one broker, one device that repeats itself until it is acknowledged, and an anchor.

#![allow(dead_code, reason = "each test file uses another part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::EncodePrivateKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use grid_anchor::policy::Policy;
use grid_anchor::recorder::AnchorIdentity;
use grid_anchor::settings::Settings;
use grid_anchor::verify::{Explanation, Gap, Report, verify_log};
use grid_protocol::author::{Author, Signed};
use grid_protocol::identity::{Authority, Identity, Issuer};
use grid_protocol::message::{
    Ack, Capabilities, DeviceKind, Event, Message, Part, Phase, Presence, Replay, Role, Session, Status,
};
use grid_protocol::seal::Sealed;
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{MilliAmps, MilliWattHours, Millis};
use grid_service::broker::{Broker, BrokerSettings};
use grid_service::clock::unix_now;
use grid_service::identity::IdentitySettings;
use grid_service::link::{Delivery, Incoming, Link};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::net::TcpListener;

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A site with its broker, which runs as long as the test.
pub struct Site {
    pub folder: tempfile::TempDir,
    port: u16,
    issuer: Issuer,
}

impl Site {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(grid_broker::run(
            listener.into(),
            grid_broker::Limits::default(),
            grid_broker::Access::open(),
            std::future::pending(),
        ));
        Self::on(port)
    }

    /// A site whose broker is somebody else's.
    pub fn on(port: u16) -> Self {
        let issuer = Issuer::create(&name("demo"), unix_now()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), port, issuer }
    }

    pub fn broker(&self) -> Broker {
        Broker::plain("127.0.0.1", self.port)
    }

    fn certify(&self, who: &str, role: Role, key: &SigningKey) -> Vec<u8> {
        let identity = Identity { site: name("demo"), role, name: name(who), key: key.verifying_key() };
        self.issuer.issue(&identity, unix_now()).unwrap().0
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// An anchor that syncs and checkpoints often.
    pub fn anchor(&self) -> (Settings, AnchorIdentity) {
        let key = SigningKey::from_bytes(&[200; 32]);
        let certificate = self.certify("anchor-1", Role::Anchor, &key);
        let mut settings = Settings::new(name("demo"), name("anchor-1"), self.data_dir());
        settings.broker = BrokerSettings::plain("127.0.0.1", self.port);
        settings.log.commit_ms = Millis(50);
        settings.log.checkpoint_ms = Millis(200);
        (settings, AnchorIdentity { message_key: key, certificate, authority: self.issuer.authority() })
    }

    /// The same as files.
    pub fn anchor_config(&self) -> PathBuf {
        self.anchor_config_with(|_| ())
    }

    /// The same with other settings.
    pub fn anchor_config_with(&self, change: impl FnOnce(&mut Settings)) -> PathBuf {
        let (mut settings, identity) = self.anchor();
        change(&mut settings);
        let write = |file: &str, bytes: &[u8]| {
            let path = self.folder.path().join(file);
            fs::write(&path, bytes).unwrap();
            path
        };
        let pem = identity.message_key.to_pkcs8_pem(LineEnding::LF).unwrap();
        settings.identity = Some(IdentitySettings::Files {
            message_key: write("anchor-1.key", pem.as_bytes()),
            certificate: write("anchor-1.der", &identity.certificate),
            authority: write("ca.der", identity.authority.der()),
            tls_key: None,
        });
        write("anchor.toml", toml::to_string(&settings).unwrap().as_bytes())
    }

    pub fn authority(&self) -> Authority {
        self.issuer.authority()
    }

    pub fn verify(&self) -> Report {
        let policy = fs::read_to_string(self.data_dir().join("site.policy")).unwrap();
        verify_log(&self.log(), Some(&Policy::read(&policy).unwrap())).unwrap()
    }

    pub fn log(&self) -> PathBuf {
        self.data_dir().join("log")
    }

    pub fn policy(&self) -> PathBuf {
        self.data_dir().join("site.policy")
    }

    pub fn device(&self, who: &str, seed: u8) -> Device {
        self.device_as(Role::Device, who, seed)
    }

    /// Somebody with another role's certificate, who otherwise does what a device does.
    pub fn device_as(&self, role: Role, who: &str, seed: u8) -> Device {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let certificate = self.certify(who, role, &key);
        let author = Author::new(name("demo"), name(who), Session(seed.into()), key);
        let (link, incoming) = Link::open(&self.broker(), &name(who), vec![format!("grid/demo/{who}/ack")]);
        Device { author, certificate, link, incoming, held: BTreeMap::new(), is_up: false }
    }
}

struct Held {
    signed: Signed,
    said: Instant,
}

/// A device that keeps every message until an acknowledgement covers it.
pub struct Device {
    author: Author,
    certificate: Vec<u8>,
    link: Link,
    incoming: tokio::sync::mpsc::Receiver<Incoming>,
    held: BTreeMap<u64, Held>,
    is_up: bool,
}

impl Device {
    /// How many messages it said.
    pub fn said(&self) -> u64 {
        self.author.last_seq()
    }

    /// How many are not acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.held.len()
    }

    fn say(&mut self, kind: Kind, body: impl serde::Serialize, delivery: Delivery) {
        let signed = self.author.say(kind, body, unix_now()).unwrap();
        // Not sent is like lost: it is said again.
        self.link.publish(&signed.topic.to_string(), signed.payload.clone(), delivery).ok();
        self.held.insert(signed.seq.unwrap(), Held { signed, said: Instant::now() });
    }

    /// Says what happened.
    pub fn tell(&mut self, event: Event) {
        self.say(Kind::Event, event, Delivery::Assured);
    }

    fn birth(&mut self) {
        let part = Part::Device(Capabilities::any_current(
            DeviceKind::Ev,
            vec![Phase::L1],
            MilliAmps(6_000),
            MilliAmps(16_000),
        ));
        let status = Status {
            state: Presence::Online,
            part,
            software: "test".into(),
            time_factor: 1,
            plant_time_ms: None,
            ends: None,
            previous: None,
            certificate: STANDARD.encode(&self.certificate),
        };
        self.say(Kind::Status, status, Delivery::AssuredRetained);
    }

    /// Does what a device does for a while: hears acknowledgements, says `count` messages, and repeats old ones.
    pub async fn live(&mut self, count: u32, span: Duration) {
        let end = Instant::now() + span;
        let mut left = count;
        while Instant::now() < end {
            while let Ok(happened) = self.incoming.try_recv() {
                match happened {
                    Incoming::Connected => {
                        self.is_up = true;
                        self.birth();
                    }
                    Incoming::Message(message) => {
                        let sealed = Sealed::parse(&message.payload).unwrap();
                        self.acknowledged(&sealed.read::<Message<Ack>>().unwrap().body);
                    }
                    Incoming::Dialing(_) => {}
                    Incoming::Lost(_) => self.is_up = false,
                }
            }
            if self.is_up && left > 0 {
                left -= 1;
                if left.is_multiple_of(7) {
                    self.tell(Event::ChargingStarted { energy_mwh: MilliWattHours(left.into()) });
                } else {
                    self.say(Kind::Measurement, serde_json::json!({"uptime_ms": left}), Delivery::Once);
                }
            }
            self.repeat();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Goes on until everything that it said is acknowledged.
    pub async fn until_acknowledged(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.unacknowledged() > 0 {
            assert!(Instant::now() < deadline, "{} messages were never acknowledged", self.unacknowledged());
            self.live(0, Duration::from_millis(100)).await;
        }
    }

    fn acknowledged(&mut self, ack: &Ack) {
        if ack.of == self.author.session() {
            let missing = |seq: &u64| ack.missing.iter().any(|(first, last)| (first..=last).contains(&seq));
            self.held.retain(|seq, _| *seq > ack.through || missing(seq));
        }
    }

    fn repeat(&mut self) {
        let patience = Duration::from_millis(400);
        let old = self.held.values_mut().filter(|held| held.said.elapsed() > patience).take(20);
        for held in old {
            held.said = Instant::now();
            let body = Replay {
                topic: held.signed.topic.to_string(),
                payload: String::from_utf8(held.signed.payload.clone()).unwrap(),
            };
            let device = self.author.name().clone();
            let signed = self.author.say_unnumbered(&device, Kind::Replay, body, unix_now()).unwrap();
            self.link.publish(&signed.topic.to_string(), signed.payload, Delivery::Assured).ok();
        }
    }
}

/// Everything that a device said is in the log once, and the log holds.
pub fn everything_is_there_once(site: &Site, device: &Device) {
    let report = site.verify();
    assert!(report.holds, "{:?}", report.failure);
    assert_eq!(report.messages.by_sender.get(&name("cp-1")), Some(&device.said()));
    assert_eq!((report.messages.duplicates, report.messages.unverified, report.messages.not_logged), (0, 0, 0));
    let missing = |gap: &&Gap| gap.device == name("cp-1") && gap.explanation != Explanation::ReplayedLater;
    assert_eq!(report.messages.gaps.iter().find(missing), None);
    assert_eq!(entries_of(&site.log(), "cp-1"), device.said());
}

/// How many times to kill unless `KILLS` says otherwise, and the moments at which to do so, unless `KILL_SEED` does.
pub fn kills(times: u32) -> (u32, StdRng) {
    let given = |variable| std::env::var(variable).ok().map(|value: String| value.parse().unwrap());
    let seed = given("KILL_SEED").unwrap_or_else(rand::random);
    println!("KILL_SEED={seed}");
    (given("KILLS").map_or(times, |kills| u32::try_from(kills).unwrap()), StdRng::seed_from_u64(seed))
}

/// How many entries of the log are on this device's topics.
pub fn entries_of(log: &Path, device: &str) -> u64 {
    let selection = grid_anchor::show::Selection { device: Some(name(device)), ..Default::default() };
    let mut count = 0;
    grid_anchor::show::show(log, &selection, |_| {
        count += 1;
        true
    })
    .unwrap();
    count
}
