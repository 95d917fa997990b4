//! Settings, made of an example whose comments stay in them.

use grid_protocol::message::Phase;
use grid_service::setup::fill_in_who;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TomlError, value};

use super::state_of;
use super::wanted::{Part, Wanted};
use super::words::{ActuatorWord, DeviceWord, MeterWord, Phases};

/// What the package ships, commented.
const DEVICE: &str = include_str!("device.example.toml");
const TRANSFORMER: &str = include_str!("transformer.example.toml");

/// What takes the place of the example's sensors.
const OTHER_METERS: &str = r#"
# One sensor of Linux per phase, in the order of the phases. `scale` is how many milliamperes of the grid one of the sensor
# stands for.
[[meter.hwmon]]
scale = 1

# No meter: so much is taken for what flows, per phase.
[meter.none]
base_ma = []
"#;

/// What takes the place of the example's actuator.
const OTHER_ACTUATORS: &str = r#"
# GPIO 18 (`dtoverlay=pwm`) on the gate of a transistor; full at max_ma.
[actuator.pwm]
chip = 0
channel = 0

# The contactor that releases the device. It opens at once and closes late, as min_on_ms and min_off_ms of [device] say.
[actuator.relay]
chip = "/dev/gpiochip0"
line = 17
"#;

/// How to name a device, where there is none yet.
const NO_DEVICES: &str = r#"
# The devices it leads. What one draws when nobody leads it, as its own settings say, is reserved for it at all times.
# [[transformer.device]]
# name = "cp-1"
# phases = ["L1", "L2", "L3"]
# failsafe_ma = 6000
"#;

/// New settings, from the example.
pub fn new(wanted: &Wanted) -> Result<String, TomlError> {
    let (example, section) = match wanted.part {
        Part::Device(_) => (DEVICE, "device"),
        Part::Transformer(_) => (TRANSFORMER, "transformer"),
    };
    let mut document: DocumentMut = example.parse()?;
    document["identity"]["bundle"] = value(super::bundle_of(&wanted.name));
    document["outbox"]["dir"] = value(state_of(&wanted.name, "outbox"));
    document[section]["commands_file"] = value(state_of(&wanted.name, "commands"));
    if matches!(wanted.part, Part::Transformer(_)) {
        document[section]["epoch_file"] = value(state_of(&wanted.name, "epoch"));
    }
    fill(&mut document, wanted)?;
    Ok(document.to_string())
}

/// What the settings `there` would be with what is wanted of them.
pub fn changed(there: &str, wanted: &Wanted) -> Result<String, TomlError> {
    let mut document: DocumentMut = there.parse()?;
    fill(&mut document, wanted)?;
    Ok(document.to_string())
}

fn fill(document: &mut DocumentMut, wanted: &Wanted) -> Result<(), TomlError> {
    fill_in_who(document, &wanted.site, &wanted.name, wanted.broker.as_ref());
    if let Some(meter) = &wanted.meter {
        fill_meter(document, meter)?;
    }
    for kind in ["ina219", "hwmon"] {
        for sensor in sensors(document, kind) {
            if let Some(scale) = wanted.scale {
                sensor["scale"] = value(i64::from(scale));
            }
            if let Some(bus) = wanted.bus.as_ref().filter(|_| kind == "ina219") {
                sensor["bus"] = value(bus);
            }
        }
    }
    match &wanted.part {
        Part::Device(device) => {
            if let Some(actuator) = &device.actuator {
                fill_actuator(document, actuator)?;
            }
            let section = &mut document["device"];
            let mut set = |key: &str, item: Option<Item>| {
                if let Some(item) = item {
                    section[key] = item;
                }
            };
            set("transformer", device.transformer.as_ref().map(|name| value(name.as_str())));
            set("kind", device.kind.map(|kind| value(kind.to_string())));
            set("phases", device.phases.as_ref().map(phases));
            set("min_ma", device.min.map(|current| value(current.0.0)));
            set("max_ma", device.max.map(|current| value(current.0.0)));
            set("failsafe_ma", device.failsafe.map(|current| value(current.0.0)));
        }
        Part::Transformer(transformer) => {
            if let Some(limit_w) = transformer.limit_w {
                document["transformer"]["limit_w"] = value(i64::from(limit_w));
            }
            if let Some(devices) = &transformer.devices {
                fill_devices(document, &devices.0);
            }
        }
    }
    Ok(())
}

fn phases(Phases(phases): &Phases) -> Item {
    value(phases.iter().map(Phase::to_string).collect::<Array>())
}

/// The tables `[[meter.KIND]]`.
fn sensors<'a>(document: &'a mut DocumentMut, kind: &str) -> impl Iterator<Item = &'a mut Table> {
    let tables = document.get_mut("meter").and_then(|meter| meter.get_mut(kind)?.as_array_of_tables_mut());
    tables.into_iter().flat_map(ArrayOfTables::iter_mut)
}

