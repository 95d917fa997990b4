//! From what is known to what is sent.

use grid_protocol::message::{Reason, Setpoint};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::device::{Device, ON_THE_WAY, Sent};
use super::turns::Doing;
use super::{Condition, Enrolment, Plan, REPEAT, Transformer, Voice, WORTH_RAISING};
use crate::allocation::{Claim, Dimming, Node, Share, allocate};
use crate::lease::{PerPhase, Tally, counted_for, heartbeat};

/// Shared limits are multiples of this, so that the last digit of a reading moves nobody.
const STEP: MilliAmps = MilliAmps(50);
/// A rise in parts has parts of at least so many percent of the transformer's limit.
const RAMP_PART_PERCENT: i64 = 2;
/// After so many setpoints that a device did not hear, one that raises it is said once a heartbeat only.
const RAISED_IN_VAIN: u64 = 2;
/// An answer to a measurement that came so long ago is an answer to it.
const AT_ONCE: Millis = Millis(20);

/// The claim of a device that was not heard of.
pub(super) fn no_claim(enrolment: &Enrolment, plan: &Plan) -> Claim {
    Claim {
        name: enrolment.name.clone(),
        node: plan.node(enrolment.fuse.as_ref()),
        phases: enrolment.phases.clone(),
        class: 9,
        turn: 0,
        min: MilliAmps::ZERO,
        max: MilliAmps::ZERO,
        demand: MilliAmps::ZERO,
        steps: Vec::new(),
        runs_on: false,
        rests: false,
        barred: false,
    }
}

/// What holds for all devices in one decision.
struct Scene {
    now: BootTime,
    /// Summed up when it is first needed.
    tally: Option<Tally>,
    may_raise: bool,
    meter_failed: bool,
    take_back: bool,
}

impl Transformer {
    /// Leads every device to its share.
    pub(super) fn decide(&mut self, now: BootTime, voice: &mut impl Voice) {
        self.undecided = false;
        let condition = self.follow_condition(now, voice);
        let Some(read) = self.read else { return };
        let starting = self.granter.is_starting(now);
        let session = self.granter.session();
        let obeyed: Vec<MilliAmps> = self.devices.iter().map(|device| device.obeyed(session, starting)).collect();
        self.make_claims(&obeyed, now);
        self.ramp.fill(self.plan.limit(), now);

        let feeds_in = matches!(condition, Condition::Leading | Condition::Starting);
        let base = if feeds_in { read.uncontrolled } else { read.without_feed_in };
        let dimming = self.dimming();
        let above = self.nodes(self.estimates.highest(), 1);
        let below = self.nodes(base, 2);
        self.rooms = above.iter().map(|node| node.room).collect();
        let upward = self.share_out(above, dimming.as_ref());
        let downward = self.share_out(below, dimming.as_ref());
        let mut scene = Scene {
            now,
            tally: None,
            may_raise: condition == Condition::Leading && !read.saturated,
            meter_failed: condition == Condition::MeterFailed,
            take_back: std::mem::take(&mut self.take_back),
        };
        self.shares = upward
            .into_iter()
            .zip(downward)
            .enumerate()
            .map(|(place, (up, down))| wish(&self.devices[place], &self.claims[place], up, down, obeyed[place], &scene))
            .collect();
        // Who has least rises first.
        let listens = self.has_to_listen(now);
        let mut order: Vec<usize> = (0..self.devices.len()).collect();
        order.sort_by_key(|place| obeyed[*place]);
        for place in order {
            let share = self.shares[place].clone();
            if !listens {
                self.turns.give(place, share.limit >= self.devices[place].least());
            }
            self.lead(place, &share, obeyed[place], &mut scene, voice);
        }
    }

    /// Answers a device for which nothing has changed.
    pub(super) fn renew(&mut self, place: usize, now: BootTime, voice: &mut impl Voice) {
        let Some(share) = self.shares.get(place) else { return };
        let obeyed = self.devices[place].obeyed(self.granter.session(), self.granter.is_starting(now));
        let share = Share { limit: share.limit.min(obeyed), reason: share.reason.clone() };
        let mut scene = Scene { now, tally: None, may_raise: false, meter_failed: false, take_back: false };
        self.lead(place, &share, obeyed, &mut scene, voice);
    }

    /// Shares the room of the nodes, less what is reserved for those whose share is less than their failsafe limit (rule 5):
    /// it flows when they lose their leases.
    fn share_out(&self, mut nodes: Vec<Node>, dimming: Option<&Dimming>) -> Vec<Share> {
        let mut reserved = vec![false; self.devices.len()];
        loop {
            let shares = allocate(&nodes, &self.claims, dimming);
            let mut all_are = true;
            for (place, device) in self.devices.iter().enumerate() {
                if device.failsafe <= shares[place].limit || std::mem::replace(&mut reserved[place], true) {
                    continue;
                }
                all_are = false;
                for node in self.granter.path(self.claims[place].node) {
                    device.phases.iter().for_each(|phase| nodes[node].room[phase.index()] -= device.failsafe);
                }
            }
            if all_are {
                return shares;
            }
        }
    }

