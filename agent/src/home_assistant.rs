//! What Home Assistant is told, so that a device appears there by itself.
//!
//! One retained message for each device, MQTT discovery in its device form
//! (<https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>):
//!
//! ```text
//! homeassistant/device/main-street/cp-1/config
//! {"dev":{"ids":["grid-main-street-cp-1"],…},"o":{"name":"grid-agent",…},"cmps":{"energy":{"p":"sensor",…},…},
//!  "availability":[{"topic":"grid/main-street/cp-1/status",…}]}
//! ```
//!
//! It holds no values: Home Assistant reads the very messages that agents exchange, and its switch and its number are
//! the commands that any client can give. It is sent with each birth, and again whenever Home Assistant is born, which
//! it says at `homeassistant/status`.

use grid_protocol::message::{Capabilities, DeviceKind, Part, Phase};
use grid_protocol::topic::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::commands::LIMIT_W;

/// A device that wants nothing measures every ten seconds, and its setpoints answer these.
const DEVICE_EXPIRES_S: u64 = 35;
/// A transformer says its balance every second.
const BALANCE_EXPIRES_S: u64 = 10;
/// What Home Assistant says when it has started.
pub const BORN: &[u8] = b"online";
const ACTIVITIES: [&str; 6] = ["idle", "waiting", "charging", "failsafe", "fault", "off"];

/// The section `[home_assistant]`. Without it Home Assistant is told nothing.
///
/// ```toml
/// [home_assistant]
/// prefix = "homeassistant"
/// ```
///
/// The broker must let the agent say and hear that, by a `[[grant]]` that publishes
/// `homeassistant/device/+/{name}/config` and subscribes to `homeassistant/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HomeAssistant {
    /// The discovery prefix that is set in Home Assistant. Default: `homeassistant`.
    pub prefix: String,
}

impl Default for HomeAssistant {
    fn default() -> Self {
        Self { prefix: "homeassistant".to_owned() }
    }
}

impl HomeAssistant {
    /// What is wrong with the prefix, if anything is.
    pub fn problem(&self) -> Option<String> {
        let prefix = &self.prefix;
        let wrong =
            prefix.is_empty() || prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains(['#', '+']);
        wrong.then(|| {
            format!("home_assistant.prefix = {prefix:?}: expected a topic such as homeassistant, without # and +")
        })
    }

    /// Where Home Assistant says `online` when it has started.
    pub fn status_topic(&self) -> String {
        format!("{}/status", self.prefix)
    }

    /// Where a device is described.
    pub fn config_topic(&self, site: &Name, name: &Name) -> String {
        format!("{}/device/{site}/{name}/config", self.prefix)
    }
}

/// The description of an agent's device. `transformer` is the one that a controllable device obeys.
pub fn describe(site: &Name, name: &Name, part: &Part, transformer: Option<&Name>) -> Value {
    let of = Of { site, name };
    let (model, components) = match part {
        Part::Device(capabilities) => (model(capabilities.kind), device(&of, capabilities)),
        Part::Transformer { phases } => ("Transformer", of_transformer(&of, phases)),
        Part::Anchor {} => ("Anchor", Map::new()),
    };
    let version = env!("CARGO_PKG_VERSION");
    let mut about = json!({
        "ids": [of.id()],
        "name": format!("{name} {site}"),
        "mf": "Self-balancing grid",
        "mdl": model,
        "sw": version,
    });
    if let Some(transformer) = transformer {
        about["via_device"] = Of { site, name: transformer }.id().into();
    }
    json!({
        "dev": about,
        "o": { "name": "grid-agent", "sw": version },
        "cmps": components,
        "availability": [{
            "topic": of.topic("status"),
            "value_template": "{{ value_json.state }}",
            "payload_available": "online",
            "payload_not_available": "offline",
        }],
    })
}

fn model(kind: DeviceKind) -> &'static str {
    match kind {
        DeviceKind::Ev => "Charge point",
        DeviceKind::HeatPump => "Heat pump",
        DeviceKind::Battery => "Battery",
        DeviceKind::Other => "Controllable device",
    }
}

