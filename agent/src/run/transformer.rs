//! Running a transformer.

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use grid_protocol::message::{Event, Measurement, Part, Phase, Reference, Setpoint};
use grid_protocol::topic::{Kind, Name, Topic};
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::clock::{boot_now, unix_now};
use grid_service::file::replace;
use grid_service::link::{Delivery, Incoming, Received};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::complaints::Complaints;
use super::contact::{self, Contact};
use super::sampling::{self, Sampled};
use super::station::Station;
use super::{AgentError, Common, Summary, over_all_phases};
use crate::commands::{Command, Kept, LIMIT_W, Order, Refusal};
use crate::gpio::{Line, Pull};
use crate::meter::Meter;
use crate::transformer::{Dim, Plan, REPEAT, Transformer, Voice};
use crate::view::View;

const BALANCE_EVERY: Millis = Millis(1000);
/// So many messages are heard before what they change is decided: then readings have their turn.
const AT_ONCE: usize = 64;

/// A utility's relay contact on a GPIO line (§ 14a EnWG): while it is closed, all controllable devices together draw no more
/// than `limit_w`, as if `set/dimming` had ordered it; of both the lower holds.
///
/// ```toml
/// [transformer.dimming_contact]
/// line = 27
/// limit_w = 20000
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DimmingContact {
    /// The chip's device file. Default: `/dev/gpiochip0`.
    #[serde(default = "default_chip")]
    pub chip: PathBuf,
    /// The line, on a Raspberry Pi the GPIO number (not the pin's).
    pub line: u32,
    /// The line is low while the contact is closed: it connects the line to ground. Default: true.
    #[serde(default = "default_active_low")]
    pub active_low: bool,
    /// What holds the line while the contact is open: `up`, `down` or, with a resistor outside, `none`. Default: `up`.
    #[serde(default)]
    pub pull: Pull,
    /// What all controllable devices together may draw while it is closed, in watts at 230 V. Each keeps 4.2 kW.
    pub limit_w: u64,
}

fn default_chip() -> PathBuf {
    "/dev/gpiochip0".into()
}

fn default_active_low() -> bool {
    true
}

impl DimmingContact {
    fn start(&self) -> Result<mpsc::Receiver<Contact>, AgentError> {
        let Self { chip, line, active_low, pull, limit_w: _ } = self.clone();
        contact::start(Box::new(move || Ok(Box::new(Line::input(&chip, line, active_low, pull)?))))
    }
}

/// What a transformer measures and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformerSettings {
    /// The phases of its meter, in its order.
    pub phases: Vec<Phase>,
    /// What it is to keep.
    pub plan: Plan,
    /// Where its epoch is kept over restarts. `None`: the clock alone must do.
    pub epoch_file: Option<PathBuf>,
    /// Where orders are kept over restarts. `None`: nowhere.
    pub commands_file: Option<PathBuf>,
    /// The utility's contact, if there is one.
    pub dimming_contact: Option<DimmingContact>,
}

impl TransformerSettings {
    /// One on all three phases that keeps nothing over restarts, and has no contact.
    pub fn new(plan: Plan) -> Self {
        Self { phases: Phase::ALL.to_vec(), plan, epoch_file: None, commands_file: None, dimming_contact: None }
    }
}

