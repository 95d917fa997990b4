//! Measures what an agent takes: memory, processor time, and what a message costs from the reading to the socket.
//!
//! ```text
//! cargo bench --workspace --bench footprint
//! cargo bench --workspace --bench footprint -- --seconds 5
//! ```
//!
//! The agent is the real program, leased by a real transformer through mosquitto, with one INA219 and a control pilot. The
//! current moves all the time, so that measurements come as often as they may. Nothing is asserted.
//!
//! An agent that asks an emulated kernel (`agent/tests/kernel`) spends most of its time on that: each transfer of the bus is
//! a conversation with another process. So it is watched three times:
//!
//! - **of a core**: chip and channel answer within the program (`preload/chip.rs`). A transfer of the bus is one call to the
//!   kernel that returns at once, and the channel's files are real ones. This is what the agent takes. To it comes on a Raspberry
//!   Pi what the driver of the bus takes, which nothing here can tell;
//! - **100 kHz**: the same, but each transfer puts the thread to sleep for as long as the bus needs. What is more than before is
//!   the kernel's part in that, on this machine. Readings are counted so, too;
//! - **emulated**: with the emulated kernel, whose own process is not counted.
//!
//! The pieces of the way are the same functions, called here one after the other.

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

use std::process::{Command, Stdio};
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
/// Two amperes of the grid, which is more than the deadband, as the chip within has it.
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
        "{:<8}{:>12}{:>11}{:>10}{:>11}{:>10}{:>13}{:>9}",
        "adc", "readings/s", "of a core", "100 kHz", "emulated", "calls/s", "resident MB", "threads"
    );
    let percent = |used: Duration| used.as_secs_f64() / watched.as_secs_f64() * 100.0;
    for adc in ["avg128", "avg16", "12bit", "9bit"] {
        let (within, _) = watch(adc, Chip::AT_ONCE, watched);
        let (at_100_khz, _) = watch(adc, Chip::AT_100_KHZ, watched);
        let (emulated, calls) = watch(adc, Chip::Emulated, watched);
        println!(
            "{adc:<8}{:>12.0}{:>10.1}%{:>9.1}%{:>10.1}%{:>10.0}{:>13.1}{:>9}",
            readings_per_second(adc),
            percent(within.processor),
            percent(at_100_khz.processor),
            percent(emulated.processor),
            calls as f64 / watched.as_secs_f64(),
            within.resident_kb as f64 / 1000.0,
            within.threads,
        );
    }
    println!();
    pieces::measure();
}

/// Who answers the agent.
#[derive(Clone, Copy)]
enum Chip {
    /// The preloaded library, where a transfer takes so many microseconds.
    Within(u32),
    Emulated,
}

impl Chip {
    const AT_ONCE: Self = Self::Within(0);
    /// A register's number is written and its two bytes are read: five bytes with their acknowledges, start, restart and stop.
    const AT_100_KHZ: Self = Self::Within(480);

    fn answers(self, command: &mut Command) -> &mut Command {
        match self {
            Self::Within(transfer_us) => command.env("GRID_KERNEL_WITHIN", transfer_us.to_string()),
            Self::Emulated => command,
        }
    }
}

fn meter_and_actuator(adc: &str) -> String {
    format!("[[meter.ina219]]\nscale = 15\nadc = \"{adc}\"\n[actuator.control_pilot]\n")
}

/// What it used, and how many calls it made to the emulated kernel.
fn watch(adc: &str, chip: Chip, watched: Duration) -> (Usage, u64) {
    let site = Site::new();
    let shunt = site.kernel().i2c.solder(0x40, SIX_AMPERES_UV);
    let _transformer = site.transformer(CONSTANT, "[\"L1\"]", "");
    let settings = site.device(&meter_and_actuator(adc), DEVICE);
    // Files below the folder do nothing by themselves: the channel must be there already.
    assert_eq!(site.machine.result("safe", &settings, &[]).0, 0);
    let mut command = site.machine.command("run", &settings, &[]);
    let agent = Process(chip.answers(&mut command).stderr(Stdio::null()).spawn().unwrap());
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

/// How often `grid-agent read` has a new reading from a chip at 100 kHz.
fn readings_per_second(adc: &str) -> f64 {
    let site = Site::new();
    let settings = site.device(&meter_and_actuator(adc), DEVICE);
    let took = |count: u32| {
        let began = Instant::now();
        let mut command = site.machine.command("read", &settings, &["--json", "--count", &count.to_string()]);
        assert!(Chip::AT_100_KHZ.answers(&mut command).output().unwrap().status.success());
        began.elapsed().as_secs_f64()
    };
    // Both have the same start.
    let (few, many) = (5, 105);
    f64::from(many - few) / (took(many) - took(few)).max(f64::EPSILON)
}
