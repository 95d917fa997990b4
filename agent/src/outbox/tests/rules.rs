//! What waits, what is said again, what is given up, and what a restart finds.

use super::*;

fn seqs(due: &[(Session, u64)]) -> Vec<u64> {
    due.iter().map(|(_, seq)| *seq).collect()
}

#[test]
fn what_is_acknowledged_is_forgotten_and_what_is_missing_is_said_again() {
    let mut bench = Bench::in_memory();
    (0..10).for_each(|_| {
        bench.say("measurement", 100);
    });
    bench.ack(bench.session, 8, &[(3, 4), (6, 6)]);
    assert_eq!(bench.outbox.len(), 5);
    assert!(bench.due(100).is_empty());
    bench.pass(Millis(2000));
    assert_eq!(seqs(&bench.due(100)), [3, 4, 6]);
    bench.pass(Millis(100));
    assert!(bench.due(100).is_empty());
    bench.ack(bench.session, 10, &[]);
    assert!(bench.outbox.is_empty());
}

#[test]
fn an_ack_covers_only_its_session_and_nothing_that_was_not_said() {
    let mut bench = Bench::in_memory();
    bench.say("measurement", 100);
    bench.ack(Session(2), 100, &[]);
    assert_eq!(bench.outbox.len(), 1);
    bench.ack(bench.session, 100, &[]);
    bench.say("measurement", 100);
    assert_eq!(bench.outbox.len(), 1, "what was said after it waits");
}

#[test]
fn silence_makes_everything_due_a_few_at_a_time() {
    let mut bench = Bench::in_memory();
    (0..10).for_each(|_| {
        bench.say("measurement", 100);
    });
    assert!(bench.due(4).is_empty());
    bench.pass(PATIENCE);
    assert_eq!(seqs(&bench.due(4)), [1, 2, 3, 4]);
    assert_eq!(bench.due(100).len(), 6);
}

#[test]
fn with_an_anchor_that_acknowledges_nothing_is_written_but_the_session() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    for _ in 0..1000 {
        bench.say_many(5);
        bench.ack(bench.session, bench.last_seq, &[]);
    }
    assert_eq!(bench.jobs, ["open", "save"]);
    bench.close();
    let files = std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name());
    assert!(!files.into_iter().any(|name| name.to_string_lossy().starts_with("segment")));
}

#[test]
fn what_waits_for_half_a_minute_goes_to_disk_at_most_every_five_seconds() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.jobs.clear();
    for second in 0..60 {
        bench.say("measurement", 100);
        bench.pass(Millis(1000));
        if second < 29 {
            assert_eq!(bench.jobs.len(), 0, "{second}");
        }
    }
    let writes = bench.jobs.iter().filter(|job| **job == "write").count();
    assert!((5..=7).contains(&writes), "{writes}");
    assert_eq!(bench.outbox.len(), 60);
    assert!((29..=35).contains(&bench.outbox.in_memory()), "{}", bench.outbox.in_memory());
}

#[test]
fn more_than_memory_holds_goes_to_disk_and_all_of_it_is_said_again() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(150);
    assert!(bench.outbox.memory.bytes() <= bench.bounds.memory_bytes);
    assert_eq!((bench.outbox.len(), bench.outbox.lost), (150, 0));
    bench.pass(PATIENCE);
    assert_eq!(bench.all_due(), bench.waiting());
    assert_eq!(bench.all_due(), BTreeSet::new(), "not again so soon");
    bench.ack(bench.session, 150, &[(10, 12)]);
    bench.pass(Millis(2000));
    assert_eq!(bench.all_due().into_iter().map(|(_, seq)| seq).collect::<Vec<_>>(), [10, 11, 12]);
    bench.ack(bench.session, 150, &[]);
    assert!(bench.outbox.is_empty() && bench.all_due().is_empty());
}

#[test]
fn acknowledged_segments_are_used_again_oldest_first_and_only_when_there_is_no_other_room() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    let generations = |bench: &Bench| -> Vec<u64> {
        bench.outbox.disk.iter().flat_map(|disk| disk.shelf.segments()).map(|segment| segment.generation).collect()
    };
    for round in 0..6 {
        bench.say_many(60);
        bench.ack(bench.session, bench.last_seq, &[]);
        if round == 2 {
            assert_eq!(generations(&bench), [1, 2, 3], "what is acknowledged is not overwritten while there is room");
        }
    }
    let generations = generations(&bench);
    assert_eq!(generations.len(), 4);
    assert!(generations.iter().all(|generation| *generation > 1), "{generations:?}");
    assert_eq!((bench.outbox.len(), bench.outbox.lost), (0, 0));
}

