//! What one client may send: messages and bytes a second, with a burst; and how many topics and filters that nobody used
//! before, since the router never forgets one.
//!
//! Nothing is lost beyond the budget: the client is not read from until it fits again, so TCP slows it down.
//!
//! A bucket is kept as the time at which it would be full again (the generic cell rate algorithm of ITU-T I.371,
//! appendix I): one number, in nanoseconds, instead of a level and a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;

#[derive(Debug)]
struct Bucket {
    nanos_each: u64,
    burst: Duration,
    full_at: Instant,
}

impl Bucket {
    fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        let nanos_each = 1_000_000_000 / per_second.max(1);
        Self { nanos_each, burst: Duration::from_nanos(nanos_each.saturating_mul(burst)), full_at: now }
    }

    /// Takes `amount`, and says how long to wait before more is taken.
    fn take(&mut self, amount: u64, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + Duration::from_nanos(self.nanos_each.saturating_mul(amount));
        self.full_at.saturating_duration_since(now).saturating_sub(self.burst)
    }
}

/// What one client, or all connections of one identity together, may still send.
#[derive(Debug)]
pub struct Allowance {
    budget: Mutex<Budget>,
    /// Topics that it may be the first to publish to.
    pub topics: Left,
    /// Filters without wildcards that it may be the first to subscribe to.
    pub filters: Left,
    /// Filters with wildcards that it may be the first to subscribe to.
    pub wildcards: Left,
}

/// A number of things that can be used up.
#[derive(Debug)]
pub struct Left(AtomicUsize);

impl Left {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self(AtomicUsize::new(count))
    }

    /// Uses one up; `false` if there was none.
    pub fn take(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

impl Allowance {
    /// A whole one.
    pub fn new(limits: &Limits) -> Self {
        Self {
            budget: Mutex::new(Budget::new(limits.rates(), Instant::now())),
            topics: Left::new(limits.max_topics_of_one),
            filters: Left::new(limits.max_filters_of_one),
            wildcards: Left::new(limits.max_wildcard_filters_of_one),
        }
    }

    /// Takes a packet of so many bytes that is worth so many messages, and says until when nothing more is to be taken,
    /// if not at once.
    pub fn spend(&self, messages: usize, bytes: usize, now: Instant) -> Option<Instant> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner).take(messages, bytes, now)
    }
}

#[derive(Debug)]
struct Budget {
    messages: Bucket,
    bytes: Bucket,
}

/// A rate with its burst, in messages and in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Messages a second.
    pub messages: u64,
    /// Messages that may come at once.
    pub messages_burst: u64,
    /// Bytes a second.
    pub bytes: u64,
    /// Bytes that may come at once.
    pub bytes_burst: u64,
}

impl Budget {
    fn new(rates: Rates, now: Instant) -> Self {
        Self {
            messages: Bucket::new(rates.messages, rates.messages_burst, now),
            bytes: Bucket::new(rates.bytes, rates.bytes_burst, now),
        }
    }

    fn take(&mut self, messages: usize, bytes: usize, now: Instant) -> Option<Instant> {
        let [messages, bytes] = [messages, bytes].map(|amount| u64::try_from(amount).unwrap_or(u64::MAX));
        let wait = self.messages.take(messages, now).max(self.bytes.take(bytes, now));
        (!wait.is_zero()).then(|| now + wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: Rates = Rates { messages: 10, messages_burst: 5, bytes: 1000, bytes_burst: 1000 };

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let mut now = Instant::now();
        let mut budget = Budget::new(RATES, now);
        for _ in 0..5 {
            assert_eq!(budget.take(1, 1, now), None);
        }
        for _ in 0..20 {
            let until = budget.take(1, 1, now).expect("the burst is over");
            assert_eq!(until - now, Duration::from_millis(100));
            now = until;
        }
    }

    #[test]
    fn bytes_are_limited_as_well_as_messages() {
        let now = Instant::now();
        let mut budget = Budget::new(RATES, now);
        assert_eq!(budget.take(1, 1000, now), None);
        assert_eq!(budget.take(1, 500, now), Some(now + Duration::from_millis(500)));
    }

    #[test]
    fn who_was_silent_has_his_burst_again_and_no_more() {
        let start = Instant::now();
        let mut budget = Budget::new(RATES, start);
        let later = start + Duration::from_secs(3600);
        for _ in 0..5 {
            assert_eq!(budget.take(1, 1, later), None);
        }
        assert!(budget.take(1, 1, later).is_some());
    }
}
