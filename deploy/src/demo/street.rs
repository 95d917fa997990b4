//! Starting, watching and ending the whole street.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use grid_agent::lease::counted_for;
use grid_agent::meter::{Adc, ChipConfig, Ina219Meter, MeterError};
use grid_agent::run::{
    AgentError, Common, Credentials, DeviceSettings, Probe, Simulation, Summary, TransformerSettings, run_device,
    run_transformer,
};
use grid_agent::simulated_ina219::SimulatedBus;
use grid_agent::transformer::{Enrolment, Plan};
use grid_anchor::initialise::{InitError, initialise};
use grid_anchor::notary::Notary;
use grid_anchor::policy::{BadPolicy, Policy};
use grid_anchor::recorder::{AnchorIdentity, Progress as LogProgress};
use grid_anchor::service::{AnchorError, Summary as AnchorSummary};
use grid_anchor::settings::Settings as AnchorSettings;
use grid_anchor::verify::{LedgerFailure, LedgerReport, Report as Log, verify_ledger, verify_log};
use grid_broker::BrokerError;
use grid_ledger::mock::MockError;
use grid_ledger::{Endpoints, LedgerError, TrailReader, mock};
use grid_protocol::identity::{Identity, IssueError, Issuer};
use grid_protocol::message::{DeviceKind, Phase, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, Millis, UnixMillis};
use grid_service::clock::{boot_micros, boot_now, unix_now};
use grid_service::link::BrokerSettings;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::charger::SimulatedCharger;
use super::report::Report;
use super::watch::Watch;
use crate::plant::wires::{PlantClock, PlantWire, lock};
use crate::plant::{ChargePointId, Plant, PlantTime, uncontrolled_peak};
use crate::street::{LEAST_CHARGING, Street, VOLTS, current_per_phase};

/// How long a lease lasts in the demo.
const TTL: Millis = Millis(3000);
/// The day begins when a new transformer has waited for leases of an earlier one (lease rule 7), and a little later.
const WARM_UP: Millis = Millis(4000);
/// What a run of a given duration keeps for the end: last acks, last checkpoint, verification.
const WIND_DOWN: Millis = Millis(1500);
/// Shunt and range of a simulated chip let it measure this much before scaling.
const CHIP_RANGE: MilliAmps = MilliAmps(3200);
const FIRST_ADDRESS: u8 = 0x40;
/// How often the anchor writes to disk.
const COMMIT: Millis = Millis(1000);
/// How often it signs a checkpoint.
const CHECKPOINT: Millis = Millis(10_000);
/// How often a checkpoint goes on the ledger.
const LEDGER: Millis = Millis(10_000);
/// The mock ledger's state, in the run's folder.
pub const MOCK_STATE: &str = "mock-ledger.state";
const CHECK_EVERY: Duration = Duration::from_millis(10);
const DEFAULT_PORT: u16 = 1883;

/// How fast the day goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// This many times faster than the clock.
    Factor(u32),
    /// So that the whole day fits into a run of this length.
    Within(Duration),
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The street and its day.
    pub street: Street,
    /// The transformer's limit.
    pub limit_w: u64,
    /// How fast the day goes by.
    pub pace: Pace,
    /// Where the broker listens. `None`: on loopback at the usual port, or another if that is taken.
    pub listen: Option<SocketAddr>,
    /// A folder for the log and the keys, which must not exist or be empty.
    pub data_dir: PathBuf,
}

