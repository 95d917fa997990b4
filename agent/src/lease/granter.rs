//! The transformer's book of all its devices: who could be entitled to what, and what may still be granted.

use grid_protocol::message::{Header, Measurement, Phase, Reference, Session};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::{Grants, counted_for};

/// Currents on L1, L2 and L3.
pub type PerPhase = [MilliAmps; 3];

/// How long leases last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// A lease of this transformer.
    pub ttl: Millis,
    /// The longest lease of the site, also of earlier transformers.
    pub max_ttl: Millis,
}

/// A device in the book.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Account {
    /// The node that it is connected to.
    pub node: usize,
    /// The phases it draws from, in the order of its own meter.
    pub phases: Vec<Phase>,
    grants: Grants,
    heard: Option<Heard>,
}

/// The newest measurement, as far as a setpoint that answers it needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Heard {
    reference: Reference,
    received: BootTime,
    limit: MilliAmps,
}

impl Account {
    /// A device that was granted nothing. `failsafe` is reserved for it whether it was heard of or not (rule 5).
    pub fn new(node: usize, phases: Vec<Phase>, failsafe: MilliAmps) -> Self {
        Self { node, phases, grants: Grants::new(failsafe), heard: None }
    }
}

/// A setpoint that may be sent now. It counts from when [`Granter::granted`] is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// The measurement that it answers (rule 1).
    pub answers: Reference,
    /// The limit per phase.
    pub limit: MilliAmps,
    /// How long the lease lasts.
    pub ttl: Millis,
    /// It must not raise: either the room is not there (rule 6), or leases of an earlier transformer may be alive
    /// (rule 7).
    pub hold: bool,
    /// The transformer's epoch.
    pub epoch: u64,
    received: BootTime,
}

/// What devices could be entitled to at one moment, summed up over each node and everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    now: BootTime,
    sums: Vec<PerPhase>,
}

/// The book of one transformer session.
///
/// Nodes form a tree: node 0 is the transformer, any other is a fuse and names a parent that comes before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Granter {
    session: Session,
    epoch: u64,
    terms: Terms,
    started: BootTime,
    /// Of each node, its parent.
    parents: Vec<Option<usize>>,
    accounts: Vec<Account>,
}

impl Granter {
    /// The book of a transformer that starts or has reconnected: a new `session` and a higher `epoch` than any before,
    /// and not one lease (rule 7).
    pub fn new(
        session: Session,
        epoch: u64,
        terms: Terms,
        parents: Vec<Option<usize>>,
        accounts: Vec<Account>,
        now: BootTime,
    ) -> Self {
        debug_assert!(parents.iter().enumerate().all(|(node, parent)| parent.is_none_or(|parent| parent < node)));
        Self { session, epoch, terms, started: now, parents, accounts }
    }

    /// The transformer's session.
    pub fn session(&self) -> Session {
        self.session
    }

    /// Rule 7: leases of an earlier session may still be alive.
    pub fn is_starting(&self, now: BootTime) -> bool {
        now < self.started + counted_for(self.terms.max_ttl)
    }

    /// Reserves more for a device from now on, if it says that its failsafe is higher than enrolled.
    pub fn reserve_at_least(&mut self, device: usize, failsafe: MilliAmps) {
        self.accounts[device].grants.reserve_at_least(failsafe);
    }

    /// Takes a verified measurement that is newer than any that was taken of its session. `header.seq` is `seq`.
    pub fn measured(&mut self, device: usize, header: &Header, seq: u64, measurement: &Measurement, now: BootTime) {
        let over = now + counted_for(self.terms.ttl);
        let account = &mut self.accounts[device];
        account.grants.measured(header.session, measurement, self.session, over);
        let reference = Reference { session: header.session, seq };
        account.heard = Some(Heard { reference, received: now, limit: measurement.limit_ma });
    }

    /// The largest limit of all setpoints that a device may be obeying (rule 3); nothing if there is none.
    pub fn largest(&self, device: usize, now: BootTime) -> Option<MilliAmps> {
        self.accounts[device].grants.largest(now)
    }

    /// What counts for a device on each of its phases, in its own order (rules 3 to 5).
    pub fn counted(&self, device: usize, now: BootTime) -> PerPhase {
        let account = &self.accounts[device];
        std::array::from_fn(|place| {
            if place < account.phases.len() { account.grants.counted(place, now) } else { MilliAmps::ZERO }
        })
    }

    /// Sums up what devices could be entitled to now.
    pub fn tally(&self, now: BootTime) -> Tally {
        let mut tally = Tally { now, sums: vec![[MilliAmps::ZERO; 3]; self.parents.len()] };
        for device in 0..self.accounts.len() {
            self.add(&mut tally, device, 1);
        }
        tally
    }

    fn add(&self, tally: &mut Tally, device: usize, sign: i64) {
        let account = &self.accounts[device];
        for (place, phase) in account.phases.iter().enumerate() {
            let counted = account.grants.counted(place, tally.now) * sign;
            for node in self.path(account.node) {
                tally.sums[node][phase.index()] += counted;
            }
        }
    }

    /// Of each node, its parent.
    pub fn parents(&self) -> &[Option<usize>] {
        &self.parents
    }

