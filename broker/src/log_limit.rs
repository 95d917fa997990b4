//! Lines that clients can provoke are written at a limited rate, so that nobody fills the disk through the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

/// One limit for lines of a kind.
#[derive(Debug)]
pub struct LogLimit {
    burst: u32,
    per_line: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    refilled: Instant,
    left_out: u64,
}

impl LogLimit {
    /// Lets `burst` lines through at once, and then one in each `per_line`.
    pub fn new(burst: u32, per_line: Duration) -> Self {
        let state = State { left: burst, refilled: Instant::now(), left_out: 0 };
        Self { burst, per_line, state: Mutex::new(state) }
    }

    /// Whether a line may be written now. If not it is counted, and the number is written with the next that may.
    pub fn allows(&self) -> bool {
        let Some(left_out) = self.take(Instant::now()) else {
            return false;
        };
        if left_out > 0 {
            info!(lines = left_out, "lines like the next one were left out, since they came too fast");
        }
        true
    }

    fn take(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.duration_since(state.refilled).as_nanos() / self.per_line.as_nanos().max(1);
        if passed > 0 {
            state.left = state.left.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)).min(self.burst);
            state.refilled = now;
        }
        if state.left == 0 {
            state.left_out += 1;
            return None;
        }
        state.left -= 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_lines_are_counted_and_the_number_comes_with_the_next_one() {
        let second = Duration::from_secs(1);
        let (limit, now) = (LogLimit::new(3, second), Instant::now());
        for _ in 0..3 {
            assert_eq!(limit.take(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(limit.take(now), None);
        }
        assert_eq!(limit.take(now + second), Some(7));
        assert_eq!(limit.take(now + second), None);
    }
}
