//! Where the log goes: to systemd's journal with its fields, or as text to standard error.

mod journal;

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::Path;

use rustix::fs::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use journal::Journal;

/// Where journald listens (systemd-journald.service(8)).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// Begins the log of `program`. It goes to the journal if standard error does, and else to standard error. `RUST_LOG` chooses
/// what is shown; without it, `default` does (`info`, `warn`, …).
pub fn begin(program: &str, default: &str) {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{default},rumqttd=off,rumqttc=warn")));
    let log = tracing_subscriber::registry().with(filter);
    let stream = std::env::var_os("JOURNAL_STREAM").filter(|stream| is_stderr(stream));
    match stream.and_then(|_| Journal::at(Path::new(JOURNAL), program).ok()) {
        Some(journal) => log.with(journal).init(),
        None => {
            let colours = std::io::stderr().is_terminal();
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
            log.with(lines.with_target(false).with_ansi(colours)).init();
        }
    }
}

/// Whether `$JOURNAL_STREAM`, device and inode of what systemd connected to the journal, is our standard error
/// (systemd.exec(5)): it is inherited by programs whose output somebody has sent elsewhere.
fn is_stderr(stream: &OsStr) -> bool {
    fstat(std::io::stderr()).is_ok_and(|is| stream == OsStr::new(&format!("{}:{}", is.st_dev, is.st_ino)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_taken_only_if_it_is_where_standard_error_goes() {
        let is = fstat(std::io::stderr()).unwrap();
        let stream = |device, inode| is_stderr(OsStr::new(&format!("{device}:{inode}")));
        assert!(stream(is.st_dev, is.st_ino));
        assert!(!stream(is.st_dev, is.st_ino + 1) && !stream(is.st_dev + 1, is.st_ino));
        assert!(!is_stderr(OsStr::new("")));
    }
}
