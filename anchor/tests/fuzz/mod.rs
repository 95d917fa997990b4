//! Everything that the evidence side reads, made of arbitrary bytes: valid inputs with changes, some with their
//! checksums and signatures made right again, so that what stands behind those is reached too.
//!
//! Used with seeded bytes by `tests/parsers.rs`, and with those of a fuzzer by `fuzz/`. Whatever is read,
//!
//! - nothing panics, and memory stays bounded,
//! - what was read and has one spelling is written again in the same bytes; all else reads back as the same value,
//! - nothing counts as signed that was not signed,
//! - a log holds only if every byte that matters is there as it was, and goes on only with entries that were in it.
//!
//! | module | what is read |
//! |---|---|
//! | `messages` | topics, signed messages of all kinds |
//! | `identity` | certificates, authorities, bundles of keys, lists of revoked certificates, names and numbers |
//! | `formats` | entries, bundles of them, paths, checkpoints, keys, policies, notices, dates |
//! | `proof` | proofs of single entries, with the formats |
//! | `journal` | the journal, and what the intake knew |
//! | `intake` | whole conversations with the intake |
//! | `folders` | logs that are verified and shown, and folders that an anchor goes on from |
//! | `sessions` | what devices say of charging, for `show --sessions` |
//! | `settings` | configuration files |
#![allow(dead_code, reason = "each fuzz target uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod folders;
mod formats;
mod identity;
mod intake;
mod journal;
mod messages;
mod mutation;
mod proof;
mod sessions;
mod settings;
mod source;
mod world;

/// What is wrong, if anything is.
pub type Verdict = Result<(), String>;

/// A group of inputs: `hold` makes one of the bytes, has it read, and says what is wrong.
pub struct Group {
    pub hold: fn(&[u8]) -> Verdict,
    /// How many an ordinary test holds: about 5 s of one core in a debug build.
    pub rounds: u32,
}

pub const MESSAGES: Group = Group { hold: messages::hold, rounds: 12_000 };
pub const IDENTITY: Group = Group { hold: identity::hold, rounds: 20_000 };
pub const FORMATS: Group = Group { hold: formats::hold, rounds: 10_000 };
pub const JOURNAL: Group = Group { hold: journal::hold, rounds: 10_000 };
pub const INTAKE: Group = Group { hold: intake::hold, rounds: 300 };
pub const LOG: Group = Group { hold: folders::hold_log, rounds: 120 };
pub const DATA_DIR: Group = Group { hold: folders::hold_data_dir, rounds: 150 };
pub const SESSIONS: Group = Group { hold: sessions::hold, rounds: 4_000 };
pub const SETTINGS: Group = Group { hold: settings::hold, rounds: 10_000 };

/// Says what is wrong unless something holds.
macro_rules! require {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}
use require;
