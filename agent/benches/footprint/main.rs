//! Measures what an agent takes: memory, processor time, and what a message costs from the reading to the socket.
//!
//! ```text
//! cargo bench --workspace --bench footprint
//! cargo bench --workspace --bench footprint -- --seconds 5
//! ```
//!
//! The agent is the real program, leased by a real transformer through mosquitto, with one INA219 on an emulated kernel
//! (`agent/tests/kernel`), whose chip it reads at the rate at which that converts. The current moves all the time, so that
//! measurements come as often as they may. What the emulation takes in its own process is not counted; what a call to it
//! takes in the agent's is measured alone, multiplied by the calls that came, and shown beside the whole. On a Raspberry
//! Pi there is in its place what the drivers of I2C and PWM take.
//!
//! The pieces of the way are the same functions, called here one after the other. Nothing is asserted.

// The tests of the kernel's interface use more of what they share with this than is measured here.
#![allow(clippy::unwrap_used, dead_code, unused_imports)]

mod emulation;
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
    println!(
        "{:<8}{:>12}{:>13}{:>11}{:>9}{:>14}{:>11}{:>9}",
        "adc", "readings/s", "resident MB", "of a core", "calls/s", "of that they", "the agent", "threads"
    );
    let call = emulation::cost_of_a_call();
    let percent = |used: Duration| used.as_secs_f64() / watched.as_secs_f64() * 100.0;
    for adc in ["avg128", "avg16", "12bit", "9bit"] {
        let (Usage { resident_kb, threads, processor }, calls) = watch(adc, watched);
        let emulation = call * u32::try_from(calls).unwrap();
        println!(
            "{adc:<8}{:>12.0}{:>13.1}{:>10.1}%{:>9.0}{:>13.1}%{:>10.1}%{threads:>9}",
            readings_per_second(adc),
            resident_kb as f64 / 1000.0,
            percent(processor),
            calls as f64 / watched.as_secs_f64(),
            percent(emulation),
            percent(processor.saturating_sub(emulation)),
        );
    }
    println!();
    pieces::measure();
}

fn meter_and_actuator(adc: &str) -> String {
    format!("[[meter.ina219]]\nscale = 15\nadc = \"{adc}\"\n[actuator.control_pilot]\n")
}

/// What it used, and how many calls it made to the emulated kernel.
fn watch(adc: &str, watched: Duration) -> (Usage, u64) {
    let site = Site::new();
    let shunt = site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let settings = site.device(&meter_and_actuator(adc), DEVICE);
    let agent = Process(site.machine.command("run", &settings, &[]).stderr(Stdio::null()).spawn().unwrap());
    thread::sleep(WARM_UP);
    let (before, calls_before) = (Usage::of(agent.0.id()), site.kernel().calls());
    let end = Instant::now() + watched;
    for step in 0.. {
        if Instant::now() >= end {
            break;
        }
        shunt.becomes(SIX_AMPERES_UV + if step % 2 == 0 { STEP_UV } else { 0 });
        thread::sleep(STEPS_EVERY);
    }
    (Usage::of(agent.0.id()).since(&before), site.kernel().calls() - calls_before)
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
