//! Measures control: how quickly devices obey, what a transformer with many devices costs, and how that grows.
//!
//! ```text
//! cargo run --release -p grid --example control
//! cargo run --release -p grid --example control -- --steps 20 --seconds 2 --devices 100
//! ```
//!
//! Agents, messages and signatures are the real ones, and so is the broker, on a free port of the loopback address; only
//! meters and actuators are in memory. All times of (a) and (b) run from the moment at which the transformer has its
//! reading. The program asserts nothing about them, and ends by itself with what it started.
//!
//! | module | what it measures or holds |
//! |---|---|
//! | `steps` | (a) one device and (b) the last of a hundred, after a step of the base load |
//! | `pieces` | what that time is made of |
//! | `thousand` | (c) processor time and memory of a transformer with a thousand devices |
//! | `allocator` | (d) allocation and decision alone, from ten to ten thousand devices |
//! | `site`, `meters`, `fleet`, `process`, `acknowledger`, `hop` | what these need |
//! | `figures` | percentiles |

mod acknowledger;
mod allocator;
mod figures;
mod fleet;
mod hop;
mod meters;
mod pieces;
mod process;
mod site;
mod steps;
mod thousand;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use grid_protocol::units::Millis;
use serde::Serialize;

use allocator::Growth;
use figures::{Latency, ratio, verdict};
use pieces::Pieces;
use steps::{ManyDevices, OneDevice};
use thousand::ManyAtRest;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What must be reached, as DESIGN section 9 says.
const MOST_HOPS: u64 = 3;
const LAST_OF_HUNDRED_US: u64 = 20_000;
const HALF_A_CORE: f64 = 50.0;

/// Measures how quickly devices obey, and what a transformer costs.
#[derive(Parser)]
struct Arguments {
    /// Steps of the base load with one device; a hundred devices get a tenth as many.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    steps: usize,
    /// Devices at the transformer whose processor time and memory are measured.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    devices: usize,
    /// How long processor time is measured.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Measure only this part; may be given more than once.
    #[arg(long, value_enum)]
    only: Vec<What>,
    /// Write the figures to this file (JSON).
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What this process is: used by the program when it starts itself.
    #[arg(hide = true)]
    role: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// (a) From reading to obedience, one device.
    One,
    /// (b) The same, the last of a hundred.
    Hundred,
    /// (c) Processor time and memory with a thousand devices.
    Thousand,
    /// (d) Allocation and decision alone.
    Allocator,
}

#[derive(Default, Serialize)]
struct Figures {
    one_device: Option<OneDevice>,
    pieces: Option<Pieces>,
    hundred_devices: Option<ManyDevices>,
    thousand_devices: Vec<ManyAtRest>,
    growth: Vec<Growth>,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    grid_service::log::begin("control", "error");
    match arguments.role.as_deref() {
        Some(process::ARGUMENT) => process::run(),
        Some(other) => Err(format!("unexpected argument {other:?}").into()),
        None => tokio::runtime::Runtime::new()?.block_on(async {
            // Whoever is told to end first ends what it started.
            tokio::select! {
                result = measure(&arguments) => result,
                told = grid_service::shutdown::requested() => Ok(told?),
            }
        }),
    }
}

