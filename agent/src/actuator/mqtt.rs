//! A charger that is commanded by MQTT, through a broker connection of its own.
//!
//! Such a charger obeys the last it was told, also when the agent, the broker or the cable is gone. So it needs a fallback
//! of its own, and is fed: what it is to obey is said again and again, as long as a lease allows it. Leases end earlier by
//! the time that the charger takes to fall back ([`super::guard::Manners::change_time`]); from then on it is told the
//! failsafe limit, and if that does not get through, it falls back in time by itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use grid_service::broker::Broker;
use grid_service::clock::boot_now;
use grid_service::link::{Delivery, Incoming, Link, Loss};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::ActuatorError;
use super::guard::Hardware;
use super::settings::{MqttSection, ReadBack};

/// How long a start waits for the broker. What comes later is sent when it is there.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What the broker and the charger say is looked at this often.
const LOOK_BACK_EVERY: Millis = Millis(100);
/// A broker that is there answers much sooner.
const ANSWERS_WITHIN: Millis = Millis(2_000);
/// A charger that did not obey is left off for so long.
const DISTRUST: Millis = Millis(60_000);

/// The charger.
pub struct Charger {
    words: Words,
    seen: Arc<Mutex<Seen>>,
    /// Left with a goodbye.
    link: Option<Link>,
    runtime: Runtime,
    limit: MilliAmps,
    /// When it is to be told again.
    repeat_at: Option<BootTime>,
    /// Why the charger has not heard what it was told last, as the broker says.
    unheard: Option<String>,
    /// How many answers the broker had given, and since when it gave no other though it owes some.
    heard: u64,
    silent_since: Option<BootTime>,
    obedience: Obedience,
}

/// What is said to it, and how often.
struct Words {
    section: MqttSection,
    min_ma: MilliAmps,
    phases: usize,
}

/// What came over the connection.
#[derive(Debug, Default)]
struct Seen {
    connected: bool,
    lost: Option<String>,
    /// The limit that the charger says it obeys, and when that came.
    limit: Option<(MilliAmps, BootTime)>,
}

impl Words {
    fn is_off(&self, limit: MilliAmps) -> bool {
        limit < self.min_ma && self.section.off_payload.is_some()
    }

    /// What is to be said, topic and payload: the limit before anything that switches on.
    fn of(&self, limit: MilliAmps) -> Vec<(&str, String)> {
        let section = &self.section;
        let switch = section.off_topic.as_deref().unwrap_or(&section.topic);
        if let Some(off) = section.off_payload.as_ref().filter(|_| limit < self.min_ma) {
            return vec![(switch, off.clone())];
        }
        let limit = if limit < self.min_ma { MilliAmps::ZERO } else { limit };
        let told = (section.topic.as_str(), section.payload.fill(limit, self.phases));
        let on = section.on_payload.as_ref().map(|on| (switch, on.clone()));
        std::iter::once(told).chain(on).collect()
    }
}

