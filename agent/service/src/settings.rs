//! Settings: a TOML file, and the environment over it (`GRID__SECTION__KEY`).
//!
//! The structs that hold the settings are their manual. Every wrong value is reported at once, before anything starts.

use std::fmt;
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Why settings could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read, or is not TOML.
    #[error("cannot read the settings {file}: {source}")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<config::ConfigError>,
    },
    /// Some values are wrong; all of them are listed.
    #[error("{0}")]
    Wrong(Problems),
}

/// What is wrong with settings, one line each.
#[derive(Debug, Default)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes a problem unless `holds`.
    pub fn unless(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }

    /// Fails with all problems if there are any.
    pub fn check(self) -> Result<(), SettingsError> {
        if self.0.is_empty() { Ok(()) } else { Err(SettingsError::Wrong(self)) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the settings cannot be used:")?;
        for problem in &self.0 {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// Reads settings from a TOML file and the environment.
pub fn load<T: DeserializeOwned>(file: &Path) -> Result<T, SettingsError> {
    let unreadable = |source| SettingsError::Unreadable { file: file.to_owned(), source: Box::new(source) };
    let environment = Environment::with_prefix("GRID").prefix_separator("__").separator("__").try_parsing(true);
    let tree: Value = Config::builder()
        .add_source(File::from(file).format(FileFormat::Toml))
        .add_source(environment)
        .build()
        .and_then(Config::try_deserialize)
        .map_err(unreadable)?;
    read_all(tree)
}

/// Reads `T` from the tree. After a wrong value it goes on without that value, so that the next wrong one is found too.
fn read_all<T: DeserializeOwned>(mut tree: Value) -> Result<T, SettingsError> {
    let mut problems = Problems::default();
    let mut removed: Vec<String> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(tree.clone()) {
            Ok(settings) => return problems.check().map(|()| settings),
            Err(error) => error,
        };
        let path = error.path().to_string();
        let why = error.inner().to_string();
        if removed.iter().any(|key| why.starts_with(&format!("missing field `{key}`"))) {
            // It was there, and is among the problems.
            return Err(SettingsError::Wrong(problems));
        }
        let pointer = format!("/{}", path.replace("[", ".").replace("]", "").replace('.', "/"));
        let value = tree.pointer(&pointer).filter(|value| !value.is_object() && !value.is_array());
        let shown = value.map(|value| format!(" = {value}")).unwrap_or_default();
        problems.0.push(format!("{path}{shown}: {why}"));
        if value.is_none() || !remove(&mut tree, &pointer) {
            return Err(SettingsError::Wrong(problems));
        }
        removed.push(pointer.rsplit('/').next().unwrap_or_default().to_owned());
    }
}

fn remove(tree: &mut Value, pointer: &str) -> bool {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return false };
    match tree.pointer_mut(parent) {
        Some(Value::Object(members)) => members.remove(key).is_some(),
        Some(Value::Array(elements)) => match key.parse() {
            Ok(index) if index < elements.len() => {
                elements.remove(index);
                true
            }
            Ok(_) | Err(_) => false,
        },
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::topic::Name;
    use serde::Deserialize;
    use std::io::Write;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        site: Name,
        meter: Meter,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Meter {
        interval_ms: u64,
        address: u8,
    }

    impl Default for Settings {
        fn default() -> Self {
            Self { site: "demo".parse().unwrap(), meter: Meter::default() }
        }
    }

    fn load_text(text: &str) -> Result<Settings, SettingsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load(file.path())
    }

    #[test]
    fn a_file_is_read_and_what_it_leaves_out_has_its_default() {
        let settings = load_text("[meter]\ninterval_ms = 20\n").unwrap();
        assert_eq!((settings.site.as_str(), settings.meter.interval_ms, settings.meter.address), ("demo", 20, 0));
    }

    #[test]
    fn every_wrong_value_is_reported_at_once() {
        let text = "site = \"Main Street\"\n[meter]\ninterval_ms = \"soon\"\naddress = 700\nadress = 1\n";
        let error = load_text(text).unwrap_err().to_string();
        for named in ["site = \"Main Street\"", "interval_ms = \"soon\"", "address = 700", "adress"] {
            assert!(error.contains(named), "{named} in {error}");
        }
    }

    #[derive(Debug, Deserialize)]
    struct Required {
        #[serde(rename = "site")]
        _site: Name,
        #[serde(rename = "numbers")]
        _numbers: Vec<u8>,
    }

    #[test]
    fn a_wrong_value_that_is_required_is_not_called_missing_and_elements_of_lists_are_named() {
        let tree = serde_json::json!({ "numbers": [1, "two", 3, 4000], "site": "Main Street" });
        let error = read_all::<Required>(tree).unwrap_err().to_string();
        for named in ["numbers[1] = \"two\"", "4000", "Main Street"] {
            assert!(error.contains(named), "{named} in {error}");
        }
        assert!(!error.contains("missing"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Settings>(Path::new("/nowhere/agent.toml")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/agent.toml"), "{error}");
    }
}
