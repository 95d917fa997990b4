//! The section `[actuator]`: one of `[actuator.pwm]`, `[actuator.control_pilot]`, `[actuator.relay]` and `[actuator.mqtt]`,
//! or none of them, and the limit is only told (advice).

use std::path::PathBuf;

use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::broker::BrokerSettings;
use grid_service::chain;
use grid_service::clock::boot_now;
use grid_service::identity::IdentitySettings;
use grid_service::settings::Problems;
use serde::{Deserialize, Serialize};

use super::guard::{Guard, Hardware, Manners};
use super::mqtt::Charger;
use super::pwm::{Channel, Pwm, Signal};
use super::relay::{Habits, Opener, Relay};
use super::template::{ChargerUnit, Template};
use super::{ActuatorError, pilot};
use crate::gpio::Line;

/// Leases end so much earlier where the hardware is on this machine: it is quick, but the machine may be busy.
const HERE: Millis = Millis(20);
/// A period outside of this is no PWM that a lamp or motor could use.
const PERIOD_NS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000;
/// Less would flood the charger, more would feed nothing.
const REPEAT_MS: std::ops::RangeInclusive<u64> = 100..=60_000;
/// Less says nothing of a charger that tells what it obeys once a second, more is no check.
const MAX_AGE_MS: std::ops::RangeInclusive<u64> = 500..=600_000;
/// MQTT client ids of our site's names have at most so many characters.
const LONGEST_NAME: usize = 32;
const CLIENT: &str = "-charger";

/// What makes the device draw no more than it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActuatorSection {
    /// A lamp or motor on the kernel's PWM.
    Pwm(PwmSection),
    /// The control pilot of a charge point (IEC 61851-1), on the kernel's PWM.
    ControlPilot(PilotSection),
    /// A contactor on a GPIO line.
    Relay(RelaySection),
    /// A charger that is commanded by MQTT.
    Mqtt(Box<MqttSection>),
}

/// A lamp or motor: from dark or still at 0 to all it can at `max_ma`.
///
/// ```toml
/// [actuator.pwm]
/// chip = 0
/// channel = 0
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PwmSection {
    /// The number of the PWM chip, as in `/sys/class/pwm/pwmchip0`. Default: 0.
    #[serde(default)]
    pub chip: u32,
    /// The number of its channel. Default: 0, which `dtoverlay=pwm` puts on GPIO 18 of a Raspberry Pi before the 5; on a Pi 5
    /// chip and channel are others.
    #[serde(default)]
    pub channel: u32,
    /// The period in nanoseconds. Default: 1000000 (1 kHz).
    #[serde(default = "default_period")]
    pub period_ns: u64,
    /// Turns the output over, for a driver that is on while the pin is low. Default: false.
    #[serde(default)]
    pub inverted: bool,
    /// Where the kernel's PWM is; another folder is for tests and unusual systems. Default: `/sys/class/pwm`.
    #[serde(default = "default_sysfs")]
    pub sysfs: PathBuf,
}

/// The control pilot of IEC 61851-1: 1 kHz, its duty says what the car may draw, 6 A to 80 A. Less than 6 A is constantly
/// high: no charging.
///
/// ```toml
/// [actuator.control_pilot]
/// inverted = true
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PilotSection {
    /// The number of the PWM chip, as in `/sys/class/pwm/pwmchip0`. Default: 0.
    #[serde(default)]
    pub chip: u32,
    /// The number of its channel. Default: 0, which `dtoverlay=pwm` puts on GPIO 18 of a Raspberry Pi before the 5; on a Pi 5
    /// chip and channel are others.
    #[serde(default)]
    pub channel: u32,
    /// Turns the output over, for a pilot driver (±12 V) that turns it over once more. Default: false.
    #[serde(default)]
    pub inverted: bool,
    /// Where the kernel's PWM is; another folder is for tests and unusual systems. Default: `/sys/class/pwm`.
    #[serde(default = "default_sysfs")]
    pub sysfs: PathBuf,
}

/// A contactor on a GPIO line. It is closed while the limit is at least `on_ma`, opens at once, and closes again only when
/// the device's `min_off_ms`, and `min_on_ms` and `min_off_ms` since it closed before, are over. Wire it so that it is open
/// while nobody drives the line: what a line does when the program has ended is the chip's business.
///
/// ```toml
/// [actuator.relay]
/// line = 17
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelaySection {
    /// The chip's device file. Default: `/dev/gpiochip0`.
    #[serde(default = "default_gpio_chip")]
    pub chip: PathBuf,
    /// The line, on a Raspberry Pi the GPIO number (not the pin's).
    pub line: u32,
    /// The relay is on while the line is low. Default: false.
    #[serde(default)]
    pub active_low: bool,
    /// The limit from which on it is closed. Default: the device's `min_ma`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_ma: Option<MilliAmps>,
}