    /// All nodes with the room that this uncontrolled load leaves, and a margin divided by `part`.
    ///
    /// A fuse has no meter: what a device draws above its limit is taken off the room of the fuses that it is behind.
    fn nodes(&self, base: PerPhase, part: i64) -> Vec<Node> {
        let limit = self.plan.limit();
        let room = base.map(|base| limit - MilliAmps(self.plan.margin(limit).0 / part) - base);
        let mut excess = vec![[MilliAmps::ZERO; 3]; self.plan.fuses.len() + 1];
        for (device, claim) in self.devices.iter().zip(&self.claims) {
            for node in self.granter.path(claim.node) {
                excess[node].iter_mut().zip(device.excess).for_each(|(sum, excess)| *sum += excess);
            }
        }
        let mut nodes = vec![Node { name: None, parent: None, room }];
        for (fuse, parent) in self.plan.fuses.iter().zip(self.granter.parents().iter().copied().skip(1)) {
            let room = fuse.limit_ma - MilliAmps(fuse.limit_ma.percent(2).0 / part) - fuse.base_ma;
            let room = excess[nodes.len()].map(|excess| room - excess);
            nodes.push(Node { name: Some(fuse.name.clone()), parent, room });
        }
        nodes
    }

    /// Brings all claims up to date.
    fn make_claims(&mut self, obeyed: &[MilliAmps], now: BootTime) {
        let silent_after = self.silent_after();
        let doing: Vec<Doing> = self
            .devices
            .iter()
            .zip(obeyed)
            .map(|(device, obeyed)| Doing {
                wants: device.demand(silent_after, now) > MilliAmps::ZERO,
                on: device.demand(silent_after, now) > MilliAmps::ZERO && *obeyed >= device.least(),
                class: device.priority(),
            })
            .collect();
        if !self.has_to_listen(now) {
            self.turns.pass(&doing, self.plan.plant_time(now.since(self.began)));
        }
        for (place, (device, claim)) in self.devices.iter().zip(&mut self.claims).enumerate() {
            let can = &device.can;
            claim.class = device.priority();
            claim.turn = self.turns.place(place);
            claim.demand = device.demand(silent_after, now);
            (claim.min, claim.max) = (can.min_ma, can.max_ma);
            if claim.steps != can.steps_ma {
                claim.steps.clone_from(&can.steps_ma);
            }
            claim.runs_on = self.turns.runs_on(place, can.min_on_ms);
            claim.rests = self.turns.rests(place, can.min_off_ms);
            claim.barred = device.is_off();
        }
    }

