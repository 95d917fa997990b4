//! Under which names clients reach the broker.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use clap::Args;

/// How clients reach the broker.
#[derive(Debug, Args)]
pub struct Hosts {
    /// A host name or IP address under which clients connect to the broker; may be given several times. Default: this
    /// machine's name, the same with .local, localhost, 127.0.0.1 and ::1.
    #[arg(long = "host", value_name = "HOST", value_parser = host)]
    hosts: Vec<String>,
}

impl Hosts {
    /// Those that were given, if any were.
    pub fn given(self) -> Option<HostList> {
        Some(HostList(self.hosts)).filter(|list| !list.0.is_empty())
    }

    /// Those that were given, or all names of this machine.
    pub fn or_this_machine(self) -> Vec<String> {
        self.given().unwrap_or_else(HostList::of_this_machine).0
    }
}

/// Several hosts, written with commas between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostList(pub Vec<String>);

impl HostList {
    /// All names of this machine.
    pub fn of_this_machine() -> Self {
        let uname = rustix::system::uname();
        // A name that no certificate can have is none under which a client could connect.
        let name = uname.nodename().to_str().ok().map(str::to_lowercase);
        let name = name.filter(|name| rustls::pki_types::DnsName::try_from(name.as_str()).is_ok());
        let local = name.as_ref().map(|name| format!("{}.local", name.split('.').next().unwrap_or(name)));
        let always = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut hosts: Vec<String> = name.into_iter().chain(local).chain(always).collect();
        let mut seen = std::collections::HashSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        Self(hosts)
    }

    /// The one to tell people on other machines: a name in the local network, or else the first of use.
    pub fn to_tell(&self) -> Option<&str> {
        let of_use = || self.0.iter().map(String::as_str).filter(|host| is_of_use_elsewhere(host));
        of_use().find(|host| host.ends_with(".local")).or_else(|| of_use().next())
    }
}

impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// Text that is not a [`HostList`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0:?} is neither a host name nor an IP address")]
pub struct BadHost(String);

impl FromStr for HostList {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        text.split([',', ' ']).filter(|host| !host.is_empty()).map(host).collect::<Result<_, _>>().map(Self)
    }
}

fn host(text: &str) -> Result<String, BadHost> {
    let is_one = rustls::pki_types::ServerName::try_from(text).is_ok();
    if is_one { Ok(text.to_owned()) } else { Err(BadHost(text.to_owned())) }
}

/// Whether another machine can mean the broker by it.
pub fn is_of_use_elsewhere(host: &str) -> bool {
    host != "localhost" && host.parse::<IpAddr>().map_or(true, |address| !address.is_loopback())
}
