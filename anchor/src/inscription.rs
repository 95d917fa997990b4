//! What is written on a log's trail for good: its immutable name and description.
//!
//! ```text
//! demo-1f00aa21.invalid                                        the name: the log's origin
//!
//! Checkpoints of the log of site demo                          the description
//! log demo-1f00aa21.invalid+3c2b1a00+AQmN…
//! ca-sha256 5f1e…
//! continues 0x385307…                                          only where it continues another trail
//! ```
//!
//! So everybody sees from the trail alone whose it is, and whether its first record must say how it continues another
//! ([`crate::succession`]).

use grid_ledger::ObjectId;
use grid_protocol::topic::Name;

use crate::checkpoint::LogPublicKey;
use crate::policy::{BadTrail, Policy, sha256};

/// What is written on a log's trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inscription {
    /// The site.
    pub site: Name,
    /// The log's key.
    pub log: LogPublicKey,
    /// SHA-256 of the certificate of the site's authority, in hex.
    pub authority_sha256: String,
    /// The trail that this one continues.
    pub continues: Option<ObjectId>,
}

impl Inscription {
    /// Of a trail for a policy's log.
    pub fn new(policy: &Policy, continues: Option<ObjectId>) -> Self {
        let authority_sha256 = sha256(policy.authority.der());
        Self { site: policy.site.clone(), log: policy.log.clone(), authority_sha256, continues }
    }

    /// The trail's immutable name.
    pub fn name(&self) -> &str {
        self.log.origin()
    }

    /// The trail's immutable description.
    pub fn description(&self) -> String {
        let Self { site, log, authority_sha256, continues } = self;
        let log = log.vkey();
        let text = format!("Checkpoints of the log of site {site}\nlog {log}\nca-sha256 {authority_sha256}");
        match continues {
            Some(trail) => format!("{text}\ncontinues {trail}"),
            None => text,
        }
    }

    /// Reads a trail's name and description. There is one spelling, as for everything that is compared later.
    pub fn read(name: &str, description: &str) -> Result<Self, BadTrail> {
        let parse = || {
            let mut lines = description.lines();
            let mut after = |word| lines.next()?.strip_prefix(word);
            let site = after("Checkpoints of the log of site ")?.parse().ok()?;
            let log = LogPublicKey::read(after("log ")?).ok()?;
            let authority_sha256 = after("ca-sha256 ")?.to_owned();
            let continues = match lines.next() {
                Some(line) => Some(line.strip_prefix("continues ")?.parse().ok()?),
                None => None,
            };
            Some(Self { site, log, authority_sha256, continues })
        };
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
        parse()
            .filter(|read| is_digest(&read.authority_sha256))
            .filter(|read| (read.name(), read.description().as_str()) == (name, description))
            .ok_or_else(|| BadTrail::NotALog(format!("{name}\n{description}").chars().take(400).collect()))
    }

    /// Whether the trail is that of a policy's log, whatever it continues.
    pub fn is_of(&self, policy: &Policy) -> bool {
        *self == Self::new(policy, self.continues)
    }
}
