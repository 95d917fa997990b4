//! What a person configures: one TOML file, and the environment over it (`GRID__LIMITS__MAX_CLIENTS=100`).
//!
//! ```toml
//! site = "main-street"
//!
//! [listen]
//! mqtt = "127.0.0.1:1883"
//! mqtts = "0.0.0.0:8883"
//!
//! [tls]
//! certificate = "/etc/grid/broker.pem"
//! key = "/etc/grid/broker.key"
//!
//! [access]
//! authority = "/etc/grid/ca.pem"
//! revocations = "/var/lib/grid/ca/revoked.json"
//!
//! [[transformer]]
//! name = "trafo-1"
//!
//! [[user]]
//! name = "anna"
//! role = "operator"
//! password_hash = "$argon2id$v=19$m=9216,t=4,p=1$…"
//! ```
//!
//! `[tls]`, `[access]`, `[[transformer]]`, `[[user]]`, `[[grant]]` and `anchor` are read again at SIGHUP, everything else
//! when the broker starts.

mod check;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_service::settings::{Problems, SettingsError, load};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::access::PasswordHash;
use crate::limits::Limits;
use crate::topic;

/// Where the broker listens without a configuration: MQTT's own port, on loopback.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1883);

/// The broker's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The site: the street, car park or model. 1 to 32 of a-z, 0-9 and '-'.
    pub site: Name,
    /// The anchor that writes the log. Agents may read its status. Default: `anchor-1`.
    #[serde(default = "default_anchor")]
    pub anchor: Name,
    /// Where it listens.
    #[serde(default)]
    pub listen: Listen,
    /// The broker's own certificate. `mqtts` and `wss` need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSettings>,
    /// Who is let in.
    #[serde(default)]
    pub access: AccessSettings,
    /// Limits and times.
    #[serde(default)]
    pub limits: Limits,
    /// The transformers of the site.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transformer: Vec<Transformer>,
    /// Who logs in with a password.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<User>,
    /// Rights beyond those of the role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grant: Vec<Grant>,
    /// The option `--open`: being open on an address that others can reach is wanted.
    #[serde(skip)]
    pub open_to_others: bool,
}

fn default_anchor() -> Name {
    "anchor-1".parse().unwrap_or_else(|_| unreachable!("a literal name"))
}

/// Where the broker listens: `address:port`, each for MQTT 3.1.1 and 5. At least one of the first four is needed; with
/// port 0 the system chooses a free one, which the log then says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// MQTT over TCP; usually port 1883.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<SocketAddr>,
    /// MQTT over TLS; usually port 8883.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtts: Option<SocketAddr>,
    /// MQTT over WebSocket, subprotocol `mqtt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ws: Option<SocketAddr>,
    /// MQTT over WebSocket and TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wss: Option<SocketAddr>,
    /// `/healthz` and `/metrics`, over plain HTTP and for everybody who reaches it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<SocketAddr>,
    /// Lets `mqtt` and `ws` listen on addresses beyond loopback, although passwords can be read on the way. Default:
    /// false.
    pub plain_passwords: bool,
}

/// The broker's own certificate and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// Its certificate, and those between it and what clients trust; PEM.
    pub certificate: PathBuf,
    /// The private key to it; PEM.
    pub key: PathBuf,
}

/// Who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// Nobody is asked who he is, and everybody may do everything. Only on loopback, unless `--open` is given. Default:
    /// false.
    pub open: bool,
    /// The certificate of the site's authority, PEM or DER. Clients with a certificate of it are let in over TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
    /// The signed list of revoked certificates, which `grid-broker ca revoke` writes. A changed file is read within
    /// seconds; there need not be one yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revocations: Option<PathBuf>,
}

/// A transformer, and what it leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transformer {
    /// Its name, as in its certificate.
    pub name: Name,
    /// The devices behind it. Default: all of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<Vec<Name>>,
}

impl Transformer {
    /// Whether `device` is behind it.
    pub fn leads(&self, device: &str) -> bool {
        self.devices.as_ref().is_none_or(|devices| devices.iter().any(|name| name.as_str() == device))
    }
}

