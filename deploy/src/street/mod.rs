//! A street: its uncontrolled load and the cars that come and go, from two CSV files.
//!
//! ```csv
//! time,base_load_w,pv_w
//! 2016-10-07T00:00:00,18058,0
//! ```
//! ```csv
//! charge_point,max_power_w,arrival,departure,energy_wh
//! cp-3,3700,2016-10-07T12:00:00,2016-10-07T18:45:00,8303
//! ```
//!
//! Times are local civil times without a zone; inside they are milliseconds since the day's start, which is the first
//! row of the base file. `deploy/data/README.md` describes the columns, the source of the built-in day, and how three
//! phases are made of it. A [`Street`] that exists is consistent: every row was checked, and the first wrong one is named
//! with file, line, column and what was expected.

mod base;
mod sessions;
mod table;

use std::fs;
use std::path::Path;

use grid_protocol::message::Phase;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use time::{Duration, PrimitiveDateTime};

pub use table::StreetError;

/// Voltage between phase and neutral that all of the street is computed with, in volts.
pub const VOLTS: i64 = 230;

/// The least current that charges a car (IEC 61851-1: the control pilot's smallest offer).
pub const LEAST_CHARGING: MilliAmps = MilliAmps(6_000);

/// The largest charge point with one phase, in watts: 16 A at 230 V, rounded up as they are sold.
const LARGEST_SINGLE_PHASE_W: u64 = 3_700;

const DEFAULT_BASE: &str = include_str!("../../data/street-base.csv");
const DEFAULT_SESSIONS: &str = include_str!("../../data/street-sessions.csv");

/// One day of a street behind one transformer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Street {
    start: PrimitiveDateTime,
    step: Millis,
    base: Vec<BaseLoad>,
    charge_points: Vec<ChargePoint>,
}

/// One row of the base file: what holds for one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaseLoad {
    /// What cannot be controlled, in watts over all phases.
    pub load_w: u64,
    /// What roofs feed in, in watts over all phases. The plant leaves it out.
    pub pv_w: u64,
}

/// A charge point and the cars that visit it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargePoint {
    /// Its name, unique in the street.
    pub name: Name,
    /// The most it delivers, in watts over all its phases, as the file says.
    pub max_power_w: u64,
    /// What it is connected to: one phase or all three.
    pub phases: Vec<Phase>,
    /// In order of arrival; none begins before the one before has ended.
    pub sessions: Vec<Session>,
}

/// One stay of a car.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// When it comes, since the day's start.
    pub arrival: Millis,
    /// When it leaves, since the day's start: later than it came, possibly after the day's end.
    pub departure: Millis,
    /// What it wants, in watt-hours.
    pub energy_wh: u64,
}

impl Street {
    /// The built-in street: one autumn day of SimBench's grid *rural 1, scenario 2*.
    ///
    /// # Errors
    /// Only if the built-in files were changed and no longer hold together.
    pub fn built_in() -> Result<Self, StreetError> {
        Self::parse(("street-base.csv", DEFAULT_BASE), ("street-sessions.csv", DEFAULT_SESSIONS))
    }

    /// Reads both files.
    ///
    /// # Errors
    /// If a file cannot be read, or a row of it is refused.
    pub fn read(base: &Path, sessions: &Path) -> Result<Self, StreetError> {
        let text = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|source| StreetError::Unreadable { file: path.display().to_string(), source })
        };
        let (base_text, sessions_text) = (text(base)?, text(sessions)?);
        Self::parse((&base.display().to_string(), &base_text), (&sessions.display().to_string(), &sessions_text))
    }

    /// Parses both files, each given as its name (for messages) and its text.
    ///
    /// # Errors
    /// The first row that is refused: the base file from its beginning, then the sessions.
    pub fn parse(base: (&str, &str), sessions: (&str, &str)) -> Result<Self, StreetError> {
        let (start, step, base) = base::parse(base.0, base.1)?;
        let mut street = Self { start, step, base, charge_points: Vec::new() };
        street.charge_points = sessions::parse(sessions.0, sessions.1, street.start, street.end())?;
        Ok(street)
    }

    /// The civil time at which the day starts: the first row of the base file.
    pub fn start(&self) -> PrimitiveDateTime {
        self.start
    }

    /// The civil time so long after the day's start.
    pub fn civil(&self, since_start: Millis) -> PrimitiveDateTime {
        civil(self.start, since_start)
    }

    /// How long each row of the base load holds.
    pub fn step(&self) -> Millis {
        self.step
    }

    /// When the day ends, since its start: one step after the beginning of the last row.
    pub fn end(&self) -> Millis {
        Millis(self.step.0.saturating_mul(self.base.len() as u64))
    }

    /// The rows of the base load, at least two.
    pub fn base(&self) -> &[BaseLoad] {
        &self.base
    }

    /// The charge points, in order of first appearance.
    pub fn charge_points(&self) -> &[ChargePoint] {
        &self.charge_points
    }
}

impl ChargePoint {
    /// The most it draws on each of its phases, rounded down.
    pub fn max(&self) -> MilliAmps {
        current_per_phase(self.max_power_w, self.phases.len())
    }
}

/// The current on each of `phases` phases that together carry `watts` at 230 V, rounded down.
///
/// With three phases it is also what a transformer limit in watts means on each.
pub fn current_per_phase(watts: u64, phases: usize) -> MilliAmps {
    let milliamps = u128::from(watts) * 1_000 / VOLTS.unsigned_abs() as u128 / phases.max(1) as u128;
    MilliAmps(i64::try_from(milliamps).unwrap_or(i64::MAX))
}

/// Many days after the year 9999 civil time stands still, which only shows.
fn civil(start: PrimitiveDateTime, since_start: Millis) -> PrimitiveDateTime {
    let span = Duration::milliseconds(i64::try_from(since_start.0).unwrap_or(i64::MAX));
    start.saturating_add(span)
}

#[cfg(test)]
mod tests;
