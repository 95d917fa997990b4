//! Every state that a small street can reach.
//!
//! One transformer and two devices on one phase, with capacity for two units of current. Device 0 has failsafe 0 and is
//! allowed 0, 1 or 2 units; device 1 has failsafe 1 and is allowed 1 or 2. So either can be raised only when the other is
//! proven to be down, and device 0 never to 2.
//!
//! Time runs in ticks of one second, a lease lasts three. Every clock runs 1 % slow or 1 % fast. Between two ticks anything
//! can happen in any order: a device reports, or its actuator follows; the transformer sends anyone its failsafe limit
//! or all that its book lets it, whenever it likes; a message arrives; a party crashes and starts again.
//!
//! A message that was sent stays on its way. That it can arrive at any later time makes it late, that others can arrive
//! before makes it overtaken, that it still stays makes it come twice, and that it need not arrive makes it lost.
//!
//! # What is bounded, and why that hides nothing important
//!
//! - **Time**: [`Bounds::ticks`]. No lease and no window lasts longer than four ticks. The story begins when a transformer
//!   has been running for long and no device has a lease; what came before would only be more of the same.
//! - **Messages**: each device sends two reports and is sent two setpoints at most, and there are [`Bounds::reports`] and
//!   [`Bounds::setpoints`] together. To break any rule that we know takes two of each for one device, and one for the other.
//! - **Crashes**: one of each party.
//! - **Limits**: the failsafe limit, all that fits, and the capacity where nothing fits. A limit between those is never
//!   asked for; so a decrease to such a limit is left to [`crate::street`].
//! - **Current**: a device reports none, which reserves least and so leaves the most room for mistakes. With
//!   [`Bounds::overdraw`] device 0 also reports two units, whatever it is entitled to.
//! - **Time is whole seconds.** What hides between two ticks is for [`crate::street`] to find. What clocks make of a lease
//!   does show at a tick: counted without a margin it is over for a fast transformer three ticks on, but not for a slow
//!   device.
//! - **Steps without effect are left out**: a setpoint that its device refuses from now on is taken off its way; so is a
//!   report when no setpoint is left to send and its device has none that could be freed; the transformer sends nothing
//!   that would be refused at once; nobody crashes who has nothing to forget; and no time passes before the first
//!   report, since a later beginning only leaves less time.
//!
//! Nothing else is made equal: a state is told apart by all that the real books of its parties hold.

mod bounds;

use grid_agent::lease::{PerPhase, Terms};
use grid_protocol::message::{Phase, Session};
use grid_protocol::units::{BootTime, MilliAmps, Millis};
use stateright::{Model, Property};

use bounds::MOST_EACH;
pub use bounds::{Bounds, Clocks, FULL, QUICK, SMALL, hunting_ground};

use crate::Promise;
use crate::party::{Device, Site, Transformer};
use crate::twin::{Order, Place, Report, Weakness};

/// The least difference between limits.
const UNIT: i64 = 6_000;
const CAPACITY: MilliAmps = MilliAmps(2 * UNIT);
const ROOMS: [PerPhase; 1] = [[CAPACITY; 3]];
const FAILSAFE: [MilliAmps; DEVICES] = [MilliAmps(0), MilliAmps(UNIT)];
const DEVICES: usize = 2;
const LEASE: Millis = Millis(3000);
/// When the story begins: long after the transformer has started.
const START: u64 = 10_000;

/// Shows that the model gets somewhere: each device is raised, one of them after a decrease of the other was proven.
const PROVEN: &str = "a device is raised after another has proven its decrease";
/// Shows that the model gets somewhere: the other's only setpoint must have run out before.
const RUN_OUT: &str = "a device is raised after the lease of another has run out";
/// Shows that the model gets somewhere: the window at the start ends.
const RESTARTED: &str = "a device is raised by a transformer that has crashed and started again";

/// All that shows that the model gets somewhere.
pub const REACHED: [&str; 3] = [PROVEN, RUN_OUT, RESTARTED];

/// How fast a clock runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// 1 % slow.
    Slow,
    /// 1 % fast.
    Fast,
}

impl Rate {
    fn at(self, tick: u64) -> BootTime {
        let millis_per_tick = match self {
            Self::Slow => 990,
            Self::Fast => 1010,
        };
        BootTime(START + tick * millis_per_tick)
    }
}

/// A device and all that is on its way between it and the transformer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    rate: Rate,
    device: Device,
    /// In the order in which they were sent, which is not that in which they arrive.
    reports: Vec<Report>,
    orders: Vec<Order>,
    reports_left: u8,
    orders_left: u8,
    crashes_left: u8,
    /// It has accepted a setpoint above its failsafe limit that was no hold, from the transformer's present session.
    raised: bool,
}

