//! A message that stands in two places is lost only when neither has it.

use grid_protocol::topic::Topic;

use super::*;
use crate::outbox::record;

/// A segment with these messages of session 1.
fn write_segment(path: &Path, number: u32, seqs: &[u64]) {
    let generation = u64::from(number) + 1;
    let mut bytes = record::header(generation);
    for seq in seqs {
        let topic: Topic = "grid/demo/cp-1/event".parse().unwrap();
        let payload = payload(Session(1), *seq, LONG);
        let message =
            Message { session: Session(1), seq: *seq, said_at: UnixMillis(1_800_000_000_000), topic, payload };
        record::write(&message, generation, &mut bytes);
    }
    std::fs::write(path.join(format!("segment-{number:04}")), bytes).unwrap();
}

fn damage(path: &Path, number: u32) {
    let segment = path.join(format!("segment-{number:04}"));
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[record::HEADER + 100..].fill(0);
    std::fs::write(&segment, bytes).unwrap();
}

fn of_first(seqs: impl Iterator<Item = u64>) -> BTreeSet<(Session, u64)> {
    seqs.map(|seq| (Session(1), seq)).collect()
}

#[test]
fn what_one_segment_no_longer_has_is_said_again_from_the_other() {
    let folder = folder();
    write_segment(folder.path(), 0, &[1, 2, 3]);
    write_segment(folder.path(), 1, &[2, 3, 4]);
    let mut bench = Bench::new(folder.path(), 2);
    damage(folder.path(), 0);
    assert_eq!(bench.all_due(), of_first(2..=4));
    assert_eq!(bench.lost(), of_first(1..=1));
    damage(folder.path(), 1);
    bench.pass(Millis(3_600_000));
    assert_eq!(bench.all_due(), BTreeSet::new());
    assert_eq!(bench.lost(), of_first(1..=4), "now nobody has them");
}

#[test]
fn what_a_segment_no_longer_has_is_not_lost_while_memory_has_it() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    (0..5).for_each(|_| {
        bench.say("event", LONG);
    });
    bench.now = bench.now + Millis(30_000);
    // It is written, and then the disk says that it is not.
    let job = bench.outbox.next_job(bench.now).unwrap();
    assert!(matches!(job, Job::Write { .. }));
    bench.store.perform(job);
    bench.outbox.done(Outcome::Failed { why: "test".into() }, bench.now);
    bench.now = bench.now + Millis(30_000);
    assert!(bench.work_once() && bench.jobs.last() == Some(&"open"));
    damage(folder.path(), 0);
    assert_eq!(bench.all_due(), of_first(1..=5));
    assert_eq!(bench.lost(), BTreeSet::new());
}
