//! Starting, watching and ending the whole street.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use grid_agent::run::{AgentError, Credentials, Simulation, Summary};
use grid_anchor::initialise::initialise;
use grid_anchor::notary::NotarySettings;
use grid_anchor::policy::{BadPolicy, Policy};
use grid_anchor::recorder::{AnchorIdentity, Progress as LogProgress};
use grid_anchor::service::{AnchorError, Summary as AnchorSummary};
use grid_anchor::settings::Settings as AnchorSettings;
use grid_anchor::verify::{LedgerFailure, LedgerReport, Report as Log, verify_ledger, verify_log};
use grid_ledger::mock::MockError;
use grid_ledger::{Endpoints, MOST_NANOS_PER_RECORD, TrailReader, mock};
use grid_protocol::identity::Issuer;
use grid_protocol::message::Role;
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis, UnixMillis};
use grid_service::clock::{boot_micros, boot_now, unix_now};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::broker::{self, Broker, OwnBroker};
use super::error::DemoError;
use super::report::{DeviceLine, Report};
use super::setup::{Options, Site, anchor_name, listen, local_address, make_empty, site_name, time_factor};
use super::watch::Watch;
use crate::plant::wires::{PlantClock, lock};
use crate::plant::{ChargePointId, Plant, PlantTime, uncontrolled_peak};
use crate::street::VOLTS;

/// How long a lease lasts in the demo.
pub(super) const TTL: Millis = Millis(3000);
/// The day begins when a new transformer has waited for leases of an earlier one (lease rule 7), and a little later.
pub(super) const WARM_UP: Millis = Millis(4000);
/// How often the anchor writes to disk.
const COMMIT: Millis = Millis(1000);
/// How often it signs a checkpoint.
const CHECKPOINT: Millis = Millis(10_000);
/// How often a checkpoint goes on the ledger.
const LEDGER: Millis = Millis(10_000);
/// The mock ledger's state, in the run's folder.
pub const MOCK_STATE: &str = "mock-ledger.state";
const CHECK_EVERY: Duration = Duration::from_millis(10);

/// What a status line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The plant's time.
    pub time: time::PrimitiveDateTime,
    /// The true load.
    pub load_w: u64,
    /// The transformer's limit.
    pub limit_w: u64,
    /// How many cars charge.
    pub charging: usize,
    /// How much of what cars want they do not get.
    pub held_back_percent: i64,
    /// How many messages are in the log.
    pub logged: u64,
}

/// A running street.
pub struct Demo {
    pub(super) options: Options,
    pub(super) address: SocketAddr,
    pub(super) plant: Arc<Mutex<Plant>>,
    pub(super) clock: PlantClock,
    pub(super) watch: Arc<Watch>,
    pub(super) time_factor: u32,
    pub(super) agents: BTreeMap<Name, JoinHandle<Result<Summary, AgentError>>>,
    pub(super) stop_agents: watch::Sender<bool>,
    pub(super) anchor_credentials: Credentials,
    pub(super) anchor: Option<JoinHandle<Result<AnchorSummary, AnchorError>>>,
    pub(super) anchor_progress: watch::Receiver<LogProgress>,
    pub(super) stop_anchor: watch::Sender<bool>,
    pub(super) endpoints: Endpoints,
    pub(super) mock: JoinHandle<Result<(), MockError>>,
    pub(super) stop_mock: watch::Sender<bool>,
    /// `None`: it is somebody else's.
    pub(super) own_broker: Option<OwnBroker>,
    pub(super) checking: JoinHandle<()>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.checking.abort();
    }
}