async fn measure(arguments: &Arguments) -> Result<(), Failure> {
    let wanted = |what| arguments.only.is_empty() || arguments.only.contains(&what);
    let mut figures = Figures::default();
    if wanted(What::One) {
        let pieces = pieces::pieces(arguments.steps).await?;
        figures.one_device = steps::one_device(arguments.steps).await?;
        match &figures.one_device {
            Some(one) => print_one(one, &pieces),
            None => println!("\n(a) could not be measured"),
        }
        figures.pieces = Some(pieces);
    }
    if wanted(What::Hundred) {
        figures.hundred_devices = steps::many_devices(100, (arguments.steps / 10).max(2)).await?;
        match &figures.hundred_devices {
            Some(hundred) => print_hundred(hundred),
            None => println!("\n(b) could not be measured"),
        }
    }
    if wanted(What::Thousand) {
        for ttl in [Millis(3_000), Millis(10_000)] {
            let span = Duration::from_secs(arguments.seconds);
            let thousand = thousand::many_at_rest(arguments.devices, ttl, span).await?;
            print_thousand(&thousand);
            figures.thousand_devices.push(thousand);
        }
    }
    if wanted(What::Allocator) {
        figures.growth = allocator::growth()?;
        print_growth(&figures.growth);
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(())
}

fn print_one(one: &OneDevice, pieces: &Pieces) {
    println!("\n(a) the transformer has its reading → one device obeys; {} steps", one.control.steps);
    one.control.print("control");
    one.hop_grid_broker.print("one hop, grid-broker");
    if let Some(hop) = &one.hop_mosquitto {
        hop.print("one hop, mosquitto");
    }
    one.machine_late.print("meanwhile a sleeping thread wakes late by");
    println!("  its pieces, each alone:");
    pieces.wake.print("  the meter's thread wakes the agent's task");
    pieces.sign.print("  a setpoint is built and signed");
    pieces.verify.print("  a setpoint is parsed and verified");
    let hops = |broker: &str, hop: &Latency, by_rounds: Option<f64>| {
        let (median, most) = (ratio(one.control.p50_us, hop.p50_us), ratio(one.control.p99_us, hop.p99_us));
        let by_rounds = by_rounds.map_or(String::new(), |ratio| format!(", median p99 of rounds {ratio:.1}"));
        println!("  control in hops of {broker:<12} p50 {median:.1}, p99 {most:.1}{by_rounds}");
    };
    hops("grid-broker:", &one.hop_grid_broker, one.hops_of_grid_broker);
    match &one.hop_mosquitto {
        Some(hop) => {
            hops("mosquitto:", hop, one.hops_of_mosquitto);
            verdict("at most 3 hops' p99", one.control.p99_us <= MOST_HOPS * hop.p99_us);
        }
        None => println!("  mosquitto is not installed: nothing to compare with"),
    }
    failed(one.failed_steps);
}

fn print_hundred(hundred: &ManyDevices) {
    println!("\n(b) the same with {} devices, all lowered; {} steps", hundred.devices, hundred.last.steps);
    hundred.first.print("first device obeys");
    hundred.last.print("last device obeys");
    hundred.machine_late.print("meanwhile a sleeping thread wakes late by");
    verdict("the last of 100 within 20 ms (p99)", hundred.last.p99_us <= LAST_OF_HUNDRED_US);
    failed(hundred.failed_steps);
}

fn failed(steps: usize) {
    if steps > 0 {
        println!("  {steps} steps failed: not all devices obeyed within two seconds");
    }
}

fn print_thousand(thousand: &ManyAtRest) {
    let ManyAtRest { devices, ttl_ms, seconds, leased, .. } = thousand;
    println!("\n(c) {devices} devices that draw, leases of {} s; {seconds:.0} s", ttl_ms / 1000);
    println!(
        "  the transformer's process: {:.1} % of a core, {:.1} MB resident",
        thousand.processor_percent, thousand.resident_mb
    );
    println!(
        "  {:.0} measurements and {:.0} setpoints a second; {leased} devices hold a lease",
        thousand.measurements_per_second, thousand.setpoints_per_second
    );
    if !thousand.steady {
        println!("  no steady state was reached");
    }
    if thousand.refused + thousand.not_sent > 0 {
        println!("  {} setpoints refused, {} messages not sent", thousand.refused, thousand.not_sent);
    }
    verdict("below half a core", thousand.processor_percent < HALF_A_CORE && thousand.steady);
}

fn print_growth(growth: &[Growth]) {
    println!("\n(d) allocation and decision alone: median per call; per device; growth by ten times as many devices");
    println!("  {:>7}  {:<36}{:<36}{:<36}", "devices", "allocate", "reading, nothing changes", "reading, all lowered");
    let mut before: Option<&Growth> = None;
    for row in growth {
        let cell = |of: fn(&Growth) -> Option<u64>| match of(row) {
            Some(ns) => {
                let factor = before.and_then(of).map_or(String::new(), |before| format!("×{:.1}", ratio(ns, before)));
                format!("{:>10.1} µs {:>7.0} ns {factor:>7}", ns as f64 / 1000.0, ns as f64 / row.devices as f64)
            }
            None => "too long".to_owned(),
        };
        println!(
            "  {:>7}  {:<36}{:<36}{:<36}",
            row.devices,
            cell(|row| Some(row.allocate_ns)),
            cell(|row| row.steady_reading_ns),
            cell(|row| row.lowering_reading_ns)
        );
        before = Some(row);
    }
}
