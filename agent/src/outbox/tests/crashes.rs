//! The agent is killed before each single step on its disk.

use super::*;

/// What an agent does that fills its disk, loses measurements, is acknowledged, and goes on.
fn script(bench: &mut Bench) {
    for round in 0..260u64 {
        let kind = match round % 7 {
            0 => "event",
            3 => "setpoint",
            _ => "measurement",
        };
        bench.say(kind, 2 * LONG);
        bench.now = bench.now + Millis(400);
        if round % 50 == 20 {
            bench.ack(bench.session, bench.last_seq / 2, &[(round / 3, round / 2)]);
        }
        if round % 40 == 39 {
            bench.declare();
        }
        if !bench.work_until_it_fails() {
            return;
        }
    }
    bench.outbox.close();
    bench.work_until_it_fails();
}

impl Bench {
    /// Says whether nothing failed.
    fn work_until_it_fails(&mut self) -> bool {
        while self.outbox.disk_trouble().is_none() {
            if !self.work_once() {
                return true;
            }
        }
        false
    }
}

fn on_disk(bench: &Bench) -> BTreeSet<(Session, u64)> {
    let memory: BTreeSet<_> = bench.outbox.memory.messages().map(|message| (message.session, message.seq)).collect();
    bench.waiting().difference(&memory).copied().collect()
}

#[test]
fn killed_before_any_step_it_keeps_what_was_durable_and_says_only_that_again() {
    let bounds = Bounds { memory_bytes: 20_000, disk_bytes: Some(4 * 64 * 1024) };
    let mut steps = 0;
    loop {
        let folder = folder();
        let mut bench = Bench::with(folder.path(), Stop::after(steps), bounds, 1);
        script(&mut bench);
        let is_over = bench.outbox.disk_trouble().is_none();
        let (safe, lost) = (on_disk(&bench), bench.lost());
        let settled = bench.outbox.sessions.get(Session(1)).unwrap().settled.clone();
        let said = std::mem::take(&mut bench.said);
        drop(bench);

        let mut next = Bench::new(folder.path(), 2);
        next.said = said;
        let (waiting, known) = (next.waiting(), next.lost());
        for message in &safe {
            assert!(waiting.contains(message) || known.contains(message), "{message:?} before step {steps}");
        }
        assert!(known.is_disjoint(&waiting), "before step {steps}");
        assert!(known.iter().all(|message| next.said[message].0 == Worth::Measurement), "before step {steps}");
        for (session, seq) in waiting.difference(&safe) {
            // Written and not told, or lost in memory only, or acknowledged and not kept yet.
            let was_lost = lost.contains(&(*session, *seq));
            assert!(next.said.contains_key(&(*session, *seq)) || settled.contains(*seq) || was_lost);
        }
        assert_eq!(next.all_due(), waiting, "all of it is said again, before step {steps}");
        // It goes on as if nothing had happened.
        next.say_many(30);
        assert!(next.outbox.disk_trouble().is_none());
        if is_over {
            break;
        }
        steps += 1;
    }
    assert!(steps > 60, "{steps}");
}