#[test]
fn when_both_are_full_the_oldest_measurements_go_and_exactly_they_are_declared() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    for round in 0..400 {
        bench.say(if round % 10 == 0 { "event" } else { "measurement" }, LONG);
        bench.pass(Millis(100));
    }
    let (lost, waiting) = (bench.lost(), bench.waiting());
    assert!(!lost.is_empty() && lost.is_disjoint(&waiting));
    assert_eq!(lost.len() + waiting.len(), 400);
    assert!(lost.iter().all(|message| bench.said[message].0 == Worth::Measurement));
    let newest_lost = lost.iter().next_back().unwrap().1;
    let older_and_kept = waiting.iter().filter(|(_, seq)| *seq < newest_lost);
    assert!(older_and_kept.clone().all(|message| bench.said[message].0 == Worth::Lasting), "the oldest went");
    assert!(older_and_kept.count() > 5);
    bench.declare();
    assert_eq!(bench.outbox.losses(20), [], "no more until these are acknowledged");
    bench.ack(bench.session, bench.last_seq, &[]);
    assert_eq!(bench.lost(), BTreeSet::new());
}

#[test]
fn without_a_disk_measurements_and_balances_go_first_then_setpoints_and_events_last() {
    let mut bench = Bench::in_memory();
    let bound = bench.bounds.memory_bytes;
    let fill = |bench: &mut Bench, kinds: &[&str], bytes: usize| {
        let mut kinds = kinds.iter().cycle();
        (0..bytes / (LONG + 200) + 1).for_each(|_| {
            bench.say(kinds.next().unwrap(), LONG);
        });
    };
    let lost = |bench: &Bench| bench.lost().iter().map(|message| bench.said[message].0).collect::<BTreeSet<_>>();
    fill(&mut bench, &["measurement", "setpoint", "balance", "event"], bound);
    assert_eq!(lost(&bench), [Worth::Measurement].into());
    assert!(bench.lost().iter().all(|(_, seq)| *seq == 1), "the oldest");
    fill(&mut bench, &["setpoint", "status"], ROOM_FOR_CONTROL * bound / 2);
    assert_eq!(bench.outbox.take_given_up(), Some(Worth::Measurement));
    assert!(bench.waiting().iter().all(|message| bench.said[message].0 > Worth::Measurement), "all of them go");
    fill(&mut bench, &["event"], ROOM_FOR_CONTROL * bound / 2);
    assert_eq!(bench.outbox.take_given_up(), Some(Worth::Setpoint));
    assert_eq!(lost(&bench), [Worth::Measurement, Worth::Setpoint].into());
    fill(&mut bench, &["event"], ROOM_FOR_CONTROL * bound);
    assert_eq!(bench.outbox.take_given_up(), Some(Worth::Lasting));
    assert!(bench.outbox.memory.bytes() <= ROOM_FOR_CONTROL * bound);
    assert!(bench.waiting().iter().all(|message| bench.said[message].0 == Worth::Lasting));
    assert_eq!(bench.lost().len() + bench.waiting().len(), bench.said.len());
}

#[test]
fn on_disk_balances_go_before_setpoints_and_setpoints_before_events() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    let held = |bench: &Bench, worth| {
        bench.waiting().iter().filter(|message| bench.said[message].0 == worth).map(|(_, seq)| *seq).collect::<Vec<_>>()
    };
    let mut say = |kinds: &[&str], count: usize| {
        for kind in kinds.iter().cycle().take(count) {
            bench.say(kind, LONG);
            bench.pass(Millis(100));
        }
        (held(&bench, Worth::Measurement), held(&bench, Worth::Setpoint), held(&bench, Worth::Lasting), bench.lost())
    };
    let (balances, setpoints, _, lost) = say(&["setpoint", "balance"], 300);
    assert_eq!(setpoints.len(), 150, "no setpoint goes while there are balances");
    assert_eq!(balances.len() + lost.len(), 150);
    let (_, setpoints, events, _) = say(&["setpoint", "event"], 200);
    assert_eq!(events.len(), 100, "no event goes while there are setpoints");
    assert!(setpoints.len() < 150);
    let (_, setpoints, events, lost) = say(&["event"], 400);
    assert!(setpoints.len() < 30, "{}", setpoints.len());
    assert!((100..500).contains(&events.len()), "{}", events.len());
    assert_eq!(setpoints.len() + events.len() + lost.len(), 900);
    assert_eq!((bench.outbox.worst_lost, bench.outbox.take_given_up()), (Some(Worth::Lasting), Some(Worth::Lasting)));
    let name = "cp-1".parse().unwrap();
    let around = Around { name, is_running: true, broker_is_there: true, anchor_is_there: false, view: None };
    assert_eq!(bench.outbox.report(around).worst_lost, Some(Worth::Lasting));
}

