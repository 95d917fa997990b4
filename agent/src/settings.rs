//! What a person configures: one TOML file per agent.
//!
//! ```toml
//! site = "demo"
//! name = "cp-3"
//!
//! [identity]
//! message_key = "/etc/grid/cp-3.key"
//! certificate = "/etc/grid/cp-3.pem"
//! authority = "/etc/grid/ca.pem"
//!
//! [[meter]]
//! bus = "/dev/i2c-1"
//! address = 0x40
//! scale = 15
//!
//! [device]
//! transformer = "trafo-1"
//! phases = ["L1"]
//! max_ma = 16000
//! ```

use std::path::{Path, PathBuf};

use grid_protocol::message::{DeviceKind, Phase};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::identity::{IdentityFileError, IdentityFiles, IdentitySettings};
use grid_service::link::BrokerSettings;
use grid_service::settings::{Problems, SettingsError, load};
use serde::{Deserialize, Serialize};

use crate::meter::{ChipConfig, problems};
use crate::run::{Common, Credentials, DeviceSettings, TransformerSettings};
use crate::transformer::{Enrolment, Plan};

/// The voltage between phase and neutral for which limits in watts are meant.
pub const NOMINAL_VOLTS: i64 = 230;

/// The longest lease of a site, unless it is configured otherwise.
const MAX_TTL_MS: u64 = 10_000;
/// Below this a lease is over before a busy machine has answered.
const SHORTEST_TTL_MS: u64 = 300;
/// Above this a device that is gone keeps its share for too long.
const LONGEST_TTL_MS: u64 = 60_000;

/// One agent's settings. It has either a `[device]` or a `[transformer]` section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The site: the street, car park or model. 1 to 32 of a-z, 0-9 and '-'.
    pub site: Name,
    /// This agent's name on the site, as in its certificate.
    pub name: Name,
    /// The anchor that writes the log. Default: `anchor-1`.
    #[serde(default = "default_anchor")]
    pub anchor: Name,
    /// How long a message may stay unacknowledged before it is said again, in milliseconds. Default: 15000.
    #[serde(default = "default_replay_after")]
    pub replay_after_ms: Millis,
    /// The broker.
    #[serde(default)]
    pub broker: BrokerSettings,
    /// Who this agent is.
    pub identity: IdentitySettings,
    /// One INA219 per phase, in the order of `phases`.
    pub meter: Vec<ChipConfig>,
    /// For a controllable device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSection>,
    /// For a transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<TransformerSection>,
}

fn default_anchor() -> Name {
    Name::try_from("anchor-1".to_owned()).unwrap_or_else(|_| unreachable!("a literal name"))
}

fn default_replay_after() -> Millis {
    Millis(15_000)
}

/// A controllable device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSection {
    /// The transformer it obeys. Nobody else can set it.
    pub transformer: Name,
    /// `ev`, `heat_pump`, `battery` or `other`. Default: `ev`.
    #[serde(default = "default_kind")]
    pub kind: DeviceKind,
    /// The phases it is connected to, in the order of its `[[meter]]` sections.
    pub phases: Vec<Phase>,
    /// Less than this per phase is not usable. Default: 6000 (IEC 61851-1).
    #[serde(default = "default_min")]
    pub min_ma: MilliAmps,
    /// The most it can draw per phase.
    pub max_ma: MilliAmps,
    /// The limit without a live lease, per phase. The transformer reserves it. Default: 0.
    #[serde(default)]
    pub failsafe_ma: MilliAmps,
    /// 0 goes first, 9 last. Default: 5.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// The site's longest lease, in milliseconds. Default: 10000.
    #[serde(default = "default_max_ttl")]
    pub max_ttl_ms: Millis,
}

fn default_kind() -> DeviceKind {
    DeviceKind::Ev
}

fn default_min() -> MilliAmps {
    MilliAmps(6_000)
}

fn default_priority() -> u8 {
    5
}

fn default_max_ttl() -> Millis {
    Millis(MAX_TTL_MS)
}

/// A transformer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerSection {
    /// What it may carry, all phases together, in watts at 230 V: a third on each phase.
    pub limit_w: i64,
    /// What is left free for deadbands and rounding, per phase. Default: 2 % of the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub margin_ma: Option<MilliAmps>,
    /// How long a lease lasts, in milliseconds; at most `max_ttl_ms`. Default: 10000.
    #[serde(default = "default_max_ttl")]
    pub ttl_ms: Millis,
    /// The site's longest lease, in milliseconds. Default: 10000.
    #[serde(default = "default_max_ttl")]
    pub max_ttl_ms: Millis,
    /// Where the epoch is kept over restarts. Default: nowhere, so that the clock alone must do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch_file: Option<PathBuf>,
    /// The devices it leads.
    #[serde(default)]
    pub device: Vec<Enrolment>,
}

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file of `[identity]` cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
}

/// What an agent is to be, with everything that it needs.
pub enum Agent {
    /// A controllable device.
    Device(Common, DeviceSettings),
    /// A transformer.
    Transformer(Common, TransformerSettings),
}

