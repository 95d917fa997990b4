//! Making proofs, and checking them as a stranger does.

use std::fs;

use super::answer;
use crate::source::testing::{Manner, Server};
use crate::testing::log::StreetLog;

/// Makes a proof, and returns its file.
fn prove(log: &StreetLog, more: &[&str]) -> String {
    let out = log.folder.path().join("x.tlog-proof").display().to_string();
    let folder = log.path().display().to_string();
    let (code, said) = answer(&[&["prove", "--log", &folder, "--out", &out], more].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with(&out), "{said}");
    out
}

const MESSAGE: [&str; 6] = ["--device", "cp-1", "--session", "0000000000000001", "--seq", "5"];

#[test]
fn a_stranger_reads_who_said_what_when() {
    let log = StreetLog::of_a_street();
    let proof = prove(&log, &MESSAGE);
    let policy = log.policy_file().display().to_string();
    let (code, said) = answer(&["verify", &proof, "--policy", &policy]);
    assert_eq!(code, 0, "{said}");
    for part in [
        "said by    cp-1, device: message 5 of session 0000000000000001, at 2027-01-15T08:00:00.000Z by its clock",
        "topic      grid/demo/cp-1/measurement",
        "under a checkpoint of 700 entries",
        "HOLDS",
        "The ledger was not asked",
        "Whether the certificate was revoked before, only the log tells",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let (code, said) = answer(&["verify", &proof, "--policy", &policy, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &json["holds"], &json["proven"]["spoken"]["from"]), (0, &true.into(), &"cp-1".into()));
    assert_eq!((&json["proven"]["spoken"]["role"], &json["ledger"]), (&"device".into(), &serde_json::Value::Null));
}

#[test]
fn an_entry_that_nobody_signed_is_the_anchors_word() {
    let log = StreetLog::of_a_street();
    let command = log.entries().iter().position(|entry| entry.ends_with(b"\"payload\":\"OFF\"}")).unwrap();
    let proof = prove(&log, &["--index", &command.to_string()]);
    let (code, said) = answer(&["verify", &proof, "--policy", &log.policy_file().display().to_string()]);
    assert!(code == 0 && said.contains("nobody who signed it") && said.contains("OFF"), "{said}");
}

#[test]
fn by_index_or_by_message_from_folder_or_server_the_proof_is_the_same() {
    let log = StreetLog::of_a_street();
    let by_message = fs::read(prove(&log, &MESSAGE)).unwrap();
    let index = crate::proof::Proof::read(&by_message).unwrap().index.to_string();
    assert_eq!(fs::read(prove(&log, &["--index", &index])).unwrap(), by_message);
    let server = Server::start(&log.path(), Manner { token: Some("s3cret"), ..Manner::default() });
    let token = log.folder.path().join("token");
    fs::write(&token, "s3cret\n").unwrap();
    let out = log.folder.path().join("y.tlog-proof");
    let text = |path: &std::path::Path| path.display().to_string();
    let (policy, token, file) = (text(&log.policy_file()), text(&token), text(&out));
    let url = server.url();
    let arguments = ["prove", "--log", &url, "--policy", &policy, "--token-file", &token, "--out", &file];
    let (code, said) = answer(&[&arguments[..], &MESSAGE].concat());
    assert_eq!(code, 0, "{said}");
    assert_eq!(fs::read(out).unwrap(), by_message);
    let (code, said) = answer(&["verify", "--log", &url, "--policy", &policy, "--token-file", &token]);
    assert!(code == 0 && said.contains("HOLDS"), "{said}");
}

#[test]
fn what_proves_nothing_has_exit_code_1_and_what_nobody_vouches_for_2() {
    let log = StreetLog::of_a_street();
    let proof = prove(&log, &MESSAGE);
    let policy = log.policy_file().display().to_string();
    let (code, said) = answer(&["verify", &proof]);
    assert!(code == 2 && said.contains("internally consistent, but nobody vouches for key demo-"), "{said}");
    let other = StreetLog::of(3);
    let (code, said) = answer(&["verify", &proof, "--policy", &other.policy_file().display().to_string()]);
    assert!(code == 1 && said.starts_with("DOES NOT HOLD: its checkpoint is not this log's"), "{said}");
    let good = fs::read_to_string(&proof).unwrap();
    let index = good.lines().nth(2).unwrap();
    fs::write(&proof, good.replace(index, "index 1")).unwrap();
    for arguments in [&["verify", &proof, "--policy", &policy][..], &["verify", &proof]] {
        let (code, said) = answer(arguments);
        assert!(code == 1 && said.contains("entry 1 of the 700 under its checkpoint is not this one"), "{said}");
    }
    fs::write(&proof, "no proof").unwrap();
    let (code, said) = answer(&["verify", &proof, "--policy", &policy, "--json"]);
    assert!(code == 1 && said.contains("its first line is not c2sp.org/tlog-proof@v1"), "{said}");
    let (code, said) = answer(&["verify", "/nonexistent/x.tlog-proof", "--policy", &policy]);
    assert!(code == 2 && said.contains("cannot read"), "{said}");
}

#[test]
fn what_is_not_there_is_refused_and_nothing_is_written() {
    let log = StreetLog::of_a_street();
    let folder = log.path().display().to_string();
    let out = log.folder.path().join("none");
    let file = out.display().to_string();
    let refused = |more: &[&str]| {
        let (code, said) = answer(&[&["prove", "--log", &folder, "--out", &file], more].concat());
        assert!(code == 2 && !out.exists(), "{said}");
        said
    };
    let session = "0000000000000001";
    let said = refused(&["--device", "cp-1", "--session", session, "--seq", "5000"]);
    assert!(said.contains("there is no message 5000 of cp-1 in session 0000000000000001"), "{said}");
    let said = refused(&["--index", "700"]);
    assert!(said.contains("entry 700 is not under this checkpoint of 700 entries"), "{said}");
    log.drop_bundles(1);
    let said = refused(&["--index", "255"]);
    assert!(said.contains("entry 255 was dropped: the log holds entries from 256 on"), "{said}");
    fs::remove_file(log.policy_file()).unwrap();
    let said = refused(&["--index", "600"]);
    assert!(said.contains("give --policy"), "{said}");
}
