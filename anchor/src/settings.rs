//! What a person configures: one TOML file.
//!
//! ```toml
//! site = "demo"
//! name = "anchor-1"
//! data_dir = "/var/lib/grid-anchor"
//!
//! [identity]
//! bundle = "/etc/grid/anchor-1.bundle"
//!
//! [broker]
//! host = "localhost"
//! tls = true
//!
//! [log]
//! commit_ms = 5000
//!
//! [ledger]
//! network = "testnet"
//! ```

use std::path::{Path, PathBuf};

use grid_ledger::{Endpoints, MOST_NANOS_PER_RECORD, Network};
use grid_protocol::topic::Name;
use grid_protocol::units::Millis;
use grid_service::broker::{Broker, BrokerError, BrokerSettings};
use grid_service::identity::{IdentityFileError, IdentityFiles, IdentitySettings, NotOurs};
use grid_service::settings::{Problems, SettingsError, load};
use serde::{Deserialize, Deserializer, Serialize};

use crate::http::HttpSettings;
use crate::recorder::{AnchorIdentity, RecorderSettings};
use crate::retention::RetentionSettings;

/// In milliseconds.
pub(crate) const DAY: u64 = 86_400_000;

/// The anchor's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The site: the street, car park or model. 1 to 32 of a-z, 0-9 and '-'.
    pub site: Name,
    /// The anchor's name on the site, as in its certificate. Default: `anchor-1`.
    #[serde(default = "default_name")]
    pub name: Name,
    /// Where the log, its key, the journal and `site.policy` are kept. One anchor at a time may use it.
    pub data_dir: PathBuf,
    /// Who the anchor is. `run` needs it.
    #[serde(default)]
    pub identity: Option<IdentitySettings>,
    /// Where the broker is.
    #[serde(default)]
    pub broker: BrokerSettings,
    /// How the log is written.
    #[serde(default)]
    pub log: LogSettings,
    /// Where its head is notarized. Without this section it is not; `grid-anchor init` must have been run before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerSettings>,
    /// How the log is served over HTTP. Without this section it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSettings>,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How long a message may wait until it is on disk and acknowledged, in milliseconds, 10 to 60000. Events do not
    /// wait. Each time is one write to an SD card. Default: 5000.
    pub commit_ms: Millis,
    /// How long an entry may wait until it is under a signed checkpoint, in milliseconds, 100 to 86400000.
    /// Default: 60000.
    pub checkpoint_ms: Millis,
    /// How much room must be free where `data_dir` is, in units of 10^6 bytes, 0 to 1000000. With less, messages are
    /// neither logged nor acknowledged until there is a quarter more than this again; agents keep them in their outboxes,
    /// and control goes on. Both are signed events in the log, for which this leaves room. Default: 200.
    pub min_free_mb: u64,
    /// How many days entries are kept, 0 to 36500; 0: for ever. Older ones are dropped from the disk once a day, but only
    /// after the ledger vouches for them, if there is one. Proofs given out for them stay valid. Default: 30.
    pub retention_days: u64,
    /// The log's name: a URL without scheme, spaces or `+`. It cannot change. Default:
    /// `<site>-<8 hex digits of the log key's SHA-256>.invalid`.
    pub origin: Option<String>,
}

/// Where the log's head is notarized.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSettings {
    /// `mainnet`, `testnet`, `devnet`, `localnet`, or `mock`, which is not IOTA.
    pub network: Network,
    /// How often a record is added if anything has happened, in milliseconds, at least 1000. Default: 600000 on mainnet,
    /// where it costs money, 10000 on a mock, 60000 elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<Millis>,
    /// Whether a record is added early after an overload began or a limit was changed, at most ten times as often as
    /// otherwise. Default: true.
    #[serde(default = "yes")]
    pub on_event: bool,
    /// The gRPC services of nodes, if others than the network's own: `"https://node.example:443"`, or several in a list.
    /// The first is asked as long as it answers, then the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_several")]
    pub grpc: Vec<String>,
    /// What a record may take at most, in NANOS, of which an IOTA has 10^9. Above that nothing is submitted; the next
    /// record that is due covers it all. Usually a record takes less than 20000000 and gets most of that back.
    /// Default: 100000000.
    #[serde(default = "default_most_nanos_per_record")]
    pub most_nanos_per_record: u64,
}

fn yes() -> bool {
    true
}

fn default_most_nanos_per_record() -> u64 {
    MOST_NANOS_PER_RECORD
}

fn one_or_several<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a URL, or a list of URLs")]
    enum OneOrSeveral {
        One(String),
        Several(Vec<String>),
    }
    Ok(match OneOrSeveral::deserialize(from)? {
        OneOrSeveral::One(one) => vec![one],
        OneOrSeveral::Several(several) => several,
    })
}

impl LedgerSettings {
    /// Where everything is.
    pub fn endpoints(&self) -> Endpoints {
        endpoints(self.network, &self.grpc)
    }

    /// How often a record is added.
    pub fn interval(&self) -> Millis {
        self.interval_ms.unwrap_or(match self.network {
            Network::Mainnet => Millis(600_000),
            Network::Mock => Millis(10_000),
            Network::Testnet | Network::Devnet | Network::Localnet => Millis(60_000),
        })
    }
}

/// The network's services, with nodes of one's own if there are any. A mock has everything at the one address.
pub fn endpoints(network: Network, grpc: &[String]) -> Endpoints {
    let mut endpoints = network.endpoints();
    if let Some(first) = grpc.first() {
        if network == Network::Mock {
            first.trim_end_matches('/').clone_into(&mut endpoints.explorer);
            endpoints.faucet = Some(format!("{}/gas", endpoints.explorer));
        }
        endpoints.grpc = grpc.to_vec();
    }
    endpoints
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            commit_ms: Millis(5000),
            checkpoint_ms: Millis(60_000),
            min_free_mb: 200,
            retention_days: 30,
            origin: None,
        }
    }
}

