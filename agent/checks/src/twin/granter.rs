//! The transformer's book, whole or weakened.

use grid_agent::lease::{Account, Granter, PerPhase, Terms, counted_for};
use grid_protocol::message::{Activity, Header, Measurement, Phase, Reference, Session};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, MilliWattHours, Millis, UnixMillis};

use super::{Order, Report, Weakness};

/// Where a device is connected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The node.
    pub node: usize,
    /// The phases it draws from.
    pub phases: Vec<Phase>,
    /// Its limit without a lease.
    pub failsafe: MilliAmps,
}

/// A [`Granter`] behind what its weakness makes of its inputs and outputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TwinGranter {
    weakness: Option<Weakness>,
    granter: Granter,
    epoch: u64,
    /// What leases last as devices are told.
    ttl: Millis,
    /// Of each device; kept for twins alone.
    known: Vec<Known>,
}

/// What a weakness needs to remember of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Known {
    heard: Option<(Report, BootTime)>,
    sent: Option<(u64, MilliAmps)>,
}

impl TwinGranter {
    /// The book of a transformer that starts; see [`Granter::new`].
    pub fn new(
        weakness: Option<Weakness>,
        by: (Session, u64),
        terms: Terms,
        parents: Vec<Option<usize>>,
        places: &[Place],
        now: BootTime,
    ) -> Self {
        let weak = |which| weakness == Some(which);
        let accounts = places.iter().map(|place| {
            let failsafe = if weak(Weakness::NoFailsafeReserve) { MilliAmps::ZERO } else { place.failsafe };
            Account::new(place.node, place.phases.clone(), failsafe)
        });
        let started = if weak(Weakness::NoWindow) { now - counted_for(terms.max_ttl) } else { now };
        let counted = if weak(Weakness::NoDriftMargin) { counted_exactly(terms.ttl) } else { terms.ttl };
        let (session, epoch) = by;
        let granter =
            Granter::new(session, epoch, Terms { ttl: counted, ..terms }, parents, accounts.collect(), started);
        let known = if weakness.is_some() { vec![Known::default(); places.len()] } else { Vec::new() };
        Self { weakness, granter, epoch, ttl: terms.ttl, known }
    }

    /// See [`Granter::session`].
    pub fn session(&self) -> Session {
        self.granter.session()
    }

    /// The transformer's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// See [`Granter::is_starting`].
    pub fn is_starting(&self, now: BootTime) -> bool {
        self.granter.is_starting(now)
    }

    /// See [`Granter::counted`].
    pub fn counted(&self, device: usize, place: usize, now: BootTime) -> MilliAmps {
        self.granter.counted(device, now)[place]
    }

    /// See [`Granter::fitting`].
    pub fn fitting(&self, device: usize, rooms: &[PerPhase], now: BootTime) -> MilliAmps {
        self.granter.fitting(device, rooms, &self.granter.tally(now))
    }

    /// See [`Granter::measured`].
    pub fn measured(&mut self, device: usize, report: &Report, now: BootTime) {
        let mut report = *report;
        let session = self.granter.session();
        match self.weakness {
            Some(Weakness::EqualValueConfirms) => {
                if let Some((seq, limit)) = self.known[device].sent
                    && report.limit == limit
                {
                    report.obeys = Some(Reference { session, seq });
                    report.settled = true;
                }
            }
            Some(Weakness::NewSessionFrees) => {
                if let Some((before, _)) = self.known[device].heard
                    && before.reference.session != report.reference.session
                {
                    let all = Some(Reference { session, seq: u64::MAX });
                    self.tell(device, &Report { obeys: all, settled: true, ..before }, now);
                }
            }
            Some(Weakness::UnsettledConfirms) => report.settled = true,
            Some(Weakness::NoCurrentReserve) => report.current = MilliAmps::ZERO,
            _ => {}
        }
        self.tell(device, &report, now);
        if let Some(known) = self.known.get_mut(device) {
            known.heard = Some((report, now));
        }
    }

    /// See [`Granter::offer`] and [`Granter::granted`]: a setpoint of `limit` that is being sent as number `seq`.
    pub fn send(
        &mut self,
        device: usize,
        limit: MilliAmps,
        rooms: &[PerPhase],
        seq: u64,
        now: BootTime,
    ) -> Option<Order> {
        let mut tally = self.granter.tally(now);
        let offer = self.granter.offer(device, limit, rooms, &tally)?;
        self.granter.granted(device, &offer, seq, &mut tally);
        let by = Reference { session: self.granter.session(), seq };
        let starting = self.granter.is_starting(now);
        let heard = self.known.get(device).and_then(|known| known.heard);
        let hold = match self.weakness {
            Some(Weakness::HoldDropped) => starting,
            Some(Weakness::DecreaseWithoutHold) => {
                offer.hold && (starting || heard.is_none_or(|(report, _)| offer.limit >= report.limit))
            }
            _ => offer.hold,
        };
        if let (Some(Weakness::NewestAloneCounts), Some((report, received))) = (self.weakness, heard) {
            // The last report again, as if it had obeyed what is only being sent.
            self.tell(device, &Report { obeys: Some(by), settled: true, ..report }, received);
        }
        if let Some(known) = self.known.get_mut(device) {
            known.sent = Some((seq, offer.limit));
        }
        Some(Order { by, answers: offer.answers, limit: offer.limit, ttl: self.ttl, hold, epoch: offer.epoch })
    }

    fn tell(&mut self, device: usize, report: &Report, received: BootTime) {
        let seq = report.reference.seq;
        let header =
            Header { from: sender(), session: report.reference.session, seq: Some(seq), time_ms: UnixMillis(0) };
        let measurement = Measurement {
            uptime_ms: Millis::ZERO,
            state: Activity::Charging,
            // Three phases are enough for every device: those that it does not have are not asked for.
            current_ma: vec![report.current; 3],
            voltage_mv: Vec::new(),
            stale_ms: None,
            limit_ma: report.limit,
            obeys: report.obeys,
            settled: report.settled,
            lease_ms: Millis::ZERO,
            demand_ma: MilliAmps::ZERO,
            energy_mwh: MilliWattHours::ZERO,
            priority: None,
        };
        self.granter.measured(device, &header, seq, &measurement, received);
    }
}

/// The book does not look at the name.
#[allow(clippy::expect_used, reason = "the name is written out here")]
fn sender() -> Name {
    "device".parse().expect("a name in small letters")
}

/// The ttl for which a book that adds its margin counts just `ttl`.
fn counted_exactly(ttl: Millis) -> Millis {
    (0..=ttl.0).rev().map(Millis).find(|shorter| counted_for(*shorter) <= ttl).unwrap_or(Millis::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_without_margin_counts_the_ttl_itself() {
        for ttl in [1000, 3000, 10_000] {
            let counted = counted_for(counted_exactly(Millis(ttl))).0;
            assert!(counted <= ttl && counted >= ttl - 1, "{counted}");
        }
    }
}
