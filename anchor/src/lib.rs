//! The evidence side of the self-balancing grid: a transparency log of every message in the street.
//!
//! The anchor listens to a site's messages, checks who signed them, and writes each once into a log that nobody, its
//! operator included, can rewrite unnoticed: a Merkle tree in the format of C2SP tlog-tiles, under a signed checkpoint.
//!
//! | module | what it holds |
//! |---|---|
//! | [`tile`], [`tree`], [`bundle`], [`entry`], [`checkpoint`] | the log's formats, each one specification |
//! | [`notice`] | what the anchor itself says in the log |
//! | [`policy`] | what a verifier starts from |
//! | [`journal`], [`store`] | what is written to disk, in which order |
//! | [`speech`] | who said what: the rule that intake and verifier share |
//! | [`sequence`], [`intake`] | what goes into the log, what is there already, what to acknowledge |
//! | [`initialise`] | a log and its trail on the ledger, tied together once |
//! | [`notary`] | checkpoints on the ledger, one at a time |
//! | [`recorder`] | intake and store together, with the anchor's own messages |
//! | [`http`] | the log as others read it over the network |
//! | [`pruning`] | where a log begins whose old entries were dropped |
//! | [`fsck`] | what a crash left in the folder |
//! | [`verify`], [`show`] | reading a log: does it hold, and what does it say |
//! | [`settings`], [`service`], [`cli`] | the program around all this |

pub mod bundle;
pub mod checkpoint;
pub mod cli;
pub mod entry;
pub mod fsck;
pub mod http;
pub mod initialise;
pub mod intake;
pub mod journal;
pub mod notary;
pub mod notice;
pub mod policy;
pub mod pruning;
pub mod recorder;
pub mod sequence;
pub mod service;
pub mod settings;
pub mod show;
pub mod speech;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tile;
pub mod tree;
pub mod verify;
