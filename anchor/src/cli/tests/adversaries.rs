//! What somebody can do to a log, and what the program answers to whoever verifies it.
//!
//! The log is one that a recorder wrote: two charge points, a transformer, an anchor, 700 entries in two full bundles and
//! a partial one. Each adversary starts from it, and has what stands beside him.

use std::fs;
use std::path::PathBuf;

use ed25519_dalek::SigningKey;
use grid_protocol::message::{Role, Session};

use super::answer;
use crate::checkpoint::LogKey;
use crate::entry;
use crate::testing::log::{StreetLog, revoking};
use crate::testing::{START, Street};

/// What a verifier has beside the log: its true policy, and a checkpoint that he kept.
struct Verifier {
    policy: PathBuf,
    kept: PathBuf,
}

/// One adversary.
struct Adversary {
    /// What he does.
    does: &'static str,
    how: fn(&StreetLog),
    /// The answer to `verify --log --policy`, and to the same with `--since` and the checkpoint before he came.
    codes: (u8, u8),
    /// What is said in the second case.
    says: &'static str,
}

/// With write access to the files, and no key.
const WITHOUT_A_KEY: &[Adversary] = &[
    Adversary { does: "nothing", how: |_| {}, codes: (0, 0), says: "HOLDS" },
    Adversary {
        does: "flips a bit in a bundle",
        how: |log| flip(log, "tile/entries/001", 1000),
        codes: (1, 1),
        says: "tile/entries/001 (entries 256 to 511): its bytes do not match the SHA-256 in its header",
    },
    Adversary {
        does: "flips a bit in a tile",
        how: |log| flip(log, "tile/0/001", 1000),
        codes: (1, 1),
        says: "tile/0/001 (entries 256 to 511): it differs from what the entries give",
    },
    Adversary {
        does: "flips a bit in the checkpoint",
        how: |log| flip(log, "checkpoint", 5),
        codes: (1, 1),
        says: "checkpoint: ",
    },
    Adversary {
        does: "changes what a transformer said, and packs the bundle anew",
        how: |log| repack(log, |entries| replace(&mut entries[302], "limit_ma\\\":8000", "limit_ma\\\":9000")),
        codes: (1, 1),
        says: "entry 302, received 2027-01-15T08:02:29.000Z, on grid/demo/cp-2/setpoint (in tile/entries/001): it is not \
               the entry whose hash stands in the tree",
    },
    Adversary {
        does: "drops an entry",
        how: |log| repack(log, |entries| drop(entries.remove(300))),
        codes: (1, 1),
        says: "entry 300, received ",
    },
    Adversary {
        does: "swaps two entries",
        how: |log| repack(log, |entries| entries.swap(270, 271)),
        codes: (1, 1),
        says: "entry 270, received ",
    },
    Adversary {
        does: "inserts an entry",
        how: |log| repack(log, |entries| entries.insert(400, command())),
        codes: (1, 1),
        says: "entry 400, received 2027-01-15T08:00:00.000Z, on grid/demo/cp-1/set/charging (in tile/entries/001): ",
    },
    Adversary {
        does: "deletes a bundle",
        how: |log| fs::remove_file(log.path().join("tile/entries/001")).unwrap(),
        codes: (1, 1),
        says: "tile/entries/001 (entries 256 to 511): it is missing",
    },
    Adversary {
        does: "deletes a bundle in the middle with its hashes",
        how: |log| {
            fs::remove_file(log.path().join("tile/entries/001")).unwrap();
            fs::remove_file(log.path().join("tile/0/001")).unwrap();
        },
        codes: (1, 1),
        says: "tile/entries/001 (entries 256 to 511): it is missing",
    },
    Adversary {
        does: "cuts a bundle short",
        how: |log| cut(log, "tile/entries/002.p/188"),
        codes: (1, 1),
        says: "tile/entries/002.p/188 (entries 512 to 699): ",
    },
    Adversary {
        does: "cuts a tile short",
        how: |log| cut(log, "tile/0/002.p/188"),
        codes: (1, 1),
        says: "tile/0/002.p/188 (entries 512 to 699): it does not hold 188 hashes of 32 bytes",
    },
    Adversary {
        does: "cuts the checkpoint short",
        how: |log| cut(log, "checkpoint"),
        codes: (1, 1),
        says: "checkpoint: it is not a signed note",
    },
    Adversary {
        does: "deletes the checkpoint",
        how: |log| fs::remove_file(log.path().join("checkpoint")).unwrap(),
        codes: (1, 1),
        says: "checkpoint: it is missing",
    },
    Adversary {
        does: "rewrites history, and signs it with a key of his own",
        how: |log| {
            let mut entries = log.entries();
            entries.remove(300);
            log.rewrite(
                &entries,
                &LogKey::generate(&"demo".parse().unwrap(), Some(log.policy().log.origin())).unwrap(),
            );
        },
        codes: (1, 1),
        says: "checkpoint: it is not signed by demo-",
    },
    Adversary {
        does: "puts a whole other street's log in its place: another anchor with a CA of its own",
        how: |log| {
            let forged = StreetLog::of(5);
            fs::remove_dir_all(log.path()).unwrap();
            fs::rename(forged.path(), log.path()).unwrap();
        },
        codes: (1, 1),
        says: "checkpoint: it is not signed by demo-",
    },
];

