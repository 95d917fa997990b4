//! To be written.

pub mod simulated_ina219;
