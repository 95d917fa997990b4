//! To be written.

pub mod meter;
pub mod simulated_ina219;