/// Runs a transformer until `shutdown`, then says goodbye.
pub async fn run_transformer(
    common: Common,
    settings: TransformerSettings,
    meter: Box<dyn Meter>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, AgentError> {
    let name = &common.credentials.name;
    let subscriptions =
        ["+/status".to_owned(), "+/measurement".to_owned(), format!("{name}/ack"), format!("{name}/set/#")];
    let kept = Kept::load(settings.commands_file.as_deref())?;
    let contact = settings.dimming_contact.as_ref().map(DimmingContact::start).transpose()?;
    let part = Part::Transformer { phases: settings.phases.clone() };
    let mut station = Station::open(common.clone(), part, &subscriptions).await?;
    station.introduce(None);
    let epoch = next_epoch(settings.epoch_file.as_deref(), 0)?;
    let time_factor = common.simulation.map_or(1, |simulation| simulation.time_factor);
    let plan = Plan { time_factor, ..settings.plan.clone() };
    let core = Transformer::new(plan, meter.expected_interval(), station.session(), epoch, boot_now());
    let mut running = Running {
        common,
        settings,
        station,
        core,
        epoch,
        kept,
        has_connected: false,
        complaints: Complaints::default(),
        meter_is_constant: meter.is_constant(),
    };
    running.take_up_orders()?;
    running.run(meter, contact, shutdown).await?;
    running.station.close().await
}

/// The larger of stored + 1 and Unix seconds (rule 7), stored before it is used.
fn next_epoch(file: Option<&Path>, last: u64) -> Result<u64, AgentError> {
    let clock = unix_now().0 / 1000;
    let Some(file) = file else { return Ok(clock.max(last.saturating_add(1))) };
    let failed = |source| AgentError::Epoch { file: file.to_owned(), source };
    let stored: u64 = match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map_err(|_| failed(std::io::Error::other("it holds no number")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    let epoch = clock.max(last.saturating_add(1)).max(stored.saturating_add(1));
    replace(file, format!("{epoch}\n").as_bytes()).map_err(failed)?;
    Ok(epoch)
}

struct Running {
    common: Common,
    settings: TransformerSettings,
    station: Station,
    core: Transformer,
    epoch: u64,
    /// The orders that are in force.
    kept: Kept,
    has_connected: bool,
    complaints: Complaints,
    /// Readings say what flows besides the devices.
    meter_is_constant: bool,
}

impl Running {
    async fn run(
        &mut self,
        meter: Box<dyn Meter>,
        mut contact: Option<mpsc::Receiver<Contact>>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        let mut shutdown = pin!(shutdown);
        let mut samples = sampling::start(meter)?;
        self.station.ready();
        let mut tick = interval(Duration::from_millis(REPEAT.0 / 2));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut balance = interval(Duration::from_millis(BALANCE_EVERY.0));
        balance.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                sampled = samples.recv() => self.on_sampled(&sampled.ok_or(AgentError::MeterEnded)?)?,
                Some(said) = heard(&mut contact) => self.on_contact(said)?,
                incoming = self.station.next() => self.on_all_that_came(incoming?)?,
                _ = tick.tick() => self.lead(None, |core, speaker| core.on_tick(boot_now(), speaker))?,
                _ = balance.tick() => {
                    if let Some(balance) = self.core.balance(boot_now()) {
                        self.station.sees(View::Transformer(balance.clone()));
                        self.station.tell(Kind::Balance, balance, Delivery::OnceRetained)?;
                    }
                }
            }
            self.station.replay(boot_now())?;
            self.station.alive();
        }
    }

    /// Obeys the utility's contact. What cannot be read changes nothing.
    fn on_contact(&mut self, said: Contact) -> Result<(), AgentError> {
        let limit_w = self.settings.dimming_contact.as_ref().map(|contact| contact.limit_w);
        let cap_w = match said {
            Contact::Closed => limit_w,
            Contact::Opened => None,
            Contact::Lost(error) => return self.station.event(Event::ContactFailed { why: error.to_string() }),
            Contact::Found => return self.station.event(Event::ContactRecovered {}),
        };
        self.lead(None, |core, speaker| core.on_contact(cap_w, boot_now(), speaker))
    }

    fn on_sampled(&mut self, sampled: &Sampled) -> Result<(), AgentError> {
        self.core.expect_readings_within(sampled.expected_interval);
        let reading = match &sampled.reading {
            Ok(reading) => reading,
            Err(error) => {
                return self.complaints.event(error, boot_now()).map_or(Ok(()), |event| self.station.event(event));
            }
        };
        let load = over_all_phases(&self.settings.phases, &reading.currents());
        let (at, saturated) = (reading.taken(), reading.is_saturated());
        if self.meter_is_constant {
            return self.lead(None, |core, speaker| core.on_base_load(load, boot_now(), speaker));
        }
        self.lead(Some(sampled.had_at_us), |core, speaker| core.on_reading(load, saturated, at, boot_now(), speaker))
    }

    /// Takes what came and what came meanwhile, and decides once for all of it: a hundred devices that report at once
    /// are one question.
    fn on_all_that_came(&mut self, first: Incoming) -> Result<(), AgentError> {
        self.on_incoming(first)?;
        for _ in 1..AT_ONCE {
            let Some(incoming) = self.station.try_next() else { break };
            self.on_incoming(incoming)?;
        }
        self.lead(None, |core, speaker| core.settle(boot_now(), speaker))
    }

    fn on_incoming(&mut self, incoming: Incoming) -> Result<(), AgentError> {
        match incoming {
            Incoming::Dialing(answer) => {
                if std::mem::take(&mut self.has_connected) {
                    self.start_anew()?;
                }
                self.station.dialing(answer)
            }
            Incoming::Connected => {
                self.has_connected = true;
                self.station.connected();
                Ok(())
            }
            Incoming::Message(received) => self.on_message(&received),
            Incoming::Lost(loss) => self.station.lost(loss),
        }
    }

    /// Rule 7: who reconnects takes a new session and a higher epoch, and forgets all leases.
    fn start_anew(&mut self) -> Result<(), AgentError> {
        self.station.new_session();
        self.epoch = next_epoch(self.settings.epoch_file.as_deref(), self.epoch)?;
        self.core.start_anew(self.station.session(), self.epoch, boot_now());
        Ok(())
    }

    fn on_message(&mut self, received: &Received) -> Result<(), AgentError> {
        let Some(topic) = self.station.sort(received) else { return Ok(()) };
        match topic.kind {
            Kind::Status => {
                let Some(status) = self.station.learn(&topic, &received.payload) else { return Ok(()) };
                self.lead(None, |core, speaker| core.on_status(&status.header.from, &status.body, speaker))
            }
            Kind::Measurement if !received.retained => self.on_measurement(&topic, &received.payload),
            Kind::Set(_) => self.on_command(&topic, received),
            _ => {
                self.station.ignore(&topic, &"not for a transformer");
                Ok(())
            }
        }
    }

    /// Takes up the orders that were in force before a restart.
    fn take_up_orders(&mut self) -> Result<(), AgentError> {
        let by = || "restart".to_owned();
        if let Some(watts) = self.kept.limit_w {
            self.set_limit(watts.min(self.settings.plan.limit_w), by())?;
        }
        self.dim(self.kept.dimming, by())
    }

    /// Obeys a command, once it is kept: what was told must hold after a restart.
    fn on_command(&mut self, topic: &Topic, received: &Received) -> Result<(), AgentError> {
        let Some((command, by)) = self.station.command(topic, received)? else { return Ok(()) };
        let Kind::Set(what) = &topic.kind else { return Ok(()) };
        let rated = self.settings.plan.limit_w;
        let kept = match command {
            Command::Limit { watts } if watts > rated => {
                let expected = format!("watts, {} to {rated}, which is what is configured", LIMIT_W.start());
                return self.station.refuse(Refusal::new(what, &received.payload, expected), by);
            }
            Command::Limit { watts } => Kept { limit_w: Some(watts), ..self.kept.clone() },
            Command::Dimming(order) => Kept { dimming: order, ..self.kept.clone() },
            Command::Charging(_) | Command::Priority(_) => return Ok(()),
        };
        // The same again needs no writing to disk.
        if kept == self.kept {
            return Ok(());
        }
        let file = self.settings.commands_file.as_deref();
        if !self.station.keep(&kept, file, (what, &received.payload), &by)? {
            return Ok(());
        }
        self.kept = kept;
        match command {
            Command::Limit { watts } => self.set_limit(watts, by),
            Command::Dimming(order) => self.dim(order, by),
            Command::Charging(_) | Command::Priority(_) => Ok(()),
        }
    }

    fn set_limit(&mut self, watts: u64, by: String) -> Result<(), AgentError> {
        if let Some(probe) = &self.common.probe {
            probe.limit_changed(watts);
        }
        self.lead(None, |core, speaker| core.on_limit(watts, by, boot_now(), speaker))
    }

    /// Dims, unless the order's time is over.
    fn dim(&mut self, order: Option<Order>, by: String) -> Result<(), AgentError> {
        let civil = self.common.civil_now();
        let time_factor = self.common.simulation.map_or(1, |simulation| simulation.time_factor);
        let dim = order.filter(|order| order.until > civil).map(|order| Dim {
            cap_w: order.cap_w,
            // From here on no setting of the civil clock changes it.
            ends: boot_now() + Millis((order.until.0 - civil.0) / u64::from(time_factor.max(1))),
            until: order.until,
        });
        self.lead(None, |core, speaker| core.on_dimming(dim, by, boot_now(), speaker))
    }

    fn on_measurement(&mut self, topic: &Topic, payload: &[u8]) -> Result<(), AgentError> {
        let device = topic.device.clone();
        let Some(message) = self.station.open_from::<Measurement>(topic, payload, &device) else { return Ok(()) };
        let mut acted_on = false;
        self.lead(None, |core, speaker| {
            acted_on = core.on_measurement(&message.header, message.body, boot_now(), speaker);
        })?;
        if !acted_on {
            self.station.ignore(topic, &"not enrolled, of other phases, or older than what was acted on");
        }
        Ok(())
    }

    /// Lets the core decide, and sends what it says.
    fn lead(
        &mut self,
        read_at: Option<u64>,
        decide: impl FnOnce(&mut Transformer, &mut Speaker),
    ) -> Result<(), AgentError> {
        let mut speaker = Speaker { station: &mut self.station, common: &self.common, read_at, failed: None };
        decide(&mut self.core, &mut speaker);
        speaker.failed.map_or(Ok(()), Err)
    }
}

/// What a contact says next; never, if there is none.
async fn heard(contact: &mut Option<mpsc::Receiver<Contact>>) -> Option<Contact> {
    match contact {
        Some(contact) => contact.recv().await,
        None => std::future::pending().await,
    }
}

/// Sends what the core says.
struct Speaker<'a> {
    station: &'a mut Station,
    common: &'a Common,
    /// When the reading was there that made the core speak, if one did.
    read_at: Option<u64>,
    failed: Option<AgentError>,
}

