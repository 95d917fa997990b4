//! Whether an actuator is there and may be written, without touching it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use grid_service::identity::IdentitySettings;

use super::ActuatorError;
use super::pwm;
use super::settings::ActuatorSection;
use crate::gpio;

/// A charger's broker is on the same network.
const PATIENCE: Duration = Duration::from_secs(3);

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// For a person.
    pub said: String,
    /// The file that the agent writes to, if it is one.
    pub file: Option<PathBuf>,
}

impl ActuatorSection {
    /// Says what is there.
    ///
    /// # Errors
    /// If it cannot be used, and what to do about it.
    pub fn look(&self, identity: &IdentitySettings) -> Result<Found, ActuatorError> {
        match self {
            Self::Pwm(section) => look_at_pwm("PWM", &section.sysfs, section.chip, section.channel),
            Self::ControlPilot(section) => look_at_pwm("control pilot", &section.sysfs, section.chip, section.channel),
            Self::Relay(section) => {
                let failed = |error: gpio::GpioError| ActuatorError(error.to_string());
                let user = gpio::user_of(&section.chip, section.line).map_err(failed)?;
                let used = user.map(|user| format!(", in use by {user}")).unwrap_or_default();
                let said = format!("relay on line {} of {}{used}", section.line, section.chip.display());
                Ok(Found { said, file: Some(section.chip.clone()) })
            }
            Self::Mqtt(section) => {
                let failed = |why: String| ActuatorError(format!("actuator.mqtt: {why}"));
                let broker = match section.broker.tls {
                    true => {
                        let identity = identity.read().map_err(|error| failed(error.to_string()))?;
                        section.broker.resolve(&identity)
                    }
                    false => section.broker.plainly(),
                };
                let broker = broker.map_err(|error| failed(error.to_string()))?;
                broker.reach(PATIENCE).map_err(|why| failed(format!("the charger's broker {broker}: {why}")))?;
                let topic = &section.topic;
                Ok(Found { said: format!("charger told at {topic}, by the broker {broker}"), file: None })
            }
        }
    }
}

fn look_at_pwm(what: &str, sysfs: &Path, chip: u32, channel: u32) -> Result<Found, ActuatorError> {
    let file = pwm::way_in(sysfs, chip, channel)?;
    Ok(Found { said: format!("{what} on channel {channel} of pwmchip{chip}"), file: Some(file) })
}
