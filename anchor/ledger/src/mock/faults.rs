//! Faults of a node, on demand, for those who must survive them.
//!
//! A plan is written as faults between commas, each a kind and what limits it, between colons:
//!
//! ```text
//! KIND[:CHANCE][:after=N][:first=N][:on=CALL][,…][,seed=N]
//!
//! refuse         does nothing, and answers UNAVAILABLE: an overloaded node
//! rate-limit     does nothing, and answers RESOURCE_EXHAUSTED: too many questions from this address;
//!                with a time, as in rate-limit:2s, it says to come again after that
//! delay:500ms    waits before it does anything (also in s)
//! drop-answer    does everything, and breaks the connection instead of answering
//! time-out       executes, and answers UNAVAILABLE: the node does not know what the validators did
//! abort          executes, but the first Move call aborts, as if the state had just changed; it is paid for
//!
//! CHANCE         how often, from 0 to 1; always without it
//! after=N        lets the first N of its calls pass
//! first=N        concerns N of its calls, and then no more
//! on=CALL        execute, simulate, or read (everything else); without it all calls, for the last three kinds execute
//! seed=N         the same calls in the same order meet the same faults; without it another one each time, which is logged
//! ```
//!
//! `drop-answer:0.2,delay:2s:0.05,seed=7` executes every fifth transaction without saying so, and is slow now and then.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::NOT_IOTA;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    Refuse,
    /// After which time to come again, if that is said.
    RateLimit(Option<Duration>),
    Delay(Duration),
    DropAnswer,
    TimeOut,
    Abort,
}

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Execute,
    Simulate,
    Read,
}

#[derive(Clone, Debug, PartialEq)]
struct Fault {
    kind: FaultKind,
    /// `None`: all calls.
    on: Option<Call>,
    chance: f64,
    after: u64,
    first: Option<u64>,
}

/// What is to go wrong, and when. It is parsed from text; the module's documentation has the grammar.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaultPlan {
    faults: Vec<Fault>,
    seed: Option<u64>,
}

/// A text that is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} in the fault {fault:?}: {expected}")]
pub struct NoFaultPlan {
    /// The fault that it is in.
    fault: String,
    /// The part that makes no sense.
    part: String,
    /// What could stand there.
    expected: &'static str,
}

/// The faults of a mock that is running, which can be changed while it runs. Clones are the same faults.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Running>>);

#[derive(Debug, Default)]
struct Running {
    plan: FaultPlan,
    /// Of each fault, how many of its calls there were.
    seen: Vec<u64>,
    chance: Option<StdRng>,
    happened: u64,
}

impl Faults {
    /// From now on these are the faults; their calls are counted from here.
    pub fn set(&self, mut plan: FaultPlan) {
        let seed = *plan.seed.get_or_insert_with(|| u64::from(rand::random::<u32>()));
        if !plan.faults.is_empty() {
            tracing::info!(%plan, "faults on demand ({NOT_IOTA})");
        }
        let (seen, chance) = (vec![0; plan.faults.len()], Some(StdRng::seed_from_u64(seed)));
        *self.lock() = Running { plan, seen, chance, happened: 0 };
    }

    /// Nothing goes wrong any more.
    pub fn clear(&self) {
        self.set(FaultPlan::default());
    }

    /// What goes wrong, with the seed that makes it go wrong again.
    pub fn plan(&self) -> FaultPlan {
        self.lock().plan.clone()
    }

    /// How many faults there were since they were set.
    pub fn happened(&self) -> u64 {
        self.lock().happened
    }

