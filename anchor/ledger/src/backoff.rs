//! How long to wait before asking again.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::time::sleep;

use crate::error::LedgerError;

/// The first wait is about this long, and none is shorter than half of it.
const FIRST: Duration = Duration::from_secs(1);
/// No wait is longer, unless a node asks for more. A ledger that comes back after days is noticed within this time.
const LONGEST: Duration = Duration::from_secs(60);
/// So often is asked again while somebody waits for the answer: up to half a minute, when no node asks for more.
const TIMES_AGAIN: usize = 5;

/// Waits that double up to a limit, each drawn evenly from half a second to its bound: anchors that lost the same node at
/// the same time do not come back to it in step.
///
/// ```text
/// bound:  1 s  2 s  4 s  8 s  16 s  32 s  60 s  60 s  …
/// ```
#[derive(Clone, Debug)]
pub struct Backoff {
    bound: Duration,
    random: StdRng,
}

impl Backoff {
    /// The same seed gives the same waits.
    pub fn new(seed: u64) -> Self {
        Self { bound: FIRST, random: StdRng::seed_from_u64(seed) }
    }

    /// The next wait. `asked_for` is what a node that refused said itself: it is not asked again earlier.
    pub fn next(&mut self, asked_for: Option<Duration>) -> Duration {
        let drawn = self.random.gen_range(FIRST / 2..=self.bound);
        self.bound = (self.bound * 2).min(LONGEST);
        drawn.max(asked_for.unwrap_or_default())
    }

    /// It worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.bound = FIRST;
    }
}

/// Asks, and for a while again when it fails with what is worth waiting. A node that asks for a longer wait than ours are is
/// not waited for: whoever wants an answer now is told.
pub(crate) async fn patiently<T, A>(
    is_worth_waiting: impl Fn(&LedgerError) -> bool,
    question: impl Fn() -> A,
) -> Result<T, LedgerError>
where
    A: Future<Output = Result<T, LedgerError>>,
{
    let mut backoff = Backoff::new(rand::random());
    for _ in 0..TIMES_AGAIN {
        match question().await {
            Err(error) if is_worth_waiting(&error) && error.retry_after().is_none_or(|wait| wait <= LONGEST) => {
                let wait = backoff.next(error.retry_after());
                tracing::debug!(%error, ?wait, "asking again");
                sleep(wait).await;
            }
            answer => return answer,
        }
    }
    question().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_no_further_and_never_vanish() {
        for seed in 0..50 {
            let mut backoff = Backoff::new(seed);
            let bounds = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60].map(Duration::from_secs);
            for bound in bounds {
                let wait = backoff.next(None);
                assert!(wait >= FIRST / 2 && wait <= bound, "{wait:?} of at most {bound:?}");
            }
        }
    }

    #[test]
    fn a_week_without_a_ledger_is_some_thousand_questions() {
        let mut backoff = Backoff::new(7);
        let (mut waited, mut questions) = (Duration::ZERO, 0);
        while waited < Duration::from_secs(7 * 86_400) {
            waited += backoff.next(None);
            questions += 1;
        }
        // A minute at most, half of it on average.
        assert!((10_080..25_000).contains(&questions), "{questions}");
    }

    #[test]
    fn what_worked_makes_the_next_wait_short_again() {
        let mut backoff = Backoff::new(1);
        for _ in 0..10 {
            backoff.next(None);
        }
        backoff.reset();
        assert!(backoff.next(None) <= FIRST);
    }

    #[test]
    fn a_node_that_says_when_to_come_back_is_not_asked_earlier() {
        let mut backoff = Backoff::new(3);
        assert_eq!(backoff.next(Some(Duration::from_secs(300))), Duration::from_secs(300));
        // Nor later than the others are, when it asks for little.
        assert!(backoff.next(Some(Duration::from_millis(1))) >= FIRST / 2);
    }

    #[test]
    fn two_anchors_do_not_come_back_in_step() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            (0..8).map(|_| backoff.next(None)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
