//! A log holds, and nothing can be changed in it unnoticed.

mod messages;
mod pruned;
mod remote;
mod since;

use std::fs;

use grid_protocol::message::{Role, Session};

use super::*;
use crate::checkpoint::LogKey;
use crate::testing::log::StreetLog;
use crate::testing::{START, name};
use crate::tile::{Level, Tile};

/// The change is noticed, and what is blamed is `file` or an entry in it.
fn notices(log: &StreetLog, file: &str, what: &str) {
    let report = log.verify();
    let failure = report.failure.unwrap_or_else(|| panic!("{file}: {what} went unnoticed"));
    assert!(!report.holds);
    assert_eq!(failure.file, file, "{what}: {failure}");
}

#[test]
fn a_log_holds_and_says_what_is_in_it() {
    let log = StreetLog::of(600);
    let report = log.verify();
    assert!(report.holds, "{:?}", report.failure);
    assert_eq!((report.tree_size, report.entries, report.beside), (600, 600, Beside::default()));
    let Messages { verified, sessions, unverified, missing, duplicates, .. } = report.messages;
    assert_eq!((verified, sessions, unverified, missing, duplicates), (600, 2, 0, 0, 0));
}

#[test]
fn every_changed_bit_of_every_file_of_a_small_log_is_noticed() {
    let log = StreetLog::of(4);
    let files = log.files();
    assert_eq!(files, ["checkpoint", "tile/0/000.p/4", "tile/entries/000.p/4"]);
    for file in files {
        let path = log.path().join(&file);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                fs::write(&path, &bad).unwrap();
                notices(&log, &file, &format!("bit {bit} of byte {at}"));
            }
        }
        fs::write(&path, &good).unwrap();
    }
    assert!(log.verify().holds);
}

#[test]
fn changed_bytes_in_all_files_of_a_larger_log_are_noticed() {
    let log = StreetLog::of(1030);
    let files = log.files();
    assert_eq!(files.len(), 1 + 5 + 5 + 1);
    for file in files {
        let path = log.path().join(&file);
        let good = fs::read(&path).unwrap();
        let step = (good.len() / 23).max(1);
        for at in (0..good.len()).step_by(step).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            notices(&log, &file, &format!("byte {at}"));
        }
        for bad in [&good[..good.len() - 1], &[good.as_slice(), b"x"].concat(), &[]] {
            fs::write(&path, bad).unwrap();
            notices(&log, &file, "another length");
        }
        fs::remove_file(&path).unwrap();
        // Without its first bundle it is a log whose beginning was dropped.
        if file != "tile/entries/000" {
            notices(&log, &file, "missing");
        }
        fs::create_dir(&path).unwrap();
        notices(&log, &file, "a folder instead");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &good).unwrap();
    }
    assert!(log.verify().holds);
}

#[test]
fn swapped_files_are_noticed() {
    let log = StreetLog::of(1030);
    let by_kind = |kind: &str| log.files().into_iter().filter(|file| file.starts_with(kind)).collect::<Vec<_>>();
    for kind in ["tile/entries/", "tile/0/"] {
        let files = by_kind(kind);
        let (one, other) = (log.path().join(&files[0]), log.path().join(&files[1]));
        let kept = log.path().join("kept");
        let swap = || {
            fs::rename(&one, &kept).unwrap();
            fs::rename(&other, &one).unwrap();
            fs::rename(&kept, &other).unwrap();
        };
        swap();
        assert!(log.verify().failure.is_some(), "{kind}");
        swap();
    }
    assert!(log.verify().holds);
}

#[test]
fn files_that_do_not_belong_are_named() {
    let log = StreetLog::of(300);
    let some = fs::read(log.path().join("tile/0/000")).unwrap();
    for (file, bytes) in [
        ("notes.txt", b"x".as_slice()),
        ("tile/0/000.p/300", &some),
        ("tile/0/00", &some),
        ("tile/8/000", &some),
        ("tile/1/000", &some),
        ("tile/1/000.p/2", &some[..64]),
        ("tile/0/000.p/3", &some[..96 - 1]),
        ("tile/0/000.p/2", &some[32..96]),
        ("tile/0/001.p/45", &some),
        ("tile/entries/000.p/3", &some),
        ("tile/entries/001.p/45", &some),
    ] {
        let path = log.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        notices(&log, file, "added");
        fs::remove_file(&path).unwrap();
    }
    std::os::unix::fs::symlink("checkpoint", log.path().join("link")).unwrap();
    notices(&log, "link", "added");
}

#[test]
fn older_partial_files_that_fit_are_accepted() {
    let log = StreetLog::of(300);
    let tile = fs::read(log.path().join("tile/0/001.p/44")).unwrap();
    fs::write(log.path().join("tile/0/001.p/7"), &tile[..7 * 32]).unwrap();
    fs::create_dir(log.path().join("tile/0/000.p")).unwrap();
    let full = fs::read(log.path().join("tile/0/000")).unwrap();
    fs::write(log.path().join("tile/0/000.p/255"), &full[..255 * 32]).unwrap();
    let report = log.verify();
    assert!(report.holds, "{:?}", report.failure);
}