    /// What happens to a call that has just come in.
    pub(super) fn next(&self, call: Call) -> Fate {
        let running = &mut *self.lock();
        let mut fate = Vec::new();
        for (fault, seen) in running.plan.faults.iter().zip(&mut running.seen) {
            if fault.on.is_some_and(|on| on != call) {
                continue;
            }
            let at = *seen;
            *seen += 1;
            let ends = fault.first.map_or(u64::MAX, |first| fault.after.saturating_add(first));
            let mut happens = || running.chance.as_mut().is_some_and(|chance| chance.gen_bool(fault.chance));
            if at >= fault.after && at < ends && happens() {
                fate.push(fault.kind);
            }
        }
        running.happened += fate.len() as u64;
        Fate(fate)
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that goes wrong with one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fate(Vec<FaultKind>);

impl Fate {
    pub(super) fn has(&self, kind: FaultKind) -> bool {
        self.0.contains(&kind)
    }

    /// Whether the address is limited, and after which time to come again.
    pub(super) fn rate_limit(&self) -> Option<Option<Duration>> {
        self.0.iter().find_map(|kind| if let FaultKind::RateLimit(wait) = kind { Some(*wait) } else { None })
    }

    /// How long to wait, all delays together.
    pub(super) fn delay(&self) -> Duration {
        let delay = |kind: &FaultKind| if let FaultKind::Delay(delay) = kind { *delay } else { Duration::ZERO };
        self.0.iter().map(delay).sum()
    }
}

impl FromStr for FaultPlan {
    type Err = NoFaultPlan;

    fn from_str(text: &str) -> Result<Self, NoFaultPlan> {
        let mut plan = Self::default();
        for fault in text.split(',').map(str::trim).filter(|fault| !fault.is_empty()) {
            match fault.strip_prefix("seed=") {
                Some(seed) => plan.seed = Some(number(fault, seed)?),
                None => plan.faults.push(fault.parse()?),
            }
        }
        Ok(plan)
    }
}

impl FromStr for Fault {
    type Err = NoFaultPlan;

    fn from_str(text: &str) -> Result<Self, NoFaultPlan> {
        let wrong = |part: &str, expected| NoFaultPlan { fault: text.to_owned(), part: part.to_owned(), expected };
        let mut parts = text.split(':').peekable();
        let kind = parts.next().unwrap_or_default();
        let (kind, mut on) = match kind {
            "refuse" => (FaultKind::Refuse, None),
            "rate-limit" => {
                let wait = parts.peek().and_then(|part| duration(part));
                if wait.is_some() {
                    parts.next();
                }
                (FaultKind::RateLimit(wait), None)
            }
            "delay" => {
                let by = parts.next().unwrap_or_default();
                let delay =
                    duration(by).ok_or_else(|| wrong(by, "delay takes a time, as in delay:500ms or delay:2s"))?;
                (FaultKind::Delay(delay), None)
            }
            "drop-answer" => (FaultKind::DropAnswer, Some(Call::Execute)),
            "time-out" => (FaultKind::TimeOut, Some(Call::Execute)),
            "abort" => (FaultKind::Abort, Some(Call::Execute)),
            unknown => {
                return Err(wrong(unknown, "there are refuse, rate-limit, delay, drop-answer, time-out and abort"));
            }
        };
        let (mut chance, mut after, mut first) = (1.0, 0, None);
        for part in parts {
            match part.split_once('=') {
                Some(("after", calls)) => after = number(text, calls)?,
                Some(("first", calls)) => first = Some(number(text, calls)?),
                Some(("on", call)) => {
                    let call = Call::from_name(call);
                    let call = call.ok_or_else(|| wrong(part, "on= takes execute, simulate or read"))?;
                    if matches!(kind, FaultKind::TimeOut | FaultKind::Abort) && call != Call::Execute {
                        return Err(wrong(part, "this happens to what is executed only"));
                    }
                    on = Some(call);
                }
                Some(_) => return Err(wrong(part, "there are after=, first= and on=")),
                None => {
                    let given = part.parse().ok().filter(|chance| (0.0..=1.0).contains(chance));
                    chance = given.ok_or_else(|| wrong(part, "a chance is between 0 and 1, as in 0.1"))?;
                }
            }
        }
        Ok(Self { kind, on, chance, after, first })
    }
}

fn number(fault: &str, text: &str) -> Result<u64, NoFaultPlan> {
    let wrong = |_| NoFaultPlan { fault: fault.to_owned(), part: text.to_owned(), expected: "a whole number" };
    text.parse().map_err(wrong)
}

fn duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(millis) => Some(Duration::from_millis(millis.parse().ok()?)),
        None => Some(Duration::from_secs(text.strip_suffix('s')?.parse().ok()?)),
    }
}

impl Call {
    const ALL: [Self; 3] = [Self::Execute, Self::Simulate, Self::Read];

    fn name(self) -> &'static str {
        match self {
            Self::Execute => "execute",
            Self::Simulate => "simulate",
            Self::Read => "read",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.name() == name)
    }
}

