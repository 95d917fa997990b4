//! The commands of `grid-broker`.

pub mod hash_password;
pub mod run;
