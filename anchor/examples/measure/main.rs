//! Measures the anchor: how fast it takes messages in, what that costs on disk and in memory, how long proofs and
//! verification take. Prints goals beside figures and asserts nothing.
//!
//! ```text
//! cargo run --release -p grid-anchor --example measure               some minutes
//! cargo run --release -p grid-anchor --example measure -- --quick    less than one
//! ```
//!
//! `--only NAME` measures one of `signatures`, `forgeries`, `recorder`, `broker`, `disk`, `proofs`, `memory`; so a profiler
//! sees nothing else. `--folder DIR` says where the logs are written: a folder on the disk that is to be measured, by default the system's
//! folder for temporary files. It is empty afterwards.
//!
//! | figure | how it comes about |
//! |---|---|
//! | Ed25519 alone | the signatures of the very messages that go into the log, on one core, best of three runs: one by one and strict as `verify` does it, and 1024 at a time with `ed25519_zebra::batch`, as intake does it |
//! | signatures at intake | 1024 messages of 40 senders through the intake's check alone, best of three: the first batch with that kind of forgery, and the next one |
//! | recorder | the same messages through intake, journal, bundles, tiles and checkpoints, synced, with commit 1 s and checkpoint 60 s or 16,384 entries; on one core, 1024 messages at a time as the service does it when they come fast, and one by one |
//! | end to end | the same messages as QoS 0 from 40 connections through our broker to the anchor as a service, until all are durable, on all cores; at most 4096 are on their way |
//! | verify | the whole of that log, every byte, hash and signature, on all cores |
//! | written, kept | a street's clock runs at its own speed, everything else is real: commit 5 s, checkpoint 60 s (the defaults), a third of the devices drawing (a measurement and a setpoint every 3.3 s each, since packaged charge points have a ttl of 10 s), the others idle (every 10 s), a balance a second. *Written* is `write_bytes` of `/proc/self/io`: the pages that this process made the system send to the disk, without the file system's own journal; where the folder is in memory it is 0. *Kept* is the length of all files of the log |
//! | proof | a log with that many entries is written: signed measurements over and over, and of its bundles only those that are asked for. `grid_anchor::proof::prove` then reads checkpoint, tiles and bundle from the files for each proof, and checks it. Looking for a message whose index is not known is not part of it. Median and 99th percentile of 500 |
//! | resident | `VmHWM` of a process of its own, which makes the messages itself and records them |
//!
//! *On one core* means that this thread is bound to one processor (`sched_setaffinity`). There are two rates for it: by the
//! clock on the wall, which is what one gets, waiting for the disk and for other programs included, and by the processor
//! time that the thread used, which is what one would get if it never waited. Other load on the machine shows in every
//! figure: ratios within one run say more than figures of different runs.

mod broker;
mod disk;
mod forgeries;
mod intake;
mod memory;
mod proofs;
mod stopwatch;
mod street;

use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use intake::BATCH;
use street::{Street, measurements};

/// An error for a person.
pub type Failure = Box<dyn std::error::Error>;

const DEVICES: u8 = 40;

/// Prints each figure when it is there.
pub struct Table;

/// What can be measured alone.
const PARTS: [&str; 7] = ["signatures", "forgeries", "recorder", "broker", "disk", "proofs", "memory"];

impl Table {
    /// One line.
    pub fn row(&mut self, what: &str, figure: String, goal: &str) {
        let goal = if goal.is_empty() { String::new() } else { format!("   (goal: {goal})") };
        println!("{what:<52} {figure}{goal}");
    }
}

/// How much is measured.
struct Extent {
    messages: usize,
    proofs: &'static [u64],
    minutes: u64,
    in_memory: usize,
}

const WHOLE: Extent =
    Extent { messages: 200_000, proofs: &[10_000, 100_000, 1_000_000, 10_000_000], minutes: 60, in_memory: 1_000_000 };
const QUICK: Extent = Extent { messages: 30_000, proofs: &[10_000, 1_000_000], minutes: 5, in_memory: 100_000 };

