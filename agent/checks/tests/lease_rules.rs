//! The lease rules hold, and the checks that say so have teeth.

use grid_lease_checks::Promise;
use grid_lease_checks::model::{SMALL, hunting_ground};
use grid_lease_checks::report::{Caught, play_streets, visit};
use grid_lease_checks::twin::Weakness;

/// How many random streets are played; `PROPTEST_CASES` says another number.
fn streets() -> u32 {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 512 } else { 4096 })
}

#[test]
fn the_rule_holds_in_every_reachable_state() {
    for bounds in SMALL {
        let visited = visit(*bounds);
        assert!(visited.broken.is_none(), "{visited}");
        assert!(visited.states > 50_000 && !visited.reached.is_empty(), "{visited}");
    }
}

#[test]
fn the_rule_holds_in_random_streets() {
    let played = play_streets(streets());
    assert!(played.broken.is_none(), "{}", played.broken.unwrap().1);
}

#[test]
fn every_weakened_twin_is_caught() {
    for weakness in Weakness::ALL {
        let caught = Caught::hunt(weakness, &Promise::ALL, hunting_ground(weakness, false), 1_024);
        // In the model nobody asks for a decrease to a limit above the failsafe limit.
        let seen_by_model = weakness != Weakness::DecreaseWithoutHold;
        assert_eq!((caught.by_model(), caught.by_streets()), (seen_by_model, true), "{caught}");
    }
}
