//! The sessions file: which car charges where, from when until when, and how much.

use grid_protocol::message::Phase;
use grid_protocol::topic::Name;
use grid_protocol::units::Millis;
use time::PrimitiveDateTime;

use super::table::{Row, StreetError, rows, written};
use super::{ChargePoint, LARGEST_SINGLE_PHASE_W, LEAST_CHARGING, Session, VOLTS, civil, current_per_phase};

const COLUMNS: &[&str] = &["charge_point", "max_power_w", "arrival", "departure", "energy_wh"];

/// A megawatt: more than any charge point.
const MOST_W: u64 = 1_000_000;
/// A megawatt-hour: more than any car's battery.
const MOST_WH: u64 = 1_000_000;

/// The charge points in order of first appearance, each with its sessions in order of arrival.
pub(super) fn parse(
    file: &str,
    text: &str,
    start: PrimitiveDateTime,
    end: Millis,
) -> Result<Vec<ChargePoint>, StreetError> {
    let mut points: Vec<ChargePoint> = Vec::new();
    let mut turns = Phase::ALL.into_iter().cycle();
    for row in rows(file, text, COLUMNS)? {
        let name: Name = row
            .text("charge_point")
            .parse()
            .map_err(|_| row.refuse("charge_point", "1 to 32 of the characters a-z, 0-9 and '-'"))?;
        let power = max_power(&row)?;
        let session = session(&row, start, end)?;
        match points.iter_mut().find(|point| point.name == name) {
            Some(point) => add(point, power, session, &row, start)?,
            None => {
                let phases = if power <= LARGEST_SINGLE_PHASE_W {
                    turns.by_ref().take(1).collect()
                } else {
                    Phase::ALL.to_vec()
                };
                points.push(ChargePoint { name, max_power_w: power, phases, sessions: vec![session] });
            }
        }
    }
    Ok(points)
}

fn max_power(row: &Row<'_>) -> Result<u64, StreetError> {
    let power = row.number("max_power_w", 1, MOST_W)?;
    let phases = if power <= LARGEST_SINGLE_PHASE_W { 1 } else { 3 };
    if current_per_phase(power, phases) < LEAST_CHARGING {
        let least = VOLTS * LEAST_CHARGING.0 / 1_000;
        return Err(row.refuse(
            "max_power_w",
            format!(
                "{least} to {LARGEST_SINGLE_PHASE_W} (one phase) or at least {} (three), since a car needs {LEAST_CHARGING} on \
                 each phase",
                3 * least
            ),
        ));
    }
    Ok(power)
}

fn session(row: &Row<'_>, start: PrimitiveDateTime, end: Millis) -> Result<Session, StreetError> {
    let since_start = |time: PrimitiveDateTime| u64::try_from((time - start).whole_milliseconds()).ok().map(Millis);
    let (arrives, departs) = (row.time("arrival")?, row.time("departure")?);
    let arrival = since_start(arrives).filter(|arrival| *arrival < end).ok_or_else(|| {
        let (from, to) = (written(start), written(civil(start, end)));
        row.refuse("arrival", format!("a time from {from} until before {to}, the day of the base file"))
    })?;
    let departure = since_start(departs)
        .filter(|departure| *departure > arrival)
        .ok_or_else(|| row.refuse("departure", format!("a time after the arrival, {}", written(arrives))))?;
    Ok(Session { arrival, departure, energy_wh: row.number("energy_wh", 1, MOST_WH)? })
}

/// Another session of a charge point that is known already.
fn add(
    point: &mut ChargePoint,
    power: u64,
    session: Session,
    row: &Row<'_>,
    start: PrimitiveDateTime,
) -> Result<(), StreetError> {
    if power != point.max_power_w {
        let expected = format!("{} as in the other rows of {}", point.max_power_w, point.name);
        return Err(row.refuse("max_power_w", expected));
    }
    let overlaps = |other: &&Session| session.arrival < other.departure && other.arrival < session.departure;
    if let Some(other) = point.sessions.iter().find(overlaps) {
        let (from, to) = (written(civil(start, other.arrival)), written(civil(start, other.departure)));
        let expected =
            format!("a stay that does not overlap with that from {from} to {to}: {} has one socket", point.name);
        return Err(row.refuse("arrival", expected));
    }
    let place = point.sessions.partition_point(|other| other.arrival < session.arrival);
    point.sessions.insert(place, session);
    Ok(())
}
