//! Long without a ledger, or without money: the log goes on, and the next record covers it all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "support/node.rs"]
mod node;
#[path = "../ledger/tests/support/owner.rs"]
mod owner;
mod street;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use grid_anchor::initialise::initialise;
use grid_anchor::intake::Now;
use grid_anchor::notary::{News, Notary, NotarySettings};
use grid_anchor::policy::Policy;
use grid_anchor::recorder::{Recorder, RecorderSettings};
use grid_anchor::verify::verify_ledger;
use grid_durable::Stop;
use grid_ledger::{Endpoints, LedgerError, MOST_NANOS_PER_RECORD, ObjectId, TrailReader};
use grid_protocol::message::{Role, Session};
use grid_protocol::units::Millis;
use node::{Door, Node};
use owner::Owner;
use street::{Speaker, Street, name, receive};
use tokio::time::{Instant, pause, resume, sleep, sleep_until, timeout};

const MINUTE: Duration = Duration::from_secs(60);
/// In minutes.
const DAY: u32 = 24 * 60;
const WEEK: u32 = 7 * DAY;
/// In minutes: as on mainnet.
const INTERVAL: u32 = 10;

/// An anchor without its shell: what is heard is given to it, and time is tokio's.
struct Anchor {
    data_dir: PathBuf,
    recorder: Recorder,
    notary: Notary,
    trail: ObjectId,
    device: Speaker,
    began: Instant,
    /// Minutes since then.
    minute: u32,
    /// Minutes between two messages.
    pace: u32,
    /// The record under way.
    text: String,
    added: u64,
    not_added: Vec<LedgerError>,
    _folder: tempfile::TempDir,
}

impl Anchor {
    async fn new(node: &Node, endpoints: &Endpoints) -> Self {
        let (street, folder) = (Street::new(), street::folder());
        let data_dir = folder.path().join("data");
        let authority = street.issuer.authority();
        let made = initialise(&data_dir, (&name("demo"), None), &authority, &node.endpoints(), None).await.unwrap();
        let mut anchor = Self {
            recorder: recorder(&street, &data_dir),
            notary: notary(data_dir.clone(), endpoints.clone()),
            trail: made.trail,
            device: street.speaker("cp-1", Role::Device, 1),
            began: Instant::now(),
            minute: 0,
            pace: INTERVAL,
            text: String::new(),
            added: 0,
            not_added: Vec::new(),
            data_dir,
            _folder: folder,
        };
        let birth = anchor.device.birth();
        receive(&mut anchor.recorder, &birth, street::at(0));
        anchor
    }

    /// The log's time: what passed, in minutes that somebody counted.
    fn now(&self) -> Now {
        street::at(u64::from(self.minute) * 60_000)
    }

    /// Waits until the trail is open, and nothing is under way.
    async fn settle(&mut self) {
        while self.notary.is_busy() {
            let news = timeout(MINUTE, self.notary.news()).await.unwrap();
            self.take(news);
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Opened(trail) => self.recorder.tie(trail).unwrap(),
            News::Added(receipt) => {
                self.added += 1;
                self.recorder.notarized(&self.text, receipt, self.now()).unwrap();
            }
            News::NotAdded(error) => {
                self.not_added.push(error);
                self.recorder.not_notarized(None);
            }
            News::Refused(error) => panic!("{error}"),
        }
    }

    /// The next message, and now and then a record that is due.
    fn log(&mut self) {
        self.minute += self.pace;
        let (said, now) = (self.device.measurement(), self.now());
        receive(&mut self.recorder, &said, now);
        self.recorder.settle(now).unwrap();
        if self.minute.is_multiple_of(INTERVAL) {
            self.hand_in();
        }
    }

    fn hand_in(&mut self) {
        if !self.notary.is_busy()
            && let Some(record) = self.recorder.record_for_ledger(self.now()).unwrap()
        {
            self.text.clone_from(&record.text);
            self.notary.hand_in(record);
        }
    }

    /// The next message, once it has come.
    async fn live(&mut self) {
        let next = self.began + MINUTE * (self.minute + self.pace);
        loop {
            tokio::select! {
                news = self.notary.news() => self.take(news),
                () = sleep_until(next) => return self.log(),
            }
        }
    }

    /// What is in the log when everything is on the ledger: so many records, and the last is of the whole log.
    async fn all_is_on_the_ledger(&self, node: &Node, records: u64) {
        let policy = Policy::read(&fs::read_to_string(self.data_dir.join("site.policy")).unwrap()).unwrap();
        let reader = TrailReader::open(&node.endpoints(), None, self.trail).await.unwrap();
        let (report, ledger) = verify_ledger(&self.data_dir.join("log"), &policy, &reader).await.unwrap();
        let ledger = ledger.unwrap();
        assert!(report.holds, "{:?}", report.failure);
        assert_eq!((ledger.records, ledger.not_notarized), (records, 0));
        assert_eq!(report.messages.by_sender.get(&name("cp-1")), Some(&self.device.author.last_seq()));
        assert_eq!(report.messages.gaps, []);
    }

