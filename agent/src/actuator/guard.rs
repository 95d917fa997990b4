//! A lease binds the actuator, not the process: a thread of its own owns the hardware and knows when the lease ends.
//!
//! It is told a limit and until when that may stand. If it is not told again by then, it sets the failsafe limit, whether
//! control has crashed, hangs or only sleeps. What it cannot outlive is its process: when that dies,
//! `ExecStopPost=grid-agent safe` sets the safe state. And what it cannot break off is a call to the hardware that does not
//! come back, in which the end of a lease would be missed: [`Actuator::is_overdue`] says so, systemd's watchdog is fed no more,
//! and the process ends.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use grid_protocol::units::{BootTime, MilliAmps, Millis};
use grid_service::clock::boot_now;

use super::{Actuator, ActuatorError};

/// How long control waits, once, for what the hardware says. Usually that takes microseconds; a busy machine may take a break.
const PATIENCE: Duration = Duration::from_millis(200);
/// What failed is tried again this often.
const AGAIN: Millis = Millis(100);
/// A condition variable waits on `CLOCK_MONOTONIC`, which stands still while the machine sleeps. So the clock of leases is
/// looked at this often: a lease that ran out during the sleep ends so soon after it.
const LOOK_AT_THE_CLOCK: Duration = Duration::from_millis(100);
/// Longer than anything takes that the hardware will do after all.
const OVERDUE: Duration = Duration::from_secs(1);
/// How long the end waits for the hardware.
const LAST_PATIENCE: Duration = Duration::from_secs(3);

/// What a guard owns: sets limits, and may take its time.
pub trait Hardware: Send {
    /// Limits the current per phase from now on.
    ///
    /// # Errors
    /// If the hardware does not do it. It is tried again.
    fn apply(&mut self, limit: MilliAmps, now: BootTime) -> Result<(), ActuatorError>;

    /// Does what was to be done later, and says when it is to be called next. It is called after each `apply`, too.
    ///
    /// # Errors
    /// As long as the hardware does not do what it was told.
    fn attend(&mut self, now: BootTime) -> Result<Option<BootTime>, ActuatorError> {
        let _ = now;
        Ok(None)
    }

    /// Waits until what was applied is known to have arrived: who sets the safe state and ends has nobody to tell later.
    ///
    /// # Errors
    /// If it has not.
    fn prove(&mut self) -> Result<(), ActuatorError> {
        Ok(())
    }
}

/// How a guarded actuator behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manners {
    /// The limit without a live lease.
    pub failsafe: MilliAmps,
    /// What the device always wants: such hardware cannot tell. What is not used is lent on.
    pub demand: MilliAmps,
    /// How long a change takes at most; leases end so much earlier.
    pub change_time: Millis,
}

/// An actuator whose hardware goes to the failsafe limit by itself.
pub struct Guard {
    shared: Arc<Shared>,
    manners: Manners,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What the thread has not taken yet.
    order: Option<Order>,
    /// How many orders were given, and which was answered last, how.
    given: u64,
    answered: u64,
    answer: Option<Result<(), ActuatorError>>,
    /// Since when the thread owes something: an answer, or its return from the hardware.
    owes_since: Option<Instant>,
    /// What the hardware does not do now, though nobody asked.
    fault: Option<ActuatorError>,
    /// What it did not do since that was last told, though it may do it again.
    untold: Option<ActuatorError>,
    closing: bool,
    ended: bool,
}

#[derive(Clone, Copy)]
struct Order {
    number: u64,
    limit: MilliAmps,
    until: Option<BootTime>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most so long for `done`. Says whether it came true.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        longest: Duration,
        done: impl Fn(&State) -> bool,
    ) -> (MutexGuard<'a, State>, bool) {
        let end = Instant::now() + longest;
        let mut state = state;
        while !done(&state) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return (state, false);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        (state, true)
    }
}

impl Guard {
    /// Gives the hardware, which is in its safe state, to a thread of its own.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub fn start(hardware: Box<dyn Hardware>, manners: Manners) -> Result<Self, ActuatorError> {
        let shared = Arc::new(Shared::default());
        let (watch, with) = (Watch::new(hardware, manners.failsafe), shared.clone());
        let thread = thread::Builder::new().name("actuator".to_owned()).spawn(move || run(watch, &with));
        thread.map_err(|error| ActuatorError(format!("no thread for the actuator: {error}")))?;
        Ok(Self { shared, manners })
    }
}

