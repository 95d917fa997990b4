//! Energy without rounding.

use std::iter::Sum;
use std::ops::{Add, Sub};

use grid_protocol::units::{MilliAmps, MilliWattHours};

use crate::street::VOLTS;

/// Milliwatts times microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NanoJoules(pub(super) i128);

/// A milliwatt-hour is 3.6 J.
const PER_MILLIWATT_HOUR: i128 = 3_600_000_000;

/// Milliwatts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MilliWatts(pub(super) i64);

impl MilliWatts {
    /// The power of a current on each of `phases` phases.
    pub(super) fn of(current: MilliAmps, phases: usize) -> Self {
        Self(current.0.saturating_mul(VOLTS).saturating_mul(i64::try_from(phases).unwrap_or(i64::MAX)))
    }

    /// The energy of this power during so many microseconds.
    pub(super) fn during(self, us: u64) -> NanoJoules {
        NanoJoules(i128::from(self.0) * i128::from(us))
    }
}

impl NanoJoules {
    pub(super) fn from_watt_hours(wh: u64) -> Self {
        Self(i128::from(wh) * 1_000 * PER_MILLIWATT_HOUR)
    }

    /// Whole watt-hours, rounded down.
    pub(super) fn watt_hours(self) -> u64 {
        u64::try_from(self.0 / (1_000 * PER_MILLIWATT_HOUR)).unwrap_or_default()
    }

    /// Whole milliwatt-hours, rounded down.
    pub(super) fn milliwatt_hours(self) -> MilliWattHours {
        MilliWattHours(i64::try_from(self.0 / PER_MILLIWATT_HOUR).unwrap_or(i64::MAX))
    }

    /// How many microseconds `power` takes to deliver it, rounded up; `None` if it never does.
    pub(super) fn us_at(self, power: MilliWatts) -> Option<u64> {
        let power = i128::from(power.0);
        (power > 0).then(|| u64::try_from((self.0 + power - 1) / power).unwrap_or(u64::MAX))
    }
}

impl Add for NanoJoules {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for NanoJoules {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Sum for NanoJoules {
    fn sum<I: Iterator<Item = Self>>(energies: I) -> Self {
        energies.fold(Self::default(), Add::add)
    }
}
