//! Every situation in `agent/tests/allocation/`, which people can read and extend without Rust.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;

/// A current in amperes with at most three decimals, read without ever being a float here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "serde_json::Number")]
struct Amps(MilliAmps);

impl TryFrom<serde_json::Number> for Amps {
    type Error = String;

    fn try_from(number: serde_json::Number) -> Result<Self, String> {
        let text = number.to_string();
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
        if decimals.len() > 3 {
            return Err(format!("{text} A is finer than a milliampere"));
        }
        let milli = format!("{whole}{decimals:0<3}").parse();
        milli.map(|milli| Self(MilliAmps(milli))).map_err(|why| format!("{text} A: {why}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Situation {
    situation: String,
    transformer_a: [Amps; 3],
    #[serde(default)]
    fuses: Vec<FuseOf>,
    dimming: Option<DimmingOf>,
    devices: Vec<DeviceOf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FuseOf {
    name: Name,
    below: Option<Name>,
    limit_a: [Amps; 3],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DimmingOf {
    cap_a: Amps,
    floor_a: Amps,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceOf {
    name: Name,
    below: Option<Name>,
    phases: Vec<Phase>,
    #[serde(default = "middle")]
    priority: u8,
    turn: Option<u64>,
    min_a: Amps,
    max_a: Amps,
    wants_a: Amps,
    #[serde(default)]
    steps_a: Vec<Amps>,
    #[serde(default)]
    must_go_on: bool,
    #[serde(default)]
    must_stay_off: bool,
    #[serde(default)]
    switched_off: bool,
    gets_a: Amps,
    because: Reason,
}

fn middle() -> u8 {
    5
}

impl Situation {
    /// The index of the node with this name; the transformer without.
    fn node(&self, name: Option<&Name>) -> usize {
        let known = |name: &Name| self.fuses.iter().position(|fuse| fuse.name == *name);
        name.map_or(0, |name| 1 + known(name).unwrap_or_else(|| panic!("there is no fuse {name}")))
    }

    fn nodes(&self) -> Vec<Node> {
        let room = |limit: [Amps; 3]| limit.map(|amps| amps.0);
        let fuses = self.fuses.iter().map(|fuse| Node {
            name: Some(fuse.name.clone()),
            parent: Some(self.node(fuse.below.as_ref())),
            room: room(fuse.limit_a),
        });
        std::iter::once(Node { name: None, parent: None, room: room(self.transformer_a) }).chain(fuses).collect()
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |(place, device): (u64, &DeviceOf)| Claim {
            name: device.name.clone(),
            node: self.node(device.below.as_ref()),
            phases: device.phases.clone(),
            class: device.priority,
            turn: device.turn.unwrap_or(place),
            min: device.min_a.0,
            max: device.max_a.0,
            demand: device.wants_a.0,
            steps: device.steps_a.iter().map(|step| step.0).collect(),
            runs_on: device.must_go_on,
            rests: device.must_stay_off,
            barred: device.switched_off,
        };
        (1..).zip(&self.devices).map(claim).collect()
    }

    /// What differs from what the situation expects, a line per device.
    fn differences(&self) -> Vec<String> {
        let dimming = self.dimming.as_ref().map(|d| Dimming { cap: d.cap_a.0, floor: d.floor_a.0 });
        let shares = allocate(&self.nodes(), &self.claims(), dimming.as_ref());
        let compared = self.devices.iter().zip(&shares).filter_map(|(device, share)| {
            let expected = Share { limit: device.gets_a.0, reason: device.because.clone() };
            let told = |share: &Share| format!("{} because of {:?}", share.limit, share.reason.to_string());
            (*share != expected)
                .then(|| format!("  {} gets {}, expected {}", device.name, told(share), told(&expected)))
        });
        compared.collect()
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/allocation");
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

#[test]
fn every_situation_in_the_folder_ends_as_it_says() {
    let files = files();
    assert!(files.len() >= 15, "only {} situations were found", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().display().to_string();
        match serde_json::from_str::<Situation>(&std::fs::read_to_string(&file).unwrap()) {
            Err(why) => wrong.push(format!("{name}: {why}")),
            Ok(situation) => match situation.differences() {
                lines if lines.is_empty() => {}
                lines => wrong.push(format!("{name}: {}\n{}", situation.situation, lines.join("\n"))),
            },
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_situation_with_a_misspelt_key_is_refused() {
    let text = r#"{"situation": "", "transformer_a": [1, 1, 1], "devices": [], "dimmed": true}"#;
    let why = serde_json::from_str::<Situation>(text).err().map(|error| error.to_string());
    assert!(why.is_some_and(|why| why.contains("dimmed")));
}

#[test]
fn amperes_may_have_three_decimals() {
    let read = |text: &str| serde_json::from_str::<Amps>(text).ok().map(|amps| amps.0.0);
    assert_eq!(["16", "6.087", "18.26", "-0.5"].map(read), [Some(16_000), Some(6_087), Some(18_260), Some(-500)]);
    assert_eq!(read("6.0875"), None);
}
