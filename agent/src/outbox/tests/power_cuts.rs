//! The power is cut after each single step on the disk, and each single step fails once.

use std::sync::Arc;

use grid_durable::Disk;
use grid_durable::simulate::{Fault, SimulatedDisk};

use super::*;

const FOLDER: &str = "/outbox";
const BOUNDS: Bounds = Bounds { memory_bytes: 40_000, disk_bytes: Some(4 * 64 * 1024) };

fn bench(disk: &SimulatedDisk, session: u64) -> Bench {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let store = Store::new(move || Durable::open_on(disk.clone(), Path::new(FOLDER), Stop::never()));
    Bench::on(store, BOUNDS, session)
}

/// Fills the disk, loses measurements, is acknowledged, goes on. `watch` sees it after each thing the disk did.
fn script(bench: &mut Bench, mut watch: impl FnMut(&Bench)) {
    for round in 0..110u64 {
        let kind = match round % 7 {
            0 => "event",
            3 => "setpoint",
            _ => "measurement",
        };
        bench.say(kind, 5 * LONG);
        // A disk that failed is tried again meanwhile.
        bench.now = bench.now + Millis(4_000);
        if round % 25 == 10 {
            bench.ack(bench.session, bench.last_seq / 2, &[(round / 3, round / 2)]);
        }
        if round % 30 == 29 {
            bench.declare();
        }
        while bench.work_once() {
            watch(bench);
        }
    }
    bench.outbox.close();
    while bench.outbox.disk_trouble().is_none() && bench.work_once() {
        watch(bench);
    }
}

fn on_disk(bench: &Bench) -> BTreeSet<(Session, u64)> {
    let memory: BTreeSet<_> = bench.outbox.memory.messages().map(|message| (message.session, message.seq)).collect();
    bench.waiting().difference(&memory).copied().collect()
}

#[test]
fn whenever_the_power_is_cut_what_was_durable_is_there_and_what_was_lost_is_known() {
    let disk = SimulatedDisk::new();
    disk.keep_moments();
    let mut first = bench(&disk, 1);
    let mut durable = vec![(0, BTreeSet::new())];
    script(&mut first, |bench| durable.push((disk.operations(), on_disk(bench))));
    assert!(!first.lost().is_empty(), "the script fills the disk");
    let acknowledged = first.outbox.sessions.get(Session(1)).unwrap().settled.clone();
    let lost_at_last = first.lost();
    let moments = disk.moments();
    assert!(moments.len() > 60, "{}", moments.len());
    for moment in moments {
        let (_, safe) = durable.iter().rev().find(|(operation, _)| *operation <= moment.operation).unwrap();
        for seed in 0..4 {
            let mut next = bench(&moment.disk.after_power_cut(seed), 2);
            next.work();
            assert_eq!(next.outbox.disk_trouble(), None);
            next.said = first.said.clone();
            let (waiting, known) = (next.waiting(), next.lost());
            for message in safe {
                let settled = acknowledged.contains(message.1) && !lost_at_last.contains(message);
                let is_there = waiting.contains(message) || known.contains(message) || settled;
                assert!(is_there, "{message:?} at step {} with seed {seed}", moment.operation);
            }
            assert!(known.is_disjoint(&waiting));
            assert!(known.iter().all(|message| first.said[message].0 == Worth::Measurement));
            assert_eq!(next.all_due(), waiting, "byte for byte");
        }
    }
}

#[test]
fn whichever_step_fails_and_however_nothing_is_lost_but_what_had_to_go_and_it_goes_on() {
    let mut operation = 0;
    loop {
        operation += 1;
        let mut is_over = false;
        for fault in [Fault::Broken, Fault::Full] {
            let disk = SimulatedDisk::new();
            disk.fail(operation, fault);
            let mut bench = bench(&disk, 1);
            let mut failed = false;
            script(&mut bench, |bench| failed |= bench.outbox.disk_trouble().is_some());
            is_over = disk.operations() < operation;
            let (waiting, lost) = (bench.waiting(), bench.lost());
            assert!(lost.is_disjoint(&waiting));
            let worse = lost.iter().find(|message| bench.said[message].0 > Worth::Measurement);
            assert_eq!(worse, None, "step {operation}, {fault:?}");
            let settled = &bench.outbox.sessions.get(Session(1)).unwrap().settled;
            let there = |message: &&(Session, u64)| waiting.contains(message) || settled.contains(message.1);
            assert_eq!(bench.said.keys().find(|message| !there(message)), None, "step {operation}, {fault:?}");
            let events = bench.outbox.disk_events();
            if failed {
                assert!(matches!(events.first(), Some(DiskEvent::Failed(_))), "step {operation}: {events:?}");
            }
            if bench.outbox.disk_trouble().is_none() {
                assert!(!failed || events.last() == Some(&DiskEvent::Recovered), "step {operation}: {events:?}");
                bench.pass(PATIENCE);
                assert_eq!(bench.all_due(), bench.waiting(), "step {operation}");
            }
        }
        if is_over {
            break;
        }
    }
    assert!(operation > 100, "{operation}");
}

#[test]
fn a_disk_that_others_have_filled_is_used_again_when_there_is_room() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(100_000));
    let mut bench = bench(&disk, 1);
    bench.work();
    disk.occupy(90_000);
    (0..10).for_each(|_| {
        bench.say("event", 4 * LONG);
        bench.work();
    });
    let events = bench.outbox.disk_events();
    assert!(matches!(events.first(), Some(DiskEvent::Failed(_))), "{events:?}");
    assert_eq!(bench.outbox.len(), 10, "events are kept in memory");
    disk.occupy(0);
    bench.pass(Millis(31_000));
    assert_eq!(bench.outbox.disk_events().last(), Some(&DiskEvent::Recovered));
    bench.pass(Millis(31_000));
    assert_eq!((bench.outbox.len(), bench.outbox.in_memory()), (10, 0));
}
