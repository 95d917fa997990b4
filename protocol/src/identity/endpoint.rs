//! Where the broker is, as the text of a bundle says it: one line `Broker: HOST:PORT` for each name that it has.
//!
//! That is a hint for who sets something up, and no part of the bundle's identity. TLS decides whether who answers there is the
//! site's broker.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// What a line begins with that says where the broker is.
const LABEL: &str = "Broker: ";

/// A host and a port. An IPv6 address is written in brackets: `[2001:db8::1]:8883`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// Text that is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no HOST:PORT such as broker.local:8883 or [2001:db8::1]:8883")]
pub struct BadEndpoint(String);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.chars().take(300).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        let host = match bracketed {
            Some(address) => address.parse::<Ipv6Addr>().map(|_| address).map_err(|_| bad())?,
            None => Some(host).filter(|host| !host.is_empty() && host.bytes().all(is_name)).ok_or_else(bad)?,
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The lines for a bundle's text.
pub(super) fn lines(brokers: &[Endpoint]) -> String {
    brokers.iter().map(|broker| format!("{LABEL}{broker}\n")).collect()
}

/// Where the text of a bundle says that the broker is, the likeliest first. What cannot be read is left out: it was a hint.
pub fn brokers_in(bundle: &str) -> Vec<Endpoint> {
    bundle.lines().filter_map(|line| line.strip_prefix(LABEL)?.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_reads_back_as_it_was_written_and_nothing_else_does() {
        for text in ["broker.local:8883", "192.0.2.7:1", "[2001:db8::1]:8883"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for bad in
            ["", "broker.local", "broker.local:", "broker.local:70000", ":8883", "2001:db8::1:8883", "a b:1", "[x]:1"]
        {
            assert!(bad.parse::<Endpoint>().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn hints_that_cannot_be_read_are_none() {
        assert_eq!(brokers_in("Broker: nonsense\r\nBroker: a:1\r\nbroker: b:1\n").as_slice(), ["a:1".parse().unwrap()]);
        assert!(brokers_in("").is_empty());
    }
}
