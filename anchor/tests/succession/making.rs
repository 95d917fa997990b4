//! How a trail that continues another is made, and when it is not.

use std::fs;
use std::ops::ControlFlow;

use grid_anchor::checkpoint::LogKey;
use grid_anchor::initialise::{Continuation, InitError, Predecessor, continue_trail, initialise};
use grid_anchor::recorder::RecorderError;
use grid_anchor::succession::Statement;
use grid_ledger::{IotaLedger, Ledger, LedgerError, NewRecord, ObjectId, TrailReader, Watch};
use grid_protocol::identity::Issuer;
use grid_protocol::units::UnixMillis;

use crate::bench::{Bench, START};
use crate::street::copy_folder;
use crate::{forged, go_on, log_key, trail_of, trails, unfinished, verified, with_records};

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
async fn a_trail_that_does_not_say_what_it_continues_is_not_continued_but_the_one_before_it_is() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let (empty, altered) = (bench.path("empty"), bench.path("altered"));
    unfinished(&bench, &empty, old).await;
    let text = |said: Statement, key: &LogKey| said.sign(key, None).unwrap().replace("record 1", "record 0");
    forged(&bench, &altered, (&old_dir, old), text).await;
    let before = trails(&bench);
    let data_dir = bench.path("new");
    for middle in [&empty, &altered].map(|middle| trail_of(&bench, middle)) {
        let error = go_on(&bench, &data_dir, middle, None, None).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, InitError::NotContinuing { instead, .. } if instead == old), "{error}");
        assert!(error.to_string().contains(&format!("--continues {old}")), "{error}");
    }
    assert!(!data_dir.join("log.key").exists() && !data_dir.join("ledger.key").exists());
    assert_eq!(trails(&bench), before);
    go_on(&bench, &data_dir, old, Some(&log_key(&old_dir)), None).await.unwrap();
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert!(ledger.untold.is_none() && ledger.continued[0].signed);

    // In the folder that it was begun in, its files have to go before another one is made.
    let error = go_on(&bench, &altered, old, None, None).await.map(|_| ()).unwrap_err();
    assert!(matches!(error, InitError::Statement { .. }), "{error}");
    for file in ["ledger.json", "ledger.key"] {
        fs::remove_file(altered.join(file)).unwrap();
    }
    go_on(&bench, &altered, old, None, None).await.unwrap();
    verified(&bench, &altered).await;
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
    for lost in ["ledger.json", "ledger.key"] {
        let (data_dir, old) = with_records(&bench, lost).await;
        let old_key = fs::read(data_dir.join("ledger.key")).unwrap();
        fs::remove_file(data_dir.join(lost)).unwrap();
        let authority = bench.issuer.authority();
        let plain = initialise(&data_dir, (&bench.site, None), &authority, &bench.endpoints, None).await.unwrap_err();
        let is_refused = match &plain {
            InitError::Left(trail) => *trail == old,
            InitError::Ledger(LedgerError::Damaged { .. }) => true,
            _ => false,
        };
        assert!(is_refused, "{plain}");
        // A key that is still there is the old trail's, and does not become the new one's.
        go_on(&bench, &data_dir, old, None, None).await.unwrap();
        assert_ne!(fs::read(data_dir.join("ledger.key")).unwrap(), old_key);
        verified(&bench, &data_dir).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_authority_may_continue_a_trail_in_a_new_folder_and_that_is_said() {
    let bench = Bench::new().await;
    let (old_dir, old) = with_records(&bench, "old").await;
    let authority = Issuer::create(&bench.site, UnixMillis(START)).unwrap().authority();
    let (site, key) = ((&bench.site, None), log_key(&old_dir));
    let predecessor = Predecessor { trail: old, log_key: Some(&key) };
    let made = continue_trail(&bench.path("new"), site, &authority, &bench.endpoints, &predecessor, None).await;
    assert!(made.unwrap().other_authority.is_some());
    // The log that goes on has messages that only the old authority vouches for.
    let same_log = continue_trail(&old_dir, site, &authority, &bench.endpoints, &predecessor, None).await;
    let error = same_log.map(|_| ()).unwrap_err();
    assert!(matches!(error, InitError::Recorder(RecorderError::OtherPolicy { .. })), "{error}");
    assert!(old_dir.join("ledger.key").exists());
}

fn stop_at(at: usize) -> Watch {
    let mut steps = 0;
    Box::new(move |_| {
        steps += 1;
        if steps == at + 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}
