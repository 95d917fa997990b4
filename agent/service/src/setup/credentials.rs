//! The bundle that says who a service is: read, held against the one that is there, and asked where the broker is.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use grid_protocol::identity::{
    Bundle, BundleError, Endpoint, Identity, IdentityError, brokers_in, named_in, validity_of,
};

use super::{Put, Questions, Readers, Root, SetupError};
use crate::broker::{BrokerSettings, TLS_PORT};
use crate::identity::IdentitySettings;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a bundle is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BadCredentials {
    /// The bundle cannot be read.
    #[error("the bundle {file} cannot be read: {source}")]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no bundle.
    #[error("{file} is no bundle of grid-broker ca issue: {source}")]
    NoBundle {
        /// Which.
        file: PathBuf,
        /// Why.
        source: BundleError,
    },
    /// Its certificate names nobody.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The bundle that is there is not this one's predecessor.
    #[error(
        "{file} is there, {why}, and stays as it is: move it away if it is of no use any more, and run setup again"
    )]
    Other {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file that is there cannot be looked at.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

/// Where a broker is, as a person says it: `broker.local`, `broker.local:8883`, `[2001:db8::1]:8883`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAt(pub Endpoint);

/// Not where a broker is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: expected HOST or HOST:PORT, such as broker.local or [2001:db8::1]:8883")]
pub struct BadBrokerAt(String);

impl FromStr for BrokerAt {
    type Err = BadBrokerAt;

    fn from_str(text: &str) -> Result<Self, BadBrokerAt> {
        let at = text.parse().or_else(|_| format!("{text}:{TLS_PORT}").parse());
        at.map(Self).map_err(|_| BadBrokerAt(text.to_owned()))
    }
}

impl BrokerAt {
    /// Where it is, by a flag or by a person; what is found is the default.
    pub fn ask(ask: &Questions, given: Option<Self>, find: impl FnOnce() -> Option<Self>) -> Result<Self, SetupError> {
        let default = if given.is_some() { None } else { find() };
        ask.answer("Where the broker is (HOST or HOST:PORT)", "--broker", given, default)
    }
}

impl fmt::Display for BrokerAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A bundle that was brought to this machine.
pub struct Credentials {
    /// Whose it is.
    pub identity: Identity,
    file: PathBuf,
    pem: Vec<u8>,
    bundle: Bundle,
}

impl Credentials {
    /// Reads a bundle.
    pub fn read(file: &Path) -> Result<Self, BadCredentials> {
        let pem = fs::read(file).map_err(|source| BadCredentials::Unreadable { file: file.to_owned(), source })?;
        let bundle = Bundle::read(&pem);
        let bundle = bundle.map_err(|source| BadCredentials::NoBundle { file: file.to_owned(), source })?;
        Ok(Self { identity: named_in(&bundle.certificate)?, file: file.to_owned(), pem, bundle })
    }

    /// The certificate of the site's authority, DER.
    pub fn authority(&self) -> &[u8] {
        self.bundle.authority.der()
    }

    /// Fails if a bundle is at `path` that this one should not replace: another site's, or a newer one.
    pub fn check_against(&self, root: &Root, path: &str) -> Result<(), BadCredentials> {
        let Some(there) = root.read(path)? else { return Ok(()) };
        let other = |why: String| BadCredentials::Other { file: root.at(path), why };
        let there = Bundle::read(&there).map_err(|error| other(format!("cannot be read ({error})")))?;
        if there.authority.der() != self.authority() {
            return Err(other("is of another site's authority".to_owned()));
        }
        if validity_of(&there.certificate)?.until > validity_of(&self.bundle.certificate)?.until {
            return Err(other("is newer than the one that was given".to_owned()));
        }
        Ok(())
    }

    /// Puts it to `path`, for root alone. Says whether that changed anything.
    pub fn put(&self, root: &Root, path: &str) -> Result<bool, SetupError> {
        match root.put(path, &self.pem, Readers::Owner)? {
            Put::Unchanged => Ok(false),
            Put::Written => Ok(true),
            Put::Differs => root.write(path, &self.pem, Readers::Owner).map(|()| true),
        }
    }

    /// The first broker that the bundle names and that answers; if none does, the first that it names. Tells who does not.
    pub fn find_broker(&self) -> Option<BrokerAt> {
        let named = brokers_in(&String::from_utf8_lossy(&self.pem));
        let identity = IdentitySettings::Bundle(self.file.clone()).read().ok()?;
        for at in &named {
            let settings = BrokerSettings { tls: true, ..BrokerSettings::plain(&at.host, at.port) };
            let answers = settings.resolve(&identity).map_err(|error| error.to_string());
            match answers.and_then(|broker| broker.reach(PATIENCE)) {
                Ok(()) => return Some(BrokerAt(at.clone())),
                Err(why) => println!("no answer  {at}: {why}"),
            }
        }
        named.into_iter().next().map(BrokerAt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_port_goes_without_saying() {
        for (said, meant) in
            [("192.0.2.7", "192.0.2.7:8883"), ("a.b:1", "a.b:1"), ("[2001:db8::1]:2", "[2001:db8::1]:2")]
        {
            assert_eq!(said.parse::<BrokerAt>().unwrap().to_string(), meant);
        }
        for bad in ["", "a b", "broker:x"] {
            assert!(bad.parse::<BrokerAt>().unwrap_err().to_string().contains("broker.local"), "{bad}");
        }
    }
}
