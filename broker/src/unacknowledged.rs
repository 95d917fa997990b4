//! Messages that were sent to a client at QoS 1 or 2 and are not acknowledged to the end (MQTT 5 section 4.3).
//!
//! They outlive the connection: when the session goes on with another one, they are sent again, in the order of their
//! first time (\[MQTT-4.4.0-1\], \[MQTT-4.6.0-1\]).

use std::collections::VecDeque;

use crate::outbox::Delivery;

/// How far a message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// PUBLISH was sent; PUBACK or PUBREC is expected.
    Published(Delivery),
    /// PUBREL was sent; PUBCOMP is expected. The client has the message.
    Released,
}

/// All of one session.
#[derive(Debug, Default)]
pub struct Unacknowledged {
    /// By packet id, in the order in which they were sent. Clients acknowledge in that order, so the one looked for
    /// is near the front.
    steps: VecDeque<(u16, Step)>,
}

impl Unacknowledged {
    /// How many there are. They fill the client's window.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Notes how far the message has come that was sent last.
    pub fn push(&mut self, packet_id: u16, step: Step) {
        self.steps.push_back((packet_id, step));
    }

    /// Notes that the client has a QoS 2 message.
    pub fn released(&mut self, packet_id: u16) {
        if let Some(at) = self.position(packet_id) {
            self.steps[at].1 = Step::Released;
        }
    }

    /// Forgets a message that was acknowledged to the end.
    pub fn done(&mut self, packet_id: u16) {
        if let Some(at) = self.position(packet_id) {
            self.steps.remove(at);
        }
    }

    /// Messages that nobody knows to have arrived.
    pub fn undelivered(&self) -> usize {
        self.steps.iter().filter(|(_, step)| matches!(step, Step::Published(_))).count()
    }

    /// Empties it.
    pub fn take(&mut self) -> VecDeque<(u16, Step)> {
        std::mem::take(&mut self.steps)
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        self.steps.iter().position(|(id, _)| *id == packet_id)
    }
}
