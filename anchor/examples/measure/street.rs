//! A site whose devices sign realistic messages.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use grid_anchor::intake::Now;
use grid_anchor::recorder::{AnchorIdentity, RecorderSettings};
use grid_protocol::author::{Author, Signed};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{
    Activity, Balance, Capabilities, DeviceKind, Measurement, Part, Phase, Presence, Reason, Reference, Role, Session,
    Setpoint, Status,
};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{MilliAmps, MilliVolts, MilliWattHours, Millis, UnixMillis};
use grid_service::clock::{boot_now, unix_now};

use crate::Failure;

/// Both clocks.
pub fn now() -> Now {
    Now { unix: unix_now(), boot: boot_now() }
}

/// A site.
pub struct Street {
    issuer: Issuer,
    site: Name,
}

/// Somebody who signs.
pub struct Speaker {
    pub author: Author,
    certificate: String,
    part: Part,
}

impl Street {
    pub fn new() -> Result<Self, Failure> {
        let site: Name = "demo".parse()?;
        Ok(Self { issuer: Issuer::create(&site, unix_now())?, site })
    }

    fn certify(&self, name: &str, role: Role, key: &SigningKey) -> Result<Vec<u8>, Failure> {
        let identity = Identity { site: self.site.clone(), role, name: name.parse()?, key: key.verifying_key() };
        Ok(self.issuer.issue(&identity, unix_now())?.0)
    }

    pub fn anchor(&self) -> Result<AnchorIdentity, Failure> {
        let message_key = SigningKey::from_bytes(&[255; 32]);
        let certificate = self.certify("anchor-1", Role::Anchor, &message_key)?;
        Ok(AnchorIdentity { message_key, certificate, authority: self.issuer.authority() })
    }

    pub fn settings(&self, commit: Millis) -> Result<RecorderSettings, Failure> {
        let name = "anchor-1".parse()?;
        Ok(RecorderSettings {
            site: self.site.clone(),
            name,
            commit,
            checkpoint: Millis(60_000),
            min_free_mb: 200,
            origin: None,
            retention: Default::default(),
        })
    }

    fn speaker(&self, name: &str, part: Part, number: u8) -> Result<Speaker, Failure> {
        let key = SigningKey::from_bytes(&[number; 32]);
        let certificate = STANDARD.encode(self.certify(name, part.role(), &key)?);
        let author =
            Author::new(self.site.clone(), name.parse()?, Session(0x9f1c_2e7a_00b4_d600 + u64::from(number)), key);
        Ok(Speaker { author, certificate, part })
    }

    /// The charge points `cp-1`, `cp-2` and so on.
    pub fn devices(&self, count: u8) -> Result<Vec<Speaker>, Failure> {
        let phases = vec![Phase::L1, Phase::L2, Phase::L3];
        let part = Capabilities::any_current(DeviceKind::Ev, phases, MilliAmps(6_000), MilliAmps(16_000));
        (1..=count).map(|number| self.speaker(&format!("cp-{number}"), Part::Device(part.clone()), number)).collect()
    }

    pub fn transformer(&self) -> Result<Speaker, Failure> {
        self.speaker("trafo-1", Part::Transformer { phases: Phase::ALL.to_vec() }, 254)
    }
}

impl Speaker {
    pub fn birth(&mut self, at: UnixMillis) -> Result<Signed, Failure> {
        let status = Status {
            state: Presence::Online,
            part: self.part.clone(),
            software: "grid-agent 0.1.0".to_owned(),
            time_factor: 1,
            plant_time_ms: None,
            ends: None,
            previous: None,
            certificate: self.certificate.clone(),
        };
        Ok(self.author.say(Kind::Status, status, at)?)
    }

    /// Three phases, as most charge points have.
    pub fn measurement(&mut self, number: u64, at: UnixMillis) -> Result<Signed, Failure> {
        let wobble = |phase: i64| (number as i64 * 7919 + phase * 104_729) % 300;
        let body = Measurement {
            uptime_ms: Millis(81_200 + 997 * number),
            state: Activity::Charging,
            current_ma: (0..3).map(|phase| MilliAmps(11_950 + wobble(phase))).collect(),
            voltage_mv: (0..3).map(|phase| MilliVolts(229_800 + wobble(phase + 3))).collect(),
            stale_ms: None,
            limit_ma: MilliAmps(12_000),
            obeys: Some(Reference { session: Session(0x77aa_01c2_d3e4_f506), seq: 5120 + number }),
            settled: true,
            lease_ms: Millis(2310 + number % 690),
            demand_ma: MilliAmps(16_000),
            energy_mwh: MilliWattHours(1_843_000 + 7 * number as i64),
            priority: None,
        };
        Ok(self.author.say(Kind::Measurement, body, at)?)
    }

    pub fn setpoint(&mut self, device: &Author, at: UnixMillis) -> Result<Signed, Failure> {
        let body = Setpoint {
            answers: Reference { session: device.session(), seq: device.last_seq() },
            limit_ma: MilliAmps(12_000),
            ttl_ms: Millis(10_000),
            hold: false,
            epoch: 1_475_863_000,
            reason: Reason::Phase(Phase::L3),
        };
        Ok(self.author.say_to(device.name(), Kind::Setpoint, body, at)?)
    }

    pub fn balance(&mut self, number: u64, at: UnixMillis) -> Result<Signed, Failure> {
        let over = |base: i64| (0..3).map(|phase| MilliAmps(base + (number as i64 * 613 + phase * 97) % 900)).collect();
        let body = Balance {
            limit_ma: vec![MilliAmps(115_900); 3],
            load_ma: over(98_100),
            uncontrolled_ma: over(86_100),
            headroom_ma: over(17_800),
            devices: 40,
            held_back_percent: 38,
            limit_w: Some(80_000),
        };
        Ok(self.author.say(Kind::Balance, body, at)?)
    }
}

/// Births and then measurements of these devices in turn, `count` in all.
pub fn measurements(devices: &mut [Speaker], count: usize) -> Result<Vec<Signed>, Failure> {
    let mut messages = Vec::with_capacity(count);
    for device in devices.iter_mut() {
        messages.push(device.birth(unix_now())?);
    }
    let many = devices.len();
    for number in 0..count.saturating_sub(many) {
        messages.push(devices[number % many].measurement(number as u64, unix_now())?);
    }
    Ok(messages)
}
