//! How often what waits is said again: less and less, while the anchor acknowledges nothing.
//!
//! An anchor may be there and hear nothing: while its disk is full, it neither logs nor acknowledges. What waits is said
//! again in rounds. Each message is said at most once in a round, and not more messages than an anchor that works would
//! let pass without a word. A round without an acknowledgement is followed by one that lasts twice as long and has room
//! for half as many.

use grid_protocol::units::{BootTime, Millis};

use super::keeping::MISSING_AGAIN;

/// No round lasts longer.
const LONGEST: Millis = Millis(600_000);
/// So many messages are said in a round: as many as 15 s have room for at 200 a second.
const MOST: usize = 3000;
/// Every round has room for so many.
const LEAST: usize = 20;
/// Beyond this the longest round is reached, however short the first was.
const MOST_SILENT: u32 = 20;

/// Where the saying again has got to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rounds {
    /// The one that goes on, if one does.
    began: Option<BootTime>,
    /// How many before it brought no acknowledgement.
    silent: u32,
    /// Messages said in it.
    said: usize,
}

/// What may be said now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What is missing, if it was said last before so long.
    pub soon: Millis,
    /// All else, if it was said last before so long.
    pub patience: Millis,
    /// Not more messages than this.
    pub most: usize,
}

impl Rounds {
    /// The anchor hears: something was acknowledged, or it has just begun.
    pub fn heard(&mut self) {
        *self = Self::default();
    }

    /// What may be said now, if the first round lasts as long as `patience`.
    pub fn turn(&mut self, now: BootTime, patience: Millis) -> Turn {
        let began = *self.began.get_or_insert(now);
        if now.since(began) >= self.stretched(patience) {
            // One in which nothing had to be said again tells nothing.
            let silent = self.silent + u32::from(self.said > 0);
            *self = Self { began: Some(now), silent: silent.min(MOST_SILENT), said: 0 };
        }
        let patience = self.stretched(patience);
        Turn {
            soon: self.stretched(MISSING_AGAIN).min(patience),
            patience,
            most: self.room().saturating_sub(self.said),
        }
    }

    fn room(&self) -> usize {
        (MOST >> self.silent).max(LEAST)
    }

    fn stretched(&self, time: Millis) -> Millis {
        Millis(time.0 << self.silent).min(LONGEST.max(time))
    }

    /// So many messages were said.
    pub fn said(&mut self, count: usize) {
        self.said += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Millis = Millis(15_000);

    #[test]
    fn rounds_without_an_acknowledgement_last_twice_as_long_up_to_ten_minutes() {
        let mut rounds = Rounds::default();
        let (mut began, mut last) = (Vec::new(), Millis(0));
        for second in 0..3600 {
            let patience = rounds.turn(BootTime(second * 1000), PATIENCE).patience;
            rounds.said(1);
            if std::mem::replace(&mut last, patience) != patience {
                began.push((second, patience.0 / 1000));
            }
        }
        assert_eq!(began, [(0, 15), (15, 30), (45, 60), (105, 120), (225, 240), (465, 480), (945, 600)]);
        rounds.heard();
        let turn = rounds.turn(BootTime(3_600_000), PATIENCE);
        assert_eq!((turn.soon, turn.patience), (MISSING_AGAIN, PATIENCE));
    }

    #[test]
    fn as_long_as_nothing_has_to_be_said_again_no_round_is_longer_than_the_first() {
        let mut rounds = Rounds::default();
        for second in 0..3600 {
            assert_eq!(rounds.turn(BootTime(second * 1000), PATIENCE).patience, PATIENCE);
        }
    }

    #[test]
    fn a_round_has_room_for_so_many_messages_and_the_next_for_half_as_many() {
        let mut rounds = Rounds::default();
        let mut said = 0;
        let mut say = |seconds: std::ops::Range<u64>| {
            for tick in seconds.start * 20..seconds.end * 20 {
                let most = rounds.turn(BootTime(tick * 50), PATIENCE).most.min(100);
                rounds.said(most);
                said += most;
            }
            said
        };
        assert_eq!(say(0..15), MOST);
        assert_eq!(say(15..45), MOST + MOST / 2);
        let before = say(45..7200);
        assert_eq!(say(7200..10_800) - before, 6 * LEAST, "each ten minutes");
    }
}
