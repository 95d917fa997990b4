//! A real agent with a real broker and a real anchor, of which each goes away for a while: in the end the log has every
//! message once, byte for byte, or knows that it is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use grid_agent::actuator::Advice;
use grid_agent::meter::{Meter, MeterError, PhaseReading, Reading};
use grid_agent::outbox::Report;
use grid_agent::run::{AgentError, Common, Credentials, DeviceSettings, OutboxSettings, Summary, run_device};
use grid_agent::status;
use grid_anchor::policy::Policy;
use grid_anchor::recorder::AnchorIdentity;
use grid_anchor::service::run;
use grid_anchor::settings::Settings;
use grid_anchor::verify::{Explanation, Gap, verify_log};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{Capabilities, DeviceKind, Phase, Role};
use grid_protocol::topic::Name;
use grid_protocol::units::{MilliAmps, MilliVolts, Millis};
use grid_service::broker::{Broker, BrokerSettings};
use grid_service::clock::unix_now;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A current that jumps by an ampere several times a second: something to say as often as a device may.
struct Restless(bool);

impl Meter for Restless {
    fn poll(&mut self) -> Result<Option<Reading>, MeterError> {
        std::thread::sleep(Duration::from_millis(100));
        self.0 = !self.0;
        let current = MilliAmps(if self.0 { 1000 } else { 0 });
        let phases = vec![PhaseReading { current, voltage: MilliVolts(230_000), saturated: false }];
        Ok(Some(Reading::now(phases)))
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

struct Street {
    folder: tempfile::TempDir,
    issuer: Issuer,
    port: u16,
}

/// Something that runs until it is told to end, or is dropped, which is like a kill.
struct Running<T> {
    runtime: Runtime,
    stop: oneshot::Sender<()>,
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Running<T> {
    fn end(self) -> T {
        self.stop.send(()).unwrap();
        self.runtime.block_on(self.task).unwrap()
    }

    fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

impl Street {
    fn new() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder: tempfile::tempdir().unwrap(), issuer: Issuer::create(&name("demo"), unix_now()).unwrap(), port }
    }

    fn certify(&self, who: &str, role: Role, key: &SigningKey) -> Vec<u8> {
        let identity = Identity { site: name("demo"), role, name: name(who), key: key.verifying_key() };
        self.issuer.issue(&identity, unix_now()).unwrap().0
    }

    /// Dropping it is like a kill.
    fn broker(&self) -> Runtime {
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)) {
                Ok(listener) => break listener,
                Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        listener.set_nonblocking(true).unwrap();
        let runtime = runtime();
        let listener = runtime.block_on(async { tokio::net::TcpListener::from_std(listener).unwrap() });
        let (limits, access) = (grid_broker::Limits::default(), grid_broker::Access::open());
        runtime.spawn(grid_broker::run(listener.into(), limits, access, std::future::pending()));
        runtime
    }

    fn anchor(&self) -> Running<()> {
        let key = SigningKey::from_bytes(&[200; 32]);
        let certificate = self.certify("anchor-1", Role::Anchor, &key);
        let mut settings = Settings::new(name("demo"), name("anchor-1"), self.folder.path().join("data"));
        settings.broker = BrokerSettings::plain("127.0.0.1", self.port);
        settings.log.commit_ms = Millis(50);
        settings.log.checkpoint_ms = Millis(200);
        let identity = AnchorIdentity { message_key: key, certificate, authority: self.issuer.authority() };
        let broker = Broker::plain("127.0.0.1", self.port);
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(()) };
        let runtime = runtime();
        let running = run(settings, identity, broker, None, watch::Sender::default(), stopped);
        let task = runtime.spawn(async { drop(running.await.unwrap()) });
        Running { runtime, stop, task }
    }

    fn outbox(&self) -> PathBuf {
        self.folder.path().join("outbox")
    }