/// A person, or a program such as Home Assistant, that logs in with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name to log in with: 1 to 64 letters, digits, '-', '_', '.' and '@'.
    pub name: String,
    /// `operator`, who reads everything and gives commands, or `guest`, who reads what is said by and to the
    /// transformers.
    pub role: Role,
    /// What `grid-broker hash-password` prints. `--print-config` does not show it.
    pub password_hash: PasswordHash,
    /// A password itself does not belong here. That is known so that it is refused without being shown.
    #[serde(default, rename = "password", deserialize_with = "is_there", skip_serializing)]
    has_password: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl User {
    /// A user.
    pub fn new(name: &str, role: Role, password_hash: PasswordHash) -> Self {
        Self { name: name.to_owned(), role, password_hash, has_password: false }
    }
}

/// Rights beyond those of the role, for one name or for one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The name of a user, or in a certificate. Either this or `role`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Everybody of this role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Topic filters: what may be published to.
    #[serde(default)]
    pub publish: Vec<Pattern>,
    /// Topic filters: what may be read.
    #[serde(default)]
    pub subscribe: Vec<Pattern>,
}

impl Grant {
    /// Whether it is for who has this name and role.
    pub fn is_for(&self, name: &str, role: Role) -> bool {
        match (&self.to, self.role) {
            (Some(to), None) => to == name,
            (None, Some(all)) => all == role,
            (Some(_), Some(_)) | (None, None) => false,
        }
    }
}

/// A topic filter in which `{name}` stands for the client's own name: `homeassistant/+/{name}/#`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

/// Text that is not a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a topic filter: '+' stands for one whole level, '#' for all that follow, and {{name}} for the client's \
     name, as in homeassistant/+/{{name}}/#"
)]
pub struct BadPattern;

impl Pattern {
    const PLACEHOLDER: &str = "{name}";

    /// The filter for a client of this name.
    pub fn filter(&self, name: &str) -> String {
        self.0.replace(Self::PLACEHOLDER, name)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        let example = text.replace(Self::PLACEHOLDER, "x");
        let good = topic::is_valid_filter(&example) && !topic::is_shared(&example) && !example.contains(['{', '}']);
        good.then_some(Self(text)).ok_or(BadPattern)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

/// Where settings come from: a file, and what the command line says over it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file. Without one the broker is open.
    pub config: Option<PathBuf>,
    /// Goes over `listen.mqtt`.
    pub listen: Option<SocketAddr>,
    /// `--open`.
    pub open: bool,
}

impl Source {
    /// Reads the settings. Whether their values make sense is for [`Settings::check`] to say.
    pub fn read(&self) -> Result<Settings, SettingsError> {
        let mut settings = match &self.config {
            Some(file) => load(file)?,
            None => Settings::open_on(DEFAULT_LISTEN),
        };
        if let Some(address) = self.listen {
            settings.listen.mqtt = Some(address);
        }
        settings.open_to_others = self.open;
        Ok(settings)
    }

    /// The file, for what is read again while the broker runs.
    pub fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

impl Settings {
    /// Settings of a site with all defaults: closed, and without any listener.
    pub fn for_site(site: Name) -> Self {
        Self {
            site,
            anchor: default_anchor(),
            listen: Listen::default(),
            tls: None,
            access: AccessSettings::default(),
            limits: Limits::default(),
            transformer: Vec::new(),
            user: Vec::new(),
            grant: Vec::new(),
            open_to_others: false,
        }
    }

    /// Settings of a broker that is open, without a configuration.
    fn open_on(address: SocketAddr) -> Self {
        let site = "demo".parse().unwrap_or_else(|_| unreachable!("a literal name"));
        Self {
            listen: Listen { mqtt: Some(address), ..Listen::default() },
            access: AccessSettings { open: true, ..AccessSettings::default() },
            ..Self::for_site(site)
        }
    }

    /// Checks all values. Files that they name are not looked at.
    pub fn check(&self) -> Result<(), SettingsError> {
        let mut wrong = Problems::default();
        self.note_problems(&mut wrong);
        wrong.check()
    }
}
