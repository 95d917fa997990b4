//! The device's book, whole or weakened.

use grid_agent::lease::{Holder, Lease};
use grid_protocol::message::{Reason, Reference, Session, Setpoint};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::{Order, Weakness};

/// Longer than anything that is played lasts.
const FOR_EVER: Millis = Millis(1_000_000_000);

/// A [`Holder`] behind what its weakness makes of its inputs and outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TwinHolder {
    session: Session,
    holder: Holder,
    twist: Twist,
}

/// What a weakness needs to remember.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Twist {
    /// Nothing: this is the code that runs.
    None,
    /// When each measurement was sent, so that a lease can be lengthened by what has passed since.
    CountsFromArrival { max_ttl: Millis, sent: Vec<(u64, BootTime)> },
    /// Setpoints are numbered in the order in which they come.
    NoSeqOrder { accepted: u64, obeyed: Option<Reference> },
    /// All setpoints are of one epoch.
    NoEpochOrder,
}

impl TwinHolder {
    /// A device session without a lease; see [`Holder::new`].
    pub fn new(weakness: Option<Weakness>, session: Session, failsafe: MilliAmps, max_ttl: Millis) -> Self {
        let (twist, remembers) = match weakness {
            Some(Weakness::CountsFromArrival) => (Twist::CountsFromArrival { max_ttl, sent: Vec::new() }, FOR_EVER),
            Some(Weakness::NoSeqOrder) => (Twist::NoSeqOrder { accepted: 0, obeyed: None }, max_ttl),
            Some(Weakness::NoEpochOrder) => (Twist::NoEpochOrder, max_ttl),
            _ => (Twist::None, max_ttl),
        };
        Self { session, holder: Holder::new(session, failsafe, remembers, Millis::ZERO), twist }
    }

    /// The device's session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// See [`Holder::measurement_sent`].
    pub fn measurement_sent(&mut self, seq: u64, at: BootTime) {
        self.holder.measurement_sent(seq, at);
        if let Twist::CountsFromArrival { sent, .. } = &mut self.twist {
            sent.push((seq, at));
        }
    }

    /// See [`Holder::accept`]; nothing if the order is refused.
    pub fn accept(&mut self, order: &Order, now: BootTime) -> Option<Lease> {
        let (mut by, mut epoch, mut ttl) = (order.by, order.epoch, order.ttl);
        match &self.twist {
            Twist::None => {}
            Twist::CountsFromArrival { max_ttl, sent } => {
                let sent = sent.iter().find(|(seq, _)| *seq == order.answers.seq);
                ttl = ttl.min(*max_ttl) + sent.map_or(Millis::ZERO, |(_, at)| now.since(*at));
            }
            Twist::NoSeqOrder { accepted, .. } => by.seq = accepted + 1,
            Twist::NoEpochOrder => epoch = 0,
        }
        let setpoint = Setpoint {
            answers: order.answers,
            limit_ma: order.limit,
            ttl_ms: ttl,
            hold: order.hold,
            epoch,
            reason: Reason::Demand,
        };
        let lease = self.holder.accept(&setpoint, by, now).ok()?;
        if let Twist::NoSeqOrder { accepted, obeyed } = &mut self.twist {
            *accepted += 1;
            *obeyed = Some(order.by);
        }
        Some(lease)
    }

    /// See [`Holder::limit`].
    pub fn limit(&self, now: BootTime) -> MilliAmps {
        self.holder.limit(now)
    }

    /// See [`Holder::lease`].
    pub fn lease(&self, now: BootTime) -> Option<Lease> {
        let lease = self.holder.lease(now)?;
        let by = match self.twist {
            Twist::NoSeqOrder { obeyed: Some(obeyed), .. } => obeyed,
            _ => lease.by,
        };
        Some(Lease { by, ..lease })
    }
}
