//! Log entries in the journal's own protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL>), one datagram each.
//!
//! | field | what it is |
//! |---|---|
//! | `MESSAGE` | the sentence, and after it the fields as text: `journalctl` and `systemctl status` show nothing else |
//! | `PRIORITY` | 3 error, 4 warning, 6 information, 7 the rest |
//! | `SYSLOG_IDENTIFIER` | the program |
//! | `TARGET` | the module |
//! | `F_…` | each field, for programs and for a search: `journalctl F_DEVICE=cp-1` |
//!
//! The crate `tracing-journald` leaves the fields out of `MESSAGE`, where a person looks for the reason of a complaint, and
//! waits for a journal that is busy. Nothing here waits: control logs, too.

use std::fmt;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The longest text of a field; a datagram that is much longer than this would need a file in memory.
const LONGEST: usize = 16 * 1024;
/// The longest name of a field that journald takes.
const LONGEST_NAME: usize = 64;

/// The journal.
pub struct Journal {
    socket: UnixDatagram,
    program: String,
    /// How many entries it did not take, and nobody was told of yet.
    lost: AtomicU64,
}

impl Journal {
    /// The one that listens at `path`.
    pub fn at(path: &Path, program: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, program: program.to_owned(), lost: AtomicU64::new(0) })
    }

    fn write(&self, level: &Level, target: &str, said: &Said) {
        let mut message = said.message.clone();
        let mut datagram = Vec::new();
        for (name, text, shown) in &said.fields {
            let blank = if message.is_empty() { "" } else { " " };
            message += &format!("{blank}{name}={shown}");
            put(&mut datagram, &field_name(name), text);
        }
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            message += &format!(" (the journal was busy and did not take {lost} entries before this)");
        }
        put(&mut datagram, "MESSAGE", &message);
        put(&mut datagram, "PRIORITY", priority(level));
        put(&mut datagram, "SYSLOG_IDENTIFIER", &self.program);
        put(&mut datagram, "TARGET", target);
        if self.socket.send(&datagram).is_err() {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        self.write(event.metadata().level(), event.metadata().target(), &said);
    }
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    /// Name, text, and the text as it stands in a line.
    fields: Vec<(&'static str, String, String)>,
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            name => self.fields.push((name, value.to_owned(), format!("{value:?}"))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            // Where it comes from, of a program that logs by the crate `log`.
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, text.clone(), text)),
        }
    }
}

/// journald takes capital letters, digits and `_`, and no `_` in front.
fn field_name(name: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    "F_".chars().chain(name.chars().map(letter)).take(LONGEST_NAME).collect()
}

/// syslog(3).
fn priority(level: &Level) -> &'static str {
    match *level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// A field with its length before it, so that its text may have several lines.
fn put(datagram: &mut Vec<u8>, name: &str, text: &str) {
    let end = (0..=text.len().min(LONGEST)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let text = &text[..end];
    datagram.extend_from_slice(name.as_bytes());
    datagram.push(b'\n');
    datagram.extend_from_slice(&(text.len() as u64).to_le_bytes());
    datagram.extend_from_slice(text.as_bytes());
    datagram.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tracing_subscriber::layer::SubscriberExt;

    struct Listener {
        _folder: tempfile::TempDir,
        socket: UnixDatagram,
        path: std::path::PathBuf,
    }

    impl Listener {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("journal");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_nonblocking(true).unwrap();
            Self { _folder: folder, socket, path }
        }

        fn log(&self, what: impl FnOnce()) {
            let journal = Journal::at(&self.path, "grid-test").unwrap();
            tracing::subscriber::with_default(tracing_subscriber::registry().with(journal), what);
        }

        /// The next entry.
        fn entry(&self) -> BTreeMap<String, String> {
            let mut bytes = vec![0; 256 * 1024];
            let length = self.socket.recv(&mut bytes).unwrap();
            let (mut rest, mut entry) = (&bytes[..length], BTreeMap::new());
            while !rest.is_empty() {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
                let name = String::from_utf8(rest[..end].to_vec()).unwrap();
                let (length, text) = rest[end + 1..].split_at(8);
                let length = usize::try_from(u64::from_le_bytes(length.try_into().unwrap())).unwrap();
                assert_eq!(text[length], b'\n');
                entry.insert(name, String::from_utf8(text[..length].to_vec()).unwrap());
                rest = &text[length + 1..];
            }
            entry
        }
    }

    #[test]
    fn a_person_reads_the_reason_in_the_message_and_a_program_in_a_field() {
        let listener = Listener::start();
        let error = io::Error::other("two\nlines");
        listener.log(|| tracing::warn!(device = "cp-1", %error, in_a_row = 3, "no connection"));
        let entry = listener.entry();
        assert_eq!(entry["MESSAGE"], "no connection device=\"cp-1\" error=two\nlines in_a_row=3");
        assert_eq!((entry["F_DEVICE"].as_str(), entry["F_ERROR"].as_str()), ("cp-1", "two\nlines"));
        assert_eq!((entry["F_IN_A_ROW"].as_str(), entry["PRIORITY"].as_str()), ("3", "4"));
        assert_eq!(entry["SYSLOG_IDENTIFIER"], "grid-test");
        assert!(entry["TARGET"].starts_with("grid_service::log"), "{entry:?}");
    }

    #[test]
    fn a_journal_that_is_busy_is_not_waited_for_and_told_how_much_it_missed() {
        let listener = Listener::start();
        listener.log(|| {
            for number in 0..2000 {
                tracing::info!(number, "many");
            }
            let first = listener.entry();
            assert_eq!(first["MESSAGE"], "many number=0");
            tracing::info!("at last");
        });
        let mut taken = 1;
        let last = loop {
            let entry = listener.entry();
            if entry["MESSAGE"].starts_with("at last") {
                break entry;
            }
            taken += 1;
        };
        assert_eq!(
            last["MESSAGE"],
            format!("at last (the journal was busy and did not take {} entries before this)", 2000 - taken)
        );
    }

    #[test]
    fn what_is_too_long_is_cut_and_names_are_made_fit() {
        let listener = Listener::start();
        let long = "ä".repeat(LONGEST);
        listener.log(|| tracing::error!(a.long.text = long, "long"));
        let entry = listener.entry();
        assert_eq!(entry["F_A_LONG_TEXT"].len(), LONGEST);
        assert_eq!(entry["MESSAGE"].len(), LONGEST);
        assert_eq!(field_name(&"x".repeat(100)).len(), LONGEST_NAME);
    }
}
