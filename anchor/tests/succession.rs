//! A trail that continues another, on the mock ledger: how it is made, and what `verify` says of it.

#![allow(clippy::unwrap_used)]

mod bench;
mod street;

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bench::{Bench, front_page, log, log_and_checkpoint};
use grid_anchor::checkpoint::LogKey;
use grid_anchor::initialise::{Continuation, InitError, Predecessor, continue_trail, initialise};
use grid_anchor::inscription::Inscription;
use grid_anchor::policy::{Policy, TrailAddress};
use grid_anchor::recorder::RecorderError;
use grid_anchor::succession::{BadStatement, Statement};
use grid_anchor::verify::{LedgerFailure, LedgerReport, Report};
use grid_ledger::{InitSettings, IotaLedger, Ledger, LedgerError, NewRecord, ObjectId, TrailReader, Watch, init};
use street::copy_folder;

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

fn stop_at(at: usize) -> Watch {
    let mut steps = 0;
    Box::new(move |_| {
        steps += 1;
        if steps == at + 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
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
async fn what_does_not_fit_is_refused_before_anything_is_made() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let copy = bench.path("copy");
    copy_folder(&old_dir, &copy);
    bench.log_and_notarize(&old_dir, &["60000"]).await;
    let data_dir = bench.path("new");
    let refused = |outcome: Result<Continuation, InitError>| outcome.map(|_| ()).unwrap_err();

    let other = LogKey::generate(&bench.site, None).unwrap();
    let error = refused(go_on(&bench, &data_dir, old, Some(&other), None).await);
    let said = error.to_string();
    assert!(said.contains(other.public().vkey()) && said.contains(log_key(&old_dir).public().vkey()), "{said}");
    let error = refused(go_on(&bench, &copy, old, None, None).await);
    assert!(matches!(error, InitError::Behind { on_ledger: 3, in_log: 2 }), "{error}");
    assert!(copy.join("ledger.key").exists());

    let (site, authority) = (&bench.site, bench.issuer.authority());
    let predecessor = Predecessor { trail: old, log_key: None };
    let same_name = Some(log_key(&old_dir).origin().to_owned());
    let site_origin = (site, same_name.as_deref());
    let error = continue_trail(&data_dir, site_origin, &authority, &bench.endpoints, &predecessor, None).await;
    assert!(matches!(refused(error), InitError::SameOrigin(_)));
    let another = "another".parse().unwrap();
    let error = continue_trail(&data_dir, (&another, None), &authority, &bench.endpoints, &predecessor, None).await;
    assert!(matches!(refused(error), InitError::OtherSite { .. }));
    assert!(!data_dir.join("log.key").exists() && !data_dir.join("ledger.key").exists());

    let error = refused(go_on(&bench, &data_dir, ObjectId::CLOCK, None, None).await);
    assert!(matches!(error, InitError::Predecessor { .. }), "{error}");
    let (theirs, _) = with_records(&bench, "theirs").await;
    let error = refused(go_on(&bench, &theirs, old, None, None).await);
    assert!(matches!(error, InitError::OtherTrail { .. }), "{error}");
    fs::remove_file(copy.join("log.key")).unwrap();
    let error = refused(go_on(&bench, &copy, old, None, None).await);
    assert!(matches!(error, InitError::LogWithoutKey), "{error}");
    assert_eq!(trails(&bench), 2);
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
    let other_history = String::from_utf8(log_key(&data_dir).sign(2, tlog_root(7)).unwrap()).unwrap();
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

fn tlog_root(byte: u8) -> tlog_tiles::Hash {
    tlog_tiles::Hash([byte; 32])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_who_writes_into_a_trail_cannot_keep_it_from_being_continued() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let mut thief = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap();
    thief.append(&NewRecord { text: "rubbish".to_owned(), metadata: None }).await.unwrap();
    drop(thief);
    assert!(bench.verify(&data_dir).await.is_err());
    let made = go_on(&bench, &data_dir, old, None, None).await.unwrap();
    assert_eq!(made.statement.last.map(|(number, _)| number), Some(1));
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.continued[0].records, ledger.continued[0].not_named), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn making_it_stopped_anywhere_ends_with_one_trail_and_one_first_record() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let old_key = log_key(&old_dir);
    for same_log in [true, false] {
        for at in 0.. {
            let data_dir = bench.path(&format!("{same_log} {at}"));
            if same_log {
                copy_folder(&old_dir, &data_dir);
            }
            let key = (!same_log).then_some(&old_key);
            let before = trails(&bench);
            let stopped = go_on(&bench, &data_dir, old, key, Some(stop_at(at))).await;
            if stopped.is_ok() {
                assert!(at >= 12, "only {at} steps");
                break;
            }
            assert!(matches!(stopped, Err(InitError::Ledger(LedgerError::Stopped(_)))));
            let made = go_on(&bench, &data_dir, old, key, None).await.unwrap();
            assert_eq!((made.is_signed, trails(&bench) - before), (true, 1), "stopped at {at}");
            let mut ledger = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap();
            assert_eq!(ledger.records(0).await.unwrap().len(), 1, "stopped at {at}");
            assert_ne!(made.report.address, creator(&bench, old).await);
            ledger.append(&NewRecord { text: "it can be added to".to_owned(), metadata: None }).await.unwrap();
        }
    }
}

async fn creator(bench: &Bench, trail: ObjectId) -> grid_ledger::Address {
    TrailReader::open(&bench.endpoints, None, trail).await.unwrap().seal().await.unwrap().creator
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_added_to_a_trail_before_it_says_what_it_continues() {
    let bench = Bench::new().await;
    let (_, old) = with_records(&bench, "old").await;
    let data_dir = bench.path("new");
    let (policy, _) = unfinished(&bench, &data_dir, old).await;
    let refused = bench.recorder(&data_dir).tie(bench.trail(&data_dir).await).unwrap_err();
    assert!(matches!(refused, RecorderError::NoStatement(trail) if trail == old), "{refused}");
    assert!(bench.verify(&data_dir).await.unwrap_err().is_unknown());
    let authority = bench.issuer.authority();
    let plain = initialise(&data_dir, (&bench.site, None), &authority, &bench.endpoints, None).await;
    assert!(matches!(plain, Err(InitError::Unfinished(trail)) if trail == old), "{plain:?}");

    let made = go_on(&bench, &data_dir, old, None, None).await.unwrap();
    assert_eq!(Some(made.report.trail), policy.trail.map(|trail| trail.trail));
    bench.recorder(&data_dir).tie(bench.trail(&data_dir).await).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_anchor_whose_log_is_behind_the_old_trail_does_not_begin_the_new_one() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let older = bench.path("older");
    copy_folder(&data_dir, &older);
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    go_on(&bench, &data_dir, old, None, None).await.unwrap();
    let refused = bench.recorder(&older).tie(bench.trail(&data_dir).await).unwrap_err();
    assert!(matches!(refused, RecorderError::Behind { on_ledger: 3, in_log: 2 }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_whose_files_are_gone_is_not_silently_followed_by_an_unconnected_one() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let old_key = fs::read(data_dir.join("ledger.key")).unwrap();
    fs::remove_file(data_dir.join("ledger.json")).unwrap();
    let authority = bench.issuer.authority();
    let plain = initialise(&data_dir, (&bench.site, None), &authority, &bench.endpoints, None).await;
    assert!(matches!(plain, Err(InitError::Left(trail)) if trail == old), "{plain:?}");
    // The key that is still there is the old trail's, and does not become the new one's.
    go_on(&bench, &data_dir, old, None, None).await.unwrap();
    assert_ne!(fs::read(data_dir.join("ledger.key")).unwrap(), old_key);
    verified(&bench, &data_dir).await;
}

fn verify_log(bench: &Bench, data_dir: &Path) -> (Option<i32>, String) {
    let (log, policy) = (data_dir.join("log"), data_dir.join("site.policy"));
    let (log, policy) = (log.display().to_string(), policy.display().to_string());
    let output = bench.anchor(&["verify", "--log", &log, "--policy", &policy, "--grpc", &bench.endpoints.grpc[0]]);
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

/// The arguments of `init --continues` in a folder.
fn arguments(bench: &Bench, data_dir: &Path, old: ObjectId) -> Vec<String> {
    let ca = bench.path("ca.der");
    fs::write(&ca, bench.issuer.authority().der()).unwrap();
    let (ca, dir) = (ca.display().to_string(), data_dir.display().to_string());
    let (grpc, old) = (bench.endpoints.grpc[0].clone(), old.to_string());
    let words = ["init", "--network", "mock", "--site", "demo", "--ca", &ca, "--data-dir", &dir, "--grpc", &grpc];
    words.into_iter().chain(["--continues", &old]).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_what_it_makes_of_an_old_trail_and_what_the_link_is_worth() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let run = |data_dir: &Path, more: &[&str]| {
        let arguments = arguments(&bench, data_dir, old);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let output = bench.anchor(&arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (signed, unsigned, wrong) = (bench.path("signed"), bench.path("unsigned"), bench.path("wrong"));
    let key = old_dir.join("log.key").display().to_string();
    let (code, said) = run(&signed, &["--old-log-key", &key]);
    assert!(code == Some(0) && said.contains("SIGNED by the old log's key"), "{said}");
    let (code, said) = run(&unsigned, &[]);
    assert!(code == Some(0) && said.contains("UNSIGNED: whoever made the new trail says so, nobody else"), "{said}");
    let new_key = signed.join("log.key").display().to_string();
    let (code, said) = run(&wrong, &["--old-log-key", &new_key]);
    assert!(code == Some(2) && said.contains("nothing was made"), "{said}");

    for (data_dir, expected) in [(&signed, "SIGNED by the key of its log"), (&unsigned, "NOBODY ELSE")] {
        bench.log_and_notarize(data_dir, &["60000"]).await;
        let (code, said) = verify_log(&bench, data_dir);
        assert!(code == Some(0) && said.contains(expected), "{said}");
        assert!(said.contains(&format!("continues  the sealed trail {old}")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_under_a_record_of_the_old_trail_stays_one() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let texts = bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;
    let old = trail_of(&bench, &data_dir);
    go_on(&bench, &data_dir, old, None, None).await.unwrap();
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    let path = |name: &str| bench.path(name).display().to_string();
    let (log, policy) = (path("anchor/log"), path("anchor/site.policy"));
    let (proof, record) = (path("x.tlog-proof"), path("record"));
    fs::write(&record, &texts[0]).unwrap();
    let prove = ["prove", "--log", &log, "--index", "0", "--out", &proof, "--checkpoint", &record];
    assert!(bench.anchor(&prove).status.success());
    let output = bench.anchor(&["verify", &proof, "--policy", &policy, "--grpc", &bench.endpoints.grpc[0]]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(0) && said.contains("THE LEDGER VOUCHES FOR IT"), "{said}");
    assert!(said.contains("record 0, added ") && said.contains(&format!("in the sealed trail {old}")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_killed_at_any_moment_and_run_again_makes_one_trail_that_continues() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let arguments = arguments(&bench, &data_dir, old);
    let mut kills = 0;
    for millis in (0..).step_by(4) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_grid-anchor")).args(&arguments).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 1, "init was done before it could be killed");
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = bench.anchor(&arguments);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(bench.anchor(&arguments).stdout, first.stdout);
    assert_eq!(trails(&bench), 2);
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.records, ledger.continued.len(), ledger.continued[0].records), (1, 1, 2));
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    verified(&bench, &data_dir).await;
}
