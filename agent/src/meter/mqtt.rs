//! An existing meter that publishes by MQTT: an energy meter in the distribution board, or a charger's own.
//!
//! It is read through a connection of its own: such a meter mostly speaks to a broker of the house, and what it says is
//! nothing that the agent's conversation about setpoints should wait behind. The connection runs on the meter's thread,
//! while a reading is waited for.

use std::time::Duration;

use grid_protocol::topic::{BadName, Name};
use grid_protocol::units::{MilliVolts, Millis};
use grid_service::broker::{Broker, BrokerSettings};
use grid_service::clock::boot_micros;
use grid_service::identity::IdentitySettings;
use grid_service::link::{Incoming, Link, Loss, Received};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Meter, MeterError, PhaseReading, Reading, Unit};
use crate::decimal::text_at;

/// After so many expected intervals without a value the topic is silent.
const SILENT_AFTER: u64 = 3;
/// How much of a payload a message shows.
const SHOWN: usize = 64;
/// The connection goes on for at least so long with each poll.
const LEAST_PATIENCE: Duration = Duration::from_millis(1);
/// The longest interval that control can still work with.
const INTERVALS_MS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// An existing meter that publishes by MQTT.
///
/// ```toml
/// [meter.mqtt]
/// unit = "W"
/// interval_ms = 1000
/// [meter.mqtt.broker]
/// host = "192.168.1.10"
/// user = "cp-1-meter"
/// password_file = "/etc/grid/cp-1-meter.password"
/// [[meter.mqtt.phase]]
/// topic = "shellies/em3/status"
/// pointer = "/a_act_power"
/// ```
///
/// The meter's broker can be the site's. There a device's certificate stands for one connection (lease rule 8), so the meter
/// is read as somebody else: as a guest with a certificate of his own (`grid-broker ca issue cp-1-meter --role guest`, its
/// bundle in `[meter.mqtt.identity]`), or as a user. By TLS a user needs a `[meter.mqtt.identity]` without `tls_key`, since a
/// certificate that is shown goes before a password. He must be granted the topics in the broker's settings:
///
/// ```toml
/// [[grant]]
/// to = "cp-1-meter"
/// subscribe = ["shellies/em3/status"]
/// ```
///
/// Values that the broker kept (retained) are not taken: nobody knows how old they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttSettings {
    /// What the numbers mean: `A`, `mA`, or `W`, `kW` at `nominal_mv`. Default: `A`.
    #[serde(default)]
    pub unit: Unit,
    /// Turn the sign: for a meter that counts what is fed in as positive. Default: false.
    #[serde(default)]
    pub invert: bool,
    /// The voltage that is reported, and that watts are converted with, in millivolts. Default: 230000.
    #[serde(default = "super::settings::nominal")]
    pub nominal_mv: MilliVolts,
    /// How often the meter publishes each value at the least, in milliseconds, 50 to 60000. After three of these without
    /// one the meter is stale, after ten it has failed. Default: 1000.
    #[serde(default = "every_second")]
    pub interval_ms: Millis,
    /// The MQTT client id. Default: the agent's name with `-meter` after it; where that is too long, it must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Name>,
    /// The broker that the meter publishes to, with the same keys as `[broker]`.
    pub broker: BrokerSettings,
    /// The certificate to show to that broker by TLS, with the same keys as `[identity]`. Default: the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySettings>,
    /// Where each phase's current stands, in the order of the phases.
    pub phase: Vec<PhaseTopic>,
}

/// Where one phase's current stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseTopic {
    /// The topic, without wildcards. Several phases may have the same.
    pub topic: String,
    /// Where the number stands in a JSON payload, as JSON pointer (RFC 6901): `/emeters/0/power`. It may be a number or a
    /// text that is one. Default: none, for a payload that is the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
}

fn every_second() -> Millis {
    Millis(1_000)
}

impl MqttSettings {
    /// The MQTT client id of the agent of this name.
    pub(super) fn client(&self, agent: &Name) -> Result<Name, BadName> {
        self.client.clone().map_or_else(|| format!("{agent}-meter").parse(), Ok)
    }

