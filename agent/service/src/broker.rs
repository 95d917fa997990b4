//! Where the broker is and how to be let in: as a person writes it, and with everything that it takes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use grid_protocol::identity::Endpoint;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::identity::{IdentityFiles, IdentitySettings};
use crate::settings::Problems;
use crate::tls::{self, TlsConfigError};

/// The ports that IANA assigned to MQTT, without and with TLS.
const PORT: u16 = 1883;
pub(crate) const TLS_PORT: u16 = 8883;

/// The section `[broker]`.
///
/// ```toml
/// [broker]
/// host = "broker.local"
/// tls = true
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Section")]
pub struct BrokerSettings {
    /// Host name or address. With TLS the broker's certificate must name it. Default: `127.0.0.1`.
    pub host: String,
    /// Port. Default: 8883 with TLS, else 1883.
    pub port: u16,
    /// Whether to connect by TLS. The broker must show a certificate of the site's authority for `host`, and is shown
    /// the certificate of `[identity]`. Default: false.
    pub tls: bool,
    /// A user of the broker, for one that does not go by certificates. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The file whose first line is that user's password. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// The same as it is written: the usual port depends on `tls`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    host: Option<String>,
    port: Option<u16>,
    #[serde(default)]
    tls: bool,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

impl From<Section> for BrokerSettings {
    fn from(written: Section) -> Self {
        let Section { host, port, tls, user, password_file } = written;
        let host = host.unwrap_or_else(|| "127.0.0.1".to_owned());
        let port = port.unwrap_or(if tls { TLS_PORT } else { PORT });
        Self { host, port, tls, user, password_file }
    }
}

impl Default for BrokerSettings {
    fn default() -> Self {
        Self::plain("127.0.0.1", PORT)
    }
}

/// Why the settings of `[broker]` lead to no broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// There is no password to read.
    #[error("broker.password_file {file:?} cannot be read: {source}")]
    Password {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificate and key of `[identity]` do not serve for TLS.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
}

impl BrokerSettings {
    /// A broker without TLS and without login.
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: false, user: None, password_file: None }
    }

    /// Notes what does not go together.
    pub fn check(&self, identity: Option<&IdentitySettings>, wrong: &mut Problems) {
        wrong.unless(self.user.is_some() == self.password_file.is_some(), || {
            let (there, missing) =
                if self.user.is_some() { ("user", "password_file") } else { ("password_file", "user") };
            format!("broker.{there} stands there without broker.{missing}: give both, or neither")
        });
        let is_somebody = self.user.is_some() || identity.is_none_or(IdentitySettings::has_tls_key);
        wrong.unless(!self.tls || is_somebody, || {
            "broker.tls = true, but [identity] has no key for it: use bundle, or add tls_key, or log in with broker.user \
             and broker.password_file"
                .to_owned()
        });
        wrong.unless(!self.tls || tls::server_name(&self.host).is_some(), || {
            format!("broker.host = {:?}: expected a host name or an IP address", self.host)
        });
    }

    /// Reads what else it takes.
    pub fn resolve(&self, identity: &IdentityFiles) -> Result<Broker, BrokerError> {
        let tls = if self.tls { Some(tls::client_config(identity)?) } else { None };
        Ok(Broker { tls, ..self.plainly()? })
    }

    /// The same without TLS, which needs no identity.
    pub fn plainly(&self) -> Result<Broker, BrokerError> {
        let login = match (&self.user, &self.password_file) {
            (Some(user), Some(file)) => Some(Login { user: user.clone(), password: read_password(file)? }),
            (_, _) => None,
        };
        Ok(Broker { host: self.host.clone(), port: self.port, tls: None, login })
    }
}

fn read_password(file: &Path) -> Result<String, BrokerError> {
    let failed = |source| BrokerError::Password { file: file.to_owned(), source };
    let text = std::fs::read_to_string(file).map_err(failed)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// A broker with everything that it takes to be let in.
#[derive(Clone, Debug)]
pub struct Broker {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    pub(crate) login: Option<Login>,
}

impl Broker {
    /// A broker without TLS and without login.
    pub fn plain(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, tls: None, login: None }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Endpoint { host: self.host.clone(), port: self.port }.fmt(f)
    }
}

/// A user of the broker.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> BrokerSettings {
        use config::{Config, File, FileFormat};
        let file = File::from_str(text, FileFormat::Toml);
        Config::builder().add_source(file).build().unwrap().try_deserialize().unwrap()
    }

    fn problems(settings: &BrokerSettings, identity: &IdentitySettings) -> String {
        let mut wrong = Problems::default();
        settings.check(Some(identity), &mut wrong);
        wrong.check().map_or_else(|error| error.to_string(), |()| String::new())
    }

    fn bundle() -> IdentitySettings {
        IdentitySettings::Bundle("cp-1.bundle".into())
    }

    fn files() -> IdentitySettings {
        let (message_key, certificate, authority) = ("key".into(), "certificate".into(), "ca".into());
        IdentitySettings::Files { message_key, certificate, authority, tls_key: None }
    }

    #[test]
    fn the_usual_port_is_that_of_the_way_in_unless_another_is_given() {
        assert_eq!(read(""), BrokerSettings::default());
        assert_eq!(read("tls = true").port, 8883);
        assert_eq!(read("tls = true\nport = 1884").port, 1884);
        assert_eq!(read("host = \"192.0.2.7\""), BrokerSettings::plain("192.0.2.7", 1883));
    }

    #[test]
    fn what_goes_together_is_no_problem() {
        assert_eq!(problems(&BrokerSettings::default(), &files()), "");
        assert_eq!(problems(&read("tls = true"), &bundle()), "");
        assert_eq!(problems(&read("tls = true\nuser = \"cp-1\"\npassword_file = \"x\""), &files()), "");
    }

    #[test]
    fn what_does_not_go_together_is_said_in_words() {
        let no_key = problems(&read("tls = true"), &files());
        assert!(no_key.contains("use bundle, or add tls_key"), "{no_key}");
        let no_password = problems(&read("user = \"cp-1\""), &files());
        assert!(no_password.contains("broker.user stands there without broker.password_file"), "{no_password}");
        let no_user = problems(&read("password_file = \"x\""), &files());
        assert!(no_user.contains("broker.password_file stands there without broker.user"), "{no_user}");
        let no_host = problems(&read("tls = true\nhost = \"my broker\""), &bundle());
        assert!(no_host.contains("\"my broker\""), "{no_host}");
    }
}
