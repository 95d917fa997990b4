//! Whose turn it is, where not all who want current can have their minimum.
//!
//! Every ten minutes who had least time so far comes first. In between the order stays as it is, so that nobody is stopped
//! because of another's few seconds: who comes is last, and waits for the next round. Time counts only while somebody of
//! the same class waits. A device that was stopped for want of room stays off for a minute; one that is off for whatever
//! reason, for its minimum off-time; one that is on goes on for its minimum on-time. After a start nobody knows who was on:
//! then a minimum off-time begins. All times here are plant time.

use grid_protocol::units::Millis;

/// How long an order lasts.
const ROUND: Millis = Millis(600_000);
/// Who was stopped for want of room stays off for so long.
const SHORTEST_STOP: Millis = Millis(60_000);

/// What one device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doing {
    /// It wants current.
    pub wants: bool,
    /// It obeys a limit that is of use to it.
    pub on: bool,
    /// Its priority.
    pub class: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// Its place in the order; unique.
    place: u64,
    wants: bool,
    /// How long it had current while others waited.
    served: Millis,
    on_since: Option<Millis>,
    /// Since when it is off, if it is.
    off_since: Option<Millis>,
    /// When it was stopped for want of room, if it was.
    stopped_at: Option<Millis>,
}

/// The order of all devices.
#[derive(Clone, Debug)]
pub struct Turns {
    turns: Vec<Turn>,
    next_place: u64,
    now: Millis,
    round_ends: Millis,
}

impl Turns {
    pub fn new(devices: usize) -> Self {
        let turn = Turn { off_since: Some(Millis::ZERO), ..Turn::default() };
        Self { turns: vec![turn; devices], next_place: 0, now: Millis::ZERO, round_ends: ROUND }
    }

    /// Lets time pass until `now`, during which devices did what they are doing.
    pub fn pass(&mut self, doing: &[Doing], now: Millis) {
        let span = Millis(now.0.saturating_sub(self.now.0));
        self.now = now;
        let mut waited_for = [false; 10];
        for (turn, doing) in self.turns.iter().zip(doing) {
            waited_for[class(doing)] |= turn.wants && doing.wants && !doing.on;
        }
        let mut least: [Option<Millis>; 10] = [None; 10];
        for (turn, doing) in self.turns.iter_mut().zip(doing).filter(|(turn, _)| turn.wants) {
            if doing.on && waited_for[class(doing)] {
                turn.served += span;
            }
            let least = &mut least[class(doing)];
            *least = Some(least.map_or(turn.served, |least| least.min(turn.served)));
        }
        for (turn, doing) in self.turns.iter_mut().zip(doing) {
            if doing.wants && !turn.wants {
                // Who comes has no claim to the time before it came.
                turn.served = turn.served.max(least[class(doing)].unwrap_or(Millis::ZERO));
                turn.place = self.next_place;
                self.next_place += 1;
            }
            turn.wants = doing.wants;
            if !doing.wants {
                turn.stopped_at = None;
            }
            (turn.on_since, turn.off_since) = match doing.on {
                true => (turn.on_since.or(Some(now)), None),
                false => (None, turn.off_since.or(Some(now))),
            };
        }
        if now >= self.round_ends {
            self.round_ends = now + ROUND;
            self.begin_round();
        }
    }

    fn begin_round(&mut self) {
        let mut order: Vec<usize> = (0..self.turns.len()).collect();
        order.sort_by_key(|device| (self.turns[*device].served, self.turns[*device].place));
        for (place, device) in (0..).zip(order) {
            self.turns[device].place = place;
        }
        self.next_place = self.turns.len() as u64;
    }

    /// Notes whether a device is given enough to be of use, or is stopped.
    pub fn give(&mut self, device: usize, enough: bool) {
        let turn = &mut self.turns[device];
        if enough {
            turn.stopped_at = None;
        } else if turn.wants && turn.on_since.is_some() && turn.stopped_at.is_none() {
            turn.stopped_at = Some(self.now);
        }
    }

    /// Its place: lower first.
    pub fn place(&self, device: usize) -> u64 {
        self.turns[device].place
    }

    /// Whether it has been on for less than `min_on`.
    pub fn runs_on(&self, device: usize, min_on: Millis) -> bool {
        self.turns[device].on_since.is_some_and(|since| self.now.0 < since.0.saturating_add(min_on.0))
    }

