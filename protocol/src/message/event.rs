//! What happens once, rather than all the time.

use serde::{Deserialize, Serialize};

use super::{Phase, Session};
use crate::topic::Name;
use crate::units::{MilliAmps, MilliWattHours};

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
    /// A device that wants current lost its lease, or a transformer its meter.
    FailsafeEntered {
        /// What happened.
        why: String,
    },
    /// All is well again.
    FailsafeLeft {},
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
    /// A meter does not answer, or answers nonsense.
    MeterFailed {
        /// What it said.
        why: String,
    },
    /// A transformer's meter is at the end of its range: the load is at least what it says.
    MeterSaturated {},
    /// An actuator does not do what it is told.
    ActuatorFailed {
        /// What it said.
        why: String,
    },
    /// Meter and actuator work again.
    Recovered {},
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
    /// An event of a newer version.
    #[serde(other)]
    Unknown,
}