#[test]
fn a_loss_spans_nothing_that_is_still_held() {
    let mut bench = Bench::in_memory();
    for seq in 1..=40 {
        bench.say(if seq % 4 == 0 { "event" } else { "measurement" }, LONG);
    }
    let ranges: Vec<(u64, u64)> = bench.outbox.losses(3).iter().map(|lost| (lost.from_seq, lost.to_seq)).collect();
    assert_eq!(ranges, [(1, 3), (5, 7), (9, 11)]);
    assert!(bench.lost().is_disjoint(&bench.waiting()));
}

#[test]
fn after_an_orderly_end_everything_is_there_and_the_last_number_is_known() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(40);
    bench.ack(bench.session, 7, &[]);
    let mut said = bench.close();
    let mut next = Bench::new(folder.path(), 2);
    let previous = next.outbox.previous().unwrap();
    assert_eq!((previous.session, previous.seq), (Session(1), 40));
    assert_eq!(next.waiting(), (8..=40).map(|seq| (Session(1), seq)).collect());
    said.append(&mut next.said);
    next.said = said;
    assert_eq!(next.all_due(), next.waiting(), "unchanged, byte for byte");
    next.ack(Session(1), 40, &[]);
    assert!(next.outbox.is_empty());
    next.close();
    let last = Bench::new(folder.path(), 3);
    assert_eq!(last.outbox.previous().unwrap().session, Session(2));
    assert!(last.outbox.sessions.get(Session(1)).is_none(), "a session of which nothing waits is forgotten");
    assert!(last.outbox.is_empty());
}

#[test]
fn after_a_kill_what_was_written_is_there_and_what_the_anchor_misses_besides_is_declared() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(40);
    let on_disk: BTreeSet<u64> = bench
        .outbox
        .disk
        .as_ref()
        .unwrap()
        .shelf
        .of(Session(1))
        .ranges()
        .flat_map(|(first, last)| first..=last)
        .collect();
    let end = *on_disk.last().unwrap();
    assert!(end < 38 && on_disk == (1..=end).collect());
    drop(bench);
    let mut next = Bench::new(folder.path(), 2);
    assert_eq!(next.waiting().len() as u64, end);
    assert_eq!(next.outbox.previous().unwrap().session, Session(1));
    // The anchor heard the last one live, and not the three before it.
    next.ack(Session(1), 40, &[(1, end), (37, 39)]);
    assert_eq!(next.lost(), (37..=39).map(|seq| (Session(1), seq)).collect());
    assert_eq!(next.waiting().len() as u64, end);
    next.ack(Session(1), 40, &[(37, 39)]);
    assert!(next.outbox.is_empty());
}

#[test]
fn an_ack_that_comes_before_the_disk_was_read_loses_nothing_that_is_there() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(40);
    bench.close();
    let bounds = Bounds { memory_bytes: 20_000, disk_bytes: Some(4 * 64 * 1024) };
    let mut next = Bench::with(folder.path(), Stop::never(), bounds, 2);
    next.ack(Session(1), 45, &[(3, 6), (42, 43)]);
    assert_eq!(next.lost(), BTreeSet::new());
    next.work();
    assert_eq!(next.waiting().len(), 40);
    next.ack(Session(1), 45, &[(3, 6), (42, 43)]);
    assert_eq!(next.lost(), [(Session(1), 42), (Session(1), 43)].into());
    assert_eq!(next.waiting(), (3..=6).map(|seq| (Session(1), seq)).collect());
}

