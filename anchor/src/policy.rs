//! `site.policy`: what somebody who verifies starts from. Whoever holds it need not trust the anchor.
//!
//! ```text
//! # Who vouches for the log of this site.
//! site demo
//! log demo-1f00aa21.invalid+3c2b1a00+AQmN…
//! ca MIIBkjCC…
//! trail testnet 2304aa97 0x385307…
//! ```
//!
//! One statement a line, each once, `#` starts a comment line. `log` is the vkey of the log's key, whose name is the
//! log's origin; `ca` is the certificate of the site's authority, DER in base64. `trail`, once there is one, is where the
//! log's head is notarized: network, chain, and the id of the audit trail.
//!
//! The trail names the log in turn ([`Inscription`]), and cannot be changed.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_ledger::{Network, ObjectId, UnknownNetwork};
use grid_protocol::identity::Authority;
use grid_protocol::topic::Name;
use sha2::{Digest, Sha256};

use crate::checkpoint::LogPublicKey;
use crate::hex::hex;
use crate::inscription::Inscription;

/// Who vouches for a log.
#[derive(Clone)]
pub struct Policy {
    /// The site.
    pub site: Name,
    /// The log's key.
    pub log: LogPublicKey,
    /// The site's certificate authority.
    pub authority: Authority,
    /// Where the log's head is notarized, if anywhere.
    pub trail: Option<TrailAddress>,
}

/// Where an audit trail is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailAddress {
    /// The network.
    pub network: Network,
    /// Which chain that is: the first bytes of its genesis checkpoint, in hex. A mock or local network that was made anew
    /// is another one.
    pub chain: String,
    /// The trail.
    pub trail: ObjectId,
}

/// Why a text is not a policy.
#[derive(Debug, thiserror::Error)]
pub enum BadPolicy {
    /// A line says nothing that we know.
    #[error("line {line}: {word:?} is none of: site, log, ca, trail")]
    Word {
        /// Which line, from 1.
        line: usize,
        /// Its first word.
        word: String,
    },
    /// What a line says is wrong.
    #[error("line {line}: {why}")]
    Value {
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// A line says what another said before.
    #[error("line {line}: {word} was already given")]
    Twice {
        /// Which line, from 1.
        line: usize,
        /// Its first word.
        word: &'static str,
    },
    /// A statement is missing.
    #[error("there is no line that starts with {0:?}")]
    Missing(&'static str),
}

/// Why a trail does not say who vouches for a log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTrail {
    /// Its metadata is not what this program writes.
    #[error("the trail's metadata is not that of a log ({0:?})")]
    NotALog(String),
    /// It names another authority.
    #[error("the trail names an authority whose certificate has SHA-256 {named}; the one given has {given}")]
    OtherAuthority {
        /// Which it names.
        named: String,
        /// Which was given.
        given: String,
    },
}

impl Policy {
    /// Makes a policy from what is written on a trail. Of the authority's certificate that is only the SHA-256:
    /// `authority`, wherever it comes from, must be that one.
    pub fn from_trail(name: &str, description: &str, authority: Authority) -> Result<Self, BadTrail> {
        let Inscription { site, log, authority_sha256: named, continues: _ } = Inscription::read(name, description)?;
        let given = sha256(authority.der());
        if named != given {
            return Err(BadTrail::OtherAuthority { named, given });
        }
        Ok(Self { site, log, authority, trail: None })
    }

    /// Reads a policy.
    pub fn read(text: &str) -> Result<Self, BadPolicy> {
        let (mut site, mut log, mut authority, mut trail) = (None, None, None, None);
        for (at, content) in text.lines().enumerate() {
            let line = at + 1;
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (word, value) = content.split_once(char::is_whitespace).unwrap_or((content, ""));
            let value = value.trim();
            match word {
                "site" => set(&mut site, line, "site", value.parse())?,
                "log" => set(&mut log, line, "log", LogPublicKey::read(value))?,
                "ca" => set(&mut authority, line, "ca", read_authority(value))?,
                "trail" => set(&mut trail, line, "trail", value.parse())?,
                other => return Err(BadPolicy::Word { line, word: other.chars().take(40).collect() }),
            }
        }
        Ok(Self {
            site: site.ok_or(BadPolicy::Missing("site"))?,
            log: log.ok_or(BadPolicy::Missing("log"))?,
            authority: authority.ok_or(BadPolicy::Missing("ca"))?,
            trail,
        })
    }

