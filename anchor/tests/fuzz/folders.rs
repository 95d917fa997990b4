//! Logs that are verified and shown, whole or pruned, and folders that an anchor goes on from, with files that were changed, cut, swapped,
//! moved, removed or added.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use grid_anchor::bundle;
use grid_anchor::policy::Policy;
use grid_anchor::show::{Selection, show};
use grid_anchor::tile::{Level, Tile};
use grid_anchor::verify::verify_log;
use grid_protocol::message::Role;

use super::formats::packed;
use super::mutation::edit;
use super::source::Source;
use super::world::world;
use super::{Verdict, require};
use crate::street::{at, folder, receive};

/// How many entries the log has under its checkpoint: one full bundle, and a part of the next.
const COVERED: usize = 300;
/// How many more the journal has.
const UNCOVERED: usize = 10;
const JOURNAL: &str = "journal";
const POLICY: &str = "site.policy";
/// Full files on the left: retention may drop both, and whoever goes on needs only the right edge.
const LEFT: [&str; 2] = ["log/tile/entries/000", "log/tile/0/000"];
/// How many entries they hold.
const PRUNED: usize = 256;

type Files = BTreeMap<String, Vec<u8>>;

struct Original {
    files: Files,
    /// All entries, those in the journal too.
    entries: Vec<Vec<u8>>,
    policy: Policy,
}

/// A data folder whose anchor was killed between two checkpoints.
fn original() -> &'static Original {
    static ORIGINAL: OnceLock<Original> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let (kept, street) = (folder(), &world().street);
        let mut recorder = street.recorder(kept.path(), 100, at(0)).unwrap();
        let mut device = street.speaker("cp-1", Role::Device, 1);
        receive(&mut recorder, &device.birth(), at(0));
        (1..COVERED).for_each(|_| receive(&mut recorder, &device.measurement(), at(0)));
        recorder.settle(at(60_000)).unwrap();
        (0..UNCOVERED).for_each(|_| receive(&mut recorder, &device.measurement(), at(60_001)));
        recorder.settle(at(65_000)).unwrap();
        let files = read_all(kept.path());
        // Only in the copy that is read here.
        recorder.settle(at(180_000)).unwrap();
        drop(recorder);
        let entries = entries_in(kept.path(), COVERED + UNCOVERED).unwrap();
        let policy = Policy::read(std::str::from_utf8(&files[POLICY]).unwrap()).unwrap();
        Original { files, entries, policy }
    })
}

fn read_all(root: &Path) -> Files {
    let (mut files, mut folders) = (Files::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            match path.is_dir() {
                true => folders.push(path),
                false if name == "lock" => {}
                false => drop(files.insert(name, fs::read(&path).unwrap())),
            }
        }
    }
    files
}

fn write_all(root: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = root.join(name);
        // A file where a folder must be: the later one is left out.
        if fs::create_dir_all(path.parent().unwrap()).is_ok() {
            let _ = fs::write(path, bytes);
        }
    }
}

/// The first so many entries of a log, or as many as can be read.
fn entries_in(root: &Path, count: usize) -> Result<Vec<Vec<u8>>, String> {
    let mut all = Vec::new();
    let size = fs::read_to_string(root.join("log/checkpoint")).map_err(|why| why.to_string())?;
    let size: u64 = size.lines().nth(1).and_then(|size| size.parse().ok()).ok_or("no size")?;
    for index in 0..size.div_ceil(256) {
        let width = (size - index * 256).min(256) as u16;
        let path = Tile { level: Level::Entries, index, width }.path();
        let file = fs::read(root.join("log").join(&path)).map_err(|why| format!("{path}: {why}"))?;
        let plain = bundle::unpack(&file).map_err(|why| format!("{path}: {why}"))?;
        let entries = bundle::entries(&plain, width).map_err(|why| format!("{path}: {why}"))?;
        all.extend(entries.into_iter().map(<[u8]>::to_vec));
    }
    all.truncate(count);
    Ok(all)
}

/// Changes up to three files. Only below `within`.
fn change(source: &mut Source, files: &mut Files, within: &str) {
    for _ in 0..source.below(4) {
        let names: Vec<String> = files.keys().filter(|name| name.starts_with(within)).cloned().collect();
        if names.is_empty() {
            return;
        }
        let (one, other) = (source.one_of(&names).clone(), source.one_of(&names).clone());
        let contents: Vec<Vec<u8>> = names.iter().map(|name| files[name].clone()).collect();
        match source.below(8) {
            0 | 1 => edit(source, files.get_mut(&one).unwrap(), &contents),
            2 => drop(files.remove(&one)),
            3 => drop(files.insert(one, files[&other].clone())),
            4 => {
                let (first, second) = (files[&one].clone(), files[&other].clone());
                files.insert(one, second);
                files.insert(other, first);
            }
            5 => {
                let moved = files.remove(&one).unwrap();
                files.insert(drawn_path(source), moved);
            }
            6 => {
                // A part of a file, where a part of it may stand.
                let whole = &files[&one];
                let part = whole[..(whole.len() / 32 * 32).min(32 * source.below(256))].to_vec();
                files.insert(drawn_path(source), part);
            }
            _ => {
                // Another entry, with all sums of its bundle right.
                if let Ok(mut plain) = bundle::unpack(&files[&one]) {
                    edit(source, &mut plain, &contents);
                    files.insert(one, packed(&plain));
                }
            }
        }
    }
}

