//! Setpoints are leases.
//!
//! **The rule of the system: at every moment, on every phase, what devices are entitled to draw is together at most the
//! limit less the uncontrolled load. No lost, late, repeated or reordered message, and no crash of any agent, may break
//! it.** (An uncontrolled load that jumps can exceed the limit; then the excess is taken back at once.)
//!
//! It stands on two books that are kept separately and never exchanged:
//!
//! - the device's ([`Holder`]): what am I entitled to, and until when;
//! - the transformer's ([`Granter`], with [`Grants`] per device): what could this device possibly be entitled to, whichever
//!   of my messages arrived.
//!
//! The transformer keeps the sum of the second within its room, and the second is never below the first: a lease begins
//! for the device when it *sent* the measurement that the setpoint answers, and for the transformer when it *received*
//! that measurement, with an allowance for clocks that run at different rates. So the device forgets first.
//!
//! | rule | what it says | where |
//! |---|---|---|
//! | 1 answer | a setpoint answers one measurement, and the lease runs from when that was sent | [`Holder`] |
//! | 2 order | no older epoch, no older sequence number, nothing that is over | [`Holder`] |
//! | 3 count | all setpoints that have neither run out nor been superseded | [`Grants`] |
//! | 4 supersede | only a settled measurement that obeys a newer one proves an older one gone | [`Grants`] |
//! | 5 reserve | never below the measured current or the failsafe | [`Grants`] |
//! | 6 room | what may raise must fit, everything else is a hold | [`Granter`] |
//! | 7 start | a new transformer first waits until all older leases are over | [`Granter`] |
//! | 8 one | one connection per name | [`grid_service::link`] |
//! | 9 repeat | decreases until they are proven, measurements until they are answered | both sides |
//! | 10 lend | only by lowering the owner's lease | [`crate::transformer`] |
//! | 11 failsafe | no live lease, no more than the failsafe | [`Holder`] |

mod granter;
mod grants;
mod holder;

pub use granter::{Account, Granter, Offer, PerPhase, Tally, Terms};
pub use grants::Grants;
pub use holder::{Holder, Lease, Refusal};

use grid_protocol::units::Millis;

/// How long the transformer counts a lease of `ttl` after it received the measurement: clocks may differ in rate by 1 %
/// each and by their granularity (rule 3).
pub fn counted_for(ttl: Millis) -> Millis {
    Millis(ttl.0 + ttl.0.saturating_mul(3).div_ceil(100) + 100)
}

/// How often a lease is renewed: three chances before it is over (rule 9).
pub fn heartbeat(ttl: Millis) -> Millis {
    Millis(ttl.0 / 3)
}
