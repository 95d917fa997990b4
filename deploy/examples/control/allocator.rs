//! The allocator and the transformer's decision alone, without I/O.

use std::time::{Duration, Instant};

use grid_agent::allocation::{Claim, Node, allocate};
use grid_agent::transformer::{Transformer, Voice};
use grid_protocol::message::{
    Activity, Event, Header, Measurement, Part, Presence, Reference, Session, Setpoint, Status,
};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, MilliWattHours, Millis, UnixMillis};
use serde::Serialize;

use crate::Failure;
use crate::figures::median;
use crate::site::{Connected, EXPECTED_INTERVAL, LEAST, Street, device_name};

const SIZES: [usize; 4] = [10, 100, 1000, 10_000];
/// Calls for one figure at the most, and time after which no more is begun.
const CALLS: usize = 1000;
const PATIENCE: Duration = Duration::from_millis(500);
/// What ten times as many devices may take at the most is a hundred times as much; a figure that would then take
/// longer than this is left out.
const TOO_LONG: Duration = Duration::from_millis(300);
const TTL: Millis = Millis(3000);
const MAXIMUM: MilliAmps = MilliAmps(16_000);
/// What devices report as their limit at first, and what the second reading takes from them.
const AT_FIRST: MilliAmps = MilliAmps(1_000_000);
const STEP: MilliAmps = MilliAmps(200);

/// One figure of part (d): medians per call, in nanoseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    pub devices: usize,
    /// All that can take between 6 and 16 A and want it share what is there for about 10 A each.
    pub allocate_ns: u64,
    /// A reading after which nobody's limit changes. Nothing where it would have taken too long.
    pub steady_reading_ns: Option<u64>,
    /// A reading that lowers everybody's limit.
    pub lowering_reading_ns: Option<u64>,
}

pub fn growth() -> Result<Vec<Growth>, Failure> {
    let mut all: Vec<Growth> = Vec::new();
    for devices in SIZES {
        let before = all.last();
        let bearable = |before: Option<Option<u64>>| {
            before.is_none_or(|before| before.is_some_and(|ns| u128::from(ns) < TOO_LONG.as_nanos()))
        };
        let steady = bearable(before.map(|before| before.steady_reading_ns));
        let lowering = bearable(before.map(|before| before.lowering_reading_ns));
        all.push(Growth {
            devices,
            allocate_ns: allocation(devices)?,
            steady_reading_ns: if steady { Some(reading(devices, MilliAmps::ZERO)?) } else { None },
            lowering_reading_ns: if lowering { Some(reading(devices, STEP)?) } else { None },
        });
    }
    Ok(all)
}

/// The median time of calls on what was prepared for each, in nanoseconds. One call at least is measured.
fn time<P>(mut prepare: impl FnMut() -> P, mut call: impl FnMut(&mut P)) -> Result<u64, Failure> {
    let began = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || times.len() < CALLS && began.elapsed() < PATIENCE {
        let mut prepared = prepare();
        let start = Instant::now();
        call(&mut prepared);
        times.push(u64::try_from(start.elapsed().as_nanos())?);
    }
    Ok(median(times))
}

fn allocation(devices: usize) -> Result<u64, Failure> {
    // Every third wants less than it can take, each another current.
    let claims: Vec<Claim> = (0..devices)
        .map(|device| {
            let wanted = MilliAmps(LEAST.0 + (device as i64 * 7919) % (MAXIMUM.0 - LEAST.0));
            let demand = if device % 3 == 0 { wanted } else { MAXIMUM };
            Ok(Claim {
                name: device_name(device)?,
                node: 0,
                phases: Connected::Mixed.phases(device),
                class: 5,
                turn: device as u64,
                min: LEAST,
                max: MAXIMUM,
                demand,
                steps: Vec::new(),
                runs_on: false,
                rests: false,
                barred: false,
            })
        })
        .collect::<Result<_, Failure>>()?;
    let room = MilliAmps(10_000 * (devices as i64 * 5 / 9 + 1));
    let transformer = [Node { name: None, parent: None, room: [room; 3] }];
    let call = |claims: &mut &[Claim]| {
        std::hint::black_box(allocate(&transformer, std::hint::black_box(claims), None));
    };
    time(|| claims.as_slice(), call)
}

/// Numbers setpoints and forgets them.
#[derive(Default)]
struct Discard {
    seq: u64,
}

impl Voice for Discard {
    fn setpoint(&mut self, _device: &Name, _setpoint: Setpoint) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn raising(&mut self, _device: &Name, _room: [MilliAmps; 3]) {}

    fn event(&mut self, _event: Event) {}
}

/// The second reading of a transformer that has just started, to which all devices have said that they draw
/// [`AT_FIRST`]; it is higher than the first by `step` for each device.
fn reading(devices: usize, step: MilliAmps) -> Result<u64, Failure> {
    let count = i64::try_from(devices)?;
    let street = Street {
        devices,
        limit: AT_FIRST * count,
        margin: MilliAmps::ZERO,
        ttl: TTL,
        connected: Connected::ThreePhase,
    };
    let began = BootTime(1_000_000);
    let now = began + Millis(100);
    let mut transformer = Transformer::new(street.plan()?, EXPECTED_INTERVAL, Session(1), 1, began);
    let mut voice = Discard::default();
    for device in 0..devices {
        let name = device_name(device)?;
        transformer.on_status(&name, &birth(&street, device), &mut voice);
        let header = Header { from: name, session: Session(2), seq: Some(1), time_ms: UnixMillis(0) };
        transformer.on_measurement(&header, measurement(), now, &mut voice);
    }
    // The first reading is followed by as many setpoints as there are devices in either case.
    let full = AT_FIRST * count;
    transformer.on_reading([full; 3], false, now, now, &mut voice);
    let load = full + step * count;
    time(|| transformer.clone(), |transformer| transformer.on_reading([load; 3], false, now, now, &mut voice))
}

fn birth(street: &Street, device: usize) -> Status {
    Status {
        state: Presence::Online,
        part: Part::Device(street.capabilities(device, AT_FIRST)),
        software: String::new(),
        time_factor: 1,
        plant_time_ms: None,
        ends: None,
        previous: None,
        certificate: String::new(),
    }
}

fn measurement() -> Measurement {
    Measurement {
        uptime_ms: Millis::ZERO,
        state: Activity::Charging,
        current_ma: vec![AT_FIRST; 3],
        voltage_mv: vec![MilliVolts(230_000); 3],
        stale_ms: None,
        limit_ma: AT_FIRST,
        obeys: Some(Reference { session: Session(3), seq: 1 }),
        settled: true,
        lease_ms: TTL,
        demand_ma: AT_FIRST,
        energy_mwh: MilliWattHours::ZERO,
        priority: None,
    }
}
