//! What people are told of as events.

use grid_protocol::message::{Event, Phase};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::condition::silence;
use super::{Condition, Transformer, Voice, WORTH_RAISING, per_phase};
use crate::lease::PerPhase;

/// What control takes back within this time is no overload yet.
const OVERLOAD_AFTER: Millis = Millis(200);

/// What people have been told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    over_since: [Option<BootTime>; 3],
    overloaded: [bool; 3],
    reserve_exceeds: [bool; 3],
}

impl Transformer {
    /// Follows the condition, and tells of it. Returns it.
    pub(super) fn follow_condition(&mut self, now: BootTime, voice: &mut impl Voice) -> Condition {
        let silence = silence(self.read.map(|read| read.at), self.started, now);
        let condition = Condition::of(self.granter.is_starting(now), silence, self.meter_interval);
        let was = std::mem::replace(&mut self.condition, condition);
        if let Some(event) = was.becomes(condition, silence) {
            voice.event(event);
        }
        condition
    }

    pub(super) fn tell_who_draws_too_much(&mut self, place: usize, now: BootTime, voice: &mut impl Voice) {
        let (granted, starting) = (self.granter.largest(place, now), self.granter.is_starting(now));
        let device = &mut self.devices[place];
        let Some(heard) = &device.heard else { return };
        let limit_ma = device.entitled(granted, starting);
        let current_ma = heard.measurement.current_ma.iter().copied().max().unwrap_or(MilliAmps::ZERO);
        let above = current_ma > limit_ma + limit_ma.percent(5).max(WORTH_RAISING) && heard.measurement.settled;
        if above && !device.above_limit {
            voice.event(Event::AboveLimit { device: device.name.clone(), current_ma, limit_ma });
        }
        device.above_limit = above;
    }

    pub(super) fn tell_who_is_back(&mut self, place: usize, voice: &mut impl Voice) {
        let device = &mut self.devices[place];
        if std::mem::take(&mut device.lost) {
            voice.event(Event::DeviceBack { device: device.name.clone() });
        }
    }

    pub(super) fn tell_who_is_lost(&mut self, now: BootTime, voice: &mut impl Voice) {
        let silent_after = self.silent_after();
        for device in self.devices.iter_mut().filter(|device| !device.lost) {
            if device.is_silent(silent_after, now) {
                device.lost = true;
                voice.event(Event::DeviceLost { device: device.name.clone() });
            }
        }
    }

    pub(super) fn tell_overloads(&mut self, load: PerPhase, now: BootTime, voice: &mut impl Voice) {
        let limit_ma = per_phase(self.plan.limit_w);
        for phase in Phase::ALL {
            let (at, load_ma) = (phase.index(), load[phase.index()]);
            if load_ma <= limit_ma {
                self.told.over_since[at] = None;
                if std::mem::take(&mut self.told.overloaded[at]) {
                    voice.event(Event::OverloadEnded { phase });
                }
            } else {
                let since = *self.told.over_since[at].get_or_insert(now);
                if now.since(since) >= OVERLOAD_AFTER && !std::mem::replace(&mut self.told.overloaded[at], true) {
                    voice.event(Event::OverloadStarted { phase, load_ma, limit_ma });
                }
            }
        }
    }

    /// Rule 5: where the reserve does not fit, the rule of the system cannot be kept, and people must know.
    pub(super) fn tell_reserve(&mut self, voice: &mut impl Voice) {
        let Some(read) = self.read else { return };
        let mut reserve = [MilliAmps::ZERO; 3];
        for device in &self.devices {
            device.phases.iter().for_each(|phase| reserve[phase.index()] += device.failsafe);
        }
        for phase in Phase::ALL {
            let reserve_ma = reserve[phase.index()];
            let room_ma = per_phase(self.plan.limit_w) - read.uncontrolled[phase.index()];
            let exceeds = reserve_ma > MilliAmps::ZERO && reserve_ma > room_ma;
            if exceeds && !self.told.reserve_exceeds[phase.index()] {
                voice.event(Event::ReserveExceedsRoom { phase, reserve_ma, room_ma });
            }
            self.told.reserve_exceeds[phase.index()] = exceeds;
        }
    }
}
