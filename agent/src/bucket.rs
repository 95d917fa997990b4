//! A token bucket: a burst, then a steady rate.

use grid_protocol::units::{BootTime, Millis};

/// Lets `burst` through at once, and after that one each `period`.
#[derive(Clone, Debug)]
pub struct Bucket {
    burst: u64,
    period: Millis,
    /// What has flown in and was not taken, in milliseconds: a token is one period.
    filled: u64,
    at: BootTime,
}

impl Bucket {
    /// A full bucket.
    pub fn new(burst: u64, period: Millis, now: BootTime) -> Self {
        Self { burst, period, filled: burst.saturating_mul(period.0), at: now }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now: BootTime) -> bool {
        let brim = self.burst.saturating_mul(self.period.0);
        self.filled = self.filled.saturating_add(now.since(self.at).0).min(brim);
        self.at = self.at.max(now);
        let left = self.filled.checked_sub(self.period.0);
        self.filled = left.unwrap_or(self.filled);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_it_lets_through_one_each_period() {
        let mut bucket = Bucket::new(10, Millis(500), BootTime(1000));
        let let_through = (1000..=6000).filter(|now| bucket.take(BootTime(*now))).count();
        assert_eq!(let_through, 10 + 10);
    }

    #[test]
    fn a_long_rest_fills_it_to_the_brim_and_no_further() {
        let mut bucket = Bucket::new(3, Millis(500), BootTime(0));
        let let_through = (0..10).filter(|_| bucket.take(BootTime(1_000_000))).count();
        assert_eq!(let_through, 3);
    }
}
