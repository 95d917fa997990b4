//! Checks the lease rules and prints what was found.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use grid_lease_checks::Promise;
use grid_lease_checks::model::{FULL, QUICK, REACHED, hunting_ground};
use grid_lease_checks::report::{Caught, head, play_streets, visit};
use grid_lease_checks::twin::Weakness;

/// Checks the lease rules: that the code that runs keeps them, and that each weakened twin of it is caught.
///
/// Exits with 1 if a rule is broken or a twin goes unnoticed. For example: lease-checks --full
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Visit tens of millions of states and play thousands of streets: some minutes instead of less than one.
    #[arg(long)]
    full: bool,
}

fn main() -> ExitCode {
    let full = Arguments::parse().full;
    let (bounds, streets) = if full { (FULL, 8_192) } else { (QUICK, 1_024) };
    let mut holds = true;

    println!("Every state of a small street");
    let (mut states, mut reached) = (0, Vec::new());
    for bounds in bounds {
        let visited = visit(*bounds);
        print!("{visited}");
        holds &= visited.broken.is_none();
        states += visited.states;
        reached.extend(visited.reached);
    }
    for missing in REACHED.iter().filter(|name| !reached.contains(name)) {
        println!("  NEVER REACHED: {missing}");
        holds = false;
    }
    println!("{states} states\n");

    println!("Random streets");
    let played = play_streets(streets);
    match &played.broken {
        None => println!("{} streets, no promise broken, in {:.1?}\n", played.streets, played.took),
        Some((_, story)) => println!("BROKEN in street {}: {story}\n", played.streets),
    }
    holds &= played.broken.is_none();

    println!("Weakened twins\n{}", head());
    for weakness in Weakness::ALL {
        // In full, the very promise that each weakness is about; else whichever breaks first.
        let promises = if full { &[weakness.breaks()][..] } else { &Promise::ALL };
        let caught = Caught::hunt(weakness, promises, hunting_ground(weakness, full), streets);
        println!("{caught}");
        holds &= caught.by_model() || caught.by_streets();
    }
    if holds {
        println!("\nThe lease rules hold, and every weakened twin is caught.");
        ExitCode::SUCCESS
    } else {
        println!("\nThe checks FAILED: see above.");
        ExitCode::FAILURE
    }
}
