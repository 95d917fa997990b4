//! A trail that continues another, on the mock ledger: how it is made, and what `verify` says of it.

#![allow(clippy::unwrap_used)]

#[path = "../bench/mod.rs"]
mod bench;
mod making;
mod program;
#[path = "../street/mod.rs"]
mod street;

use std::fs;
use std::path::{Path, PathBuf};

use bench::{Bench, at, front_page, log, log_and_checkpoint};
use grid_anchor::checkpoint::LogKey;
use grid_anchor::initialise::{Continuation, InitError, Predecessor, continue_trail, initialise};
use grid_anchor::inscription::Inscription;
use grid_anchor::policy::{Policy, TrailAddress};
use grid_anchor::succession::{BadStatement, Statement};
use grid_anchor::verify::{LedgerFailure, LedgerReport, Report};
use grid_ledger::{InitSettings, IotaLedger, Ledger, NewRecord, ObjectId, TrailReader, Watch, init};
use tlog_tiles::Hash;

fn trail_of(bench: &Bench, data_dir: &Path) -> ObjectId {
    bench.policy(data_dir).trail.unwrap().trail
}

fn log_key(data_dir: &Path) -> LogKey {
    LogKey::read(&fs::read_to_string(data_dir.join("log.key")).unwrap()).unwrap()
}

async fn go_on(
    bench: &Bench,
    data_dir: &Path,
    trail: ObjectId,
    log_key: Option<&LogKey>,
    watch: Option<Watch>,
) -> Result<Continuation, InitError> {
    let (site, authority) = ((&bench.site, None), bench.issuer.authority());
    let predecessor = Predecessor { trail, log_key };
    continue_trail(data_dir, site, &authority, &bench.endpoints, &predecessor, watch).await
}

/// A log with two records in its trail.
async fn with_records(bench: &Bench, name: &str) -> (PathBuf, ObjectId) {
    let data_dir = bench.path(name);
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;
    let trail = trail_of(bench, &data_dir);
    (data_dir, trail)
}

async fn verified(bench: &Bench, data_dir: &Path) -> (Report, LedgerReport) {
    let (report, ledger) = bench.verify(data_dir).await.unwrap();
    assert!(report.holds, "{:?}", report.failure);
    (report, ledger.unwrap())
}

/// Adds to a trail that was left, with its key.
async fn add_to_old(bench: &Bench, data_dir: &Path, trail: ObjectId, text: &str) {
    let thief = bench.path("thief");
    fs::create_dir_all(&thief).unwrap();
    for file in ["ledger.key", "ledger.json"] {
        if !thief.join(file).exists() {
            fs::copy(data_dir.join(format!("{file}.{trail}")), thief.join(file)).unwrap();
        }
    }
    let mut ledger = IotaLedger::open(&thief, &bench.endpoints).await.unwrap();
    ledger.append(&NewRecord { text: text.to_owned(), metadata: None }).await.unwrap();
}

/// A sealed trail of a new log that says it continues another, and has no record.
async fn unfinished(bench: &Bench, data_dir: &Path, old: ObjectId) -> (Policy, Statement) {
    fs::create_dir_all(data_dir).unwrap();
    let key = LogKey::generate(&bench.site, None).unwrap();
    fs::write(data_dir.join("log.key"), key.to_line()).unwrap();
    let authority = bench.issuer.authority();
    let mut policy = Policy { site: bench.site.clone(), log: key.public().clone(), authority, trail: None };
    let inscription = Inscription::new(&policy, Some(old));
    let (name, description) = (inscription.name(), &inscription.description());
    let report = init(InitSettings { folder: data_dir, endpoints: &bench.endpoints, name, description }, None).await;
    let report = report.unwrap();
    let address = |trail| TrailAddress { network: bench.endpoints.network, chain: report.chain.clone(), trail };
    policy.trail = Some(address(report.trail));
    fs::write(data_dir.join("site.policy"), policy.to_string()).unwrap();
    let statement = Statement { trail: address(old), last: None, log: policy.log.clone(), ledger: report.address };
    (policy, statement)
}

/// The same with this first record.
async fn forged(
    bench: &Bench,
    data_dir: &Path,
    old: (&Path, ObjectId),
    text: impl FnOnce(Statement, &LogKey) -> String,
) {
    let (_, mut statement) = unfinished(bench, data_dir, old.1).await;
    let reader = TrailReader::open(&bench.endpoints, None, old.1).await.unwrap();
    let newest = reader.records(0).await.unwrap().pop().unwrap();
    let head = log_key(old.0).public().open(newest.text.as_bytes()).unwrap();
    statement.last = Some((newest.sequence_number, head));
    let text = text(statement, &log_key(data_dir));
    let mut ledger = IotaLedger::open(data_dir, &bench.endpoints).await.unwrap();
    ledger.append(&NewRecord { text, metadata: None }).await.unwrap();
    log_and_checkpoint(&mut bench.recorder(data_dir), 1, "1");
}

