//! One device behind the transformer: meter, actuator, role and outbox.
//!
//! | module | what it holds | I/O |
//! |---|---|---|
//! | [`lease`] | the rule of the system: who may draw what until when | none |
//! | [`allocation`] | who gets how much | none |
//! | [`transformer`] | which device gets which setpoint | none |
//! | [`device`] | what a device applies and reports | none |
//! | [`commands`] | what people want of them | the file that keeps it |
//! | [`outbox`] | what was said and is not acknowledged | its folder, on a thread of its own |
//! | [`bucket`] | how often something may be said | none |
//! | [`decimal`] | the numbers that meters and chargers write | none |
//! | [`directory`] | whose key is whose | none |
//! | [`simulated_ina219`] | the current sensor, register by register | none |
//! | [`meter`] | reading currents | I2C, sysfs, MQTT |
//! | [`actuator`] | limiting currents | PWM, GPIO or MQTT, on a thread of its own |
//! | [`gpio`] | single lines: a relay, a contact | GPIO |
//! | [`home_assistant`] | what Home Assistant is told | none |
//! | [`run`] | the shell around all of it | MQTT, clock |
//! | [`status`] | what a person asks a running agent | a socket, files |
//! | [`view`] | what an agent sees now, for who asks | none |
//! | [`settings`] | what a person configures | files |

pub mod actuator;
pub mod allocation;
pub mod bucket;
pub mod commands;
pub mod decimal;
pub mod device;
pub mod directory;
pub mod gpio;
pub mod home_assistant;
pub mod lease;
pub mod meter;
pub mod outbox;
pub mod run;
pub mod settings;
pub mod simulated_ina219;
pub mod status;
pub mod transformer;
pub mod view;
