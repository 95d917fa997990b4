//! Checkpoints on the ledger.
//!
//! The anchor writes the head of its log, now and then, as a record into an **audit trail** on IOTA: a shared object of
//! the IOTA Foundation's Audit Trails package that holds a sequence of texts. [`init`] makes such a trail and seals it:
//! its deletion locks outlast everybody, we keep a capability that can add records and nothing else, and the one that
//! could change that is destroyed. From then on nobody, we included, can delete or replace what is there.
//! [`IotaLedger`] adds and reads records through the [`Ledger`] trait; [`TrailReader`] reads them for anybody.
//!
//! ```text
//! init ─► IotaLedger ──┐                     ┌── mainnet, testnet, devnet, localnet
//!                      ├── gRPC (iota-sdk) ──┤
//! verify ─► TrailReader┘                     └── mock (not IOTA)
//! ```
//!
//! Mainnet and mock run through the same code; only [`Endpoints`] differ. [`mock`] is a development double of a node.
//!
//! Files in the folder: `ledger.key` (the key, PEM), `ledger.json` (how far the trail has come, and the newest receipt),
//! `ledger.pending` (a signed transaction that may be under way), `ledger.lock`. All are for their owner alone. Those of
//! a trail that was left ([`set_aside`]) have its id behind their names.

mod audit_trail;
mod backoff;
mod error;
mod faucet;
mod file;
mod init;
mod iota;
mod key;
mod leave;
mod ledger;
pub mod mock;
mod money;
mod network;
mod node;
mod nodes;
mod program;
mod seal;
mod state;
mod trail;
mod wallet;

pub use audit_trail::{DeletionWindow, Permission, TimeLock};
pub use backoff::Backoff;
pub use error::{LedgerError, Remedy};
pub use file::FileError;
pub use init::{InitLinks, InitReport, InitSettings, init};
pub use iota::{IotaLedger, MOST_NANOS_PER_RECORD};
pub use iota_sdk::types::{Address, ObjectId, TransactionDigest};
pub use key::RecoveryWords;
pub use leave::{Begun, InFolder, set_aside};
pub use ledger::{Ledger, NewRecord, Receipt, Record, Step, Watch, text_sha256};
pub use money::Purse;
pub use network::{Endpoints, Network, Packages, UnknownNetwork};
pub use seal::{HUNDRED_YEARS, Role, Seal, Weakness};
pub use state::Paid;
pub use trail::TrailReader;