impl Settings {
    /// Reads settings from a file and the environment, and checks them.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let settings: Self = load(file)?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let mut wrong = Problems::default();
        let one_role = self.device.is_some() != self.transformer.is_some();
        wrong.unless(one_role, || "expected either a [device] or a [transformer] section".to_owned());
        let limit = self.device.as_ref().map(|device| device.max_ma);
        let limit = limit.or(self.transformer.as_ref().map(TransformerSection::limit_ma));
        for problem in problems(&self.meter, limit) {
            wrong.unless(false, || format!("meter: {problem}"));
        }
        let patience = self.replay_after_ms.0;
        wrong.unless(patience >= 1000, || format!("replay_after_ms = {patience}: expected at least 1000"));
        if let Some(device) = &self.device {
            check_max_ttl("device", device.max_ttl_ms, &mut wrong);
            let twice = device.phases.iter().enumerate().any(|(at, phase)| device.phases[..at].contains(phase));
            wrong.unless(!twice, || format!("device.phases = {:?}: a phase stands twice", device.phases));
            let (chips, phases) = (self.meter.len(), device.phases.len());
            wrong.unless(chips == phases, || format!("device.phases: {phases} phases, but {chips} [[meter]] sections"));
            wrong.unless(MilliAmps(0) <= device.min_ma && device.min_ma <= device.max_ma, || {
                format!("device.min_ma = {}: expected 0 to max_ma = {}", device.min_ma.0, device.max_ma.0)
            });
            wrong.unless(MilliAmps(0) <= device.failsafe_ma && device.failsafe_ma <= device.max_ma, || {
                format!("device.failsafe_ma = {}: expected 0 to max_ma = {}", device.failsafe_ma.0, device.max_ma.0)
            });
            wrong.unless(device.priority <= 9, || format!("device.priority = {}: expected 0 to 9", device.priority));
        }
        if let Some(transformer) = &self.transformer {
            transformer.check(self.meter.len(), &mut wrong);
        }
        wrong.check()
    }

    /// Reads the identity's files.
    pub fn resolve(self) -> Result<Agent, StartError> {
        let IdentityFiles { message_key, certificate, authority } = self.identity.read()?;
        let (site, name) = (self.site, self.name);
        let common = Common {
            credentials: Credentials { site, name, certificate, key: message_key, authority },
            broker: self.broker,
            anchor: self.anchor,
            replay_after: self.replay_after_ms,
            simulation: None,
            probe: None,
        };
        Ok(match (self.device, self.transformer) {
            (Some(device), _) => Agent::Device(
                common,
                DeviceSettings {
                    transformer: device.transformer,
                    kind: device.kind,
                    phases: device.phases,
                    min_ma: device.min_ma,
                    max_ma: device.max_ma,
                    failsafe_ma: device.failsafe_ma,
                    priority: device.priority,
                    max_ttl: device.max_ttl_ms,
                },
            ),
            (None, Some(transformer)) => Agent::Transformer(common, transformer.settings()),
            (None, None) => unreachable!("checked when the settings were loaded"),
        })
    }
}

fn check_max_ttl(section: &str, max_ttl: Millis, wrong: &mut Problems) {
    let fits = (SHORTEST_TTL_MS..=LONGEST_TTL_MS).contains(&max_ttl.0);
    wrong.unless(fits, || {
        format!("{section}.max_ttl_ms = {}: expected {SHORTEST_TTL_MS} to {LONGEST_TTL_MS}", max_ttl.0)
    });
}

impl TransformerSection {
    fn limit_ma(&self) -> MilliAmps {
        MilliAmps(self.limit_w.saturating_mul(1000) / 3 / NOMINAL_VOLTS)
    }

    fn margin_ma(&self) -> MilliAmps {
        self.margin_ma.unwrap_or(self.limit_ma().percent(2))
    }

    fn check(&self, chips: usize, wrong: &mut Problems) {
        let limit = self.limit_ma();
        wrong.unless(self.limit_w > 0, || format!("transformer.limit_w = {}: expected more than 0", self.limit_w));
        wrong.unless(chips == 3, || format!("meter: {chips} [[meter]] sections, a transformer needs 3: L1, L2, L3"));
        check_max_ttl("transformer", self.max_ttl_ms, wrong);
        wrong.unless((SHORTEST_TTL_MS..=self.max_ttl_ms.0).contains(&self.ttl_ms.0), || {
            let (ttl, most) = (self.ttl_ms.0, self.max_ttl_ms.0);
            format!("transformer.ttl_ms = {ttl}: expected {SHORTEST_TTL_MS} to max_ttl_ms = {most}")
        });
        wrong.unless(MilliAmps(0) <= self.margin_ma() && self.margin_ma() < limit, || {
            format!("transformer.margin_ma = {}: expected 0 to the limit of {limit} per phase", self.margin_ma().0)
        });
        for (place, device) in self.device.iter().enumerate() {
            let twice = self.device[..place].iter().any(|other| other.name == device.name);
            wrong.unless(!twice, || format!("transformer.device: {:?} stands twice", device.name.as_str()));
            wrong.unless(!device.phases.is_empty() && device.failsafe_ma >= MilliAmps::ZERO, || {
                format!("transformer.device: {:?} needs phases, and a failsafe_ma of 0 or more", device.name.as_str())
            });
        }
        for phase in Phase::ALL {
            let on_phase = self.device.iter().filter(|device| device.phases.contains(&phase));
            let reserve: MilliAmps = on_phase.map(|device| device.failsafe_ma).sum();
            wrong.unless(reserve + self.margin_ma() <= limit, || {
                format!("transformer.device: failsafes on {phase} come to {reserve}, more than the limit of {limit} less the margin")
            });
        }
    }

    fn settings(self) -> TransformerSettings {
        let plan = Plan {
            limit_ma: self.limit_ma(),
            margin_ma: self.margin_ma(),
            ttl: self.ttl_ms,
            max_ttl: self.max_ttl_ms,
            devices: self.device,
        };
        TransformerSettings { phases: Phase::ALL.to_vec(), plan, epoch_file: self.epoch_file }
    }
}
