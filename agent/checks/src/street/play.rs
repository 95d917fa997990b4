//! Plays one random street and watches it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;

use grid_agent::lease::{Lease, PerPhase, heartbeat};
use grid_protocol::message::Session;
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::{Case, Chance, Happening};
use crate::Promise;
use crate::party::{Device, Site, Transformer};
use crate::twin::{Order, Report, Weakness};

/// All clocks show this when the story begins.
const START: u64 = 100_000;
/// What a person needs to read to understand a failure.
const HISTORY: usize = 60;
/// An increase that was not obeyed within this is sent again.
const ON_THE_WAY: Millis = Millis(200);
/// Decreases are repeated this often (rule 9).
const REPEAT: Millis = Millis(50);
/// The longest time that an actuator takes to follow.
const ACTUATOR: u64 = 400;
/// The longest time that a car takes to follow (IEC 61851-1).
const CAR: u64 = 5_000;

/// How a street broke, with its configuration and the end of its history.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The promise that was not kept.
    pub promise: Promise,
    story: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story)
    }
}

/// What is due at some time.
#[derive(Clone, Copy, Debug)]
enum Due {
    Happening(Happening),
    Look,
    Beat(usize, Session),
    Settle(usize, Session),
    Hear(usize, Report),
    Accept(usize, Order),
}

/// One line of a street's history.
#[derive(Clone, Copy, Debug)]
enum Told {
    Heard(usize, Report),
    Room(usize, PerPhase),
    DeviceStarts(usize, Session),
    TransformerStarts(Session),
    Reports(usize, Report),
    Accepts(usize, Lease),
    Sends(usize, Order),
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heard(device, report) => write!(f, "transformer hears device {device}: {report}"),
            Self::Room(node, [l1, l2, l3]) => write!(f, "the room of node {node} becomes {l1}, {l2}, {l3}"),
            Self::DeviceStarts(device, session) => write!(f, "device {device} starts again as {session}"),
            Self::TransformerStarts(session) => write!(f, "transformer starts again as {session}"),
            Self::Reports(device, report) => write!(f, "device {device} reports {report}"),
            Self::Accepts(device, Lease { limit, ends, by }) => {
                write!(f, "device {device} obeys setpoint {}: {limit} until {} on its clock", by.seq, ends.0)
            }
            Self::Sends(device, order) => write!(f, "transformer sends device {device} {order}"),
        }
    }
}

/// The transformer's newest setpoint to a device, and what it wishes for it.
#[derive(Clone, Copy, Debug, Default)]
struct Plan {
    wish: MilliAmps,
    /// What the device last said that it obeys.
    obeyed: MilliAmps,
    sent: Option<(MilliAmps, Millis)>,
}

struct Play<'a> {
    case: &'a Case,
    site: Site,
    chance: Chance,
    now: Millis,
    /// What is due, in order; the number keeps those of one moment in the order in which they came to be.
    agenda: BinaryHeap<Reverse<(u64, usize)>>,
    dues: Vec<Due>,
    transformer: Transformer,
    devices: Vec<Device>,
    sessions: u64,
    plans: Vec<Plan>,
    /// Until when a car goes on drawing what it drew.
    flows: Vec<(MilliAmps, Millis)>,
    rooms: Vec<PerPhase>,
    /// What failsafe limits take.
    reserved: Vec<PerPhase>,
    /// Of each node and phase, the room that was found when last something was sent there that may raise.
    found: Vec<PerPhase>,
    /// What is watched.
    promises: &'a [Promise],
    history: VecDeque<(Millis, Told)>,
}

/// Plays a street with one rule broken or none. An error says how one of the promises was broken.
pub fn play(case: &Case, weakness: Option<Weakness>, promises: &[Promise]) -> Result<(), Broken> {
    let mut play = Play::new(case, weakness, promises);
    while let Some(Reverse((at, due))) = play.agenda.pop() {
        if at > case.length.0 {
            break;
        }
        play.now = Millis(at);
        play.act(play.dues[due])?;
        play.check()?;
    }
    Ok(())
}

impl<'a> Play<'a> {
    fn new(case: &'a Case, weakness: Option<Weakness>, promises: &'a [Promise]) -> Self {
        let site = case.site(weakness);
        let mut reserved = vec![[MilliAmps::ZERO; 3]; case.parents.len()];
        for place in &case.places {
            for node in path(&case.parents, place.node) {
                for phase in &place.phases {
                    reserved[node][phase.index()] += place.failsafe;
                }
            }
        }
        let rooms: Vec<PerPhase> =
            reserved.iter().zip(&case.spare).map(|(taken, spare)| taken.map(|taken| taken + *spare)).collect();
        let count = case.places.len();
        let devices = (0..count).map(|number| Device::new(&site, number, Session(100 + number as u64))).collect();
        let mut play = Self {
            case,
            transformer: Transformer::new(&site, Session(1), 1, BootTime(0)),
            site,
            chance: Chance(case.seed),
            now: Millis::ZERO,
            agenda: BinaryHeap::new(),
            dues: Vec::new(),
            devices,
            sessions: 1000,
            plans: vec![Plan::default(); count],
            flows: vec![(MilliAmps::ZERO, Millis::ZERO); count],
            found: rooms.clone(),
            rooms,
            reserved,
            promises,
            history: VecDeque::new(),
        };
        for event in &case.events {
            play.plan(event.at, Due::Happening(event.what));
        }
        for number in 0..count {
            let first = Millis(play.chance.up_to(300));
            play.plan(first, Due::Beat(number, play.devices[number].session()));
        }
        play.plan(Millis::ZERO, Due::Look);
        play
    }

