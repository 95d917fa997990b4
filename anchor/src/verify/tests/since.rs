//! A log must continue the checkpoints that it once had.

use super::*;

fn verify_since(log: &StreetLog, since: &[u8]) -> Result<Report, VerifyError> {
    let policy = log.policy();
    let questions = Questions { policy: Some(&policy), since: Some(since), ..Questions::default() };
    verify(&Folder::new(log.path()), &questions).map(|(report, _)| report)
}

#[test]
fn a_log_that_grew_continues_its_older_checkpoint() {
    let log = StreetLog::of(300);
    let older = log.checkpoint();
    log.record(202, |_| {});
    let report = verify_since(&log, &older).unwrap();
    assert_eq!((report.holds, report.since), (true, Some(Since { tree_size: 300, continued: true })));
}

#[test]
fn a_history_rewritten_with_the_true_key_contradicts_it() {
    let log = StreetLog::of(300);
    let older = log.checkpoint();
    let mut entries = log.entries();
    entries.remove(17);
    entries.push(crate::entry::write(START, "grid/demo/cp-1/set/charging", b"ON"));
    log.rewrite(&entries, &log.key());
    assert!(log.verify().holds, "without the older checkpoint nobody can tell");
    let failure = verify_since(&log, &older).unwrap().failure.unwrap();
    assert_eq!(failure.file, "checkpoint");
    assert!(failure.why.starts_with("the log was rewritten: "), "{failure}");
}

#[test]
fn a_log_cut_back_to_where_it_was_contradicts_it() {
    let log = StreetLog::of(300);
    let newer = log.checkpoint();
    log.rewrite(&log.entries()[..280], &log.key());
    assert!(log.verify().holds, "without the newer checkpoint nobody can tell");
    let failure = verify_since(&log, &newer).unwrap().failure.unwrap();
    assert!(failure.why.starts_with("the log was cut back: "), "{failure}");
}

#[test]
fn another_logs_checkpoint_says_nothing() {
    let (log, other) = (StreetLog::of(5), StreetLog::of(5));
    assert!(matches!(verify_since(&log, &other.checkpoint()), Err(VerifyError::Since(BadCheckpoint::NotSigned(_)))));
    let unsigned = Questions { since: Some(&other.checkpoint()), ..Questions::default() };
    let refused = verify(&Folder::new(log.path()), &unsigned);
    assert!(matches!(refused, Err(VerifyError::OtherSince { .. })));
}

#[test]
fn an_older_checkpoint_within_what_was_dropped_can_be_told_only_at_the_edge_of_a_bundle() {
    let log = StreetLog::of(300);
    let key = log.key();
    let entries = log.entries();
    let older: Vec<Vec<u8>> = [200, 256, 257]
        .into_iter()
        .map(|size| {
            log.rewrite(&entries[..size], &key);
            log.checkpoint()
        })
        .collect();
    log.rewrite(&entries, &key);
    log.drop_bundles(1);
    let continued = older.iter().map(|older| verify_since(&log, older).unwrap().since.unwrap().continued);
    assert_eq!(continued.collect::<Vec<_>>(), [false, true, true]);
}
