//! The street of the tests beside this crate, and a log of what is said on it.

pub mod log;
#[path = "../tests/street/mod.rs"]
mod street;

pub use street::*;