fn default_name() -> Name {
    "anchor-1".parse().unwrap_or_else(|_| unreachable!("anchor-1 is a name"))
}

/// Why the anchor has no identity, or no broker.
#[derive(Debug, thiserror::Error)]
pub enum Unresolved {
    /// There is no `[identity]` section.
    #[error(
        "the settings have no [identity] section: give it the bundle that grid-broker ca issue made for the anchor"
    )]
    Missing,
    /// A file in it cannot be used.
    #[error(transparent)]
    File(#[from] IdentityFileError),
    /// The files are another's.
    #[error(transparent)]
    NotOurs(#[from] NotOurs),
    /// `[broker]` and `[identity]` lead to no broker.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

impl Settings {
    /// Settings with all defaults, for an anchor whose identity is given otherwise.
    pub fn new(site: Name, name: Name, data_dir: PathBuf) -> Self {
        Self {
            site,
            name,
            data_dir,
            identity: None,
            broker: BrokerSettings::default(),
            log: LogSettings::default(),
            ledger: None,
            http: None,
        }
    }

    /// Reads settings from a file and the environment, and checks their values.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let settings: Self = load(file)?;
        let mut problems = Problems::default();
        let Millis(commit) = settings.log.commit_ms;
        problems.unless((10..=60_000).contains(&commit), || format!("log.commit_ms = {commit}: use 10 to 60000"));
        let Millis(checkpoint) = settings.log.checkpoint_ms;
        problems.unless((100..=86_400_000).contains(&checkpoint), || {
            format!("log.checkpoint_ms = {checkpoint}: use 100 to 86400000")
        });
        let room = settings.log.min_free_mb;
        problems.unless(room <= 1_000_000, || format!("log.min_free_mb = {room}: use 0 to 1000000"));
        let days = settings.log.retention_days;
        problems.unless(days <= 36_500, || format!("log.retention_days = {days}: use 0 to 36500"));
        if let Some(origin) = &settings.log.origin {
            let fits = signed_note::is_key_name_valid(origin) && !origin.chars().any(char::is_control);
            problems.unless(fits, || format!("log.origin = {origin:?}: it must not have spaces or +"));
        }
        if let Some(Millis(interval)) = settings.ledger.as_ref().and_then(|ledger| ledger.interval_ms) {
            problems.unless(interval >= 1000, || format!("ledger.interval_ms = {interval}: use at least 1000"));
        }
        if let Some(http) = &settings.http {
            http.check(&mut problems);
        }
        settings.broker.check(settings.identity.as_ref(), &mut problems);
        problems.check()?;
        Ok(settings)
    }

    /// The part that the recorder needs.
    pub fn recorder(&self) -> RecorderSettings {
        RecorderSettings {
            site: self.site.clone(),
            name: self.name.clone(),
            commit: self.log.commit_ms,
            checkpoint: self.log.checkpoint_ms,
            min_free_mb: self.log.min_free_mb,
            origin: self.log.origin.clone(),
            retention: RetentionSettings {
                keep: Some(Millis(self.log.retention_days * DAY)).filter(|keep| keep.0 > 0),
                ledger: self.ledger.is_some(),
            },
        }
    }

    /// Reads the files that say who the anchor is, and how its broker lets it in.
    pub fn resolve(&self) -> Result<(AnchorIdentity, Broker), Unresolved> {
        let identity = self.identity.as_ref().ok_or(Unresolved::Missing)?.read()?;
        identity.check(&self.site, &self.name)?;
        let broker = self.broker.resolve(&identity)?;
        let IdentityFiles { message_key, certificate, authority, tls_key: _ } = identity;
        Ok((AnchorIdentity { message_key, certificate, authority }, broker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load_text(text: &str) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("anchor.toml");
        fs::write(&file, text).unwrap();
        Settings::load(&file)
    }

    #[test]
    fn a_minimal_file_has_the_defaults() {
        let settings = load_text("site = \"demo\"\ndata_dir = \"/x\"\n").unwrap();
        assert_eq!(settings, Settings::new("demo".parse().unwrap(), "anchor-1".parse().unwrap(), "/x".into()));
        assert!(settings.resolve().is_err());
    }

    #[test]
    fn a_ledger_has_the_nodes_of_its_network_or_one_or_several_others() {
        let nodes = |grpc: &str| {
            let text = format!("site = \"demo\"\ndata_dir = \"/x\"\n[ledger]\nnetwork = \"testnet\"\n{grpc}\n");
            load_text(&text).map(|settings| settings.ledger.unwrap().endpoints().grpc)
        };
        assert_eq!(nodes("").unwrap(), ["https://grpc.testnet.iota.cafe:443"]);
        assert_eq!(nodes("grpc = \"http://a:1\"").unwrap(), ["http://a:1"]);
        assert_eq!(nodes("grpc = [\"http://a:1\", \"http://b:2\"]").unwrap(), ["http://a:1", "http://b:2"]);
        let error = nodes("grpc = 7").unwrap_err().to_string();
        assert!(error.contains("a URL, or a list of URLs"), "{error}");
    }

    #[test]
    fn wrong_values_are_all_named() {
        let error = load_text(
            "site = \"demo\"\ndata_dir = \"/x\"\n[log]\ncommit_ms = 1\ncheckpoint_ms = 1\nmin_free_mb = 1000001\norigin = \"a b\"\n",
        );
        let error = error.unwrap_err().to_string();
        for named in ["commit_ms = 1", "checkpoint_ms = 1", "min_free_mb = 1000001", "\"a b\""] {
            assert!(error.contains(named), "{error}");
        }
    }
}
