//! Every entry of a log can be proven, and a proof of which anything is changed proves nothing.

use std::fs;

use grid_protocol::identity::Issuer;
use grid_protocol::message::{Event, Role, Session};
use grid_protocol::units::UnixMillis;

use super::*;
use crate::checkpoint::LogKey;
use crate::notice::Notice;
use crate::policy::Policy;
use crate::source::testing::{Manner, Server};
use crate::source::{FileError, Folder};
use crate::speech::Unverified;
use crate::testing::log::StreetLog;
use crate::testing::{START, name};
use crate::verify::Bracket;

fn wanted(device: &str, session: u64, seq: u64) -> Wanted {
    Wanted { device: name(device), session: Session(session), seq }
}

fn prove_message(log: &StreetLog, wanted: &Wanted) -> Proof {
    let (source, policy) = (Folder::new(log.path()), log.policy());
    let found = find(&source, &log.checkpoint(), &policy, wanted, None).unwrap();
    let proof = prove(&source, &log.checkpoint(), found.index).unwrap();
    Proof { certificate: Some(found.certificate), ..proof }
}

fn check(proof: &Proof, policy: &Policy) -> Result<Proven, BadProof> {
    check_proof(proof, policy, Bracket::default())
}

#[test]
fn a_message_is_found_and_proven_to_a_stranger_who_has_only_the_policy() {
    let log = StreetLog::of_a_street();
    let file = prove_message(&log, &wanted("cp-2", 2, 100)).write();
    let proof = Proof::read(&file).unwrap();
    let proven = check(&proof, &Policy::read(&log.policy().to_string()).unwrap()).unwrap();
    let spoken = proven.spoken.unwrap();
    assert_eq!((proven.topic.as_str(), proven.tree_size), ("grid/demo/cp-2/measurement", 700));
    assert_eq!(
        (spoken.from, spoken.role, spoken.session, spoken.seq),
        (name("cp-2"), Role::Device, Session(2), Some(100))
    );
    assert!(proven.payload.contains("\"current_ma\":[11950]"));
    assert_eq!(log.entries()[proven.index as usize], proof.entry);
}

#[test]
fn a_setpoint_is_its_transformers_word_on_another_devices_topic() {
    let log = StreetLog::of_a_street();
    let proven = check(&prove_message(&log, &wanted("trafo-1", 3, 42)), &log.policy()).unwrap();
    assert!(proven.topic.ends_with("/setpoint"));
    assert_eq!(proven.spoken.unwrap().from, name("trafo-1"));
}

#[test]
fn every_entry_of_logs_around_the_edges_of_tiles_can_be_proven_from_folder_and_server() {
    let log = StreetLog::of(514);
    let (entries, key) = (log.entries(), log.key());
    for size in [1, 2, 3, 255, 256, 257, 511, 512, 513] {
        log.rewrite(&entries[..size], &key);
        let server = Server::start(&log.path(), Manner::default());
        let web = crate::source::Web::new(&server.url(), None).unwrap();
        for index in (0..size).filter(|index| index % 85 < 2 || index + 3 > size) {
            let proof = prove(&Folder::new(log.path()), &log.checkpoint(), index as u64).unwrap();
            assert_eq!(proof.entry, entries[index]);
            assert_eq!(Proof::read(&proof.write()).as_ref(), Ok(&proof));
            assert!(check_inclusion(&proof, &log.policy().log.open(&log.checkpoint()).unwrap()).is_ok());
            assert_eq!(prove(&web, &log.checkpoint(), index as u64).unwrap(), proof);
        }
    }
}

#[test]
fn a_proof_under_an_older_checkpoint_needs_no_older_files() {
    let log = StreetLog::of(300);
    let older = log.checkpoint();
    log.record(202, |desk| (0..300).for_each(|_| desk.say_raw("grid/demo/cp-1/set/charging", b"ON")));
    let source = Folder::new(log.path());
    for index in [0, 255, 256, 299] {
        let proof = prove(&source, &older, index).unwrap();
        assert_eq!(log.policy().log.open(&proof.checkpoint).unwrap().size, 300);
    }
    assert!(matches!(prove(&source, &older, 300), Err(ProveError::NotCovered { index: 300, size: 300 })));
}

