//! What the commands `setup` and `check` of all programs share.
//!
//! `setup` asks a person, takes a script's answers from flags, writes files whole and leaves alone what is there; `check` says
//! one line a thing.
//!
//! | module | what it holds |
//! |---|---|
//! | `questions` | [`Questions`]: from a flag, from a person, or the default |
//! | `credentials` | [`Credentials`]: the bundle that says who a service is |
//! | `differences` | [`differences()`]: what settings say otherwise than is wanted |
//! | `looks` | what `check` looks at for all who have an identity |
//! | `root` | [`Root`]: the files of this machine, or of another one below a folder |
//! | `unit` | [`Service`]: what systemd runs |
//! | `settings` | [`BadSettings`], [`must_be_same()`], [`fill_in_who()`]: the file of settings |
//! | `report` | [`Report`]: what `check` found |

mod credentials;
mod differences;
mod looks;
mod questions;
mod report;
mod root;
mod settings;
mod unit;

use std::io;
use std::path::PathBuf;

pub use credentials::{BadBrokerAt, BadCredentials, BrokerAt, Credentials};
pub use differences::differences;
pub use questions::{Questions, first_line_of};
pub use report::Report;
pub use root::{Put, Readers, Root};
pub use settings::{BadSettings, fill_in_who, must_be_same};
pub use unit::{Service, Unit};

/// Why a setup did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Nobody can be asked, and there is no default.
    #[error("{question} is not known: give {flag} (there is no terminal to ask on)")]
    Unanswered {
        /// What would be asked.
        question: String,
        /// What to give instead.
        flag: &'static str,
    },
    /// The person went away.
    #[error("no answer came: {0}")]
    NoAnswer(io::Error),
    /// Two passwords that should be one.
    #[error("the two passwords differ three times over: start again")]
    NotTheSame,
    /// This takes root.
    #[error("this writes below /etc and /var and needs root: use sudo, or --root FOLDER to write elsewhere")]
    NotRoot,
    /// The copy of the authority's certificate is another's.
    #[error(
        "{0} is another authority's and stays as it is: move it away if nobody trusts it any more, and run setup again"
    )]
    OtherAuthority(PathBuf),
    /// Something cannot be read or written.
    #[error("cannot {verb} {path}: {source}")]
    File {
        /// `read`, `write`, …
        verb: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd cannot be asked.
    #[error("systemctl cannot be started: {0}")]
    Systemctl(io::Error),
    /// systemd could not do it.
    #[error("systemctl {what} failed: {said}{log}")]
    Unit {
        /// What it was told.
        what: String,
        /// What it said.
        said: String,
        /// The last lines of the unit's log, if there is one.
        log: String,
    },
}
