//! An anchor that is killed at any step of adding a record, by a ledger that loses answers, adds each record once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "support/leash.rs"]
mod leash;
#[path = "support/node.rs"]
mod node;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use grid_anchor::initialise::initialise;
use grid_anchor::policy::Policy;
use grid_anchor::settings::LedgerSettings;
use grid_ledger::{MOST_NANOS_PER_RECORD, Network, ObjectId};
use grid_protocol::message::{Checkpoint, Message};
use grid_protocol::seal::Sealed;
use grid_protocol::units::Millis;
use grid_service::link::{Incoming, Link};
use leash::{Anchor, Line};
use node::Node;
use rand::seq::SliceRandom;
use support::{Device, Site, everything_is_there_once, kills, name};
use tokio::time::sleep;

const BINARY: &str = env!("CARGO_BIN_EXE_grid-anchor");
/// What goes wrong when no step is looked for.
const FAULTS: &str = "drop-answer:0.3,time-out:0.2";

/// Where it is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// Everything is on the ledger, and nothing more happens.
    NothingDue,
    /// There is a record, and nothing is signed.
    Composed,
    /// The signed bytes are on disk.
    Signed,
    /// The node has them, and does nothing yet.
    HandedIn,
    /// They are executed, and the answer was lost.
    AnswerLost,
    /// They are executed, and the node said that it does not know.
    TimedOut,
    /// They are executed, the anchor knows it, and has not written it down.
    Answered,
    /// It is written down, and nobody was told.
    Noted,
}

const STEPS: [Step; 8] = [
    Step::NothingDue,
    Step::Composed,
    Step::Signed,
    Step::HandedIn,
    Step::AnswerLost,
    Step::TimedOut,
    Step::Answered,
    Step::Noted,
];

/// A site whose anchor has a trail on a mock ledger.
struct Bench {
    site: Site,
    node: Node,
    trail: ObjectId,
    /// One more than the highest record that the street was told of.
    told: Arc<AtomicU64>,
}

impl Bench {
    async fn new() -> Self {
        let site = Site::start().await;
        let node = Node::start(&site.folder.path().join("mock.state")).await;
        let demo = name("demo");
        let made = initialise(&site.data_dir(), (&demo, None), &site.authority(), &node.endpoints(), None).await;
        let told = Arc::new(AtomicU64::new(0));
        tokio::spawn(listen(Link::open(&site.broker(), &name("listener"), topics()), Arc::clone(&told)));
        Self { site, node, trail: made.unwrap().trail, told }
    }

    fn config(&self) -> std::path::PathBuf {
        self.site.anchor_config_with(|settings| {
            settings.ledger = Some(LedgerSettings {
                network: Network::Mock,
                interval_ms: Some(Millis(1000)),
                on_event: true,
                grpc: vec![self.node.url()],
                most_nanos_per_record: MOST_NANOS_PER_RECORD,
            });
        })
    }

    fn is_pending(&self) -> bool {
        self.site.data_dir().join("ledger.pending").exists()
    }

    /// How many records the anchor has noted.
    fn known(&self) -> u64 {
        let state = fs::read(self.site.data_dir().join("ledger.json")).unwrap();
        let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
        state["progress"]["known"].as_u64().unwrap()
    }

    async fn on_ledger(&self) -> u64 {
        self.node.records(self.trail).await.len() as u64
    }

    async fn faults(&self, times: u64) {
        until(|| self.node.faults.happened() >= times).await;
    }

    /// Brings the anchor to the step and kills it there.
    async fn kill_at(&self, step: Step, anchor: &mut Anchor, device: &mut Device) {
        let node = &self.node;
        node.faults.clear();
        match step {
            Step::NothingDue => self.quiet(anchor, device).await,
            Step::Composed => {
                node.fail("delay:60s:on=simulate");
                while_talking(device, going_on(anchor, self.faults(1))).await;
            }
            Step::Signed => while_talking(device, anchor.stand_at(Line::Signed)).await,
            Step::HandedIn => {
                while_talking(device, anchor.stand_at(Line::Signed)).await;
                node.fail("delay:60s:on=execute");
                while_talking(device, going_on(anchor, self.faults(1))).await;
            }
            Step::AnswerLost | Step::TimedOut => {
                while_talking(device, anchor.stand_at(Line::Signed)).await;
                let how = if step == Step::TimedOut { "time-out" } else { "drop-answer" };
                node.fail(&format!("{how}:first=1,refuse:on=read"));
                // The second is when it asks what has become of it.
                while_talking(device, going_on(anchor, self.faults(2))).await;
            }
            Step::Answered => while_talking(device, anchor.stand_at(Line::Executed)).await,
            Step::Noted => while_talking(device, anchor.stand_at(Line::Noted)).await,
        }
        anchor.kill();
        node.faults.clear();
    }

