//! Whether there is room on the disk for what comes.
//!
//! Intake stops while there is still room for what must be written in order: the event that says so, a checkpoint, the
//! anchor's own messages. It begins again only when there is clearly more, lest it go to and fro.

use grid_protocol::message::Event;
use grid_protocol::units::{BootTime, Millis};

/// Looking costs a system call.
const LOOK_EVERY: Millis = Millis(1000);
const MB: u64 = 1_000_000;

/// What is known about the room on the disk.
#[derive(Debug)]
pub struct Room {
    min_free_mb: u64,
    looked: Option<BootTime>,
    /// Since when there is too little.
    low: Option<BootTime>,
}

/// How many bytes must be free before intake begins again.
pub fn enough_bytes(min_free_mb: u64) -> u64 {
    min_free_mb * MB / 4 * 5
}

impl Room {
    /// There is enough, until somebody looks.
    pub fn new(min_free_mb: u64) -> Self {
        Self { min_free_mb, looked: None, low: None }
    }

    /// There was none.
    pub fn full(min_free_mb: u64, since: BootTime) -> Self {
        Self { low: Some(since), ..Self::new(min_free_mb) }
    }

    /// Whether there is too little for more than what must be said about it.
    pub fn is_low(&self) -> bool {
        self.low.is_some()
    }

    /// Whether it is time to look.
    pub fn is_due(&self, now: BootTime) -> bool {
        self.looked.is_none_or(|looked| now.since(looked) >= LOOK_EVERY)
    }

    /// It is time to look.
    pub fn look_again(&mut self) {
        self.looked = None;
    }

    /// There are so many bytes. Returns what is to be said if that changes something.
    pub fn look(&mut self, free: u64, now: BootTime) -> Option<Event> {
        self.looked = Some(now);
        let (free_mb, min_free_mb) = (free / MB, self.min_free_mb);
        match self.low {
            None if free < min_free_mb * MB => {
                self.low = Some(now);
                tracing::error!(
                    free_mb,
                    min_free_mb,
                    "too little room on the disk: nothing is logged until there is more"
                );
                Some(Event::DiskLow { free_mb, min_free_mb })
            }
            Some(since) if free >= enough_bytes(min_free_mb) => {
                self.low = None;
                tracing::info!(free_mb, "there is room on the disk again");
                Some(Event::DiskRecovered { free_mb, after_ms: now.since(since) })
            }
            None | Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_below_the_limit_and_begins_again_a_quarter_above_it() {
        let mut room = Room::new(200);
        let mut look = |free_mb: u64, second: u64| {
            let event = room.look(free_mb * MB, BootTime(second * 1000));
            (event, room.is_low())
        };
        assert_eq!(look(200, 1), (None, false));
        assert_eq!(look(199, 2), (Some(Event::DiskLow { free_mb: 199, min_free_mb: 200 }), true));
        assert_eq!(look(249, 3), (None, true));
        assert_eq!(look(250, 5), (Some(Event::DiskRecovered { free_mb: 250, after_ms: Millis(3000) }), false));
        assert_eq!(look(200, 6), (None, false));
    }

    #[test]
    fn it_looks_once_a_second_and_at_once_when_asked_to() {
        let mut room = Room::new(200);
        assert!(room.is_due(BootTime(5000)));
        room.look(u64::MAX, BootTime(5000));
        assert!(!room.is_due(BootTime(5999)) && room.is_due(BootTime(6000)));
        room.look_again();
        assert!(room.is_due(BootTime(5001)));
    }

    #[test]
    fn without_a_limit_only_a_full_disk_stops_it() {
        let mut room = Room::new(0);
        assert_eq!(room.look(0, BootTime(0)), None);
        let mut room = Room::full(0, BootTime(0));
        assert_eq!(room.look(0, BootTime(7)), Some(Event::DiskRecovered { free_mb: 0, after_ms: Millis(7) }));
    }
}