/// Resolves when the sender says so, or is gone.
pub(super) async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Demo {
    /// Starts the whole street.
    pub async fn start(options: Options) -> Result<Self, DemoError> {
        if !(1_000..=10_000_000).contains(&options.limit_w) {
            return Err(DemoError::Limit(options.limit_w));
        }
        let time_factor = time_factor(&options)?;
        let (address, own_broker) = match &options.broker {
            Broker::Own(wanted) => {
                make_empty(&options.data_dir)?;
                let listener = listen(*wanted).await?;
                (local_address(&listener)?, Some(OwnBroker::start(listener)))
            }
            Broker::Running(place) => {
                let address = broker::find(place, &options).await?;
                make_empty(&options.data_dir)?;
                (address, None)
            }
        };

        let start_us = boot_micros() + WARM_UP.0 * 1000;
        let simulation = Simulation {
            time_factor,
            plant_start: unix_of(options.street.start()),
            clock_start: UnixMillis(unix_now().0 + WARM_UP.0),
        };
        let factor = u64::from(time_factor);
        let clock: PlantClock = Arc::new(move |at_us: u64| PlantTime(at_us.saturating_sub(start_us) * factor));
        let habits = options.cars.habits(time_factor);
        let plant = Arc::new(Mutex::new(Plant::with_habits(&options.street, options.limit_w, habits)));
        let watch = Arc::new(Watch::new(plant.clone(), clock.clone(), TTL));

        let ledger = listen(Some((Ipv4Addr::LOCALHOST, 0).into())).await?;
        let endpoints = Endpoints::mock(local_address(&ledger)?);
        let (stop_mock, told_mock) = watch::channel(false);
        let state = options.data_dir.join(MOCK_STATE);
        let mock = tokio::spawn(async move { mock::run(ledger, &state, told(told_mock)).await });

        let site = site_name();
        let site = Site { issuer: Issuer::create(&site, unix_now())?, name: site };
        let (stop_agents, _) = watch::channel(false);
        let mut demo = Self {
            checking: tokio::spawn(keep_checking(watch.clone())),
            options,
            address,
            plant,
            clock,
            watch,
            time_factor,
            agents: BTreeMap::new(),
            stop_agents,
            anchor_credentials: site.credentials(&anchor_name(), Role::Anchor)?,
            anchor: None,
            anchor_progress: watch::channel(LogProgress::default()).1,
            stop_anchor: watch::channel(false).0,
            endpoints,
            mock,
            stop_mock,
            own_broker,
        };
        let authority = site.issuer.authority();
        initialise(&demo.options.data_dir, (&site.name, None), &authority, &demo.endpoints, None).await?;
        demo.start_anchor();
        demo.start_transformer(&site, simulation)?;
        let charge_points: Vec<ChargePointId> = lock(&demo.plant).charge_points().collect();
        for id in charge_points {
            demo.start_charge_point(&site, simulation, id)?;
        }
        Ok(demo)
    }

    /// Starts the anchor, or starts it again after [`Demo::kill_anchor`].
    pub fn start_anchor(&mut self) {
        let Credentials { site, name, certificate, key, authority } = self.anchor_credentials.clone();
        let mut settings = AnchorSettings::new(site, name, self.options.data_dir.clone());
        (settings.log.commit_ms, settings.log.checkpoint_ms) = (COMMIT, CHECKPOINT);
        let identity = AnchorIdentity { message_key: key, certificate, authority };
        let (progress, seen) = watch::channel(LogProgress::default());
        let stop = told(self.stop_anchor.subscribe());
        let folder = self.options.data_dir.clone();
        let (endpoints, most_nanos_per_record) = (self.endpoints.clone(), MOST_NANOS_PER_RECORD);
        let notary = NotarySettings { folder, endpoints, interval: LEDGER, on_event: true, most_nanos_per_record };
        self.anchor_progress = seen;
        self.anchor = Some(tokio::spawn(grid_anchor::service::run(
            settings,
            identity,
            broker::settings(self.address),
            Some(notary),
            progress,
            stop,
        )));
    }

    /// Stops the anchor dead: what it has not written to disk is gone.
    pub async fn kill_anchor(&mut self) {
        if let Some(task) = self.anchor.take() {
            task.abort();
            // An aborted task ends with an error that says just that.
            let _ = task.await;
        }
    }

    /// Where the broker is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the mock ledger is.
    pub fn ledger(&self) -> &Endpoints {
        &self.endpoints
    }

    /// How many times faster than the clock the day goes by.
    pub fn time_factor(&self) -> u32 {
        self.time_factor
    }

    /// The plant, to look at.
    pub fn plant(&self) -> &Arc<Mutex<Plant>> {
        &self.plant
    }

    /// Who watches the rule of the system.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// What a status line says.
    pub fn progress(&self) -> Progress {
        let now = (self.clock)(boot_micros());
        let mut plant = lock(&self.plant);
        plant.advance(now);
        let (mut wanted, mut drawn, mut charging) = (0, 0, 0);
        for id in plant.charge_points() {
            let phases = plant.phases(id).len() as i64;
            wanted += plant.demand(id).0 * phases;
            drawn += plant.current(id).0 * phases;
            charging += usize::from(plant.current(id) > MilliAmps::ZERO);
        }
        let load: MilliAmps = plant.transformer_current().into_iter().sum();
        Progress {
            time: self.options.street.civil(plant.now().millis()),
            load_w: u64::try_from(load.0 * VOLTS / 1000).unwrap_or(0),
            limit_w: plant.transformer_limit_w(),
            charging,
            held_back_percent: (wanted - drawn).max(0) * 100 / wanted.max(1),
            logged: self.anchor_progress.borrow().entries,
        }
    }

    /// Resolves when the day is over.
    pub async fn day_is_over(&self) {
        while !lock(&self.plant).is_over() {
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops an agent dead: as if its power were cut. Says whether there was one of that name.
    pub fn kill(&mut self, name: &Name) -> bool {
        self.agents.remove(name).map(|task| task.abort()).is_some()
    }

    /// Stops the broker, and starts it again on the same address after `pause`. What it had retained is gone. Somebody
    /// else's is left alone.
    pub async fn restart_broker(&mut self, pause: Duration) -> Result<(), DemoError> {
        let Some(broker) = self.own_broker.take() else { return Ok(()) };
        broker.end().await?;
        sleep(pause).await;
        self.own_broker = Some(OwnBroker::start(listen(Some(self.address)).await?));
        Ok(())
    }

    /// Ends the street in order: agents say goodbye, the anchor writes its last checkpoint, the broker closes, or is left
    /// without anything of this street if it is somebody else's. Then verifies the log.
    pub async fn finish(mut self) -> Result<Report, DemoError> {
        let statistics = {
            let now = (self.clock)(boot_micros());
            let mut plant = lock(&self.plant);
            plant.advance(now);
            plant.statistics()
        };
        let sessions = lock(&self.plant).reports().into_iter().map(Into::into).collect();
        let limit_w = lock(&self.plant).transformer_limit_w();
        let mut changes = self.watch.limit_changes();
        let names = self.options.street.charge_points().iter().map(|point| &point.name);
        let devices = names
            .map(|name| DeviceLine {
                device: name.to_string(),
                limit_changes: changes.remove(name).unwrap_or_default(),
            })
            .collect();
        self.stop_agents.send_replace(true);
        let mut published = 0;
        for (name, task) in std::mem::take(&mut self.agents) {
            let summary = task.await?.map_err(|source| DemoError::Agent { name, source })?;
            published += summary.sessions.iter().map(|(_, last)| last).sum::<u64>();
        }
        self.stop_anchor.send_replace(true);
        if let Some(anchor) = self.anchor.take() {
            anchor.await??;
        }
        match self.own_broker.take() {
            Some(broker) => broker.end().await?,
            None => broker::clear(self.address, &self.options).await,
        }
        let (log, ledger) = self.verify().await?;
        self.stop_mock.send_replace(true);
        (&mut self.mock).await??;
        let by_agents = log.messages.by_sender.iter().filter(|(name, _)| **name != anchor_name());
        let logged = by_agents.map(|(_, messages)| messages).sum();
        let wall = |plant: Duration| u64::try_from(plant.as_millis()).unwrap_or(u64::MAX) / u64::from(self.time_factor);
        Ok(Report {
            limit_w,
            uncontrolled_peak_w: uncontrolled_peak(&self.options.street).load_w,
            peak_w: statistics.peak_w,
            over_limit_ms: wall(statistics.over_limit),
            longest_over_limit_ms: wall(statistics.longest_over_limit),
            sessions,
            devices,
            messages_published: published,
            messages_logged: logged,
            records_on_ledger: ledger.as_ref().map_or(0, |ledger| ledger.records),
            verified: log.holds && ledger.is_some(),
            lease_violations: self.watch.violations(),
            control_latency_us: self.watch.latency(),
        })
    }
}

/// What the log and the ledger say; nothing of the ledger where either does not hold.
type Verified = (Log, Option<LedgerReport>);

impl Demo {
    async fn verify(&self) -> Result<Verified, DemoError> {
        let folder = &self.options.data_dir;
        let path = folder.join("site.policy");
        let text = std::fs::read_to_string(&path).map_err(|source| DemoError::File { path, source })?;
        let policy = Policy::read(&text)?;
        let trail = policy.trail.as_ref().ok_or(BadPolicy::Missing("trail"))?;
        let reader = TrailReader::open(&self.endpoints, Some(&trail.chain), trail.trail).await?;
        let (log, ledger) = match verify_ledger(&folder.join("log"), &policy, &reader).await {
            Ok(verified) => verified,
            Err(failure) => {
                tracing::error!(%failure, "the ledger does not vouch for the log");
                (verify_log(&folder.join("log"), Some(&policy)).map_err(LedgerFailure::from)?, None)
            }
        };
        if let Some(failure) = &log.failure {
            tracing::error!(%failure, "the log does not hold");
        }
        Ok((log, ledger))
    }
}

async fn keep_checking(watch: Arc<Watch>) {
    loop {
        sleep(CHECK_EVERY).await;
        watch.check(boot_now());
    }
}

fn unix_of(civil: time::PrimitiveDateTime) -> UnixMillis {
    UnixMillis(u64::try_from(civil.assume_utc().unix_timestamp()).unwrap_or(0) * 1000)
}