/// What an anchor that is killed between tiles and checkpoint leaves, and of that what a power cut does. Whether it
/// continues the log, the journal tells, which is not here.
#[test]
fn files_ahead_of_the_checkpoint_may_not_contradict_it_and_nobody_vouches_for_the_rest() {
    let log = StreetLog::of(300);
    let before = fs::read(log.path().join("checkpoint")).unwrap();
    let partials = ["tile/0/001.p/44", "tile/entries/001.p/44", "tile/1/000.p/1"];
    let kept = partials.map(|file| fs::read(log.path().join(file)).unwrap());
    let mut device = log.street.speaker("cp-2", Role::Device, 2);
    log.record(202, |desk| {
        desk.say(&device.birth());
        (0..300).for_each(|_| desk.say(&device.measurement()));
    });
    fs::write(log.path().join("checkpoint"), before).unwrap();
    for (file, bytes) in partials.iter().zip(kept) {
        let path = log.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let ahead = ["tile/entries/001", "tile/entries/002.p/90", "tile/0/001", "tile/0/002.p/90", "tile/1/000.p/2"];
    for gone in [None].into_iter().chain(ahead.map(Some)) {
        let kept = gone.map(|file| fs::read(log.path().join(file)).unwrap());
        gone.inspect(|file| fs::remove_file(log.path().join(file)).unwrap());
        let report = log.verify();
        assert!(report.holds, "without {gone:?}: {:?}", report.failure);
        assert_eq!((report.tree_size, report.beside.ahead.count), (300, 5 - gone.iter().len() as u64));
        gone.inspect(|file| fs::write(log.path().join(file), kept.unwrap()).unwrap());
    }
    for file in ahead {
        let path = log.path().join(file);
        let good = fs::read(&path).unwrap();
        let mut bad = good.clone();
        bad[20] ^= 1;
        fs::write(&path, bad).unwrap();
        if file.contains("/002") {
            assert!(log.verify().holds, "{file}");
        } else {
            notices(&log, file, "changed where the checkpoint covers it");
        }
        fs::write(&path, good).unwrap();
    }
    let report = log.verify();
    assert_eq!(report.beside.ahead.first.as_deref(), Some("tile/entries/001"));
}

#[test]
fn what_systems_put_into_every_folder_is_remarked_and_not_looked_at() {
    let log = StreetLog::of(300);
    for (count, path) in
        [".DS_Store", "._checkpoint", "tile/Thumbs.db", "tile/0/.nfs0001", "lost+found/#17", ".Trashes/501/checkpoint"]
            .into_iter()
            .enumerate()
    {
        let path = log.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "anything").unwrap();
        let report = log.verify();
        assert!(report.holds, "{:?}", report.failure);
        assert_eq!(report.beside.foreign.count, count as u64 + 1);
    }
    assert_eq!(crate::show::Extent::of(&log.path()).unwrap().size, 300);
}

/// Somebody with full access, but without the log's key, replaces an entry and whatever can be computed anew.
#[test]
fn an_entry_that_is_replaced_with_all_its_hashes_is_noticed() {
    let log = StreetLog::of(600);
    let tile = Tile::full(Level::Entries, 1);
    let path = log.path().join(tile.path());
    let plain = crate::bundle::unpack(&fs::read(&path).unwrap()).unwrap();
    let mut entries: Vec<Vec<u8>> =
        crate::bundle::entries(&plain, 256).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    entries[17] = crate::entry::write(START, "grid/demo/cp-1/set/x", b"never said");
    fs::write(&path, crate::bundle::pack(entries.iter().map(Vec::as_slice))).unwrap();
    let failure = log.verify().failure.unwrap();
    let entry = failure.entry.clone().unwrap();
    assert_eq!((entry.index, entry.topic.as_deref()), (273, Some("grid/demo/cp-1/set/x")), "{failure}");
    assert!(failure.to_string().contains("2027-01-15T08:00:00.000Z"), "{failure}");

    // With new tiles too, the root differs; with a new checkpoint, the key.
    let mut edge = crate::tree::Edge::default();
    let mut write = |tile: Tile, hashes: &[tlog_tiles::Hash]| {
        fs::write(log.path().join(tile.path()), crate::tree::tile_bytes(hashes)).unwrap();
    };
    for index in 0..3u64 {
        let width = if index == 2 { 88 } else { 256 };
        let tile = Tile { level: Level::Entries, index, width };
        let plain = crate::bundle::unpack(&fs::read(log.path().join(tile.path())).unwrap()).unwrap();
        for entry in crate::bundle::entries(&plain, width).unwrap() {
            edge.push(tlog_tiles::record_hash(entry), &mut write);
        }
    }
    write(Level::Hashes(1).partial_tile(600).unwrap(), edge.partial(1));
    notices(&log, "checkpoint", "all tiles anew");
    let key = LogKey::generate(&name("demo"), Some(log.policy().log.origin())).unwrap();
    fs::write(log.path().join("checkpoint"), key.sign(600, edge.root()).unwrap()).unwrap();
    notices(&log, "checkpoint", "signed by another key");
}

#[test]
fn without_a_policy_it_is_consistent_but_nobody_vouches() {
    let log = StreetLog::of(300);
    let report = verify_log(&log.path(), None).unwrap();
    assert_eq!((report.holds, report.vouched, &report.failure), (false, false, &None));
    assert!(log.policy().log.vkey().starts_with(&report.keys[0]));
    assert!(matches!(verify_log(&log.folder.path().join("nothing"), None), Err(VerifyError::NoLog(_))));
}

/// A checkpoint that claims to be over more entries than there can be must cost nothing.
#[test]
fn a_checkpoint_of_any_size_is_refused_at_the_first_file_that_is_missing() {
    let log = StreetLog::of(300);
    let root = log.policy().log.open(&log.checkpoint()).unwrap().root;
    for size in [301, 1 << 40, u64::MAX] {
        fs::write(log.path().join("checkpoint"), log.key().sign(size, root).unwrap()).unwrap();
        let failure = log.verify().failure.unwrap();
        assert_eq!(failure.why, "it is missing", "{size}: {failure}");
    }
}
