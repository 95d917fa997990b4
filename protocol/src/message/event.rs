//! What happens once, rather than all the time.

use serde::{Deserialize, Serialize};

use super::{Phase, Session};
use crate::topic::Name;
use crate::units::{MilliAmps, MilliWattHours, Millis, UnixMillis};

/// Something that happened. The member `event` names it, the others say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A device began to draw.
    ChargingStarted {
        /// The meter's total when it began.
        energy_mwh: MilliWattHours,
    },
    /// A device wants no more.
    ChargingEnded {
        /// The meter's total when it ended.
        energy_mwh: MilliWattHours,
    },
    /// A device that had no lease has one.
    LeaseBegan {},
    /// A device's lease ran out, and it wants no current: all is well.
    LeaseEnded {},
    /// A device that wants current lost its lease, and obeys its failsafe limit.
    FailsafeEntered {
        /// What happened.
        why: String,
    },
    /// It has a lease again.
    FailsafeLeft {},
    /// A transformer has waited until all leases of an earlier one were over, and grants leases of its own.
    LeadingBegan {},
    /// A device says nothing any more, and all its leases are over.
    DeviceLost {
        /// The device.
        device: Name,
    },
    /// A device that was lost speaks again.
    DeviceBack {
        /// The device.
        device: Name,
    },
    /// An agent was cut off from the broker, and is connected again.
    Reconnected {
        /// For how long.
        after_ms: Millis,
    },
    /// An agent's civil clock was set. Leases do not run on it.
    ClockStepped {
        /// Forwards, or backwards if negative.
        by_ms: i64,
    },
    /// A phase carries more than its limit.
    OverloadStarted {
        /// The phase.
        phase: Phase,
        /// What it carries.
        load_ma: MilliAmps,
        /// What it may carry.
        limit_ma: MilliAmps,
    },
    /// It no longer does.
    OverloadEnded {
        /// The phase.
        phase: Phase,
    },
    /// A device draws more than it may; the excess counts as uncontrolled load.
    AboveLimit {
        /// The device.
        device: Name,
        /// What it draws.
        current_ma: MilliAmps,
        /// What it may draw.
        limit_ma: MilliAmps,
    },
    /// The failsafe limits of all enrolled devices exceed what the uncontrolled load leaves.
    ReserveExceedsRoom {
        /// The phase.
        phase: Phase,
        /// The sum of the failsafe limits.
        reserve_ma: MilliAmps,
        /// What is left for devices.
        room_ma: MilliAmps,
    },
    /// They fit again.
    ReserveFits {
        /// The phase.
        phase: Phase,
    },
    /// What a device says of itself differs from its enrolment.
    EnrolmentDiffers {
        /// The device.
        device: Name,
        /// What differs.
        why: String,
    },
    /// A transformer's limit was changed.
    LimitChanged {
        /// Who did it; `unknown` behind a broker that does not tell.
        by: String,
        /// The limit before, in watts.
        old_w: u64,
        /// The limit now, in watts.
        new_w: u64,
    },
    /// A device was switched on or off by command.
    ChargingChanged {
        /// Who did it.
        by: String,
        /// Whether it was on.
        old: bool,
        /// Whether it is on.
        new: bool,
    },
    /// A device's priority was changed.
    PriorityChanged {
        /// Who did it.
        by: String,
        /// The priority before; 0 goes first.
        old: u8,
        /// The priority now.
        new: u8,
    },
    /// A grid operator's order began, was changed or was lifted.
    DimmingChanged {
        /// Who did it; `clock` if its time is over.
        by: String,
        /// What all controllable devices together might draw before, in watts; absent if there was no order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        old_w: Option<u64>,
        /// What they may draw now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        new_w: Option<u64>,
        /// Until when, on the civil clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<UnixMillis>,
    },
    /// A command was not obeyed.
    CommandIgnored {
        /// Who gave it; `unknown` behind a broker that does not tell.
        by: String,
        /// Which: `set/limit` and the like.
        command: String,
        /// What it said.
        value: String,
        /// What would have been obeyed.
        expected: String,
    },
    /// A meter said something else than a reading. Unless that goes on, nothing follows from it.
    MeterTrouble {
        /// What is wrong, and what to do about it.
        why: String,
    },
    /// A transformer's meter is late: nobody is allowed more.
    MeterStale {
        /// For how long there was no reading.
        for_ms: Millis,
    },
    /// A meter does not answer, or answers nonsense: everybody who depends on it goes to the failsafe limit.
    MeterFailed {
        /// What it said.
        why: String,
    },
    /// A meter is at the end of its range: the load is at least what it says.
    MeterSaturated {},
    /// An actuator does not do what it is told.
    ActuatorFailed {
        /// What it said.
        why: String,
    },
    /// Meter and actuator work again.
    Recovered {},
    /// The utility's dimming contact cannot be read: the order that was in force stays.
    ContactFailed {
        /// What is wrong with it.
        why: String,
    },
    /// The dimming contact can be read again.
    ContactRecovered {},
    /// Somebody else connected under this name.
    ThrownOut {},
    /// The outbox was full; these messages are lost for the log.
    OutboxOverflow {
        /// The session they belong to.
        of: Session,
        /// The first.
        from_seq: u64,
        /// The last.
        to_seq: u64,
    },
    /// There is little room left on the anchor's disk: nothing more is logged or acknowledged, and agents keep what they
    /// say in their outboxes.
    DiskLow {
        /// How much room there is, in units of 10^6 bytes.
        free_mb: u64,
        /// How much there must be.
        min_free_mb: u64,
    },
    /// There is room again, and messages are logged.
    DiskRecovered {
        /// How much room there is, in units of 10^6 bytes.
        free_mb: u64,
        /// For how long nothing was logged.
        after_ms: Millis,
    },
    /// What waits for the anchor's acknowledgement cannot be written to disk: it is kept in memory, as far as that goes.
    OutboxDiskFailed {
        /// What the disk said.
        why: String,
    },
    /// The outbox's disk works again.
    OutboxDiskRecovered {},
    /// What pays for records on the ledger lasts for less than 14 days.
    LedgerMoneyLow {
        /// What the anchor's address holds, in NANOS (10^-9 IOTA).
        balance_nanos: u64,
        /// For how many whole days that lasts.
        days_left: u64,
    },
    /// It lasts longer again.
    LedgerMoneyEnough {
        /// What the anchor's address holds, in NANOS.
        balance_nanos: u64,
    },
    /// No record comes on the ledger any more until somebody does something. The log goes on.
    LedgerFailed {
        /// What to do.
        why: String,
    },
    /// Records come on the ledger again, and the first has covered all that was missing.
    LedgerRecovered {},
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}
