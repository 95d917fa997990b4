//! The base file: uncontrolled load at regular steps.

use grid_protocol::units::Millis;
use time::PrimitiveDateTime;

use super::table::{StreetError, rows, written};
use super::{BaseLoad, civil};

const COLUMNS: &[&str] = &["time", "base_load_w", "pv_w"];

/// A hundred megawatts: far more than any low-voltage grid, and far from where sums overflow.
const MOST_W: u64 = 100_000_000;

/// The day's start, the step, and what holds during each step.
pub(super) fn parse(file: &str, text: &str) -> Result<(PrimitiveDateTime, Millis, Vec<BaseLoad>), StreetError> {
    let rows = rows(file, text, COLUMNS)?;
    let (first, second) = match rows.as_slice() {
        [first, second, ..] => (first, second),
        few => return Err(StreetError::TooShort { file: file.to_owned(), rows: few.len() }),
    };
    let start = first.time("time")?;
    let step = match u64::try_from((second.time("time")? - start).whole_milliseconds()) {
        Ok(step) if step > 0 => Millis(step),
        _ => return Err(second.refuse("time", format!("a time after {}", written(start)))),
    };
    let mut base = Vec::with_capacity(rows.len());
    for (row, place) in rows.iter().zip(0_u64..) {
        let due = civil(start, Millis(step.0.saturating_mul(place)));
        if row.time("time")? != due {
            let seconds = step.0 / 1_000;
            return Err(row.refuse("time", format!("{}, as the first two rows are {seconds} s apart", written(due))));
        }
        base.push(BaseLoad { load_w: row.number("base_load_w", 0, MOST_W)?, pv_w: row.number("pv_w", 0, MOST_W)? });
    }
    Ok((start, step, base))
}
