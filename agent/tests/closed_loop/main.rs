//! The cores of transformer and devices together, on virtual time: minutes and nights pass in milliseconds.

#![allow(clippy::unwrap_used)]

mod chance;
mod failsafe;
mod fairness;
mod stability;
mod street;
mod trouble;