impl Charger {
    /// Connects as `client`; if that takes long, it goes on meanwhile. A limit below `min_ma` switches the charger off.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub fn open(
        section: MqttSection,
        broker: &Broker,
        client: &Name,
        min_ma: MilliAmps,
        phases: usize,
    ) -> Result<Self, ActuatorError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| ActuatorError(format!("no thread for the charger: {error}")))?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let entered = runtime.enter();
        let filters = section.read_back.iter().map(|back| back.topic.clone()).collect();
        let (link, incoming) = Link::open(broker, client, filters);
        runtime.spawn(listen(incoming, seen.clone(), section.read_back.clone(), phases));
        drop(entered);
        let began = Instant::now();
        while !lock(&seen).connected && began.elapsed() < CONNECT_WITHIN {
            thread::sleep(LOOK_EVERY);
        }
        let words = Words { section, min_ma, phases };
        Ok(Self {
            words,
            seen,
            link: Some(link),
            runtime,
            limit: MilliAmps::ZERO,
            repeat_at: None,
            unheard: None,
            heard: 0,
            silent_since: None,
            obedience: Obedience::default(),
        })
    }

    fn say(&mut self, now: BootTime) -> Result<(), ActuatorError> {
        // What does not get through is not said: it stays due.
        self.repeat_at = Some(now);
        let Some(link) = &self.link else { return Ok(()) };
        link.forget_refusal();
        for (topic, payload) in self.words.of(self.limit) {
            link.publish(topic, payload.into_bytes(), Delivery::Assured).map_err(|not_sent| {
                let why = lock(&self.seen).lost.clone().map_or_else(String::new, |why| format!(" ({why})"));
                ActuatorError(format!("the charger cannot be told its limit: {not_sent}{why}"))
            })?;
        }
        self.repeat_at = Some(now + self.words.section.repeat_ms);
        Ok(())
    }

    /// Whether the broker has passed on what was said last, or may still take its time.
    fn heed_answers(&mut self, now: BootTime) -> Result<(), ActuatorError> {
        let Some(link) = &self.link else { return Ok(()) };
        let answers = link.answers();
        if answers.waiting == 0 {
            self.unheard = answers.refused;
        }
        if answers.waiting == 0 || answers.given != self.heard {
            (self.heard, self.silent_since) = (answers.given, None);
        } else if now.since(*self.silent_since.get_or_insert(now)) >= ANSWERS_WITHIN {
            self.unheard = Some(format!("the broker has not answered within {ANSWERS_WITHIN}"));
        }
        let Some(why) = &self.unheard else { return Ok(()) };
        let topics: Vec<&str> = self.words.of(self.limit).into_iter().map(|(topic, _)| topic).collect();
        Err(ActuatorError(format!(
            "the charger does not hear what it is told on {}: {why}; check its connection, the topics, and the grants of the \
             broker",
            topics.join(" and ")
        )))
    }

    /// Whether the charger says that it obeys, or may still take its time.
    fn look_back(&mut self, now: BootTime) -> Result<(), ActuatorError> {
        let Some(back) = &self.words.section.read_back else { return Ok(()) };
        let is_new = |said: BootTime| back.max_age_ms.is_none_or(|most| now.since(said) <= most);
        let said = lock(&self.seen).limit.filter(|(_, said)| is_new(*said)).map(|(limit, _)| limit);
        // While it is switched off, what it would draw if it were not says nothing.
        let limit = if self.words.is_off(self.limit) { None } else { Some(self.limit) };
        self.obedience.judge(limit, said, self.words.section.change_time_ms, now).map_err(|disobeys| {
            ActuatorError(format!(
                "the charger was told {}, but {} on {}: check its topics, and whether something else commands it",
                disobeys.told, disobeys, back.topic
            ))
        })
    }
}

/// Whether a charger does what it says that it was told.
#[derive(Debug, Default)]
struct Obedience {
    /// Since when it has not said that it obeys.
    otherwise: Option<BootTime>,
    /// When it was last found not to obey, and how.
    failed: Option<(BootTime, Disobedience)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Disobedience {
    told: MilliAmps,
    said: Option<MilliAmps>,
    after: Millis,
}

impl fmt::Display for Disobedience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.said {
            Some(said) => write!(f, "says {said} after {}", self.after),
            None => write!(f, "says nothing that can be read after {}", self.after),
        }
    }
}

impl Obedience {
    /// Judges what it said of the limit it was told; of one that is off nothing can be said.
    fn judge(
        &mut self,
        told: Option<MilliAmps>,
        said: Option<MilliAmps>,
        patience: Millis,
        now: BootTime,
    ) -> Result<(), Disobedience> {
        let Some(told) = told else {
            self.otherwise = None;
            // Switching it off is what follows a failure. If that were a cure, it would fail again in a moment.
            return match self.failed {
                Some((at, disobeys)) if now.since(at) < DISTRUST => Err(disobeys),
                Some(_) | None => Ok(()),
            };
        };
        if said.is_some_and(|said| said <= told) {
            *self = Self::default();
            return Ok(());
        }
        if now.since(*self.otherwise.get_or_insert(now)) < patience {
            return Ok(());
        }
        let disobeys = Disobedience { told, said, after: patience };
        self.failed = Some((now, disobeys));
        Err(disobeys)
    }
}

impl Hardware for Charger {
    fn apply(&mut self, limit: MilliAmps, now: BootTime) -> Result<(), ActuatorError> {
        self.limit = limit;
        self.say(now)
    }

