use grid_protocol::units::MilliAmps;
use minijinja::Environment;

use super::*;

fn names() -> (Name, Name, Name) {
    ("demo".parse().unwrap(), "cp-3".parse().unwrap(), "trafo-1".parse().unwrap())
}

fn charge_point() -> Value {
    let (site, name, transformer) = names();
    let phases = vec![Phase::L1, Phase::L3];
    let capabilities = Capabilities::any_current(DeviceKind::Ev, phases, MilliAmps(6_000), MilliAmps(16_000));
    describe(&site, &name, &Part::Device(capabilities), Some(&transformer))
}

fn transformer() -> Value {
    let (site, _, name) = names();
    describe(&site, &name, &Part::Transformer { phases: Phase::ALL.to_vec() }, None)
}

/// What each platform's page documents, as far as we use it: key, whether it must be there, and its type.
type Documented = &'static [(&'static str, bool, Kind)];

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Template,
    Topic,
    Positive,
    Number,
    Bool,
    Qos,
    OneOf(&'static [&'static str]),
    Texts,
}

/// What every entity of ours has; `p`, the platform, and `unique_id` are required by
/// <https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>.
const EVERY: Documented = &[
    ("p", true, Kind::OneOf(&["sensor", "switch", "number"])),
    ("unique_id", true, Kind::Text),
    ("default_entity_id", true, Kind::Text),
    ("name", true, Kind::Text),
    ("state_topic", true, Kind::Topic),
    ("value_template", true, Kind::Template),
];

/// What is commanded has besides.
const COMMANDED: Documented =
    &[("command_topic", true, Kind::Topic), ("qos", true, Kind::Qos), ("retain", true, Kind::Bool)];

/// <https://www.home-assistant.io/integrations/sensor.mqtt/#configuration-variables>
const SENSOR: Documented = &[
    ("expire_after", true, Kind::Positive),
    ("device_class", false, Kind::OneOf(&["current", "power", "energy", "enum"])),
    ("state_class", false, Kind::OneOf(&["measurement", "total", "total_increasing"])),
    ("unit_of_measurement", false, Kind::OneOf(&["A", "W", "kWh"])),
    ("suggested_display_precision", false, Kind::Number),
    ("options", false, Kind::Texts),
];

/// <https://www.home-assistant.io/integrations/switch.mqtt/#configuration-variables>
const SWITCH: Documented = &[("payload_on", true, Kind::OneOf(&["ON"])), ("payload_off", true, Kind::OneOf(&["OFF"]))];

/// <https://www.home-assistant.io/integrations/number.mqtt/#configuration-variables>
const NUMBER: Documented = &[
    ("device_class", true, Kind::OneOf(&["power"])),
    ("unit_of_measurement", true, Kind::OneOf(&["W"])),
    ("min", true, Kind::Number),
    ("max", true, Kind::Number),
    ("step", true, Kind::Positive),
    ("mode", true, Kind::OneOf(&["auto", "box", "slider"])),
];

fn fits(kind: Kind, value: &Value) -> bool {
    let text = value.as_str();
    match kind {
        Kind::Text => text.is_some_and(|text| !text.is_empty()),
        Kind::Template => text.is_some_and(|text| text.starts_with("{{ ") && text.ends_with(" }}")),
        Kind::Topic => text.is_some_and(|text| text.starts_with("grid/demo/") && !text.contains(['#', '+'])),
        Kind::Positive => value.as_u64().is_some_and(|number| number > 0),
        Kind::Number => value.is_u64(),
        Kind::Bool => value.is_boolean(),
        Kind::Qos => value.as_u64().is_some_and(|qos| qos <= 2),
        Kind::OneOf(these) => text.is_some_and(|text| these.contains(&text)),
        Kind::Texts => value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Value::is_string)),
    }
}

