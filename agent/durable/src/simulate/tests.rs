//! The simulated disk keeps what it must keep, and takes what it may take.

use super::*;
use std::collections::BTreeSet;

fn paths() -> [&'static Path; 3] {
    [Path::new("/folder"), Path::new("/folder/file"), Path::new("/folder/other")]
}

fn contents(disk: &SimulatedDisk, path: &Path) -> BTreeSet<Option<Vec<u8>>> {
    (0..200).map(|seed| disk.after_power_cut(seed).read(path).ok()).collect()
}

#[test]
fn a_file_survives_only_if_it_its_name_and_its_folders_name_are_synced() {
    let [folder, path, _] = paths();
    for synced in 0..8u8 {
        let disk = SimulatedDisk::new();
        disk.make_folder(folder).unwrap();
        let mut file = disk.create(path, 0o666).unwrap();
        file.append(b"content").unwrap();
        assert_eq!(disk.read(path).unwrap(), b"content");
        if synced & 1 != 0 {
            file.sync().unwrap();
        }
        if synced & 2 != 0 {
            disk.sync_folder(folder).unwrap();
        }
        if synced & 4 != 0 {
            disk.sync_folder(Path::new("/")).unwrap();
        }
        let found = contents(&disk, path);
        assert!(found.contains(&Some(b"content".to_vec())));
        assert_eq!(found.contains(&None), synced & 6 != 6);
        assert_eq!(found.iter().flatten().any(|content| content != b"content"), synced & 1 == 0);
    }
}

#[test]
fn an_unsynced_rename_leaves_the_old_or_the_new_content() {
    let [folder, path, other] = paths();
    let disk = SimulatedDisk::new();
    disk.make_folder(folder).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    for (path, content) in [(path, b"old"), (other, b"new")] {
        let mut file = disk.create(path, 0o666).unwrap();
        file.append(content).unwrap();
        file.sync().unwrap();
    }
    disk.sync_folder(folder).unwrap();
    disk.rename(other, path).unwrap();
    let both: BTreeSet<_> = [Some(b"old".to_vec()), Some(b"new".to_vec())].into();
    assert_eq!(contents(&disk, path), both);
    disk.sync_folder(folder).unwrap();
    assert_eq!(contents(&disk, path), [Some(b"new".to_vec())].into());
    assert_eq!(contents(&disk, other), [None].into());
}

#[test]
fn unsynced_writes_are_torn_anywhere_but_synced_ones_stay() {
    let [_, path, _] = paths();
    let path = Path::new("/").join(path.file_name().unwrap());
    let disk = SimulatedDisk::new();
    let mut file = disk.create(&path, 0o666).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    file.append(&[1; 700]).unwrap();
    file.sync().unwrap();
    file.append(&[2; 2000]).unwrap();
    let found: Vec<Vec<u8>> = contents(&disk, &path).into_iter().flatten().collect();
    assert!(found.iter().all(|content| content[..700] == [1; 700]));
    assert!(found.iter().all(|content| content[700..].iter().all(|byte| matches!(byte, 0 | 2))));
    let holes = found.iter().filter(|content| content[700..].windows(2).any(|pair| pair == [0, 2])).count();
    assert!(found.len() > 20 && holes > 3, "{} contents, {holes} of them with holes", found.len());
}

#[test]
fn a_step_fails_when_it_is_to_fail_and_only_then() {
    let path = Path::new("/file");
    let attempt = |disk: &SimulatedDisk| {
        let mut file = disk.create(path, 0o666)?;
        file.append(b"content")?;
        file.sync()?;
        disk.rename(path, Path::new("/other"))?;
        disk.sync_folder(Path::new("/"))?;
        disk.read(Path::new("/other")).map(|_| ())
    };
    for operation in 1..=6 {
        for (fault, kind) in [(Fault::Full, ErrorKind::StorageFull), (Fault::Broken, io::Error::from(Errno::IO).kind())]
        {
            let disk = SimulatedDisk::new();
            disk.fail(operation, fault);
            assert_eq!(attempt(&disk).unwrap_err().kind(), kind);
            assert_eq!(disk.operations(), operation);
        }
    }
    attempt(&SimulatedDisk::new()).unwrap();
}

#[test]
fn after_a_failed_sync_the_next_one_promises_what_is_not_there() {
    let path = Path::new("/file");
    let lost = (0..20).filter(|before| {
        let disk = SimulatedDisk::new();
        (0..*before).for_each(|_| assert!(!disk.exists(path).unwrap()));
        let mut file = disk.create(path, 0o666).unwrap();
        disk.sync_folder(Path::new("/")).unwrap();
        file.append(b"content").unwrap();
        disk.fail(disk.operations() + 1, Fault::Broken);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(disk.read(path).unwrap(), b"content");
        disk.after_power_cut(0).read(path).unwrap() != b"content"
    });
    assert!((3..18).contains(&lost.count()));
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let path = Path::new("/file");
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(100));
    let mut file = disk.create(path, 0o666).unwrap();
    file.append(&[0; 60]).unwrap();
    assert_eq!(disk.free_bytes(path).unwrap(), 40);
    disk.occupy(30);
    assert_eq!(file.append(&[0; 60]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!((file.length().unwrap(), disk.free_bytes(path).unwrap()), (70, 0));
    assert!(disk.create(Path::new("/other"), 0o666).is_err());
    disk.occupy(0);
    disk.remove_file(path).unwrap();
    assert_eq!(disk.free_bytes(path).unwrap(), 100);
}

#[test]
fn only_one_has_a_lock() {
    let disk = SimulatedDisk::new();
    let path = Path::new("/lock");
    let held = disk.lock(path).unwrap().unwrap();
    assert!(disk.lock(path).unwrap().is_none());
    drop(held);
    assert!(disk.lock(path).unwrap().is_some());
}

#[test]
fn what_it_shows_can_be_written_into_a_real_folder() {
    let [folder, path, _] = paths();
    let disk = SimulatedDisk::new();
    disk.make_folder(folder).unwrap();
    disk.create(path, 0o666).unwrap().append(b"content").unwrap();
    let real = tempfile::tempdir().unwrap();
    disk.export(Path::new("/"), real.path()).unwrap();
    assert_eq!(fs::read(real.path().join("folder/file")).unwrap(), b"content");
}
