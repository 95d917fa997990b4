//! The whole street in one process: its data, its plant, and later its agents, broker and anchor.

pub mod plant;
pub mod street;
