//! Steps of the base load: how long it takes from the transformer's reading until devices obey.
//!
//! Each step raises the base load by as much as lowers every device's share by [`STEP`]; a device never rises again, so
//! that each step is a decrease, which is sent at once. Time runs from the first reading that made the transformer send a
//! setpoint until a device's actuator lets less through. The transformer runs as its program does, on a thread of its own.

use std::future::Future;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use grid_agent::run::{AgentError, DeviceSettings, Probe, Summary, TransformerSettings, run_device, run_transformer};
use grid_protocol::message::{Reference, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::clock::boot_micros;
use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Failure;
use crate::acknowledger::Acknowledger;
use crate::figures::{Latency, Machine, ratio_by_rounds};
use crate::hop::{Hop, Mosquitto};
use crate::meters::{self, Flow, Scripted};
use crate::site::{ANCHOR, Connected, LEAST, READING, Site, Street, TRANSFORMER, device_name};

const TTL: Millis = Millis(3000);
/// What a step takes from each device.
const STEP: MilliAmps = MilliAmps(200);
/// A step that takes longer has failed, and is counted as that.
const GIVE_UP: Duration = Duration::from_secs(2);
/// Between steps, a reading comes about this often.
const REST: Duration = Duration::from_millis(50);
/// Devices have their first leases within this time.
const WARM_UP: Duration = Duration::from_secs(60);
/// Nothing has changed for so long before the first step.
const CALM: Duration = Duration::from_millis(1000);

/// Part (a).
#[derive(Clone, Debug, Serialize)]
pub struct OneDevice {
    pub control: Latency,
    pub failed_steps: usize,
    pub hop_grid_broker: Latency,
    pub hop_mosquitto: Option<Latency>,
    /// Control in hops, by their 99th percentiles, as the median of rounds.
    pub hops_of_grid_broker: Option<f64>,
    pub hops_of_mosquitto: Option<f64>,
    /// How late this machine wakes a sleeping thread, meanwhile.
    pub machine_late: Latency,
}

/// Part (b).
#[derive(Clone, Debug, Serialize)]
pub struct ManyDevices {
    pub devices: usize,
    pub first: Latency,
    pub last: Latency,
    pub failed_steps: usize,
    /// How late this machine wakes a sleeping thread, meanwhile.
    pub machine_late: Latency,
}

/// One device; each step is followed by one hop through each broker, on the same machine and, for ours, in the same
/// process. Nothing if the device gets no steady lease.
pub async fn one_device(steps: usize) -> Result<Option<OneDevice>, Failure> {
    let mut stage = Stage::open(1, steps).await?;
    if !stage.warm_up().await? || !stage.even_out().await? {
        return Ok(None);
    }
    let mut ours = Hop::open(stage.site.address()).await?;
    let mosquitto = Mosquitto::start().await?;
    let mut theirs = match &mosquitto {
        Some(mosquitto) => Some(Hop::open(mosquitto.address()).await?),
        None => None,
    };
    let (mut control, mut hops, mut their_hops, mut failed_steps) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let machine = Machine::watch()?;
    for step in 0..steps {
        stage.rest(pause(step, 15)).await?;
        match stage.step().await? {
            Some(obeyed) => control.extend(obeyed),
            None => {
                failed_steps += 1;
                if !stage.warm_up().await? {
                    return Ok(None);
                }
            }
        }
        sleep(pause(step + 5, 25)).await;
        hops.push(ours.measure().await?);
        if let Some(theirs) = &mut theirs {
            sleep(pause(step + 3, 5)).await;
            their_hops.push(theirs.measure().await?);
        }
    }
    Ok(Some(OneDevice {
        hops_of_grid_broker: ratio_by_rounds(&control, &hops),
        hops_of_mosquitto: ratio_by_rounds(&control, &their_hops),
        machine_late: machine.late()?,
        control: Latency::of(control),
        failed_steps,
        hop_grid_broker: Latency::of(hops),
        hop_mosquitto: theirs.is_some().then(|| Latency::of(their_hops)),
    }))
}

/// Many devices, all of which each step lowers. Nothing if they get no steady leases.
pub async fn many_devices(devices: usize, steps: usize) -> Result<Option<ManyDevices>, Failure> {
    let mut stage = Stage::open(devices, steps).await?;
    if !stage.warm_up().await? || !stage.even_out().await? {
        return Ok(None);
    }
    let (mut first, mut last, mut failed_steps) = (Vec::new(), Vec::new(), 0);
    let machine = Machine::watch()?;
    for step in 0..steps {
        stage.rest(pause(step, 150)).await?;
        match stage.step().await? {
            Some(obeyed) => {
                first.extend(obeyed.iter().min());
                last.extend(obeyed.iter().max());
            }
            None => {
                failed_steps += 1;
                if !stage.warm_up().await? {
                    return Ok(None);
                }
            }
        }
    }
    let machine_late = machine.late()?;
    let (first, last) = (Latency::of(first), Latency::of(last));
    Ok(Some(ManyDevices { devices, first, last, failed_steps, machine_late }))
}

/// A few milliseconds more each time, so that nothing falls into step with a timer.
fn pause(step: usize, millis: u64) -> Duration {
    Duration::from_micros(millis * 1000 + (step as u64 * 7919) % 10_000)
}

/// A transformer and its devices.
struct Stage {
    site: Site,
    script: Sender<[MilliAmps; 3]>,
    base: MilliAmps,
    flows: Vec<Arc<Flow>>,
    stopwatch: Arc<Stopwatch>,
    _acknowledger: Acknowledger,
    /// Agents end when this is dropped.
    _running: watch::Sender<()>,
}

impl Stage {
    async fn open(devices: usize, steps: usize) -> Result<Self, Failure> {
        let site = Site::open().await?;
        let stopwatch = Arc::new(Stopwatch::default());
        let (running, ended) = watch::channel(());
        let each = LEAST + STEP * i64::try_from(steps + 10)?;
        let limit = each * i64::try_from(devices)?;
        let street = Street { devices, limit, margin: MilliAmps::ZERO, ttl: TTL, connected: Connected::ThreePhase };

        let transformer: Name = TRANSFORMER.parse()?;
        let anchor = site.credentials(&ANCHOR.parse()?, Role::Anchor)?;
        let acknowledger = Acknowledger::start(anchor, transformer.clone(), &site.broker());
        let (script, meter) = Scripted::new();
        let plan = street.plan()?;
        let settings = TransformerSettings::new(plan);
        let common = site.common(&transformer, Role::Transformer, Some(stopwatch.clone()))?;
        alone(run_transformer(common, settings, Box::new(meter), end(ended.clone())), ended.clone())?;

        let mut flows = Vec::new();
        for device in 0..devices {
            let name = device_name(device)?;
            let watch = stopwatch.clone();
            let (flow, limiter, meter) = meters::device(limit, move |current| watch.drawn(device, current));
            let settings = DeviceSettings {
                transformer: transformer.clone(),
                capabilities: street.capabilities(device, limit),
                max_ttl: TTL,
                commands_file: None,
            };
            let common = site.common(&name, Role::Device, Some(stopwatch.clone()))?;
            let device = run_device(common, settings, meter, limiter, end(ended.clone()));
            if devices == 1 {
                alone(device, ended.clone())?;
            } else {
                tokio::spawn(until_end(device, ended.clone()));
            }
            flows.push(flow);
        }
        let base = MilliAmps::ZERO;
        Ok(Self { site, script, base, flows, stopwatch, _acknowledger: acknowledger, _running: running })
    }

    fn currents(&self) -> Vec<MilliAmps> {
        self.flows.iter().map(|flow| flow.current()).collect()
    }

    fn read(&self) -> Result<(), Failure> {
        let sum: MilliAmps = self.currents().into_iter().sum();
        self.script.send([self.base + sum; 3]).map_err(|_| "the transformer's meter has ended".into())
    }

    /// Waits until all draw, and nothing changes any more. Says whether that came to be.
    async fn warm_up(&self) -> Result<bool, Failure> {
        let give_up = Instant::now() + WARM_UP;
        let (mut before, mut since) = (self.currents(), Instant::now());
        while Instant::now() < give_up {
            self.read()?;
            sleep(READING).await;
            let now = self.currents();
            if now != before || now.contains(&MilliAmps::ZERO) {
                (before, since) = (now, Instant::now());
            } else if since.elapsed() >= CALM {
                return Ok(true);
            }
        }
        let drawing = before.iter().filter(|current| **current > MilliAmps::ZERO).count();
        eprintln!("no steady state after {WARM_UP:?}: {drawing} of {} devices draw", before.len());
        Ok(false)
    }

    /// Lowers all to the same limit: who rises ends within a quarter of an ampere below it, and a step of less would not
    /// lower such a device. Says whether there is a steady state then.
    async fn even_out(&mut self) -> Result<bool, Failure> {
        self.base += STEP * 2 * i64::try_from(self.flows.len())?;
        self.warm_up().await
    }

    /// Lets time pass, in which the meter goes on.
    async fn rest(&self, span: Duration) -> Result<(), Failure> {
        let over = Instant::now() + span;
        while Instant::now() < over {
            sleep(span.min(REST)).await;
            self.read()?;
        }
        Ok(())
    }

    /// Raises the base load. Says how long it took until each device drew less; nothing if some never did.
    async fn step(&mut self) -> Result<Option<Vec<u64>>, Failure> {
        let give_up = Instant::now() + GIVE_UP;
        self.base += STEP * i64::try_from(self.flows.len())?;
        self.stopwatch.start(self.currents());
        // What a late report hides from the first reading, a later one shows.
        while Instant::now() < give_up {
            self.read()?;
            // Whether it was woken or not: a wake-up may be left over from the step before.
            let _ = timeout_at(Instant::now() + READING, self.stopwatch.all_lowered.notified()).await;
            if let Some(times) = self.stopwatch.stop() {
                return Ok(Some(times));
            }
        }
        Ok(None)
    }
}

/// Resolves when the stage is dropped.
async fn end(mut ended: watch::Receiver<()>) {
    while ended.changed().await.is_ok() {}
}

/// Ends an agent dead with its stage: its goodbye is not what is measured.
async fn until_end(agent: impl Future<Output = Result<Summary, AgentError>>, ended: watch::Receiver<()>) {
    tokio::select! {
        biased;
        () = end(ended) => {}
        result = agent => {
            if let Err(error) = result {
                eprintln!("an agent has ended: {}", grid_service::chain(&error));
            }
        }
    }
}

/// Runs an agent as its program does: on one thread.
fn alone(
    agent: impl Future<Output = Result<Summary, AgentError>> + Send + 'static,
    ended: watch::Receiver<()>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().spawn(move || runtime.block_on(until_end(agent, ended)))?;
    Ok(())
}

/// Takes the time of one step.
#[derive(Default)]
struct Stopwatch {
    state: Mutex<Step>,
    all_lowered: Notify,
}

#[derive(Default)]
struct Step {
    /// When the first reading that was acted on was there.
    read_at: Option<u64>,
    /// What devices drew before, and when they drew less.
    devices: Vec<(MilliAmps, Option<u64>)>,
}

impl Step {
    /// A device can be quicker than the transformer's note that it has decided.
    fn times(&self) -> Option<Vec<u64>> {
        let read_at = self.read_at?;
        self.devices.iter().map(|(_, lowered)| lowered.map(|at| at.saturating_sub(read_at))).collect()
    }
}

impl Stopwatch {
    fn start(&self, drawn: Vec<MilliAmps>) {
        let devices = drawn.into_iter().map(|current| (current, None)).collect();
        *self.state() = Step { read_at: None, devices };
    }

    /// How long it took each device, once all draw less.
    fn stop(&self) -> Option<Vec<u64>> {
        let mut step = self.state();
        let times = step.times()?;
        *step = Step::default();
        Some(times)
    }

    fn drawn(&self, device: usize, current: MilliAmps) {
        self.note(|step| {
            if let Some((before, lowered @ None)) = step.devices.get_mut(device)
                && current < *before
            {
                *lowered = Some(boot_micros());
            }
        });
    }

    fn note(&self, write: impl FnOnce(&mut Step)) {
        let mut step = self.state();
        write(&mut step);
        if step.times().is_some() {
            drop(step);
            self.all_lowered.notify_one();
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Step> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Probe for Stopwatch {
    fn decided(&self, _setpoint: Reference, read_at: u64) {
        self.note(|step| {
            step.read_at.get_or_insert(read_at);
        });
    }

    fn raising(&self, _device: &Name, _room: [MilliAmps; 3]) {}

    fn limit_changed(&self, _limit_w: u64) {}

    fn obeyed(&self, _setpoint: Reference, _at: u64) {}
}