/// One moment of the street.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    tick: u64,
    rate: Rate,
    transformer: Transformer,
    reports_left: u8,
    orders_left: u8,
    crashes_left: u8,
    branches: [Branch; DEVICES],
    /// A setpoint that may raise was sent although reported current filled the room.
    onto_current: bool,
}

impl State {
    fn now(&self) -> BootTime {
        self.rate.at(self.tick)
    }
}

impl Branch {
    fn now(&self, tick: u64) -> BootTime {
        self.rate.at(tick)
    }
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A second passes.
    Tick,
    /// A device reports that this current flows.
    Report(usize, MilliAmps),
    /// A device's actuator follows.
    Settle(usize),
    /// The transformer sends a device its failsafe limit.
    Lower(usize),
    /// The transformer sends a device all that fits; where nothing does, the whole capacity, which is then a hold.
    Raise(usize),
    /// A report arrives at the transformer, and stays on its way.
    Hear(usize, usize),
    /// A setpoint arrives at its device, and stays on its way.
    Accept(usize, usize),
    /// A device crashes and starts again.
    RestartDevice(usize),
    /// The transformer crashes and starts again.
    RestartTransformer,
}

/// The model of a street whose parties may be weakened.
#[derive(Clone, Debug)]
pub struct SmallStreet {
    bounds: Bounds,
    site: Site,
}

impl SmallStreet {
    /// The street within bounds, with one rule broken or none.
    pub fn new(bounds: Bounds, weakness: Option<Weakness>) -> Self {
        let places = FAILSAFE.map(|failsafe| Place { node: 0, phases: vec![Phase::L1], failsafe });
        let terms = Terms { ttl: LEASE, max_ttl: LEASE };
        Self { bounds, site: Site { weakness, terms, parents: vec![None], places: places.to_vec() } }
    }

    fn device(&self, number: usize, life: u8) -> Device {
        Device::new(&self.site, number, Session(10 * (number as u64 + 1) + u64::from(life)))
    }

    fn branch(&self, number: usize, rate: Rate) -> Branch {
        Branch {
            rate,
            device: self.device(number, 0),
            reports: Vec::new(),
            orders: Vec::new(),
            reports_left: MOST_EACH,
            orders_left: MOST_EACH,
            crashes_left: self.bounds.device_crashes,
            raised: false,
        }
    }

    fn is_first_session(&self, state: &State) -> bool {
        state.crashes_left == self.bounds.transformer_crashes
    }

    /// Sends a setpoint, unless its device would refuse it anyway.
    fn send(&self, state: &mut State, number: usize, limit: MilliAmps) -> Option<()> {
        let order = state.transformer.send(number, limit, &ROOMS, state.now())?;
        let branch = &mut state.branches[number];
        branch.device.clone().accept(&order, branch.now(state.tick))?;
        branch.orders.push(order);
        branch.orders_left -= 1;
        state.orders_left -= 1;
        let may_raise = !order.hold && order.limit > FAILSAFE[number];
        state.onto_current |= may_raise && !Self::current_fits(state);
        Some(())
    }

    /// Takes what can have no effect any more off its way, so that states which differ in nothing else are one.
    fn tidy(state: &mut State) {
        let (tick, transformer, last) = (state.tick, &state.transformer, state.crashes_left == 0);
        for (number, branch) in state.branches.iter_mut().enumerate() {
            let now = branch.now(tick);
            branch.device.forget_what_is_over(now);
            let device = &branch.device;
            // What is refused now is refused for good: a session that is over does not come back, neither does a time
            // or a number, and order is forgotten only when everything that was sent before is over.
            branch.orders.retain(|order| device.clone().accept(order, now).is_some());
            // A report matters while it could lead to a setpoint, or free what a setpoint still grants.
            let matters = state.orders_left > 0 || !branch.orders.is_empty() || branch.device.holds_a_lease(now);
            branch.reports.retain(|report| matters && (!last || transformer.is_news(number, report)));
        }
    }

    /// Whether all that devices may draw or were heard to draw fits.
    fn current_fits(state: &State) -> bool {
        let now = state.now();
        let branches = state.branches.iter().enumerate();
        let most = branches.map(|(number, branch)| {
            branch.device.entitled(branch.now(state.tick)).max(state.transformer.measured(number, now))
        });
        most.sum::<MilliAmps>() <= CAPACITY
    }
}