    /// Sends one device what is due, if anything is.
    fn lead(&mut self, place: usize, share: &Share, obeyed: MilliAmps, scene: &mut Scene, voice: &mut impl Voice) {
        let now = scene.now;
        let terms = self.plan.terms;
        let device = &self.devices[place];
        let Some(heard) = device.heard.as_ref().filter(|heard| now < heard.received + terms.ttl) else { return };
        let (answers, received) = (heard.reference, heard.received);
        let idle = heard.measurement.demand_ma <= MilliAmps::ZERO && share.limit == obeyed;
        let since_sent = device.sent.map_or(Millis(u64::MAX), |sent| now.since(sent.at));
        let answered = device.sent.is_some_and(|sent| sent.answers == answers);
        let repeated = device.sent.filter(|sent| sent.limit == share.limit);
        let beat = heartbeat(terms.ttl);

        let mut due = None;
        if share.limit > obeyed {
            let tally = scene.tally.get_or_insert_with(|| self.granter.tally(now));
            let fitting = self.granter.fitting(place, &self.rooms, tally);
            let limit = self.rise(place, obeyed, share.limit, fitting);
            // Who does not follow is not asked all the time.
            let wait = match device.sent.filter(|sent| sent.limit > obeyed) {
                Some(sent) if sent.in_vain >= RAISED_IN_VAIN => beat,
                Some(_) => ON_THE_WAY,
                None => Millis::ZERO,
            };
            due = (limit > obeyed && since_sent >= wait).then_some(limit);
        } else {
            let older = self.granter.largest(place, now).is_some_and(|largest| largest > share.limit);
            let arrived = repeated.is_some() && device.has_heard_of(self.granter.session());
            if share.limit < obeyed || (older && !arrived) {
                let wait = match repeated {
                    // All that is older has run out.
                    Some(sent) if sent.in_vain >= counted_for(terms.ttl).0 / REPEAT.0 => beat,
                    Some(_) => REPEAT,
                    None => Millis::ZERO,
                };
                due = (since_sent >= wait).then_some(share.limit);
            }
        }
        // What the device says once a heartbeat is answered when it comes, and its answer to that is not.
        let wait = if now.since(received) <= AT_ONCE { Millis(beat.0 / 2) } else { beat + REPEAT * 2 };
        let renewal = !answered && since_sent >= wait && !idle;
        let limit = match (due, renewal) {
            (Some(limit), _) => limit,
            (None, true) => share.limit.min(obeyed),
            (None, false) => return,
        };

        let tally = scene.tally.get_or_insert_with(|| self.granter.tally(now));
        let Some(offer) = self.granter.offer(place, limit, &self.rooms, tally) else { return };
        if limit > obeyed {
            // What it may have been granted already, it was allowed to rise to already.
            let had = self.granter.largest(place, now).unwrap_or(obeyed).max(obeyed);
            self.ramp.spend(&device.phases, (limit - had).max(MilliAmps::ZERO));
        }
        if !offer.hold {
            // Whatever is believed to be obeyed: what is no hold may raise.
            voice.raising(&device.name, self.rooms[0]);
        }
        let rising = obeyed < limit && limit < share.limit;
        let setpoint = Setpoint {
            answers: offer.answers,
            limit_ma: offer.limit,
            ttl_ms: offer.ttl,
            hold: offer.hold,
            epoch: offer.epoch,
            reason: if rising { Reason::Ramp } else { share.reason.clone() },
        };
        let seq = voice.setpoint(&device.name, setpoint);
        self.granter.granted(place, &offer, seq, tally);
        let device = &mut self.devices[place];
        let since_seq = device.sent.filter(|sent| sent.limit == offer.limit).map_or(seq, |sent| sent.since_seq);
        let unheard = device.sent.filter(|_| !device.has_heard_of(self.granter.session()));
        let in_vain = unheard.map_or(0, |sent| sent.in_vain + 1);
        device.sent = Some(Sent { seq, limit: offer.limit, since_seq, in_vain, at: now, answers });
    }

    /// How far a device may rise now on its way from `obeyed` to `wish`, where no more than `fitting` fits: `obeyed` if
    /// that is not worth a message.
    fn rise(&self, place: usize, obeyed: MilliAmps, wish: MilliAmps, fitting: MilliAmps) -> MilliAmps {
        let device = &self.devices[place];
        let allowed = self.ramp.allows(&device.phases);
        if allowed <= MilliAmps::ZERO {
            return obeyed;
        }
        let mut reach = device.usable(obeyed + allowed);
        if reach <= obeyed {
            // It cannot rise by less.
            reach = device.next_above(obeyed);
        }
        let worth = if reach < wish.min(fitting) {
            self.plan.limit().percent(RAMP_PART_PERCENT).max(WORTH_RAISING)
        } else {
            WORTH_RAISING
        };
        let limit = device.usable(wish.min(reach).min(fitting));
        if limit - obeyed >= worth.min(wish - obeyed) { limit } else { obeyed }
    }
}

/// What a device is to have, where it could have `up` if that is more than it obeys, and must go down to `down`.
fn wish(device: &Device, claim: &Claim, up: Share, down: Share, obeyed: MilliAmps, scene: &Scene) -> Share {
    let satisfied = |share: &Share| matches!(share.reason, Reason::Demand | Reason::Maximum);
    // A dimming order's floor is exact.
    let exact = |share: &Share| satisfied(share) || share.reason == Reason::Dimming || !claim.steps.is_empty();
    let rounded = |share: &Share| match exact(share) {
        true => share.limit,
        false => MilliAmps(share.limit.0 / STEP.0 * STEP.0).max(share.limit.min(claim.min)),
    };
    // Who is left out for want of room can differ between the two, so that one gives more than the other.
    let up = if up.limit <= down.limit { up } else { down.clone() };
    let mut wish = if rounded(&down) < obeyed {
        Share { limit: rounded(&down), reason: down.reason }
    } else if scene.may_raise
        && up.limit > obeyed
        && (satisfied(&up) || rounded(&up) - obeyed >= WORTH_RAISING || obeyed < device.least())
    {
        Share { limit: rounded(&up), reason: up.reason }
    } else {
        Share { limit: obeyed, reason: up.reason }
    };
    if claim.demand <= MilliAmps::ZERO {
        // What is reserved for it anyway need not be taken from a device that wants nothing.
        wish.limit = obeyed.min(device.failsafe);
    }
    if scene.meter_failed {
        wish = Share { limit: obeyed.min(device.failsafe), reason: Reason::Failsafe };
    } else if scene.take_back {
        wish.limit = wish.limit.min(obeyed.percent(90));
    }
    wish
}