    fn attend(&mut self, now: BootTime) -> Result<Option<BootTime>, ActuatorError> {
        if self.repeat_at.is_some_and(|at| at <= now) {
            self.say(now)?;
        }
        self.heed_answers(now)?;
        self.look_back(now)?;
        let look = now + LOOK_BACK_EVERY;
        Ok(Some(self.repeat_at.map_or(look, |at| at.min(look))))
    }

    fn prove(&mut self) -> Result<(), ActuatorError> {
        let began = boot_now();
        let is_owed = |charger: &Self| charger.link.as_ref().is_some_and(|link| link.answers().waiting > 0);
        while is_owed(self) && boot_now().since(began) < ANSWERS_WITHIN {
            thread::sleep(LOOK_EVERY);
        }
        if let Some(link) = &self.link {
            // All this time counts, whatever else was answered in it.
            (self.heard, self.silent_since) = (link.answers().given, Some(began));
        }
        self.heed_answers(boot_now())
    }
}

impl Drop for Charger {
    fn drop(&mut self) {
        if let Some(link) = self.link.take() {
            self.runtime.block_on(link.close());
        }
    }
}

async fn listen(
    mut incoming: mpsc::Receiver<Incoming>,
    seen: Arc<Mutex<Seen>>,
    read_back: Option<ReadBack>,
    phases: usize,
) {
    while let Some(incoming) = incoming.recv().await {
        match incoming {
            // Without a last will: it could not wait for the end of the lease.
            Incoming::Dialing(answer) => drop(answer),
            Incoming::Connected => lock(&seen).connected = true,
            Incoming::Message(received) => {
                // How old a kept copy is nobody knows.
                let counts = |back: &&ReadBack| !received.retained || back.max_age_ms.is_none();
                if let Some(back) = read_back.as_ref().filter(counts) {
                    let limit = back.unit.read(&received.payload, &back.pointer, phases);
                    lock(&seen).limit = limit.map(|limit| (limit, boot_now()));
                }
            }
            Incoming::Lost(loss) => {
                let why = match loss {
                    Loss::ThrownOut => "somebody else uses its name".to_owned(),
                    Loss::Broken(why) => why,
                };
                let mut seen = lock(&seen);
                // What it says meanwhile is missed.
                (seen.connected, seen.lost, seen.limit) = (false, Some(why), None);
            }
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // Plain values, whole at any time.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(more: &str) -> Words {
        let text = format!("topic = \"wb/limit\"\npayload = \"{{{{amps}}}}\"\n{more}");
        Words { section: toml::from_str(&text).unwrap(), min_ma: MilliAmps(6_000), phases: 3 }
    }

    #[test]
    fn a_charger_without_a_switch_is_told_nothing_at_all_below_its_minimum() {
        let words = words("");
        assert_eq!(words.of(MilliAmps(13_500)), [("wb/limit", "13.5".to_owned())]);
        assert_eq!(words.of(MilliAmps(5_999)), [("wb/limit", "0".to_owned())]);
    }

    #[test]
    fn a_charger_that_did_not_obey_is_left_off_for_a_minute() {
        let mut obedience = Obedience::default();
        let mut judge = |told: Option<i64>, said: Option<i64>, now| {
            obedience.judge(told.map(MilliAmps), said.map(MilliAmps), Millis(500), BootTime(now)).is_ok()
        };
        assert!(judge(Some(8_000), Some(16_000), 0) && judge(Some(8_000), None, 499), "it has its time");
        assert!(!judge(Some(8_000), Some(16_000), 500));
        assert!(!judge(None, Some(16_000), 600) && !judge(None, Some(0), 60_499));
        assert!(judge(None, Some(16_000), 60_500));
        assert!(judge(Some(8_000), Some(16_000), 61_000) && !judge(Some(8_000), Some(16_000), 61_500));
        assert!(judge(Some(8_000), Some(8_000), 61_600), "it obeys");
        assert!(judge(None, Some(8_000), 61_700));
    }

    #[test]
    fn a_charger_with_a_switch_has_its_limit_before_it_is_on() {
        let words = words("off_topic = \"wb/enable\"\noff_payload = \"0\"\non_payload = \"1\"");
        assert_eq!(words.of(MilliAmps(0)), [("wb/enable", "0".to_owned())]);
        assert_eq!(words.of(MilliAmps(6_000)), [("wb/limit", "6".to_owned()), ("wb/enable", "1".to_owned())]);
    }
}
