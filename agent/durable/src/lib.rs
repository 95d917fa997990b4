//! Files that survive a power cut. Everything durable in this project goes through here.

mod folder;
mod lock;

pub use folder::{Appendable, Durable, DurableError, Stop, io_error};
pub use lock::lock_alone;
