//! The real `grid-agent` on an emulated kernel: no Raspberry Pi, no root.
//!
//! A small library ([`preload/edge.rs`](preload/edge.rs)) is loaded before the program and stands where the C library would
//! call the kernel. What the program asks about `/dev/i2c-*`, `/dev/gpiochip*`, `/sys/class/pwm` and `/sys/class/hwmon` comes to
//! the test, where [`emulated`] answers as Linux does, with register-level INA219 on the wires.
//!
//! **Real here**: the program, its settings and default paths; what it opens, for what, and when it closes it; the
//! numbers and structures of each `ioctl` (`I2C_SLAVE`, `I2C_RDWR`, `GPIO_V2_GET_LINE`, `…_GET_VALUES`, `…_SET_VALUES`); each
//! write to and read from sysfs, in its order; every error number, from the crates below to the words that a person reads;
//! that the kernel closes what a killed program had open, and not what a stopped one has.
//!
//! **Emulated**, from the kernel's sources and documentation: the rules by which it answers (no PWM duty beyond the period,
//! nothing before a period is set, no polarity while it runs, a line for one only, an address for one driver only, a read only
//! at the end of a transfer on a Raspberry Pi). If Linux does otherwise, these tests do not see it.
//!
//! **Only a Raspberry Pi can show**: levels, edges, pull-ups and cable lengths; clock stretching and how long transfers take;
//! what the drivers make of a line that is really held down, and after which time; the pins' state while nobody drives them,
//! at boot and after a line is released; the frequency and the jitter of its PWM; the groups that its udev rules give files to.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod actuators;
mod agent;
mod bench;
mod emulated;
mod faults;
#[path = "../mosquitto/mod.rs"]
mod mosquitto;
mod running;
