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
use grid_service::link::{Delivery, Incoming, Received};
use tokio::time::{MissedTickBehavior, interval};

use super::sampling::{self, Sampled};
use super::station::Station;
use super::{AgentError, Common, Summary, over_all_phases};
use crate::meter::Meter;
use crate::transformer::{Plan, REPEAT, Transformer, Voice};

const BALANCE_EVERY: Millis = Millis(1000);

/// What a transformer measures and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransformerSettings {
    /// The phases of its meter, in its order.
    pub phases: Vec<Phase>,
    /// What it is to keep.
    pub plan: Plan,
    /// Where its epoch is kept over restarts. `None`: the clock alone must do.
    pub epoch_file: Option<PathBuf>,
}

/// Runs a transformer until `shutdown`, then says goodbye.
pub async fn run_transformer(
    common: Common,
    settings: TransformerSettings,
    meter: Box<dyn Meter>,
    shutdown: impl Future<Output = ()>,
) -> Result<Summary, AgentError> {
    let name = &common.credentials.name;
    let subscriptions = ["+/status".to_owned(), "+/measurement".to_owned(), format!("{name}/ack")];
    let part = Part::Transformer { phases: settings.phases.clone() };
    let station = Station::open(common.clone(), part, &subscriptions)?;
    let epoch = next_epoch(settings.epoch_file.as_deref(), 0)?;
    let core = Transformer::new(settings.plan.clone(), meter.expected_interval(), station.session(), epoch, boot_now());
    let meter_interval = meter.expected_interval();
    let mut running = Running { common, settings, meter_interval, station, core, epoch, has_connected: false };
    running.run(meter, shutdown).await?;
    running.station.close().await
}

/// The larger of stored + 1 and Unix seconds (rule 7), stored before it is used.
fn next_epoch(file: Option<&Path>, last: u64) -> Result<u64, AgentError> {
    let clock = unix_now().0 / 1000;
    let Some(file) = file else { return Ok(clock.max(last + 1)) };
    let failed = |source| AgentError::Epoch { file: file.to_owned(), source };
    let stored = match fs::read_to_string(file) {
        Ok(text) => text.trim().parse().map_err(|_| failed(std::io::Error::other("it holds no number")))?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
        Err(error) => return Err(failed(error)),
    };
    let epoch = clock.max(last + 1).max(stored + 1);
    let fresh = file.with_extension("new");
    fs::write(&fresh, format!("{epoch}\n")).map_err(failed)?;
    fs::File::open(&fresh).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, file).map_err(failed)?;
    // The rename itself must survive a power cut too, or the epoch would go back.
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(epoch)
}

struct Running {
    common: Common,
    settings: TransformerSettings,
    meter_interval: Millis,
    station: Station,
    core: Transformer,
    epoch: u64,
    has_connected: bool,
}

impl Running {
    async fn run(&mut self, meter: Box<dyn Meter>, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let mut shutdown = pin!(shutdown);
        let mut samples = sampling::start(meter)?;
        let mut tick = interval(Duration::from_millis(REPEAT.0 / 2));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut balance = interval(Duration::from_millis(BALANCE_EVERY.0));
        balance.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                sampled = samples.recv() => self.on_sampled(&sampled.ok_or(AgentError::MeterEnded)?)?,
                incoming = self.station.next() => self.on_incoming(incoming?)?,
                _ = tick.tick() => self.lead(None, |core, speaker| core.on_tick(boot_now(), speaker))?,
                _ = balance.tick() => {
                    if let Some(balance) = self.core.balance(boot_now()) {
                        self.station.tell(Kind::Balance, balance, Delivery::OnceRetained)?;
                    }
                }
            }
            self.station.replay(boot_now())?;
        }
    }

    fn on_sampled(&mut self, sampled: &Sampled) -> Result<(), AgentError> {
        let reading = match &sampled.reading {
            Ok(reading) => reading,
            Err(error) => {
                tracing::warn!(device = %self.common.credentials.name, %error, "the meter gives no reading");
                return Ok(());
            }
        };
        let load = over_all_phases(&self.settings.phases, &reading.currents());
        let (at, saturated) = (sampled.at(), reading.is_saturated());
        self.lead(Some(sampled.at_us), |core, speaker| core.on_reading(load, saturated, at, boot_now(), speaker))
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
        self.core = Transformer::new(
            self.settings.plan.clone(),
            self.meter_interval,
            self.station.session(),
            self.epoch,
            boot_now(),
        );
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
            _ => {
                self.station.ignore(&topic, &"not for a transformer");
                Ok(())
            }
        }
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
