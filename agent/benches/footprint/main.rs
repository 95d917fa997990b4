//! Measures what an agent takes: memory, processor time, and what a message costs from the reading to the socket.
//!
//! ```text
//! cargo bench --workspace --bench footprint
//! cargo bench --workspace --bench footprint -- --seconds 5
//! ```
//!
//! The agent is the real program, leased by a real transformer through mosquitto, with one INA219 on an emulated kernel
//! (`agent/tests/kernel`), whose chip it reads at the rate at which that converts. The current moves all the time, so that
//! measurements come as often as they may. The agent's own work is what it takes as `user`. What it takes in the kernel is
//! another on a Raspberry Pi: here each transfer, and each look at a file of PWM, is two calls on a socket and a change to
//! another process, there it is a call of the I2C driver. What the emulation takes in its own process is not counted.
//!
//! The pieces of the way are the same functions, called here one after the other. Nothing is asserted.

// The tests of the kernel's interface use more of what they share with this than is measured here.
#![allow(clippy::unwrap_used, dead_code, unused_imports)]

mod pieces;
mod process;

#[path = "../../tests/kernel/agent.rs"]
mod agent;
#[path = "../../tests/kernel/emulated/mod.rs"]
mod emulated;
#[path = "../../tests/mosquitto/mod.rs"]
mod mosquitto;

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use agent::{SIX_AMPERES_UV, Site};
use clap::Parser;
use mosquitto::Process;
use process::Usage;

const DEVICE: &str = "phases = [\"L1\"]\nfailsafe_ma = 6000\n";
const CONSTANT: &str = "[meter.none]\nbase_ma = [2000, 2000, 2000]\n";
/// Loading, connecting and the first lease are over by then.
const WARM_UP: Duration = Duration::from_secs(2);
/// Two amperes of the grid, which is more than the deadband.
const STEP_UV: i64 = 13_333;
const STEPS_EVERY: Duration = Duration::from_millis(100);

/// Measures what an agent takes.
#[derive(Parser)]
struct Arguments {
    /// How long each agent is watched.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let watched = Duration::from_secs(Arguments::parse().seconds);
    println!("an agent with one INA219 and a control pilot");
    println!("{:<8}{:>12}{:>13}{:>8}{:>8}{:>10}", "adc", "readings/s", "resident MB", "user", "kernel", "threads");
    let percent = |used: Duration| used.as_secs_f64() / watched.as_secs_f64() * 100.0;
    for adc in ["avg128", "avg16", "12bit", "9bit"] {
        let Usage { resident_kb, threads, user, system } = watch(adc, watched);
        let (rate, megabytes) = (readings_per_second(adc), resident_kb as f64 / 1000.0);
        println!("{adc:<8}{rate:>12.0}{megabytes:>13.1}{:>7.1}%{:>7.1}%{threads:>10}", percent(user), percent(system));
    }
    println!();
    pieces::measure();
}

fn meter_and_actuator(adc: &str) -> String {
    format!("[[meter.ina219]]\nscale = 15\nadc = \"{adc}\"\n[actuator.control_pilot]\n")
}

fn watch(adc: &str, watched: Duration) -> Usage {
    let site = Site::new();
    let shunt = site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let settings = site.device(&meter_and_actuator(adc), DEVICE);
    let agent = Process(site.machine.command("run", &settings, &[]).stderr(Stdio::null()).spawn().unwrap());
    thread::sleep(WARM_UP);
    let before = Usage::of(agent.0.id());
    let end = Instant::now() + watched;
    for step in 0.. {
        if Instant::now() >= end {
            break;
        }
        shunt.becomes(SIX_AMPERES_UV + if step % 2 == 0 { STEP_UV } else { 0 });
        thread::sleep(STEPS_EVERY);
    }
    Usage::of(agent.0.id()).since(&before)
}

/// How often `grid-agent read` has a new reading from the same chip.
fn readings_per_second(adc: &str) -> f64 {
    let site = Site::new();
    site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let settings = site.device(&meter_and_actuator(adc), DEVICE);
    let took = |count: u32| {
        let began = Instant::now();
        let (code, said) = site.machine.result("read", &settings, &["--json", "--count", &count.to_string()]);
        assert_eq!(code, 0, "{said}");
        began.elapsed().as_secs_f64()
    };
    // Both have the same start.
    let (few, many) = (5, 105);
    f64::from(many - few) / (took(many) - took(few)).max(f64::EPSILON)
}
