//! A log in a folder: the anchor's own, or a copy of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{ReadError, Source, SourceError};

/// What systems other than the anchor's put into folders that are copied, beside names that begin with a dot.
const FOREIGN: [&str; 5] = ["lost+found", "Thumbs.db", "desktop.ini", "System Volume Information", "$RECYCLE.BIN"];

/// Whether a file or folder of this name is not the anchor's, but the system's on which the folder lies or lay.
pub fn is_foreign(name: &str) -> bool {
    name.starts_with('.') || FOREIGN.iter().any(|foreign| name.eq_ignore_ascii_case(foreign))
}

/// A log in a folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder with the file `checkpoint`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

/// Something in the log's folder that is not a folder itself, or whose folder is not looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path, relative to the log's folder.
    pub path: String,
    /// Whether it is a plain file.
    pub is_file: bool,
    /// Whether it is the system's ([`is_foreign`]).
    pub is_foreign: bool,
}

impl Source for Folder {
    fn place(&self) -> String {
        self.0.display().to_string()
    }

    fn read_at_most(&self, path: &str, most: u64) -> Result<Vec<u8>, ReadError> {
        let full = self.0.join(path);
        let failed = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound => ReadError::Missing,
            ErrorKind::IsADirectory | ErrorKind::NotADirectory => ReadError::NotAFile,
            _ => SourceError::Unreadable { path: full.clone(), source }.into(),
        };
        // Opening a pipe would wait for somebody to write into it.
        let found = fs::metadata(&full).map_err(failed)?;
        if !found.is_file() {
            return Err(ReadError::NotAFile);
        }
        let mut bytes = Vec::with_capacity(found.len().min(most) as usize);
        File::open(&full).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > most { Err(ReadError::TooLarge(most)) } else { Ok(bytes) }
    }

    fn files(&self) -> Result<Option<Vec<Listed>>, SourceError> {
        let mut files = Vec::new();
        walk(&self.0, "", &mut files)?;
        Ok(Some(files))
    }
}

fn walk(root: &Path, within: &str, files: &mut Vec<Listed>) -> Result<(), SourceError> {
    let folder = root.join(within);
    let unreadable = |source| SourceError::Unreadable { path: folder.clone(), source };
    let entries = match fs::read_dir(&folder) {
        // A running anchor removes folders of partial files that are superseded.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(unreadable)?,
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_foreign = is_foreign(&name);
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        let kind = match entry.file_type() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(unreadable)?,
        };
        if kind.is_dir() && !is_foreign {
            walk(root, &path, files)?;
        } else {
            files.push(Listed { path, is_file: kind.is_file(), is_foreign });
        }
    }
    Ok(())
}
