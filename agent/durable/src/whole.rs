//! Files that appear whole or not at all.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, SystemDisk};

/// What the process's umask leaves of reading and writing for all.
pub(crate) const PUBLIC: u32 = 0o666;
/// For the owner alone, from the first byte on.
pub(crate) const SECRET: u32 = 0o600;
/// So much is held in memory at a time.
const CHUNK: usize = 256 * 1024;

/// Writes a file under the name `written`, syncs it, and gives it the name `target`. Before each step, `step` says whether
/// it may be done. The new name is durable once its folder is synced.
///
/// Without the sync before it the rename might reach the disk before the content.
pub(crate) fn put<E: From<Failed>>(
    disk: &dyn Disk,
    (written, target): (&Path, &Path),
    (content, mode): (&mut dyn Read, u32),
    mut step: impl FnMut(&'static str) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |action| move |source| Failed { action, source };
    step("write")?;
    // What a crash left there has the mode of another time, and may be a file that has its right name already: it is not
    // written into.
    match disk.remove_file(written) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("clear the way for")(error).into()),
        Ok(()) | Err(_) => {}
    }
    let mut file = disk.create(written, mode).map_err(failed("make"))?;
    let mut chunk = Vec::new();
    while content.take(CHUNK as u64).read_to_end(&mut chunk).map_err(failed("read what goes into"))? > 0 {
        file.append(&chunk).map_err(failed("write"))?;
        chunk.clear();
    }
    step("sync")?;
    file.sync().map_err(failed("sync"))?;
    step("rename")?;
    Ok(disk.rename(written, target).map_err(failed("rename"))?)
}

/// What could not be done with the file.
pub(crate) struct Failed {
    pub action: &'static str,
    pub source: io::Error,
}

impl From<Failed> for io::Error {
    fn from(failed: Failed) -> Self {
        failed.source
    }
}

/// Replaces a file's content, or makes the file: whole or not at all, and for good once this returns. For small files in a
/// folder that others use too: an epoch, the commands that are in force, keys and certificates.
///
/// The order is what makes it so: write under another name, sync, rename, sync the folder. Without the first sync the
/// rename may reach the disk before the content; without the second it may be undone by a power cut.
///
/// # Errors
/// If a step fails. Then the file still has its old content, or already the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_on(&SystemDisk, path, bytes, PUBLIC)
}

/// The same for a secret: from its first byte on, nobody but the owner can read it.
///
/// # Errors
/// As [`replace`].
pub fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_on(&SystemDisk, path, bytes, SECRET)
}

fn replace_on(disk: &dyn Disk, path: &Path, mut bytes: &[u8], mode: u32) -> io::Result<()> {
    put::<io::Error>(disk, (&unfinished(path)?, path), (&mut bytes, mode), |_| Ok(()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk.sync_folder(folder)
}

fn unfinished(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it names no file"))?;
    let mut name = name.to_owned();
    name.push(".unfinished");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::SimulatedDisk;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_made_and_then_replaced_and_nothing_else_is_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch");
        replace(&path, b"a longer text").unwrap();
        replace(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_power_cut_left_unfinished_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch");
        fs::write(folder.path().join("epoch.unfinished"), "half of something much longer than the new content")
            .unwrap();
        replace(&path, b"7\n").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"7\n");
    }

    #[test]
    fn a_secret_is_for_its_owner_only_even_where_something_unfinished_was_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(folder.path().join("key.unfinished"), "half").unwrap();
        replace_secret(&path, b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"secret");
    }

    #[test]
    fn a_failure_leaves_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("epoch");
        replace(&path, b"old").unwrap();
        fs::create_dir(folder.path().join("epoch.unfinished")).unwrap();
        assert!(replace(&path, b"new").is_err());
        assert!(replace(Path::new("/"), b"new").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"old");
    }

    #[test]
    fn whenever_the_power_is_cut_it_has_the_old_or_the_new_content_and_after_the_end_the_new_one() {
        let path = Path::new("/epoch");
        let disk = SimulatedDisk::new();
        replace_on(&disk, path, b"old", PUBLIC).unwrap();
        disk.keep_moments();
        replace_on(&disk, path, b"new", PUBLIC).unwrap();
        let moments = disk.moments();
        let last = moments.last().unwrap().operation;
        let mut found = [0; 2];
        for moment in moments {
            for seed in 0..20 {
                let disk = moment.disk.after_power_cut(seed);
                let content = disk.read(path).unwrap();
                assert!(content == b"old" || content == b"new", "{content:?}");
                assert!(moment.operation < last || content == b"new");
                found[usize::from(content == b"new")] += 1;
                // And it can be replaced again.
                replace_on(&disk, path, b"newer", PUBLIC).unwrap();
                assert_eq!(disk.after_power_cut(seed).read(path).unwrap(), b"newer");
            }
        }
        assert!(found[0] > 20 && found[1] > 20, "{found:?}");
    }
}
