//! Small files that must survive a power cut: an epoch, the commands that are in force, keys and certificates.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Replaces a file's content, or makes the file: whole or not at all, and for good once this returns.
///
/// The order is what makes it so: write under another name, sync, rename, sync the folder. Without the first sync the
/// rename may reach the disk before the content; without the second it may be undone by a power cut.
///
/// # Errors
/// If a step fails. Then the file still has its old content, or already the new one.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, PUBLIC)
}

/// The same for a secret: from its first byte on, nobody but the owner can read it.
///
/// # Errors
/// As [`replace`].
pub fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, SECRET)
}

/// What the process's umask leaves of reading and writing for all.
const PUBLIC: u32 = 0o666;
const SECRET: u32 = 0o600;

fn put(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let unfinished = unfinished(path)?;
    // What a power cut left there has the mode of another time, so it is not written into.
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn unfinished(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let mut name = name.to_owned();
    name.push(".unfinished");
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        use std::os::unix::fs::PermissionsExt;
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
}
