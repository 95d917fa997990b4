//! Orders that change what a transformer keeps: an operator's limit, and a grid operator's dimming.

use grid_protocol::message::Event;
use grid_protocol::units::{BootTime, MilliAmps, UnixMillis};

use super::{NOMINAL_VOLTS, Transformer, Voice};
use crate::allocation::Dimming;

/// What a controllable device keeps under a dimming order, in watts (§ 14a EnWG, BNetzA BK6-22-300).
const FLOOR_W: u64 = 4_200;

/// A grid operator's order: all controllable devices together draw no more than this for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dim {
    /// What they may draw together, in watts at 230 V.
    pub cap_w: u64,
    /// When it ends, on the clock that no setting of the civil clock moves.
    pub ends: BootTime,
    /// The same as it was ordered.
    pub until: UnixMillis,
}

/// The current of this power at 230 V, summed up over phases.
fn summed_up(watts: u64) -> MilliAmps {
    MilliAmps(i64::try_from(watts).unwrap_or(i64::MAX).saturating_mul(1000) / NOMINAL_VOLTS)
}

impl Transformer {
    /// The limit that is kept now, in watts.
    pub fn limit_w(&self) -> u64 {
        self.plan.limit_w
    }

    /// An operator, `by`, sets another limit. It holds at once.
    pub fn on_limit(&mut self, limit_w: u64, by: String, now: BootTime, voice: &mut impl Voice) {
        let old_w = std::mem::replace(&mut self.plan.limit_w, limit_w);
        if old_w != limit_w {
            voice.event(Event::LimitChanged { by, old_w, new_w: limit_w });
            self.tell_reserve(voice);
            self.decide(now, voice);
        }
    }

    /// A grid operator, `by`, orders dimming, or lifts its order. A contact that is closed goes on holding.
    pub fn on_dimming(&mut self, order: Option<Dim>, by: String, now: BootTime, voice: &mut impl Voice) {
        let old_w = self.cap_w();
        if std::mem::replace(&mut self.dimming, order) != order {
            self.tell_dimming(by, old_w, now, voice);
        }
    }

    /// The utility's contact has closed, and all devices together may draw so many watts, or it has opened. Of it and an
    /// order by `set/dimming` the lower holds.
    pub fn on_contact(&mut self, cap_w: Option<u64>, now: BootTime, voice: &mut impl Voice) {
        let old_w = self.cap_w();
        if std::mem::replace(&mut self.contact, cap_w) != cap_w {
            self.tell_dimming("contact".to_owned(), old_w, now, voice);
        }
    }

    /// What may be drawn under the orders in force, in currents summed up over the phases of devices.
    pub(super) fn dimming(&self) -> Option<Dimming> {
        self.cap_w().map(|cap_w| Dimming { cap: summed_up(cap_w), floor: summed_up(FLOOR_W) })
    }

    fn cap_w(&self) -> Option<u64> {
        self.dimming.map(|order| order.cap_w).into_iter().chain(self.contact).min()
    }

    fn tell_dimming(&mut self, by: String, old_w: Option<u64>, now: BootTime, voice: &mut impl Voice) {
        // Nobody knows when a contact opens.
        let until_ms = self.dimming.filter(|_| self.contact.is_none()).map(|order| order.until);
        voice.event(Event::DimmingChanged { by, old_w, new_w: self.cap_w(), until_ms });
        self.decide(now, voice);
    }

    pub(super) fn end_dimming(&mut self, now: BootTime, voice: &mut impl Voice) {
        if self.dimming.is_some_and(|order| now >= order.ends) {
            self.on_dimming(None, "clock".to_owned(), now, voice);
        }
    }
}
