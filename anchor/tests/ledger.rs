//! A log and its trail on the mock ledger: what `verify` says when either was tampered with.

#![allow(clippy::unwrap_used)]

mod bench;
mod street;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use bench::{Bench, START, at, front_page, log, log_and_checkpoint, receipt};
use grid_anchor::checkpoint::LogKey;
use grid_anchor::notary::{News, Notary};
use grid_anchor::recorder::RecorderError;
use grid_anchor::verify::LedgerFailure;
use grid_ledger::{Endpoints, IotaLedger, Ledger, LedgerError, NewRecord, TrailReader, mock};
use grid_protocol::identity::Issuer;
use grid_protocol::units::UnixMillis;
use street::copy_folder;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_vouches_for_a_log_whose_checkpoints_it_holds() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let texts = bench.log_and_notarize(&data_dir, &["80000", "70000", "60000"]).await;
    let (report, ledger) = bench.verify(&data_dir).await.unwrap();
    let ledger = ledger.unwrap();
    assert!(report.holds);
    assert_eq!((ledger.records, ledger.not_notarized), (3, 0));
    assert_eq!(fs::read_to_string(data_dir.join("log/checkpoint")).unwrap(), texts[2]);

    let records = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap().records(0).await.unwrap();
    assert_eq!(records.iter().map(|record| record.text.clone()).collect::<Vec<_>>(), texts);
    let metadata = records[1].metadata.clone().unwrap();
    assert_eq!(metadata, "1 entry, 2027-01-15T08:02:00.000Z to 2027-01-15T08:02:00.000Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_needs_no_record() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let mut recorder = bench.recorder(&data_dir);
    assert!(recorder.record_for_ledger(at(1)).unwrap().is_none());
    log(&mut recorder, 2, "80000");
    assert!(recorder.record_for_ledger(at(2)).unwrap().is_some());
    assert!(recorder.record_for_ledger(at(3)).unwrap().is_none());
    recorder.not_notarized(None);
    assert!(recorder.record_for_ledger(at(4)).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_needs_no_record_either() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    let mut recorder = bench.recorder(&data_dir);
    recorder.tie(bench.trail(&data_dir).await).unwrap();
    assert!(recorder.record_for_ledger(at(5)).unwrap().is_none());
    log(&mut recorder, 6, "70000");
    assert!(recorder.record_for_ledger(at(6)).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_log_and_another_logs_trail_are_refused_before_anything_is_added() {
    let bench = Bench::new().await;
    let (data_dir, older) = (bench.path("anchor"), bench.path("older"));
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    copy_folder(&data_dir, &older);
    bench.log_and_notarize(&data_dir, &["70000"]).await;
    let refused = bench.recorder(&older).tie(bench.trail(&data_dir).await).unwrap_err();
    assert!(matches!(refused, RecorderError::Behind { on_ledger: 2, in_log: 1 }), "{refused}");

    let other = bench.path("other");
    bench.initialise(&other).await;
    let refused = bench.recorder(&other).tie(bench.trail(&data_dir).await).unwrap_err();
    assert!(matches!(refused, RecorderError::OtherTrail { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_is_named_by_the_log_itself() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    let bundle = data_dir.join("log/tile/entries/000.p/1");
    let mut bytes = fs::read(&bundle).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let (report, ledger) = bench.verify(&data_dir).await.unwrap();
    assert_eq!((report.holds, ledger), (false, None));
    assert_eq!(report.failure.unwrap().file, "tile/entries/000.p/1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_rewritten_with_the_true_key_is_called_rewritten() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;

    let forged = bench.with_the_true_key(&data_dir);
    let mut recorder = bench.recorder(&forged);
    log(&mut recorder, 1, "80000");
    log(&mut recorder, 2, "50000");
    recorder.record_for_ledger(at(2)).unwrap();
    drop(recorder);
    let failure = bench.verify(&forged).await.unwrap_err();
    assert!(matches!(failure, LedgerFailure::Rewritten { number: 1, tree_size: 2, .. }), "{failure}");
    assert!(failure.to_string().starts_with("log rewritten: record 1, added "), "{failure}");
    assert!(!failure.is_unknown());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_may_be_ahead_of_the_ledger_but_not_behind_it() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    copy_folder(&data_dir, &bench.path("older"));

    let mut recorder = bench.recorder(&data_dir);
    log(&mut recorder, 5, "70000");
    recorder.record_for_ledger(at(5)).unwrap();
    drop(recorder);
    let (_, ledger) = bench.verify(&data_dir).await.unwrap();
    assert_eq!(ledger.unwrap().not_notarized, 1);

    bench.log_and_notarize(&data_dir, &["60000"]).await;
    let failure = bench.verify(&bench.path("older")).await.unwrap_err();
    assert!(matches!(failure, LedgerFailure::CutShort { on_ledger: 3, in_log: 1, .. }), "{failure}");
}

/// Adds to a trail, with its key.
async fn add(bench: &Bench, data_dir: &Path, text: &str) {
    let mut ledger = IotaLedger::open(data_dir, &bench.endpoints).await.unwrap();
    ledger.append(&NewRecord { text: text.to_owned(), metadata: None }).await.unwrap();
}

fn log_key(data_dir: &Path) -> LogKey {
    LogKey::read(&fs::read_to_string(data_dir.join("log.key")).unwrap()).unwrap()
}

fn verify_log(bench: &Bench, data_dir: &Path) -> (Option<i32>, String) {
    let [log, policy] = ["log", "site.policy"].map(|name| data_dir.join(name).display().to_string());
    let output = bench.anchor(&["verify", "--log", &log, "--policy", &policy, "--grpc", &bench.endpoints.grpc[0]]);
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_but_the_ledger_key_cannot_take_from_a_log_that_the_ledger_vouches_for_it() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    let thief = LogKey::generate(&bench.site, Some(log_key(&data_dir).origin())).unwrap();
    let root = tlog_tiles::Hash([7; 32]);
    for text in ["rubbish".to_owned(), String::from_utf8(thief.sign(9, root).unwrap()).unwrap()] {
        add(&bench, &data_dir, &text).await;
    }
    let mut recorder = bench.recorder(&data_dir);
    log(&mut recorder, 3, "70000");
    let record = recorder.record_for_ledger(at(3)).unwrap().unwrap();
    drop(recorder);
    add(&bench, &data_dir, &record.text).await;
    let (_, ledger) = bench.verify(&data_dir).await.unwrap();
    let ledger = ledger.unwrap();
    let newest = ledger.newest.unwrap();
    assert_eq!((ledger.records, ledger.foreign, ledger.not_notarized), (4, 2, 0));
    assert_eq!((newest.number, newest.tree_size), (3, 2));
    let (code, said) = verify_log(&bench, &data_dir);
    assert!(code == Some(0) && said.contains("THE LEDGER VOUCHES FOR IT"), "{said}");
    let trail = bench.policy(&data_dir).trail.unwrap().trail;
    assert!(said.contains(&format!("2 RECORDS OF TRAIL {trail} ARE NO CHECKPOINTS of this log")), "{said}");

    // The anchor itself adds nothing behind what it does not know.
    add(&bench, &data_dir, "rubbish again").await;
    let refused = bench.recorder(&data_dir).tie(bench.trail(&data_dir).await).unwrap_err();
    assert!(matches!(refused, RecorderError::NewestRecord(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_in_which_nothing_is_of_the_log_does_not_vouch_for_it() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    log_and_checkpoint(&mut bench.recorder(&data_dir), 1, "80000");
    let (_, ledger) = bench.verify(&data_dir).await.unwrap();
    assert_eq!(ledger.map(|ledger| (ledger.records, ledger.not_notarized)), Some((0, 1)));
    add(&bench, &data_dir, "rubbish").await;
    let failure = bench.verify(&data_dir).await.unwrap_err();
    assert!(matches!(failure, LedgerFailure::NoCheckpoint { records: 1, .. }), "{failure}");
    let (code, said) = verify_log(&bench, &data_dir);
    assert!(code == Some(1) && said.contains("THE LEDGER DOES NOT VOUCH FOR IT: none of the 1 records"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_key_signed_must_fit_also_behind_what_it_did_not() {
    let bench = Bench::new().await;
    for (name, size, root) in [("shorter", 1, Some([7; 32])), ("longer", 3, None), ("other", 2, Some([7; 32]))] {
        let data_dir = bench.path(name);
        bench.initialise(&data_dir).await;
        let texts = bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;
        add(&bench, &data_dir, "rubbish").await;
        let key = log_key(&data_dir);
        let root = root.map_or_else(|| key.public().open(texts[0].as_bytes()).unwrap().root, tlog_tiles::Hash);
        add(&bench, &data_dir, &String::from_utf8(key.sign(size, root).unwrap()).unwrap()).await;
        let failure = bench.verify(&data_dir).await.unwrap_err();
        let fits = match failure {
            LedgerFailure::Rewritten { number: 3, tree_size: 1, .. } => name == "shorter",
            LedgerFailure::CutShort { number: 3, on_ledger: 3, in_log: 2, .. } => name == "longer",
            LedgerFailure::Rewritten { number: 3, tree_size: 2, .. } => name == "other",
            _ => false,
        };
        assert!(fits, "{name}: {failure}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_checkpoint_that_somebody_adds_again_is_counted_and_changes_nothing() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let texts = bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;
    add(&bench, &data_dir, &texts[0]).await;
    let (report, ledger) = bench.verify(&data_dir).await.unwrap();
    let ledger = ledger.unwrap();
    assert!(report.holds);
    assert_eq!((ledger.records, ledger.foreign, ledger.not_notarized), (3, 1, 0));
    assert_eq!(ledger.newest.unwrap().number, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_trail_no_trail_and_no_ledger_are_three_different_answers() {
    let bench = Bench::new().await;
    let (ours, theirs) = (bench.path("ours"), bench.path("theirs"));
    bench.initialise(&ours).await;
    bench.initialise(&theirs).await;
    bench.log_and_notarize(&ours, &["80000"]).await;

    let mut policy = bench.policy(&ours);
    policy.trail = bench.policy(&theirs).trail;
    fs::write(ours.join("site.policy"), policy.to_string()).unwrap();
    let failure = bench.verify(&ours).await.unwrap_err();
    assert!(matches!(failure, LedgerFailure::OtherLog { .. }) && !failure.is_unknown(), "{failure}");

    policy.trail.as_mut().unwrap().trail = "0x7".parse().unwrap();
    fs::write(ours.join("site.policy"), policy.to_string()).unwrap();
    let failure = bench.verify(&ours).await.unwrap_err();
    assert!(matches!(failure, LedgerFailure::Ledger(LedgerError::NoSuchTrail { .. })), "{failure}");
    assert!(!failure.is_unknown());

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = Endpoints::mock(nobody.local_addr().unwrap());
    drop(nobody);
    let failure = TrailReader::open(&gone, None, "0x7".parse().unwrap()).await.map_err(LedgerFailure::from);
    assert!(failure.err().unwrap().is_unknown());
}

#[tokio::test]
async fn a_record_that_could_not_be_added_is_told_and_the_next_one_is_added_when_the_ledger_is_back() {
    let mut bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let mut notary = Notary::start(bench.notary(&data_dir));
    assert!(matches!(notary.news().await, News::Opened(_)));
    let address: SocketAddr = bench.endpoints.grpc[0].trim_start_matches("http://").parse().unwrap();
    bench.mock.abort();
    let _ = (&mut bench.mock).await;
    for number in 0..2 {
        notary.hand_in(NewRecord { text: format!("lost {number}"), metadata: None });
        match notary.news().await {
            News::NotAdded(error) => assert!(error.is_transient(), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    let listener = TcpListener::bind(address).await.unwrap();
    let state = bench.path("mock.state");
    bench.mock = tokio::spawn(async move { mock::run(listener, &state, std::future::pending()).await.unwrap() });
    notary.hand_in(NewRecord { text: "covers all".to_owned(), metadata: None });
    match notary.news().await {
        News::Added(receipt) => assert_eq!(receipt.record, 0),
        other => panic!("{other:?}"),
    }
    notary.close().await;
}

#[tokio::test]
async fn an_anchor_with_a_copy_of_the_key_is_refused_at_its_start() {
    let bench = Bench::new().await;
    let (data_dir, copy) = (bench.path("anchor"), bench.path("copy"));
    bench.initialise(&data_dir).await;
    fs::create_dir_all(&copy).unwrap();
    for file in ["ledger.key", "ledger.json"] {
        fs::copy(data_dir.join(file), copy.join(file)).unwrap();
    }
    let mut ledger = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap();
    ledger.append(&NewRecord { text: "by the first".to_owned(), metadata: None }).await.unwrap();
    let mut notary = Notary::start(bench.notary(&copy));
    let refused = notary.news().await;
    assert!(matches!(refused, News::Refused(LedgerError::OtherWriter { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_of_the_program_killed_at_any_moment_and_run_again_makes_one_trail() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    let ca = bench.path("ca.der");
    fs::write(&ca, bench.issuer.authority().der()).unwrap();
    let grpc = bench.endpoints.grpc[0].clone();
    let (ca, dir) = (ca.display().to_string(), data_dir.display().to_string());
    let arguments = ["init", "--network", "mock", "--site", "demo", "--ca", &ca, "--data-dir", &dir, "--grpc", &grpc];
    bench.kill_ever_later(&arguments).await;
    let first = bench.anchor(&arguments);
    assert!(first.status.success(), "{first:?}");
    let again = bench.anchor(&arguments);
    assert_eq!(again.stdout, first.stdout);
    let printed = String::from_utf8(first.stdout).unwrap();
    let trail = bench.policy(&data_dir).trail.unwrap().trail.to_string();
    assert!(printed.contains(&trail) && printed.contains("NOT IOTA"), "{printed}");
    let page = front_page(grpc.trim_start_matches("http://"));
    assert_eq!(page.matches("/object/").count(), 1, "{page}");
    for secret in ["log.key", "ledger.key", "message.key"] {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(data_dir.join(secret)).unwrap().permissions().mode() & 0o777, 0o600, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_says_with_its_exit_code_whether_the_ledger_vouches() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    drop(bench.recorder(&data_dir));
    let (log, policy) =
        (data_dir.join("log").display().to_string(), data_dir.join("site.policy").display().to_string());
    let verify = |more: &[&str]| {
        let arguments = [&["verify", "--log", &log, "--policy", &policy], more].concat();
        let output = bench.anchor(&arguments);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let grpc = bench.endpoints.grpc[0].as_str();
    let (code, said) = verify(&["--network", "mock", "--grpc", grpc]);
    assert!(code == Some(2) && said.contains("NOTHING OF IT IS ON THE LEDGER YET"), "{said}");
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    let (code, said) = verify(&["--network", "mock", "--grpc", grpc]);
    assert!(code == Some(0) && said.contains("THE LEDGER VOUCHES FOR IT"), "{said}");
    let (code, said) = verify(&[]);
    assert!(code == Some(0) && said.contains("add --network mock"), "{said}");
    let (code, said) = verify(&["--grpc", grpc, "--trail", "0x7"]);
    assert!(code == Some(1) && said.contains("no such trail"), "{said}");
    let (code, said) = verify(&["--network", "mock", "--grpc", "http://127.0.0.1:1"]);
    assert!(code == Some(2) && said.contains("cannot reach") && said.contains("HOLDS"), "{said}");
    let (code, said) = verify(&["--grpc", grpc, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["holds"], &json["ledger"]["records"]), (Some(0), &true.into(), &1.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_policy_the_trail_and_the_authoritys_certificate_say_who_vouches() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000"]).await;
    let trail = bench.policy(&data_dir).trail.unwrap().trail.to_string();
    let (ca, other) = (bench.path("ca.der"), bench.path("other.der"));
    fs::write(&ca, bench.issuer.authority().der()).unwrap();
    fs::write(&other, Issuer::create(&bench.site, UnixMillis(START)).unwrap().authority().der()).unwrap();
    let log = data_dir.join("log").display().to_string();
    let verify = |ca: Option<&Path>| {
        let ca = ca.map(|ca| ca.display().to_string());
        let mut arguments = vec!["verify", "--log", &log, "--network", "mock", "--trail", &trail];
        arguments.extend(["--grpc", bench.endpoints.grpc[0].as_str()]);
        arguments.extend(ca.iter().flat_map(|ca| ["--ca", ca]));
        let output = bench.anchor(&arguments);
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = verify(Some(&ca));
    assert!(code == Some(0) && said.contains("HOLDS") && said.contains("THE LEDGER VOUCHES FOR IT"), "{said}");
    let (code, said) = verify(Some(&other));
    assert!(code == Some(2) && said.contains("the trail names an authority"), "{said}");
    let (code, said) = verify(None);
    assert!(code == Some(2) && said.contains("--ca with the certificate"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_says_of_a_proof_whether_it_knows_its_checkpoint_and_when_the_message_came() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let texts = bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;
    let log = data_dir.join("log").display().to_string();
    let policy = data_dir.join("site.policy").display().to_string();
    let (proof, record) = (bench.path("x.tlog-proof").display().to_string(), bench.path("record"));
    let prove = |more: &[&str]| {
        let output = bench.anchor(&[&["prove", "--log", &log, "--index", "0", "--out", &proof], more].concat());
        assert!(output.status.success(), "{output:?}");
    };
    let grpc = bench.endpoints.grpc[0].as_str();
    let verify = || {
        let output = bench.anchor(&["verify", &proof, "--policy", &policy, "--network", "mock", "--grpc", grpc]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    prove(&[]);
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("record 1, added ") && said.contains("THE LEDGER VOUCHES"), "{said}");
    // The bench's clock is years ahead of the ledger's.
    assert!(said.contains("THAT IS NOT WHEN THE ANCHOR SAYS"), "{said}");

    let mut recorder = bench.recorder(&data_dir);
    log_and_checkpoint(&mut recorder, 5, "60000");
    prove(&[]);
    let (code, said) = verify();
    assert!(code == Some(2) && said.contains("NO RECORD AS NEW"), "{said}");
    fs::write(&record, &texts[0]).unwrap();
    prove(&["--checkpoint", &record.display().to_string()]);
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("record 0, added ") && said.contains("HOLDS"), "{said}");
    drop(recorder);

    bench.log_and_notarize(&data_dir, &["50000"]).await;
    let middle = bench.policy(&data_dir);
    assert!(middle.trail.is_some());
    let (code, said) = verify();
    assert!(code == Some(0) && said.contains("record 0, added "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_under_a_head_that_the_ledger_knows_otherwise_is_worth_nothing() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    bench.log_and_notarize(&data_dir, &["80000", "70000"]).await;
    let forged = bench.with_the_true_key(&data_dir);
    let mut recorder = bench.recorder(&forged);
    log(&mut recorder, 1, "80000");
    log_and_checkpoint(&mut recorder, 2, "50000");
    drop(recorder);
    let (log, policy) = (forged.join("log").display().to_string(), forged.join("site.policy").display().to_string());
    let proof = bench.path("x.tlog-proof").display().to_string();
    assert!(bench.anchor(&["prove", "--log", &log, "--index", "1", "--out", &proof]).status.success());
    assert!(bench.anchor(&["verify", &proof, "--policy", &policy]).status.success(), "by itself it holds");
    let grpc = bench.endpoints.grpc[0].as_str();
    let output = bench.anchor(&["verify", &proof, "--policy", &policy, "--network", "mock", "--grpc", grpc]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("log rewritten: record 1, added "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_end_within_what_was_dropped_are_counted_and_the_others_compared() {
    let bench = Bench::new().await;
    let data_dir = bench.path("anchor");
    bench.initialise(&data_dir).await;
    let mut recorder = bench.recorder(&data_dir);
    recorder.tie(bench.trail(&data_dir).await).unwrap();
    let mut ledger = IotaLedger::open(&data_dir, &bench.endpoints).await.unwrap();
    for size in [100, 256, 300, 600] {
        for value in recorder.progress().entries..size {
            log(&mut recorder, size, &value.to_string());
        }
        let record = recorder.record_for_ledger(at(size)).unwrap().unwrap();
        ledger.append(&record).await.unwrap();
        recorder.notarized(&record.text, receipt(), at(size)).unwrap();
    }
    drop(recorder);
    for file in ["entries/000", "0/000", "entries/001", "0/001"] {
        fs::remove_file(data_dir.join("log/tile").join(file)).unwrap();
    }
    let (report, ledger) = bench.verify(&data_dir).await.unwrap();
    let ledger = ledger.unwrap();
    assert_eq!((report.holds, report.minimum_index), (true, 512));
    assert_eq!((ledger.records, ledger.not_compared, ledger.not_notarized), (4, 2, 0));
    assert!(report.messages.outside_bracket > 0, "the bench's clock is years ahead of the ledger's");
}