fn device(of: &Of<'_>, capabilities: &Capabilities) -> Map<String, Value> {
    let phases = &capabilities.phases;
    let mut components = Map::new();
    let mut add = |key: &str, component: Value| components.insert(key.to_owned(), component);
    for (place, phase) in phases.iter().enumerate() {
        let key = format!("current_{}", phase.to_string().to_lowercase());
        let value = format!("{{{{ value_json.current_ma[{place}] / 1000 }}}}");
        add(&key, of.current(&key, &format!("Current {phase}"), "measurement", &value, DEVICE_EXPIRES_S));
    }
    // Milliamps times millivolts are microwatts. Reactive power is not seen: a clamp on the current does not tell it.
    let products: Vec<String> = (0..phases.len())
        .map(|place| format!("value_json.current_ma[{place}] * value_json.voltage_mv[{place}]"))
        .collect();
    let watts = format!("{{{{ ((({}) / 1000000) | round(0)) | int }}}}", products.join(" + "));
    add(
        "power",
        of.sensor(
            "power",
            "Power",
            "measurement",
            &watts,
            DEVICE_EXPIRES_S,
            json!({
                "device_class": "power", "state_class": "measurement", "unit_of_measurement": "W",
            }),
        ),
    );
    let kwh = "{{ value_json.energy_mwh / 1000000 }}";
    add(
        "energy",
        of.sensor(
            "energy",
            "Energy",
            "measurement",
            kwh,
            DEVICE_EXPIRES_S,
            json!({
                "device_class": "energy", "state_class": "total_increasing", "unit_of_measurement": "kWh",
                "suggested_display_precision": 2,
            }),
        ),
    );
    let allowed = "{{ value_json.limit_ma / 1000 }}";
    add("allowed", of.current("allowed", "Allowed current", "measurement", allowed, DEVICE_EXPIRES_S));
    let reason = "{{ value_json.reason }}";
    add("reason", of.sensor("reason", "Reason", "setpoint", reason, DEVICE_EXPIRES_S, json!({})));
    let state = "{{ value_json.state }}";
    add(
        "state",
        of.sensor(
            "state",
            "State",
            "measurement",
            state,
            DEVICE_EXPIRES_S,
            json!({
                "device_class": "enum", "options": ACTIVITIES,
            }),
        ),
    );
    add(
        "charging",
        of.entity(
            "switch",
            "charging",
            "Charging",
            "measurement",
            json!({
                "value_template": "{{ 'OFF' if value_json.state == 'off' else 'ON' }}",
                "command_topic": of.topic("set/charging"),
                "payload_on": "ON",
                "payload_off": "OFF",
                "qos": 1,
                "retain": false,
            }),
        ),
    );
    components
}

fn of_transformer(of: &Of<'_>, phases: &[Phase]) -> Map<String, Value> {
    let mut components = Map::new();
    for (place, phase) in phases.iter().enumerate() {
        for (what, name) in [("load", "Load"), ("headroom", "Headroom")] {
            let key = format!("{what}_{}", phase.to_string().to_lowercase());
            let value = format!("{{{{ value_json.{what}_ma[{place}] / 1000 }}}}");
            let sensor = of.current(&key, &format!("{name} {phase}"), "balance", &value, BALANCE_EXPIRES_S);
            components.insert(key, sensor);
        }
    }
    let limit = of.entity(
        "number",
        "limit",
        "Limit",
        "balance",
        json!({
            "value_template": "{{ value_json.limit_w }}",
            "command_topic": of.topic("set/limit"),
            "device_class": "power",
            "unit_of_measurement": "W",
            "min": LIMIT_W.start(),
            "max": LIMIT_W.end(),
            "step": 100,
            "mode": "box",
            "qos": 1,
            "retain": false,
        }),
    );
    components.insert("limit".to_owned(), limit);
    components
}

/// Whose entities they are.
struct Of<'a> {
    site: &'a Name,
    name: &'a Name,
}

impl Of<'_> {
    fn id(&self) -> String {
        format!("grid-{}-{}", self.site, self.name)
    }

    fn topic(&self, kind: &str) -> String {
        format!("grid/{}/{}/{kind}", self.site, self.name)
    }

    /// What every entity has, and what only this one has.
    fn entity(&self, platform: &str, key: &str, name: &str, kind: &str, more: Value) -> Value {
        let entity_id = format!("{platform}.{}_{}_{key}", self.site, self.name).replace('-', "_");
        let mut entity = json!({
            "p": platform,
            "unique_id": format!("{}-{key}", self.id()),
            "default_entity_id": entity_id,
            "name": name,
            "state_topic": self.topic(kind),
        });
        if let (Value::Object(entity), Value::Object(more)) = (&mut entity, more) {
            entity.extend(more);
        }
        entity
    }

    fn sensor(&self, key: &str, name: &str, kind: &str, template: &str, expires_s: u64, more: Value) -> Value {
        let mut sensor = self.entity("sensor", key, name, kind, more);
        sensor["value_template"] = template.into();
        sensor["expire_after"] = expires_s.into();
        sensor
    }

    fn current(&self, key: &str, name: &str, kind: &str, template: &str, expires_s: u64) -> Value {
        self.sensor(
            key,
            name,
            kind,
            template,
            expires_s,
            json!({
                "device_class": "current",
                "state_class": "measurement",
                "unit_of_measurement": "A",
                "suggested_display_precision": 1,
            }),
        )
    }
}

#[cfg(test)]
#[path = "home_assistant_tests.rs"]
mod tests;
