//! The thread that reads a utility's dimming contact.

use std::thread;
use std::time::Duration;

use grid_protocol::units::{BootTime, Millis};
use grid_service::clock::boot_now;
use tokio::sync::mpsc;

use super::AgentError;
use crate::gpio::{GpioError, Input};

/// What a contact says is believed once it has said it for so long: contacts bounce.
const DEBOUNCE: Millis = Millis(100);
const READ_EVERY: Duration = Duration::from_millis(20);
/// A line that is lost is looked for this often.
const LOOK_FOR_IT_EVERY: Duration = Duration::from_secs(1);
const QUEUE: usize = 8;

/// What became of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// It has closed.
    Closed,
    /// It has opened.
    Opened,
    /// It cannot be read any more. Whatever it said before stays.
    Lost(GpioError),
    /// It can be read again.
    Found,
}

/// Opens the line of a contact, again and again if it is lost.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn Input>, GpioError> + Send>;

/// Starts to read a contact that counts as open so far, until the receiver is dropped.
///
/// # Errors
/// If it cannot be read at the start, or there is no thread.
pub fn start(mut open: Opener) -> Result<mpsc::Receiver<Contact>, AgentError> {
    let mut line = Some(open()?);
    let (sender, receiver) = mpsc::channel(QUEUE);
    let watch = move || {
        let mut debounce = Debounce::default();
        loop {
            let read = match &mut line {
                Some(line) => line.is_active(),
                None => open().and_then(|mut found| {
                    let read = found.is_active()?;
                    line = Some(found);
                    Ok(read)
                }),
            };
            if read.is_err() {
                line = None;
            }
            for said in debounce.observe(read, boot_now()) {
                if sender.blocking_send(said).is_err() {
                    return;
                }
            }
            if sender.is_closed() {
                return;
            }
            thread::sleep(if line.is_some() { READ_EVERY } else { LOOK_FOR_IT_EVERY });
        }
    };
    thread::Builder::new().name("contact".to_owned()).spawn(watch).map_err(AgentError::Thread)?;
    Ok(receiver)
}

/// Believes what has been said for a while.
#[derive(Debug, Default)]
struct Debounce {
    closed: bool,
    /// It says otherwise since then.
    otherwise: Option<BootTime>,
    lost: bool,
}

impl Debounce {
    /// What a reading changes.
    fn observe(&mut self, read: Result<bool, GpioError>, now: BootTime) -> Vec<Contact> {
        let closed = match read {
            Ok(closed) => closed,
            Err(error) => {
                self.otherwise = None;
                let was_lost = std::mem::replace(&mut self.lost, true);
                return if was_lost { Vec::new() } else { vec![Contact::Lost(error)] };
            }
        };
        let found = std::mem::take(&mut self.lost).then_some(Contact::Found);
        let changed = if closed == self.closed {
            self.otherwise = None;
            None
        } else if now.since(*self.otherwise.get_or_insert(now)) >= DEBOUNCE {
            (self.closed, self.otherwise) = (closed, None);
            Some(if closed { Contact::Closed } else { Contact::Opened })
        } else {
            None
        };
        found.into_iter().chain(changed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn gone() -> GpioError {
        GpioError::NoChip("/dev/gpiochip0".into())
    }

    #[test]
    fn a_contact_is_believed_when_it_has_said_the_same_for_a_tenth_of_a_second() {
        let mut debounce = Debounce::default();
        let mut said = Vec::new();
        let bounces =
            [(0, true), (20, false), (40, true), (60, true), (120, true), (139, true), (140, true), (160, true)];
        for (now, closed) in bounces {
            said.extend(debounce.observe(Ok(closed), BootTime(now)).into_iter().map(|contact| (now, contact)));
        }
        assert_eq!(said, [(140, Contact::Closed)]);
        assert_eq!(debounce.observe(Ok(false), BootTime(200)), []);
        assert_eq!(debounce.observe(Ok(true), BootTime(290)), [], "a spike");
        assert_eq!(debounce.observe(Ok(false), BootTime(310)), []);
        assert_eq!(debounce.observe(Ok(false), BootTime(410)), [Contact::Opened]);
    }

    #[test]
    fn a_line_that_is_lost_is_told_of_once_and_changes_nothing() {
        let mut debounce = Debounce { closed: true, ..Debounce::default() };
        assert_eq!(debounce.observe(Ok(false), BootTime(0)), []);
        assert_eq!(debounce.observe(Err(gone()), BootTime(90)), [Contact::Lost(gone())]);
        assert_eq!(debounce.observe(Err(gone()), BootTime(1_000)), []);
        assert_eq!(debounce.observe(Ok(false), BootTime(2_000)), [Contact::Found]);
        assert_eq!(debounce.observe(Ok(false), BootTime(2_100)), [Contact::Opened]);
    }

    struct Wire(Arc<Mutex<Result<bool, GpioError>>>);

    impl Input for Wire {
        fn is_active(&mut self) -> Result<bool, GpioError> {
            self.0.lock().unwrap().clone()
        }
    }

    #[test]
    fn a_lost_line_is_opened_again() {
        let wire = Arc::new(Mutex::new(Ok(true)));
        let (mut opened, end) = (0, wire.clone());
        let opener: Opener = Box::new(move || {
            opened += 1;
            assert!(opened < 20);
            end.lock().unwrap().clone().map(|_| Box::new(Wire(end.clone())) as Box<dyn Input>)
        });
        let mut contact = start(opener).unwrap();
        assert_eq!(contact.blocking_recv(), Some(Contact::Closed));
        *wire.lock().unwrap() = Err(gone());
        assert_eq!(contact.blocking_recv(), Some(Contact::Lost(gone())));
        *wire.lock().unwrap() = Ok(false);
        assert_eq!(contact.blocking_recv(), Some(Contact::Found));
        assert_eq!(contact.blocking_recv(), Some(Contact::Opened));
    }

    #[test]
    fn a_contact_that_cannot_be_read_at_the_start_is_an_error() {
        assert!(matches!(start(Box::new(|| Err(gone()))), Err(AgentError::Contact(error)) if error == gone()));
    }
}
