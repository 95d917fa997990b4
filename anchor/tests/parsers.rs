//! Everything that the evidence side reads, seeded: the harness of the fuzzer, bounded, on stable Rust.
//!
//! All groups together take about 20 s on two cores. Ten times as many inputs of each:
//!
//! ```sh
//! TIMES=10 cargo test -p grid-anchor --test parsers
//! ```
//!
//! `SEED` says with which seed the first is drawn (default 1), and `ROUNDS` how many of each group, instead. A failure says
//! which seed draws the same input again, with `ROUNDS=1`.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod fuzz;
mod street;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fuzz::Group;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const LONGEST: usize = 600;
/// What this process may have used at most: all groups together, with a file of 16 MiB that a bundle may claim to be.
const MOST_MEMORY_KB: u64 = 250_000;

fn held(group: &Group) {
    let number = |name, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")),
        Err(_) => default,
    };
    let usual = u64::from(group.rounds) * number("TIMES", 1);
    let (rounds, first_seed) = (number("ROUNDS", usual), number("SEED", 1));
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    for seed in first_seed..first_seed + rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bytes = vec![0; random.gen_range(4..LONGEST)];
        random.fill(&mut bytes[..]);
        let again = format!("ROUNDS=1 SEED={seed} cargo test -p grid-anchor --test parsers {test}");
        match catch_unwind(AssertUnwindSafe(|| (group.hold)(&bytes))) {
            Ok(Ok(())) => {}
            Ok(Err(what)) => panic!("{what}\n{again}"),
            Err(_) => panic!("it panicked: see above\n{again}"),
        }
    }
    let peak = peak_memory_kb();
    assert!(peak < MOST_MEMORY_KB, "{peak} kB were in use");
}

/// The most resident memory that this process had (proc(5)).
fn peak_memory_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn messages_are_what_somebody_signed_or_nothing() {
    held(&fuzz::MESSAGES);
}

#[test]
fn certificates_and_lists_hold_only_as_the_authority_signed_them() {
    held(&fuzz::IDENTITY);
}

#[test]
fn every_format_of_the_log_has_one_spelling() {
    held(&fuzz::FORMATS);
}

#[test]
fn a_journal_and_a_snapshot_read_as_they_were_written() {
    held(&fuzz::JOURNAL);
}

#[test]
fn the_intake_verifies_only_what_a_strict_check_accepts_and_knows_the_same_after_a_restart() {
    held(&fuzz::INTAKE);
}

#[test]
fn a_log_holds_only_as_it_was() {
    held(&fuzz::LOG);
}

#[test]
fn an_anchor_goes_on_only_with_what_was_there() {
    held(&fuzz::DATA_DIR);
}

#[test]
fn charging_sessions_can_be_made_of_any_numbers() {
    held(&fuzz::SESSIONS);
}

#[test]
fn settings_load_as_they_are_printed() {
    held(&fuzz::SETTINGS);
}
