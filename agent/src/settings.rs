//! What a person configures: one TOML file per agent.
//!
//! ```toml
//! site = "demo"
//! name = "cp-3"
//!
//! [broker]
//! host = "broker.local"
//! tls = true
//!
//! [identity]
//! bundle = "/etc/grid/cp-3.bundle"
//!
//! [[meter.ina219]]
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

use grid_protocol::message::{Capabilities, DeviceKind, Phase};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::broker::{BrokerError, BrokerSettings};
use grid_service::identity::{IdentityFileError, IdentityFiles, IdentitySettings, NotOurs};
use grid_service::settings::{Problems, SettingsError, load};
use serde::{Deserialize, Serialize};

use crate::actuator::settings::ActuatorSection;
use crate::commands::CAP_W;
use crate::home_assistant::HomeAssistant;
use crate::lease::Terms;
use crate::meter::MeterSettings;
use crate::run::{
    Common, Credentials, DEVICE_DISK_BYTES, DeviceSettings, DimmingContact, MEMORY_BYTES, OutboxSettings,
    TRANSFORMER_DISK_BYTES, TransformerSettings,
};
use crate::transformer::{Enrolment, Fuse, Plan, per_phase};

/// The longest lease of a site, unless it is configured otherwise.
const MAX_TTL_MS: u64 = 10_000;
/// Below this a lease is over before a busy machine has answered.
const SHORTEST_TTL_MS: u64 = 300;
/// Above this a device that is gone keeps its share for too long.
const LONGEST_TTL_MS: u64 = 60_000;

/// Below this a burst of messages has no room; above it the agent is no longer small.
const OUTBOX_MEMORY: std::ops::RangeInclusive<u64> = 65_536..=67_108_864;
/// Below this a segment would hold too few messages.
const LEAST_OUTBOX_DISK: u64 = 1_048_576;

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
    /// Where messages wait until the anchor acknowledges them.
    #[serde(default)]
    pub outbox: OutboxSection,
    /// The broker.
    #[serde(default)]
    pub broker: BrokerSettings,
    /// Who this agent is.
    pub identity: IdentitySettings,
    /// What measures, phase by phase: one of `[[meter.ina219]]`, `[[meter.hwmon]]`, `[meter.mqtt]` and `[meter.none]`.
    pub meter: MeterSettings,
    /// For a controllable device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSection>,
    /// What limits the device: `[actuator.pwm]`, `[actuator.control_pilot]`, `[actuator.relay]` or `[actuator.mqtt]`.
    /// Default: none of them, so that the limit is only told, in measurements and in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actuator: Option<ActuatorSection>,
    /// For a transformer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transformer: Option<TransformerSection>,
    /// Lets the agent's device appear in Home Assistant by itself. Default: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home_assistant: Option<HomeAssistant>,
}

fn default_anchor() -> Name {
    Name::try_from("anchor-1".to_owned()).unwrap_or_else(|_| unreachable!("a literal name"))
}

fn default_replay_after() -> Millis {
    Millis(15_000)
}

/// Where messages wait until the anchor acknowledges them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutboxSection {
    /// A folder of this agent's own, for what no longer fits in memory or waits for more than half a minute. With it
    /// nothing is lost when the agent ends, and `grid-agent status` can be asked. Default: none, so memory must do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// How many bytes may wait in memory. Default: 1048576 (1 MiB).
    #[serde(default = "default_memory_bytes")]
    pub memory_bytes: u64,
    /// How many bytes the folder may take. Default: 268435456 (256 MiB); for a transformer 2147483648 (2 GiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
}

impl Default for OutboxSection {
    fn default() -> Self {
        Self { dir: None, memory_bytes: default_memory_bytes(), disk_bytes: None }
    }
}

fn default_memory_bytes() -> u64 {
    MEMORY_BYTES as u64
}

