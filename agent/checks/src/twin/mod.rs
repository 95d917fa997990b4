//! Weakened twins: the code that runs, with one lease rule broken.
//!
//! A check that never fails proves nothing unless it would fail if it should. So each rule is broken in the way in which
//! someone might get it wrong, and the checks must notice.
//!
//! The code that runs has no switches for this. A twin wraps a [`grid_agent::lease::Holder`] or a
//! [`grid_agent::lease::Granter`] and rewrites what goes in and what comes out. Without a weakness it hands everything
//! through as it is.

mod granter;
mod holder;

pub use granter::{Place, TwinGranter};
pub use holder::TwinHolder;

use std::fmt;

use grid_protocol::message::Reference;
use grid_protocol::units::{MilliAmps, Millis};

use crate::Promise;

/// A way to get a lease rule wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weakness {
    /// The device counts a lease from when the setpoint came, not from when it sent what that answers.
    CountsFromArrival,
    /// The device takes setpoints of one transformer session in whatever order they come.
    NoSeqOrder,
    /// The device takes setpoints of an older transformer session after those of a newer.
    NoEpochOrder,
    /// The transformer counts a lease for exactly the ttl, as if all clocks ran alike.
    NoDriftMargin,
    /// The transformer counts the newest setpoint only, as if every setpoint arrived.
    NewestAloneCounts,
    /// The transformer takes an equal limit in a report for proof that its newest setpoint is obeyed.
    EqualValueConfirms,
    /// The transformer takes another session of the device for proof that the one before is over.
    NewSessionFrees,
    /// The transformer takes a report for proof although the actuator has not followed yet.
    UnsettledConfirms,
    /// The transformer reserves nothing for a device that has no lease.
    NoFailsafeReserve,
    /// The transformer reserves nothing for current that is measured.
    NoCurrentReserve,
    /// What does not fit is sent without `hold`.
    HoldDropped,
    /// What lies below the reported limit is sent without `hold`, as if a decrease could only lower.
    DecreaseWithoutHold,
    /// A transformer that starts raises at once.
    NoWindow,
}

impl Weakness {
    /// All of them, by rule.
    pub const ALL: [Self; 13] = [
        Self::CountsFromArrival,
        Self::NoSeqOrder,
        Self::NoEpochOrder,
        Self::NoDriftMargin,
        Self::NewestAloneCounts,
        Self::EqualValueConfirms,
        Self::NewSessionFrees,
        Self::UnsettledConfirms,
        Self::NoFailsafeReserve,
        Self::NoCurrentReserve,
        Self::HoldDropped,
        Self::DecreaseWithoutHold,
        Self::NoWindow,
    ];

    /// The number of the lease rule that it breaks.
    pub fn rule(self) -> u8 {
        match self {
            Self::CountsFromArrival => 1,
            Self::NoSeqOrder | Self::NoEpochOrder => 2,
            Self::NoDriftMargin | Self::NewestAloneCounts => 3,
            Self::EqualValueConfirms | Self::NewSessionFrees | Self::UnsettledConfirms => 4,
            Self::NoFailsafeReserve | Self::NoCurrentReserve => 5,
            Self::HoldDropped | Self::DecreaseWithoutHold => 6,
            Self::NoWindow => 7,
        }
    }

    /// The promise that it breaks, beside others.
    ///
    /// Without an order of epochs the rule itself still holds: while setpoints of an older session can be alive, the window
    /// of rule 7 lets nobody be raised. But what the new session has taken back, the older one's late setpoint gives again.
    pub fn breaks(self) -> Promise {
        match self {
            Self::NoEpochOrder => Promise::Books,
            Self::NoCurrentReserve => Promise::Current,
            _ => Promise::Rule,
        }
    }

    /// What it does, for people.
    pub fn says(self) -> &'static str {
        match self {
            Self::CountsFromArrival => "a lease counts from the setpoint's arrival",
            Self::NoSeqOrder => "no order within a session",
            Self::NoEpochOrder => "no order of epochs",
            Self::NoDriftMargin => "no margin for clocks that drift",
            Self::NewestAloneCounts => "the newest setpoint alone counts",
            Self::EqualValueConfirms => "an equal limit confirms",
            Self::NewSessionFrees => "a new device session frees",
            Self::UnsettledConfirms => "an unsettled report confirms",
            Self::NoFailsafeReserve => "no reserve for the failsafe limit",
            Self::NoCurrentReserve => "no reserve for measured current",
            Self::HoldDropped => "what does not fit is sent without hold",
            Self::DecreaseWithoutHold => "a decrease is sent without hold",
            Self::NoWindow => "no window at the transformer's start",
        }
    }
}

/// What a measurement says about a lease: the part of [`grid_protocol::message::Measurement`] that the rules read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Report {
    /// The measurement's own session and number.
    pub reference: Reference,
    /// The limit obeyed.
    pub limit: MilliAmps,
    /// The setpoint that it comes from.
    pub obeys: Option<Reference>,
    /// The actuator has followed.
    pub settled: bool,
    /// The current measured on each of the device's phases.
    pub current: MilliAmps,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, limit, obeys, settled, current } = self;
        write!(f, "{} of {}: obeys {limit}", reference.seq, reference.session)?;
        match obeys {
            Some(by) => write!(f, " of setpoint {} of {}", by.seq, by.session)?,
            None => write!(f, " without a lease")?,
        }
        write!(f, ", {}, draws {current}", if *settled { "settled" } else { "not settled" })
    }
}

/// A setpoint on its way: [`grid_protocol::message::Setpoint`] with its own session and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Order {
    /// The setpoint's own session and number.
    pub by: Reference,
    /// The measurement that it answers.
    pub answers: Reference,
    /// The limit per phase.
    pub limit: MilliAmps,
    /// How long the lease lasts.
    pub ttl: Millis,
    /// It must not raise.
    pub hold: bool,
    /// The transformer's epoch.
    pub epoch: u64,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, answers, limit, ttl, hold, epoch } = self;
        let kind = if *hold { "hold" } else { "setpoint" };
        write!(
            f,
            "{kind} {} of {}: {limit} for {ttl}, answers {} of {}",
            by.seq, by.session, answers.seq, answers.session
        )?;
        write!(f, ", epoch {epoch}")
    }
}
