//! Runs the checks and says what they found.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use proptest::test_runner::{Config, TestCaseError, TestError, TestRng, TestRunner};
use stateright::{Checker, HasDiscoveries, Model};

use crate::Promise;
use crate::model::{Bounds, REACHED, SmallStreet, Step};
use crate::street::{cases, play};
use crate::twin::Weakness;

/// How often a case that fails is made simpler.
const SIMPLER: u32 = 1_000;

/// What the model found within some bounds.
#[derive(Clone, Debug)]
pub struct Visited {
    /// The bounds.
    pub bounds: Bounds,
    /// Different states.
    pub states: usize,
    /// Steps from the beginning to the last of them.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// How a promise was broken, step by step.
    pub broken: Option<(Promise, Vec<Step>)>,
    /// Which of [`REACHED`] it reached.
    pub reached: Vec<&'static str>,
}

impl fmt::Display for Visited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bounds, states, depth, took, broken, reached } = self;
        writeln!(
            f,
            "{}: {} s, {} reports and {} setpoints, clocks {:?}: {states} states, {depth} steps deep, in {:.1?}",
            bounds.shows, bounds.ticks, bounds.reports, bounds.setpoints, bounds.clocks, took
        )?;
        reached.iter().try_for_each(|reached| writeln!(f, "  reached: {reached}"))?;
        match broken {
            None => Promise::ALL.iter().try_for_each(|promise| writeln!(f, "  held: {}", promise.says())),
            Some((promise, steps)) => {
                writeln!(f, "  BROKEN: {}", promise.says())?;
                steps.iter().try_for_each(|step| writeln!(f, "    {step:?}"))
            }
        }
    }
}

/// Visits every state of the code that runs.
pub fn visit(bounds: Bounds) -> Visited {
    // Depth first: it need not keep the states that it has still to visit.
    let start = Instant::now();
    let checker = SmallStreet::new(bounds, None)
        .checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    visited(bounds, &Promise::ALL, &checker, start)
}

/// Looks for a promise that a weakness breaks, from the beginning outwards, so that a short story is found.
pub fn hunt(bounds: Bounds, weakness: Weakness, promises: &[Promise]) -> Visited {
    let start = Instant::now();
    let checker = SmallStreet::new(bounds, Some(weakness))
        .checker()
        .threads(threads())
        .finish_when(HasDiscoveries::AnyOf(promises.iter().map(|promise| promise.says()).collect()))
        .spawn_bfs()
        .join();
    visited(bounds, promises, &checker, start)
}

fn visited(bounds: Bounds, promises: &[Promise], checker: &impl Checker<SmallStreet>, start: Instant) -> Visited {
    let story = |promise: &Promise| Some((*promise, checker.discovery(promise.says())?.into_actions()));
    Visited {
        bounds,
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        took: start.elapsed(),
        broken: promises.iter().find_map(story),
        reached: REACHED.into_iter().filter(|reached| checker.discovery(reached).is_some()).collect(),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What random streets found.
#[derive(Clone, Debug)]
pub struct Played {
    /// How many streets, up to and with the first that broke a promise.
    pub streets: u32,
    /// How long it took.
    pub took: Duration,
    /// The promise that was broken, and the story of the street.
    pub broken: Option<(Promise, String)>,
}

/// Plays streets of the code that runs: others each time. One that breaks a promise is made as simple as can be.
pub fn play_streets(streets: u32) -> Played {
    let config = Config { max_shrink_iters: SIMPLER, ..config(streets) };
    run(TestRunner::new(config), None, &Promise::ALL)
}

/// Plays streets of a twin until one of the promises is broken: the same streets each time.
pub fn hunt_streets(streets: u32, weakness: Weakness, promises: &[Promise]) -> Played {
    let config = Config { max_shrink_iters: 0, ..config(streets) };
    let chance = TestRng::deterministic_rng(config.rng_algorithm);
    run(TestRunner::new_with_rng(config, chance), Some(weakness), promises)
}

fn config(streets: u32) -> Config {
    Config { cases: streets, failure_persistence: None, ..Config::default() }
}

fn run(mut runner: TestRunner, weakness: Option<Weakness>, promises: &[Promise]) -> Played {
    let start = Instant::now();
    let (streets, first) = (Cell::new(0), Cell::new(None));
    let outcome = runner.run(&cases(), |case| {
        if first.get().is_none() {
            streets.set(streets.get() + 1);
        }
        play(&case, weakness, promises).map_err(|broken| {
            first.set(first.get().or(Some(broken.promise)));
            TestCaseError::fail(broken.to_string())
        })
    });
    let broken = match outcome {
        Ok(()) => None,
        Err(TestError::Fail(why, _) | TestError::Abort(why)) => {
            Some((first.get().unwrap_or(Promise::Rule), why.to_string()))
        }
    };
    Played { streets: streets.get(), took: start.elapsed(), broken }
}

/// What caught a twin.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The twin.
    pub weakness: Weakness,
    /// In the model.
    pub model: Visited,
    /// In random streets.
    pub streets: Played,
}

impl Caught {
    /// Hunts a twin in the model and in random streets: until it breaks one of these promises.
    pub fn hunt(weakness: Weakness, promises: &[Promise], bounds: Bounds, streets: u32) -> Self {
        let model = hunt(bounds, weakness, promises);
        Self { weakness, model, streets: hunt_streets(streets, weakness, promises) }
    }

    /// The model caught it.
    pub fn by_model(&self) -> bool {
        self.model.broken.is_some()
    }

    /// Random streets caught it.
    pub fn by_streets(&self) -> bool {
        self.streets.broken.is_some()
    }
}

/// The table's head, above the lines that [`Caught`] displays as.
pub fn head() -> String {
    let names = ["rule", "weakness", "caught by the model", "caught by random streets"];
    let [rule, weakness, model, streets] = names;
    format!("{rule:<4} | {weakness:<42} | {model:<45} | {streets}")
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.model.states;
        let model = match &self.model.broken {
            Some((promise, steps)) => format!("{promise:?} in {} steps, after {states} states", steps.len()),
            None => format!("no, after {states} states"),
        };
        let played = self.streets.streets;
        let streets = match &self.streets.broken {
            Some((promise, _)) => format!("{promise:?} after {played} streets"),
            None => format!("no, after {played} streets"),
        };
        let (rule, weakness) = (self.weakness.rule(), self.weakness.says());
        write!(f, "{rule:<4} | {weakness:<42} | {model:<45} | {streets}")
    }
}
