//! A conversation as a list of steps, made of arbitrary bytes.

use std::fmt;

use super::packets::{acknowledgement, connect, message_or_subscription, mutated, request};
use super::reader::hex;
use super::source::Source;

/// Connections that take part.
pub const CONNECTIONS: u8 = 4;
const DISCONNECT: u8 = 0xe0;
/// More is not made of any input.
const MOST_STEPS: usize = 80;

/// What one connection does.
pub enum Deed {
    /// Opens the connection, if it is not open, and says these bytes, which begin with a CONNECT.
    Connect { bytes: Vec<u8>, v5: Option<bool>, maximum_packet: Option<usize> },
    /// Says these bytes so many times.
    Say { bytes: Vec<u8>, times: usize },
    /// Acknowledges what the broker asked longest ago, with the packet that belongs there or another.
    Acknowledge { first: Option<u8>, right_id: bool, rest: Vec<u8> },
    /// Acknowledges all that the broker has asked.
    AcknowledgeAll,
    /// Reads what is there.
    Read,
    /// Says that it will write no more.
    Finish,
    /// Closes the connection.
    Close,
    /// Closes it with a TCP reset.
    Reset,
}

pub struct Step {
    pub connection: usize,
    pub deed: Deed,
}

pub struct Conversation {
    pub steps: Vec<Step>,
    /// Whether in the end all are silent until every time limit has passed.
    pub lingers: bool,
    /// Whether the connections that are left in the end are closed with a TCP reset.
    pub reset_in_the_end: bool,
}

impl Conversation {
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut source = Source::new(bytes);
        let reset_in_the_end = source.rarely(2);
        let lingers = source.rarely(100);
        // The version that each open connection speaks.
        let mut open: [Option<bool>; CONNECTIONS as usize] = [None; 4];
        let mut steps = Vec::new();
        while !source.is_empty() && steps.len() < MOST_STEPS {
            let connection = usize::from(source.up_to(CONNECTIONS - 1));
            let deed = match open[connection] {
                None => first(&mut source, &mut open[connection]),
                Some(v5) => next(&mut source, v5, &mut open[connection]),
            };
            steps.push(Step { connection, deed });
        }
        Self { steps, lingers, reset_in_the_end }
    }
}

/// What a connection begins with.
fn first(source: &mut Source, open: &mut Option<bool>) -> Deed {
    let connect = connect(source);
    *open = Some(connect.v5);
    match source.up_to(31) {
        1 => Deed::Connect { bytes: mutated(source, connect.bytes), v5: None, maximum_packet: None },
        2 => Deed::Connect { bytes: source.bytes(20), v5: None, maximum_packet: None },
        3 => Deed::Connect { bytes: request(source, connect.v5), v5: None, maximum_packet: None },
        _ => {
            let v5 = connect.named.then_some(connect.v5);
            Deed::Connect { bytes: connect.bytes, v5, maximum_packet: connect.maximum_packet }
        }
    }
}

/// How an open connection goes on.
fn next(source: &mut Source, v5: bool, open: &mut Option<bool>) -> Deed {
    match source.up_to(49) {
        0..=15 => {
            let bytes = request(source, v5);
            if bytes[0] == DISCONNECT {
                *open = None;
            }
            Deed::Say { bytes, times: 1 }
        }
        16..=19 => Deed::Say { bytes: request(source, v5), times: source.one_of(&[2, 5, 30, 120]) },
        20 => {
            let bytes = request(source, v5);
            Deed::Say { bytes: mutated(source, bytes), times: 1 }
        }
        21 => Deed::Say { bytes: source.bytes(12), times: 1 },
        22 => {
            let mut bytes = request(source, v5);
            bytes.truncate(usize::from(source.word()) % bytes.len());
            Deed::Say { bytes, times: 1 }
        }
        23 => Deed::Say { bytes: connect(source).bytes, times: 1 },
        24 => {
            let (first, id) =
                (source.one_of(&[0x40, 0x50, 0x62, 0x70]), source.one_of(&[[0, 1], [0, 2], [0, 3], [0, 0]]));
            Deed::Say { bytes: acknowledgement(source, v5, first, id), times: 1 }
        }
        25..=28 => Deed::Acknowledge {
            first: source.rarely(8).then(|| source.one_of(&[0x40, 0x50, 0x62, 0x70])),
            right_id: !source.rarely(12),
            // Without the id, which is known later.
            rest: acknowledgement(source, v5, 0, [0, 0]).split_off(4),
        },
        29..=31 => Deed::AcknowledgeAll,
        32..=36 => Deed::Read,
        37 => Deed::Finish,
        38 => {
            *open = None;
            Deed::Close
        }
        39 => {
            *open = None;
            Deed::Reset
        }
        _ => Deed::Say { bytes: message_or_subscription(source, v5), times: 1 },
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            write!(f, "  {} ", step.connection)?;
            match &step.deed {
                Deed::Connect { bytes, .. } => writeln!(f, "opens and says {}", hex(bytes)),
                Deed::Say { bytes, times: 1 } => writeln!(f, "says {}", hex(bytes)),
                Deed::Say { bytes, times } => writeln!(f, "says {times} times {}", hex(bytes)),
                Deed::Acknowledge { first, right_id, rest } => {
                    let packet = first.map_or("rightly".to_owned(), |first| format!("with {first:02x}"));
                    let id = if *right_id { "its id" } else { "another id" };
                    writeln!(f, "acknowledges the oldest {packet}, {id}, {}", hex(rest))
                }
                Deed::AcknowledgeAll => writeln!(f, "acknowledges all"),
                Deed::Read => writeln!(f, "reads"),
                Deed::Finish => writeln!(f, "finishes writing"),
                Deed::Close => writeln!(f, "closes"),
                Deed::Reset => writeln!(f, "resets"),
            }?;
        }
        if self.lingers {
            writeln!(f, "  all are silent for a while")?;
        }
        Ok(())
    }
}
