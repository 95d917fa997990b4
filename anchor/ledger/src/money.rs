//! What records cost, and how long the money lasts.

use serde::{Deserialize, Serialize};

/// So many records make the mean: some hours to a day of them, so that a rising price shows soon.
const REMEMBERED: usize = 100;

/// Over so many whole days it is measured what is spent in a day.
const DAYS: usize = 7;
/// In milliseconds.
const DAY: u64 = 86_400_000;

/// What records have cost, in NANOS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Costs {
    /// All of them.
    total: u64,
    /// The last ones, the oldest first.
    last: Vec<u64>,
    /// Those of the last days, the oldest first: today's and those of some before, as far as there was a record.
    days: Vec<Day>,
}

/// What was spent on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Day {
    /// Since 1970, on the ledger's clock.
    day: u64,
    nanos: u64,
}

impl Costs {
    /// A record that was added at `added_ms` on the ledger's clock.
    pub(crate) fn push(&mut self, nanos: u64, added_ms: u64) {
        self.total = self.total.saturating_add(nanos);
        let surplus = (self.last.len() + 1).saturating_sub(REMEMBERED);
        self.last.drain(..surplus);
        self.last.push(nanos);
        let day = added_ms / DAY;
        match self.days.last_mut() {
            Some(newest) if newest.day >= day => newest.nanos = newest.nanos.saturating_add(nanos),
            Some(_) | None => self.days.push(Day { day, nanos }),
        }
        let surplus = self.days.len().saturating_sub(DAYS + 1);
        self.days.drain(..surplus);
    }

    fn mean(&self) -> Option<u64> {
        let sum: u128 = self.last.iter().copied().map(u128::from).sum();
        let mean = sum.checked_div(self.last.len() as u128)?;
        u64::try_from(mean).ok()
    }

    /// The mean of the days that are over, the first of which need not have been a whole one.
    fn per_day(&self) -> Option<u64> {
        let (newest, over) = self.days.split_last()?;
        let sum: u128 = over.iter().map(|day| u128::from(day.nanos)).sum();
        let mean = sum.checked_div(u128::from(newest.day - over.first()?.day))?;
        u64::try_from(mean).ok()
    }

    pub(crate) fn purse(&self, balance: u64) -> Purse {
        Purse { balance, spent: self.total, nanos_per_record: self.mean(), nanos_per_day: self.per_day() }
    }
}

/// What the ledger address has, and what records have cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purse {
    /// Over all its coins, in NANOS.
    pub balance: u64,
    /// What all records have cost, in NANOS, as far as the nodes still told.
    pub spent: u64,
    /// The mean of the last hundred records, in NANOS. `None` before the first.
    pub nanos_per_record: Option<u64>,
    /// What was spent in a day, in NANOS, measured over up to seven days. `None` on the first.
    pub nanos_per_day: Option<u64>,
}

impl Purse {
    /// How many whole days the balance lasts with so many records a day, or with what is really spent if that is more.
    /// `None` where nothing is spent, or nothing is known yet.
    pub fn days_left(&self, records_per_day: u64) -> Option<u64> {
        let expected = u128::from(self.nanos_per_record?) * u128::from(records_per_day);
        let a_day = expected.max(self.nanos_per_day.unwrap_or(0).into());
        let days = u128::from(self.balance).checked_div(a_day)?;
        Some(u64::try_from(days).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purse(balance: u64, nanos_per_record: Option<u64>, nanos_per_day: Option<u64>) -> Purse {
        Purse { balance, spent: 0, nanos_per_record, nanos_per_day }
    }

    #[test]
    fn the_mean_is_of_the_last_hundred_records_and_the_sum_of_all() {
        let mut costs = Costs::default();
        assert_eq!(costs.purse(9), purse(9, None, None));
        costs.push(7_000_000, 0);
        costs.push(5_000_000, 0);
        assert_eq!(costs.purse(9).nanos_per_record, Some(6_000_000));
        for _ in 0..100 {
            costs.push(5_962_800, 0);
        }
        let purse = costs.purse(9);
        assert_eq!((purse.nanos_per_record, purse.spent, costs.last.len()), (Some(5_962_800), 608_280_000, 100));
    }

    #[test]
    fn what_a_day_costs_is_measured_over_the_last_seven_that_are_over() {
        let mut costs = Costs::default();
        costs.push(1000, 5 * DAY);
        costs.push(1000, 6 * DAY - 1);
        assert_eq!(costs.purse(0).nanos_per_day, None);
        costs.push(10, 6 * DAY);
        assert_eq!(costs.purse(0).nanos_per_day, Some(2000));
        // Days without a record are days too.
        costs.push(10, 9 * DAY);
        assert_eq!(costs.purse(0).nanos_per_day, Some(502));
        for day in 10..30 {
            costs.push(700, day * DAY);
        }
        assert_eq!((costs.purse(0).nanos_per_day, costs.days.len()), (Some(700), 8));
        // A clock that went back makes no new day.
        costs.push(1, 20 * DAY);
        assert_eq!((costs.days.len(), costs.days[7].nanos), (8, 701));
    }

    #[test]
    fn a_balance_lasts_for_whole_days_at_the_higher_of_both_rates() {
        // A record every ten minutes costs 0.86 IOTA a day.
        let record = Some(5_962_800);
        assert_eq!(purse(10_000_000_000, record, None).days_left(144), Some(11));
        assert_eq!(purse(858_643_199, record, None).days_left(144), Some(0));
        assert_eq!(purse(858_643_200, record, Some(1)).days_left(144), Some(1));
        assert_eq!(purse(10_000_000_000, record, Some(2_000_000_000)).days_left(144), Some(5));
        assert_eq!(purse(0, record, None).days_left(144), Some(0));
    }

    #[test]
    fn what_is_not_spent_or_not_known_says_no_days() {
        assert_eq!(purse(1, None, None).days_left(144), None);
        assert_eq!(purse(1, Some(5_962_800), None).days_left(0), None);
        assert_eq!(purse(1, Some(0), None).days_left(144), None);
        assert_eq!(purse(u64::MAX, Some(u64::MAX), None).days_left(u64::MAX), Some(0));
    }
}
