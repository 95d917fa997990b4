//! Many light devices on a few connections: each with its own key, session and device core, but without a thread, a
//! connection and an outbox of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_agent::commands::Kept;
use grid_agent::device::{Action, Device, Nature, Sample};
use grid_agent::directory::Directory;
use grid_protocol::author::Author;
use grid_protocol::message::{Part, Phase, Presence, Reference, Role, Session, Setpoint, Status};
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::{BootTime, MilliAmps, MilliVolts, Millis};
use grid_service::clock::{boot_now, unix_now};
use grid_service::link::{Delivery, Incoming, Link, Received};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::Failure;
use crate::site::{EXPECTED_INTERVAL, LEAST, READING, Site, Street, TRANSFORMER, device_name};

const CONNECTIONS: usize = 4;
const VOLTAGE: MilliVolts = MilliVolts(230_000);
/// A device whose current does not change is sampled this often.
const UNCHANGED: Millis = Millis(500);

/// What all devices together draw and said so far.
#[derive(Debug, Default)]
pub struct Totals {
    current: [AtomicI64; 3],
    pub measurements: AtomicU64,
    pub setpoints: AtomicU64,
    pub not_sent: AtomicU64,
    /// Setpoints that were not believed or not accepted.
    pub refused: AtomicU64,
    pub leased: AtomicI64,
}

impl Totals {
    pub fn current(&self) -> [i64; 3] {
        Phase::ALL.map(|phase| self.current[phase.index()].load(Ordering::Relaxed))
    }
}

/// Running devices; they end when this is dropped.
pub struct Fleet {
    pub totals: Arc<Totals>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Fleet {
    /// Each device wants `demand`.
    pub fn start(site: &Site, street: &Street, demand: MilliAmps) -> Result<Self, Failure> {
        let totals = Arc::new(Totals::default());
        let mut tasks = Vec::new();
        for connection in 0..CONNECTIONS.min(street.devices) {
            let devices = (connection..street.devices)
                .step_by(CONNECTIONS)
                .map(|device| Light::new(site, street, device, demand, &totals))
                .collect::<Result<Vec<_>, _>>()?;
            let mut filters = vec![format!("grid/{}/{TRANSFORMER}/status", site.name)];
            filters.extend(devices.iter().map(|light| format!("grid/{}/{}/setpoint", site.name, light.author.name())));
            let client: Name = format!("fleet-{connection}").parse()?;
            let (link, incoming) = Link::open(&site.broker(), &client, filters);
            let places =
                devices.iter().enumerate().map(|(place, light)| (light.author.name().clone(), place)).collect();
            let credentials = site.credentials(&client, Role::Guest)?;
            let directory = Directory::new(site.name.clone(), credentials.authority);
            let group = Group { devices, places, link, directory, transformer: TRANSFORMER.parse()? };
            tasks.push(tokio::spawn(async move {
                if let Err(error) = group.run(incoming).await {
                    eprintln!("a group of devices has ended: {error}");
                }
            }));
        }
        Ok(Self { totals, tasks })
    }
}

pub fn certificate_text(der: &[u8]) -> String {
    STANDARD.encode(der)
}

/// The devices of one connection.
struct Group {
    devices: Vec<Light>,
    places: HashMap<Name, usize>,
    link: Link,
    directory: Directory,
    transformer: Name,
}

impl Group {
    async fn run(mut self, mut incoming: mpsc::Receiver<Incoming>) -> Result<(), Failure> {
        let mut tick = interval(READING);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connected = false;
        loop {
            tokio::select! {
                happened = incoming.recv() => match happened {
                    Some(Incoming::Connected) => {
                        connected = true;
                        self.devices.iter_mut().try_for_each(|light| light.be_born(&self.link))?;
                    }
                    Some(Incoming::Message(received)) => self.on_message(&received)?,
                    Some(Incoming::Dialing(_)) => {}
                    Some(Incoming::Lost(loss)) => return Err(format!("no connection to the broker: {loss:?}").into()),
                    None => return Ok(()),
                },
                _ = tick.tick(), if connected => {
                    self.devices.iter_mut().try_for_each(|light| light.on_tick(&self.link))?;
                }
            }
        }
    }

