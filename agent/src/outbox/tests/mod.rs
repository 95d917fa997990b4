//! The outbox with a disk that does at once what it is told.

mod crashes;
mod endurance;
mod model;
mod power_cuts;
mod rules;
mod twice;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use grid_durable::{Durable, Stop};
use grid_protocol::author::Signed;
use grid_protocol::message::{Ack, Session};
use grid_protocol::units::{BootTime, Millis, UnixMillis};

use super::*;

const PATIENCE: Millis = Millis(15_000);
const LONG: usize = 1000;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn payload(session: Session, seq: u64, length: usize) -> Vec<u8> {
    let mut payload = format!("{session} {seq} ").into_bytes();
    payload.resize(payload.len().max(length), b'.');
    payload
}

/// An agent's outbox, its disk and its clock.
struct Bench {
    outbox: Outbox,
    store: Store,
    now: BootTime,
    session: Session,
    last_seq: u64,
    /// What was said, in all sessions.
    said: BTreeMap<(Session, u64), (Worth, Vec<u8>)>,
    bounds: Bounds,
    jobs: Vec<&'static str>,
}

impl Bench {
    fn with(path: &Path, stop: Stop, bounds: Bounds, session: u64) -> Self {
        let folder = path.to_owned();
        let store = Store::new(move || Durable::open(&folder, stop.clone()));
        Self::on(store, bounds, session)
    }

    fn on(store: Store, bounds: Bounds, session: u64) -> Self {
        let mut outbox = Outbox::new(bounds);
        let session = Session(session);
        outbox.begin(session);
        let now = BootTime(session.0 * 10_000_000);
        Self { outbox, store, now, session, last_seq: 0, said: BTreeMap::new(), bounds, jobs: Vec::new() }
    }

    /// One that begins, with 20 kB of memory and four segments of 64 KiB.
    fn new(path: &Path, session: u64) -> Self {
        let bounds = Bounds { memory_bytes: 20_000, disk_bytes: Some(4 * 64 * 1024) };
        let mut bench = Self::with(path, Stop::never(), bounds, session);
        bench.work();
        bench
    }

    fn in_memory() -> Self {
        let mut bench = Self::new(Path::new("/nowhere"), 1);
        bench.bounds.disk_bytes = None;
        bench.outbox = Outbox::new(bench.bounds);
        bench.outbox.begin(bench.session);
        bench
    }

    fn say(&mut self, kind: &str, length: usize) -> u64 {
        self.last_seq += 1;
        let seq = self.last_seq;
        let topic: grid_protocol::topic::Topic = format!("grid/demo/cp-1/{kind}").parse().unwrap();
        let payload = payload(self.session, seq, length);
        self.said.insert((self.session, seq), (Worth::of(&topic.kind), payload.clone()));
        let signed = Signed { topic, seq: Some(seq), payload };
        self.outbox.keep(self.session, &signed, self.now, UnixMillis(1_800_000_000_000 + self.now.0));
        seq
    }

    fn say_many(&mut self, count: usize) {
        for _ in 0..count {
            self.say("measurement", LONG);
            self.pass(Millis(100));
        }
    }

    /// One thing for the disk. Says whether there was one.
    fn work_once(&mut self) -> bool {
        let Some(job) = self.outbox.next_job(self.now) else { return false };
        self.jobs.push(match job {
            Job::Open => "open",
            Job::Save(_) => "save",
            Job::Write { .. } => "write",
            Job::Clear { .. } => "clear",
            Job::Read { .. } => "read",
        });
        let outcome = self.store.perform(job);
        self.outbox.done(outcome, self.now);
        true
    }

    fn work(&mut self) {
        while self.work_once() {}
    }

    /// Time passes, and the disk works.
    fn pass(&mut self, time: Millis) {
        self.now = self.now + time;
        self.work();
    }

    fn ack(&mut self, of: Session, through: u64, missing: &[(u64, u64)]) {
        let ack = Ack { of, through, missing: missing.to_vec(), tree_size: 0 };
        self.outbox.acknowledged(&ack, self.now);
    }

    fn due(&mut self, most: usize) -> Vec<(Session, u64)> {
        let due = self.outbox.due(self.now, PATIENCE, most);
        due.iter().for_each(|message| {
            if let Some((_, payload)) = self.said.get(&(message.session, message.seq)) {
                assert_eq!(message.payload, *payload, "byte for byte");
            }
        });
        due.iter().map(|message| (message.session, message.seq)).collect()
    }

    /// All that is said again until nothing more is.
    fn all_due(&mut self) -> BTreeSet<(Session, u64)> {
        let mut all = BTreeSet::new();
        let mut quiet = 0;
        while quiet < 3 {
            let due = self.due(50);
            quiet = if due.is_empty() { quiet + 1 } else { 0 };
            all.extend(due);
            self.pass(Millis(1));
        }
        all
    }

    fn waiting(&self) -> BTreeSet<(Session, u64)> {
        let memory = self.outbox.memory.messages().map(|message| (message.session, message.seq));
        let mut waiting: BTreeSet<_> = memory.collect();
        for segment in self.outbox.disk.iter().flat_map(|disk| disk.shelf.segments()) {
            for (session, seqs) in segment.waits(&self.outbox.sessions) {
                waiting.extend(seqs.ranges().flat_map(|(first, last)| first..=last).map(|seq| (session, seq)));
            }
        }
        waiting
    }

    fn lost(&self) -> BTreeSet<(Session, u64)> {
        let lost = self.outbox.losses.all().into_iter();
        lost.flat_map(|lost| (lost.from_seq..=lost.to_seq).map(move |seq| (lost.of, seq))).collect()
    }

    /// Declares what is lost in events.
    fn declare(&mut self) {
        for lost in self.outbox.losses(20) {
            let seq = self.say("event", 300);
            self.outbox.declared(lost, self.session, seq);
        }
    }

    /// Ends as when told to.
    fn close(mut self) -> BTreeMap<(Session, u64), (Worth, Vec<u8>)> {
        self.outbox.close();
        self.work();
        assert!(self.outbox.is_closed());
        self.said
    }
}