impl Voice for Speaker<'_> {
    fn setpoint(&mut self, device: &Name, setpoint: Setpoint) -> u64 {
        match self.station.say(device, Kind::Setpoint, setpoint, Delivery::Once) {
            Ok(seq) => {
                if let (Some(probe), Some(read_at)) = (&self.common.probe, self.read_at) {
                    probe.decided(Reference { session: self.station.session(), seq }, read_at);
                }
                seq
            }
            Err(error) => {
                self.failed = Some(error);
                // Counted as if it had been sent, which errs on the safe side; the agent ends.
                u64::MAX
            }
        }
    }

    fn raising(&mut self, device: &Name, room: [MilliAmps; 3]) {
        if let Some(probe) = &self.common.probe {
            probe.raising(device, room);
        }
    }

    fn event(&mut self, event: Event) {
        if let Err(error) = self.station.event(event) {
            self.failed = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_higher_than_the_stored_the_last_and_the_clock() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("epoch");
        let now = unix_now().0 / 1000;
        let first = next_epoch(Some(&file), 0).unwrap();
        assert!(first >= now);
        fs::write(&file, "99999999999\n").unwrap();
        assert_eq!(next_epoch(Some(&file), 0).unwrap(), 100_000_000_000);
        assert_eq!(next_epoch(Some(&file), 0).unwrap(), 100_000_000_001);
        assert_eq!(next_epoch(None, 200_000_000_000).unwrap(), 200_000_000_001);
    }

    #[test]
    fn an_epoch_file_that_holds_something_else_is_named_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("epoch");
        fs::write(&file, "yesterday").unwrap();
        let error = next_epoch(Some(&file), 0).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "yesterday");
    }
}