#[test]
fn every_changed_bit_of_a_proof_is_noticed() {
    let log = StreetLog::of(7);
    let policy = log.policy();
    let file = prove_message(&log, &wanted("cp-1", 1, 3)).write();
    for at in 0..file.len() {
        for bit in 0..8 {
            let mut bad = file.clone();
            bad[at] ^= 1 << bit;
            // What is changed in the certificate is refused by its signature, in base64's last bits by its spelling.
            let holds = Proof::read(&bad).is_ok_and(|proof| check(&proof, &policy).is_ok());
            assert!(!holds, "bit {bit} of byte {at}");
        }
    }
    for end in 0..file.len() {
        assert!(!Proof::read(&file[..end]).is_ok_and(|proof| check(&proof, &policy).is_ok()), "cut at {end}");
    }
}

#[test]
fn what_is_no_proof_is_refused_with_its_reason() {
    let log = StreetLog::of(7);
    let good = String::from_utf8(prove_message(&log, &wanted("cp-1", 1, 3)).write()).unwrap();
    let extra = good.lines().nth(1).unwrap();
    let hash = good.lines().nth(3).unwrap();
    let many = format!("{hash}\n").repeat(65);
    for (bad, why) in [
        (good.replace("@v1", "@v2"), Malformed::Header),
        (good.replace(extra, "extra"), Malformed::Extra),
        (good.replace(&format!("{extra}\n"), ""), Malformed::Extra),
        (good.replace(extra, &format!("extra {}", STANDARD.encode("{\"entry\": \"x\"}"))), Malformed::Extra),
        (good.replace("index 2", "index 02"), Malformed::Index),
        (good.replace("index 2", "index +2"), Malformed::Index),
        (good.replace("index 2", "index 18446744073709551616"), Malformed::Index),
        (good.replace(hash, "AAAA"), Malformed::Hash(4)),
        (good.replace(&format!("{hash}\n"), &many), Malformed::TooManyHashes),
        (good.replace("\n\n", "\n"), Malformed::Hash(7)),
        (good[..good.find("\n\n").unwrap() + 2].to_owned(), Malformed::NoCheckpoint),
        ("x".repeat(LARGEST + 1), Malformed::TooLarge(LARGEST + 1)),
    ] {
        assert_eq!(Proof::read(bad.as_bytes()).map(|_| ()), Err(why), "{}", &bad[..bad.len().min(2000)]);
    }
    assert_eq!(Proof::read(&[0xff]), Err(Malformed::NotText));
}

#[test]
fn a_proof_for_another_policy_is_worth_nothing() {
    let log = StreetLog::of(7);
    let proof = prove_message(&log, &wanted("cp-1", 1, 3));
    let mut other_log = log.policy();
    other_log.log = LogKey::generate(&name("demo"), None).unwrap().public().clone();
    assert!(matches!(check(&proof, &other_log), Err(BadProof::Checkpoint(_))));
    let mut other_authority = log.policy();
    other_authority.authority = Issuer::create(&name("demo"), START).unwrap().authority();
    let refused = check(&proof, &other_authority);
    assert!(matches!(refused, Err(BadProof::Unverified { why: Unverified::Certificate(_), .. })), "{refused:?}");
    let mut other_site = log.policy();
    other_site.site = name("elsewhere");
    assert!(check(&proof, &other_site).is_err());
}

#[test]
fn a_proof_with_anothers_certificate_or_none_is_worth_nothing() {
    let log = StreetLog::of_a_street();
    let proof = prove_message(&log, &wanted("cp-1", 1, 3));
    let other = prove_message(&log, &wanted("cp-2", 2, 3)).certificate;
    assert!(matches!(
        check(&Proof { certificate: None, ..proof.clone() }, &log.policy()),
        Err(BadProof::NoCertificate(_))
    ));
    let refused = check(&Proof { certificate: other, ..proof.clone() }, &log.policy());
    assert!(matches!(refused, Err(BadProof::Unverified { why: Unverified::OtherIdentity(_), .. })), "{refused:?}");
    // Another key of the same device, issued by the authority all the same.
    let renewed = log.street.speaker("cp-1", Role::Device, 9).certificate;
    let refused = check(&Proof { certificate: Some(renewed), ..proof }, &log.policy());
    assert!(matches!(refused, Err(BadProof::Unverified { why: Unverified::Signature, .. })), "{refused:?}");
}

