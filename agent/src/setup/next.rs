//! What to do after the setup: the very commands, and what other agents have to know.

use super::config_of;
use super::reserve::Reserve;
use super::wanted::{Device, Part, Transformer, Wanted};
use super::words::DeviceWord;

/// What the other side has to know: a transformer of its device, devices of what is reserved for them.
pub fn steps(wanted: &Wanted) -> String {
    match &wanted.part {
        Part::Device(Device {
            transformer: Some(transformer), phases: Some(phases), failsafe: Some(failsafe), ..
        }) => {
            let enrolled = DeviceWord { name: wanted.name.clone(), phases: phases.clone(), failsafe: Some(*failsafe) };
            let quoted: Vec<String> = phases.0.iter().map(|phase| format!("\"{phase}\"")).collect();
            format!(
                "
{transformer} has to know {name}, and reserves what it may draw when nobody leads it: {current} a phase.
If {transformer} is still to be set up, say so there:
  sudo grid-agent setup {transformer}.bundle --device {enrolled}
If it is set up and does not know it, add this to {config} there, and then
sudo systemctl restart grid-agent@{transformer}:
  [[transformer.device]]
  name = \"{name}\"
  phases = [{phases}]
  failsafe_ma = {failsafe}
",
                name = wanted.name,
                current = failsafe.0,
                config = config_of(transformer),
                phases = quoted.join(", "),
            )
        }
        Part::Transformer(Transformer { devices: Some(devices), .. }) if devices.0.is_empty() => {
            format!(
                "\nIt leads nobody yet. Each device's grid-agent setup says what to add to {}.\n",
                config_of(&wanted.name),
            )
        }
        Part::Transformer(Transformer { limit_w: Some(limit_w), devices: Some(devices) }) => {
            let reserve = Reserve::of(devices, *limit_w);
            let setup = |DeviceWord { name, phases, failsafe }: &DeviceWord| {
                let failsafe = failsafe.map_or("0".to_owned(), |failsafe| failsafe.to_string());
                format!("  sudo grid-agent setup {name}.bundle --phases {phases} --failsafe-ma {failsafe}\n")
            };
            let setups: String = devices.0.iter().map(setup).collect();
            format!(
                "
Reserved at all times, for devices that nobody leads: {reserve}.
What is left has to be enough for everything else in the street. Each device's own setup has to say the same:
{setups}"
            )
        }
        Part::Device(_) | Part::Transformer(_) => String::new(),
    }
}
