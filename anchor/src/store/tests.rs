//! A log grows and is read again, and what does not fit together is refused. What a crash does is tested with the recorder.

use super::*;
use crate::testing::folder;
use crate::verify::verify_log;
use ed25519_dalek::SigningKey;
use grid_durable::Stop;
use grid_protocol::units::UnixMillis;
use std::fs;
use std::path::Path;

fn key() -> LogKey {
    LogKey::new("example.com/street", &SigningKey::from_bytes(&[9; 32])).unwrap()
}

fn open(folder: &Path, stop: Stop) -> Result<Store, StoreError> {
    Store::open(Durable::open(folder, stop)?, key()).map(|(store, _)| store)
}

fn entry(index: u64) -> Vec<u8> {
    crate::entry::write(UnixMillis(index), "grid/demo/cp-1/set/x", format!("value {index}").as_bytes())
}

fn grow(store: &mut Store, to: u64) -> Result<(), StoreError> {
    while store.size() < to {
        let index = store.size();
        store.append(Standing::Unverified, entry(index))?;
    }
    Ok(())
}

fn entries(folder: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    crate::show::show(&folder.join("log"), &crate::show::Selection::default(), |line| {
        found.push(line.received_ms.0);
        true
    })
    .unwrap();
    found
}

fn consistent(folder: &Path) -> u64 {
    let report = verify_log(&folder.join("log"), None).unwrap();
    assert_eq!(report.failure, None);
    assert_eq!(report.entries, report.tree_size);
    report.tree_size
}

#[test]
fn a_log_grows_over_many_checkpoints_and_restarts() {
    let folder = folder();
    for size in [0, 1, 2, 255, 256, 257, 300, 511, 512, 513, 1000] {
        let mut store = open(folder.path(), Stop::never()).unwrap();
        grow(&mut store, size).unwrap();
        let (head, _) = store.checkpoint(b"{}").unwrap();
        assert_eq!(head.size, size);
        drop(store);
        assert_eq!(consistent(folder.path()), size);
        assert_eq!(entries(folder.path()), (0..size).collect::<Vec<_>>());
        let partials = |level: Level| {
            let durable = Durable::open(folder.path(), Stop::never()).unwrap();
            let folders = (0..=level.full_tiles(size)).map(|index| Tile::full(level, index).partials());
            folders.map(|folder| durable.names_in(&format!("log/{folder}")).unwrap().len()).sum::<usize>()
        };
        for level in [Level::Entries, Level::Hashes(0), Level::Hashes(1)] {
            assert_eq!(partials(level), usize::from(level.partial_tile(size).is_some()), "{level:?} at {size}");
        }
    }
}

/// Checkpoints at 250, 300 and 530 with unsynced entries behind: full tiles fill, partial ones are superseded.
fn scenario(folder: &Path, stop: Stop, durable: &mut u64) -> Result<(), StoreError> {
    for (checkpoint, more) in [(250, 252), (300, 310), (530, 540)] {
        let mut store = open(folder, stop.clone())?;
        grow(&mut store, checkpoint)?;
        store.sync()?;
        *durable = store.durable_size();
        store.checkpoint(format!("{{\"at\":{checkpoint}}}").as_bytes())?;
        grow(&mut store, more)?;
        store.sync()?;
        *durable = store.durable_size();
    }
    Ok(())
}

#[test]
fn a_torn_journal_is_cut_and_goes_on() {
    let folder = folder();
    let mut store = open(folder.path(), Stop::never()).unwrap();
    grow(&mut store, 5).unwrap();
    store.sync().unwrap();
    drop(store);
    let path = folder.path().join("journal");
    let whole = fs::read(&path).unwrap();
    for cut in journal::HEADER..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let mut store = open(folder.path(), Stop::never()).unwrap();
        assert!(store.size() < 5);
        let size = store.size() + 1;
        grow(&mut store, size).unwrap();
        store.sync().unwrap();
        drop(store);
        assert_eq!(open(folder.path(), Stop::never()).unwrap().size(), size, "cut at {cut}");
    }
}

#[test]
fn it_refuses_what_it_cannot_prove_and_names_the_file() {
    let made = folder();
    let mut durable = 0;
    scenario(made.path(), Stop::never(), &mut durable).unwrap();
    let names = [
        "journal",
        "sessions",
        "log/checkpoint",
        "log/tile/entries/002.p/18",
        "log/tile/0/002.p/18",
        "log/tile/1/000.p/2",
    ];
    for name in names {
        let path = made.path().join(name);
        let good = fs::read(&path).unwrap();
        let refused = |what: &str| {
            let error = open(made.path(), Stop::never()).map(|_| ()).unwrap_err();
            assert!(matches!(error, StoreError::Inconsistent { .. }), "{name} {what}: {error}");
            let blamed = error.to_string();
            // A changed hash may show in the file above or below it.
            let named = names.iter().any(|name| blamed.contains(name));
            assert!(named, "{name} {what}: {blamed}");
        };
        fs::remove_file(&path).unwrap();
        refused("missing");
        for at in [0, good.len() / 3, good.len() / 2] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            // The journal's end may be torn, so only what was durable before is refused: that is tested there.
            if name != "journal" || at == 0 {
                refused("changed");
            }
        }
        fs::write(&path, &good).unwrap();
    }
    assert_eq!(open(made.path(), Stop::never()).unwrap().size(), 540);
}

#[test]
fn a_journal_of_another_log_is_refused() {
    let (one, other) = (folder(), folder());
    for (folder, shift) in [(&one, 0), (&other, 1)] {
        let mut store = open(folder.path(), Stop::never()).unwrap();
        for index in 0..10 {
            store.append(Standing::Unverified, entry(index + shift)).unwrap();
        }
        store.checkpoint(b"{}").unwrap();
        grow(&mut store, 15).unwrap();
        store.sync().unwrap();
    }
    fs::copy(one.path().join("journal"), other.path().join("journal")).unwrap();
    let error = open(other.path(), Stop::never()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("journal") && error.contains("does not continue"), "{error}");
}

#[test]
fn a_key_is_made_once_and_keeps_its_origin() {
    let folder = folder();
    let site = "demo".parse().unwrap();
    let mut durable = Durable::open(folder.path(), Stop::never()).unwrap();
    let key = read_or_make_key(&mut durable, &site, Some("example.com/a")).unwrap();
    assert_eq!(key.origin(), "example.com/a");
    let again = read_or_make_key(&mut durable, &site, None).unwrap();
    assert_eq!(again.public().vkey(), key.public().vkey());
    let other = read_or_make_key(&mut durable, &site, Some("example.com/b"));
    assert!(matches!(other, Err(StoreError::OtherOrigin { .. })));
}
