//! A device on a broker that others wrote (mosquitto), commanded by a client that others wrote.

#![allow(clippy::unwrap_used)]

mod mosquitto;

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use grid_agent::actuator::Advice;
use grid_agent::home_assistant::HomeAssistant;
use grid_agent::meter::{
    ChipConfig, Ina219Meter, Meter, MeterError, MqttMeter, MqttSettings, PhaseReading, PhaseTopic, Reading, Unit,
};
use grid_agent::run::{Common, DeviceSettings, run_device};
use grid_agent::simulated_ina219::{Fault, Sensed, SimulatedBus};
use grid_protocol::message::{Capabilities, DeviceKind, Event, Measurement, Message, Phase, Role};
use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use grid_service::broker::BrokerSettings;
use grid_service::clock::boot_micros;
use mosquitto::{Broker, Heard, SOON, authority, common, runtime};
use tokio::runtime::Runtime;

impl Broker {
    fn command(&self, what: &str, value: &str, more: &[&str]) {
        let topic = format!("grid/demo/cp-1/set/{what}");
        let mut publish = self.client("mosquitto_pub", &["-t", &topic, "-m", value]);
        assert!(publish.args(more).status().unwrap().success());
    }

    /// Hears all that the charge point measures and tells, from the first measurement that comes to it on.
    fn hear(&self) -> Heard {
        let heard = self.hear_all();
        heard.measurement(|_| true);
        heard
    }

    /// Hears all that the charge point measures and tells from now on.
    fn hear_all(&self) -> Heard {
        self.listen(&["-t", "grid/demo/cp-1/event", "-t", "grid/demo/cp-1/measurement"])
    }
}

/// The cable between device and broker.
struct Cable {
    port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn to(broker: &Broker) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let cable = Self { port: listener.local_addr().unwrap().port(), connections: Arc::default() };
        let (connections, port) = (cable.connections.clone(), broker.port);
        thread::spawn(move || {
            for device in listener.incoming().map_while(Result::ok) {
                let Ok(broker) = TcpStream::connect(("127.0.0.1", port)) else { return };
                for (from, to) in [(&device, &broker), (&broker, &device)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                connections.lock().unwrap().extend([device, broker]);
            }
        });
        cable
    }

    fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Reads nothing that flows, ten times a second.
struct Idle;

impl Meter for Idle {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        thread::sleep(Duration::from_millis(100));
        let (current, voltage) = (MilliAmps(0), MilliVolts(230_000));
        Ok(Some(Reading::now(vec![PhaseReading { current, voltage, saturated: false }])))
    }

    fn phases(&self) -> usize {
        1
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_millis(10)
    }

    fn expected_interval(&self) -> Millis {
        Millis(200)
    }
}

/// A charge point with a car that wants 16 A, until this is dropped.
fn charge_point(broker: &Broker, port: u16) -> Runtime {
    charge_point_with(broker, port, Box::new(Idle))
}

fn charge_point_with(broker: &Broker, port: u16, meter: Box<dyn Meter>) -> Runtime {
    let home_assistant = Some(HomeAssistant::default());
    let common = Common { home_assistant, ..common(&authority(), "cp-1", Role::Device, port) };
    let most = MilliAmps(16_000);
    let settings = DeviceSettings {
        transformer: "trafo-1".parse().unwrap(),
        capabilities: Capabilities::any_current(DeviceKind::Ev, vec![Phase::L1], MilliAmps(6_000), most),
        max_ttl: Millis(3000),
        commands_file: Some(broker.folder.path().join("commands.json")),
    };
    let runtime = runtime();
    let running = run_device(common, settings, meter, Box::new(Advice::new(most)), std::future::pending());
    runtime.spawn(async { running.await.unwrap() });
    runtime
}

fn kept(broker: &Broker) -> String {
    std::fs::read_to_string(broker.folder.path().join("commands.json")).unwrap_or_default()
}