    /// Whether it was stopped less than a minute ago, or has been off for less than `min_off`.
    pub fn rests(&self, device: usize, min_off: Millis) -> bool {
        let turn = &self.turns[device];
        let lasts = |since: Option<Millis>, span: Millis| {
            since.is_some_and(|since| self.now.0 < since.0.saturating_add(span.0))
        };
        lasts(turn.stopped_at, SHORTEST_STOP) || lasts(turn.off_since, min_off)
    }
}

fn class(doing: &Doing) -> usize {
    usize::from(doing.class.min(9))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;

    /// Devices of one class, of which as many as `fit` are on, by their places.
    fn run(turns: &mut Turns, wants: &[bool], fit: usize, from: u64, to: u64) -> Vec<u64> {
        let mut on_time = vec![0; wants.len()];
        for minute in from..to {
            let mut order: Vec<usize> = (0..wants.len()).filter(|device| wants[*device]).collect();
            order.sort_by_key(|device| turns.place(*device));
            let on = &order[..fit.min(order.len())];
            on.iter().for_each(|device| on_time[*device] += 1);
            let doing: Vec<Doing> = (0..wants.len())
                .map(|device| Doing { wants: wants[device], on: on.contains(&device), class: 5 })
                .collect();
            turns.pass(&doing, Millis((minute + 1) * MINUTE));
        }
        on_time
    }

    #[test]
    fn twelve_share_five_places_equally_over_a_night() {
        let mut turns = Turns::new(12);
        let on_time = run(&mut turns, &[true; 12], 5, 0, 12 * 60);
        let (least, most) = (on_time.iter().min().unwrap(), on_time.iter().max().unwrap());
        assert!(most - least <= 10, "{on_time:?}");
    }

    #[test]
    fn the_order_stays_for_ten_minutes() {
        let mut turns = Turns::new(3);
        assert_eq!(run(&mut turns, &[true; 3], 1, 0, 9), [9, 0, 0]);
        assert_eq!(run(&mut turns, &[true; 3], 1, 9, 30), [1, 10, 10]);
    }

    #[test]
    fn who_comes_later_is_last_and_makes_nobody_pay_for_the_time_before() {
        let mut turns = Turns::new(3);
        run(&mut turns, &[true, true, false], 1, 0, 60);
        let on_time = run(&mut turns, &[true; 3], 1, 60, 360);
        assert!(on_time.iter().all(|minutes| (90..=110).contains(minutes)), "{on_time:?}");
    }

    #[test]
    fn time_without_anybody_waiting_is_held_against_nobody() {
        let mut turns = Turns::new(2);
        run(&mut turns, &[true, false], 2, 0, 600);
        let on_time = run(&mut turns, &[true, true], 1, 600, 700);
        assert_eq!(on_time, [50, 50]);
    }

    #[test]
    fn a_stopped_device_rests_and_a_started_one_runs_on() {
        let mut turns = Turns::new(1);
        let on = [Doing { wants: true, on: true, class: 5 }];
        turns.pass(&on, Millis(0));
        turns.give(0, true);
        assert!(!turns.rests(0, Millis(0)) && turns.runs_on(0, Millis(10 * MINUTE)));
        turns.pass(&on, Millis(20 * MINUTE));
        assert!(!turns.runs_on(0, Millis(10 * MINUTE)));
        turns.give(0, false);
        let off = [Doing { on: false, ..on[0] }];
        turns.pass(&off, Millis(20 * MINUTE + 1));
        turns.give(0, false);
        assert!(turns.rests(0, Millis(0)));
        turns.pass(&off, Millis(21 * MINUTE));
        assert!(!turns.rests(0, Millis(0)));
    }

    #[test]
    fn a_minimum_off_time_holds_whatever_it_was_that_ended_the_time_on() {
        let mut turns = Turns::new(1);
        let (on, off) = (Doing { wants: true, on: true, class: 5 }, Doing { wants: false, on: false, class: 5 });
        assert!(turns.rests(0, Millis(2 * MINUTE)), "nobody knows since when it is off");
        turns.pass(&[on], Millis(MINUTE));
        turns.pass(&[off], Millis(5 * MINUTE));
        turns.pass(&[Doing { wants: true, ..off }], Millis(7 * MINUTE - 1));
        assert!(turns.rests(0, Millis(2 * MINUTE)));
        turns.pass(&[Doing { wants: true, ..off }], Millis(7 * MINUTE));
        assert!(!turns.rests(0, Millis(2 * MINUTE)));
    }
}
