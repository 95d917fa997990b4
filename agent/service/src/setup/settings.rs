//! Settings: made of an example whose comments stay in them, or there already, and then left alone.

use std::path::PathBuf;

use grid_protocol::topic::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml_edit::{DocumentMut, TomlError, value};

use super::{BrokerAt, differences};
use crate::settings::SettingsError;

/// Why settings cannot be made, or those that are there cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum BadSettings {
    /// Those that are there cannot be used.
    #[error("{0}\nMend that file, or move it away and run setup again")]
    There(SettingsError),
    /// Those that are there say otherwise.
    #[error(
        "{file} is there, says otherwise, and stays as it is:\n  {}\nNothing was changed. Edit that file, or move it away and run setup \
         again{more}",
        .differences.join("\n  ")
    )]
    Otherwise {
        /// The settings.
        file: PathBuf,
        /// One line each.
        differences: Vec<String>,
        /// What there is to do besides; may be empty.
        more: &'static str,
    },
    /// The answers make no settings.
    #[error("these answers cannot be used: {0}")]
    Answers(SettingsError),
    /// What was made of the example is no settings: a fault of this program.
    #[error("the settings that were made cannot be read: {0}")]
    Made(#[from] toml::de::Error),
    /// The example is broken, or the settings that are there are no text: a fault of this program.
    #[error("the settings cannot be filled in: {0}")]
    Example(#[from] TomlError),
}

/// Fails if the settings `there`, which are in `file`, are not those that are `wanted`, with each difference.
pub fn must_be_same<T: Serialize + DeserializeOwned>(
    file: PathBuf,
    there: &str,
    wanted: &str,
    more: &'static str,
) -> Result<(), BadSettings> {
    let differences = differences::<T>(&toml::from_str(there)?, &toml::from_str(wanted)?);
    if differences.is_empty() { Ok(()) } else { Err(BadSettings::Otherwise { file, differences, more }) }
}

/// Who a service is, and where its broker is if that is said.
pub fn fill_in_who(document: &mut DocumentMut, site: &Name, name: &Name, broker: Option<&BrokerAt>) {
    document["site"] = value(site.as_str());
    document["name"] = value(name.as_str());
    if let Some(BrokerAt(broker)) = broker {
        document["broker"]["host"] = value(&broker.host);
        document["broker"]["port"] = value(i64::from(broker.port));
        document["broker"]["tls"] = value(true);
    }
}
