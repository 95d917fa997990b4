//! What the outbox wants done with its disk, one thing at a time, and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use grid_protocol::message::Session;

use super::message::{Shared, Worth};
use super::shelf::{Contents, Place, Segment};
use super::state::State;

/// Something to do.
#[derive(Clone, Debug)]
pub enum Job {
    /// Take the folder and see what is in it.
    Open,
    /// Keep the state.
    Save(Box<State>),
    /// Append messages, and make them durable.
    Write {
        /// Where.
        place: Place,
        /// Which.
        messages: Vec<Shared>,
    },
    /// Copy what is worth keeping in a segment, and give up the rest.
    Clear {
        /// The segment.
        number: u32,
        /// Its generation.
        generation: u64,
        /// What in it waits.
        waits: Arc<Contents>,
        /// What is worth less is given up.
        keep: Worth,
        /// Where the rest goes.
        place: Place,
    },
    /// Read messages.
    Read {
        /// In this segment.
        number: u32,
        /// Its generation.
        generation: u64,
        /// From this byte on.
        from: u64,
        /// Not beyond this byte.
        until: u64,
        /// Only these.
        wanted: Arc<Contents>,
        /// Not many more bytes than this.
        most_bytes: usize,
    },
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The folder is ours.
    Opened {
        /// The state that was kept there, if one was and reads.
        state: Option<State>,
        /// What is in it.
        segments: Vec<Segment>,
        /// Sessions of messages that were written after the state was kept.
        sessions: BTreeSet<Session>,
        /// What the state says was in segments that are gone.
        gone: Contents,
    },
    /// The state is durable.
    Saved,
    /// The messages are durable.
    Written {
        /// Up to here the segment is written.
        end: u64,
    },
    /// What stays is durable.
    Cleared {
        /// The segment that has it.
        segment: Segment,
        /// What was given up.
        lost: Contents,
    },
    /// Messages that were read.
    Read {
        /// In the order in which they stand.
        messages: Vec<Shared>,
        /// Where to go on; `None` if that was all.
        next: Option<u64>,
    },
    /// It could not be done. The folder has to be opened anew.
    Failed {
        /// Why.
        why: String,
    },
}