    /// Whether two policies vouch for the same log of the same site. A trail may come later.
    pub fn same_log(&self, other: &Self) -> bool {
        self.site == other.site && self.log.vkey() == other.log.vkey() && self.authority == other.authority
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn set<T, E: fmt::Display>(
    place: &mut Option<T>,
    line: usize,
    word: &'static str,
    value: Result<T, E>,
) -> Result<(), BadPolicy> {
    let value = value.map_err(|why| BadPolicy::Value { line, why: why.to_string() })?;
    if place.replace(value).is_some() {
        return Err(BadPolicy::Twice { line, word });
    }
    Ok(())
}

fn read_authority(value: &str) -> Result<Authority, String> {
    let der = STANDARD.decode(value).map_err(|why| format!("the certificate is not base64 ({why})"))?;
    Authority::from_der(&der).map_err(|why| why.to_string())
}

impl FromStr for TrailAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [network, chain, trail] = words[..] else {
            return Err("expected network, chain and id of a trail".to_owned());
        };
        Ok(Self {
            network: network.parse().map_err(|why: UnknownNetwork| why.to_string())?,
            chain: chain.to_owned(),
            trail: trail.parse().map_err(|_| format!("{trail:?} is not the id of an object"))?,
        })
    }
}

impl fmt::Display for TrailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, chain, trail } = self;
        write!(f, "{network} {chain} {trail}")
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Who vouches for the log of this site. Keep a copy where the anchor cannot change it.")?;
        writeln!(f, "site {}", self.site)?;
        writeln!(f, "log {}", self.log.vkey())?;
        writeln!(f, "ca {}", STANDARD.encode(self.authority.der()))?;
        match &self.trail {
            Some(trail) => writeln!(f, "trail {trail}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::LogKey;
    use grid_protocol::identity::Issuer;
    use grid_protocol::units::UnixMillis;

    fn policy() -> Policy {
        let site: Name = "demo".parse().unwrap();
        let issuer = Issuer::create(&site, UnixMillis(1_800_000_000_000)).unwrap();
        let log = LogKey::generate(&site, None).unwrap().public().clone();
        Policy { site, log, authority: issuer.authority(), trail: None }
    }

    #[test]
    fn a_policy_reads_back_as_it_was_written() {
        let policy = policy();
        let read = Policy::read(&policy.to_string()).unwrap();
        assert_eq!(read.to_string(), policy.to_string());
        assert_eq!(read.authority, policy.authority);
    }

    #[test]
    fn a_trail_is_named_with_its_network_and_chain() {
        let id = format!("0x{}", "5".repeat(64));
        let text = format!("{}trail testnet 2304aa97 {id}\n", policy());
        let read = Policy::read(&text).unwrap();
        assert_eq!(read.to_string().lines().last(), text.lines().last());
        let trail = read.trail.unwrap();
        assert_eq!((trail.network, trail.chain.as_str()), (Network::Testnet, "2304aa97"));
        for bad in ["trail", "trail testnet 0x5", "trail moonnet 2304aa97 0x5", "trail testnet 2304aa97 five"] {
            let text = format!("{}{bad}\n", policy());
            assert!(matches!(Policy::read(&text), Err(BadPolicy::Value { line: 5, .. })), "{bad}");
        }
    }

    #[test]
    fn a_trail_gives_the_policy_that_it_was_made_for() {
        let ours = policy();
        let inscription = Inscription::new(&ours, None);
        let (name, description) = (inscription.name(), inscription.description());
        let read = Policy::from_trail(name, &description, ours.authority.clone()).unwrap();
        assert!(read.same_log(&ours) && inscription.is_of(&ours));
        let old = format!("0x{}", "5".repeat(64));
        let continuing = format!("{description}\ncontinues {old}");
        let read = Policy::from_trail(name, &continuing, ours.authority.clone()).unwrap();
        assert!(read.same_log(&ours));
        let read = Inscription::read(name, &continuing).unwrap();
        assert!(read.is_of(&ours) && read.continues == Some(old.parse().unwrap()));
        let theirs = policy().authority;
        let refused = Policy::from_trail(name, &description, theirs).map(|_| ()).unwrap_err();
        assert!(matches!(refused, BadTrail::OtherAuthority { .. }), "{refused}");
        for (name, description) in [
            (name, String::new()),
            (name, format!("{description}\n")),
            (name, description.replace("log ", "log  ")),
            (name, description.replace("of site demo", "of site Demo")),
            (name, description.replace("ca-sha256 ", "ca-sha256 0")),
            (name, format!("{description}\ncontinues 0x5")),
            (name, format!("{continuing}\ncontinues {old}")),
            ("another.invalid", description.clone()),
        ] {
            let refused = Policy::from_trail(name, &description, ours.authority.clone()).map(|_| ()).unwrap_err();
            assert!(matches!(refused, BadTrail::NotALog(_)), "{description:?}: {refused}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let good = policy().to_string();
        for (text, named) in [
            (good.replace("site ", "sight "), "line 2: \"sight\""),
            (good.replace("site demo", "site Demo"), "line 2: \"Demo\" is not a name"),
            (good.replace("log ", "log x"), "line 3: "),
            (good.replace("ca ", "ca !"), "line 4: the certificate is not base64"),
            (good.replace("ca ", "ca AAAA #"), "line 4: "),
            (format!("{good}site demo\n"), "line 5: site was already given"),
            (good.replace("site demo\n", ""), "starts with \"site\""),
        ] {
            let error = Policy::read(&text).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(named), "{named:?} in {error:?}");
        }
    }
}
