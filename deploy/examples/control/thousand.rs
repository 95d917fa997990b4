//! Many devices at a steady state: what their transformer costs.

use std::sync::atomic::Ordering;
use std::time::Duration;

use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Failure;
use crate::acknowledger::Acknowledger;
use crate::fleet::Fleet;
use crate::process::TransformerProcess;
use crate::site::{ANCHOR, Connected, READING, Site, Street, TRANSFORMER};

/// What each device wants, and about what it gets.
const WANTED: MilliAmps = MilliAmps(16_000);
const EXPECTED: MilliAmps = MilliAmps(10_000);
/// Base load per device and phase.
const BASE: MilliAmps = MilliAmps(1_000);
/// A steady state is one in which the devices' currents have not moved by a hundredth for so long.
const CALM: Duration = Duration::from_secs(3);
/// Without a steady state by then, what there is is measured.
const WARM_UP: Duration = Duration::from_secs(60);

/// Part (c).
#[derive(Clone, Debug, Serialize)]
pub struct ManyAtRest {
    pub devices: usize,
    pub ttl_ms: u64,
    pub steady: bool,
    pub seconds: f64,
    /// Of one core.
    pub processor_percent: f64,
    pub resident_mb: f64,
    /// At the end of the measurement.
    pub leased: i64,
    pub measurements_per_second: f64,
    pub setpoints_per_second: f64,
    pub refused: u64,
    pub not_sent: u64,
}

struct Running {
    fleet: Fleet,
    process: TransformerProcess,
    base: i64,
    readings: usize,
}

impl Running {
    /// The base load flickers by a thousandth.
    fn read(&mut self) -> Result<(), Failure> {
        self.readings += 1;
        let flicker = (self.readings * 7919 % 21) as i64 - 10;
        let base = self.base + self.base * flicker / 10_000;
        self.process.read(self.fleet.totals.current().map(|current| base + current))
    }
}

/// Lets `devices` come to a steady state and measures for `span`.
pub async fn many_at_rest(devices: usize, ttl: Millis, span: Duration) -> Result<ManyAtRest, Failure> {
    let site = Site::open().await?;
    let count = i64::try_from(devices)?;
    let base = BASE * count;
    let on_each_phase = count * 5 / 9 + 1;
    let limit = EXPECTED * on_each_phase + base;
    let street = Street { devices, limit, margin: limit.percent(2), ttl, connected: Connected::Mixed };
    let transformer: Name = TRANSFORMER.parse()?;
    let anchor = site.credentials(&ANCHOR.parse()?, Role::Anchor)?;
    let _acknowledger = Acknowledger::start(anchor, transformer.clone(), &site.broker());
    let credentials = site.credentials(&transformer, Role::Transformer)?;
    let process = TransformerProcess::start(credentials, site.address().port(), street.clone())?;
    let fleet = Fleet::start(&site, &street, WANTED)?;
    let mut running = Running { fleet, process, base: base.0, readings: 0 };
    let mut tick = interval(READING);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let began = Instant::now();
    let (mut before, mut since) = (running.fleet.totals.current(), Instant::now());
    let steady = loop {
        tick.tick().await;
        running.read()?;
        let now = running.fleet.totals.current();
        let moved = before.iter().zip(now).any(|(then, now)| (now - then).abs() > then / 100);
        if moved || running.fleet.totals.leased.load(Ordering::Relaxed) < count {
            (before, since) = (now, Instant::now());
        }
        if since.elapsed() >= CALM || began.elapsed() >= WARM_UP {
            break since.elapsed() >= CALM;
        }
    };

    let totals = running.fleet.totals.clone();
    let counted = || {
        [&totals.measurements, &totals.setpoints, &totals.refused, &totals.not_sent]
            .map(|counter| counter.load(Ordering::Relaxed))
    };
    let (began, worked, counts) = (Instant::now(), running.process.processor_ms()?, counted());
    while began.elapsed() < span {
        tick.tick().await;
        running.read()?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let worked = running.process.processor_ms()? - worked;
    let now = counted();
    let more = |place: usize| now[place] - counts[place];
    Ok(ManyAtRest {
        devices,
        ttl_ms: ttl.0,
        steady,
        seconds,
        processor_percent: worked as f64 / seconds / 10.0,
        resident_mb: running.process.resident_kb()? as f64 / 1024.0,
        leased: totals.leased.load(Ordering::Relaxed),
        measurements_per_second: more(0) as f64 / seconds,
        setpoints_per_second: more(1) as f64 / seconds,
        refused: more(2),
        not_sent: more(3),
    })
}
