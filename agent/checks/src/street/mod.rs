//! Random streets, to the millisecond.
//!
//! One to eight devices behind a transformer and up to two fuses, each with its own phases, failsafe limit and clock. They
//! report once a heartbeat, when they have accepted a setpoint and when their actuator has followed. The transformer looks
//! at its book every few milliseconds and leads every device to what it wishes for it, much as the one that runs does:
//! decreases at once and repeated, increases as far as they fit, everything else as a renewal. Now and then it sends
//! something senseless.
//!
//! Every message may be lost, delayed, delivered twice or overtaken; every party may crash and start again; rooms shrink
//! and grow. When a room shrinks, what devices are entitled to can exceed it until it is taken back, so entitlement is
//! held against the room that the transformer found when it last sent something there that may raise.
//!
//! A [`Case`] says all that happens: chance comes from its seed, so it can be played again.

mod case;
mod play;

pub use case::{Case, Event, Happening, cases};
pub use play::{Broken, play};

/// A source of chance that is the same for the same seed: SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom
/// Number Generators, 2014).
#[derive(Clone, Copy, Debug)]
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0, 1, … up to `most`.
    fn up_to(&mut self, most: u64) -> u64 {
        self.next() % (most + 1)
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }
}