impl Model for SmallStreet {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let clock = |fast: bool| if fast { Rate::Fast } else { Rate::Slow };
        let bits = match self.bounds.clocks {
            Clocks::Worst => 1..2,
            Clocks::All => 0..8,
        };
        let all = bits.map(|bits: u8| [1, 2, 4].map(|bit| clock(bits & bit != 0)));
        let start = |[rate, first, second]: [Rate; 3]| State {
            tick: 0,
            rate,
            transformer: Transformer::new(&self.site, Session(1), 1, BootTime(0)),
            reports_left: self.bounds.reports,
            orders_left: self.bounds.setpoints,
            crashes_left: self.bounds.transformer_crashes,
            branches: [self.branch(0, first), self.branch(1, second)],
            onto_current: false,
        };
        all.map(start).collect()
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let begun = state.reports_left < self.bounds.reports;
        if begun && state.tick < self.bounds.ticks {
            steps.push(Step::Tick);
        }
        if state.crashes_left > 0 && state.transformer.has_heard() {
            steps.push(Step::RestartTransformer);
        }
        for (number, branch) in state.branches.iter().enumerate() {
            let leased = branch.device.lease(branch.now(state.tick)).is_some();
            let answerable = branch.orders_left > 0 && state.orders_left > 0;
            if branch.reports_left > 0 && state.reports_left > 0 && (answerable || leased) {
                steps.push(Step::Report(number, MilliAmps::ZERO));
                if number == 0 && self.bounds.overdraw {
                    steps.push(Step::Report(number, CAPACITY));
                }
            }
            if branch.orders_left > 0 && state.orders_left > 0 {
                steps.extend([Step::Lower(number), Step::Raise(number)]);
            }
            if branch.device.behind(branch.now(state.tick)).is_some() {
                steps.push(Step::Settle(number));
            }
            if branch.crashes_left > 0 && branch.reports_left < MOST_EACH {
                steps.push(Step::RestartDevice(number));
            }
            let places = 0..branch.reports.len();
            steps.extend(places.map(|place| Step::Hear(number, place)));
            let places = 0..branch.orders.len();
            steps.extend(places.map(|place| Step::Accept(number, place)));
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        let (tick, now) = (state.tick, state.now());
        match step {
            Step::Tick => state.tick += 1,
            Step::Report(number, current) => {
                let branch = &mut state.branches[number];
                branch.reports.push(branch.device.report(current, branch.rate.at(tick)));
                branch.reports_left -= 1;
                state.reports_left -= 1;
            }
            Step::Settle(number) => state.branches[number].device.settle(),
            Step::Lower(number) => self.send(&mut state, number, FAILSAFE[number])?,
            Step::Raise(number) => {
                let fitting = state.transformer.book().fitting(number, &ROOMS, now);
                let limit = if fitting > FAILSAFE[number] { fitting } else { CAPACITY };
                self.send(&mut state, number, limit)?;
            }
            Step::Hear(number, place) => {
                let report = state.branches[number].reports[place];
                if !state.transformer.is_news(number, &report) {
                    return None;
                }
                state.transformer.hear(number, &report, now);
            }
            Step::Accept(number, place) => {
                let branch = &mut state.branches[number];
                let order = branch.orders[place];
                let lease = branch.device.accept(&order, branch.rate.at(tick))?;
                let of_this_session = lease.by.session == state.transformer.book().session();
                branch.raised |= !order.hold && lease.limit > FAILSAFE[number] && of_this_session;
            }
            Step::RestartDevice(number) => {
                let branch = &mut state.branches[number];
                branch.device = self.device(number, branch.crashes_left);
                branch.crashes_left -= 1;
            }
            Step::RestartTransformer => {
                let epoch = state.transformer.book().epoch() + 1;
                state.transformer = Transformer::new(&self.site, Session(epoch), epoch, now);
                state.crashes_left -= 1;
                state.branches.iter_mut().for_each(|branch| branch.raised = false);
            }
        }
        Self::tidy(&mut state);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(Promise::Rule.says(), |_, state: &State| {
                let entitled = state.branches.iter().map(|branch| branch.device.entitled(branch.now(state.tick)));
                entitled.sum::<MilliAmps>() <= CAPACITY
            }),
            Property::always(Promise::Books.says(), |_, state: &State| {
                state.branches.iter().enumerate().all(|(number, branch)| {
                    let owed = state.transformer.answers_for(&branch.device, branch.now(state.tick), state.now());
                    owed <= state.transformer.book().counted(number, 0, state.now())
                })
            }),
            Property::always(Promise::Current.says(), |_, state: &State| !state.onto_current),
            // Before the third tick no lease has run out.
            Property::sometimes(PROVEN, |model, state: &State| {
                state.tick < 3 && model.is_first_session(state) && state.branches.iter().all(|branch| branch.raised)
            }),
            Property::sometimes(RUN_OUT, |model: &Self, state: &State| {
                let alone = |branch: &Branch| branch.raised && branch.orders_left + 1 == MOST_EACH;
                model.is_first_session(state) && state.branches.iter().all(alone)
            }),
            Property::sometimes(RESTARTED, |model, state: &State| {
                !model.is_first_session(state) && state.branches.iter().any(|branch| branch.raised)
            }),
        ]
    }
}