    /// A node, its parent, and so on up to the transformer.
    pub fn path(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(node), |node| self.parents[*node])
    }

    /// The highest limit for a device with which everything that could be in force still fits into `rooms`, the room of
    /// each node; negative if not even that does which could be in force already (rule 6).
    pub fn fitting(&self, device: usize, rooms: &[PerPhase], tally: &Tally) -> MilliAmps {
        let account = &self.accounts[device];
        let mut fitting = MilliAmps(i64::MAX);
        for (place, phase) in account.phases.iter().enumerate() {
            let own = account.grants.counted(place, tally.now);
            for node in self.path(account.node) {
                let left = rooms[node][phase.index()] - (tally.sums[node][phase.index()] - own);
                // What the device itself could be entitled to must fit as well.
                fitting = fitting.min(if own > left { MilliAmps(-1) } else { left });
            }
        }
        fitting
    }

    /// A setpoint of `limit` for a device, as a hold where it must not raise. Nothing if the device said nothing lately
    /// that it could answer (rule 1).
    pub fn offer(&self, device: usize, limit: MilliAmps, rooms: &[PerPhase], tally: &Tally) -> Option<Offer> {
        let now = tally.now;
        let heard = self.accounts[device].heard.filter(|heard| now < heard.received + self.terms.ttl)?;
        let starting = self.is_starting(now);
        let limit = if starting { limit.min(heard.limit) } else { limit };
        Some(Offer {
            answers: heard.reference,
            limit,
            ttl: self.terms.ttl,
            hold: starting || limit > self.fitting(device, rooms, tally),
            epoch: self.epoch,
            received: heard.received,
        })
    }

    /// Counts a setpoint that is being sent as number `seq` (rule 3). Nothing may have happened since the offer.
    pub fn granted(&mut self, device: usize, offer: &Offer, seq: u64, tally: &mut Tally) {
        self.add(tally, device, -1);
        let over = offer.received + counted_for(offer.ttl);
        self.accounts[device].grants.grant(offer.answers, seq, offer.limit, over, tally.now);
        self.add(tally, device, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::message::Activity;
    use grid_protocol::units::{MilliWattHours, UnixMillis};

    const TERMS: Terms = Terms { ttl: Millis(3000), max_ttl: Millis(3000) };
    /// Older leases are over.
    const READY: BootTime = BootTime(3190);
    const GARAGE: usize = 1;

    /// Two devices on L1: one behind a fuse, one on the transformer itself.
    fn granter() -> Granter {
        let accounts = [GARAGE, 0].map(|node| Account::new(node, vec![Phase::L1], MilliAmps(0)));
        Granter::new(Session(7), 1, TERMS, vec![None, Some(0)], accounts.to_vec(), BootTime(0))
    }

    fn hear(granter: &mut Granter, device: usize, limit: i64, now: BootTime) {
        let header = Header {
            from: "cp-1".parse().unwrap(),
            session: Session(device as u64),
            seq: Some(now.0),
            time_ms: UnixMillis(0),
        };
        let measurement = Measurement {
            uptime_ms: Millis(0),
            state: Activity::Waiting,
            current_ma: vec![MilliAmps(0)],
            voltage_mv: Vec::new(),
            stale_ms: None,
            limit_ma: MilliAmps(limit),
            obeys: None,
            settled: true,
            lease_ms: Millis(0),
            demand_ma: MilliAmps(16_000),
            energy_mwh: MilliWattHours(0),
            priority: None,
        };
        granter.measured(device, &header, now.0, &measurement, now);
    }

    fn rooms(transformer: i64, garage: i64) -> [PerPhase; 2] {
        [[MilliAmps(transformer); 3], [MilliAmps(garage); 3]]
    }

    #[test]
    fn what_is_granted_below_a_fuse_counts_at_the_fuse_and_above_it() {
        let (mut granter, rooms) = (granter(), rooms(20_000, 10_000));
        [0, 1].into_iter().for_each(|device| hear(&mut granter, device, 0, READY));
        let mut tally = granter.tally(READY);
        assert_eq!(granter.fitting(0, &rooms, &tally), MilliAmps(10_000));
        assert_eq!(granter.fitting(1, &rooms, &tally), MilliAmps(20_000));
        let offer = granter.offer(0, MilliAmps(8_000), &rooms, &tally).unwrap();
        assert!(!offer.hold);
        granter.granted(0, &offer, 1, &mut tally);
        assert_eq!(tally, granter.tally(READY));
        assert_eq!(granter.fitting(1, &rooms, &tally), MilliAmps(12_000));
        assert!(granter.offer(1, MilliAmps(12_001), &rooms, &tally).unwrap().hold);
    }

    #[test]
    fn where_what_is_in_force_no_longer_fits_everything_is_a_hold() {
        let mut granter = granter();
        hear(&mut granter, 0, 0, READY);
        let mut tally = granter.tally(READY);
        let offer = granter.offer(0, MilliAmps(8_000), &rooms(20_000, 10_000), &tally).unwrap();
        granter.granted(0, &offer, 1, &mut tally);
        let less = granter.offer(0, MilliAmps(6_000), &rooms(20_000, 7_000), &tally).unwrap();
        assert!(less.hold);
    }

    #[test]
    fn a_new_transformer_offers_holds_at_or_below_what_is_reported() {
        let mut granter = granter();
        let before = BootTime(3189);
        hear(&mut granter, 0, 5_000, before);
        let offer = granter.offer(0, MilliAmps(8_000), &rooms(20_000, 10_000), &granter.tally(before)).unwrap();
        assert_eq!((offer.limit, offer.hold), (MilliAmps(5_000), true));
        assert!(!granter.offer(0, MilliAmps(8_000), &rooms(20_000, 10_000), &granter.tally(READY)).unwrap().hold);
    }

    #[test]
    fn a_measurement_older_than_a_lease_is_not_answered() {
        let mut granter = granter();
        hear(&mut granter, 0, 0, READY);
        let later = READY + TERMS.ttl;
        assert_eq!(granter.offer(0, MilliAmps(0), &rooms(1, 1), &granter.tally(later)), None);
    }
}