/// As it is parsed.
impl fmt::Display for FaultPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults = self.faults.iter().map(ToString::to_string);
        let all: Vec<_> = faults.chain(self.seed.map(|seed| format!("seed={seed}"))).collect();
        formatter.write_str(&all.join(","))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FaultKind::Refuse => formatter.write_str("refuse")?,
            FaultKind::RateLimit(None) => formatter.write_str("rate-limit")?,
            FaultKind::RateLimit(Some(wait)) => write!(formatter, "rate-limit:{}ms", wait.as_millis())?,
            FaultKind::Delay(delay) => write!(formatter, "delay:{}ms", delay.as_millis())?,
            FaultKind::DropAnswer => formatter.write_str("drop-answer")?,
            FaultKind::TimeOut => formatter.write_str("time-out")?,
            FaultKind::Abort => formatter.write_str("abort")?,
        }
        if self.chance < 1.0 {
            write!(formatter, ":{}", self.chance)?;
        }
        if self.after > 0 {
            write!(formatter, ":after={}", self.after)?;
        }
        if let Some(first) = self.first {
            write!(formatter, ":first={first}")?;
        }
        self.on.map_or(Ok(()), |on| write!(formatter, ":on={}", on.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(plan: &str) -> Faults {
        let faults = Faults::default();
        faults.set(plan.parse().unwrap());
        faults
    }

    #[test]
    fn a_plan_says_what_it_was_parsed_from() {
        for plan in [
            "",
            "refuse",
            "rate-limit:0.1:on=read",
            "rate-limit:1500ms:0.1:first=1",
            "delay:500ms",
            "delay:2000ms:0.25:after=3:first=1:on=simulate",
            "drop-answer:0.2:on=execute,time-out:first=2:on=execute,abort:after=1:on=execute,seed=7",
        ] {
            let parsed: FaultPlan = plan.parse().unwrap();
            assert_eq!(parsed.to_string(), plan);
        }
        assert_eq!("delay:2s, refuse".parse(), "delay:2000ms,refuse".parse::<FaultPlan>());
        assert_eq!("drop-answer".parse(), "drop-answer:on=execute".parse::<FaultPlan>());
    }

    #[test]
    fn what_is_no_plan_is_named() {
        for (plan, part) in [
            ("lose", "lose"),
            ("refuse,forget:0.1", "forget"),
            ("refuse:1.5", "1.5"),
            ("refuse:often", "often"),
            ("refuse:-0.1", "-0.1"),
            ("refuse:NaN", "NaN"),
            ("delay", ""),
            ("delay:0.1", "0.1"),
            ("delay:5m", "5m"),
            ("refuse:first=x", "x"),
            ("refuse:last=1", "last=1"),
            ("refuse:on=write", "on=write"),
            ("abort:on=read", "on=read"),
            ("seed=x", "x"),
        ] {
            let error = plan.parse::<FaultPlan>().unwrap_err();
            assert_eq!(error.part, part, "{error}");
        }
    }

    #[test]
    fn a_fault_concerns_its_calls_and_no_others() {
        let faults = faults("refuse:after=1:first=2:on=execute");
        assert!(!faults.next(Call::Execute).has(FaultKind::Refuse));
        for _ in 0..5 {
            assert_eq!(faults.next(Call::Read), Fate::default());
        }
        assert!(faults.next(Call::Execute).has(FaultKind::Refuse));
        assert!(faults.next(Call::Execute).has(FaultKind::Refuse));
        assert!(!faults.next(Call::Execute).has(FaultKind::Refuse));
        assert_eq!(faults.happened(), 2);
    }

    #[test]
    fn several_faults_happen_to_one_call() {
        let faults = faults("delay:1s,delay:20ms:on=simulate,drop-answer:on=simulate");
        let fate = faults.next(Call::Simulate);
        assert_eq!(fate.delay(), Duration::from_millis(1020));
        assert!(fate.has(FaultKind::DropAnswer));
        assert_eq!(faults.next(Call::Read).delay(), Duration::from_secs(1));
    }

    #[test]
    fn the_same_seed_brings_the_same_faults_as_often_as_was_asked() {
        let fates = |plan| {
            let faults = faults(plan);
            (0..1000).map(|_| faults.next(Call::Read).has(FaultKind::Refuse)).collect::<Vec<_>>()
        };
        let first = fates("refuse:0.2,seed=7");
        assert_eq!(first, fates("refuse:0.2,seed=7"));
        assert_ne!(first, fates("refuse:0.2,seed=8"));
        let happened = first.iter().filter(|happens| **happens).count();
        assert!((120..280).contains(&happened), "{happened}");
    }

    #[test]
    fn faults_can_be_changed_and_ended() {
        let faults = faults("refuse:first=1");
        let clone = faults.clone();
        assert!(clone.next(Call::Read).has(FaultKind::Refuse));
        faults.set("refuse:first=1".parse().unwrap());
        assert!(clone.next(Call::Read).has(FaultKind::Refuse));
        faults.set("refuse".parse().unwrap());
        faults.clear();
        assert_eq!(clone.next(Call::Read), Fate::default());
        assert_eq!(faults.happened(), 0);
    }
}
