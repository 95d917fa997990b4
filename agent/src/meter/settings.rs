//! Which meter there is: the section `[meter]` of an agent's settings, which holds one of its kinds.
//!
//! | section | meter |
//! |---|---|
//! | `[[meter.ina219]]`, one for each phase | [`ChipConfig`]: INA219 chips |
//! | `[[meter.hwmon]]`, one for each phase | [`HwmonConfig`]: sensors that a driver of Linux reads |
//! | `[meter.mqtt]` | [`MqttSettings`]: an existing meter that publishes by MQTT |
//! | `[meter.none]` | [`NoMeterSettings`]: a constant |

use std::path::Path;

use grid_protocol::topic::{BadName, Name};
use grid_protocol::units::{MilliAmps, MilliVolts};
use grid_service::broker::BrokerError;
use grid_service::identity::{IdentityFileError, IdentitySettings};
use grid_service::settings::Problems;
use serde::{Deserialize, Serialize};

use super::{
    ChipConfig, ConfigError, HwmonConfig, HwmonMeter, Meter, MeterError, MqttMeter, MqttSettings, NoMeter,
    NoMeterSettings, SYSFS, Wiring, on_linux, problems,
};

/// The nominal voltage between phase and neutral (IEC 60038).
pub(super) fn nominal() -> MilliVolts {
    MilliVolts(230_000)
}

/// One agent's meter. Phases are in the order of the device's `phases`; of a transformer L1, L2, L3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterSettings {
    /// INA219 chips, one for each phase.
    Ina219(Vec<ChipConfig>),
    /// Sensors that a driver of Linux reads, one for each phase.
    Hwmon(Vec<HwmonConfig>),
    /// An existing meter that publishes by MQTT.
    Mqtt(Box<MqttSettings>),
    /// None: a constant.
    None(NoMeterSettings),
}

/// Why a meter cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The meter itself.
    #[error(transparent)]
    Meter(#[from] MeterError),
    /// Its chips cannot be read with these values.
    #[error(transparent)]
    Configuration(#[from] ConfigError),
    /// A file of `[identity]` that the connection to the meter's broker needs.
    #[error(transparent)]
    Identity(#[from] IdentityFileError),
    /// The MQTT client id cannot be one.
    #[error("meter.mqtt.client: {0}")]
    Client(#[from] BadName),
    /// `[meter.mqtt.broker]` leads to no broker.
    #[error("meter.mqtt: {0}")]
    Broker(#[from] BrokerError),
}

impl MeterSettings {
    /// How many phases it measures.
    pub fn phases(&self) -> usize {
        match self {
            Self::Ina219(chips) => chips.len(),
            Self::Hwmon(sensors) => sensors.len(),
            Self::Mqtt(mqtt) => mqtt.phase.len(),
            Self::None(none) => none.base_ma.len(),
        }
    }

    /// Notes what is wrong with it, where `limit` is to be kept on each phase.
    pub fn check(&self, limit: Option<MilliAmps>, agent: &Name, identity: &IdentitySettings, wrong: &mut Problems) {
        let mut note = |problem: String| wrong.unless(false, || format!("meter: {problem}"));
        match self {
            Self::Ina219(chips) => problems(chips, limit).iter().for_each(|problem| note(problem.to_string())),
            Self::Hwmon(sensors) => {
                sensors.iter().flat_map(|sensor| sensor.problems(limit)).for_each(&mut note);
                for (place, sensor) in sensors.iter().enumerate() {
                    let same = |other: &HwmonConfig| {
                        (&other.path, &other.chip, &other.device) == (&sensor.path, &sensor.chip, &sensor.device)
                    };
                    if sensors[..place].iter().any(same) {
                        note(format!("hwmon: a sensor stands twice: {sensor:?}"));
                    }
                }
            }
            Self::Mqtt(mqtt) => {
                mqtt.problems(agent).into_iter().for_each(&mut note);
                mqtt.broker.check(Some(mqtt.identity.as_ref().unwrap_or(identity)), wrong);
            }
            Self::None(none) => {
                if none.nominal_mv < MilliVolts(1) {
                    note(format!("none.nominal_mv = {}: expected at least 1", none.nominal_mv.0));
                }
            }
        }
        let phases = self.phases();
        // INA219 chips say that themselves.
        let counted = matches!(self, Self::Ina219(_)) || (1..=3).contains(&phases);
        wrong.unless(counted, || format!("meter: {phases} phases are configured: expected one to three"));
    }

    /// How each phase's sensor is wired, where a known current can tell.
    pub fn wirings(&self) -> Vec<Wiring> {
        match self {
            Self::Ina219(chips) => {
                let wiring = |chip: &ChipConfig| Wiring {
                    shunt_milliohm: Some(chip.shunt_milliohm),
                    scale: chip.scale,
                    invert: chip.invert,
                    offset_ma: chip.offset_ma,
                };
                chips.iter().map(wiring).collect()
            }
            Self::Hwmon(sensors) => {
                let wiring = |sensor: &HwmonConfig| Wiring {
                    shunt_milliohm: None,
                    scale: sensor.scale,
                    invert: sensor.invert,
                    offset_ma: sensor.offset_ma,
                };
                sensors.iter().map(wiring).collect()
            }
            Self::Mqtt(_) | Self::None(_) => Vec::new(),
        }
    }

    /// The meter of the agent of this name, whether it is there or not: each reading looks for it until it is.
    ///
    /// # Errors
    /// If what is configured can be no meter.
    pub fn meter(&self, agent: &Name, identity: &IdentitySettings) -> Result<Box<dyn Meter>, OpenError> {
        Ok(match self {
            Self::Ina219(chips) => Box::new(on_linux(chips.clone())?),
            Self::Hwmon(sensors) => Box::new(HwmonMeter::new(Path::new(SYSFS), sensors.clone())),
            Self::Mqtt(mqtt) => {
                let broker = mqtt.broker.resolve(&mqtt.identity.as_ref().unwrap_or(identity).read()?)?;
                Box::new(MqttMeter::new(*mqtt.clone(), broker, mqtt.client(agent)?))
            }
            Self::None(none) => Box::new(NoMeter::new(none.clone())),
        })
    }

    /// The same of a meter that must be there. An MQTT meter is waited for by its readings.
    ///
    /// # Errors
    /// As [`meter`](Self::meter); if the sensor is not there, or is no such sensor.
    pub fn open(&self, agent: &Name, identity: &IdentitySettings) -> Result<Box<dyn Meter>, OpenError> {
        let mut meter = self.meter(agent, identity)?;
        match self {
            Self::Ina219(_) | Self::Hwmon(_) => meter.poll().map(|_| ())?,
            Self::Mqtt(_) | Self::None(_) => {}
        }
        Ok(meter)
    }
}
