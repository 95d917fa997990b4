//! Whether the device's own meter and actuator work.

use grid_protocol::units::{BootTime, Millis};

/// A meter that is late by so many of its expected intervals is stale.
const STALE_AFTER: u64 = 3;
/// A meter that is late by so many has failed …
const FAILED_AFTER: u64 = 10;
/// … but not before this.
const FAILED_AT_LEAST: Millis = Millis(2000);
/// An actuator that failed must work for so long before it is believed, or one with a loose contact would fill the log.
const BELIEVED_AFTER: Millis = Millis(1000);

/// What an actuator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It limits.
    Limit,
    /// It says what is wanted.
    Demand,
}

/// What is known of meter and actuator.
#[derive(Clone, Debug)]
pub struct Health {
    interval: Millis,
    read: BootTime,
    /// What the meter said instead of a reading.
    complaint: Option<String>,
    limit: Trust,
    demand: Trust,
}

/// Whether the actuator does one of its duties.
#[derive(Clone, Debug)]
enum Trust {
    Works,
    Fails(String),
    /// It works again since then.
    OnTrial(String, BootTime),
}

impl Health {
    /// At the start both are believed to work. `interval` is what a reading may take at the most while all is well.
    pub fn new(interval: Millis, now: BootTime) -> Self {
        Self { interval, read: now, complaint: None, limit: Trust::Works, demand: Trust::Works }
    }

    /// Another interval holds from now on.
    pub fn expect_readings_within(&mut self, interval: Millis) {
        self.interval = interval;
    }

    /// How long readings may stay out before the meter is held to have failed.
    pub fn patience(&self) -> Millis {
        Millis(self.interval.0.saturating_mul(FAILED_AFTER)).max(FAILED_AT_LEAST)
    }

    /// A reading was taken.
    pub fn on_reading(&mut self, at: BootTime) {
        self.read = self.read.max(at);
        self.complaint = None;
    }

    /// The meter said something else.
    pub fn on_complaint(&mut self, why: String) {
        self.complaint = Some(why);
    }

    /// Whether the last reading says what flows now.
    pub fn is_fresh(&self, now: BootTime) -> bool {
        now.since(self.read).0 < self.interval.0.saturating_mul(STALE_AFTER)
    }

    /// Why the meter is held to have failed, if it is.
    pub fn meter_failure(&self, now: BootTime) -> Option<String> {
        let silent = now.since(self.read);
        (silent >= self.patience()).then(|| {
            let said = self.complaint.as_ref().map_or_else(String::new, |complaint| format!(": {complaint}"));
            format!("no reading for {silent}{said}")
        })
    }

    /// When the next of this changes by itself.
    pub fn changes_at(&self, now: BootTime) -> Option<BootTime> {
        let believed = [&self.limit, &self.demand].into_iter().filter_map(|trust| match trust {
            Trust::Works | Trust::Fails(_) => None,
            Trust::OnTrial(_, since) => Some(*since + BELIEVED_AFTER),
        });
        believed.chain([self.read + self.patience()]).filter(|at| *at > now).min()
    }

    /// The actuator did what it should, or said why not.
    pub fn on_actuator(&mut self, duty: Duty, result: Result<(), String>, now: BootTime) {
        let trust = match duty {
            Duty::Limit => &mut self.limit,
            Duty::Demand => &mut self.demand,
        };
        *trust = match (std::mem::replace(trust, Trust::Works), result) {
            (_, Err(why)) => Trust::Fails(why),
            (Trust::Works, Ok(())) => Trust::Works,
            (Trust::Fails(why), Ok(())) => Trust::OnTrial(why, now),
            (Trust::OnTrial(_, since), Ok(())) if now.since(since) >= BELIEVED_AFTER => Trust::Works,
            (trial @ Trust::OnTrial(..), Ok(())) => trial,
        };
    }

    /// Why the actuator is held to have failed, if it is.
    pub fn actuator_failure(&self, now: BootTime) -> Option<&str> {
        [&self.limit, &self.demand].into_iter().find_map(|trust| match trust {
            Trust::Works => None,
            Trust::Fails(why) => Some(why.as_str()),
            Trust::OnTrial(why, since) => (now.since(*since) < BELIEVED_AFTER).then_some(why.as_str()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(interval: u64) -> Health {
        let mut health = Health::new(Millis(interval), BootTime(0));
        health.on_reading(BootTime(1000));
        health
    }

    #[test]
    fn a_meter_is_stale_after_three_intervals_and_failed_after_ten_but_not_before_two_seconds() {
        for (interval, stale, failed) in [(170, 510, 2000), (500, 1500, 5000)] {
            let health = health(interval);
            assert!(health.is_fresh(BootTime(1000 + stale - 1)) && !health.is_fresh(BootTime(1000 + stale)));
            assert_eq!(health.meter_failure(BootTime(1000 + failed - 1)), None);
            let why = format!("no reading for {failed} ms");
            assert_eq!(health.meter_failure(BootTime(1000 + failed)), Some(why));
        }
    }

    #[test]
    fn a_meter_that_never_spoke_fails_too_and_what_it_says_instead_is_told() {
        let mut health = Health::new(Millis(170), BootTime(1000));
        health.on_complaint("no chip at 0x40".to_owned());
        assert_eq!(health.meter_failure(BootTime(2999)), None);
        let why = health.meter_failure(BootTime(3000)).unwrap();
        assert_eq!(why, "no reading for 2000 ms: no chip at 0x40");
        health.on_reading(BootTime(3001));
        assert_eq!(health.meter_failure(BootTime(3001)), None);
    }

    #[test]
    fn an_actuator_fails_at_once_and_is_believed_after_a_second() {
        let mut health = health(170);
        health.on_actuator(Duty::Demand, Err("no answer".to_owned()), BootTime(1000));
        health.on_actuator(Duty::Limit, Ok(()), BootTime(1001));
        assert_eq!(health.actuator_failure(BootTime(1500)), Some("no answer"));
        health.on_actuator(Duty::Demand, Ok(()), BootTime(2000));
        health.on_actuator(Duty::Demand, Ok(()), BootTime(2500));
        assert_eq!(health.actuator_failure(BootTime(2999)), Some("no answer"));
        assert_eq!(health.actuator_failure(BootTime(3000)), None);
    }

    #[test]
    fn an_actuator_with_a_loose_contact_stays_failed() {
        let mut health = health(170);
        for now in (1000..9000).step_by(300).map(BootTime) {
            health.on_actuator(Duty::Limit, Err("loose".to_owned()), now);
            health.on_actuator(Duty::Limit, Ok(()), now + Millis(150));
            assert!(health.actuator_failure(now + Millis(299)).is_some());
        }
    }
}
