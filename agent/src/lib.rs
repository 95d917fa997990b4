//! One device behind the transformer: meter, actuator, role and outbox.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`lease`] | the rule of the system: who may draw what until when | none |
//! | [`allocation`] | who gets how much | none |
//! | [`simulated_ina219`] | the current sensor, register by register | none |
//! | [`meter`] | reading currents | I2C |

pub mod allocation;
pub mod lease;
pub mod meter;
pub mod simulated_ina219;
