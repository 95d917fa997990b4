//! Who said what counts, and what is missing is explained.

use grid_protocol::message::{Event, PreviousSession};

use super::*;
use crate::notice::Notice;
use crate::show::date;
use crate::testing::log::Desk;
use crate::testing::{Speaker, at};
use crate::verify::Explanation::{DeclaredLost, ReplayedLater, Unexplained};

const REVOKED: &str = "grid/demo/ca/revoked";

fn lose(device: &mut Speaker, count: usize) {
    (0..count).for_each(|_| drop(device.measurement()));
}

#[test]
fn gaps_forgeries_and_losses_are_told_apart() {
    let log = StreetLog::new();
    let mut device = log.street.speaker("cp-1", Role::Device, 1);
    log.record(201, |desk| {
        desk.say(&device.birth());
        let late = device.measurement();
        lose(&mut device, 2);
        desk.say(&device.measurement());
        lose(&mut device, 2);
        desk.say(&device.event(Event::OutboxOverflow { of: Session(1), from_seq: 6, to_seq: 7 }));
        desk.say(&device.will(1));
        let mut forged = device.measurement();
        forged.payload[40] ^= 1;
        desk.say(&forged);
        desk.say(&late);
        let mut next = device.restarted(&log.street, 2);
        desk.say(&next.birth_after(Some(PreviousSession { session: Session(1), seq: 11 })));
        desk.say_raw("grid/demo/cp-1/set/charging", b"ON");
    });
    let report = log.verify();
    assert!(report.holds);
    let messages = report.messages;
    assert_eq!((messages.verified, messages.last_wills, messages.commands, messages.unverified), (6, 1, 1, 1));
    assert_eq!((messages.lost, messages.missing, messages.replayed_later, messages.dropped), (2, 5, 1, 0));
    let gaps: Vec<_> = messages.gaps.iter().map(|gap| (gap.from_seq, gap.to_seq, gap.explanation)).collect();
    assert_eq!(gaps, [(2, 2, ReplayedLater), (3, 4, Unexplained), (6, 7, DeclaredLost), (9, 11, Unexplained)]);
    let doubt = messages.first_unverified.unwrap();
    assert_eq!((doubt.entry.index, doubt.entry.device), (4, Some(name("cp-1"))));
    assert_eq!(doubt.why, "its signature does not hold");
}

#[test]
fn a_revoked_certificate_proves_nothing_from_its_revocation_on_and_everything_before() {
    let log = StreetLog::new();
    let mut stolen = log.street.speaker("cp-1", Role::Device, 1);
    let mut other = log.street.speaker("cp-2", Role::Device, 2);
    log.record(201, |desk| {
        desk.say(&stolen.birth());
        desk.say(&stolen.measurement());
        desk.say(&other.birth());
        desk.say_raw(REVOKED, &log.revoking(1, &[&stolen]));
        desk.now_ms = 5000;
        desk.say(&stolen.measurement());
        desk.say(&stolen.event(Event::ThrownOut {}));
        desk.say(&other.measurement());
        // A newer list that forgets what an older one said takes nothing back.
        desk.say_raw(REVOKED, &log.revoking(2, &[]));
        desk.now_ms = 9000;
        desk.say(&stolen.measurement());
        let mut renewed = log.street.speaker("cp-1", Role::Device, 3);
        desk.say(&renewed.birth());
    });
    let Report { holds, messages, .. } = log.verify();
    assert!(holds);
    assert_eq!((messages.verified, messages.revoked, messages.unverified, messages.revocations), (6, 3, 0, 2));
    assert_eq!(messages.by_sender[&name("cp-1")], 3);
    let first = messages.first_revoked.unwrap();
    assert_eq!((first.entry.index, first.entry.received_ms), (4, Some(at(5000).unix)));
    assert!(first.to_string().contains("on grid/demo/cp-1/measurement: the certificate of cp-1 with serial number"));
}