#[test]
fn commands_of_any_client_are_obeyed_told_of_and_kept_over_a_restart() {
    let broker = Broker::start();
    let running = charge_point(&broker, broker.port);
    let heard = broker.hear();

    let anna = ["-V", "5", "-D", "publish", "user-property", "publisher", "operator-anna"];
    broker.command("charging", "OFF", &anna);
    let told = heard.event(|event| matches!(event, Event::ChargingChanged { .. }));
    assert_eq!(told, Event::ChargingChanged { by: "operator-anna".to_owned(), old: true, new: false });
    assert_eq!(kept(&broker), "{\"charging\":false}\n", "kept before it is told");
    heard.measurement(|said| said.demand_ma == MilliAmps(0) && said.priority.is_none());

    broker.command("priority", "0", &[]);
    let told = heard.event(|event| matches!(event, Event::PriorityChanged { .. }));
    assert_eq!(told, Event::PriorityChanged { by: "unknown".to_owned(), old: 5, new: 0 });
    broker.command("limit", "72000", &[]);
    let told = heard.event(|event| matches!(event, Event::CommandIgnored { .. }));
    let Event::CommandIgnored { command, value, expected, .. } = told else { unreachable!() };
    let said = (command.as_str(), value.as_str(), expected.as_str());
    assert_eq!(said, ("set/limit", "72000", "set/charging or set/priority"));

    drop(running);
    broker.command("charging", "ON", &["-r"]);
    let _running = charge_point(&broker, broker.port);
    let told = heard.event(|event| matches!(event, Event::CommandIgnored { .. }));
    assert!(matches!(told, Event::CommandIgnored { expected, .. } if expected == "a command that is not retained"));
    broker.command("priority", "1", &[]);
    let told = heard.event(|event| matches!(event, Event::PriorityChanged { .. }));
    assert_eq!(told, Event::PriorityChanged { by: "unknown".to_owned(), old: 0, new: 1 });
    let said = heard.measurement(|said| said.priority == Some(1));
    assert_eq!(said.demand_ma, MilliAmps(0), "it is still switched off");
}

#[test]
fn a_flood_of_nonsense_does_not_flood_the_log() {
    let broker = Broker::start();
    let _running = charge_point(&broker, broker.port);
    let heard = broker.hear();
    let flood = ["-t", "grid/demo/cp-1/set/priority", "-l"];
    let mut flood = broker.client("mosquitto_pub", &flood).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = flood.stdin.take().unwrap();
    let began = Instant::now();
    (0..500).for_each(|number| writeln!(input, "high {number}").unwrap());
    drop(input);
    assert!(flood.wait().unwrap().success());
    broker.command("priority", "0", &[]);
    let mut ignored = 0;
    while !matches!(heard.event(|_| true), Event::PriorityChanged { .. }) {
        ignored += 1;
    }
    assert!((10..=11 + began.elapsed().as_secs()).contains(&ignored), "{ignored}");
}

#[test]
fn a_command_that_cannot_be_kept_is_not_obeyed_and_says_why() {
    let broker = Broker::start();
    let _running = charge_point(&broker, broker.port);
    let heard = broker.hear();
    std::fs::create_dir(broker.folder.path().join("commands.json")).unwrap();
    broker.command("charging", "OFF", &[]);
    let told = heard.event(|_| true);
    assert!(matches!(told, Event::CommandIgnored { expected, .. } if expected.contains("commands.json")));
    assert_eq!(heard.measurement(|_| true).demand_ma, MilliAmps(16_000));
}

#[test]
fn home_assistant_is_told_with_each_birth_and_whenever_it_was_born_itself() {
    let broker = Broker::start();
    let heard = broker.listen(&["-t", "homeassistant/device/#", "-F", "%r %t %p"]);
    let _running = charge_point(&broker, broker.port);
    let described = || {
        let line = heard.wait_for(|line| line.contains("/config ").then_some(line));
        let (topic, payload) = line.split_once(" {").unwrap();
        assert!(topic.ends_with(" homeassistant/device/demo/cp-1/config"), "{topic}");
        serde_json::from_str::<serde_json::Value>(&format!("{{{payload}")).unwrap()
    };
    let at_birth = described();
    assert_eq!(at_birth["cmps"]["charging"]["command_topic"], "grid/demo/cp-1/set/charging");
    let born = broker.client("mosquitto_pub", &["-t", "homeassistant/status", "-m", "online"]).status();
    assert!(born.unwrap().success());
    assert_eq!(described(), at_birth);
    // Whoever comes later has it from the broker.
    let later = broker.listen(&["-t", "homeassistant/device/#", "-F", "%r %t %p"]);
    later.wait_for(|line| line.starts_with("1 homeassistant/device/demo/cp-1/config {").then_some(()));
}

#[test]
fn a_connection_that_was_lost_is_told_of_when_it_is_back() {
    let broker = Broker::start();
    let cable = Cable::to(&broker);
    let _running = charge_point(&broker, cable.port);
    let heard = broker.hear();
    cable.cut();
    let told = heard.event(|_| true);
    assert!(matches!(told, Event::Reconnected { after_ms } if (50..5_000).contains(&after_ms.0)), "{told:?}");
}