    fn on_message(&mut self, received: &Received) -> Result<(), Failure> {
        let topic: Topic = received.topic.parse()?;
        if topic.kind == Kind::Status {
            self.directory.learn(&topic, &received.payload, unix_now())?;
            return Ok(());
        }
        let Some(light) = self.places.get(&topic.device).and_then(|place| self.devices.get_mut(*place)) else {
            return Ok(());
        };
        light.totals.setpoints.fetch_add(1, Ordering::Relaxed);
        let opened = self.directory.open::<Setpoint>(&topic, &received.payload, &self.transformer);
        let accepted = opened.ok().and_then(|message| {
            let by = Reference { session: message.header.session, seq: message.header.seq? };
            light.core.on_setpoint(&message.body, by, boot_now()).ok()
        });
        match accepted {
            Some(actions) => light.perform(actions, &self.link),
            None => {
                light.totals.refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

struct Light {
    author: Author,
    core: Device,
    birth: Status,
    phases: Vec<Phase>,
    demand: MilliAmps,
    current: MilliAmps,
    /// When the current changed or was sampled; to be sampled again then.
    changed: bool,
    sampled: BootTime,
    leased: bool,
    totals: Arc<Totals>,
}

impl Light {
    fn new(
        site: &Site,
        street: &Street,
        device: usize,
        demand: MilliAmps,
        totals: &Arc<Totals>,
    ) -> Result<Self, Failure> {
        let credentials = site.credentials(&device_name(device)?, Role::Device)?;
        let session = Session(rand::random());
        let nature = Nature {
            steps_ma: Vec::new(),
            priority: 5,
            meter_interval: EXPECTED_INTERVAL,
            min_ma: LEAST,
            failsafe_ma: MilliAmps::ZERO,
            max_ttl: street.ttl,
            change_time: Millis::ZERO,
            time_factor: 1,
        };
        let birth = Status {
            state: Presence::Online,
            part: Part::Device(street.capabilities(device, demand)),
            software: "control benchmark".to_owned(),
            time_factor: 1,
            plant_time_ms: None,
            ends: None,
            previous: None,
            certificate: certificate_text(&credentials.certificate),
        };
        let now = boot_now();
        Ok(Self {
            author: Author::new(credentials.site, credentials.name, session, credentials.key),
            core: Device::new(nature, &Kept::default(), session, now),
            birth,
            phases: street.connected.phases(device),
            demand,
            current: MilliAmps::ZERO,
            changed: true,
            sampled: now,
            leased: false,
            totals: totals.clone(),
        })
    }

    fn be_born(&mut self, link: &Link) -> Result<(), Failure> {
        self.say(Kind::Status, self.birth.clone(), Delivery::AssuredRetained, link).map(|_| ())
    }

    fn say<B: serde::Serialize>(
        &mut self,
        kind: Kind,
        body: B,
        delivery: Delivery,
        link: &Link,
    ) -> Result<u64, Failure> {
        let signed = self.author.say(kind, body, unix_now())?;
        if link.publish(&signed.topic.to_string(), signed.payload, delivery).is_err() {
            self.totals.not_sent.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.author.last_seq())
    }

    fn on_tick(&mut self, link: &Link) -> Result<(), Failure> {
        let now = boot_now();
        let actions = if self.changed || now.since(self.sampled) >= UNCHANGED {
            self.changed = false;
            self.sampled = now;
            let current = vec![self.current; self.phases.len()];
            let voltage = vec![VOLTAGE; self.phases.len()];
            self.core.on_sample(Sample { at: now, current, voltage }, Ok(self.demand), now)
        } else {
            self.core.on_tick(now)
        };
        let leased = self.core.obeys(now).is_some();
        if leased != self.leased {
            self.leased = leased;
            self.totals.leased.fetch_add(if leased { 1 } else { -1 }, Ordering::Relaxed);
        }
        self.perform(actions, link)
    }

    fn perform(&mut self, actions: Vec<Action>, link: &Link) -> Result<(), Failure> {
        for action in actions {
            match action {
                Action::Set { limit, until: _ } => self.set(limit),
                Action::Report => {
                    let at = boot_now();
                    let report = self.core.report(at);
                    let seq = self.say(Kind::Measurement, report, Delivery::Once, link)?;
                    self.core.measurement_sent(seq, at);
                    self.totals.measurements.fetch_add(1, Ordering::Relaxed);
                }
                Action::Event(event) => {
                    self.say(Kind::Event, event, Delivery::Assured, link)?;
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, limit: MilliAmps) {
        let current = if limit < LEAST { MilliAmps::ZERO } else { limit.min(self.demand) };
        let more = current - self.current;
        self.phases.iter().for_each(|phase| {
            self.totals.current[phase.index()].fetch_add(more.0, Ordering::Relaxed);
        });
        self.changed |= more != MilliAmps::ZERO;
        self.current = current;
        self.core.applied(limit, boot_now());
    }
}
