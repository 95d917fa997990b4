//! What records cost, and how long the money lasts.

use serde::{Deserialize, Serialize};

/// So many records make the mean: some hours to a day of them, so that a rising price shows soon.
const REMEMBERED: usize = 100;

/// What the last records cost, in NANOS, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Costs(Vec<u64>);

impl Costs {
    pub(crate) fn push(&mut self, nanos: u64) {
        let surplus = (self.0.len() + 1).saturating_sub(REMEMBERED);
        self.0.drain(..surplus);
        self.0.push(nanos);
    }

    pub(crate) fn mean(&self) -> Option<u64> {
        let sum: u128 = self.0.iter().copied().map(u128::from).sum();
        let mean = sum.checked_div(self.0.len() as u128)?;
        u64::try_from(mean).ok()
    }
}

/// What the ledger address has, and what a record has cost lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse {
    /// Over all its coins, in NANOS.
    pub balance: u64,
    /// The mean of the last hundred records, in NANOS. `None` before the first.
    pub nanos_per_record: Option<u64>,
}

impl Purse {
    /// How many whole days the balance lasts at this rate. `None` where nothing is spent, or nothing is known yet.
    pub fn days_left(&self, records_per_day: u64) -> Option<u64> {
        let a_day = u128::from(self.nanos_per_record?) * u128::from(records_per_day);
        let days = u128::from(self.balance).checked_div(a_day)?;
        Some(u64::try_from(days).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_of_the_last_hundred_records() {
        let mut costs = Costs::default();
        assert_eq!(costs.mean(), None);
        costs.push(7_000_000);
        costs.push(5_000_000);
        assert_eq!(costs.mean(), Some(6_000_000));
        for _ in 0..100 {
            costs.push(5_962_800);
        }
        assert_eq!((costs.mean(), costs.0.len()), (Some(5_962_800), 100));
    }

    #[test]
    fn a_balance_lasts_for_whole_days() {
        let purse = |balance, nanos_per_record| Purse { balance, nanos_per_record };
        // A record every ten minutes costs 0.86 IOTA a day.
        assert_eq!(purse(10_000_000_000, Some(5_962_800)).days_left(144), Some(11));
        assert_eq!(purse(858_643_199, Some(5_962_800)).days_left(144), Some(0));
        assert_eq!(purse(858_643_200, Some(5_962_800)).days_left(144), Some(1));
        assert_eq!(purse(0, Some(5_962_800)).days_left(144), Some(0));
    }

    #[test]
    fn what_is_not_spent_or_not_known_says_no_days() {
        assert_eq!(Purse { balance: 1, nanos_per_record: None }.days_left(144), None);
        assert_eq!(Purse { balance: 1, nanos_per_record: Some(5_962_800) }.days_left(0), None);
        assert_eq!(Purse { balance: 1, nanos_per_record: Some(0) }.days_left(144), None);
        let huge = Purse { balance: u64::MAX, nanos_per_record: Some(u64::MAX) };
        assert_eq!(huge.days_left(u64::MAX), Some(0));
    }
}
