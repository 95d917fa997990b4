//! For how long there was no connection.

use grid_protocol::units::{BootTime, Millis};

/// The connection, as far as its interruptions go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outage {
    /// It never stood.
    #[default]
    NotYet,
    /// It stands.
    None,
    /// It stood until then.
    Since(BootTime),
}

impl Outage {
    /// The connection is gone, or was not made.
    pub fn lost(&mut self, now: BootTime) {
        if *self == Self::None {
            *self = Self::Since(now);
        }
    }

    /// It stands: for how long it did not, if it did before.
    pub fn connected(&mut self, now: BootTime) -> Option<Millis> {
        match std::mem::replace(self, Self::None) {
            Self::NotYet | Self::None => None,
            Self::Since(lost) => Some(now.since(lost)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_connection_is_no_reconnection_however_often_it_was_tried() {
        let mut outage = Outage::default();
        outage.lost(BootTime(1000));
        outage.lost(BootTime(2000));
        assert_eq!(outage.connected(BootTime(3000)), None);
    }

    #[test]
    fn an_outage_lasts_from_the_loss_to_the_attempt_that_succeeds() {
        let mut outage = Outage::default();
        outage.connected(BootTime(1000));
        for failed in [5000, 5200, 5600] {
            outage.lost(BootTime(failed));
        }
        assert_eq!(outage.connected(BootTime(6000)), Some(Millis(1000)));
        outage.lost(BootTime(9000));
        assert_eq!(outage.connected(BootTime(9100)), Some(Millis(100)));
    }
}
