//! Running a device.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Duration;

use grid_protocol::message::{Capabilities, Message, Part, Reference, Setpoint};
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use grid_service::clock::{boot_micros, boot_now};
use grid_service::link::{Delivery, Incoming, Received};
use tokio::time::sleep;

use super::complaints::Complaints;
use super::sampling::{self, Sampled};
use super::station::Station;
use super::{AgentError, Common, Summary};
use crate::actuator::{Actuator, ActuatorError};
use crate::commands::{Command, Kept};
use crate::device::{Action, Device, Nature, Sample};
use crate::meter::Meter;
use crate::view::View;

/// What a device is and whom it obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// The transformer it obeys.
    pub transformer: Name,
    /// What it can.
    pub capabilities: Capabilities,
    /// The site's longest lease.
    pub max_ttl: Millis,
    /// Where commands are kept over restarts. `None`: nowhere.
    pub commands_file: Option<PathBuf>,
}

/// Runs a device until `shutdown`, then takes it to its failsafe limit and says goodbye.
pub async fn run_device(
    common: Common,
    settings: DeviceSettings,
    meter: Box<dyn Meter>,
    mut actuator: Box<dyn Actuator>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, AgentError> {
    let name = &common.credentials.name;
    let subscriptions = [
        format!("{name}/setpoint"),
        format!("{name}/set/#"),
        format!("{name}/ack"),
        format!("{}/status", settings.transformer),
        format!("{}/status", common.anchor),
    ];
    let nature = Nature {
        min_ma: settings.capabilities.min_ma,
        failsafe_ma: settings.capabilities.failsafe_ma,
        steps_ma: settings.capabilities.steps_ma.clone(),
        priority: settings.capabilities.priority,
        max_ttl: settings.max_ttl,
        change_time: actuator.change_time(),
        meter_interval: meter.expected_interval(),
        time_factor: common.simulation.map_or(1, |simulation| simulation.time_factor),
    };
    let kept = Kept::load(settings.commands_file.as_deref())?;
    let failsafe_ma = settings.capabilities.failsafe_ma;
    // The safe state comes before anything that may take a while.
    let safe = if kept.charging == Some(false) { MilliAmps::ZERO } else { failsafe_ma };
    let made_safe = actuator.set(safe, None);
    let part = Part::Device(settings.capabilities.clone());
    let mut station = Station::open(common.clone(), part, &subscriptions).await?;
    station.introduce(Some(&settings.transformer));
    if let Some(warning) = station.watchdog().and_then(|waits| late_watchdog(waits, settings.max_ttl)) {
        tracing::warn!("{warning}");
    }
    let core = Device::new(nature, &kept, station.session(), boot_now());
    let complaints = Complaints::default();
    let DeviceSettings { transformer, commands_file, .. } = settings;
    let mut running =
        Running { common, transformer, failsafe_ma, commands_file, kept, station, core, complaints, actuator };
    running.was_set(safe, made_safe)?;
    running.run(meter, shutdown).await?;
    running.station.close().await
}

/// What is to be said of a watchdog that waits longer than half of the longest lease: an agent that hangs altogether would
/// outlast its lease by more.
fn late_watchdog(waits: Duration, max_ttl: Millis) -> Option<String> {
    let most = max_ttl.0 / 2;
    (waits > Duration::from_millis(most)).then(|| {
        format!(
            "WatchdogSec= of the systemd unit is {} ms, but device.max_ttl_ms = {}: a hanging agent would outlast its lease; set \
             WatchdogSec={most}ms or less (`systemctl edit`)",
            waits.as_millis(),
            max_ttl.0
        )
    })
}

struct Running {
    common: Common,
    transformer: Name,
    failsafe_ma: MilliAmps,
    commands_file: Option<PathBuf>,
    kept: Kept,
    station: Station,
    core: Device,
    complaints: Complaints,
    actuator: Box<dyn Actuator>,
}

impl Running {
    async fn run(&mut self, meter: Box<dyn Meter>, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut shutdown = pin!(shutdown);
        let mut samples = sampling::start(meter)?;
        self.station.ready();
        loop {
            let now = boot_now();
            let nap = Duration::from_millis(self.core.wake_at(now).since(now).0.min(50));
            let actions = tokio::select! {
                biased;
                () = &mut shutdown => break,
                incoming = self.station.next() => self.on_incoming(incoming?)?,
                sampled = samples.recv() => self.on_sampled(sampled.ok_or(AgentError::MeterEnded)?)?,
                () = sleep(nap) => self.on_tick(),
            };
            self.perform(actions)?;
            self.station.replay(boot_now())?;
            // What hangs in the hardware would outlast every lease: systemd is to end this process, and to run `safe`.
            if !self.actuator.is_overdue() {
                self.station.alive();
            }
        }
        self.set_safe()
    }

    fn on_incoming(&mut self, incoming: Incoming) -> Result<Vec<Action>, AgentError> {
        match incoming {
            Incoming::Dialing(answer) => self.station.dialing(answer)?,
            Incoming::Connected => {
                self.core.on_link(true);
                self.station.connected();
            }
            Incoming::Message(received) => return self.on_message(&received),
            Incoming::Lost(loss) => {
                self.core.on_link(false);
                self.station.lost(loss)?;
            }
        }
        Ok(Vec::new())
    }

    fn on_message(&mut self, received: &Received) -> Result<Vec<Action>, AgentError> {
        let Some(topic) = self.station.sort(received) else { return Ok(Vec::new()) };
        match topic.kind {
            Kind::Status => {
                let status = self.station.learn(&topic, &received.payload);
                if let Some(status) = status.filter(|status| status.header.from == self.transformer) {
                    self.core.on_transformer(&status.header, &status.body);
                }
                Ok(Vec::new())
            }
            Kind::Setpoint if !received.retained => Ok(self.on_setpoint(&topic, received)),
            Kind::Set(_) => self.on_command(&topic, received),
            _ => {
                self.station.ignore(&topic, &"not for a device");
                Ok(Vec::new())
            }
        }
    }

    fn on_setpoint(&mut self, topic: &Topic, received: &Received) -> Vec<Action> {
        let opened = self.station.open_from::<Setpoint>(topic, &received.payload, &self.transformer);
        let Some(Message { header, body }) = opened else { return Vec::new() };
        let Some(seq) = header.seq else {
            self.station.ignore(topic, &"a setpoint without a number");
            return Vec::new();
        };
        match self.core.on_setpoint(&body, Reference { session: header.session, seq }, boot_now()) {
            Ok(actions) => actions,
            Err(refusal) => {
                self.station.ignore(topic, &refusal);
                Vec::new()
            }
        }
    }

    /// Obeys a command, once it is kept: what was told must hold after a restart.
    fn on_command(&mut self, topic: &Topic, received: &Received) -> Result<Vec<Action>, AgentError> {
        let Some((command, by)) = self.station.command(topic, received)? else { return Ok(Vec::new()) };
        let (same, kept) = match command {
            Command::Charging(on) => (on == self.core.is_on(), Kept { charging: Some(on), ..self.kept.clone() }),
            Command::Priority(priority) => {
                (priority == self.core.priority(), Kept { priority: Some(priority), ..self.kept.clone() })
            }
            Command::Limit { .. } | Command::Dimming(_) => (true, self.kept.clone()),
        };
        if same {
            return Ok(Vec::new());
        }
        let Kind::Set(what) = &topic.kind else { return Ok(Vec::new()) };
        if !self.station.keep(&kept, self.commands_file.as_deref(), (what, &received.payload), &by)? {
            return Ok(Vec::new());
        }
        self.kept = kept;
        Ok(match command {
            Command::Charging(on) => self.core.on_charging(on, by, boot_now()),
            Command::Priority(priority) => self.core.on_priority(priority, by, boot_now()),
            Command::Limit { .. } | Command::Dimming(_) => Vec::new(),
        })
    }

    /// What an actuator has to say is heard, also when the meter says nothing.
    fn on_tick(&mut self) -> Vec<Action> {
        let wanted = self.wanted();
        self.core.on_wanted(wanted, boot_now())
    }

    fn wanted(&mut self) -> Result<MilliAmps, String> {
        self.actuator.demand().map_err(|error| error.to_string())
    }

    fn on_sampled(&mut self, sampled: Sampled) -> Result<Vec<Action>, AgentError> {
        self.core.expect_readings_within(sampled.expected_interval);
        let wanted = self.wanted();
        Ok(match sampled.reading {
            Ok(reading) => {
                if let Some(event) = self.complaints.saturation(&reading, boot_now()) {
                    self.station.event(event)?;
                }
                let sample = Sample { at: reading.taken(), current: reading.currents(), voltage: reading.voltages() };
                self.core.on_sample(sample, wanted, boot_now())
            }
            Err(error) => {
                if let Some(event) = self.complaints.event(&error, boot_now()) {
                    self.station.event(event)?;
                }
                self.core.on_meter_complaint(error.to_string(), wanted, boot_now())
            }
        })
    }

    fn perform(&mut self, actions: Vec<Action>) -> Result<(), AgentError> {
        for action in actions {
            match action {
                Action::Set { limit, until } => self.set(limit, until)?,
                Action::Report => {
                    // Rule 1: the time is taken before the message is built.
                    let at = boot_now();
                    let report = self.core.report(at);
                    let obeys = report.obeys;
                    self.station.sees(View::Device(report.clone()));
                    let seq = self.station.tell(Kind::Measurement, report, Delivery::Once)?;
                    self.core.measurement_sent(seq, at);
                    tracing::trace!(device = %self.common.credentials.name, seq, ?obeys, "reported");
                }
                Action::Event(event) => self.station.event(event)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, limit: MilliAmps, until: Option<BootTime>) -> Result<(), AgentError> {
        let set = self.actuator.set(limit, until);
        self.was_set(limit, set)
    }

    fn was_set(&mut self, limit: MilliAmps, set: Result<(), ActuatorError>) -> Result<(), AgentError> {
        match set {
            Ok(()) => {
                self.core.applied(limit, boot_now());
                if let (Some(probe), Some(by)) = (&self.common.probe, self.core.obeys(boot_now())) {
                    probe.obeyed(by, boot_micros());
                }
                Ok(())
            }
            Err(error) => {
                let events = self.core.on_actuator_failure(error.to_string(), boot_now());
                events.into_iter().try_for_each(|event| self.station.event(event))
            }
        }
    }

    /// The failsafe limit; nothing, if the device is switched off.
    fn set_safe(&mut self) -> Result<(), AgentError> {
        self.set(if self.core.is_on() { self.failsafe_ma } else { MilliAmps::ZERO }, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_waits_longer_than_half_of_the_longest_lease_is_warned_of() {
        assert_eq!(late_watchdog(Duration::from_millis(1_500), Millis(3_000)), None);
        let warning = late_watchdog(Duration::from_millis(1_500), Millis(2_999)).unwrap();
        assert!(warning.contains("WatchdogSec=1499ms") && warning.contains("max_ttl_ms = 2999"), "{warning}");
    }
}
