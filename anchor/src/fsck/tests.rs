//! What a crash leaves is put in order once, and what cannot be proven is refused and left as it is.

use super::*;
use std::collections::BTreeMap;
use std::fs;

use grid_durable::SystemDisk;
use grid_durable::simulate::SimulatedDisk;
use grid_protocol::message::{Role, Session};
use grid_protocol::units::Millis;
use std::sync::Arc;

use crate::intake::Arrival;
use crate::recorder::Recorder;
use crate::testing::{Street, at, folder, recorder_settings};
use crate::verify::{Beside, verify_log};

const DATA: &str = "/data";
const DAY: u64 = 86_400_000;

/// An anchor that logged 400 commands and was killed; the disk after each of its steps.
fn killed() -> Vec<SimulatedDisk> {
    let street = Street::new();
    let disk = SimulatedDisk::new();
    disk.keep_moments();
    let open = || Durable::open_on(Arc::new(disk.clone()), Path::new(DATA), Stop::never());
    let mut recorder = Recorder::open_in(open, recorder_settings(), street.anchor(), Session(1), at(0)).unwrap();
    let device = street.speaker("cp-1", Role::Device, 1).birth();
    let birth = Arrival { topic: &device.topic.to_string(), payload: &device.payload, retained: false };
    recorder.receive(birth, at(0)).unwrap();
    for number in 0..400 {
        let payload = number.to_string();
        let command = Arrival { topic: "grid/demo/cp-1/set/x", payload: payload.as_bytes(), retained: false };
        recorder.receive(command, at(number * 300)).unwrap();
        if number % 100 == 99 {
            recorder.settle(at(number * 700)).unwrap();
        }
    }
    disk.moments().into_iter().map(|moment| moment.disk).collect()
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

fn next(folder: &Path) -> Option<u64> {
    let durable = Durable::look(folder).unwrap();
    let key = read_key(&durable, read_policy(&durable).unwrap().as_ref()).unwrap()?;
    Some(store::inspect(&durable, &key).unwrap()?.next)
}

#[test]
fn whenever_it_was_killed_it_is_put_in_order_once_and_says_the_same_as_before() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (step, disk) in killed().into_iter().enumerate() {
        for disk in [disk.after_kill(), disk.after_power_cut(step as u64)] {
            let folder = folder();
            disk.export(Path::new(DATA), folder.path()).ok();
            if !folder.path().join("lock").exists() {
                assert!(matches!(fsck(folder.path(), false), Err(FsckError::Durable(DurableError::Nothing(_)))));
                continue;
            }
            let before = (contents(folder.path()), next(folder.path()));
            let looked = fsck(folder.path(), true).unwrap_or_else(|error| panic!("after step {step}: {error}"));
            assert!(!looked.done);
            assert_eq!((contents(folder.path()), next(folder.path())), before, "--check changed something");
            let done = fsck(folder.path(), false).unwrap();
            assert_eq!(Report { done: false, ..done.clone() }, looked);
            assert_eq!(done.done, !done.left.is_empty());
            for left in &done.left {
                let name = serde_json::to_value(left).unwrap()["left"].as_str().unwrap().to_owned();
                *seen.entry(name).or_default() += 1;
            }
            let again = fsck(folder.path(), false).unwrap();
            assert_eq!(again, Report { left: vec![], done: false, ..done }, "after step {step}");
            assert_eq!(next(folder.path()), before.1);
            if again.root_hash.is_some() {
                let report = verify_log(&folder.path().join("log"), None).unwrap();
                assert_eq!(
                    (report.failure, report.tree_size, report.beside.ahead.count),
                    (None, again.checkpoint_size, 0)
                );
                assert_eq!(fs::read_dir(folder.path().join("unfinished")).map_or(0, Iterator::count), 0);
            }
        }
    }
    let names: Vec<&str> = seen.keys().map(String::as_str).collect();
    assert_eq!(names, ["never_signed", "old_journal", "superseded", "torn_journal", "unfinished"]);
}

#[test]
fn what_cannot_be_proven_is_named_and_left_as_it_is() {
    let folder = folder();
    killed().last().unwrap().export(Path::new(DATA), folder.path()).unwrap();
    fsck(folder.path(), false).unwrap();
    let good = contents(folder.path());
    let mut names = Vec::new();
    for (path, bytes) in &good {
        let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
        if name == "lock" {
            continue;
        }
        let mut bad = bytes.clone();
        let at = match name.as_str() {
            // The header: its end may be torn.
            "journal" => 30,
            // The log's line: another authority is for those to notice who know the right one.
            "site.policy" => String::from_utf8_lossy(bytes).find("\nlog ").unwrap() + 10,
            _ => bytes.len() / 2,
        };
        bad[at] ^= 1;
        fs::write(path, &bad).unwrap();
        let changed = contents(folder.path());
        let Err(error) = fsck(folder.path(), false) else { panic!("{name} was changed") };
        let FsckError::Refused { path: blamed, .. } = &error else { panic!("{name}: {error}") };
        assert!(blamed.starts_with(folder.path()) && error.to_string().contains("Nothing was changed"), "{error}");
        assert_eq!(contents(folder.path()), changed, "{name}");
        fs::write(path, bytes).unwrap();
        names.push(name);
    }
    assert!(names.len() >= 8, "{names:?}");
    fs::write(folder.path().join("log/tile/entries/999"), "foreign").unwrap();
    let error = fsck(folder.path(), false).unwrap_err().to_string();
    assert!(error.contains("log/tile/entries/999"), "{error}");
}

