//! What makes a device draw no more than it may.
//!
//! | module | what it is | I/O |
//! |---|---|---|
//! | [`guard`] | the thread that owns the hardware and takes it to the safe state when a lease ends | a thread |
//! | [`pilot`] | from amperes to the duty of an IEC 61851-1 control pilot | none |
//! | [`pwm`] | the kernel's PWM: a control pilot, a lamp, a motor | sysfs |
//! | [`relay`] | a contactor, and how often it may switch | a GPIO line |
//! | [`mqtt`], [`template`] | a charger that is commanded by MQTT | a broker |
//! | [`look`] | whether it is there, without touching it | all of these |
//! | [`settings`] | what a person configures of it | none |
//!
//! An actuator that is opened is in its safe state: the failsafe limit, or nothing if the device is switched off by
//! command. It is when it is left, too.

pub mod guard;
pub mod look;
pub mod mqtt;
mod opening;
pub mod pilot;
pub mod pwm;
#[cfg(test)]
mod pwm_tree;
pub mod relay;
pub mod settings;
pub mod template;

use grid_protocol::units::{BootTime, MilliAmps, Millis};

/// Limits a device's current. Calls must return within milliseconds.
pub trait Actuator: Send {
    /// Limits the current per phase from now on.
    ///
    /// A lease binds the actuator, not the process that set it: at `until` it must go to the failsafe limit by itself,
    /// unless it is set again before. `None`: this is the failsafe limit or less, and it stays.
    fn set(&mut self, limit: MilliAmps, until: Option<BootTime>) -> Result<(), ActuatorError>;

    /// The current per phase that is wanted now; 0 if nothing is connected, or it has enough.
    fn demand(&mut self) -> Result<MilliAmps, ActuatorError>;

    /// How long a change takes at most.
    fn change_time(&self) -> Millis;

    /// Whether it has not come back for so long that only the end of this process can free it.
    fn is_overdue(&self) -> bool {
        false
    }
}

/// An actuator does not do what it is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ActuatorError(pub String);

/// Advice only: limits nothing, and always wants the same. The limit is there for others to read, in the device's
/// measurements.
#[derive(Clone, Debug)]
pub struct Advice {
    demand: MilliAmps,
}

impl Advice {
    /// For a device that always wants `demand` per phase.
    pub fn new(demand: MilliAmps) -> Self {
        Self { demand }
    }
}

impl Actuator for Advice {
    fn set(&mut self, limit: MilliAmps, _until: Option<BootTime>) -> Result<(), ActuatorError> {
        tracing::info!(limit_ma = limit.0, "advised limit");
        Ok(())
    }

    fn demand(&mut self) -> Result<MilliAmps, ActuatorError> {
        Ok(self.demand)
    }

    fn change_time(&self) -> Millis {
        Millis::ZERO
    }
}
