//! What the parts of the self-balancing grid say to each other.
//!
//! Every message is one JSON object on a topic `grid/{site}/{device}/{kind}` that a person can read in any MQTT
//! client, and almost every message is signed by who sends it. This crate has no I/O and no clock: it turns values
//! into bytes and bytes into values, and says which bytes it refuses and why.
//!
//! | module | what it holds |
//! |---|---|
//! | [`units`] | integers with their unit in the type |
//! | [`topic`] | names and topics |
//! | [`message`] | the bodies of all messages |
//! | [`json`] | what JSON we accept: integers only, no key twice |
//! | [`seal`] | how a message is signed, opened and checked |
//! | [`sequence`] | sets of sequence numbers |
//! | [`author`] | who signs: key, session and sequence number |
//! | [`identity`] | certificates: which key belongs to whom |
//! | [`revocation`] | which certificates are revoked |

pub mod author;
pub mod identity;
pub mod json;
pub mod message;
pub mod revocation;
pub mod seal;
pub mod sequence;
pub mod topic;
pub mod units;