fn check_component(key: &str, component: &Value) {
    let own = match component["p"].as_str() {
        Some("sensor") => [SENSOR, &[]],
        Some("switch") => [SWITCH, COMMANDED],
        Some("number") => [NUMBER, COMMANDED],
        other => panic!("{key}: platform {other:?}"),
    };
    let documented = [EVERY, own[0], own[1]].concat();
    for (name, value) in component.as_object().unwrap() {
        let (_, _, kind) =
            documented.iter().find(|(known, _, _)| known == name).unwrap_or_else(|| panic!("{key}.{name}"));
        assert!(fits(*kind, value), "{key}.{name} = {value}: {kind:?}");
    }
    for (name, required, _) in documented {
        assert!(!required || component.get(name).is_some(), "{key} has no {name}");
    }
    // <https://developers.home-assistant.io/docs/core/entity/sensor/>: each class has its units and its state classes.
    let (class, unit, state_class) =
        (&component["device_class"], &component["unit_of_measurement"], &component["state_class"]);
    match class.as_str() {
        Some("current") => assert_eq!((unit, state_class), (&json!("A"), &json!("measurement"))),
        Some("power") => assert_eq!(unit, "W"),
        Some("energy") => assert_eq!((unit, state_class), (&json!("kWh"), &json!("total_increasing"))),
        Some("enum") => assert!(unit.is_null() && state_class.is_null() && component["options"].is_array()),
        _ => assert!(unit.is_null() && state_class.is_null()),
    }
    let entity = component["default_entity_id"].as_str().unwrap();
    let (domain, object) = entity.split_once('.').unwrap();
    assert_eq!(domain, component["p"], "{entity}");
    assert!(object.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'), "{entity}");
}

#[test]
fn what_is_said_is_what_home_assistant_documents() {
    for described in [charge_point(), transformer()] {
        let keys: Vec<&String> = described.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["availability", "cmps", "dev", "o"]);
        assert!(described["dev"]["ids"][0].as_str().unwrap().starts_with("grid-demo-"));
        assert_eq!(described["o"]["name"], "grid-agent");
        let [availability] = described["availability"].as_array().unwrap().as_slice() else { panic!("one topic") };
        assert!(availability["topic"].as_str().unwrap().ends_with("/status"));
        let components = described["cmps"].as_object().unwrap();
        components.iter().for_each(|(key, component)| check_component(key, component));
        let ids: std::collections::BTreeSet<&str> =
            components.values().map(|component| component["unique_id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), components.len());
        // The broker takes payloads up to 8 KiB.
        assert!(described.to_string().len() < 8192, "{}", described.to_string().len());
    }
}

fn rendered(described: &Value, component: &str, payload: &Value) -> String {
    let template = described["cmps"][component]["value_template"].as_str().unwrap();
    Environment::new().render_str(template, minijinja::context! { value_json => payload }).unwrap()
}

#[test]
fn its_templates_read_what_agents_say() {
    let measurement = json!({
        "state": "charging", "current_ma": [11_950, 8_000], "voltage_mv": [229_800, 231_000], "limit_ma": 12_000,
        "energy_mwh": 1_843_000,
    });
    let cp = charge_point();
    for (component, expected) in [
        ("current_l1", "11.95"),
        ("current_l3", "8.0"),
        ("power", "4594"),
        ("energy", "1.843"),
        ("allowed", "12.0"),
        ("state", "charging"),
        ("charging", "ON"),
    ] {
        assert_eq!(rendered(&cp, component, &measurement), expected, "{component}");
    }
    assert_eq!(rendered(&cp, "charging", &json!({ "state": "off" })), "OFF");
    assert_eq!(rendered(&cp, "reason", &json!({ "reason": "phase L3" })), "phase L3");
    let balance =
        json!({ "load_ma": [98_100, 97_400, 103_900], "headroom_ma": [17_800, 18_500, -200], "limit_w": 80_000 });
    let trafo = transformer();
    for (component, expected) in
        [("load_l3", "103.9"), ("headroom_l1", "17.8"), ("headroom_l3", "-0.2"), ("limit", "80000")]
    {
        assert_eq!(rendered(&trafo, component, &balance), expected, "{component}");
    }
}

#[test]
fn every_activity_is_an_option_of_the_state() {
    use grid_protocol::message::Activity::{Charging, Failsafe, Fault, Idle, Off, Waiting};
    let all = [Idle, Waiting, Charging, Failsafe, Fault, Off].map(|activity| serde_json::to_value(activity).unwrap());
    assert_eq!(charge_point()["cmps"]["state"]["options"], json!(all));
}

#[test]
fn a_charge_point_hangs_on_its_transformer() {
    assert_eq!(charge_point()["dev"]["via_device"], transformer()["dev"]["ids"][0]);
    let (site, name, _) = names();
    assert_eq!(HomeAssistant::default().config_topic(&site, &name), "homeassistant/device/demo/cp-3/config");
    for prefix in ["", "/x", "x/", "a/#"] {
        assert!(HomeAssistant { prefix: prefix.to_owned() }.problem().is_some(), "{prefix:?}");
    }
}