#[test]
fn what_is_lost_is_declared_again_after_a_crash_between_losing_and_the_declaration_being_safe() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(400);
    let lost = bench.lost();
    assert!(!lost.is_empty());
    bench.declare();
    bench.pass(Millis(6000));
    drop(bench);
    let next = Bench::new(folder.path(), 2);
    assert!(next.lost().is_superset(&lost));
    assert!(!next.outbox.losses(20).is_empty());
}

#[test]
fn acknowledged_messages_are_not_said_again_after_a_kill_once_that_was_kept() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(100);
    bench.ack(bench.session, 100, &[(50, 50)]);
    bench.pass(Millis(60_000));
    drop(bench);
    let next = Bench::new(folder.path(), 2);
    assert_eq!(next.waiting(), [(Session(1), 50)].into());
}

#[test]
fn a_disk_that_fails_is_told_of_once_and_used_again_when_it_works() {
    let folder = folder();
    let blocked = folder.path().join("outbox");
    std::fs::write(&blocked, "a file where a folder should be").unwrap();
    let mut bench = Bench::new(&blocked, 1);
    for _ in 0..5 {
        bench.say_many(2);
        bench.pass(Millis(30_000));
    }
    let events = bench.outbox.disk_events();
    assert!(matches!(&events[..], [DiskEvent::Failed(why)] if why.contains("outbox")), "{events:?}");
    assert_eq!(bench.outbox.len(), 10, "memory has it");
    std::fs::remove_file(&blocked).unwrap();
    bench.pass(Millis(30_000));
    assert_eq!(bench.outbox.disk_events(), [DiskEvent::Recovered]);
    assert_eq!((bench.outbox.len(), bench.outbox.in_memory()), (10, 0));
}

#[test]
fn a_folder_that_another_agent_uses_is_left_alone() {
    let folder = folder();
    let _first = Bench::new(folder.path(), 1);
    let mut second = Bench::new(folder.path(), 2);
    let events = second.outbox.disk_events();
    assert!(matches!(&events[..], [DiskEvent::Failed(why)] if why.contains("another process")), "{events:?}");
}

#[test]
fn messages_that_no_longer_read_are_declared_lost_and_all_others_are_said_again() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(150);
    bench.close();
    let segment = folder.path().join("segment-0000");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[20_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    std::fs::remove_file(folder.path().join("segment-0001")).unwrap();
    let mut next = Bench::new(folder.path(), 2);
    let said = next.all_due();
    let lost = next.lost();
    assert!(lost.is_disjoint(&said));
    assert_eq!(said.len() + lost.len(), 150);
    assert!(lost.len() > 50 && said.len() > 50, "{} {}", lost.len(), said.len());
}

#[test]
fn a_state_that_does_not_read_costs_only_work() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(100);
    bench.ack(bench.session, 30, &[]);
    bench.close();
    std::fs::write(folder.path().join("state.json"), "{").unwrap();
    let next = Bench::new(folder.path(), 2);
    let waiting: Vec<u64> = next.waiting().into_iter().map(|(_, seq)| seq).collect();
    assert!((31..=100).all(|seq| waiting.contains(&seq)));
}

#[test]
fn the_report_names_each_session_with_what_waits_and_since_when() {
    let folder = folder();
    let mut bench = Bench::new(folder.path(), 1);
    bench.say_many(40);
    let first = bench.now.0 - 40 * 100;
    bench.close();
    let name = "cp-1".parse().unwrap();
    let asleep = look(folder.path(), &name).unwrap();
    assert_eq!((asleep.is_running, asleep.disk.messages, asleep.memory.messages), (false, 40, 0));
    let mut next = Bench::new(folder.path(), 2);
    next.say("event", 100);
    let around = Around { name, is_running: true, broker_is_there: true, anchor_is_there: false, view: None };
    let report = next.outbox.report(around);
    assert_eq!((report.memory, report.disk.messages), (Amount { messages: 1, bytes: 100 }, 40));
    assert!((40 * LONG as u64..45 * LONG as u64).contains(&report.disk.bytes), "{report:?}");
    assert_eq!(report.oldest_ms, Some(UnixMillis(1_800_000_000_000 + first)));
    let sessions: Vec<(Session, bool)> = report.sessions.iter().map(|one| (one.session, one.is_current)).collect();
    assert_eq!(sessions, [(Session(1), false), (Session(2), true)]);
    assert!(matches!(look(&folder.path().join("none"), &"cp-1".parse().unwrap()), Err(LookError::Nothing(_))));
}