    /// Says nothing until no more than that is on the ledger.
    async fn quiet(&self, anchor: &mut Anchor, device: &mut Device) {
        going_on(anchor, async {
            device.until_acknowledged().await;
            self.node.fail("delay:0ms:on=simulate");
            let mut tried = u64::MAX;
            while tried != self.node.faults.happened() {
                tried = self.node.faults.happened();
                device.live(0, Duration::from_millis(1500)).await;
            }
        })
        .await;
    }

    /// What there is after a kill at the step, and that it was there.
    async fn check(&self, step: Step) {
        let (known, on_ledger) = (self.known(), self.on_ledger().await);
        let (is_pending, unknown) = match step {
            Step::NothingDue | Step::Composed | Step::Noted => (false, 0),
            Step::Signed | Step::HandedIn => (true, 0),
            Step::AnswerLost | Step::TimedOut | Step::Answered => (true, 1),
        };
        assert_eq!((self.is_pending(), on_ledger), (is_pending, known + unknown), "{step:?}");
        let told = self.told.load(Ordering::SeqCst);
        match step {
            Step::NothingDue => assert_eq!(told, known),
            Step::Noted => assert!(told < known, "{told}"),
            _ => assert!(told <= known, "{told}"),
        }
    }

    fn start(&self, config: &std::path::Path) -> Anchor {
        // What was left over is handed in, or looked up.
        let first = if self.is_pending() { Line::Executed } else { Line::Signed };
        Anchor::start(BINARY, config, first)
    }

    /// Has so many more records noted, while answers are lost.
    async fn survive(&self, more: u64, anchor: &mut Anchor, device: &mut Device) {
        self.node.fail(FAULTS);
        let enough = self.known() + more;
        while_talking(device, going_on(anchor, until(|| self.known() >= enough && !self.is_pending()))).await;
    }
}

fn topics() -> Vec<String> {
    vec!["grid/demo/anchor-1/checkpoint".to_owned()]
}

/// Hears of which records the anchor tells.
async fn listen((_link, mut incoming): (Link, tokio::sync::mpsc::Receiver<Incoming>), told: Arc<AtomicU64>) {
    while let Some(happened) = incoming.recv().await {
        if let Incoming::Message(message) = happened {
            let said: Message<Checkpoint> = Sealed::parse(&message.payload).unwrap().read().unwrap();
            if let Some(receipt) = said.body.receipt {
                told.fetch_max(receipt.record + 1, Ordering::SeqCst);
            }
        }
    }
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sleep(Duration::from_millis(2)).await;
    }
}

async fn while_talking<T>(device: &mut Device, what: impl Future<Output = T>) -> T {
    let talking = async {
        loop {
            device.live(2, Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = what => done,
        () = talking => unreachable!("it has more to say"),
    }
}

async fn going_on<T>(anchor: &mut Anchor, what: impl Future<Output = T>) -> T {
    tokio::select! {
        done = what => done,
        () = anchor.go_on() => panic!("it has ended"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchor_that_is_killed_at_every_step_of_a_submission_adds_each_record_once() {
    let bench = Bench::new().await;
    let config = bench.config();
    let mut device = bench.site.device("cp-1", 1);
    let (kills, mut random) = kills(10);
    let mut hit: BTreeMap<Step, u32> = BTreeMap::new();
    let mut steps = Vec::new();
    for kill in 0..kills {
        if steps.is_empty() {
            steps = STEPS.to_vec();
            steps.shuffle(&mut random);
        }
        let step = steps.pop().unwrap();
        let mut anchor = bench.start(&config);
        let more = if kill % 2 == 0 { 1 } else { 0 };
        bench.survive(more, &mut anchor, &mut device).await;
        bench.kill_at(step, &mut anchor, &mut device).await;
        bench.check(step).await;
        *hit.entry(step).or_default() += 1;
    }
    println!("{hit:?}");
    assert!(kills < 8 || hit.len() == STEPS.len(), "{hit:?}");

    let mut anchor = bench.start(&config);
    bench.survive(3, &mut anchor, &mut device).await;
    bench.node.faults.clear();
    going_on(&mut anchor, device.until_acknowledged()).await;
    assert!(anchor.end().await.success());
    everything_is_there_once(&bench.site, &device);
    assert!(!bench.is_pending());

    let policy = Policy::read(&fs::read_to_string(bench.site.policy()).unwrap()).unwrap();
    let records = bench.node.records(bench.trail).await;
    let sizes: Vec<_> = records.iter().map(|record| policy.log.open(record.text.as_bytes()).unwrap().size).collect();
    assert!(sizes.is_sorted_by(|one, next| one < next), "{sizes:?}");
    let (log, policy) = (bench.site.log(), bench.site.policy());
    let mut verify = Command::new(BINARY);
    verify.args(["verify", "--network", "mock", "--grpc", &bench.node.url(), "--json", "--log"]).arg(log);
    let output = verify.arg("--policy").arg(policy).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ledger = &report["ledger"];
    assert_eq!((&ledger["records"], &ledger["not_notarized"]), (&records.len().into(), &0.into()));
}
