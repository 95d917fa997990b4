//! One run of a device's agent: what of a charging session lies in it.
//!
//! Times are the agent's own, which are right even where a message was replayed hours later, put on the anchor's clock: a
//! message cannot have been received before it was said, so the smallest difference between the two clocks over all
//! messages of the run is what they differ by, and the fastest message's way. Where the agent says that its clock was
//! stepped, the step is taken out.

use std::collections::BTreeMap;

use grid_protocol::message::{Activity, Event, Measurement, Reason, Reference};
use grid_protocol::units::{MilliAmps, MilliWattHours, Millis, UnixMillis};

use super::order::InOrder;
use super::setpoints::Setpoints;

/// Less than this is no drawing: a meter's noise (the agent's own rule).
const DRAWS: MilliAmps = MilliAmps(250);
/// A device that wants current reports every few seconds; what it said holds no longer than this.
const HOLDS_FOR: i64 = 15_000;

/// What an agent said.
#[derive(Clone, Debug)]
pub struct Said {
    /// When the anchor received it.
    pub received: UnixMillis,
    /// When it was said, on the agent's clock.
    pub time: UnixMillis,
    /// What.
    pub what: What,
}

/// What of it tells of charging.
#[derive(Clone, Debug)]
pub enum What {
    /// Charging began; the meter's total.
    Started(MilliWattHours),
    /// Charging ended; the meter's total.
    Ended(MilliWattHours),
    /// What is measured and wanted.
    Measured(Gist),
    /// The agent's clock was set forwards by so much.
    Stepped(i64),
    /// Anything else.
    Other,
}

/// What a measurement tells.
#[derive(Clone, Copy, Debug)]
pub struct Gist {
    wants: bool,
    draws: bool,
    cause: Cause,
    energy: MilliWattHours,
}

/// Why a device may not draw all that it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// It may.
    None,
    /// For the reason of this setpoint.
    Setpoint(Reference),
    /// It has no lease.
    Failsafe,
    /// Its meter or actuator does not work.
    Fault,
}

impl From<&Event> for What {
    fn from(event: &Event) -> Self {
        match event {
            Event::ChargingStarted { energy_mwh } => Self::Started(*energy_mwh),
            Event::ChargingEnded { energy_mwh } => Self::Ended(*energy_mwh),
            Event::ClockStepped { by_ms } => Self::Stepped(*by_ms),
            _ => Self::Other,
        }
    }
}

impl From<&Measurement> for What {
    fn from(measured: &Measurement) -> Self {
        let cause = match (measured.state, measured.obeys) {
            (Activity::Fault, _) => Cause::Fault,
            _ if measured.limit_ma >= measured.demand_ma => Cause::None,
            (_, Some(setpoint)) => Cause::Setpoint(setpoint),
            (_, None) => Cause::Failsafe,
        };
        Self::Measured(Gist {
            wants: measured.demand_ma > MilliAmps::ZERO,
            draws: measured.current_ma.iter().any(|current| *current > DRAWS),
            cause,
            energy: measured.energy_mwh,
        })
    }
}

/// How long a device was held back, and by what.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    known: BTreeMap<String, i64>,
    /// By setpoints that have not come yet.
    open: Vec<(Reference, i64)>,
}

impl Tally {
    fn add(&mut self, cause: Cause, span: i64, setpoints: &Setpoints) {
        match cause {
            Cause::None => {}
            Cause::Failsafe => self.add_known(Reason::Failsafe.to_string(), span),
            Cause::Fault => self.add_known("fault".to_owned(), span),
            Cause::Setpoint(by) => match setpoints.reason(by) {
                Some(reason) => self.add_reason(reason, span),
                None => match self.open.last_mut() {
                    Some((last, so_far)) if *last == by => *so_far = so_far.saturating_add(span),
                    Some(_) | None => self.open.push((by, span)),
                },
            },
        }
    }