/// Somebody who can publish on the broker, and an anchor that logs what it hears.
const WITH_ACCESS_TO_THE_BROKER: &[Adversary] = &[
    Adversary {
        does: "repeats an old message",
        how: |log| {
            let old = payload(&log.entries()[10]);
            log.record(202, |desk| desk.say_raw(&old.0, &old.1));
        },
        codes: (0, 0),
        says: "messages   700 signed",
    },
    Adversary {
        does: "invents a device with a key and a certificate of its own",
        how: |log| {
            let mut stranger = Street::new().speaker("cp-9", Role::Device, 9);
            log.record(202, |desk| {
                desk.say(&stranger.birth());
                desk.say(&stranger.measurement());
                desk.now_ms = 3000;
                desk.recorder.settle(crate::testing::at(3000)).unwrap();
            });
        },
        codes: (0, 0),
        says: "the first: entry 700, received 2027-01-15T08:00:00.000Z, on grid/demo/cp-9/status: the site's authority does \
               not vouch",
    },
    Adversary {
        does: "speaks in a device's name with the certificate of another",
        how: |log| {
            let mut other = log.street.speaker("cp-2", Role::Device, 9);
            let birth = other.birth();
            log.record(202, |desk| desk.say_raw("grid/demo/cp-1/status", &birth.payload));
        },
        codes: (0, 0),
        says: "on grid/demo/cp-1/status: cp-2 may not speak on grid/demo/cp-1/status",
    },
    Adversary {
        does: "gives setpoints as a charge point",
        how: |log| {
            let mut device = log.street.speaker("cp-2", Role::Device, 2);
            (0..175).for_each(|_| drop(device.measurement()));
            log.record(202, |desk| desk.say(&device.setpoint("cp-1")));
        },
        codes: (0, 0),
        says: "on grid/demo/cp-1/setpoint: cp-2 may not speak on grid/demo/cp-1/setpoint",
    },
    Adversary {
        does: "sends a forged message with the next number before the real one",
        how: |log| {
            let mut device = log.street.speaker("cp-1", Role::Device, 1);
            (0..176).for_each(|_| drop(device.measurement()));
            let real = device.measurement();
            let mut forged = real.clone();
            let at = forged.payload.len() - 10;
            forged.payload[at] = if forged.payload[at] == b'A' { b'B' } else { b'A' };
            log.record(202, |desk| {
                desk.say(&forged);
                desk.say(&real);
            });
        },
        codes: (0, 0),
        // The real one and the anchor's second goodbye.
        says: "messages   701 signed",
    },
    Adversary {
        does: "revokes a certificate with an authority of his own",
        how: |log| {
            let device = log.street.speaker("cp-1", Role::Device, 1);
            let list = revoking(&Street::new(), 1, &[&device]);
            log.record(202, |desk| desk.say_raw("grid/demo/ca/revoked", &list));
        },
        codes: (0, 0),
        says: "on grid/demo/ca/revoked: it is not signed by the authority of this site",
    },
];

/// The anchor itself, with the log's true key: nothing but what others know of the log can convict it.
const WITH_THE_LOGS_KEY: &[Adversary] = &[
    Adversary {
        does: "leaves a message out that it had logged",
        how: |log| {
            let mut entries = log.entries();
            entries.remove(300);
            entries.push(command());
            log.rewrite(&entries, &log.key());
        },
        codes: (0, 1),
        says: "checkpoint: the log was rewritten: by the older checkpoint its first 700 entries had root ",
    },
    Adversary {
        does: "logs that a message came at another time",
        how: |log| {
            let mut entries = log.entries();
            replace(&mut entries[300], "{\"received_ms\":18000", "{\"received_ms\":18001");
            log.rewrite(&entries, &log.key());
        },
        codes: (0, 1),
        says: "checkpoint: the log was rewritten",
    },
    Adversary {
        does: "cuts the log back",
        how: |log| log.rewrite(&log.entries()[..650], &log.key()),
        codes: (0, 1),
        says: "checkpoint: the log was cut back: an older checkpoint vouches for 700 entries, this one for 650",
    },
    Adversary {
        does: "puts words into a charge point's mouth",
        how: |log| {
            let mut entries = log.entries();
            replace(&mut entries[301], "11950", "21950");
            log.rewrite(&entries, &log.key());
        },
        codes: (0, 1),
        says: "checkpoint: the log was rewritten",
    },
];

