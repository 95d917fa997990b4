//! Configuration files.

use std::cell::RefCell;
use std::fs;

use grid_anchor::settings::Settings;

use super::mutation::mutated;
use super::source::Source;
use super::{Verdict, require};
use crate::street::folder;

const MINIMAL: &str = "site = \"demo\"\ndata_dir = \"/x\"\n";
const MUCH: &str = r#"
site = "demo"
name = "anchor-2"
data_dir = "/var/lib/grid-anchor"

[identity]
bundle = "/etc/grid/anchor-2.bundle"

[broker]
host = "localhost"
tls = true

[log]
commit_ms = 5000
checkpoint_ms = 60000
origin = "example.com/street"

[ledger]
network = "testnet"
interval_ms = 60000
grpc = "https://node.example:443"
"#;

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    let valid = [MINIMAL, MUCH].map(|text| text.as_bytes().to_vec());
    let text = mutated(&mut source, &valid);
    let file = FOLDER.with_borrow_mut(|kept| kept.get_or_insert_with(folder).path().join("anchor.toml"));
    fs::write(&file, &text).unwrap();
    let settings = match Settings::load(&file) {
        Ok(settings) => settings,
        Err(why) => {
            require!(!valid.contains(&text), "settings do not load: {why}");
            return Ok(());
        }
    };
    let printed = toml::to_string(&settings).map_err(|why| format!("{settings:?} is not printed: {why}"))?;
    fs::write(&file, &printed).unwrap();
    let again = Settings::load(&file).map_err(|why| format!("{printed} does not load: {why}"))?;
    require!(again == settings, "{printed} loads as {again:?} instead of {settings:?}");
    Ok(())
}
