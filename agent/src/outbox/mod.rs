//! What this agent said and the anchor has not acknowledged (DESIGN section 6).
//!
//! Every logged message waits here until an ack says that it is on the anchor's disk. What the ack names as missing, and
//! what stays unacknowledged for long, is due to be said again, byte for byte, on `…/replay`.
//!
//! ```text
//!                 kept                        30 s old, or memory nearly full
//! said ──────────────────► memory (1 MiB) ──────────────────────────────────► segments on disk (256 MiB)
//!                             │     ▲                                             │
//!                 acknowledged│     └──────────── said again when due ────────────┤acknowledged, or the
//!                             ▼                                                   ▼oldest measurements lost
//! ```
//!
//! An anchor that acknowledges keeps everything out of the disk's way: then nothing is written but a small state when a
//! session begins and when the agent ends.
//!
//! [`Outbox`] is the core: it knows what waits where, without I/O and without a clock. What it wants done with the disk it
//! says as one [`Job`] at a time; a [`Worker`] does them on a thread of its own, so that control never waits for an SD
//! card. A disk that fails is opened anew after a while; until then memory must do.
//!
//! A disk is finite, and an anchor can be away for longer than it lasts. When there is no room, the oldest measurements
//! and balances go first. Setpoints go when hardly any of these are left, and events and statuses when hardly anything
//! else is (`shelf` has the numbers). While the disk cannot be written to, these may take [`ROOM_FOR_CONTROL`] times the
//! memory, and not more: an agent that ends for want of memory would lose them all, and control with them. Each loss is
//! declared, exactly, and one of setpoints or more is an error in the agent's own log.

mod disk;
mod job;
mod keeping;
mod look;
mod losses;
mod memory;
mod message;
mod record;
mod report;
mod rounds;
mod sessions;
mod shelf;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod worker;

pub use job::{Job, Outcome};
pub use keeping::{Bounds, DiskEvent, Outbox, ROOM_FOR_CONTROL};
pub use look::{LookError, look};
pub use losses::Lost;
pub use message::{Message, Worth};
pub use report::{Amount, Around, DiskReport, Report, SessionReport};
pub use state::State;
pub use store::Store;
pub use worker::Worker;