impl Actuator for Guard {
    fn set(&mut self, limit: MilliAmps, until: Option<BootTime>) -> Result<(), ActuatorError> {
        let mut state = self.shared.lock();
        let hangs = state.answered < state.given;
        state.given += 1;
        let number = state.given;
        state.order = Some(Order { number, limit, until });
        state.owes_since.get_or_insert_with(Instant::now);
        self.shared.changed.notify_all();
        // Who hangs is not waited for again and again: control has other things to do.
        let patience = if hangs { Duration::ZERO } else { PATIENCE };
        let (state, answered) = self.shared.wait(state, patience, |state| state.answered == number);
        match (&state.answer, answered) {
            (Some(answer), true) => answer.clone(),
            (_, _) => Err(ActuatorError(format!("the actuator does not answer within {} ms", PATIENCE.as_millis()))),
        }
    }

    fn demand(&mut self) -> Result<MilliAmps, ActuatorError> {
        let mut state = self.shared.lock();
        let untold = state.untold.take();
        state.fault.clone().or(untold).map_or(Ok(self.manners.demand), Err)
    }

    fn change_time(&self) -> Millis {
        self.manners.change_time
    }

    fn is_overdue(&self) -> bool {
        self.shared.lock().owes_since.is_some_and(|since| since.elapsed() >= OVERDUE)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.changed.notify_all();
        let (_state, ended) = self.shared.wait(state, LAST_PATIENCE, |state| state.ended);
        if !ended {
            tracing::error!("the actuator's hardware does not answer, and may not be in its safe state");
        }
    }
}

/// The thread: waits for orders and for what is due.
fn run(mut watch: Watch, shared: &Shared) {
    let mut state = shared.lock();
    while !state.closing {
        let order = state.order.take();
        let now = boot_now();
        let due = watch.due();
        if order.is_none() && due.is_none_or(|due| now < due) {
            let nap = due.map_or(LOOK_AT_THE_CLOCK, |due| Duration::from_millis(due.since(now).0));
            let nap = nap.min(LOOK_AT_THE_CLOCK);
            state = shared.changed.wait_timeout(state, nap).unwrap_or_else(PoisonError::into_inner).0;
            continue;
        }
        // The hardware may take its time: nobody waits for the lock meanwhile.
        state.owes_since.get_or_insert_with(Instant::now);
        drop(state);
        let answer = order.map(|order| (order.number, watch.order(order.limit, order.until, now)));
        watch.attend(now);
        state = shared.lock();
        if let Some((number, answer)) = answer {
            (state.answered, state.answer) = (number, Some(answer));
        }
        state.owes_since = state.order.map(|_| Instant::now());
        state.fault.clone_from(&watch.fault);
        if watch.fault.is_some() {
            state.untold.clone_from(&watch.fault);
        }
        shared.changed.notify_all();
    }
    drop(state);
    watch.close(boot_now());
    drop(watch);
    shared.lock().ended = true;
    shared.changed.notify_all();
}

/// What the thread knows, with `now` as an argument.
struct Watch {
    hardware: Box<dyn Hardware>,
    failsafe: MilliAmps,
    /// Until when what is set may stand.
    until: Option<BootTime>,
    /// The failsafe limit is to be set, from then on.
    lapses: Option<BootTime>,
    /// When the hardware wants to be attended.
    attention: Option<BootTime>,
    fault: Option<ActuatorError>,
}

impl Watch {
    fn new(hardware: Box<dyn Hardware>, failsafe: MilliAmps) -> Self {
        let attention = Some(BootTime(0));
        Self { hardware, failsafe, until: None, lapses: None, attention, fault: None }
    }

    /// When something is to be done next without an order.
    fn due(&self) -> Option<BootTime> {
        [self.until, self.lapses, self.attention].into_iter().flatten().min()
    }

    fn order(&mut self, limit: MilliAmps, until: Option<BootTime>, now: BootTime) -> Result<(), ActuatorError> {
        if until.is_some_and(|until| until <= now) {
            // It was over before it was taken.
            self.until = until;
            return Ok(());
        }
        self.attention = Some(now);
        let applied = self.hardware.apply(limit, now);
        match &applied {
            Ok(()) => (self.until, self.lapses) = (until, None),
            // What was set before may still stand, and not for longer than it might.
            Err(_) => self.until = [self.until, until].into_iter().flatten().min(),
        }
        applied
    }