    fn add_reason(&mut self, reason: &Reason, span: i64) {
        match reason {
            // It got all it asked for, and asks for more since.
            Reason::Demand | Reason::Maximum => {}
            Reason::Phase(_)
            | Reason::Fuse(_)
            | Reason::Minimum
            | Reason::Turn
            | Reason::Ramp
            | Reason::Dimming
            | Reason::Operator
            | Reason::Failsafe => self.add_known(reason.to_string(), span),
        }
    }

    fn add_known(&mut self, reason: String, span: i64) {
        let so_far = self.known.entry(reason).or_default();
        *so_far = so_far.saturating_add(span);
    }

    /// Adds another's times.
    pub fn merge(&mut self, other: Self) {
        other.known.into_iter().for_each(|(reason, span)| self.add_known(reason, span));
        self.open.extend(other.open);
    }

    /// All reasons with their milliseconds, when all setpoints are known that ever will be.
    pub fn close(mut self, setpoints: &Setpoints) -> BTreeMap<String, i64> {
        for (by, span) in std::mem::take(&mut self.open) {
            match setpoints.reason(by) {
                Some(reason) => self.add_reason(reason, span),
                None => self.add_known("unknown".to_owned(), span),
            }
        }
        self.known
    }
}

/// How a part of a charging session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The agent said so.
    Told,
    /// The agent wants no current any more, but no event says when it ended.
    Seen,
    /// Not in this run.
    Open,
}

/// What of a charging session lies in one run. Times are milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Part {
    /// Since when current was wanted.
    pub wanted_at: i64,
    /// When it began to draw.
    pub started_at: i64,
    /// An event says so; otherwise it was drawing when the log or the range began.
    pub start_told: bool,
    /// It wanted current as long as there is anything known of this run.
    pub from_first: bool,
    /// When it ended, or was last heard of.
    pub until: i64,
    /// How it ended.
    pub end: End,
    /// What it drew in this run.
    pub energy: MilliWattHours,
    /// What held it back since it wanted current.
    pub tally: Tally,
    energy_from: MilliWattHours,
}

/// What a run tells.
#[derive(Debug)]
pub struct Told {
    /// When it began.
    pub began: i64,
    /// What of charging sessions lies in it.
    pub parts: Vec<Part>,
}

/// One run of an agent.
#[derive(Debug)]
pub struct Run {
    order: InOrder<Said>,
    story: Story,
}

/// What is known of a run so far.
#[derive(Debug, Default)]
struct Story {
    /// How far the agent's clock was set forwards so far.
    stepped: i64,
    /// The smallest difference so far between the anchor's clock and the agent's.
    offset: Option<i64>,
    parts: Vec<Part>,
    wish: Option<Wish>,
    newest: Option<Newest>,
    /// When its first message was said.
    began: Option<i64>,
}

/// The device has wanted current since then.
#[derive(Debug)]
struct Wish {
    since: i64,
    from_first: bool,
    tally: Tally,
}

/// The newest measurement, and up to when it was counted.
#[derive(Debug)]
struct Newest {
    at: i64,
    counted: i64,
    gist: Gist,
}

impl Run {
    /// A run of which nothing is known; `first` as for [`InOrder::new`].
    pub fn new(first: Option<u64>) -> Self {
        Self { order: InOrder::new(first), story: Story::default() }
    }

    /// Takes what the agent said as its message `seq`.
    pub fn add(&mut self, seq: u64, said: Said, setpoints: &Setpoints) {
        self.order.push(seq, said, |said| self.story.go_on(said, setpoints));
    }

    /// When it began, and the parts of charging sessions in it, on the anchor's clock.
    pub fn finish(mut self, setpoints: &Setpoints) -> Told {
        self.order.finish(|said| self.story.go_on(said, setpoints));
        let offset = self.story.offset.unwrap_or(0);
        let began = self.story.began.unwrap_or(0).saturating_add(offset);
        for part in &mut self.story.parts {
            for time in [&mut part.wanted_at, &mut part.started_at, &mut part.until] {
                *time = time.saturating_add(offset);
            }
        }
        Told { began, parts: self.story.parts }
    }
}

