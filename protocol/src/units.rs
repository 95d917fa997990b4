//! Integers with their unit in the type.
//!
//! Nothing in control or in a signed message is a float: the same inputs give the same setpoint on every machine, and
//! a number in a message is the number that was acted on.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// The largest magnitude that JSON readers everywhere agree on: 2^53 − 1 (RFC 8259, section 6).
pub const LARGEST: i64 = (1 << 53) - 1;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident($inner:ty), $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{} ", $unit), self.0)
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                *self = *self - other;
            }
        }

        impl Mul<$inner> for $name {
            type Output = Self;
            fn mul(self, factor: $inner) -> Self {
                Self(self.0.saturating_mul(factor))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Add::add)
            }
        }
    };
}

quantity!(
    /// An electric current per phase. Negative: fed into the grid.
    MilliAmps(i64),
    "mA"
);
quantity!(
    /// A voltage between phase and neutral.
    MilliVolts(i64),
    "mV"
);
quantity!(
    /// An energy. Negative: fed into the grid.
    MilliWattHours(i64),
    "mWh"
);
quantity!(
    /// A span of time.
    Millis(u64),
    "ms"
);

impl Neg for MilliAmps {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Millis {
    /// Whether it is no time at all.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl MilliAmps {
    /// This many percent of the current, rounded towards zero.
    pub fn percent(self, percent: i64) -> Self {
        Self(self.0.saturating_mul(percent) / 100)
    }
}

/// A moment on the machine's boot-time clock (`CLOCK_BOOTTIME`), in milliseconds.
///
/// Leases, staleness and heartbeats are counted on it: it never jumps, and it goes on while the machine sleeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootTime(pub u64);

impl BootTime {
    /// How long ago `earlier` was; zero if it lies in the future.
    pub fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for BootTime {
    type Output = Self;
    fn add(self, span: Millis) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub<Millis> for BootTime {
    type Output = Self;
    fn sub(self, span: Millis) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// A moment on the civil clock, in milliseconds since 1970 (Unix time), as its teller believes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_saturate_instead_of_overflowing() {
        assert_eq!(MilliAmps(i64::MAX) + MilliAmps(1), MilliAmps(i64::MAX));
        assert_eq!(BootTime(3) - Millis(5), BootTime(0));
        assert_eq!(BootTime(3).since(BootTime(5)), Millis(0));
    }

    #[test]
    fn a_quantity_is_a_bare_number_in_json_and_names_its_unit_for_people() {
        assert_eq!(serde_json::to_string(&MilliAmps(11_950)).unwrap(), "11950");
        assert_eq!(MilliVolts(229_800).to_string(), "229800 mV");
    }
}