#[test]
fn a_journal_that_lacks_what_was_written_after_the_checkpoint_is_refused() {
    let ahead = killed().into_iter().find_map(|disk| {
        let folder = folder();
        disk.export(Path::new(DATA), folder.path()).ok()?;
        let left = fsck(folder.path(), true).ok()?.left;
        left.iter().any(|left| matches!(left, Left::NeverSigned { .. })).then_some(folder)
    });
    let folder = ahead.unwrap();
    let journal = folder.path().join("journal");
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() / 2]).unwrap();
    let error = fsck(folder.path(), false).unwrap_err();
    assert!(error.to_string().contains("not what the journal's entries give"), "{error}");
}

/// An anchor whose first two bundles are forty days old and are to be kept for thirty; the disk after each of the steps
/// in which it drops them.
fn dropping() -> Vec<SimulatedDisk> {
    let (street, disk) = (Street::new(), SimulatedDisk::new());
    let open = || Durable::open_on(Arc::new(disk.clone()), Path::new(DATA), Stop::never());
    let mut settings = recorder_settings();
    settings.retention.keep = Some(Millis(30 * DAY));
    let mut recorder = Recorder::open_in(open, settings, street.anchor(), Session(1), at(0)).unwrap();
    let device = street.speaker("cp-1", Role::Device, 1).birth();
    let topic = device.topic.to_string();
    recorder.receive(Arrival { topic: &topic, payload: &device.payload, retained: false }, at(0)).unwrap();
    let command = Arrival { topic: "grid/demo/cp-1/set/x", payload: b"1", retained: false };
    for _ in 0..600 {
        recorder.receive(command, at(0)).unwrap();
    }
    recorder.settle(at(61_000)).unwrap();
    recorder.receive(command, at(40 * DAY)).unwrap();
    disk.keep_moments();
    (0..40).for_each(|step| drop(recorder.settle(at(40 * DAY + step * 50)).unwrap()));
    disk.moments().into_iter().map(|moment| moment.disk).collect()
}

#[test]
fn a_drop_that_was_cut_short_anywhere_is_finished_and_drops_nothing_else() {
    let (mut seen, mut whole) = (BTreeMap::new(), 0);
    for (step, disk) in dropping().into_iter().enumerate() {
        let cuts = (0..2).map(|seed| disk.after_power_cut(2 * step as u64 + seed));
        for (disk, was_killed) in [(disk.after_kill(), true)].into_iter().chain(cuts.map(|disk| (disk, false))) {
            let folder = folder();
            disk.export(Path::new(DATA), folder.path()).unwrap();
            let (log, policy) = (folder.path().join("log"), folder.path().join(POLICY));
            let policy = Policy::read(&fs::read_to_string(policy).unwrap()).unwrap();
            let before = verify_log(&log, Some(&policy)).unwrap();
            // Who has only the log sees what a kill leaves for what it is. A power cut may also bring files back.
            assert!(before.holds || !was_killed, "after step {step}: {:?}", before.failure);
            let looked = fsck(folder.path(), true).unwrap_or_else(|error| panic!("after step {step}: {error}"));
            let done = fsck(folder.path(), false).unwrap();
            assert_eq!(Report { done: false, ..done.clone() }, looked);
            let dropped = done.left.iter().filter(|left| matches!(left, Left::Dropped { .. })).count();
            *seen.entry(dropped).or_insert(0) += 1;
            let after = verify_log(&log, Some(&policy)).unwrap();
            assert!(after.holds, "after step {step}: {:?}", after.failure);
            assert_eq!((after.beside, after.messages.unverified), (Beside::default(), 0));
            assert!([0, 512].contains(&after.minimum_index), "after step {step}: {}", after.minimum_index);
            whole += u64::from(after.minimum_index == 0);
            assert_eq!(fsck(folder.path(), false).unwrap().left, []);
        }
    }
    assert!(whole > 10 && (0..=4).all(|dropped| seen[&dropped] > 0), "{whole} whole, {seen:?}");
}

#[test]
fn what_is_missing_and_was_not_to_be_dropped_is_refused() {
    let folder = folder();
    killed().last().unwrap().export(Path::new(DATA), folder.path()).unwrap();
    fsck(folder.path(), false).unwrap();
    fs::remove_file(folder.path().join("log/tile/entries/000")).unwrap();
    let log = folder.path().join("log");
    assert_eq!(verify_log(&log, None).unwrap().failure, None, "who has only the log cannot tell it from a drop");
    let refused = fsck(folder.path(), false).unwrap_err().to_string();
    assert!(refused.contains("log/tile/entries/000") && refused.contains("it is missing"), "{refused}");
}

#[test]
fn what_other_systems_left_in_the_folder_stays() {
    let folder = folder();
    killed().last().unwrap().export(Path::new(DATA), folder.path()).unwrap();
    fsck(folder.path(), false).unwrap();
    for name in ["log/.DS_Store", "log/tile/entries/Thumbs.db"] {
        fs::write(folder.path().join(name), "x").unwrap();
        assert_eq!(fsck(folder.path(), false).unwrap().left, []);
    }
}

#[test]
fn a_folder_in_which_an_anchor_runs_is_left_alone() {
    let folder = folder();
    let _anchor = Durable::open_on(Arc::new(SystemDisk), folder.path(), Stop::never()).unwrap();
    assert!(matches!(fsck(folder.path(), true), Err(FsckError::Durable(DurableError::Locked(_)))));
}