/// A charger that has its own MQTT. It is told its limit whenever that changes and every `repeat_ms`.
///
/// At a `grid-broker` the connection needs a user of its own (an agent's certificate is for the agent alone), and that user
/// a grant for the charger's topics:
///
/// ```toml
/// [[user]]
/// name = "cp-2-charger"
/// role = "guest"
/// password_hash = "…"
///
/// [[grant]]
/// to = "cp-2-charger"
/// publish = ["charger/cp-2/limit"]
/// subscribe = ["charger/cp-2/state"]
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSection {
    /// Where the charger takes its limit.
    pub topic: String,
    /// What it is told there: `{"amps":{{amps}}}`. `{{amps}}` is decimal, `{{whole_amps}}` whole, `{{milliamps}}` per phase
    /// as well, `{{watts}}` of all phases at 230 V; all rounded down. Below `min_ma` the limit is 0.
    pub payload: Template,
    /// Where it is told instead that it must not draw at all, if that is another topic. Default: `topic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_topic: Option<String>,
    /// What it is told there below `min_ma`. Default: none, so that it is told a limit of 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_payload: Option<String>,
    /// What it is told there from `min_ma` on, after its limit. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_payload: Option<String>,
    /// How often it is told again, in milliseconds, which feeds its own fallback. Default: 1000.
    #[serde(default = "default_repeat")]
    pub repeat_ms: Millis,
    /// After how long without being told the charger itself falls back to `failsafe_ma` or less, in milliseconds. Leases
    /// end so much earlier, so it can be at most half of `max_ttl_ms`. Default: none, it never does; then `failsafe_ma` must
    /// be `max_ma`, which stays reserved for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charger_fallback_ms: Option<Millis>,
    /// How long it takes to obey, in milliseconds. Default: 2000.
    #[serde(default = "default_change_time")]
    pub change_time_ms: Millis,
    /// Where it says which limit it obeys. It is a fault if for longer than `change_time_ms` that is above what it was told,
    /// cannot be read, or was never said since the connection stands. Default: nowhere, and it is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_back: Option<ReadBack>,
    /// The broker that it is connected to, as in `[broker]`. Default: one on this machine, without login.
    #[serde(default)]
    pub broker: BrokerSettings,
}

/// Where a charger says which limit it obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadBack {
    /// The topic.
    pub topic: String,
    /// Where in the JSON it stands (RFC 6901): `/set/amps`. Default: the payload is the number.
    #[serde(default)]
    pub pointer: String,
    /// `A`, `mA` or `W`. Default: `A`.
    #[serde(default)]
    pub unit: ChargerUnit,
    /// What it said counts for so long, in milliseconds; a copy that the broker kept (retained) does not count then, as
    /// nobody knows how old it is. For a charger that says it again and again. Default: until it says something else, also if
    /// it has fallen silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_ms: Option<Millis>,
}

fn default_period() -> u64 {
    1_000_000
}

fn default_sysfs() -> PathBuf {
    "/sys/class/pwm".into()
}

fn default_gpio_chip() -> PathBuf {
    "/dev/gpiochip0".into()
}

fn default_repeat() -> Millis {
    Millis(1_000)
}

fn default_change_time() -> Millis {
    Millis(2_000)
}

/// What an actuator must know of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratings {
    /// Less than this per phase is not usable.
    pub min_ma: MilliAmps,
    /// The most it can draw per phase.
    pub max_ma: MilliAmps,
    /// The limit without a live lease, per phase.
    pub failsafe_ma: MilliAmps,
    /// Once on, it should stay on for so long.
    pub min_on: Millis,
    /// Once off, it must stay off for so long.
    pub min_off: Millis,
    /// How many phases it has.
    pub phases: usize,
    /// The site's longest lease.
    pub max_ttl: Millis,
}

/// Whose actuator it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The agent's name.
    pub name: &'a Name,
    /// Its identity: of use only for TLS to the broker of `[actuator.mqtt]`.
    pub identity: &'a IdentitySettings,
}

/// Hardware that was opened, and whether its safe state is set.
pub type Opened = (Box<dyn Hardware>, Result<(), ActuatorError>);

