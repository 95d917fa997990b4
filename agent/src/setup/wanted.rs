//! What is wanted of an agent: from flags, from a person, or the default.

use std::path::Path;

use clap::Args;
use grid_agent::meter::{LinuxBus, What, scan};
use grid_protocol::identity::Identity;
use grid_protocol::message::{DeviceKind, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::MilliAmps;
use grid_service::setup::{BrokerAt, Questions};

use super::error::Failure;
use super::reserve::Reserve;
use super::words::{ActuatorWord, Current, DeviceWord, DeviceWords, Kind, MeterWord, Phases};

/// What a car draws at least (IEC 61851-1), which a short gap in the radio should leave it.
const USUAL: Current = Current(MilliAmps(6_000));
const NOTHING: Current = Current(MilliAmps::ZERO);
const ALL_PHASES: usize = 3;

/// The answers that were given as flags.
#[derive(Debug, Args)]
pub struct Given {
    /// Where the broker is. Default: the first that the bundle names and that answers.
    #[arg(long, value_name = "HOST[:PORT]")]
    broker: Option<BrokerAt>,
    /// What measures, with a value for each phase: ina219:ADDRESS,… or hwmon[:DEVICE,…] or none:MA,… (a constant).
    #[arg(long, value_name = "METER")]
    meter: Option<MeterWord>,
    /// The I2C bus of an INA219. Default: /dev/i2c-1.
    #[arg(long, value_name = "FILE")]
    bus: Option<String>,
    /// How many milliamps of the grid one milliamp of the sensor stands for.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    scale: Option<u32>,
    /// What a device may draw per phase when nobody leads it; for a transformer, what it reserves for each `--device` without a
    /// value of its own. Default: 6000 for a charge point, and for a transformer if that fits under its limit; else 0.
    #[arg(long, value_name = "MA")]
    failsafe_ma: Option<Current>,
    /// A device's transformer. Default: trafo-1.
    #[arg(long, value_name = "NAME", help_heading = "For a device")]
    transformer: Option<Name>,
    /// The phases that it is connected to, in the order of its meter: L1L2L3, L2. Default with three of them: L1L2L3.
    #[arg(long, help_heading = "For a device")]
    phases: Option<Phases>,
    /// ev, heat_pump, battery or other. Default: ev.
    #[arg(long, help_heading = "For a device")]
    kind: Option<Kind>,
    /// Less than this per phase is not usable. Default: 6000 for ev, else 0.
    #[arg(long, value_name = "MA", help_heading = "For a device")]
    min_ma: Option<Current>,
    /// The most it can draw per phase.
    #[arg(long, value_name = "MA", help_heading = "For a device")]
    max_ma: Option<Current>,
    /// What limits it: control-pilot, pwm, relay:LINE, or none (the limit is only told).
    #[arg(long, help_heading = "For a device")]
    actuator: Option<ActuatorWord>,
    /// What the transformer may carry, all phases together, in watts at 230 V.
    #[arg(long, value_name = "W", help_heading = "For a transformer")]
    limit_w: Option<u32>,
    /// A device that it leads; may be repeated.
    #[arg(long, value_name = "NAME:PHASES[:FAILSAFE_MA]", help_heading = "For a transformer")]
    device: Vec<DeviceWord>,
}

/// What is wanted. What is `None` is not said, and stays as it is.
#[derive(Debug)]
pub struct Wanted {
    /// The site.
    pub site: Name,
    /// The agent's name.
    pub name: Name,
    /// Where the broker is.
    pub broker: Option<BrokerAt>,
    /// What measures.
    pub meter: Option<MeterWord>,
    /// The bus of an INA219.
    pub bus: Option<String>,
    /// What the sensors' milliamps stand for.
    pub scale: Option<u32>,
    /// What it is.
    pub part: Part,
}

/// What an agent is.
#[derive(Debug)]
pub enum Part {
    /// A device.
    Device(Device),
    /// A transformer.
    Transformer(Transformer),
}

/// What is wanted of a device.
#[derive(Debug)]
pub struct Device {
    /// Whom it obeys.
    pub transformer: Option<Name>,
    /// Its phases.
    pub phases: Option<Phases>,
    /// What it is.
    pub kind: Option<Kind>,
    /// The least current of use.
    pub min: Option<Current>,
    /// The most.
    pub max: Option<Current>,
    /// Without a lease.
    pub failsafe: Option<Current>,
    /// What limits it.
    pub actuator: Option<ActuatorWord>,
}

/// What is wanted of a transformer.
#[derive(Debug)]
pub struct Transformer {
    /// What it may carry.
    pub limit_w: Option<u32>,
    /// Whom it leads.
    pub devices: Option<DeviceWords>,
}

impl Wanted {
    /// What the flags say of this agent.
    ///
    /// # Errors
    /// If a flag is for the other role, or nobody of this role has an agent.
    pub fn of_flags(given: Given, identity: &Identity) -> Result<Self, Failure> {
        let Given { broker, meter, bus, scale, failsafe_ma: failsafe, .. } = given;
        let Given { transformer, phases, kind, min_ma: min, max_ma: max, actuator, limit_w, device, .. } = given;
        let for_device = [
            ("--transformer", transformer.is_some()),
            ("--phases", phases.is_some()),
            ("--kind", kind.is_some()),
            ("--min-ma", min.is_some()),
            ("--max-ma", max.is_some()),
            ("--actuator", actuator.is_some()),
        ];
        let for_transformer = [("--limit-w", limit_w.is_some()), ("--device", !device.is_empty())];
        let unless_given = |flags: &[(&'static str, bool)], other: &'static str| match flags.iter().find(|(_, is)| *is)
        {
            Some((flag, _)) => Err(Failure::OtherRole { flag, other, is: identity.role }),
            None => Ok(()),
        };
        let part = match identity.role {
            Role::Device => {
                unless_given(&for_transformer, "transformer")?;
                Part::Device(Device { transformer, phases, kind, min, max, failsafe, actuator })
            }
            Role::Transformer => {
                unless_given(&for_device, "device")?;
                let mut devices = Some(DeviceWords(device)).filter(|devices| !devices.0.is_empty());
                match (&mut devices, failsafe) {
                    (Some(devices), Some(failsafe)) => devices.reserve(failsafe),
                    (None, Some(_)) => return Err(Failure::ReservesForNobody),
                    (_, None) => {}
                }
                Part::Transformer(Transformer { limit_w, devices })
            }
            role => return Err(Failure::NoAgent(role)),
        };
        let (site, name) = (identity.site.clone(), identity.name.clone());
        Ok(Self { site, name, broker, meter, bus, scale, part })
    }

    /// Asks for the rest, or takes the defaults.
    ///
    /// # Errors
    /// Names the flag of what has no default, if nobody can be asked.
    pub fn complete(mut self, ask: &Questions, broker: impl FnOnce() -> Option<BrokerAt>) -> Result<Self, Failure> {
        self.broker = Some(BrokerAt::ask(ask, self.broker, broker)?);
        match &mut self.part {
            Part::Device(device) => {
                let trafo = "trafo-1".parse().ok();
                let transformer = device.transformer.take();
                device.transformer =
                    Some(ask.answer("The transformer it obeys", "--transformer", transformer, trafo)?);
                let kind = ask.answer(
                    "What it is (ev: a car's charge point, heat_pump, battery, other)",
                    "--kind",
                    device.kind,
                    Some(Kind(DeviceKind::Ev)),
                )?;
                device.kind = Some(kind);
                let is_usual = self.meter.as_ref().is_none_or(|meter| meter.phases() == ALL_PHASES);
                let all = "L1L2L3".parse().ok().filter(|_| is_usual);
                let phases = device.phases.take();
                let phases = ask.answer("The phases it is connected to (L1L2L3, L2)", "--phases", phases, all)?;
                let count = phases.0.len();
                device.phases = Some(phases);
                let usual = if kind.0 == DeviceKind::Ev { USUAL } else { NOTHING };
                let min = "The least current of use to it, in mA per phase";
                device.min = Some(ask.answer(min, "--min-ma", device.min, Some(usual))?);
                let max = ask.answer("The most it can draw, in mA per phase", "--max-ma", device.max, None)?;
                device.max = Some(max);
                let usual = if max.0 < usual.0 { max } else { usual };
                let failsafe = "What it may draw when nobody leads it, in mA per phase (its transformer reserves that)";
                device.failsafe = Some(ask.answer(failsafe, "--failsafe-ma", device.failsafe, Some(usual))?);
                self.complete_meter(ask, count)?;
            }
            Part::Transformer(transformer) => {
                let limit = "What it may carry, all phases together, in watts";
                let limit_w = ask.answer(limit, "--limit-w", transformer.limit_w, None)?;
                transformer.limit_w = Some(limit_w);
                let devices = "The devices it leads (cp-1:L1L2L3 cp-2:L1 …; none yet: Enter)";
                let mut devices =
                    ask.answer(devices, "--device", transformer.devices.take(), Some(DeviceWords::default()))?;
                if devices.0.iter().any(|device| device.failsafe.is_none()) {
                    let fits = Reserve::of(&devices.with(USUAL), limit_w).fits();
                    let usual = if fits { USUAL } else { NOTHING };
                    let question = "What each may draw when nobody leads it, in mA per phase (reserved for it)";
                    let failsafe = ask.answer(question, "--failsafe-ma", None, Some(usual))?;
                    devices.reserve(failsafe);
                }
                transformer.devices = Some(devices);
                self.complete_meter(ask, ALL_PHASES)?;
            }
        }
        if let Part::Device(device) = &mut self.part {
            let question = "What limits it (control-pilot, pwm, relay:17 with its GPIO line; none: it is only told)";
            device.actuator = Some(ask.answer(question, "--actuator", device.actuator.take(), None)?);
        }
        Ok(self)
    }

    /// The most that flows per phase while all is well.
    fn limit(&self) -> MilliAmps {
        match &self.part {
            Part::Device(device) => device.max.map_or(MilliAmps::ZERO, |max| max.0),
            Part::Transformer(transformer) => {
                grid_agent::transformer::per_phase(transformer.limit_w.unwrap_or(0).into())
            }
        }
    }

    fn complete_meter(&mut self, ask: &Questions, phases: usize) -> Result<(), Failure> {
        let found = match (&self.meter, ask.is_somebody_there()) {
            (None, true) => find_chips(self.bus.as_deref().unwrap_or("/dev/i2c-1"), phases),
            _ => None,
        };
        let question = "What measures (such as ina219:0x40,0x41,0x44 or hwmon; nothing, but so many mA: none:0,0,0)";
        let meter = ask.answer(question, "--meter", self.meter.take(), found)?;
        if meter.has_scale() {
            let question = format!(
                "How many mA of the grid one of the sensor stands for (it has to show 1.5 times {})",
                self.limit()
            );
            self.scale = Some(ask.answer(&question, "--scale", self.scale, None)?);
        }
        self.meter = Some(meter);
        Ok(())
    }
}

impl DeviceWords {
    /// Gives each that has none of its own this failsafe limit.
    fn reserve(&mut self, failsafe: Current) {
        self.0.iter_mut().for_each(|device| device.failsafe = device.failsafe.or(Some(failsafe)));
    }

    fn with(&self, failsafe: Current) -> Self {
        let mut all = self.clone();
        all.reserve(failsafe);
        all
    }
}

/// The INA219 on the bus, if there are enough of them. Tells what was found.
fn find_chips(bus: &str, phases: usize) -> Option<MeterWord> {
    if !Path::new(bus).exists() {
        eprintln!("  there is no {bus} to look for an INA219");
        return None;
    }
    let found = match LinuxBus::open(bus) {
        Ok(mut bus) => scan(&mut bus),
        Err(error) => {
            eprintln!("  {error}");
            return None;
        }
    };
    let chips = found.iter().filter(|found| matches!(found.what, What::Ina219 { .. })).map(|found| found.address);
    let chips: Vec<u8> = chips.collect();
    let shown: Vec<String> = chips.iter().map(|address| format!("{address:#04x}")).collect();
    let shown = if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") };
    eprintln!("  on {bus} behaves like an INA219: {shown}");
    (chips.len() >= phases).then(|| MeterWord::Ina219(chips[..phases].to_vec()))
}
