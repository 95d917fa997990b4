//! Small files that must survive a power cut: an epoch, the commands that are in force, keys and certificates.

pub use grid_durable::{replace, replace_secret};
