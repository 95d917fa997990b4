//! How much of what nobody vouches for is logged: a forgery attempt is evidence, a flood of them is not more of it.

use std::collections::HashMap;

use grid_protocol::units::{BootTime, Millis};

const PER_TOPIC: Millis = Millis(1000);
const WINDOW: Millis = Millis(1000);
const PER_WINDOW: u32 = 10;
const REPORT_EVERY: Millis = Millis(60_000);

/// At most 1/s per topic and 10/s together; the rest is counted.
#[derive(Debug, Default)]
pub struct Limit {
    topics: HashMap<String, BootTime>,
    window: Option<(BootTime, u32)>,
    refused: u64,
    refused_since: Option<BootTime>,
}

impl Limit {
    /// Whether a message on `topic` may be logged now. One that may not is counted.
    pub fn allows(&mut self, topic: &str, now: BootTime) -> bool {
        let (start, count) = self.window.filter(|(start, _)| now.since(*start) < WINDOW).unwrap_or((now, 0));
        let fresh = |last: &BootTime| now.since(*last) < PER_TOPIC;
        if count >= PER_WINDOW || self.topics.get(topic).is_some_and(fresh) {
            self.refuse(now);
            return false;
        }
        self.window = Some((start, count + 1));
        // At most 10 topics a second get in, so this stays small.
        self.topics.retain(|_, last| fresh(last));
        self.topics.insert(topic.to_owned(), now);
        true
    }

    /// Counts a message that is not logged.
    pub fn refuse(&mut self, now: BootTime) {
        self.refused += 1;
        self.refused_since.get_or_insert(now);
    }

    /// Once a minute, how many were not logged since the last time, if any.
    pub fn report(&mut self, now: BootTime) -> Option<u64> {
        self.refused_since.filter(|since| now.since(*since) >= REPORT_EVERY)?;
        self.report_now()
    }

    /// How many were not logged since the last time, if any.
    pub fn report_now(&mut self) -> Option<u64> {
        self.refused_since = None;
        Some(std::mem::take(&mut self.refused)).filter(|refused| *refused > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_topic_gets_one_a_second_and_all_together_ten() {
        let mut limit = Limit::default();
        let logged = |limit: &mut Limit, topic: &str, from, to| {
            (from..to).step_by(10).filter(|ms| limit.allows(topic, BootTime(*ms))).count()
        };
        assert_eq!(logged(&mut limit, "a", 0, 5000), 5);
        let many = (0..100).filter(|n| limit.allows(&format!("t{n}"), BootTime(10_000 + n))).count();
        assert_eq!(many, 10);
    }

    #[test]
    fn the_rest_is_reported_once_a_minute() {
        let mut limit = Limit::default();
        assert_eq!((0..5).filter(|_| limit.allows("a", BootTime(0))).count(), 1);
        assert_eq!(limit.report(BootTime(59_999)), None);
        assert_eq!(limit.report(BootTime(60_000)), Some(4));
        assert_eq!(limit.report(BootTime(180_000)), None);
    }
}