/// A section that holds one of several kinds, and where the one stands that was there.
fn section<'a>(document: &'a mut DocumentMut, name: &str) -> (&'a mut Table, Option<isize>) {
    let item = document.entry(name).or_insert(Item::None);
    if !item.is_table() {
        let mut table = Table::new();
        table.set_implicit(true);
        *item = Item::Table(table);
    }
    let Item::Table(section) = item else { unreachable!("it is a table now") };
    let position = section.iter().find_map(|(_, item)| {
        let first = item.as_array_of_tables().and_then(|tables| tables.get(0));
        item.as_table().or(first)?.position()
    });
    (section, position)
}

fn fill_meter(document: &mut DocumentMut, meter: &MeterWord) -> Result<(), TomlError> {
    let others: DocumentMut = OTHER_METERS.parse()?;
    let (section, position) = section(document, "meter");
    let tables = |item: Option<&Item>| item.and_then(Item::as_array_of_tables).cloned().unwrap_or_default();
    let item = match meter {
        MeterWord::Ina219(addresses) => {
            let there = tables(section.get("ina219"));
            // Another sensor on another phase is wired like the first, as far as is known.
            let chip = |(place, address): (usize, &u8)| {
                let is_it = |table: &&Table| table.get("address").and_then(Item::as_integer) == Some((*address).into());
                let mut table =
                    there.iter().find(is_it).or(there.get(place)).or(there.get(0)).cloned().unwrap_or_default();
                table["address"] = format!("{address:#04x}").parse().map(Item::Value)?;
                Ok(place_at(table, position, there.get(0).filter(|_| place == 0)))
            };
            Item::ArrayOfTables(addresses.iter().enumerate().map(chip).collect::<Result<_, TomlError>>()?)
        }
        MeterWord::Hwmon(sensors) => {
            let mut there = tables(section.get("hwmon"));
            if there.is_empty() {
                there = tables(others["meter"].get("hwmon"));
            }
            let sensor = |place: usize| {
                let mut table = there.get(place).or(there.get(0)).cloned().unwrap_or_default();
                if let Some(sensor) = sensors.get(place) {
                    let (key, other) = if sensor.contains('/') { ("path", "device") } else { ("device", "path") };
                    table.remove(other);
                    table[key] = value(sensor);
                }
                place_at(table, position, there.get(0).filter(|_| place == 0))
            };
            Item::ArrayOfTables((0..meter.phases()).map(sensor).collect())
        }
        MeterWord::None(constants) => {
            let there = section.get("none").and_then(Item::as_table).or(others["meter"]["none"].as_table());
            let mut table = there.cloned().unwrap_or_default();
            table["base_ma"] = value(constants.iter().map(|constant| constant.0.0).collect::<Array>());
            table.set_position(position);
            Item::Table(table)
        }
    };
    let kind = match meter {
        MeterWord::Ina219(_) => "ina219",
        MeterWord::Hwmon(_) => "hwmon",
        MeterWord::None(_) => "none",
    };
    section.clear();
    section.insert(kind, item);
    Ok(())
}

/// A table of a list. The first has the comment that is for all of them.
fn place_at(mut table: Table, position: Option<isize>, first: Option<&Table>) -> Table {
    table.set_position(position);
    match first {
        Some(first) => *table.decor_mut() = first.decor().clone(),
        None => table.decor_mut().set_prefix("\n"),
    }
    table
}

fn fill_actuator(document: &mut DocumentMut, actuator: &ActuatorWord) -> Result<(), TomlError> {
    let kind = match actuator {
        ActuatorWord::ControlPilot => "control_pilot",
        ActuatorWord::Pwm => "pwm",
        ActuatorWord::Relay(_) => "relay",
        ActuatorWord::None => {
            document.remove("actuator");
            return Ok(());
        }
    };
    let examples: DocumentMut = format!("{DEVICE}{OTHER_ACTUATORS}").parse()?;
    let (section, position) = section(document, "actuator");
    if !section.contains_key(kind) {
        let mut table = examples["actuator"][kind].as_table().cloned().unwrap_or_default();
        table.set_position(position);
        section.clear();
        section.insert(kind, Item::Table(table));
    }
    if let ActuatorWord::Relay(line) = actuator {
        section["relay"]["line"] = value(i64::from(*line));
    }
    Ok(())
}

fn fill_devices(document: &mut DocumentMut, devices: &[DeviceWord]) {
    let Some(transformer) = document["transformer"].as_table_mut() else { return };
    let there = transformer.remove("device").and_then(|item| item.into_array_of_tables().ok()).unwrap_or_default();
    if devices.is_empty() {
        document.set_trailing(NO_DEVICES);
        return;
    }
    let position = there.get(0).and_then(Table::position);
    let enrolled = |(place, device): (usize, &DeviceWord)| {
        let is_it = |table: &&Table| table.get("name").and_then(Item::as_str) == Some(device.name.as_str());
        let mut table = there.iter().find(is_it).cloned().unwrap_or_default();
        table["name"] = value(device.name.as_str());
        table["phases"] = phases(&device.phases);
        if let Some(failsafe) = device.failsafe {
            table["failsafe_ma"] = value(failsafe.0.0);
        }
        place_at(table, position, there.get(0).filter(|_| place == 0))
    };
    let devices: ArrayOfTables = devices.iter().enumerate().map(enrolled).collect();
    transformer.insert("device", Item::ArrayOfTables(devices));
}