#[test]
fn the_certificate_must_have_been_valid_when_the_ledger_says_that_the_message_came() {
    let log = StreetLog::of(7);
    let proof = prove_message(&log, &wanted("cp-1", 1, 3));
    let years = |count: u64| Some(UnixMillis(START.0 + count * 366 * 24 * 3600 * 1000));
    let in_time = Bracket { from_ms: years(1), until_ms: years(2) };
    assert!(check_proof(&proof, &log.policy(), in_time).is_ok());
    let late = Bracket { from_ms: years(30), until_ms: years(31) };
    assert!(matches!(check_proof(&proof, &log.policy(), late), Err(BadProof::Unverified { .. })));
}

#[test]
fn commands_and_notices_are_the_anchors_word_and_forgeries_nobodys() {
    let log = StreetLog::of_a_street();
    let mut entries = log.entries();
    let mut forged = log.street.speaker("cp-1", Role::Device, 1).measurement();
    forged.payload[60] ^= 1;
    let command = entries.iter().position(|entry| entry.windows(12).any(|part| part == b"set/charging")).unwrap();
    entries.push(log.notice(&Notice::NotLogged(3)));
    entries.push(crate::entry::write(START, "grid/demo/cp-1/measurement", &forged.payload));
    entries.push(b"no entry at all".to_vec());
    log.rewrite(&entries, &log.key());
    let source = Folder::new(log.path());
    let check = |index: usize| {
        let proof = prove(&source, &log.checkpoint(), index as u64).unwrap();
        check(
            &Proof { certificate: Some(log.street.speaker("cp-1", Role::Device, 1).certificate), ..proof },
            &log.policy(),
        )
    };
    for index in [command, 700] {
        assert_eq!(check(index).unwrap().spoken, None);
    }
    let refused = check(701).unwrap_err();
    assert!(matches!(refused, BadProof::Unverified { .. }), "{refused}");
    let named =
        "entry 701, received 2027-01-15T08:00:00.000Z, on grid/demo/cp-1/measurement stands in the log, but nobody";
    assert!(refused.to_string().starts_with(named), "{refused}");
    assert!(matches!(check(702), Err(BadProof::Entry { index: 702, .. })));
}

#[test]
fn of_several_that_claim_to_be_a_message_the_one_that_was_signed_is_found() {
    let log = StreetLog::new();
    let mut device = log.street.speaker("cp-1", Role::Device, 1);
    log.record(201, |desk| {
        desk.say(&device.birth());
        let real = device.measurement();
        let mut forged = real.clone();
        let at = forged.payload.len() - 10;
        forged.payload[at] = if forged.payload[at] == b'A' { b'B' } else { b'A' };
        desk.say(&forged);
        desk.say(&real);
    });
    let find = |wanted: &Wanted, at| find(&Folder::new(log.path()), &log.checkpoint(), &log.policy(), wanted, at);
    let message = wanted("cp-1", 1, 2);
    assert_eq!(find(&message, None).unwrap().index, 2);
    assert!(matches!(find(&message, Some(1)), Err(FindError::Unverified { index: 1, why: Unverified::Signature })));
    for missing in [wanted("cp-1", 1, 3), wanted("cp-1", 2, 2), wanted("cp-2", 1, 2)] {
        let refused = find(&missing, None).unwrap_err();
        assert!(matches!(refused, FindError::NotThere { size: 4, first: 0, .. }), "{refused}");
    }
}