fn drawn_path(source: &mut Source) -> String {
    const FOREIGN: [&str; 6] =
        ["log/notes.txt", "log/tile/0/00", "log/tile/8/000", "log/tile", "log/checkpoint/x", "log/tile/0/000.p/256"];
    if source.rarely(4) {
        return (*source.one_of(&FOREIGN)).to_owned();
    }
    let level = if source.rarely(2) { Level::Entries } else { Level::Hashes(source.byte() % 4) };
    let index = if source.rarely(3) { source.number() } else { source.below(3) as u64 };
    let width = *source.one_of(&[1, 2, 43, 44, 45, 255, 256]);
    format!("log/{}", Tile { level, index, width }.path())
}

/// The same entries can be compressed in more than one way.
fn same_entries(one: &[u8], other: &[u8]) -> bool {
    matches!((bundle::unpack(one), bundle::unpack(other)), (Ok(one), Ok(other)) if one == other)
}

/// A log holds exactly if all its files are as they were, or its left was dropped; then it is shown whole.
pub fn hold_log(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    let original = original();
    let whole: Files = original.files.clone().into_iter().filter(|(name, _)| name.starts_with("log/")).collect();
    let mut before = whole.clone();
    if source.rarely(3) {
        LEFT.iter().for_each(|name| drop(before.remove(*name)));
    }
    let mut files = before.clone();
    change(&mut source, &mut files, "log/");
    let folder = folder();
    write_all(folder.path(), &files);
    let log = folder.path().join("log");
    let mut shown = 0;
    let selection = Selection::default();
    let ended = show(&log, &selection, |_| {
        shown += 1;
        true
    });
    for policy in [Some(&original.policy), None] {
        let Ok(report) = verify_log(&log, policy) else { continue };
        let consistent = report.failure.is_none();
        require!(!report.holds || (consistent && policy.is_some()), "it holds, but {:?}", report.failure);
        require!(files != before || consistent, "a log does not hold: {:?}", report.failure);
        if !consistent {
            continue;
        }
        // A drop that is cut short leaves the hashes. Nobody needs them.
        let pruned = !files.contains_key(LEFT[0]);
        let left = if pruned { COVERED - PRUNED } else { COVERED };
        require!(report.entries == left as u64, "{} entries were looked at, not {left}", report.entries);
        for (name, bytes) in &whole {
            let as_it_was = files.get(name).is_some_and(|file| file == bytes || same_entries(file, bytes));
            let dropped = pruned && LEFT.contains(&name.as_str());
            // Nobody vouches for who signed: without a policy other bytes may sign the same checkpoint.
            let unsigned = policy.is_none() && name == "log/checkpoint";
            require!(as_it_was || dropped || unsigned, "a log holds although {name} was changed");
        }
        if before.iter().all(|(name, bytes)| files.get(name) == Some(bytes)) {
            require!(ended.is_ok() && shown == left, "a log that holds shows {shown} entries: {ended:?}");
        }
    }
    Ok(())
}

/// An anchor refuses a folder, or goes on with what was in it.
pub fn hold_data_dir(bytes: &[u8]) -> Verdict {
    let mut source = Source::new(bytes);
    let original = original();
    let mut files = original.files.clone();
    change(&mut source, &mut files, "");
    let folder = folder();
    write_all(folder.path(), &files);
    let mut recorder = match world().street.recorder(folder.path(), 101, at(200_000)) {
        Ok(recorder) => recorder,
        Err(why) => {
            require!(files != original.files, "it does not go on: {why}");
            return Ok(());
        }
    };
    let found = recorder.progress().entries;
    let same = |name: &str| files.get(name) == original.files.get(name);
    require!((COVERED as u64..=(COVERED + UNCOVERED) as u64).contains(&found), "it goes on with {found} entries");
    require!(found as usize == COVERED + UNCOVERED || !same(JOURNAL), "it goes on with {found} entries");
    let mut later = world().street.speaker("cp-1", Role::Device, 9);
    receive(&mut recorder, &later.birth(), at(200_001));
    if let Err(why) = recorder.finish(at(200_002)) {
        // What it does not read at the start may stand in its way now.
        require!(files != original.files, "it does not end: {why}");
        return Ok(());
    }
    drop(recorder);
    if !LEFT.iter().all(|name| same(name)) {
        return Ok(());
    }
    let entries = entries_in(folder.path(), found as usize)?;
    require!(entries[..] == original.entries[..found as usize], "it goes on with other entries");
    let added = files.keys().any(|name| name.starts_with("log/") && !original.files.contains_key(name));
    match verify_log(&folder.path().join("log"), Some(&original.policy)) {
        Ok(report) => require!(report.holds || added, "it goes on with what does not hold: {:?}", report.failure),
        Err(why) => require!(added, "it goes on with what cannot be verified: {why}"),
    }
    Ok(())
}
