//! What people are told of as events.

use grid_protocol::message::{Event, Phase};
use grid_protocol::units::{BootTime, MilliAmps, Millis};

use super::{Condition, Transformer, Voice, WORTH_RAISING};
use crate::lease::PerPhase;

/// What control takes back within this time is no overload yet.
const OVERLOAD_AFTER: Millis = Millis(200);

/// A meter that is saturated again within this time was told of.
const SATURATED_AGAIN: Millis = Millis(10_000);

/// What people have been told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    overloads: [Overload; 3],
    reserve_exceeds: [bool; 3],
    saturated_at: Option<BootTime>,
}

/// Whether a phase carries too much, and since when that is no longer so, or is so again.
#[derive(Clone, Copy, Debug, Default)]
struct Overload {
    told: bool,
    otherwise_since: Option<BootTime>,
}

impl Transformer {
    /// Follows the condition, and tells of it. Returns it.
    pub(super) fn follow_condition(&mut self, now: BootTime, voice: &mut impl Voice) -> Condition {
        let silence = now.since(self.read.map_or(self.started, |read| read.at));
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
        let limit_ma = device.entitled(granted, starting, now);
        if !heard.measurement.settled {
            return;
        }
        let current_ma = heard.measurement.current_ma.iter().copied().max().unwrap_or(MilliAmps::ZERO);
        let above = current_ma > limit_ma + limit_ma.percent(5).max(WORTH_RAISING);
        if above && !device.above_limit {
            voice.event(Event::AboveLimit { device: device.name.clone(), current_ma, limit_ma });
        }
        device.above_limit = above;
        device.excess = [MilliAmps::ZERO; 3];
        for (phase, current) in device.phases.iter().zip(&heard.measurement.current_ma).filter(|_| above) {
            device.excess[phase.index()] = (*current - limit_ma).max(MilliAmps::ZERO);
        }
    }

    pub(super) fn tell_who_is_back(&mut self, place: usize, voice: &mut impl Voice) {
        let device = &mut self.devices[place];
        if std::mem::take(&mut device.lost) {
            voice.event(Event::DeviceBack { device: device.name.clone() });
        }
    }

    pub(super) fn tell_who_is_lost(&mut self, now: BootTime, voice: &mut impl Voice) {
        let (silent_after, started) = (self.silent_after(), self.started);
        for device in self.devices.iter_mut().filter(|device| !device.lost) {
            if device.is_silent(silent_after, started, now) {
                device.lost = true;
                voice.event(Event::DeviceLost { device: device.name.clone() });
            }
        }
    }

    pub(super) fn tell_overloads(&mut self, load: PerPhase, now: BootTime, voice: &mut impl Voice) {
        let limit_ma = self.plan.limit();
        for phase in Phase::ALL {
            let load_ma = load[phase.index()];
            let overload = &mut self.told.overloads[phase.index()];
            if (load_ma > limit_ma) == overload.told {
                overload.otherwise_since = None;
            } else if now.since(*overload.otherwise_since.get_or_insert(now)) >= OVERLOAD_AFTER {
                *overload = Overload { told: !overload.told, otherwise_since: None };
                voice.event(match overload.told {
                    true => Event::OverloadStarted { phase, load_ma, limit_ma },
                    false => Event::OverloadEnded { phase },
                });
            }
        }
    }

    pub(super) fn tell_saturation(&mut self, saturated: bool, now: BootTime, voice: &mut impl Voice) {
        if saturated {
            let before = self.told.saturated_at.replace(now);
            if before.is_none_or(|before| now.since(before) > SATURATED_AGAIN) {
                voice.event(Event::MeterSaturated {});
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
            let limit = self.plan.limit();
            let room_ma = limit - read.uncontrolled[phase.index()];
            let told = &mut self.told.reserve_exceeds[phase.index()];
            if !*told && reserve_ma > MilliAmps::ZERO && reserve_ma > room_ma {
                *told = true;
                voice.event(Event::ReserveExceedsRoom { phase, reserve_ma, room_ma });
            } else if *told && reserve_ma + self.plan.margin(limit) <= room_ma {
                *told = false;
                voice.event(Event::ReserveFits { phase });
            }
        }
    }
}