/// A moment to reckon with. Senders and the log may claim any.
fn signed(at: UnixMillis) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

impl Story {
    fn go_on(&mut self, said: Said, setpoints: &Setpoints) {
        if let What::Stepped(by) = said.what {
            self.stepped = self.stepped.saturating_add(by);
        }
        let at = signed(said.time).saturating_sub(self.stepped);
        let difference = signed(said.received).saturating_sub(at);
        self.offset = Some(self.offset.map_or(difference, |offset| offset.min(difference)));
        self.began.get_or_insert(at);
        self.count(at, setpoints);
        match said.what {
            What::Started(energy) => {
                if let Some(part) = self.open() {
                    part.end = End::Seen;
                }
                self.start(at, true, energy);
            }
            What::Ended(energy) => {
                // It was drawing before anything is known.
                if self.open().is_none() && self.newest.is_none() {
                    self.start(at, false, energy);
                }
                self.end(at, End::Told, energy);
            }
            What::Measured(gist) => self.measured(at, gist),
            What::Stepped(_) | What::Other => {}
        }
    }

    fn open(&mut self) -> Option<&mut Part> {
        self.parts.last_mut().filter(|part| part.end == End::Open)
    }

    /// Counts the time up to now as the newest measurement says.
    fn count(&mut self, at: i64, setpoints: &Setpoints) {
        let Some(newest) = &mut self.newest else { return };
        let until = at.min(newest.at.saturating_add(HOLDS_FOR));
        let span = until.saturating_sub(newest.counted);
        if span <= 0 || !newest.gist.wants {
            return;
        }
        newest.counted = until;
        let cause = newest.gist.cause;
        let open = self.parts.last_mut().filter(|part| part.end == End::Open).map(|part| &mut part.tally);
        if let Some(tally) = open.or(self.wish.as_mut().map(|wish| &mut wish.tally)) {
            tally.add(cause, span, setpoints);
        }
    }

    fn measured(&mut self, at: i64, gist: Gist) {
        let first = self.newest.is_none();
        self.newest = Some(Newest { at, counted: at, gist });
        if !gist.wants {
            self.wish = None;
            self.end(at, End::Seen, gist.energy);
            return;
        }
        if let Some(part) = self.open() {
            part.until = at;
            part.energy = gist.energy - part.energy_from;
            return;
        }
        self.wish.get_or_insert_with(|| Wish { since: at, from_first: first, tally: Tally::default() });
        if gist.draws {
            self.start(at, false, gist.energy);
        }
    }

    fn start(&mut self, at: i64, told: bool, energy: MilliWattHours) {
        let wish =
            self.wish.take().unwrap_or(Wish { since: at, from_first: self.newest.is_none(), tally: Tally::default() });
        self.parts.push(Part {
            wanted_at: wish.since,
            started_at: at,
            start_told: told,
            from_first: wish.from_first,
            until: at,
            end: End::Open,
            energy: MilliWattHours::ZERO,
            tally: wish.tally,
            energy_from: energy,
        });
    }

    fn end(&mut self, at: i64, how: End, energy: MilliWattHours) {
        if let Some(part) = self.open() {
            part.until = at;
            part.end = how;
            part.energy = energy - part.energy_from;
        }
    }
}

impl Part {
    /// Goes on with what the next run of the agent tells of the same session.
    pub fn go_on(&mut self, next: Self) {
        self.until = next.until;
        self.end = next.end;
        self.energy += next.energy;
        self.tally.merge(next.tally);
    }

    /// How long it drew.
    pub fn duration(&self) -> Millis {
        Millis(self.until.saturating_sub(self.started_at).max(0).unsigned_abs())
    }

    /// How long it wanted current before it drew any.
    pub fn waited(&self) -> Millis {
        Millis(self.started_at.saturating_sub(self.wanted_at).max(0).unsigned_abs())
    }
}
