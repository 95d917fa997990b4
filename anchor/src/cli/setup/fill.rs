//! What is wanted of an anchor, and settings made of the example, whose comments stay in them.

use std::fmt;
use std::str::FromStr;

use grid_ledger::Network;
use grid_protocol::topic::Name;
use grid_service::setup::{BadSettings, BrokerAt, Questions, fill_in_who};
use toml_edit::{Array, DocumentMut, Item, Table, TomlError, value};

use super::error::SetupFailure;
use crate::settings::Settings;

/// What the package ships, commented.
const EXAMPLE: &str = include_str!("anchor.example.toml");
const NONE: &str = "none";

/// Where the log's head is notarized, if anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notarized {
    /// On this network.
    On(Network),
    /// Nowhere.
    Nowhere,
}

/// A word that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: expected mainnet, testnet, devnet, mock or none")]
pub struct NoNetwork(String);

impl FromStr for Notarized {
    type Err = NoNetwork;

    fn from_str(word: &str) -> Result<Self, NoNetwork> {
        match (word, word.parse()) {
            (NONE, _) => Ok(Self::Nowhere),
            // Its packages are at addresses of its own.
            (_, Ok(Network::Localnet) | Err(_)) => Err(NoNetwork(word.to_owned())),
            (_, Ok(network)) => Ok(Self::On(network)),
        }
    }
}

impl fmt::Display for Notarized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(network) => network.fmt(f),
            Self::Nowhere => f.write_str(NONE),
        }
    }
}

/// What is wanted. What is `None` is not said, and stays as it is.
pub struct Wanted {
    /// The site.
    pub site: Name,
    /// The anchor's name.
    pub name: Name,
    /// Where the broker is.
    pub broker: Option<BrokerAt>,
    /// Where the log's head is notarized.
    pub network: Option<Notarized>,
    /// The nodes, if others than the network's own.
    pub grpc: Vec<String>,
}

impl Wanted {
    /// Asks for the rest.
    pub fn complete(
        mut self,
        ask: &Questions,
        broker: impl FnOnce() -> Option<BrokerAt>,
    ) -> Result<Self, SetupFailure> {
        self.broker = Some(BrokerAt::ask(ask, self.broker, broker)?);
        let question = "Where the log's head is notarized (mainnet costs money; testnet, devnet, mock; none: nowhere)";
        self.network = Some(ask.answer(question, "--network", self.network, None)?);
        Ok(self)
    }
}

/// New settings, from the example.
pub fn new(wanted: &Wanted) -> Result<String, BadSettings> {
    let text = changed(EXAMPLE, wanted)?;
    toml::from_str::<Settings>(&text)?;
    Ok(text)
}

/// What the settings `there` would be with what is wanted of them.
pub fn changed(there: &str, wanted: &Wanted) -> Result<String, TomlError> {
    let mut document: DocumentMut = there.parse()?;
    fill_in_who(&mut document, &wanted.site, &wanted.name, wanted.broker.as_ref());
    match wanted.network {
        Some(Notarized::On(network)) => {
            let ledger = document.entry("ledger").or_insert(Item::Table(Table::new()));
            ledger["network"] = value(network.to_string());
            if !wanted.grpc.is_empty() {
                ledger["grpc"] = value(wanted.grpc.iter().collect::<Array>());
            }
        }
        Some(Notarized::Nowhere) => drop(document.remove("ledger")),
        None => {}
    }
    Ok(document.to_string())
}