/// What was asked for.
struct Arguments {
    extent: Extent,
    folder: PathBuf,
    only: Option<String>,
}

fn arguments() -> Result<Arguments, Failure> {
    let mut arguments = Arguments { extent: WHOLE, folder: std::env::temp_dir(), only: None };
    let mut given = std::env::args_os().skip(1);
    while let Some(argument) = given.next() {
        match argument.to_str() {
            Some("--quick") => arguments.extent = QUICK,
            Some("--folder") => arguments.folder = given.next().ok_or("--folder DIR")?.into(),
            Some("--only") => {
                let name = given.next().and_then(|name| name.into_string().ok()).unwrap_or_default();
                if !PARTS.contains(&name.as_str()) {
                    return Err(format!("--only {name:?}: one of {}", PARTS.join(", ")).into());
                }
                arguments.only = Some(name);
            }
            _ => return Err(format!("{argument:?}: there are --quick, --only NAME and --folder DIR").into()),
        }
    }
    Ok(arguments)
}

/// Does something on one core.
fn on_one_core<T>(what: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    let before = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| before.is_set(*cpu)).ok_or("no processor")?;
    one.set(last);
    sched_setaffinity(None, &one)?;
    let done = what();
    sched_setaffinity(None, &before)?;
    done
}

fn main() -> Result<(), Failure> {
    let given: Vec<_> = std::env::args_os().collect();
    if let [_, flag, folder, count] = given.as_slice()
        && flag == memory::CHILD
    {
        return memory::child(folder.as_ref(), count.to_string_lossy().parse()?);
    }
    let Arguments { extent, folder, only } = arguments()?;
    let is_wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    let folder = tempfile::tempdir_in(folder)?;
    let path = |name: &str| folder.path().join(name);
    let mut table = Table;
    if ["signatures", "recorder", "broker"].into_iter().any(is_wanted) {
        intake_and_verification(&extent, is_wanted, &path, &mut table)?;
    }
    if is_wanted("forgeries") {
        on_one_core(|| forgeries::forgeries(&mut table))?;
    }
    if is_wanted("disk") {
        for (devices, goal) in [(5, ""), (40, "2 GB a day")] {
            disk::disk(&path(&format!("disk-{devices}")), devices, extent.minutes, goal, &mut table)?;
        }
    }
    if is_wanted("proofs") {
        proofs::proofs(&path("proofs"), extent.proofs, &mut table)?;
    }
    if is_wanted("memory") {
        memory::memory(&path("memory"), extent.in_memory, &mut table)?;
    }
    Ok(())
}

fn intake_and_verification(
    extent: &Extent,
    is_wanted: impl Fn(&str) -> bool,
    path: &impl Fn(&str) -> PathBuf,
    table: &mut Table,
) -> Result<(), Failure> {
    let street = Street::new()?;
    let messages = measurements(&mut street.devices(DEVICES)?, extent.messages)?;
    let length = messages.iter().map(|message| message.payload.len()).sum::<usize>() / messages.len();
    println!("{} messages of {DEVICES} devices, {length} bytes each; commit 1 s, checkpoint 60 s", messages.len());
    if is_wanted("signatures") {
        let keys: Vec<_> = (1..=DEVICES).map(|number| SigningKey::from_bytes(&[number; 32]).verifying_key()).collect();
        on_one_core(|| intake::signatures(&messages, &keys, table))?;
    }
    if is_wanted("recorder") {
        let together = format!("recorder, one core, {BATCH} at a time");
        on_one_core(|| intake::recorder(&together, &street, &messages, BATCH, &path("together"), table))?;
        let singly = "recorder, one core, one by one";
        on_one_core(|| intake::recorder(singly, &street, &messages, 1, &path("singly"), table))?;
        intake::verification(&path("together"), table)?;
    }
    if is_wanted("broker") {
        broker::end_to_end(&street, &messages, DEVICES.into(), &path("broker"), table)?;
    }
    Ok(())
}
