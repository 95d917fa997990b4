//! What the anchor itself has to say in the log, beside its signed messages.
//!
//! Such an entry stands on the topic `grid/{site}/#`: a topic with a wildcard, on which nobody can publish (MQTT 5
//! section 3.3.2.1), so it cannot be forged from outside. Its payload is one JSON object:
//!
//! ```text
//! {"not_logged":12}                                                      so many messages were counted, not logged
//! {"certificate":{"name":"cp-3","session":"9f1c…","der":"<base64>"}}     whose key counts in a session
//! {"revoked":"<the payload of grid/{site}/ca/revoked>"}                  the newest list of revoked certificates
//! ```
//!
//! The last two repeat what stood in entries that retention drops, so that what remains can be judged without them. They
//! prove themselves: the site's authority signed both.

use grid_protocol::message::Session;
use grid_protocol::topic::Name;
use serde::{Deserialize, Serialize};

/// Something that the anchor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Notice {
    /// So many messages were counted instead of logged.
    NotLogged(u64),
    /// The certificate that counts in a session.
    Certificate {
        /// Whose session.
        name: Name,
        /// Which.
        session: Session,
        /// The certificate: DER, in base64.
        der: String,
    },
    /// The payload of the newest list of revoked certificates.
    Revoked(String),
}

impl Notice {
    /// The topic of a site's notices.
    pub fn topic(site: &Name) -> String {
        format!("grid/{site}/#")
    }

    /// The payload.
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_else(|error| unreachable!("names and numbers are always JSON: {error}"))
    }

    /// Reads a payload; `None` if it is no notice of this version.
    pub fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_reads_back_as_it_was_written() {
        let der = "AAAA".to_owned();
        for (notice, text) in [
            (Notice::NotLogged(12), r#"{"not_logged":12}"#),
            (
                Notice::Certificate { name: "cp-3".parse().unwrap(), session: Session(0x9f1c), der },
                r#"{"certificate":{"name":"cp-3","session":"0000000000009f1c","der":"AAAA"}}"#,
            ),
            (Notice::Revoked("{}".to_owned()), r#"{"revoked":"{}"}"#),
        ] {
            assert_eq!(notice.write(), text.as_bytes());
            assert_eq!(Notice::read(text.as_bytes()), Some(notice));
        }
    }

    #[test]
    fn what_is_no_notice_is_none() {
        for text in ["", "{}", "12", r#"{"not_logged":-1}"#, r#"{"not_logged":1,"revoked":""}"#, r#"{"other":1}"#] {
            assert_eq!(Notice::read(text.as_bytes()), None, "{text}");
        }
    }
}