#[test]
fn each_fault_of_a_meter_is_told_at_once_and_so_is_what_follows_and_that_it_is_over() {
    let broker = Broker::start();
    let bus = SimulatedBus::new(boot_micros);
    bus.attach(0x40, |_| Sensed { shunt_uv: 0, bus_mv: 5_000 }).unwrap();
    let handle = bus.clone();
    let meter = Ina219Meter::open(vec![ChipConfig::default()], move |_| Ok(handle.clone())).unwrap();
    let _running = charge_point_with(&broker, broker.port, Box::new(meter));
    let heard = broker.hear();
    let trouble = |named: &str| {
        let told = heard.event(|_| true);
        assert!(matches!(&told, Event::MeterTrouble { why } if why.contains(named)), "{named}: {told:?}");
    };

    // A supply that dips is told of, and nothing follows.
    bus.brown_out(0x40).unwrap();
    trouble("lost its configuration");
    // A wire that is loose for more than two seconds is a failure.
    bus.set_fault(0x40, Fault::Absent).unwrap();
    trouble("no chip answers at 0x40");
    let told = heard.event(|_| true);
    assert!(matches!(&told, Event::MeterFailed { why } if why.contains("no chip answers at 0x40")), "{told:?}");
    bus.set_fault(0x40, Fault::None).unwrap();
    assert_eq!(heard.event(|_| true), Event::Recovered {});
}

#[test]
fn a_chip_that_is_not_there_at_the_start_is_told_of_and_taken_when_it_is_and_nothing_is_claimed_before() {
    let broker = Broker::start();
    let heard = broker.hear_all();
    let (bus, plugged) = (SimulatedBus::new(boot_micros), Arc::new(AtomicBool::new(false)));
    let (handle, there) = (bus.clone(), plugged.clone());
    let open = move |name: &str| match there.load(Ordering::Relaxed) {
        true => Ok(handle.clone()),
        false => Err(MeterError::BusMissing { bus: name.to_owned() }),
    };
    let meter = Ina219Meter::new(vec![ChipConfig::default()], open).unwrap();
    let _running = charge_point_with(&broker, broker.port, Box::new(meter));
    let event = || {
        heard.wait_for(|line| {
            let measured = serde_json::from_str::<Message<Measurement>>(&line);
            assert!(measured.is_err(), "it cannot know what it draws: {line}");
            Some(serde_json::from_str::<Message<Event>>(&line).unwrap().body)
        })
    };

    let mut told = event();
    // What it says before it is connected only the anchor hears.
    if matches!(told, Event::MeterTrouble { .. }) {
        told = event();
    }
    assert!(matches!(&told, Event::MeterFailed { why } if why.contains("there is no /dev/i2c-1")), "{told:?}");
    plugged.store(true, Ordering::Relaxed);
    let told = event();
    assert!(matches!(&told, Event::MeterTrouble { why } if why.contains("no chip answers at 0x40")), "{told:?}");
    bus.attach(0x40, |_| Sensed { shunt_uv: 12_000, bus_mv: 5_000 }).unwrap();
    assert_eq!(event(), Event::Recovered {});
    assert_eq!(heard.measurement(|_| true).current_ma, [MilliAmps(12_000)]);
}

#[test]
fn an_existing_meter_is_read_by_mqtt_and_its_nonsense_silence_and_broker_are_told_apart() {
    let broker = Broker::start();
    let cable = Cable::to(&broker);
    let settings = MqttSettings {
        unit: Unit::W,
        invert: false,
        nominal_mv: MilliVolts(230_000),
        interval_ms: Millis(100),
        client: None,
        broker: BrokerSettings::plain("127.0.0.1", cable.port),
        identity: None,
        phase: vec![PhaseTopic { topic: "em".to_owned(), pointer: Some("/power".to_owned()) }],
    };
    let plain = grid_service::broker::Broker::plain("127.0.0.1", cable.port);
    let mut meter = MqttMeter::new(settings, plain, "cp-1-meter".parse().unwrap());
    let say = |payload: &str, more: &[&str]| {
        assert!(broker.client("mosquitto_pub", &["-t", "em", "-m", payload]).args(more).status().unwrap().success());
    };
    // What the broker kept is not taken: nobody knows how old it is.
    say("{\"power\":1}", &["-r"]);
    let until = |meter: &mut MqttMeter, say: &dyn Fn(), wanted: &dyn Fn(&Result<Reading, MeterError>) -> bool| {
        let end = Instant::now() + SOON;
        loop {
            say();
            let reading = meter.read(Duration::from_millis(300));
            if wanted(&reading) {
                return;
            }
            assert!(Instant::now() < end, "{reading:?}");
        }
    };
    let reads = |watts: i64| {
        move |reading: &Result<Reading, MeterError>| {
            reading.as_ref().is_ok_and(|reading| reading.currents() == [MilliAmps(watts * 1_000 / 230)])
        }
    };
    until(&mut meter, &|| (), &|reading| matches!(reading, Err(MeterError::TopicSilent { .. })));
    until(&mut meter, &|| say("{\"power\":3680.0}", &[]), &reads(3_680));
    until(&mut meter, &|| say("{\"power\":null}", &[]), &|reading| {
        matches!(reading, Err(MeterError::TopicNonsense { .. }))
    });
    until(&mut meter, &|| cable.cut(), &|reading| matches!(reading, Err(MeterError::NoBroker { .. })));
    until(&mut meter, &|| say("{\"power\":460}", &[]), &reads(460));
}