    /// What is wrong with the values.
    pub(super) fn problems(&self, agent: &Name) -> Vec<String> {
        let mut problems = Vec::new();
        if let Err(bad) = self.client(agent) {
            problems.push(format!("mqtt.client: {bad}"));
        }
        if self.nominal_mv < MilliVolts(1) {
            problems.push(format!("mqtt.nominal_mv = {}: expected at least 1", self.nominal_mv.0));
        }
        if !INTERVALS_MS.contains(&self.interval_ms.0) {
            problems.push(format!("mqtt.interval_ms = {}: expected 50 to 60000", self.interval_ms.0));
        }
        for PhaseTopic { topic, pointer } in &self.phase {
            if topic.is_empty() || topic.contains(['+', '#', '\0']) {
                problems.push(format!("mqtt.phase.topic = {topic:?}: expected one topic, without + and #"));
            }
            if let Some(pointer) = pointer.as_ref().filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
                problems.push(format!("mqtt.phase.pointer = {pointer:?}: expected a JSON pointer, such as \"/power\""));
            }
        }
        for (place, phase) in self.phase.iter().enumerate() {
            if self.phase[..place].contains(phase) {
                problems.push(format!("mqtt.phase: {:?} stands for two phases", phase.topic));
            }
        }
        problems
    }

    fn reading(&self, phase: &PhaseTopic, payload: &[u8]) -> Result<PhaseReading, MeterError> {
        let number = match &phase.pointer {
            None => std::str::from_utf8(payload).ok().map(|text| text.trim().to_owned()),
            Some(pointer) => text_at(payload, pointer),
        };
        let current = number.and_then(|number| self.unit.current(&number, self.nominal_mv));
        let current = current.ok_or_else(|| MeterError::TopicNonsense {
            topic: phase.topic.clone(),
            payload: String::from_utf8_lossy(payload).chars().take(SHOWN).collect(),
            expected: match &phase.pointer {
                None => "a decimal number".to_owned(),
                Some(pointer) => format!("JSON with a number at {pointer}"),
            },
        })?;
        let current = if self.invert { -current } else { current };
        Ok(PhaseReading { current, voltage: self.nominal_mv, saturated: false })
    }
}

/// Where messages come from.
enum MqttSource {
    /// A broker that is not spoken to yet.
    Broker(Broker, Name),
    /// A connection. It ends with the link, whose task runs on the runtime.
    Link { incoming: mpsc::Receiver<Incoming>, _link: Link, runtime: Runtime },
}

/// A meter that reads what another publishes.
pub struct MqttMeter {
    settings: MqttSettings,
    source: MqttSource,
    host: String,
    /// The newest value of each phase, and when it came, that no reading has contained.
    fresh: Vec<Option<(u64, PhaseReading)>>,
    /// When each phase's last value came; when the meter was opened before that.
    heard_at: Vec<u64>,
    /// Since when there is no connection, and why.
    lost: Option<String>,
}

impl MqttMeter {
    /// A meter that connects to this broker, with the first reading that it is asked for, as `client`.
    pub fn new(settings: MqttSettings, broker: Broker, client: Name) -> Self {
        let host = format!("{}:{}", settings.broker.host, settings.broker.port);
        let phases = settings.phase.len();
        Self {
            settings,
            source: MqttSource::Broker(broker, client),
            host,
            fresh: vec![None; phases],
            heard_at: vec![boot_micros(); phases],
            lost: Some("not connected yet".to_owned()),
        }
    }

