//! Whatever happens in whatever order: each message is acknowledged, waits, or is lost and known to be.
//!
//! The model is a set of messages. It knows nothing of memory, segments or states.

use grid_protocol::sequence::Sequence;
use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Say(&'static str, usize),
    /// So much of what was said is acknowledged, in tenths, except two ranges.
    Ack(u64, (u64, u64)),
    /// Acknowledges what was said again, as an anchor does that gets it.
    Replay(usize),
    Pass(u64),
    Work(usize),
    Declare,
    /// The next things for the disk fail.
    Fail(usize),
    Kill,
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = prop_oneof![
        6 => Just("measurement"), 2 => Just("setpoint"), 1 => Just("balance"), 1 => Just("event"), 1 => Just("status"),
    ];
    let step = prop_oneof![
        30 => (kinds, 20..4000usize).prop_map(|(kind, length)| Step::Say(kind, length)),
        2 => (0..=10u64, (0..200u64, 0..9u64)).prop_map(|(tenths, (first, more))| Step::Ack(tenths, (first, more))),
        2 => (1..60usize).prop_map(Step::Replay),
        8 => (1..40_000u64).prop_map(Step::Pass),
        8 => (1..4usize).prop_map(Step::Work),
        1 => Just(Step::Declare),
        1 => (1..3usize).prop_map(Step::Fail),
        1 => Just(Step::Kill),
        1 => Just(Step::End),
    ];
    proptest::collection::vec(step, 1..400)
}

/// What the street knows.
#[derive(Default)]
struct Model {
    said: BTreeMap<(Session, u64), (Worth, Vec<u8>)>,
    acknowledged: BTreeSet<(Session, u64)>,
    declared: BTreeSet<(Session, u64)>,
    /// Only in memory when the agent was killed.
    died: BTreeSet<(Session, u64)>,
    /// The most that any message was worth that was given up.
    worst_lost: Option<Worth>,
}

impl Model {
    fn check(&mut self, bench: &Bench) {
        self.said.extend(bench.said.clone());
        let (waiting, lost) = (bench.waiting(), bench.lost());
        assert!(lost.is_disjoint(&waiting), "lost is what is not held");
        // What had to go for want of room.
        let worst = bench.outbox.worst_lost;
        self.worst_lost = self.worst_lost.max(worst);
        let may_go = |message| Some(self.said[message].0) <= self.worst_lost || self.died.contains(message);
        assert!(lost.iter().all(may_go), "what is worth more than it says is lost only with the agent");
        let accounted = |message: &(Session, u64)| {
            [&waiting, &lost, &self.acknowledged, &self.declared, &self.died].iter().any(|set| set.contains(message))
        };
        let unaccounted: Vec<_> = self.said.keys().filter(|message| !accounted(message)).collect();
        assert!(unaccounted.is_empty(), "{unaccounted:?}");
        let bound = bench.bounds.memory_bytes;
        // What is being written cannot go.
        let may_go = bench.outbox.memory.messages().any(|message| message.worth() == Worth::Measurement);
        assert!(bench.outbox.memory.bytes() <= bound || !may_go || bench.outbox.is_writing());
        let bound = ROOM_FOR_CONTROL * bound;
        assert!(bench.outbox.memory.bytes() <= bound || bench.outbox.is_writing());
        let files = bench.outbox.disk.iter().flat_map(|disk| disk.shelf.segments());
        assert!(files.map(|segment| segment.end).sum::<u64>() <= bench.bounds.disk_bytes.unwrap());
    }

    /// The anchor gets a message, and says what it has of the session.
    fn acknowledge_one(&mut self, bench: &mut Bench, session: Session, seq: u64) {
        self.acknowledged.insert((session, seq));
        self.acknowledge(bench, session);
    }

    /// As the anchor does it: as far as 32 missing ranges reach.
    fn acknowledge(&self, bench: &mut Bench, session: Session) {
        let mut settled = Sequence::default();
        for (of, seq) in self.acknowledged.union(&self.declared) {
            if *of == session {
                settled.insert(*seq);
            }
        }
        let mut missing: Vec<_> = settled.missing_through(settled.highest()).take(Ack::MOST_RANGES + 1).collect();
        let beyond = if missing.len() > Ack::MOST_RANGES { missing.pop() } else { None };
        let through = beyond.map_or(settled.highest(), |(first, _)| first - 1);
        bench.ack(session, through, &missing);
    }