impl OutboxSection {
    fn check(&self, wrong: &mut Problems) {
        let memory = self.memory_bytes;
        wrong.unless(OUTBOX_MEMORY.contains(&memory), || {
            let (least, most) = OUTBOX_MEMORY.into_inner();
            format!("outbox.memory_bytes = {memory}: expected {least} to {most}")
        });
        let disk = self.disk_bytes.unwrap_or(LEAST_OUTBOX_DISK);
        wrong.unless(disk >= LEAST_OUTBOX_DISK, || {
            format!("outbox.disk_bytes = {disk}: expected at least {LEAST_OUTBOX_DISK}")
        });
        wrong.unless(self.dir.is_some() || self.disk_bytes.is_none(), || {
            format!("outbox.disk_bytes = {disk}: there is no outbox.dir to which it could apply")
        });
    }

    fn resolve(self, is_transformer: bool) -> OutboxSettings {
        let usual = if is_transformer { TRANSFORMER_DISK_BYTES } else { DEVICE_DISK_BYTES };
        OutboxSettings {
            dir: self.dir,
            memory_bytes: usize::try_from(self.memory_bytes).unwrap_or(usize::MAX),
            disk_bytes: self.disk_bytes.unwrap_or(usual),
        }
    }
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
    /// The phases it is connected to, in the order in which its `[meter]` has them.
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
    /// The only currents it can draw, ascending, if it cannot draw any from minimum to maximum: `[9000]` for a heat pump
    /// that is on or off. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps_ma: Vec<MilliAmps>,
    /// Once on, it should stay on for so long, in milliseconds; only an overload ends it earlier. Default: 0.
    #[serde(default)]
    pub min_on_ms: Millis,
    /// Once its transformer stopped it, it must stay off for so long, in milliseconds. Default: 0; a stop for want of
    /// room lasts a minute in any case.
    #[serde(default)]
    pub min_off_ms: Millis,
    /// The site's longest lease, in milliseconds. Default: 10000.
    #[serde(default = "default_max_ttl")]
    pub max_ttl_ms: Millis,
    /// Where commands (`set/charging`, `set/priority`) are kept over restarts. Default: nowhere, so that they end with
    /// the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands_file: Option<PathBuf>,
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
    /// Where orders (`set/limit`, `set/dimming`) are kept over restarts. Default: nowhere, so that they end with the
    /// agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands_file: Option<PathBuf>,
    /// Whether roofs behind it may feed in more than everything else draws: then that makes room too, as long as the
    /// meter shows it. Default: false.
    #[serde(default)]
    pub feed_in: bool,
    /// The fuses between it and the devices, each after the one above it. Default: none.
    #[serde(default)]
    pub fuse: Vec<Fuse>,
    /// The devices it leads.
    #[serde(default)]
    pub device: Vec<Enrolment>,
    /// A utility's relay contact that orders dimming. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimming_contact: Option<DimmingContact>,
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
    /// The files of `[identity]` are another agent's.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// `[broker]` and `[identity]` lead to no broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
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

