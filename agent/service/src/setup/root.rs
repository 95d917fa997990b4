//! Where the files of a machine are: at `/`, or below another folder, of an image or a test.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use super::SetupError;
use crate::file::{replace, replace_secret};

/// The folder that holds `/etc` and `/var`.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

/// Who may read a file, besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// Everybody.
    All,
    /// Nobody.
    Owner,
    /// This group, of a service; nobody, as long as there is no such group.
    Group(&'static str),
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was not there.
    Written,
    /// It was there and the same.
    Unchanged,
    /// It is there with other content, and was left alone.
    Differs,
}

impl Root {
    /// `/` if no other folder is given.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self(folder.unwrap_or_else(|| "/".into()))
    }

    /// Whether it is the machine that this process runs on.
    pub fn is_this_machine(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// Fails at once rather than half-way if this process may not write below `/`.
    pub fn check_rights(&self) -> Result<(), SetupError> {
        if self.is_this_machine() && !geteuid().is_root() { Err(SetupError::NotRoot) } else { Ok(()) }
    }

    /// Where the file `path` of that machine is.
    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What is in a file, if it is there.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, SetupError> {
        let file = self.at(path);
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &file)(error)),
        }
    }

    /// Writes a file that is not there, with its folder. One that is there is left alone, apart from who may read it.
    pub fn put(&self, path: impl AsRef<Path>, bytes: &[u8], readers: Readers) -> Result<Put, SetupError> {
        let path = path.as_ref();
        match self.read(path)? {
            None => self.write(path, bytes, readers).map(|()| Put::Written),
            Some(there) if there == bytes => self.let_read(path, readers).map(|()| Put::Unchanged),
            Some(_) => Ok(Put::Differs),
        }
    }

    /// Writes a file with its folder, also over one that is there.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8], readers: Readers) -> Result<(), SetupError> {
        let file = self.at(&path);
        if let Some(folder) = file.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed("make", folder))?;
        }
        let written = match readers {
            Readers::All => replace(&file, bytes),
            Readers::Owner | Readers::Group(_) => replace_secret(&file, bytes),
        };
        written.map_err(failed("write", &file))?;
        self.let_read(path, readers)
    }

    /// Says on standard output what became of a file.
    pub fn tell(&self, path: impl AsRef<Path>, is_same: bool) {
        let mark = if is_same { "unchanged" } else { "written  " };
        println!("{mark}  {}", self.at(path).display());
    }

    /// Sees to who may read a file.
    pub fn let_read(&self, path: impl AsRef<Path>, readers: Readers) -> Result<(), SetupError> {
        let file = self.at(path);
        let mode = match readers {
            Readers::All => 0o644,
            Readers::Owner => 0o600,
            Readers::Group(name) => match self.group(name)? {
                Some(id) => {
                    chown(&file, None, Some(id)).map_err(failed("give its group", &file))?;
                    0o640
                }
                None => 0o600,
            },
        };
        fs::set_permissions(&file, Permissions::from_mode(mode)).map_err(failed("set the mode of", &file))
    }

    /// Gives a folder and all in it to a service's user, if there is one: passwd(5), `name:password:uid:gid:…`.
    pub fn give(&self, path: impl AsRef<Path>, user: &str) -> Result<(), SetupError> {
        let users = self.read("/etc/passwd")?.unwrap_or_default();
        let numbers = |line: &str| {
            let mut parts = line.split(':');
            let is_it = parts.next() == Some(user);
            is_it.then(|| Some((parts.nth(1)?.parse().ok()?, parts.next()?.parse().ok()?))).flatten()
        };
        let Some((user, group)) = String::from_utf8_lossy(&users).lines().find_map(numbers) else { return Ok(()) };
        let mut left = vec![self.at(path)];
        while let Some(path) = left.pop() {
            let give = failed("give away", &path);
            lchown(&path, Some(user), Some(group)).map_err(&give)?;
            if fs::symlink_metadata(&path).map_err(&give)?.is_dir() {
                for entry in fs::read_dir(&path).map_err(&give)? {
                    left.push(entry.map_err(&give)?.path());
                }
            }
        }
        Ok(())
    }

    /// The number of a group (group(5)): `name:password:number:members`.
    fn group(&self, name: &str) -> Result<Option<u32>, SetupError> {
        let groups = self.read("/etc/group")?.unwrap_or_default();
        let number = |line: &str| {
            let mut parts = line.split(':');
            (parts.next() == Some(name)).then(|| parts.nth(1)?.parse().ok()).flatten()
        };
        Ok(String::from_utf8_lossy(&groups).lines().find_map(number))
    }
}

fn failed<'a>(verb: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SetupError + use<'a> {
    move |source| SetupError::File { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(file: &Path) -> u32 {
        fs::metadata(file).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn what_is_there_is_left_alone_and_what_is_not_is_written_with_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(Some(folder.path().to_owned()));
        assert_eq!(root.put("/etc/grid/a", b"one", Readers::All).unwrap(), Put::Written);
        assert_eq!(root.put("/etc/grid/a", b"one", Readers::All).unwrap(), Put::Unchanged);
        assert_eq!(root.put("/etc/grid/a", b"two", Readers::All).unwrap(), Put::Differs);
        assert_eq!(root.read("/etc/grid/a").unwrap().unwrap(), b"one");
        assert_eq!(root.read("/etc/grid/b").unwrap(), None);
        assert_eq!(mode(&folder.path().join("etc/grid/a")), 0o644);
    }

    #[test]
    fn a_secret_is_its_owners_and_a_services_file_its_groups_once_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(Some(folder.path().to_owned()));
        root.write("/etc/secret", b"x", Readers::Owner).unwrap();
        root.write("/etc/settings", b"x", Readers::Group("grid-test")).unwrap();
        assert_eq!((mode(&root.at("/etc/secret")), mode(&root.at("/etc/settings"))), (0o600, 0o600));
        let own = rustix::process::getegid().as_raw();
        fs::write(root.at("/etc/group"), format!("root:x:0:\ngrid-test:x:{own}:\n")).unwrap();
        assert_eq!(root.put("/etc/settings", b"x", Readers::Group("grid-test")).unwrap(), Put::Unchanged);
        assert_eq!(mode(&root.at("/etc/settings")), 0o640);
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(Some(folder.path().to_owned()));
        fs::write(folder.path().join("etc"), "no folder").unwrap();
        let error = root.write("/etc/grid/a", b"x", Readers::All).unwrap_err().to_string();
        assert!(error.contains("etc/grid"), "{error}");
    }
}