impl ActuatorSection {
    /// Notes what does not fit the device.
    pub fn check(&self, ratings: &Ratings, identity: &IdentitySettings, wrong: &mut Problems) {
        match self {
            Self::Pwm(pwm) => {
                let (least, most) = PERIOD_NS.into_inner();
                wrong.unless(PERIOD_NS.contains(&pwm.period_ns), || {
                    format!("actuator.pwm.period_ns = {}: expected {least} to {most}", pwm.period_ns)
                });
                wrong.unless(ratings.max_ma.0 > 0, || {
                    format!("device.max_ma = {}: [actuator.pwm] needs more than 0", ratings.max_ma.0)
                });
            }
            Self::ControlPilot(_) => {
                let (min, max) = (ratings.min_ma, ratings.max_ma);
                let (least, most) = (pilot::LEAST, pilot::MOST);
                wrong.unless(min >= least, || {
                    format!("device.min_ma = {}: [actuator.control_pilot] can tell a car {} at least", min.0, least.0)
                });
                wrong.unless(max <= most, || {
                    format!("device.max_ma = {}: [actuator.control_pilot] can tell a car {} at most", max.0, most.0)
                });
            }
            Self::Relay(relay) => {
                let (on, max) = (relay.habits(ratings).on_ma, ratings.max_ma);
                wrong.unless(on.0 > 0 && on <= max, || {
                    format!("actuator.relay.on_ma = {}: expected 1 to max_ma = {}", on.0, max.0)
                });
            }
            Self::Mqtt(mqtt) => mqtt.check(ratings, identity, wrong),
        }
    }

    /// Opens the hardware and sets it to `safe`. The second value says whether that was done; of a charger it may not have
    /// been yet, as its broker may come later.
    ///
    /// # Errors
    /// If the hardware cannot be used.
    pub fn open(&self, ratings: &Ratings, safe: MilliAmps, owner: Owner<'_>) -> Result<Opened, ActuatorError> {
        Ok(match self {
            Self::Pwm(pwm) => {
                let PwmSection { chip, channel, period_ns, inverted, sysfs } = pwm.clone();
                let channel = Channel { sysfs, chip, channel, period_ns, inverted };
                (Box::new(Pwm::open(channel, Signal::Proportional(ratings.max_ma), safe)?), Ok(()))
            }
            Self::ControlPilot(pilot) => {
                let PilotSection { chip, channel, inverted, sysfs } = pilot.clone();
                let channel = Channel { sysfs, chip, channel, period_ns: pilot::PERIOD_NS, inverted };
                (Box::new(Pwm::open(channel, Signal::ControlPilot, safe)?), Ok(()))
            }
            Self::Relay(relay) => {
                let habits = relay.habits(ratings);
                let RelaySection { chip, line, active_low, .. } = relay.clone();
                let open: Opener = Box::new(move |closed| {
                    let line = Line::output(&chip, line, active_low, closed)?;
                    Ok(Box::new(line))
                });
                (Box::new(Relay::open(open, habits, safe, boot_now())?), Ok(()))
            }
            Self::Mqtt(mqtt) => {
                let mut charger = mqtt.open(ratings, owner)?;
                let set = charger.apply(safe, boot_now());
                (Box::new(charger), set)
            }
        })
    }

    /// Opens the hardware, sets it to `safe`, and gives it to a thread that watches over its leases.
    ///
    /// # Errors
    /// If the hardware cannot be used.
    pub fn guarded(&self, ratings: &Ratings, safe: MilliAmps, owner: Owner<'_>) -> Result<Guard, ActuatorError> {
        let (hardware, set) = self.open(ratings, safe, owner)?;
        if let Err(error) = set {
            // The agent says so in an event, once it can, and goes on trying.
            tracing::warn!(%error, "the safe state is not set yet");
        }
        let change_time = match self {
            Self::Pwm(_) | Self::ControlPilot(_) | Self::Relay(_) => HERE,
            Self::Mqtt(mqtt) => {
                mqtt.charger_fallback_ms.map_or(mqtt.change_time_ms, |fallback| fallback.max(mqtt.change_time_ms))
            }
        };
        let manners = Manners { failsafe: ratings.failsafe_ma, demand: ratings.max_ma, change_time };
        Guard::start(hardware, manners)
    }
}

impl RelaySection {
    fn habits(&self, ratings: &Ratings) -> Habits {
        let on_ma = self.on_ma.unwrap_or(ratings.min_ma);
        Habits { on_ma, min_on: ratings.min_on, min_off: ratings.min_off }
    }
}

