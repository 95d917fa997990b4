//! Numbers for people.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Failure;

/// How long a thread that measures the machine sleeps each time.
const NAP: Duration = Duration::from_millis(10);
/// A 99th percentile needs so many steps.
const ROUND: usize = 100;

/// A measured duration over many steps, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latency {
    pub steps: usize,
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

impl Latency {
    pub fn of(measured_us: Vec<u64>) -> Self {
        let steps = measured_us.len();
        let grid::demo::Latency { p50, p99, max } = grid::demo::Latency::of(measured_us);
        Self { steps, p50_us: p50, p99_us: p99, max_us: max }
    }

    /// One line of a table.
    pub fn print(&self, what: &str) {
        println!(
            "  {what:<46} p50 {:>8}  p99 {:>8}  max {:>8}",
            millis(self.p50_us),
            millis(self.p99_us),
            millis(self.max_us)
        );
    }
}

/// How the 99th percentiles of two figures that were measured in turn stand to each other: the median of rounds of a
/// hundred steps, so that what else the machine did for a moment does not decide. Nothing for less than three rounds.
pub fn ratio_by_rounds(figure: &[u64], to: &[u64]) -> Option<f64> {
    let rounds = figure.chunks_exact(ROUND).zip(to.chunks_exact(ROUND));
    let mut ratios: Vec<f64> =
        rounds.map(|(a, b)| ratio(Latency::of(a.to_vec()).p99_us, Latency::of(b.to_vec()).p99_us)).collect();
    ratios.sort_by(f64::total_cmp);
    (ratios.len() >= 3).then(|| ratios[ratios.len() / 2])
}

/// Measures the machine while something else is measured: how much later than asked for a sleeping thread wakes. What
/// is measured cannot be steadier than that.
pub struct Machine {
    over: Sender<()>,
    late: JoinHandle<Vec<u64>>,
}

impl Machine {
    pub fn watch() -> Result<Self, Failure> {
        let (over, told) = channel();
        Ok(Self { over, late: thread::Builder::new().spawn(move || lateness(&told))? })
    }

    pub fn late(self) -> Result<Latency, Failure> {
        drop(self.over);
        self.late.join().map(Latency::of).map_err(|_| "the thread that watches the machine has ended".into())
    }
}

fn lateness(told: &Receiver<()>) -> Vec<u64> {
    let mut late = Vec::new();
    let mut start = Instant::now();
    while told.recv_timeout(NAP) == Err(RecvTimeoutError::Timeout) {
        late.push(u64::try_from(start.elapsed().saturating_sub(NAP).as_micros()).unwrap_or(u64::MAX));
        start = Instant::now();
    }
    late
}

/// `1.234 ms`.
fn millis(micros: u64) -> String {
    format!("{}.{:03} ms", micros / 1000, micros % 1000)
}

/// The middle one; 0 of none.
pub fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// How one figure stands to another.
pub fn ratio(figure: u64, to: u64) -> f64 {
    figure as f64 / to.max(1) as f64
}

/// A goal and whether a figure meets it.
pub fn verdict(goal: &str, met: bool) {
    println!("  goal: {goal}: {}", if met { "met" } else { "NOT met" });
}