#[test]
fn what_was_said_after_the_revocation_cannot_be_proven() {
    let log = StreetLog::new();
    let mut device = log.street.speaker("cp-1", Role::Device, 1);
    log.record(201, |desk| {
        desk.say(&device.birth());
        desk.say(&device.measurement());
        desk.say_raw("grid/demo/ca/revoked", &log.revoking(1, &[&device]));
        desk.say(&device.event(Event::ThrownOut {}));
    });
    assert!(check(&prove_message(&log, &wanted("cp-1", 1, 2)), &log.policy()).is_ok());
    let refused = find(&Folder::new(log.path()), &log.checkpoint(), &log.policy(), &wanted("cp-1", 1, 3), None);
    assert!(matches!(refused, Err(FindError::Unverified { index: 3, why: Unverified::Revoked { .. } })));
}

#[test]
fn a_proof_outlives_its_message_and_what_was_dropped_is_called_dropped() {
    let log = StreetLog::new();
    let mut device = log.street.speaker("cp-1", Role::Device, 1);
    log.record(201, |desk| {
        desk.say(&device.birth());
        (0..600).for_each(|_| desk.say(&device.measurement()));
    });
    let der = STANDARD.encode(&device.certificate);
    let notice = Notice::Certificate { name: name("cp-1"), session: Session(1), der };
    log.rewrite(&[log.entries(), vec![log.notice(&notice)]].concat(), &log.key());
    let early = prove_message(&log, &wanted("cp-1", 1, 5)).write();
    log.drop_bundles(2);
    assert!(check(&Proof::read(&early).unwrap(), &log.policy()).is_ok());
    let source = Folder::new(log.path());
    let refused = prove(&source, &log.checkpoint(), 300);
    assert!(matches!(refused, Err(ProveError::Dropped { index: 300, first: 512 })), "{refused:?}");
    let refused = find(&source, &log.checkpoint(), &log.policy(), &wanted("cp-1", 1, 5), None).unwrap_err();
    assert!(refused.to_string().contains("those before entry 512 were dropped"), "{refused}");
    assert!(check(&prove_message(&log, &wanted("cp-1", 1, 555)), &log.policy()).is_ok());
}

/// What of the beginning still matters is said again when that is dropped, which is after the checkpoint.
#[test]
fn under_an_older_checkpoint_a_message_is_judged_by_what_was_repeated_since() {
    let log = StreetLog::of(600);
    let device = log.street.speaker("cp-1", Role::Device, 1);
    let (entries, key) = (log.entries(), log.key());
    let older = log.checkpoint();
    let list = String::from_utf8(log.revoking(1, &[&device])).unwrap();
    let certificate =
        Notice::Certificate { name: name("cp-1"), session: Session(1), der: STANDARD.encode(&device.certificate) };
    let find_with = |notices: &[Notice]| {
        let repeated = notices.iter().map(|notice| log.notice(notice)).collect();
        log.rewrite(&[entries.clone(), repeated].concat(), &key);
        log.drop_bundles(2);
        find(&Folder::new(log.path()), &older, &log.policy(), &wanted("cp-1", 1, 555), None)
    };
    assert_eq!(find_with(std::slice::from_ref(&certificate)).unwrap().certificate, device.certificate);
    let refused = find_with(&[certificate, Notice::Revoked(list)]);
    assert!(matches!(refused, Err(FindError::Unverified { why: Unverified::Revoked { .. }, .. })), "{refused:?}");
}

#[test]
fn files_that_do_not_fit_make_no_proof() {
    let log = StreetLog::of(300);
    let source = Folder::new(log.path());
    let damage = |path: &str, at: usize| {
        let path = log.path().join(path);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        let made = prove(&source, &log.checkpoint(), 10);
        fs::write(&path, good).unwrap();
        made
    };
    assert!(matches!(damage("tile/0/000", 5), Err(ProveError::Inconsistent(_))));
    assert!(matches!(damage("tile/entries/000", 100), Err(ProveError::File(FileError::Bundle { .. }))));
    fs::remove_file(log.path().join("tile/1/000.p/1")).unwrap();
    let refused = prove(&source, &log.checkpoint(), 10).unwrap_err().to_string();
    assert_eq!(refused, "tile/1/000.p/1: it is missing");
}
