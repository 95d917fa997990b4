//! Charging sessions made of what devices say with any numbers, and received at any time.

use std::borrow::Cow;

use grid_anchor::entry::{Entry, Payload};
use grid_anchor::show::sessions::{CsvLine, Sessions, legend, table};
use grid_protocol::message::{Activity, Event, Measurement, Reason, Reference, Session, Setpoint};
use grid_protocol::units::{LARGEST, MilliAmps, MilliVolts, MilliWattHours, Millis, UnixMillis};
use serde::Serialize;

use super::source::Source;
use super::{Verdict, require};

pub fn hold(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    let mut sessions = Sessions::new(source.rarely(2));
    while !source.is_empty() {
        let (kind, payload) = said(&mut source);
        let topic = Cow::Owned(format!("grid/demo/cp-1/{kind}"));
        let received_ms = UnixMillis(source.number());
        sessions.add(&Entry { received_ms, topic, payload: Payload::Bytes(payload.into_bytes().into()) });
    }
    let sessions = sessions.finish();
    require!(sessions.is_sorted_by_key(|session| session.start_ms), "they do not stand in order");
    for session in &sessions {
        let blamed: Millis = session.held_back_by.iter().map(|share| share.ms).sum();
        require!(blamed == session.held_back_ms, "held back for {}, by {blamed}", session.held_back_ms);
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.serialize(CsvLine::from(session)).map_err(|why| format!("{session:?} is no CSV: {why}"))?;
    }
    let lines = table(&sessions).lines().count();
    require!(lines == sessions.len() + 1, "{} sessions make a table of {lines} lines", sessions.len());
    require!(legend(&sessions).len() <= 6, "it explains more marks than there are");
    Ok(())
}

/// A message of one of two runs, whose signature nobody looks at, and its kind.
fn said(source: &mut Source) -> (&'static str, String) {
    let (kind, body) = match source.below(8) {
        0 => ("event", json(&Event::ChargingStarted { energy_mwh: energy(source) })),
        1 => ("event", json(&Event::ChargingEnded { energy_mwh: energy(source) })),
        2 => ("event", json(&Event::ClockStepped { by_ms: quantity(source) })),
        3 => ("setpoint", json(&setpoint(source))),
        _ => ("measurement", json(&measurement(source))),
    };
    let (session, seq) = (Session(source.below(2) as u64), source.below(12));
    let time_ms = source.number().min(LARGEST.unsigned_abs());
    let signature = "A".repeat(86);
    let header = format!("\"from\":\"cp-1\",\"session\":\"{session}\",\"seq\":{seq},\"time_ms\":{time_ms}");
    (kind, format!("{{{header},{body},\"sig\":\"{signature}\"}}"))
}

fn measurement(source: &mut Source) -> Measurement {
    Measurement {
        uptime_ms: Millis(1),
        state: *source.one_of(&[Activity::Charging, Activity::Waiting, Activity::Fault]),
        current_ma: vec![MilliAmps(quantity(source))],
        voltage_mv: vec![MilliVolts(230_000)],
        stale_ms: None,
        limit_ma: MilliAmps(quantity(source)),
        obeys: source.rarely(2).then(|| reference(source)),
        settled: true,
        lease_ms: Millis(1000),
        demand_ma: MilliAmps(quantity(source)),
        energy_mwh: energy(source),
        priority: None,
    }
}

fn setpoint(source: &mut Source) -> Setpoint {
    Setpoint {
        answers: reference(source),
        limit_ma: MilliAmps(quantity(source)),
        ttl_ms: Millis(3000),
        hold: false,
        epoch: 1,
        reason: source.one_of(&[Reason::Turn, Reason::Ramp, Reason::Demand]).clone(),
    }
}

fn reference(source: &mut Source) -> Reference {
    Reference { session: Session(source.below(2) as u64), seq: source.below(12) as u64 }
}

fn energy(source: &mut Source) -> MilliWattHours {
    MilliWattHours(quantity(source))
}

/// Any number that a message may hold.
fn quantity(source: &mut Source) -> i64 {
    let size = i64::try_from(source.number()).unwrap_or(LARGEST).min(LARGEST);
    if source.rarely(2) { -size } else { size }
}

/// The members of an object.
fn json(body: &impl Serialize) -> String {
    let object = serde_json::to_string(body).unwrap();
    object[1..object.len() - 1].to_owned()
}