fn flip(log: &StreetLog, file: &str, at: usize) {
    let path = log.path().join(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(log: &StreetLog, file: &str) {
    let path = log.path().join(file);
    let bytes = fs::read(&path).unwrap();
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
}

fn command() -> Vec<u8> {
    entry::write(START, "grid/demo/cp-1/set/charging", b"ON")
}

fn payload(bytes: &[u8]) -> (String, Vec<u8>) {
    let entry = entry::read(bytes).unwrap();
    let entry::Payload::Bytes(payload) = &entry.payload else { panic!("a digest") };
    (entry.topic.to_string(), payload.to_vec())
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    let text = String::from_utf8(bytes.clone()).unwrap();
    assert!(text.contains(from), "{text}");
    *bytes = text.replacen(from, to, 1).into_bytes();
}

/// Changes the entries, and packs the second bundle anew from what then stands there. No hash is computed anew.
fn repack(log: &StreetLog, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut entries = log.entries();
    change(&mut entries);
    let bundle = crate::bundle::pack(entries[256..512].iter().map(Vec::as_slice));
    fs::write(log.path().join("tile/entries/001"), bundle).unwrap();
}

/// What a verifier is answered, without and with the checkpoint that he kept.
fn verify(log: &StreetLog, verifier: &Verifier) -> [(u8, String); 2] {
    let (folder, policy, kept) =
        (log.path().display().to_string(), verifier.policy.display().to_string(), verifier.kept.display().to_string());
    let arguments = ["verify", "--log", &folder, "--policy", &policy];
    [answer(&arguments), answer(&[&arguments[..], &["--since", &kept]].concat())]
}

fn meet(adversaries: &[Adversary]) {
    for Adversary { does, how, codes, says } in adversaries {
        let log = StreetLog::of_a_street();
        let kept = log.folder.path().join("kept");
        fs::write(&kept, log.checkpoint()).unwrap();
        let verifier = Verifier { policy: log.policy_file(), kept };
        how(&log);
        let [(alone, said_alone), (since, said_since)] = verify(&log, &verifier);
        assert_eq!((alone, since), *codes, "who {does}: {said_alone}\n{said_since}");
        assert!(said_since.contains(says), "who {does}: {said_since}");
    }
}

#[test]
fn who_has_the_files_is_noticed() {
    meet(WITHOUT_A_KEY);
}

#[test]
fn who_has_the_broker_displaces_nobody_and_leaves_a_trace() {
    meet(WITH_ACCESS_TO_THE_BROKER);
}

#[test]
fn who_has_the_logs_key_is_convicted_by_an_older_checkpoint() {
    meet(WITH_THE_LOGS_KEY);
}

#[test]
fn words_that_an_anchor_put_into_a_mouth_prove_nothing() {
    let log = StreetLog::of_a_street();
    let mut entries = log.entries();
    replace(&mut entries[301], "11950", "21950");
    log.rewrite(&entries, &log.key());
    let report = log.verify();
    assert!(report.holds);
    let first = report.messages.first_unverified.unwrap();
    assert_eq!((first.entry.index, first.why.as_str()), (301, "its signature does not hold"));
    assert_eq!(report.messages.missing, 1);
}

/// An anchor that starts over with a log key and an authority of its own can only hand out its own policy.
#[test]
fn a_forged_anchor_is_vouched_for_by_nobody() {
    let forged = StreetLog::of_a_street();
    let folder = forged.path().display().to_string();
    let (code, said) = answer(&["verify", "--log", &folder]);
    assert_eq!(code, 2);
    let key = forged.policy().log.vkey().splitn(3, '+').take(2).collect::<Vec<_>>().join("+");
    assert!(said.contains(&format!("internally consistent, but nobody vouches for key {key}")), "{said}");
    // The true log key, but messages of devices that another authority certified.
    let log = StreetLog::of_a_street();
    log.rewrite(&forged.entries(), &log.key());
    let report = log.verify();
    assert_eq!((report.holds, report.messages.verified, report.messages.unverified), (true, 0, 699));
}

#[test]
fn a_message_signed_with_a_stolen_key_in_another_session_is_still_its_devices() {
    let log = StreetLog::of_a_street();
    let key = SigningKey::from_bytes(&[1; 32]);
    let name = "cp-1".parse().unwrap();
    let mut thief = grid_protocol::author::Author::new("demo".parse().unwrap(), name, Session(99), key);
    let event = grid_protocol::message::Event::ThrownOut {};
    let said = thief.say(grid_protocol::topic::Kind::Event, event, START).unwrap();
    log.record(202, |desk| desk.say(&said));
    assert_eq!(log.verify().messages.unverified, 0, "until its certificate is revoked");
}