    /// So many minutes behind a closed door, and then it is opened. The record that is due then is added.
    async fn live_behind(&mut self, door: &Door, minutes: u32) {
        pause();
        self.began = Instant::now() - MINUTE * self.minute;
        door.close();
        let end = self.minute + minutes;
        while self.minute < end {
            self.live().await;
        }
        door.open();
        // From the first question on that gets through, time is real again: it must not pass while one is under way.
        let before = door.let_in();
        let let_in = async {
            while door.let_in() == before {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let live_on = async {
            loop {
                self.live().await;
            }
        };
        tokio::select! {
            () = let_in => {}
            () = live_on => {}
        }
        resume();
    }
}

/// Writes checkpoints for the ledger only.
fn recorder(street: &Street, data_dir: &Path) -> Recorder {
    let rarely = Millis(u64::from(INTERVAL) * 120_000);
    let settings = RecorderSettings { commit: rarely, checkpoint: rarely, ..street::recorder_settings() };
    Recorder::open(data_dir, settings, street.anchor(), Session(1), Stop::never(), street::at(0)).unwrap()
}

fn notary(folder: PathBuf, endpoints: Endpoints) -> Notary {
    let interval = Millis(u64::from(INTERVAL) * 60_000);
    let most_nanos_per_record = MOST_NANOS_PER_RECORD;
    Notary::start(NotarySettings { folder, endpoints, interval, on_event: true, most_nanos_per_record })
}

/// At most a minute, and half of it on average, was between two attempts.
fn backs_off(door: &Door, minutes: u32) {
    let attempts = door.turned_away();
    assert!((u64::from(minutes)..u64::from(minutes) * 5 / 2).contains(&attempts), "{attempts}");
}

/// An anchor that has added a record through the door.
async fn at_work() -> (Node, Door, Anchor, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("mock.state")).await;
    let door = Door::to(&node).await;
    let mut anchor = Anchor::new(&node, &door.endpoints()).await;
    anchor.settle().await;
    anchor.log();
    anchor.settle().await;
    assert_eq!(anchor.added, 1);
    (node, door, anchor, folder)
}

#[tokio::test]
async fn after_a_week_without_a_ledger_one_record_covers_it() {
    let (node, door, mut anchor, _folder) = at_work().await;
    anchor.pace = 1;
    anchor.live_behind(&door, WEEK).await;
    assert_eq!(anchor.not_added.len() as u64, door.turned_away());
    assert!(door.turned_away() <= u64::from(WEEK / INTERVAL), "{}", door.turned_away());
    assert!(anchor.not_added.iter().all(LedgerError::is_transient), "{:?}", anchor.not_added);
    anchor.settle().await;
    anchor.all_is_on_the_ledger(&node, 2).await;
}

#[tokio::test]
async fn after_a_week_in_which_it_is_unclear_whether_a_record_was_added_it_is_there_once() {
    let (node, door, mut anchor, _folder) = at_work().await;
    node.fail("drop-answer:on=execute");
    anchor.log();
    while node.faults.happened() == 0 {
        sleep(Duration::from_millis(1)).await;
    }
    anchor.live_behind(&door, WEEK).await;
    backs_off(&door, WEEK);
    assert_eq!(anchor.not_added.len(), 0);
    // First what has become of that one, then all that came since.
    anchor.settle().await;
    assert_eq!((anchor.added, node.records(anchor.trail).await.len()), (2, 2));
    anchor.hand_in();
    anchor.settle().await;
    anchor.all_is_on_the_ledger(&node, 3).await;
}

#[tokio::test]
async fn an_anchor_that_is_started_a_day_before_its_ledger_logs_from_the_first_message() {
    let (node, door, mut anchor, _folder) = at_work().await;
    door.close();
    let data_dir = anchor.data_dir.clone();
    std::mem::replace(&mut anchor.notary, notary(data_dir, door.endpoints())).close().await;
    anchor.live_behind(&door, DAY).await;
    backs_off(&door, DAY);
    anchor.settle().await;
    assert_eq!((anchor.added, anchor.not_added.len()), (1, 0));
    anchor.hand_in();
    anchor.settle().await;
    anchor.all_is_on_the_ledger(&node, 2).await;
}

#[tokio::test]
async fn without_money_the_log_goes_on_and_the_first_record_after_it_came_covers_all() {
    let (node, _door, mut anchor, _folder) = at_work().await;
    let owner = Owner::new(&anchor.data_dir, node.url());
    owner.keep(&[], 1000).await;
    for _ in 0..3 {
        anchor.log();
        anchor.settle().await;
        match anchor.not_added.pop().unwrap() {
            LedgerError::Unfunded { address, balance, needed } => {
                assert_eq!((address, balance), (owner.address(), owner.coins().await[0]));
                assert!(needed > balance, "{needed}");
            }
            other => panic!("{other}"),
        }
    }
    node.give(owner.address()).await;
    anchor.log();
    anchor.settle().await;
    assert_eq!(anchor.not_added.len(), 0);
    anchor.all_is_on_the_ledger(&node, 2).await;
}