    /// Does what is due.
    fn attend(&mut self, now: BootTime) {
        if self.until.is_some_and(|until| until <= now) {
            (self.until, self.lapses) = (None, Some(now));
        }
        let mut fault = None;
        if self.lapses.is_some_and(|at| at <= now) {
            let applied = self.hardware.apply(self.failsafe, now);
            self.attention = Some(now);
            self.lapses = applied.is_err().then_some(now + AGAIN);
            fault = applied.err();
        }
        if self.attention.is_some_and(|at| at <= now) {
            match self.hardware.attend(now) {
                Ok(next) => self.attention = next,
                Err(error) => {
                    self.attention = Some(now + AGAIN);
                    fault = fault.or(Some(error));
                }
            }
            self.fault = fault;
        }
    }

    /// Leaves the hardware in its safe state: control has set it, unless it did not get so far.
    fn close(&mut self, now: BootTime) {
        if self.until.is_some() || self.lapses.is_some() {
            let left = self.hardware.apply(self.failsafe, now).and_then(|()| self.hardware.attend(now));
            if let Err(error) = left {
                tracing::error!(%error, "the actuator could not be left in its safe state");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    const FAILSAFE: MilliAmps = MilliAmps(6_000);
    const MANNERS: Manners = Manners { failsafe: FAILSAFE, demand: MilliAmps(16_000), change_time: Millis(20) };
    const SOON: Duration = Duration::from_secs(10);

    /// Tells what is set, and fails or hangs on demand.
    struct Bench {
        told: Sender<(MilliAmps, BootTime)>,
        fails: Fails,
        hangs: Option<Receiver<()>>,
    }

    impl Hardware for Bench {
        fn apply(&mut self, limit: MilliAmps, now: BootTime) -> Result<(), ActuatorError> {
            if let Some(hangs) = &self.hangs {
                let _ = hangs.recv();
            }
            if let Some(why) = *self.fails.lock().unwrap() {
                return Err(ActuatorError(why.to_owned()));
            }
            self.told.send((limit, now)).unwrap();
            Ok(())
        }
    }

    type Told = Receiver<(MilliAmps, BootTime)>;
    type Fails = Arc<Mutex<Option<&'static str>>>;

    fn bench(hangs: Option<Receiver<()>>) -> (Box<dyn Hardware>, Told, Fails) {
        let (told, heard) = channel();
        let fails = Arc::new(Mutex::new(None));
        (Box::new(Bench { told, fails: fails.clone(), hangs }), heard, fails)
    }

    #[test]
    fn the_hardware_goes_to_failsafe_at_the_end_of_the_lease_while_control_hangs() {
        let (hardware, told, _) = bench(None);
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        let until = boot_now() + Millis(150);
        guard.set(MilliAmps(12_000), Some(until)).unwrap();
        assert_eq!(told.recv_timeout(SOON).unwrap().0, MilliAmps(12_000));
        // This thread, which is control's, now does nothing at all.
        let (limit, at) = told.recv_timeout(SOON).unwrap();
        assert_eq!(limit, FAILSAFE);
        assert!(at >= until, "{at:?} {until:?}");
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err(), "once is enough");
    }

    #[test]
    fn a_lease_that_is_renewed_does_not_end_and_one_without_end_stays() {
        let (hardware, told, _) = bench(None);
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        for _ in 0..5 {
            guard.set(MilliAmps(12_000), Some(boot_now() + Millis(2_000))).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        guard.set(MilliAmps(0), None).unwrap();
        let limits: Vec<_> = told.try_iter().map(|(limit, _)| limit.0).collect();
        assert_eq!(limits, [12_000, 12_000, 12_000, 12_000, 12_000, 0]);
        drop(guard);
        assert_eq!(told.try_iter().count(), 0, "what stays need not be set again");
    }

    #[test]
    fn whoever_is_dropped_with_a_lease_alive_leaves_the_failsafe_limit() {
        let (hardware, told, _) = bench(None);
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        guard.set(MilliAmps(12_000), Some(boot_now() + Millis(60_000))).unwrap();
        drop(guard);
        let limits: Vec<_> = told.try_iter().map(|(limit, _)| limit.0).collect();
        assert_eq!(limits, [12_000, 6_000]);
    }

    #[test]
    fn hardware_that_hangs_does_not_hang_control() {
        let (go_on, hangs) = channel();
        let (hardware, told, _) = bench(Some(hangs));
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        let began = Instant::now();
        for _ in 0..100 {
            let error = guard.set(MilliAmps(12_000), Some(boot_now() + Millis(60_000))).unwrap_err();
            assert!(error.0.contains("does not answer"), "{error}");
        }
        assert!(began.elapsed() < PATIENCE * 50, "only the first was waited for");
        while !guard.is_overdue() {
            assert!(began.elapsed() < SOON);
            thread::sleep(Duration::from_millis(5));
        }
        drop(go_on);
        assert_eq!(told.recv_timeout(SOON).unwrap().0, MilliAmps(12_000));
        while guard.set(MilliAmps(7_000), None).is_err() {
            assert!(began.elapsed() < SOON * 2);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!guard.is_overdue());
    }

    #[test]
    fn the_end_of_a_lease_that_hangs_in_the_hardware_is_overdue_and_a_refusal_is_not() {
        let (go_on, hangs) = channel();
        let (hardware, _told, fails) = bench(Some(hangs));
        go_on.send(()).unwrap();
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        guard.set(MilliAmps(12_000), Some(boot_now() + Millis(100))).unwrap();
        assert!(!guard.is_overdue());
        // Nobody orders anything any more.
        let began = Instant::now();
        while !guard.is_overdue() {
            assert!(began.elapsed() < SOON);
            thread::sleep(Duration::from_millis(5));
        }
        *fails.lock().unwrap() = Some("a wire is loose");
        drop(go_on);
        while guard.demand().is_ok() {
            assert!(began.elapsed() < SOON * 2);
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!guard.is_overdue(), "it is tried again");
    }

    #[test]
    fn what_fails_without_being_asked_is_told_on_the_next_call_and_tried_again() {
        let (hardware, told, fails) = bench(None);
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        guard.set(MilliAmps(12_000), Some(boot_now() + Millis(100))).unwrap();
        assert_eq!(guard.demand(), Ok(MilliAmps(16_000)));
        *fails.lock().unwrap() = Some("a wire is loose");
        let began = Instant::now();
        while guard.demand() != Err(ActuatorError("a wire is loose".to_owned())) {
            assert!(began.elapsed() < SOON);
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(guard.set(MilliAmps(7_000), None), Err(ActuatorError("a wire is loose".to_owned())));
        told.try_iter().for_each(drop);
        *fails.lock().unwrap() = None;
        assert_eq!(told.recv_timeout(SOON).unwrap().0, FAILSAFE);
        while guard.demand().is_err() {
            assert!(began.elapsed() < SOON);
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_failed_for_a_moment_only_is_told_all_the_same_and_once() {
        let (hardware, told, fails) = bench(None);
        let mut guard = Guard::start(hardware, MANNERS).unwrap();
        *fails.lock().unwrap() = Some("a wire is loose");
        guard.set(MilliAmps(12_000), Some(boot_now() + Millis(60_000))).unwrap_err();
        let until = boot_now() + Millis(100);
        *fails.lock().unwrap() = None;
        guard.set(MilliAmps(12_000), Some(until)).unwrap();
        *fails.lock().unwrap() = Some("a wire is loose");
        while boot_now() < until + Millis(50) {
            thread::sleep(Duration::from_millis(5));
        }
        *fails.lock().unwrap() = None;
        while told.recv_timeout(SOON).unwrap().0 != FAILSAFE {}
        // Nobody has asked while it failed.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(guard.demand(), Err(ActuatorError("a wire is loose".to_owned())));
        assert_eq!(guard.demand(), Ok(MilliAmps(16_000)));
    }

    #[test]
    fn an_order_that_fails_does_not_prolong_what_stood_before() {
        let (hardware, _told, fails) = bench(None);
        let mut watch = Watch::new(hardware, FAILSAFE);
        watch.order(MilliAmps(12_000), Some(BootTime(3_000)), BootTime(1_000)).unwrap();
        *fails.lock().unwrap() = Some("stuck");
        watch.order(MilliAmps(8_000), Some(BootTime(5_000)), BootTime(2_000)).unwrap_err();
        assert_eq!(watch.until, Some(BootTime(3_000)));
        watch.order(FAILSAFE, None, BootTime(2_000)).unwrap_err();
        assert_eq!(watch.until, Some(BootTime(3_000)));
    }

    #[test]
    fn an_order_that_is_over_when_it_is_taken_is_not_set() {
        let (hardware, told, _) = bench(None);
        let mut watch = Watch::new(hardware, FAILSAFE);
        watch.order(MilliAmps(12_000), Some(BootTime(1_000)), BootTime(1_000)).unwrap();
        watch.attend(BootTime(1_000));
        assert_eq!(told.try_iter().map(|(limit, _)| limit).collect::<Vec<_>>(), [FAILSAFE]);
    }
}
