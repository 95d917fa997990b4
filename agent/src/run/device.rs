//! Running a device.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use grid_protocol::message::{DeviceKind, Message, Part, Phase, Reference, Setpoint};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use grid_service::clock::{boot_micros, boot_now};
use grid_service::link::{Delivery, Incoming, Received};
use tokio::time::sleep;

use super::sampling::{self, Sampled};
use super::station::Station;
use super::{AgentError, Common, Summary};
use crate::actuator::Actuator;
use crate::device::{Action, Device, Nature, Sample};
use crate::meter::Meter;

/// What a device is and whom it obeys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSettings {
    /// The transformer it obeys.
    pub transformer: Name,
    /// What it is.
    pub kind: DeviceKind,
    /// The phases it is connected to, in the order of its meter.
    pub phases: Vec<Phase>,
    /// Less than this per phase is not usable.
    pub min_ma: MilliAmps,
    /// The most it can draw per phase.
    pub max_ma: MilliAmps,
    /// The limit without a live lease, per phase.
    pub failsafe_ma: MilliAmps,
    /// 0 goes first, 9 last.
    pub priority: u8,
    /// The site's longest lease.
    pub max_ttl: Millis,
}

/// Runs a device until `shutdown`, then takes it to its failsafe limit and says goodbye.
pub async fn run_device(
    common: Common,
    settings: DeviceSettings,
    meter: Box<dyn Meter>,
    actuator: Box<dyn Actuator>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, AgentError> {
    let name = &common.credentials.name;
    let subscriptions = [
        format!("{name}/setpoint"),
        format!("{name}/ack"),
        format!("{}/status", settings.transformer),
        format!("{}/status", common.anchor),
    ];
    let nature = Nature {
        min_ma: settings.min_ma,
        failsafe_ma: settings.failsafe_ma,
        max_ttl: settings.max_ttl,
        change_time: actuator.change_time(),
        time_factor: common.simulation.map_or(1, |simulation| simulation.time_factor),
    };
    let part = Part::Device {
        kind: settings.kind,
        phases: settings.phases,
        min_ma: settings.min_ma,
        max_ma: settings.max_ma,
        failsafe_ma: settings.failsafe_ma,
        priority: settings.priority,
    };
    let station = Station::open(common.clone(), part, &subscriptions)?;
    let core = Device::new(nature, station.session(), boot_now());
    let mut running = Running {
        common,
        transformer: settings.transformer,
        failsafe_ma: settings.failsafe_ma,
        station,
        core,
        actuator,
    };
    running.run(meter, shutdown).await?;
    running.station.close().await
}

struct Running {
    common: Common,
    transformer: Name,
    failsafe_ma: MilliAmps,
    station: Station,
    core: Device,
    actuator: Box<dyn Actuator>,
}

impl Running {
    async fn run(&mut self, meter: Box<dyn Meter>, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut shutdown = pin!(shutdown);
        // The safe state comes before anything else.
        self.set(self.failsafe_ma, None)?;
        let mut samples = sampling::start(meter)?;
        loop {
            let now = boot_now();
            let nap = Duration::from_millis(self.core.wake_at(now).since(now).0.min(50));
            let actions = tokio::select! {
                biased;
                () = &mut shutdown => break,
                incoming = self.station.next() => self.on_incoming(incoming?)?,
                sampled = samples.recv() => self.on_sampled(sampled.ok_or(AgentError::MeterEnded)?),
                () = sleep(nap) => self.core.on_tick(boot_now()),
            };
            self.perform(actions)?;
            self.station.replay(boot_now())?;
        }
        self.set(self.failsafe_ma, None)
    }

    fn on_incoming(&mut self, incoming: Incoming) -> Result<Vec<Action>, AgentError> {
        match incoming {
            Incoming::Dialing(answer) => self.station.dialing(answer)?,
            Incoming::Connected => self.station.connected(),
            Incoming::Message(received) => return Ok(self.on_message(&received)),
            Incoming::Lost(loss) => self.station.lost(loss)?,
        }
        Ok(Vec::new())
    }

    fn on_message(&mut self, received: &Received) -> Vec<Action> {
        let Some(topic) = self.station.sort(received) else { return Vec::new() };
        match topic.kind {
            Kind::Status => {
                self.station.learn(&topic, &received.payload);
                Vec::new()
            }
            Kind::Setpoint if !received.retained => {
                let transformer = self.transformer.clone();
                let Some(message) = self.station.open_from::<Setpoint>(&topic, &received.payload, &transformer) else {
                    return Vec::new();
                };
                let Message { header, body } = message;
                let Some(seq) = header.seq else {
                    self.station.ignore(&topic, &"a setpoint without a number");
                    return Vec::new();
                };
                let by = Reference { session: header.session, seq };
                match self.core.on_setpoint(&body, by, boot_now()) {
                    Ok(actions) => actions,
                    Err(refusal) => {
                        self.station.ignore(&topic, &refusal);
                        Vec::new()
                    }
                }
            }
            _ => {
                self.station.ignore(&topic, &"not for a device");
                Vec::new()
            }
        }
    }

    fn on_sampled(&mut self, sampled: Sampled) -> Vec<Action> {
        let at = sampled.at();
        match (sampled.reading, self.actuator.demand()) {
            (Ok(reading), Ok(demand)) => {
                let sample = Sample { at, current: reading.currents(), voltage: reading.voltages() };
                self.core.on_sample(sample, demand, boot_now())
            }
            (Err(error), _) => self.core.on_meter_failure(error.to_string(), boot_now()),
            (Ok(_), Err(error)) => {
                self.core.on_actuator_failure(error.to_string()).map(Action::Event).into_iter().collect()
            }
        }
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
        match self.actuator.set(limit, until) {
            Ok(()) => {
                self.core.applied(limit, boot_now());
                if let (Some(probe), Some(by)) = (&self.common.probe, self.core.obeys(boot_now())) {
                    probe.obeyed(by, boot_micros());
                }
                Ok(())
            }
            Err(error) => match self.core.on_actuator_failure(error.to_string()) {
                Some(event) => self.station.event(event),
                None => Ok(()),
            },
        }
    }
}
