//! What the parts of the grid say to each other.

pub mod units;
