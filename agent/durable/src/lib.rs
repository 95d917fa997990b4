//! Everything that must survive a power cut is written here, and nowhere else.
//!
//! | module | what it holds |
//! |---|---|
//! | [`disk`] | the steps of which all of it is made, and the disk that the system has |
//! | [`whole`] | the order of these that makes a file appear whole or not at all |
//! | [`folder`] | a folder of such files and of files that grow, with one owner at a time |
//! | [`stop`], [`lock`] | ending between two steps; one owner at a time |
//! | `simulate` | a disk in memory whose power is cut and whose steps fail (feature `simulate`, for tests) |

mod disk;
mod folder;
mod lock;
#[cfg(any(test, feature = "simulate"))]
pub mod simulate;
mod stop;
mod whole;

pub use disk::{Disk, Held, OpenFile, SystemDisk};
pub use folder::{Appendable, Durable, DurableError, io_error, is_full};
pub use lock::lock_alone;
pub use stop::Stop;
pub use whole::{replace, replace_secret};
