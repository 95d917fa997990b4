//! An anchor that is away for much longer than the disk lasts, or there and deaf, and then back.

use grid_protocol::sequence::Sequence;

use super::*;

const HOUR: u64 = 3600;

/// What the log has.
#[derive(Default)]
struct Anchor {
    logged: Sequence,
    declared: Sequence,
    /// Both together.
    settled: Sequence,
    /// What each of the agent's events declares.
    declarations: BTreeMap<u64, Lost>,
}

impl Anchor {
    fn hear(&mut self, seq: u64) {
        self.logged.insert(seq);
        self.settled.insert(seq);
        if let Some(lost) = self.declarations.get(&seq) {
            self.declared.insert_range(lost.from_seq, lost.to_seq);
            self.settled.insert_range(lost.from_seq, lost.to_seq);
        }
    }

    /// As far as the missing ranges reach that an ack can name.
    fn acknowledge(&self, bench: &mut Bench) {
        let settled = &self.settled;
        let mut missing: Vec<_> = settled.missing_through(settled.highest()).take(Ack::MOST_RANGES + 1).collect();
        let beyond = if missing.len() > Ack::MOST_RANGES { missing.pop() } else { None };
        bench.ack(bench.session, beyond.map_or(settled.highest(), |(first, _)| first - 1), &missing);
    }
}

struct Street {
    bench: Bench,
    anchor: Anchor,
    folder: tempfile::TempDir,
}

impl Street {
    fn new(bounds: Bounds) -> Self {
        let folder = folder();
        let mut bench = Bench::with(folder.path(), Stop::never(), bounds, 1);
        bench.work();
        Self { bench, anchor: Anchor::default(), folder }
    }

    /// As the agent does it every ten seconds.
    fn declare(&mut self) -> Vec<u64> {
        let mut said = Vec::new();
        for lost in self.bench.outbox.losses(20) {
            let seq = self.bench.say("event", 100);
            self.bench.outbox.declared(lost, self.bench.session, seq);
            self.anchor.declarations.insert(seq, lost);
            said.push(seq);
        }
        said
    }

    /// A time in which nothing is acknowledged. Each second this is said.
    fn silence(&mut self, hours: u64, kinds: &[&str]) {
        for second in (0..hours * HOUR).step_by(10) {
            kinds.iter().cycle().take(10 * kinds.len()).for_each(|kind| {
                self.bench.say(kind, 100);
            });
            if second % 600 == 0 {
                self.bench.say("event", 100);
            }
            self.declare();
            self.bench.due(100);
            self.bench.pass(Millis(10_000));
            if second % HOUR == 0 {
                self.check_bounds();
            }
        }
    }

    fn check_bounds(&self) {
        let Bounds { memory_bytes, disk_bytes } = self.bench.bounds;
        assert!(self.bench.outbox.memory.bytes() <= memory_bytes);
        let sizes = std::fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap).map(|file| {
            let is_segment = file.file_name().to_string_lossy().starts_with("segment");
            (is_segment, file.metadata().map_or(0, |metadata| metadata.len()))
        });
        let sizes: Vec<(bool, u64)> = sizes.collect();
        let all = |segments| sizes.iter().filter(|(is_segment, _)| *is_segment == segments).map(|(_, size)| size).sum();
        let (segments, state): (u64, u64) = (all(true), all(false));
        assert!(segments <= disk_bytes.unwrap(), "{segments}");
        let pieces = self.bench.outbox.sessions.pieces();
        assert!(pieces < 5000 && state < 500_000, "{pieces} pieces, {state} bytes");
    }

    /// The anchor is back: it hears what is said again, and acknowledges it every second.
    fn recover(&mut self) {
        self.bench.outbox.anchor_began();
        for second in 0..3 * HOUR {
            let live = self.bench.say("setpoint", 100);
            let declared = if second % 10 == 0 { self.declare() } else { Vec::new() };
            for _ in 0..10 {
                let due = self.bench.due(20);
                due.into_iter().for_each(|(_, seq)| self.anchor.hear(seq));
                self.bench.pass(Millis(100));
            }
            declared.into_iter().chain([live]).for_each(|seq| self.anchor.hear(seq));
            self.anchor.acknowledge(&mut self.bench);
            if self.bench.outbox.is_empty() && self.bench.outbox.losses.all().is_empty() {
                return;
            }
        }
        panic!("{} wait, {} are lost and not declared", self.bench.outbox.len(), self.bench.lost().len());
    }

    fn check_the_log(&self) {
        let Anchor { logged, declared, .. } = &self.anchor;
        assert_eq!(self.anchor.settled.ranges().collect::<Vec<_>>(), [(1, self.bench.last_seq)]);
        assert!(logged.within(declared).is_empty(), "what is declared lost is not logged");
        let worth = |seq| self.bench.said[&(self.bench.session, seq)].0;
        let lost = declared.ranges().flat_map(|(first, last)| first..=last).map(worth).max();
        assert_eq!(lost, self.bench.outbox.worst_lost);
    }
}

#[test]
fn a_device_without_an_anchor_for_a_day_stays_within_its_bounds_and_then_every_number_is_logged_or_declared() {
    let mut street = Street::new(Bounds { memory_bytes: 64 * 1024, disk_bytes: Some(1024 * 1024) });
    street.silence(24, &["measurement"]);
    assert_eq!(street.bench.outbox.worst_lost, Some(Worth::Measurement));
    street.recover();
    street.check_the_log();
}

#[test]
fn a_transformer_without_an_anchor_for_hours_loses_balances_and_setpoints_but_no_event() {
    let mut street = Street::new(Bounds { memory_bytes: 64 * 1024, disk_bytes: Some(4 * 1024 * 1024) });
    street.silence(8, &["setpoint", "setpoint", "balance"]);
    assert_eq!(street.bench.outbox.worst_lost, Some(Worth::Setpoint));
    street.recover();
    street.check_the_log();
}

#[test]
fn an_anchor_that_hears_nothing_is_told_less_and_less_often_until_it_acknowledges() {
    let mut street = Street::new(Bounds { memory_bytes: 64 * 1024, disk_bytes: Some(16 * 1024 * 1024) });
    let said_again = |street: &mut Street, seconds: u64| {
        let before = street.bench.outbox.replayed;
        for _ in 0..seconds * 20 {
            street.bench.due(10);
            street.bench.pass(Millis(50));
        }
        street.bench.outbox.replayed - before
    };
    (0..40_000).for_each(|_| {
        street.bench.say("setpoint", 100);
        street.bench.work();
    });
    street.bench.pass(PATIENCE);
    let first = said_again(&mut street, 15);
    assert!((2500..=3000).contains(&first), "{first}");
    said_again(&mut street, 1800);
    let late = said_again(&mut street, 1200);
    assert!((1..=100).contains(&late), "{late}");
    street.bench.ack(street.bench.session, 1, &[]);
    let again = said_again(&mut street, 15);
    assert!((2500..=3000).contains(&again), "{again}");
    said_again(&mut street, 1800);
    street.bench.outbox.anchor_began();
    assert!((2500..=3000).contains(&said_again(&mut street, 15)));
}
