//! What the program says and does about trails that continue others.

use std::fs;
use std::path::Path;

use grid_ledger::ObjectId;

use crate::bench::Bench;
use crate::{go_on, trail_of, trails, verified, verify_log, with_records};

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
        let path = |name: &str| data_dir.join(name).display().to_string();
        let (log, trail) = (path("log"), trail_of(&bench, data_dir).to_string());
        let (ca, grpc) = (bench.path("ca.der").display().to_string(), bench.endpoints.grpc[0].as_str());
        let from_trail = ["verify", "--log", &log, "--network", "mock", "--trail", &trail, "--ca", &ca, "--grpc", grpc];
        let output = bench.anchor(&[&from_trail[..], &["--json"]].concat());
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let link = &json["ledger"]["continued"][0];
        assert_eq!((link["trail"].as_str(), link["records"].as_u64()), (Some(old.to_string().as_str()), Some(2)));
        assert_eq!(link["signed"].as_bool(), Some(*data_dir == signed), "{json}");
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
    let said = |index: &str, more: &[&str]| {
        let prove = ["prove", "--log", &log, "--index", index, "--out", &proof];
        assert!(bench.anchor(&[&prove[..], more].concat()).status.success());
        let output = bench.anchor(&["verify", &proof, "--policy", &policy, "--grpc", &bench.endpoints.grpc[0]]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(0) && said.contains("THE LEDGER VOUCHES FOR IT"), "{said}");
        said
    };
    let of_old = said("0", &["--checkpoint", &record]);
    assert!(of_old.contains("record 0, added ") && of_old.contains(&format!("in the sealed trail {old}")), "{of_old}");
    // Of what came later, the old trail's records say after when.
    let of_new = said("2", &[]);
    assert!(of_new.contains("record 1, added ") && of_new.contains("so the message was received after "), "{of_new}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_killed_at_any_moment_and_run_again_makes_one_trail_that_continues() {
    let bench = Bench::new().await;
    let (data_dir, old) = with_records(&bench, "anchor").await;
    let arguments = arguments(&bench, &data_dir, old);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    bench.kill_ever_later(&arguments).await;
    let first = bench.anchor(&arguments);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(bench.anchor(&arguments).stdout, first.stdout);
    assert_eq!(trails(&bench), 2);
    let (_, ledger) = verified(&bench, &data_dir).await;
    assert_eq!((ledger.records, ledger.continued.len(), ledger.continued[0].records), (1, 1, 2));
    bench.log_and_notarize(&data_dir, &["60000"]).await;
    verified(&bench, &data_dir).await;
}