    /// What comes next within `patience`, if anything does.
    fn next(&mut self, patience: Duration) -> Result<Option<Incoming>, MeterError> {
        if let MqttSource::Broker(broker, client) = &self.source {
            let runtime = Builder::new_current_thread().enable_all().build().map_err(MeterError::Runtime)?;
            let mut topics: Vec<String> = self.settings.phase.iter().map(|phase| phase.topic.clone()).collect();
            topics.sort();
            topics.dedup();
            let (link, incoming) = runtime.block_on(async { Link::open(broker, client, topics) });
            self.source = MqttSource::Link { incoming, _link: link, runtime };
        }
        match &mut self.source {
            MqttSource::Link { incoming, runtime, .. } => {
                Ok(runtime.block_on(async { timeout(patience, incoming.recv()).await }).ok().flatten())
            }
            MqttSource::Broker(..) => Ok(None),
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) -> Result<(), MeterError> {
        match incoming {
            // Dropped: no last will.
            Incoming::Dialing(_) => Ok(()),
            Incoming::Connected => {
                self.lost = None;
                Ok(())
            }
            Incoming::Lost(loss) => {
                let detail = match loss {
                    Loss::ThrownOut => "somebody else connected under its name".to_owned(),
                    Loss::Broken(why) => why,
                };
                self.lost = Some(detail.clone());
                Err(MeterError::NoBroker { host: self.host.clone(), detail })
            }
            Incoming::Message(received) => self.on_message(&received, boot_micros()),
        }
    }

    fn on_message(&mut self, received: &Received, now: u64) -> Result<(), MeterError> {
        if received.retained {
            return Ok(());
        }
        let mut wrong = Ok(());
        for (place, phase) in self.settings.phase.iter().enumerate().filter(|(_, phase)| phase.topic == received.topic)
        {
            match self.settings.reading(phase, &received.payload) {
                Ok(reading) => {
                    self.fresh[place] = Some((now, reading));
                    self.heard_at[place] = now;
                }
                Err(error) => wrong = Err(error),
            }
        }
        wrong
    }

    /// A reading, if each phase has a new value.
    fn complete(&mut self) -> Option<Reading> {
        let all: Vec<(u64, PhaseReading)> = self.fresh.iter().copied().collect::<Option<_>>()?;
        self.fresh.fill(None);
        let taken_us = all.iter().map(|(at, _)| *at).min()?;
        Some(Reading { taken_us, phases: all.into_iter().map(|(_, phase)| phase).collect() })
    }

    /// Why nothing comes, if that is known by now.
    fn trouble(&self, now: u64) -> Option<MeterError> {
        if let Some(detail) = &self.lost {
            return Some(MeterError::NoBroker { host: self.host.clone(), detail: detail.clone() });
        }
        let interval_ms = self.settings.interval_ms.0;
        let silent = |heard: &u64| now.saturating_sub(*heard) / 1000;
        let (phase, for_ms) =
            self.settings.phase.iter().zip(self.heard_at.iter().map(silent)).max_by_key(|(_, ms)| *ms)?;
        (for_ms >= interval_ms * SILENT_AFTER).then(|| MeterError::TopicSilent {
            topic: phase.topic.clone(),
            for_ms,
            interval_ms,
        })
    }
}

impl Meter for MqttMeter {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        while let Some(incoming) = self.next(LEAST_PATIENCE)? {
            self.on_incoming(incoming)?;
            if let Some(reading) = self.complete() {
                return Ok(Some(reading));
            }
        }
        Ok(None)
    }

    /// Waits for messages rather than for time, so that a reading is there as soon as its last message is. That none is
    /// there in time is no error before the topic is silent.
    fn read(&mut self, patience: Duration) -> Result<Reading, MeterError> {
        let began = boot_micros();
        loop {
            let waited = Duration::from_micros(boot_micros().saturating_sub(began));
            let Some(left) = patience.checked_sub(waited).filter(|left| !left.is_zero()) else {
                return Err(self.trouble(boot_micros()).unwrap_or(MeterError::NoConversion { waited }));
            };
            if let Some(incoming) = self.next(left)? {
                self.on_incoming(incoming)?;
                if let Some(reading) = self.complete() {
                    return Ok(reading);
                }
            }
        }
    }

    fn phases(&self) -> usize {
        self.settings.phase.len()
    }

    fn poll_interval(&self) -> Duration {
        LEAST_PATIENCE
    }

    fn expected_interval(&self) -> Millis {
        self.settings.interval_ms
    }
}

#[cfg(test)]
#[path = "mqtt_tests.rs"]
mod tests;
