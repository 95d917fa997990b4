//! The evidence side of the self-balancing grid: a transparency log of every message in the street.
//!
//! The anchor listens to a site's messages, checks who signed them, and writes each once into a log that nobody, its
//! operator included, can rewrite unnoticed: a Merkle tree in the format of C2SP tlog-tiles, under a signed checkpoint.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tile`], [`tree`], [`bundle`], [`entry`], [`checkpoint`] | the log's formats, each one specification |
//! | [`notice`] | what the anchor itself says in the log |
//! | [`policy`], [`inscription`] | what a verifier starts from; what is written on the trail of a log |
//! | [`succession`] | how a trail says that it continues another |
//! | [`journal`], [`store`] | what is written to disk, in which order |
//! | [`speech`] | who said what: the rule that intake and verifier share |
//! | [`sequence`], [`intake`] | what goes into the log, what is there already, what to acknowledge |
//! | [`initialise`] | a log and its trail on the ledger, tied together once |
//! | [`keys`] | the keys, encrypted, to keep elsewhere |
//! | [`notary`], `schedule` | checkpoints on the ledger, one at a time; when the next is due |
//! | [`recorder`] | intake and store together, with the anchor's own messages |
//! | [`http`] | the log as others read it over the network |
//! | [`retention`], [`pruning`] | when old entries are dropped; where a log begins without them |
//! | [`fsck`], [`status`] | what a crash left in the folder; how it is, and how long the disk lasts |
//! | [`source`] | reading a log from its folder or from a server |
//! | [`verify`], [`show`] | reading a log: does it hold, and what does it say |
//! | [`proof`] | one message of a log, with all that a stranger needs to check it |
//! | [`settings`], [`service`], [`cli`] | the program around all this |

pub mod bundle;
pub mod checkpoint;
pub mod cli;
pub mod entry;
pub mod fsck;
mod hex;
pub mod http;
pub mod initialise;
pub mod inscription;
pub mod intake;
pub mod journal;
pub mod keys;
pub mod notary;
pub mod notice;
mod parallel;
pub mod policy;
pub mod proof;
pub mod pruning;
pub mod recorder;
pub mod retention;
mod schedule;
pub mod service;
pub mod settings;
pub mod show;
pub mod source;
pub mod speech;
pub mod status;
pub mod store;
pub mod succession;
#[cfg(test)]
mod testing;
pub mod tile;
pub mod tree;
pub mod verify;

pub use grid_protocol::sequence;

// The street that all tests share calls this crate by its name.
#[cfg(test)]
extern crate self as grid_anchor;