    fn plan(&mut self, at: Millis, due: Due) {
        self.dues.push(due);
        self.agenda.push(Reverse((at.0, self.dues.len() - 1)));
    }

    /// The time on the clock of the transformer (0) or of a device (its number and 1).
    fn clock(&self, whose: usize) -> BootTime {
        BootTime(START + self.now.0 * self.case.rates[whose] / 1000)
    }

    fn tell(&mut self, told: Told) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((self.now, told));
    }

    /// Sends something on its way: it may be lost, late, or come twice.
    fn post(&mut self, due: Due) {
        if self.chance.percent(self.case.lost) {
            return;
        }
        let copies = if self.chance.percent(self.case.doubled) { 2 } else { 1 };
        for copy in 0..copies {
            let late = copy > 0 || self.chance.percent(self.case.delayed);
            let delay = if late { self.chance.up_to(self.case.slowest.0) } else { self.chance.up_to(3) };
            self.plan(self.now + Millis(delay), due);
        }
    }

    fn act(&mut self, due: Due) -> Result<(), Broken> {
        match due {
            Due::Happening(what) => self.happen(what),
            Due::Look => {
                for number in 0..self.devices.len() {
                    self.lead(number)?;
                }
                self.plan(self.now + self.case.poll, Due::Look);
            }
            Due::Beat(number, session) => {
                if self.devices[number].session() == session {
                    self.report(number);
                    let beat = heartbeat(self.case.terms.ttl).0;
                    let wait = beat / 2 + self.chance.up_to(beat);
                    self.plan(self.now + Millis(wait), due);
                }
            }
            Due::Settle(number, session) => {
                if self.devices[number].session() == session {
                    self.devices[number].settle();
                    self.report(number);
                }
            }
            Due::Hear(number, report) => {
                if self.transformer.is_news(number, &report) {
                    let now = self.clock(0);
                    self.transformer.hear(number, &report, now);
                    self.plans[number].obeyed = report.limit;
                    self.tell(Told::Heard(number, report));
                }
            }
            Due::Accept(number, order) => self.accept(number, &order),
        }
        Ok(())
    }

    fn happen(&mut self, what: Happening) {
        let count = self.devices.len();
        match what {
            Happening::Wish(number, percent) => {
                let number = number % count;
                let place = &self.site.places[number];
                let room = place.phases.iter().map(|phase| self.rooms[place.node][phase.index()]).min();
                self.plans[number].wish = room.unwrap_or_default().percent(percent);
            }
            Happening::Room(node, percent) => {
                let node = node % self.rooms.len();
                let spare = self.case.spare[node].percent(percent);
                self.rooms[node] = self.reserved[node].map(|taken| taken + spare);
                let room = self.rooms[node];
                self.tell(Told::Room(node, room));
            }
            Happening::RestartDevice(number) => {
                let number = number % count;
                self.sessions += 1;
                let session = Session(self.sessions);
                self.devices[number] = Device::new(&self.site, number, session);
                self.tell(Told::DeviceStarts(number, session));
                self.plan(self.now, Due::Beat(number, session));
            }
            Happening::RestartTransformer => {
                self.sessions += 1;
                let (session, epoch) = (Session(self.sessions), self.transformer.book().epoch() + 1);
                self.transformer = Transformer::new(&self.site, session, epoch, self.clock(0));
                self.plans.iter_mut().for_each(|plan| plan.sent = None);
                self.tell(Told::TransformerStarts(session));
            }
        }
    }

    fn report(&mut self, number: usize) {
        let now = self.clock(number + 1);
        let (flow, until) = self.flows[number];
        let entitled = self.devices[number].entitled(now);
        let current = if self.now < until { flow } else { entitled.percent(self.chance.up_to(100).cast_signed()) };
        let report = self.devices[number].report(current, now);
        self.tell(Told::Reports(number, report));
        self.post(Due::Hear(number, report));
    }

    fn accept(&mut self, number: usize, order: &Order) {
        let now = self.clock(number + 1);
        let drew = self.devices[number].entitled(now);
        let Some(lease) = self.devices[number].accept(order, now) else { return };
        self.tell(Told::Accepts(number, lease));
        if lease.limit < drew && self.chance.percent(self.case.sluggish) {
            self.flows[number] = (drew, self.now + Millis(self.chance.up_to(CAR)));
        }
        let session = self.devices[number].session();
        if self.devices[number].behind(now).is_some() {
            let follows = self.now + Millis(self.chance.up_to(ACTUATOR));
            self.plan(follows, Due::Settle(number, session));
        } else {
            self.devices[number].settle();
        }
        self.report(number);
    }

    /// Leads one device to what is wished for it.
    fn lead(&mut self, number: usize) -> Result<(), Broken> {
        let now = self.clock(0);
        let Plan { wish, obeyed, sent } = self.plans[number];
        let fitting = self.transformer.book().fitting(number, &self.rooms, now);
        let senseless = self.chance.percent(2);
        let wish = if senseless { MilliAmps(self.chance.up_to(40_000).cast_signed()) } else { wish };
        let most = if fitting < obeyed { obeyed } else { fitting };
        // Room that is gone is taken back: from everybody alike, as long as it is.
        let limit = if fitting < MilliAmps::ZERO { wish.min(obeyed.percent(70)) } else { wish.min(most) };
        let limit = if senseless { wish } else { limit };
        let since_sent = sent.map_or(Millis(u64::MAX), |(_, at)| Millis(self.now.0 - at.0));
        let again = sent.is_none_or(|(before, _)| before != limit);
        let due = if limit == obeyed {
            since_sent >= heartbeat(self.case.terms.ttl)
        } else {
            again || since_sent >= if limit > obeyed { ON_THE_WAY } else { REPEAT }
        };
        if !(due || senseless) {
            return Ok(());
        }
        let Some(order) = self.transformer.send(number, limit, &self.rooms, now) else { return Ok(()) };
        self.tell(Told::Sends(number, order));
        self.plans[number].sent = Some((limit, self.now));
        let place = &self.site.places[number];
        if !order.hold {
            for node in path(&self.case.parents, place.node) {
                for phase in &place.phases {
                    self.found[node][phase.index()] = self.rooms[node][phase.index()];
                }
            }
        }
        if !order.hold && order.limit > place.failsafe {
            self.check_current(number)?;
        }
        self.post(Due::Accept(number, order));
        Ok(())
    }

    /// The rule, and the books.
    fn check(&self) -> Result<(), Broken> {
        let sums = self.sums(|number| self.devices[number].entitled(self.clock(number + 1)));
        for (node, (sum, room)) in sums.iter().zip(&self.found).enumerate() {
            if sum.iter().zip(room).any(|(sum, room)| sum > room) {
                let what = format!("devices are entitled to {sum:?} behind node {node}, which had {room:?}");
                self.broken(Promise::Rule, &what)?;
            }
        }
        let now = self.clock(0);
        for (number, device) in self.devices.iter().enumerate() {
            let owed = self.transformer.answers_for(device, self.clock(number + 1), now);
            let counted = self.transformer.book().counted(number, 0, now);
            if owed > counted {
                let what = format!("device {number} is entitled to {owed}, and {counted} is counted");
                self.broken(Promise::Books, &what)?;
            }
        }
        Ok(())
    }

    /// Rule 5: nobody is raised onto current that is reported.
    fn check_current(&self, raised: usize) -> Result<(), Broken> {
        let now = self.clock(0);
        let draws = |number: usize| {
            self.devices[number].entitled(self.clock(number + 1)).max(self.transformer.measured(number, now))
        };
        let sums = self.sums(draws);
        let place = &self.site.places[raised];
        for node in path(&self.case.parents, place.node) {
            for phase in &place.phases {
                let (sum, room) = (sums[node][phase.index()], self.rooms[node][phase.index()]);
                if sum > room {
                    let what = format!("device {raised} is raised onto {sum} of {room} at node {node}");
                    self.broken(Promise::Current, &what)?;
                }
            }
        }
        Ok(())
    }

    fn sums(&self, of: impl Fn(usize) -> MilliAmps) -> Vec<PerPhase> {
        let mut sums = vec![[MilliAmps::ZERO; 3]; self.rooms.len()];
        for (number, place) in self.site.places.iter().enumerate() {
            let current = of(number);
            for node in path(&self.case.parents, place.node) {
                for phase in &place.phases {
                    sums[node][phase.index()] += current;
                }
            }
        }
        sums
    }

    fn broken(&self, promise: Promise, what: &str) -> Result<(), Broken> {
        if !self.promises.contains(&promise) {
            return Ok(());
        }
        let history: Vec<_> = self.history.iter().map(|(at, told)| format!("{:>6} {told}", at.0)).collect();
        let story = format!("{what} after {}\n{}{}", self.now, self.case, history.join("\n"));
        Err(Broken { promise, story })
    }
}

/// A node, its parent, and so on up to the transformer.
fn path(parents: &[Option<usize>], node: usize) -> impl Iterator<Item = usize> + '_ {
    std::iter::successors(Some(node), |node| parents[*node])
}