    fn restart(&mut self, path: &Path, bench: &mut Bench, held: &BTreeSet<(Session, u64)>) {
        let next = Bench::new(path, bench.session.0 + 1);
        let mut old = std::mem::replace(bench, next);
        self.said.append(&mut old.said);
        bench.said = self.said.clone();
        let died = held.difference(&bench.waiting()).copied().collect::<BTreeSet<_>>();
        self.died.extend(died.difference(&bench.lost()));
    }
}

/// Messages that wait, and those of them that are on disk.
fn on_disk(bench: &Bench) -> BTreeSet<(Session, u64)> {
    let memory: BTreeSet<_> = bench.outbox.memory.messages().map(|message| (message.session, message.seq)).collect();
    bench.waiting().difference(&memory).copied().collect()
}

fn run(steps: Vec<Step>) {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Say(kind, length) => {
                bench.say(kind, length);
                bench.now = bench.now + Millis(50);
            }
            Step::Ack(tenths, (first, more)) => {
                let through = bench.last_seq * tenths / 10;
                let covered = (1..=through).filter(|seq| !(first..=first + more).contains(seq));
                model.acknowledged.extend(covered.map(|seq| (bench.session, seq)));
                let session = bench.session;
                model.acknowledge(&mut bench, session);
            }
            Step::Replay(most) => {
                for (session, seq) in bench.due(most) {
                    model.acknowledge_one(&mut bench, session, seq);
                }
            }
            Step::Pass(ms) => bench.now = bench.now + Millis(ms),
            Step::Work(most) => {
                for _ in 0..most {
                    bench.work_once();
                }
            }
            Step::Declare => {
                let lost = bench.outbox.losses(20);
                bench.declare();
                model
                    .declared
                    .extend(lost.iter().flat_map(|lost| (lost.from_seq..=lost.to_seq).map(|seq| (lost.of, seq))));
            }
            Step::Fail(times) => {
                for _ in 0..times {
                    if bench.outbox.next_job(bench.now).is_some() {
                        bench.outbox.done(Outcome::Failed { why: "test".into() }, bench.now);
                        let path = folder.path().to_owned();
                        bench.store = Store::new(move || Durable::open(&path, Stop::never()));
                    }
                }
            }
            Step::Kill => {
                // What memory had to give up a moment ago is not on disk yet either.
                let held = bench.waiting().union(&bench.lost()).copied().collect();
                let safe = on_disk(&bench);
                let path = folder.path().to_owned();
                // The lock goes with the process.
                bench.store = Store::new(move || Durable::open(&path, Stop::never()));
                model.restart(folder.path(), &mut bench, &held);
                let (waiting, lost) = (bench.waiting(), bench.lost());
                assert!(
                    safe.iter().all(|one| waiting.contains(one) || lost.contains(one)),
                    "what was durable is there"
                );
            }
            Step::End => {
                bench.now = bench.now + Millis(40_000);
                bench.outbox.close();
                bench.work();
                let fits = bench.outbox.in_memory() == 0;
                let (held, lost) = (bench.waiting(), bench.lost());
                let path = folder.path().to_owned();
                bench.store = Store::new(move || Durable::open(&path, Stop::never()));
                model.restart(folder.path(), &mut bench, &held);
                assert!(lost.is_subset(&bench.lost()), "an orderly end remembers losses");
                assert!(!fits || held.is_subset(&bench.waiting()), "an orderly end loses nothing that fits");
            }
        }
        model.check(&bench);
    }
    // The anchor is back for good: whatever waits is said again, once it is due, and is then acknowledged.
    for _ in 0..200 {
        bench.pass(Millis(40_000));
        for (session, seq) in bench.due(1000) {
            model.acknowledge_one(&mut bench, session, seq);
        }
        model.check(&bench);
        if bench.outbox.is_empty() {
            return;
        }
    }
    panic!("{} still wait", bench.outbox.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_message_is_acknowledged_or_waits_or_is_lost_and_known_to_be(steps in steps()) {
        run(steps);
    }
}