/// A log of `count` measurements, a minute apart.
fn minutes(count: u64) -> StreetLog {
    let log = StreetLog::new();
    let mut device = log.street.speaker("cp-1", Role::Device, 1);
    log.record(201, |desk: &mut Desk| {
        desk.say(&device.birth());
        for minute in 1..count {
            desk.now_ms = minute * 60_000;
            desk.say(&device.measurement());
        }
    });
    log
}

#[test]
fn times_that_the_ledger_contradicts_are_counted_and_the_first_is_named() {
    let log = minutes(20);
    let policy = log.policy();
    let source = Folder::new(log.path());
    let report = |records: Vec<(u64, UnixMillis)>| {
        let questions = Questions { policy: Some(&policy), brackets: Brackets::new(records), ..Questions::default() };
        verify(&source, &questions).unwrap().0
    };
    let record = |size: u64, minute: u64| (size, at(minute * 60_000).unix);
    let fitting = report(vec![record(5, 5), record(10, 10), record(21, 21)]);
    assert_eq!((fitting.holds, fitting.messages.outside_bracket), (true, 0));
    // The second record came much earlier than entries that it covers claim to be.
    let messages = report(vec![record(5, 1), record(10, 2), record(21, 21)]).messages;
    assert_eq!(messages.outside_bracket, 2);
    let first = messages.first_outside_bracket.unwrap();
    assert_eq!((first.entry.index, &first.entry.device), (8, &Some(name("cp-1"))));
    assert!(first.why.contains(&date(at(2 * 60_000).unix)), "{first}");
}

#[test]
fn a_certificate_is_judged_at_the_ledgers_time_if_the_anchor_claims_another() {
    let log = minutes(3);
    let policy = log.policy();
    // Thirty years later the certificate had run out.
    let late = UnixMillis(START.0 + 30 * 366 * 24 * 3600 * 1000);
    let brackets = Brackets::new(vec![(0, late), (0, late), (4, UnixMillis(late.0 + 1))]);
    let questions = Questions { policy: Some(&policy), brackets, ..Questions::default() };
    let messages = verify(&Folder::new(log.path()), &questions).unwrap().0.messages;
    assert_eq!((messages.verified, messages.unverified, messages.outside_bracket), (0, 4, 4));
}

#[test]
fn only_what_was_received_in_a_span_is_told_and_all_is_checked() {
    let log = minutes(300);
    let policy = log.policy();
    let reported = Span { from: Some(at(10 * 60_000).unix), to: Some(at(15 * 60_000).unix) };
    let questions = Questions { policy: Some(&policy), reported, ..Questions::default() };
    let source = Folder::new(log.path());
    let report = verify(&source, &questions).unwrap().0;
    assert_eq!((report.holds, report.entries, report.messages.verified), (true, 301, 5));
    let path = log.path().join("tile/entries/001.p/45");
    fs::remove_file(&path).unwrap();
    assert_eq!(verify(&source, &questions).unwrap().0.failure.unwrap().file, "tile/entries/001.p/45");
}

#[test]
fn whoever_waits_is_told_how_far_it_is() {
    let log = StreetLog::of(300);
    let seen = std::sync::Mutex::new(Vec::new());
    let watch = |progress: Progress| seen.lock().unwrap().push(progress);
    let questions = Questions { watch: Some(&watch), ..Questions::default() };
    verify(&Folder::new(log.path()), &questions).unwrap();
    let last = seen.lock().unwrap().last().copied().unwrap();
    assert_eq!((last.entries, last.of), (300, 300));
    assert!(last.bytes > 300 * 32);
}

#[test]
fn a_log_may_say_that_any_number_of_messages_was_not_logged() {
    let log = StreetLog::of(4);
    let notices = [3, u64::MAX, u64::MAX].map(|count| log.notice(&Notice::NotLogged(count)));
    for (said, not_logged) in [(1, 3), (2, u64::MAX), (3, u64::MAX)] {
        log.rewrite(&[&log.entries()[..4], &notices[..said]].concat(), &log.key());
        let report = log.verify();
        assert!(report.holds);
        assert_eq!((report.messages.not_logged, report.messages.unverified), (not_logged, 0));
    }
}