/// How many trails the ledger has.
fn trails(bench: &Bench) -> usize {
    front_page(bench.endpoints.grpc[0].trim_start_matches("http://")).matches("/object/").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_goes_on_under_a_new_trail_and_the_records_of_both_count() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let old_key = fs::read(data_dir.join("ledger.key")).unwrap();
    let made = go_on(&bench, &data_dir, old, None, None).await.unwrap();
    assert!(made.is_same_log && made.is_signed && made.other_authority.is_none());
    assert_eq!(made.statement.last.as_ref().map(|(number, head)| (*number, head.size)), Some((1, 2)));
    assert_eq!(trail_of(&bench, &data_dir), made.report.trail);
    assert_eq!(fs::read(data_dir.join(format!("ledger.key.{old}"))).unwrap(), old_key);
    assert_ne!(fs::read(data_dir.join("ledger.key")).unwrap(), old_key);

    // Before the new trail holds a checkpoint, the old one's vouch.
    let (_, ledger) = verified(&bench, &data_dir).await;
    let newest = ledger.newest.unwrap();
    assert_eq!((ledger.records, newest.trail, newest.tree_size), (1, old.to_string(), 2));
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    let (report, ledger) = verified(&bench, &data_dir).await;
    let newest = ledger.newest.unwrap();
    assert_eq!((newest.trail, newest.number, newest.tree_size), (made.report.trail.to_string(), 1, 3));
    assert_eq!((report.tree_size, ledger.records, ledger.not_compared, ledger.not_notarized), (3, 2, 0, 0));
    let [link] = &ledger.continued[..] else { panic!("{:?}", ledger.continued) };
    assert_eq!((link.trail.as_str(), link.is_same_log, link.signed), (old.to_string().as_str(), true, true));
    assert_eq!((link.records, link.not_named, link.added_later), (2, 0, 0));

    // Once more says the same, also without the option.
    let again = go_on(&bench, &data_dir, old, None, None).await.unwrap();
    let plain = initialise(&data_dir, (&bench.site, None), &bench.issuer.authority(), &bench.endpoints, None).await;
    assert_eq!([again.report.trail, plain.unwrap().trail], [made.report.trail; 2]);
    assert_eq!(trails(&bench), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rewritten_since_is_caught_by_the_old_trail() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    go_on(&bench, &data_dir, old, None, None).await.unwrap();
    let rewritten = bench.with_the_true_key(&data_dir);
    let mut recorder = bench.recorder(&rewritten);
    log(&mut recorder, 1, "80000");
    log(&mut recorder, 2, "50000");
    log_and_checkpoint(&mut recorder, 3, "40000");
    drop(recorder);
    let failure = bench.verify(&rewritten).await.unwrap_err();
    let said = format!("of the trail {old}, which is continued: log rewritten: record 1, added ");
    assert!(failure.to_string().starts_with(&said) && !failure.is_unknown(), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_log_continues_a_trail_signed_where_the_old_key_survives_and_unsigned_where_not() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let old_key = log_key(&old_dir);
    for (name, key) in [("signed", Some(&old_key)), ("unsigned", None)] {
        let data_dir = bench.path(name);
        let made = go_on(&bench, &data_dir, old, key, None).await.unwrap();
        assert_eq!((made.is_same_log, made.is_signed), (false, key.is_some()));
        assert!(made.kept.is_empty() && made.link.is_some());
        bench.log_and_notarize(&data_dir, &["60000"]).await;
        let (_, ledger) = verified(&bench, &data_dir).await;
        let [link] = &ledger.continued[..] else { panic!("{:?}", ledger.continued) };
        assert_eq!((link.is_same_log, link.signed, link.records), (false, key.is_some(), 2));
        assert_eq!((link.log.as_str(), ledger.newest.unwrap().tree_size), (old_key.public().vkey(), 1));
        // What is there stays as it is.
        let again = go_on(&bench, &data_dir, old, Some(&old_key), None).await.unwrap();
        assert_eq!((again.is_signed, again.report.trail), (key.is_some(), made.report.trail));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_record_that_is_not_what_it_must_be_is_told_and_does_not_hold() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let (_, another) = with_records(&bench, "another").await;
    let fails = async |name: &str, text: &dyn Fn(Statement, &LogKey) -> String| {
        let data_dir = bench.path(name);
        forged(&bench, &data_dir, (&old_dir, old), text).await;
        let failure = bench.verify(&data_dir).await.unwrap_err();
        assert!(!failure.is_unknown(), "{failure}");
        failure
    };
    let failure = fails("altered", &|said, key| said.sign(key, None).unwrap().replace("record 1", "record 0")).await;
    assert!(matches!(failure, LedgerFailure::Statement(BadStatement::Signatures { .. })), "{failure}");
    let elsewhere = |mut said: Statement, key: &LogKey| {
        said.trail.trail = another;
        said.sign(key, None).unwrap()
    };
    let failure = fails("elsewhere", &elsewhere).await;
    assert!(matches!(failure, LedgerFailure::Statement(BadStatement::OtherTrail { .. })), "{failure}");
    let checkpoint = |said: Statement, key: &LogKey| {
        let root = said.last.unwrap().1.root;
        String::from_utf8(key.sign(1, root).unwrap()).unwrap()
    };
    let failure = fails("missing", &checkpoint).await;
    assert!(matches!(failure, LedgerFailure::Statement(BadStatement::Line { line: 1, .. })), "{failure}");
    let more = |mut said: Statement, key: &LogKey| {
        said.last.as_mut().unwrap().1.size += 1;
        said.sign(key, None).unwrap()
    };
    let failure = fails("more", &more).await;
    assert!(
        failure.to_string().contains("says that the newest checkpoint of the trail that it continues"),
        "{failure}"
    );
    let beyond = |mut said: Statement, key: &LogKey| {
        said.last.as_mut().unwrap().0 = 7;
        said.sign(key, None).unwrap()
    };
    let failure = fails("beyond", &beyond).await;
    assert!(failure.to_string().contains("record 7"), "{failure}");
    let richer = |mut said: Statement, key: &LogKey| {
        said.ledger = said.trail.trail.to_string().parse().unwrap();
        said.sign(key, None).unwrap()
    };
    let failure = fails("richer", &richer).await;
    assert!(matches!(failure, LedgerFailure::Contradicted { .. }), "{failure}");
    let another_key = log_key(&bench.path("another"));
    let failure = fails("signed by another", &|said, key| said.sign(key, Some(&another_key)).unwrap()).await;
    assert!(failure.to_string().contains("must be signed by"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_trail_that_cannot_be_read_makes_it_unknown_but_the_new_one_still_vouches() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let data_dir = bench.path("new");
    let other_chain = |mut said: Statement, key: &LogKey| {
        said.trail.chain = "00000000".to_owned();
        said.sign(key, None).unwrap()
    };
    forged(&bench, &data_dir, (&old_dir, old), other_chain).await;
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.records, ledger.continued.len()), (2, 0));
    assert!(ledger.untold.unwrap().contains("00000000"));
    let (code, said) = verify_log(&bench, &data_dir);
    assert!(code == Some(2) && said.contains("THE TRAILS BEFORE COULD NOT BE TOLD"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_three_trails_is_followed_to_its_end() {
    let bench = Bench::new().await;
    let (first_dir, first) = with_records(&bench, "first").await;
    let second = go_on(&bench, &first_dir, first, None, None).await.unwrap().report.trail;
    // The second holds no checkpoint when the third continues it.
    let third_dir = bench.path("third");
    let made = go_on(&bench, &third_dir, second, Some(&log_key(&first_dir)), None).await.unwrap();
    assert_eq!((made.statement.last, made.is_signed), (None, true));
    bench.log_and_notarize(&third_dir, &["60000"]).await;
    let (_, ledger) = verified(&bench, &third_dir).await;
    let links: Vec<_> = ledger.continued.iter().map(|link| (&link.trail, link.signed, link.records)).collect();
    assert_eq!(links, [(&second.to_string(), true, 0), (&first.to_string(), true, 2)]);

    // The same log three times: all its records count.
    let fourth = go_on(&bench, &first_dir, second, None, None).await.unwrap().report.trail;
    let (_, ledger) = verified(&bench, &first_dir).await;
    assert_eq!((ledger.trail, ledger.continued.len()), (fourth.to_string(), 2));
    assert_eq!((ledger.newest.unwrap().trail, ledger.not_notarized), (first.to_string(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_added_to_the_old_trail_afterwards_is_told_and_what_the_log_key_signed_is_compared() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let other_history = String::from_utf8(log_key(&data_dir).sign(2, Hash([7; 32])).unwrap()).unwrap();
    go_on(&bench, &data_dir, old, None, None).await.unwrap();
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    add_to_old(&bench, &data_dir, old, "rubbish of a thief").await;
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.continued[0].records, ledger.continued[0].added_later), (2, 1));
    let (code, said) = verify_log(&bench, &data_dir);
    assert!(code == Some(0) && said.contains("1 RECORDS WERE ADDED TO IT LATER"), "{said}");

    add_to_old(&bench, &data_dir, old, &other_history).await;
    let failure = bench.verify(&data_dir).await.unwrap_err();
    assert!(failure.to_string().contains("log rewritten: record 3"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_who_writes_into_a_trail_cannot_keep_it_from_being_continued() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let mut thief = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap();
    thief.append(&NewRecord { text: "rubbish".to_owned(), metadata: None }).await.unwrap();
    drop(thief);
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.records, ledger.foreign), (3, 1));
    let made = go_on(&bench, &data_dir, old, None, None).await.unwrap();
    assert_eq!(made.statement.last.map(|(number, _)| number), Some(1));
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.continued[0].records, ledger.continued[0].not_named), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_behind_what_a_thief_wrote_into_a_trail_are_continued_too() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let mut recorder = bench.recorder(&data_dir);
    log(&mut recorder, 3, "60000");
    let record = recorder.record_for_ledger(at(3)).unwrap().unwrap();
    drop(recorder);
    let mut ledger = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap();
    ledger.append(&NewRecord { text: "rubbish".to_owned(), metadata: None }).await.unwrap();
    ledger.append(&record).await.unwrap();
    drop(ledger);
    let made = go_on(&bench, &data_dir, old, None, None).await.unwrap();
    assert_eq!(made.statement.last.map(|(number, head)| (number, head.size)), Some((3, 3)));
    let (_, ledger) = verified(&bench, &data_dir).await;
    let [link] = &ledger.continued[..] else { panic!("{:?}", ledger.continued) };
    assert_eq!((link.records, link.foreign, link.not_named, ledger.not_notarized), (3, 1, 0, 0));
    let (code, said) = verify_log(&bench, &data_dir);
    let told = format!("1 RECORD OF TRAIL {old} IS NO CHECKPOINT of its log");
    assert!(code == Some(0) && said.contains(&told), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_trail_that_says_wrong_what_it_continues_ends_the_chain_and_the_newer_ones_vouch() {
    let bench = Bench::new().await;
    let (first_dir, first) = with_records(&bench, "first").await;
    let altered = |said: Statement, key: &LogKey| said.sign(key, None).unwrap().replace("record 1", "record 0");
    let more = |mut said: Statement, key: &LogKey| {
        said.last.as_mut().unwrap().1.size += 1;
        said.sign(key, None).unwrap()
    };
    let texts: [fn(Statement, &LogKey) -> String; 2] = [altered, more];
    for (name, text) in ["altered", "more"].into_iter().zip(texts) {
        let (second_dir, third_dir) = (bench.path(name), bench.path(&format!("after {name}")));
        forged(&bench, &second_dir, (&first_dir, first), text).await;
        let second = trail_of(&bench, &second_dir);
        let mut ledger = IotaLedger::open(&second_dir, &bench.endpoints).await.unwrap();
        let text = fs::read_to_string(second_dir.join("log/checkpoint")).unwrap();
        ledger.append(&NewRecord { text, metadata: None }).await.unwrap();
        drop(ledger);
        forged(&bench, &third_dir, (&second_dir, second), |said, key| said.sign(key, None).unwrap()).await;
        let (_, ledger) = verified(&bench, &third_dir).await;
        assert_eq!((ledger.continued.len(), ledger.continued[0].trail.as_str()), (1, second.to_string().as_str()));
        assert!(ledger.untold.is_some_and(|why| why.contains("which is continued: ")));
        let (code, said) = verify_log(&bench, &third_dir);
        assert!(code == Some(2) && said.contains("THE TRAILS BEFORE COULD NOT BE TOLD"), "{said}");
    }
}

fn verify_log(bench: &Bench, data_dir: &Path) -> (Option<i32>, String) {
    let (log, policy) = (data_dir.join("log"), data_dir.join("site.policy"));
    let (log, policy) = (log.display().to_string(), policy.display().to_string());
    let output = bench.anchor(&["verify", "--log", &log, "--policy", &policy, "--grpc", &bench.endpoints.grpc[0]]);
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}