/// Why the street could not be started, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The folder is in use.
    #[error("{0} is not empty: each run makes its own site with its own keys, so give it a folder of its own")]
    NotEmpty(PathBuf),
    /// A file or folder cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The limit is too low for the meters' margin, or absurdly high.
    #[error("a limit of {0} W cannot be kept: expected 1000 to 10000000")]
    Limit(u64),
    /// The day does not fit.
    #[error("a day of {day} does not fit into {run:?}: give it at least 10 s")]
    TooShort {
        /// The day's length.
        day: Millis,
        /// The run's.
        run: Duration,
    },
    /// No certificate could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// A simulated meter could not be opened.
    #[error("a simulated meter could not be opened: {0}")]
    Meter(#[from] MeterError),
    /// A simulated chip could not be attached.
    #[error("a simulated chip could not be attached: {0}")]
    Chip(#[from] grid_agent::simulated_ina219::SimulationError),
    /// The anchor ended by itself.
    #[error("the anchor ended")]
    Anchor(#[from] AnchorError),
    /// The log could not be tied to a trail.
    #[error("no trail could be made on the mock ledger")]
    Init(#[from] InitError),
    /// The log could not be verified.
    #[error("the log could not be verified")]
    Verify(#[from] LedgerFailure),
    /// The mock ledger does not answer.
    #[error("the mock ledger cannot be used")]
    Ledger(#[from] LedgerError),
    /// The mock ledger ended by itself.
    #[error("the mock ledger ended")]
    Mock(#[from] MockError),
    /// The policy could not be read.
    #[error("the policy could not be read")]
    Policy(#[from] BadPolicy),
    /// The broker ended by itself.
    #[error("the broker ended")]
    Broker(#[from] BrokerError),
    /// An agent ended by itself.
    #[error("agent {name} ended")]
    Agent {
        /// Which.
        name: Name,
        /// Why.
        source: AgentError,
    },
    /// A task panicked.
    #[error("a part of the street crashed")]
    Crashed(#[from] tokio::task::JoinError),
}

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
    options: Options,
    address: SocketAddr,
    plant: Arc<Mutex<Plant>>,
    clock: PlantClock,
    watch: Arc<Watch>,
    time_factor: u32,
    agents: BTreeMap<Name, JoinHandle<Result<Summary, AgentError>>>,
    stop_agents: watch::Sender<bool>,
    anchor_credentials: Credentials,
    anchor: Option<JoinHandle<Result<AnchorSummary, AnchorError>>>,
    anchor_progress: watch::Receiver<LogProgress>,
    stop_anchor: watch::Sender<bool>,
    endpoints: Endpoints,
    mock: JoinHandle<Result<(), MockError>>,
    stop_mock: watch::Sender<bool>,
    broker: JoinHandle<Result<(), BrokerError>>,
    stop_broker: watch::Sender<bool>,
    checking: JoinHandle<()>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.checking.abort();
    }
}

/// Resolves when the sender says so, or is gone.
async fn told(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|_| unreachable!("a literal name"))
}

/// Every run is a site of its own with a throw-away authority.
struct Site {
    name: Name,
    issuer: Issuer,
}

impl Site {
    fn credentials(&self, name: &Name, role: Role) -> Result<Credentials, IssueError> {
        let key = SigningKey::generate(&mut rand::rngs::OsRng);
        let identity = Identity { site: self.name.clone(), role, name: name.clone(), key: key.verifying_key() };
        let (certificate, _) = self.issuer.issue(&identity, unix_now())?;
        let authority = self.issuer.authority();
        Ok(Credentials { site: self.name.clone(), name: name.clone(), certificate, key, authority })
    }
}

impl Demo {
    /// Starts the whole street.
    pub async fn start(options: Options) -> Result<Self, DemoError> {
        if !(1_000..=10_000_000).contains(&options.limit_w) {
            return Err(DemoError::Limit(options.limit_w));
        }
        let time_factor = time_factor(&options)?;
        make_empty(&options.data_dir)?;
        let listener = listen(options.listen).await?;
        let address = local_address(&listener)?;
        let (stop_broker, told_broker) = watch::channel(false);
        let broker = tokio::spawn(grid_broker::run(listener, grid_broker::Settings::default(), told(told_broker)));

        let start_us = boot_micros() + WARM_UP.0 * 1000;
        let simulation = Simulation {
            time_factor,
            plant_start: unix_of(options.street.start()),
            clock_start: UnixMillis(unix_now().0 + WARM_UP.0),
        };
        let factor = u64::from(time_factor);
        let clock: PlantClock = Arc::new(move |at_us: u64| PlantTime(at_us.saturating_sub(start_us) * factor));
        let plant = Arc::new(Mutex::new(Plant::new(&options.street, options.limit_w)));
        let watch = Arc::new(Watch::new(plant.clone(), clock.clone(), TTL));

        let ledger = listen(Some((Ipv4Addr::LOCALHOST, 0).into())).await?;
        let endpoints = Endpoints::mock(local_address(&ledger)?);
        let (stop_mock, told_mock) = watch::channel(false);
        let state = options.data_dir.join(MOCK_STATE);
        let mock = tokio::spawn(async move { mock::run(ledger, &state, told(told_mock)).await });

        let site = name("demo");
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
            broker,
            stop_broker,
        };
        initialise(&demo.options.data_dir, &site.name, &site.issuer.authority(), &demo.endpoints, None).await?;
        demo.start_anchor().await?;
        demo.start_transformer(&site, simulation)?;
        let charge_points: Vec<ChargePointId> = lock(&demo.plant).charge_points().collect();
        for id in charge_points {
            demo.start_charge_point(&site, simulation, id)?;
        }
        Ok(demo)
    }

    fn common(&self, site: &Site, name: &Name, role: Role, simulation: Simulation) -> Result<Common, DemoError> {
        Ok(Common {
            credentials: site.credentials(name, role)?,
            broker: self.broker_settings(),
            anchor: anchor_name(),
            replay_after: Millis(5000),
            simulation: Some(simulation),
            probe: Some(self.watch.clone() as Arc<dyn Probe>),
        })
    }

    fn start_transformer(&mut self, site: &Site, simulation: Simulation) -> Result<(), DemoError> {
        let name = transformer_name();
        let limit_ma = current_per_phase(self.options.limit_w, 3);
        let uncontrolled = current_per_phase(uncontrolled_peak(&self.options.street).load_w, 3);
        let chips = chips(3, uncontrolled.max(MilliAmps(limit_ma.0 * 3 / 2)));
        let bus = SimulatedBus::new(boot_micros);
        for (phase, chip) in Phase::ALL.into_iter().zip(&chips) {
            let wire = PlantWire::transformer(self.plant.clone(), self.clock.clone(), phase, chip.clone());
            bus.attach(chip.address, wire)?;
        }
        let meter = Ina219Meter::open(chips, |_| Ok(bus.clone()))?;
        let points = self.options.street.charge_points().iter();
        let devices = points.map(|point| Enrolment {
            name: point.name.clone(),
            phases: point.phases.clone(),
            failsafe_ma: MilliAmps::ZERO,
        });
        let plan =
            Plan { limit_ma, margin_ma: limit_ma.percent(2), ttl: TTL, max_ttl: TTL, devices: devices.collect() };
        let settings = TransformerSettings { phases: Phase::ALL.to_vec(), plan, epoch_file: None };
        let common = self.common(site, &name, Role::Transformer, simulation)?;
        let stop = told(self.stop_agents.subscribe());
        self.agents.insert(name, tokio::spawn(run_transformer(common, settings, Box::new(meter), stop)));
        Ok(())
    }

    fn start_charge_point(&mut self, site: &Site, simulation: Simulation, id: ChargePointId) -> Result<(), DemoError> {
        let (name, phases, max_ma) = {
            let plant = lock(&self.plant);
            (plant.name(id).clone(), plant.phases(id).to_vec(), plant.max(id))
        };
        let chips = chips(phases.len(), MilliAmps(max_ma.0 * 3 / 2));
        let bus = SimulatedBus::new(boot_micros);
        for chip in &chips {
            let wire = PlantWire::charge_point(self.plant.clone(), self.clock.clone(), id, chip.clone());
            bus.attach(chip.address, wire)?;
        }
        let meter = Ina219Meter::open(chips, |_| Ok(bus.clone()))?;
        let charger = SimulatedCharger::new(self.plant.clone(), self.clock.clone(), id, self.watch.clone());
        let settings = DeviceSettings {
            transformer: transformer_name(),
            kind: DeviceKind::Ev,
            phases,
            min_ma: LEAST_CHARGING,
            max_ma,
            failsafe_ma: MilliAmps::ZERO,
            priority: 5,
            max_ttl: TTL,
        };
        let common = self.common(site, &name, Role::Device, simulation)?;
        let stop = told(self.stop_agents.subscribe());
        let task = run_device(common, settings, Box::new(meter), Box::new(charger), stop);
        self.agents.insert(name, tokio::spawn(task));
        Ok(())
    }

    /// Starts the anchor, or starts it again after [`Demo::kill_anchor`].
    pub async fn start_anchor(&mut self) -> Result<(), DemoError> {
        let Credentials { site, name, certificate, key, authority } = self.anchor_credentials.clone();
        let mut settings = AnchorSettings::new(site, name, self.options.data_dir.clone());
        settings.broker = self.broker_settings();
        (settings.log.commit_ms, settings.log.checkpoint_ms) = (COMMIT, CHECKPOINT);
        let identity = AnchorIdentity { message_key: key, certificate, authority };
        let (progress, seen) = watch::channel(LogProgress::default());
        let stop = told(self.stop_anchor.subscribe());
        let notary = Notary::open(&self.options.data_dir, self.endpoints.clone(), LEDGER).await?;
        self.anchor_progress = seen;
        self.anchor = Some(tokio::spawn(grid_anchor::service::run(settings, identity, Some(notary), progress, stop)));
        Ok(())
    }

    /// Stops the anchor dead: what it has not written to disk is gone.
    pub async fn kill_anchor(&mut self) {
        if let Some(task) = self.anchor.take() {
            task.abort();
            // An aborted task ends with an error that says just that.
            let _ = task.await;
        }
    }

    fn broker_settings(&self) -> BrokerSettings {
        BrokerSettings { host: self.address.ip().to_string(), port: self.address.port() }
    }

    /// Where the broker listens.
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
            limit_w: self.options.limit_w,
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

    /// Ends the street in order: agents say goodbye, the anchor writes its last checkpoint, the broker closes. Then
    /// verifies the log.
    pub async fn finish(mut self) -> Result<Report, DemoError> {
        let statistics = {
            let now = (self.clock)(boot_micros());
            let mut plant = lock(&self.plant);
            plant.advance(now);
            plant.statistics()
        };
        let sessions = lock(&self.plant).reports().into_iter().map(Into::into).collect();
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
        self.stop_broker.send_replace(true);
        (&mut self.broker).await??;
        let (log, ledger) = self.verify().await?;
        self.stop_mock.send_replace(true);
        (&mut self.mock).await??;
        let by_agents = log.messages.by_sender.iter().filter(|(name, _)| **name != anchor_name());
        let logged = by_agents.map(|(_, messages)| messages).sum();
        let wall = |plant: Duration| u64::try_from(plant.as_millis()).unwrap_or(u64::MAX) / u64::from(self.time_factor);
        Ok(Report {
            limit_w: self.options.limit_w,
            uncontrolled_peak_w: uncontrolled_peak(&self.options.street).load_w,
            peak_w: statistics.peak_w,
            over_limit_ms: wall(statistics.over_limit),
            longest_over_limit_ms: wall(statistics.longest_over_limit),
            sessions,
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

fn transformer_name() -> Name {
    name("trafo-1")
}

fn anchor_name() -> Name {
    name("anchor-1")
}

async fn keep_checking(watch: Arc<Watch>) {
    loop {
        sleep(CHECK_EVERY).await;
        watch.check(boot_now());
    }
}

fn time_factor(options: &Options) -> Result<u32, DemoError> {
    let run = match options.pace {
        Pace::Factor(factor) => return Ok(factor.max(1)),
        Pace::Within(run) => run,
    };
    let day = options.street.end();
    let left = u64::try_from(run.as_millis()).unwrap_or(u64::MAX).saturating_sub((WARM_UP + WIND_DOWN).0);
    let too_short = || DemoError::TooShort { day, run };
    if left < counted_for(TTL).0 {
        return Err(too_short());
    }
    u32::try_from(day.0.div_ceil(left)).map_err(|_| too_short())
}

fn make_empty(folder: &Path) -> Result<(), DemoError> {
    let failed = |source| DemoError::File { path: folder.to_owned(), source };
    std::fs::create_dir_all(folder).map_err(failed)?;
    match std::fs::read_dir(folder).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(DemoError::NotEmpty(folder.to_owned())),
    }
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, DemoError> {
    listener.local_addr().map_err(|source| DemoError::Listen { address: usual(), source })
}

fn usual() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into()
}

async fn listen(wanted: Option<SocketAddr>) -> Result<TcpListener, DemoError> {
    let address = wanted.unwrap_or(usual());
    let taken = match TcpListener::bind(address).await {
        Ok(listener) => return Ok(listener),
        Err(source) => source,
    };
    if wanted.is_some() || taken.kind() != std::io::ErrorKind::AddrInUse {
        return Err(DemoError::Listen { address, source: taken });
    }
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(any).await.map_err(|source| DemoError::Listen { address: any, source })?;
    tracing::warn!("port {DEFAULT_PORT} is taken, so the broker takes a free one");
    Ok(listener)
}

/// Chips of which each measures up to `most` grid milliamps.
fn chips(count: usize, most: MilliAmps) -> Vec<ChipConfig> {
    let scale = u32::try_from(most.0.max(1).div_euclid(CHIP_RANGE.0) + 1).unwrap_or(u32::MAX);
    let addresses = (FIRST_ADDRESS..).take(count);
    addresses.map(|address| ChipConfig { address, scale, adc: Adc::Average16, ..ChipConfig::default() }).collect()
}

fn unix_of(civil: time::PrimitiveDateTime) -> UnixMillis {
    UnixMillis(u64::try_from(civil.assume_utc().unix_timestamp()).unwrap_or(0) * 1000)
}
