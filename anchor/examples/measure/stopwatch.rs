//! The time that something took: on the wall, and of the processor.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Runs from when it is made.
pub struct Stopwatch {
    start: Instant,
    cpu: Duration,
}

/// What it shows.
#[derive(Clone, Copy)]
pub struct Span {
    wall: Duration,
    cpu: Duration,
}

/// Processor time of this thread.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}

impl Stopwatch {
    /// Starts.
    pub fn start() -> Self {
        Self { start: Instant::now(), cpu: cpu() }
    }

    /// Reads it.
    pub fn read(&self) -> Span {
        Span { wall: self.start.elapsed(), cpu: cpu().saturating_sub(self.cpu) }
    }
}

impl Span {
    /// As long as nothing can be.
    pub const MAX: Self = Self { wall: Duration::MAX, cpu: Duration::MAX };

    /// The shorter of two, on either clock.
    pub fn min(self, other: Self) -> Self {
        Self { wall: self.wall.min(other.wall), cpu: self.cpu.min(other.cpu) }
    }

    /// How many a second, on either clock.
    pub fn rates(self, count: usize) -> String {
        format!("{:.0} /s ({:.0} /s of processor time)", rate(count, self.wall), rate(count, self.cpu))
    }
}

/// How many a second.
pub fn rate(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}
