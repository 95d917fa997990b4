//! What is said of the ledger besides receipts: that money runs out, and that no record comes on it.

use grid_protocol::message::{Event, LedgerPurse};
use grid_protocol::units::{BootTime, Millis};

/// Money that lasts for fewer days is an event, and a problem.
pub const FEW_DAYS: u64 = 14;
/// It lasts again from so many on, lest it go to and fro.
const ENOUGH_DAYS: u64 = 16;
/// A record that is not on the ledger after so long is late.
const LATE: Millis = Millis(3_600_000);

/// Why no record comes on the ledger. What needs somebody is said although the other was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    /// For an hour none has.
    Late,
    /// None will, until somebody does something.
    NeedsSomebody,
}

/// What is known of the ledger.
#[derive(Debug)]
pub struct LedgerWatch {
    purse: Option<LedgerPurse>,
    is_money_low: bool,
    /// Since when an answer is awaited that has not come.
    waits_since: Option<BootTime>,
    /// Why no record comes on the ledger, if that was said.
    failure: Option<Failure>,
    /// To be said.
    events: Vec<Event>,
}

impl LedgerWatch {
    /// An answer is awaited from now on, if there is a ledger.
    pub fn new(waits_since: Option<BootTime>) -> Self {
        Self { purse: None, is_money_low: false, waits_since, failure: None, events: Vec::new() }
    }

    /// What pays for records, as far as that is known.
    pub fn purse(&self) -> Option<LedgerPurse> {
        self.purse.clone()
    }

    /// The address holds so much.
    pub fn holds(&mut self, purse: LedgerPurse) {
        let LedgerPurse { ref address, balance_nanos, days_left, .. } = purse;
        match days_left {
            Some(days_left) if days_left < FEW_DAYS && !self.is_money_low => {
                tracing::warn!(
                    address,
                    balance_nanos,
                    days_left,
                    "the money for the ledger runs out: send this address some"
                );
                self.is_money_low = true;
                self.events.push(Event::LedgerMoneyLow { balance_nanos, days_left });
            }
            Some(days_left) if days_left >= ENOUGH_DAYS && self.is_money_low => {
                self.is_money_low = false;
                self.events.push(Event::LedgerMoneyEnough { balance_nanos });
            }
            Some(_) | None => {}
        }
        self.purse = Some(purse);
    }

    /// The trail is open: there is a ledger that answers.
    pub fn opened(&mut self) {
        self.waits_since = None;
    }

    /// A record is handed in.
    pub fn handed_in(&mut self, now: BootTime) {
        self.waits_since.get_or_insert(now);
    }

    /// A record is on the ledger.
    pub fn added(&mut self) {
        self.waits_since = None;
        if self.failure.take().is_some() {
            self.events.push(Event::LedgerRecovered {});
        }
    }

    /// No record will be on the ledger until somebody does something.
    pub fn failed(&mut self, why: String) {
        self.say(Failure::NeedsSomebody, why);
    }

    fn say(&mut self, failure: Failure, why: String) {
        if self.failure < Some(failure) {
            self.failure = Some(failure);
            self.events.push(Event::LedgerFailed { why });
        }
    }

    /// What is to be said now.
    pub fn events(&mut self, now: BootTime) -> Vec<Event> {
        if self.waits_since.is_some_and(|since| now.since(since) >= LATE) {
            let why = "no record has come on the ledger for an hour: see what the anchor's journal says";
            self.say(Failure::Late, why.to_owned());
        }
        std::mem::take(&mut self.events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn purse(days_left: Option<u64>) -> LedgerPurse {
        let record_nanos = days_left.map(|_| 7);
        LedgerPurse { address: "0x5".to_owned(), balance_nanos: 5, spent_nanos: 6, record_nanos, days_left }
    }

    #[test]
    fn money_that_runs_out_is_said_once_and_once_that_it_lasts_again() {
        let mut watch = LedgerWatch::new(None);
        let mut look = |days_left| {
            watch.holds(purse(days_left));
            watch.events(BootTime(0))
        };
        assert_eq!(look(None), []);
        assert_eq!(look(Some(14)), []);
        assert_eq!(look(Some(13)), [Event::LedgerMoneyLow { balance_nanos: 5, days_left: 13 }]);
        assert_eq!(look(Some(0)), []);
        assert_eq!(look(Some(15)), []);
        assert_eq!(look(Some(16)), [Event::LedgerMoneyEnough { balance_nanos: 5 }]);
        assert_eq!(look(Some(15)), []);
    }

    #[test]
    fn an_hour_without_a_record_is_said_once_and_that_it_is_over_too() {
        let mut watch = LedgerWatch::new(None);
        watch.handed_in(BootTime(0));
        watch.handed_in(BootTime(HOUR / 2));
        assert_eq!(watch.events(BootTime(HOUR - 1)), []);
        assert!(matches!(watch.events(BootTime(HOUR))[..], [Event::LedgerFailed { .. }]));
        assert_eq!(watch.events(BootTime(2 * HOUR)), []);
        watch.added();
        assert_eq!(watch.events(BootTime(3 * HOUR)), [Event::LedgerRecovered {}]);
        assert_eq!(watch.events(BootTime(9 * HOUR)), []);
    }

    #[test]
    fn a_ledger_that_never_answers_is_late_as_well_and_one_that_answers_is_not() {
        let mut watch = LedgerWatch::new(Some(BootTime(0)));
        assert_eq!(watch.events(BootTime(HOUR)).len(), 1);
        let mut watch = LedgerWatch::new(Some(BootTime(0)));
        watch.opened();
        assert_eq!(watch.events(BootTime(HOUR)), []);
    }

    #[test]
    fn what_needs_somebody_is_said_at_once_although_it_was_said_that_it_is_late() {
        let mut watch = LedgerWatch::new(Some(BootTime(0)));
        assert_eq!(watch.events(BootTime(HOUR)).len(), 1);
        watch.failed("send it some".to_owned());
        watch.failed("send it some".to_owned());
        assert_eq!(watch.events(BootTime(HOUR)), [Event::LedgerFailed { why: "send it some".to_owned() }]);
        assert_eq!(watch.events(BootTime(HOUR)), []);
    }
}
