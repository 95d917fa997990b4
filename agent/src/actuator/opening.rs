//! From an agent's settings to its actuator in its safe state.

use grid_protocol::units::MilliAmps;

use super::settings::{Owner, Ratings};
use super::{Actuator, ActuatorError, Advice};
use crate::commands::Kept;
use crate::settings::{DeviceSection, Settings};

impl Settings {
    /// Opens the actuator, which is then in its safe state; `None` for a transformer.
    ///
    /// # Errors
    /// If its hardware cannot be used.
    pub fn guarded_actuator(&self) -> Result<Option<Box<dyn Actuator>>, ActuatorError> {
        let Some(device) = &self.device else { return Ok(None) };
        Ok(Some(match &self.actuator {
            Some(actuator) => Box::new(actuator.guarded(&device.ratings(), device.safe_limit(), self.owner())?),
            None => Box::new(Advice::new(device.max_ma)),
        }))
    }

    /// Sets the actuator to its safe state and leaves it there: the limit that was set, `None` if there is no actuator.
    ///
    /// # Errors
    /// If its hardware cannot be used.
    pub fn make_safe(&self) -> Result<Option<MilliAmps>, ActuatorError> {
        let (Some(device), Some(actuator)) = (&self.device, &self.actuator) else { return Ok(None) };
        let safe = device.safe_limit();
        let (mut hardware, set) = actuator.open(&device.ratings(), safe, self.owner())?;
        set.and_then(|()| hardware.prove()).map(|()| Some(safe))
    }

    fn owner(&self) -> Owner<'_> {
        Owner { name: &self.name, identity: &self.identity }
    }
}

impl DeviceSection {
    /// What the actuator must know of it.
    pub(crate) fn ratings(&self) -> Ratings {
        Ratings {
            min_ma: self.min_ma,
            max_ma: self.max_ma,
            failsafe_ma: self.failsafe_ma,
            min_on: self.min_on_ms,
            min_off: self.min_off_ms,
            phases: self.phases.len(),
            max_ttl: self.max_ttl_ms,
        }
    }

    /// The failsafe limit; nothing, if the device is switched off by a command that is kept, or what is kept cannot be read.
    fn safe_limit(&self) -> MilliAmps {
        match Kept::load(self.commands_file.as_deref()) {
            Ok(Kept { charging: Some(true) | None, .. }) => self.failsafe_ma,
            Ok(Kept { charging: Some(false), .. }) | Err(_) => MilliAmps::ZERO,
        }
    }
}