    /// A charge point with room for a handful of messages in memory.
    fn agent(&self) -> Running<Result<Summary, AgentError>> {
        let key = SigningKey::from_bytes(&[3; 32]);
        let certificate = self.certify("cp-1", Role::Device, &key);
        let (site, authority) = (name("demo"), self.issuer.authority());
        let common = Common {
            credentials: Credentials { site, name: name("cp-1"), certificate, key, authority },
            broker: Broker::plain("127.0.0.1", self.port),
            anchor: name("anchor-1"),
            replay_after: Millis(1000),
            outbox: OutboxSettings { dir: Some(self.outbox()), memory_bytes: 6000, disk_bytes: 16 << 20 },
            simulation: None,
            probe: None,
            home_assistant: None,
        };
        let most = MilliAmps(16_000);
        let settings = DeviceSettings {
            transformer: name("trafo-1"),
            capabilities: Capabilities::any_current(DeviceKind::Ev, vec![Phase::L1], MilliAmps(6_000), most),
            max_ttl: Millis(3000),
            commands_file: None,
        };
        let (stop, stopped) = oneshot::channel();
        let stopped = async { stopped.await.unwrap_or(()) };
        let runtime = runtime();
        let running = run_device(common, settings, Box::new(Restless(false)), Box::new(Advice::new(most)), stopped);
        let task = runtime.spawn(running);
        Running { runtime, stop, task }
    }

    fn ask(&self) -> Report {
        status::ask(Some(&self.outbox()), &name("cp-1")).unwrap()
    }

    fn wait_until(&self, wanted: impl Fn(&Report) -> bool) -> Report {
        let began = Instant::now();
        loop {
            // An agent that is just starting has the folder's lock before it answers.
            let report = status::ask(Some(&self.outbox()), &name("cp-1"));
            match report {
                Ok(report) if wanted(&report) => return report,
                report => assert!(began.elapsed() < Duration::from_secs(90), "{report:?}"),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn whatever_goes_away_for_a_while_the_log_has_every_message_once_or_knows_that_it_is_lost() {
    let street = Street::new();
    let broker = street.broker();
    let anchor = street.anchor();
    let agent = street.agent();
    std::thread::sleep(Duration::from_secs(1));
    street.wait_until(|report| report.is_running && report.anchor_is_there && report.memory.messages < 3);

    anchor.kill();
    let full = street.wait_until(|report| report.disk.messages > 10);
    assert!(full.is_running && full.lost == 0);
    agent.kill();
    let asleep = street.ask();
    assert!(!asleep.is_running && asleep.disk.messages > 10, "{asleep:?}");

    let agent = street.agent();
    street.wait_until(|report| report.sessions.len() == 2 && report.disk.messages > asleep.disk.messages + 5);
    drop(broker);
    std::thread::sleep(Duration::from_secs(2));
    assert!(!street.ask().broker_is_there);
    let broker = street.broker();
    street.wait_until(|report| report.broker_is_there);
    let second = agent.end().unwrap();
    let left = street.ask();
    assert_eq!((left.is_running, left.memory.messages, left.disk.messages), (false, 0, second.unacknowledged));

    let agent = street.agent();
    let anchor = street.anchor();
    let quiet = |report: &Report| report.sessions.len() <= 1 && report.disk.messages == 0 && report.anchor_is_there;
    let done = street.wait_until(|report| report.is_running && quiet(report) && report.lost_undeclared == 0);
    assert!(done.replayed >= left.disk.messages, "{done:?}");
    let third = agent.end().unwrap();
    assert_eq!(third.unacknowledged, 0);
    anchor.end();
    drop(broker);

    let log = street.folder.path().join("data/log");
    let policy = std::fs::read_to_string(street.folder.path().join("data/site.policy")).unwrap();
    let report = verify_log(&log, Some(&Policy::read(&policy).unwrap())).unwrap();
    assert!(report.holds, "{:?}", report.failure);
    assert_eq!((report.messages.duplicates, report.messages.unverified), (0, 0));
    let unexplained = |gap: &&Gap| gap.device == name("cp-1") && gap.explanation == Explanation::Unexplained;
    assert_eq!(report.messages.gaps.iter().find(unexplained), None);

    // What was only in memory when the agent was killed is all that may be missing, and is declared.
    let in_memory = full.memory.messages.max(6000 / 200);
    assert!(report.messages.lost <= in_memory, "{} are lost", report.messages.lost);
    let in_order: u64 = second.sessions.iter().chain(&third.sessions).map(|(_, last)| last).sum();
    let logged = report.messages.by_sender[&name("cp-1")];
    assert!(logged >= in_order + full.disk.messages, "{logged} of {in_order} and {}", full.disk.messages);
}
