//! The transformer's summary.

use grid_protocol::message::Balance;
use grid_protocol::units::{BootTime, MilliAmps};

use super::Transformer;

impl Transformer {
    /// The summary; nothing before the first reading.
    pub fn balance(&self, now: BootTime) -> Option<Balance> {
        let read = self.read?;
        let limit = self.plan.limit();
        let (mut wanted, mut held_back) = (0_i64, 0_i64);
        for (place, device) in self.devices.iter().enumerate() {
            let phases = device.phases.len() as i64;
            let demand = device.demand(self.silent_after(), now);
            let share = self.shares.get(place).map_or(MilliAmps::ZERO, |share| share.limit);
            wanted = wanted.saturating_add(demand.0.saturating_mul(phases));
            held_back = held_back.saturating_add((demand - share).0.max(0).saturating_mul(phases));
        }
        Some(Balance {
            limit_ma: vec![limit; 3],
            load_ma: read.load.to_vec(),
            uncontrolled_ma: read.uncontrolled.to_vec(),
            headroom_ma: read.load.iter().map(|load| limit - *load).collect(),
            devices: u32::try_from(self.devices.len()).unwrap_or(u32::MAX),
            held_back_percent: u8::try_from(held_back.saturating_mul(100) / wanted.max(1)).unwrap_or(100),
            limit_w: Some(self.plan.limit_w),
        })
    }
}
