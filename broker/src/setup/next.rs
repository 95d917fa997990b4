//! What to do after the setup: the very commands.

use grid_service::setup::Root;

use super::answers::{Answers, Password, User};
use super::{AUTHORITY, CONFIG};
use crate::ca::DEFAULT_FOLDER;

/// Shows the passwords that were made up and are kept nowhere.
pub fn tell_passwords(answers: &Answers) {
    for user in [&answers.operator, &answers.home_assistant].into_iter().flatten() {
        if let User { name, password: Some(Password { text, is_made_up: true }) } = user {
            println!(
                "The password of {name} is {text}, which is shown this once and kept nowhere.",
                text = text.as_str()
            );
        }
    }
}

/// Says it on standard output, and last how to see whether all is well.
pub fn tell(answers: &Answers, root: &Root, whether_all_is_well: &str) {
    let Answers { site, transformer, anchor, operator, home_assistant, .. } = answers;
    let port = answers.ports[0];
    let host = answers.hosts.to_tell().unwrap_or("localhost");
    let (sudo, dir, config) = match root.is_this_machine() {
        true => ("sudo ", String::new(), String::new()),
        false => {
            let (dir, config) = (root.at(DEFAULT_FOLDER), root.at(CONFIG));
            ("", format!(" --dir {}", dir.display()), format!(" --config {}", config.display()))
        }
    };
    println!("\nThe broker of {site} is set up: MQTT over TLS at {host}:{port}.");
    let authority = root.at(AUTHORITY);
    let authority = authority.display();
    let home_assistant = home_assistant.as_ref().map(|User { name, .. }| {
        format!(
            "Home Assistant shows each agent whose settings (/etc/grid/agent/NAME.toml) have a section [home_assistant]. Its
integration MQTT takes:
  broker {host}, port {port}, user {name}, the password, and the file {authority} as CA certificate
"
        )
    });
    println!(
        "
Next, on this machine, a bundle for everybody else:
  {sudo}grid-broker ca issue {transformer} --role transformer{dir}
  {sudo}grid-broker ca issue cp-1 --role device{dir}
  {sudo}grid-broker ca issue {anchor} --role anchor{dir}
Copy each to its machine, and set that up there:
  scp cp-1.bundle pi@cp-1.local: && shred -u cp-1.bundle
  sudo grid-agent setup cp-1.bundle        # there; for the anchor: sudo grid-anchor setup {anchor}.bundle
See all that is said, from anywhere ({authority} is no secret):
  mosquitto_sub -h {host} -p {port} --cafile {authority} -u {name} -P PASSWORD -t 'grid/#' -v
{home_assistant}{whether_all_is_well}
  {sudo}grid-broker check{config}",
        home_assistant = home_assistant.unwrap_or_default(),
        name = operator.as_ref().map_or("USER", |operator| &operator.name),
    );
}