    /// Fails with everything that is wrong or does not go together.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut wrong = Problems::default();
        let one_role = self.device.is_some() != self.transformer.is_some();
        wrong.unless(one_role, || "expected either a [device] or a [transformer] section".to_owned());
        self.broker.check(Some(&self.identity), &mut wrong);
        let limit = self.device.as_ref().map(|device| device.max_ma);
        let limit = limit.or(self.transformer.as_ref().map(TransformerSection::limit_ma));
        self.meter.check(limit, &self.name, &self.identity, &mut wrong);
        let patience = self.replay_after_ms.0;
        self.outbox.check(&mut wrong);
        wrong.unless(patience >= 1000, || format!("replay_after_ms = {patience}: expected at least 1000"));
        if let Some(device) = &self.device {
            check_max_ttl("device", device.max_ttl_ms, &mut wrong);
            let twice = device.phases.iter().enumerate().any(|(at, phase)| device.phases[..at].contains(phase));
            wrong.unless(!twice, || format!("device.phases = {:?}: a phase stands twice", device.phases));
            let (measured, phases) = (self.meter.phases(), device.phases.len());
            wrong.unless(measured == phases, || {
                format!("device.phases: {phases} phases, but [meter] has {measured}: as many are needed")
            });
            wrong.unless(MilliAmps(0) <= device.min_ma && device.min_ma <= device.max_ma, || {
                format!("device.min_ma = {}: expected 0 to max_ma = {}", device.min_ma.0, device.max_ma.0)
            });
            wrong.unless(MilliAmps(0) <= device.failsafe_ma && device.failsafe_ma <= device.max_ma, || {
                format!("device.failsafe_ma = {}: expected 0 to max_ma = {}", device.failsafe_ma.0, device.max_ma.0)
            });
            let ascending = device.steps_ma.windows(2).all(|steps| steps[0] < steps[1]);
            let within = |step: &MilliAmps| device.min_ma <= *step && *step <= device.max_ma && step.0 > 0;
            wrong.unless(ascending && device.steps_ma.iter().all(within), || {
                let steps: Vec<i64> = device.steps_ma.iter().map(|step| step.0).collect();
                format!("device.steps_ma = {steps:?}: expected ascending values from min_ma to max_ma")
            });
            wrong.unless(device.priority <= 9, || format!("device.priority = {}: expected 0 to 9", device.priority));
        }
        match (&self.actuator, &self.device) {
            (Some(actuator), Some(device)) => actuator.check(&device.ratings(), &self.identity, &mut wrong),
            (Some(_), None) => wrong.unless(false, || "actuator: only a [device] has one".to_owned()),
            (None, _) => {}
        }
        if let Some(transformer) = &self.transformer {
            transformer.check(self.meter.phases(), &mut wrong);
        }
        if let Some(problem) = self.home_assistant.as_ref().and_then(HomeAssistant::problem) {
            wrong.unless(false, || problem);
        }
        wrong.check()
    }

    /// The names of the meter's phases, in its order.
    pub fn phase_names(&self) -> Vec<String> {
        let phases = self.device.as_ref().map_or(Phase::ALL.to_vec(), |device| device.phases.clone());
        phases.iter().map(Phase::to_string).collect()
    }

    /// Reads the identity's files.
    pub fn resolve(self) -> Result<Agent, StartError> {
        let identity = self.identity.read()?;
        identity.check(&self.site, &self.name)?;
        let broker = self.broker.resolve(&identity)?;
        let IdentityFiles { message_key, certificate, authority, tls_key: _ } = identity;
        let (site, name) = (self.site, self.name);
        let common = Common {
            credentials: Credentials { site, name, certificate, key: message_key, authority },
            broker,
            anchor: self.anchor,
            replay_after: self.replay_after_ms,
            outbox: self.outbox.resolve(self.transformer.is_some()),
            simulation: None,
            probe: None,
            home_assistant: self.home_assistant,
        };
        Ok(match (self.device, self.transformer) {
            (Some(device), _) => Agent::Device(
                common,
                DeviceSettings {
                    transformer: device.transformer,
                    capabilities: Capabilities {
                        kind: device.kind,
                        phases: device.phases,
                        min_ma: device.min_ma,
                        max_ma: device.max_ma,
                        failsafe_ma: device.failsafe_ma,
                        priority: device.priority,
                        steps_ma: device.steps_ma,
                        min_on_ms: device.min_on_ms,
                        min_off_ms: device.min_off_ms,
                    },
                    max_ttl: device.max_ttl_ms,
                    commands_file: device.commands_file,
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
        per_phase(u64::try_from(self.limit_w).unwrap_or(0))
    }

    fn check(&self, measured: usize, wrong: &mut Problems) {
        let limit = self.limit_ma();
        wrong.unless(self.limit_w > 0, || format!("transformer.limit_w = {}: expected more than 0", self.limit_w));
        wrong.unless(measured == 3, || format!("meter: {measured} phases, a transformer needs 3: L1, L2, L3"));
        check_max_ttl("transformer", self.max_ttl_ms, wrong);
        wrong.unless((SHORTEST_TTL_MS..=self.max_ttl_ms.0).contains(&self.ttl_ms.0), || {
            let (ttl, most) = (self.ttl_ms.0, self.max_ttl_ms.0);
            format!("transformer.ttl_ms = {ttl}: expected {SHORTEST_TTL_MS} to max_ttl_ms = {most}")
        });
        let plan = self.plan();
        let margin = plan.margin(limit);
        wrong.unless(MilliAmps(0) <= margin && margin < limit, || {
            format!("transformer.margin_ma = {}: expected 0 to the limit of {limit} per phase", margin.0)
        });
        for (place, fuse) in self.fuse.iter().enumerate() {
            let name = fuse.name.as_str();
            let twice = self.fuse[..place].iter().any(|other| other.name == fuse.name);
            wrong.unless(!twice, || format!("transformer.fuse: {name:?} stands twice"));
            let known = |parent: &Name| self.fuse[..place].iter().any(|other| other.name == *parent);
            wrong.unless(fuse.parent.as_ref().is_none_or(known), || {
                let parent = fuse.parent.as_ref().map_or("", Name::as_str);
                format!("transformer.fuse: {name:?} has the parent {parent:?}, which does not stand before it")
            });
            wrong.unless(MilliAmps(0) <= fuse.base_ma && fuse.base_ma < fuse.limit_ma, || {
                format!("transformer.fuse: {name:?} needs a limit_ma above its base_ma = {}", fuse.base_ma.0)
            });
        }
        for (place, device) in self.device.iter().enumerate() {
            let name = device.name.as_str();
            let twice = self.device[..place].iter().any(|other| other.name == device.name);
            wrong.unless(!twice, || format!("transformer.device: {name:?} stands twice"));
            let once = |phase: &Phase| device.phases.iter().filter(|other| *other == phase).count() == 1;
            let phases = !device.phases.is_empty() && device.phases.iter().all(once);
            wrong.unless(phases && device.failsafe_ma >= MilliAmps::ZERO, || {
                format!("transformer.device: {name:?} needs phases, each once, and a failsafe_ma of 0 or more")
            });
            let known = |name: &Name| self.fuse.iter().any(|fuse| fuse.name == *name);
            wrong.unless(device.fuse.as_ref().is_none_or(known), || {
                let fuse = device.fuse.as_ref().map_or("", Name::as_str);
                format!("transformer.device: {name:?} is behind the fuse {fuse:?}, which there is not")
            });
        }
        self.check_reserve(&plan, wrong);
        if let Some(contact) = &self.dimming_contact {
            wrong.unless(CAP_W.contains(&contact.limit_w), || {
                let (least, most) = CAP_W.into_inner();
                format!("transformer.dimming_contact.limit_w = {}: expected {least} to {most}", contact.limit_w)
            });
        }
    }

    /// Rule 5: what is reserved must fit at every node.
    fn check_reserve(&self, plan: &Plan, wrong: &mut Problems) {
        let limits = self.fuse.iter().map(|fuse| (fuse.name.to_string(), fuse.limit_ma - fuse.base_ma));
        let transformer = self.limit_ma() - plan.margin(self.limit_ma());
        let limits: Vec<_> = std::iter::once(("the transformer".to_owned(), transformer)).chain(limits).collect();
        let parents = plan.parents();
        for (node, (name, room)) in limits.iter().enumerate() {
            let below = |device: &&Enrolment| {
                std::iter::successors(Some(plan.node(device.fuse.as_ref())), |node| parents[*node]).any(|at| at == node)
            };
            for phase in Phase::ALL {
                let on_phase = self.device.iter().filter(below).filter(|device| device.phases.contains(&phase));
                let reserve: MilliAmps = on_phase.map(|device| device.failsafe_ma).sum();
                wrong.unless(reserve <= *room, || {
                    format!(
                        "transformer.device: failsafes on {phase} come to {reserve}, but {name} has {room} for them"
                    )
                });
            }
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            limit_w: u64::try_from(self.limit_w).unwrap_or(0),
            margin_ma: self.margin_ma,
            terms: Terms { ttl: self.ttl_ms, max_ttl: self.max_ttl_ms },
            devices: self.device.clone(),
            fuses: self.fuse.clone(),
            feed_in: self.feed_in,
            time_factor: 1,
        }
    }

    fn settings(self) -> TransformerSettings {
        let plan = self.plan();
        TransformerSettings {
            phases: Phase::ALL.to_vec(),
            plan,
            epoch_file: self.epoch_file,
            commands_file: self.commands_file,
            dimming_contact: self.dimming_contact,
        }
    }
}
