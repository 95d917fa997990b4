//! Lines that clients can provoke are written at a limited rate, so that nobody fills the disk through the log.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

/// Lines that may come at once: a street that reconnects after a power cut is still seen whole.
const BURST: u32 = 500;
/// One further line in this time: at most 17 MB of log a day.
const PER_LINE: Duration = Duration::from_millis(500);

/// One limit for all such lines of a broker.
#[derive(Debug)]
pub struct LogLimit {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    refilled: Instant,
    left_out: u64,
}

impl LogLimit {
    /// With its whole burst.
    pub fn new() -> Self {
        Self { state: Mutex::new(State { left: BURST, refilled: Instant::now(), left_out: 0 }) }
    }

    /// Whether a line may be written now. If not it is counted, and the number is written with the next that may.
    pub fn allows(&self) -> bool {
        let now = Instant::now();
        let left_out = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(left_out) = state.take(now) else {
                return false;
            };
            left_out
        };
        if left_out > 0 {
            info!(lines = left_out, "lines about clients were left out, since they came too fast");
        }
        true
    }
}

impl State {
    fn take(&mut self, now: Instant) -> Option<u64> {
        let passed = now.duration_since(self.refilled).as_millis() / PER_LINE.as_millis();
        if passed > 0 {
            self.left = self.left.saturating_add(u32::try_from(passed).unwrap_or(u32::MAX)).min(BURST);
            self.refilled = now;
        }
        if self.left == 0 {
            self.left_out += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_lines_are_counted_and_the_number_comes_with_the_next_one() {
        let now = Instant::now();
        let mut state = State { left: BURST, refilled: now, left_out: 0 };
        for _ in 0..BURST {
            assert_eq!(state.take(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(state.take(now), None);
        }
        assert_eq!(state.take(now + PER_LINE), Some(7));
        assert_eq!(state.take(now + PER_LINE), None);
    }
}