impl MqttSection {
    fn check(&self, ratings: &Ratings, identity: &IdentitySettings, wrong: &mut Problems) {
        let topics = [("topic", Some(&self.topic)), ("off_topic", self.off_topic.as_ref())];
        for (key, topic) in topics.into_iter().filter_map(|(key, topic)| Some((key, topic?))) {
            wrong.unless(!topic.is_empty() && !topic.contains(['+', '#']), || {
                format!("actuator.mqtt.{key} = {topic:?}: expected a topic without + and #")
            });
        }
        let switches = self.off_topic.is_none() && self.on_payload.is_none();
        wrong.unless(self.off_payload.is_some() || switches, || {
            "actuator.mqtt: off_topic and on_payload mean nothing without off_payload".to_owned()
        });
        if let Some(back) = &self.read_back {
            wrong.unless(back.pointer.is_empty() || back.pointer.starts_with('/'), || {
                format!("actuator.mqtt.read_back.pointer = {:?}: expected / and a key, or nothing", back.pointer)
            });
            let max_age = back.max_age_ms.map_or(*MAX_AGE_MS.end(), |most| most.0);
            wrong.unless(MAX_AGE_MS.contains(&max_age), || {
                let (least, most) = MAX_AGE_MS.into_inner();
                format!("actuator.mqtt.read_back.max_age_ms = {max_age}: expected {least} to {most}")
            });
        }
        let (repeat, half) = (self.repeat_ms, Millis(ratings.max_ttl.0 / 2));
        wrong.unless(REPEAT_MS.contains(&repeat.0), || {
            let (least, most) = REPEAT_MS.into_inner();
            format!("actuator.mqtt.repeat_ms = {}: expected {least} to {most}", repeat.0)
        });
        wrong.unless(self.change_time_ms <= half, || {
            let (time, half) = (self.change_time_ms.0, half.0);
            format!("actuator.mqtt.change_time_ms = {time}: expected at most {half}, half of device.max_ttl_ms")
        });
        match self.charger_fallback_ms {
            Some(fallback) => {
                wrong.unless(fallback <= half, || {
                    format!(
                        "actuator.mqtt.charger_fallback_ms = {}: expected at most {}, half of device.max_ttl_ms, since leases \
                         end so much earlier; a charger that takes longer must have failsafe_ma = max_ma and no \
                         charger_fallback_ms",
                        fallback.0, half.0
                    )
                });
                wrong.unless(repeat.0.saturating_mul(2) <= fallback.0, || {
                    format!(
                        "actuator.mqtt.repeat_ms = {}: expected at most half of charger_fallback_ms = {}, or the charger \
                         falls back in between",
                        repeat.0, fallback.0
                    )
                });
            }
            None => wrong.unless(ratings.failsafe_ma == ratings.max_ma, || {
                format!(
                    "device.failsafe_ma = {}: expected max_ma = {}, since without actuator.mqtt.charger_fallback_ms the charger \
                     goes on with the last limit it was told when nobody tells it another, so its maximum must stay reserved",
                    ratings.failsafe_ma.0, ratings.max_ma.0
                )
            }),
        }
        self.broker.check(Some(identity), wrong);
    }

    fn open(&self, ratings: &Ratings, owner: Owner<'_>) -> Result<Charger, ActuatorError> {
        let failed = |error: &dyn std::error::Error| ActuatorError(chain(error));
        // Without TLS the identity is not needed, and may be missing.
        let broker = match self.broker.tls {
            false => self.broker.plainly().map_err(|error| failed(&error))?,
            true => {
                let mut identity = owner.identity.read().map_err(|error| failed(&error))?;
                if self.broker.user.is_some() {
                    // Who shows a certificate is who it says, and the agent's own connection is that already.
                    identity.tls_key = None;
                }
                self.broker.resolve(&identity).map_err(|error| failed(&error))?
            }
        };
        let client = client(owner.name);
        Charger::open(self.clone(), &broker, &client, ratings.min_ma, ratings.phases)
    }
}

/// The MQTT client id of the charger's connection: the agent's own is the agent's name (lease rule 8).
fn client(agent: &Name) -> Name {
    let kept: String = agent.as_str().chars().take(LONGEST_NAME - CLIENT.len()).collect();
    format!("{kept}{CLIENT}").parse().unwrap_or_else(|_| unreachable!("a name's characters, and not too many"))
}

#[cfg(test)]
mod tests;
