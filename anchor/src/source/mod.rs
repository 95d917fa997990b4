//! Where a log is read from: its folder, or a server that serves it as C2SP tlog-tiles says.
//!
//! Whoever reads believes nothing that comes from here: every hash is computed again. But what is read is capped before
//! it is looked at, and a server that stops halfway is given up.
//!
//! A partial tile may be gone once a fuller one stands there (tlog-tiles, section "Partial Tiles"), and then holds
//! what it held at its beginning: [`read_hashes`] and [`read_bundle`] look there.

mod scan;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod web;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::bundle::{self, BadBundle};
use crate::checkpoint::read_unsigned;
use crate::parallel::cores;
use crate::tile::{FULL, Level, Tile};

pub use scan::{BATCH, ScanError, bundles, scan};
pub use web::Web;

/// A log that can be read, by many threads at a time.
pub trait Source: Send + Sync {
    /// Where it is, for people.
    fn place(&self) -> String;

    /// Reads a file: `checkpoint`, or a tile by its path.
    fn read(&self, path: &str) -> Result<Vec<u8>, ReadError>;

    /// All files, if that can be told: a server need not say.
    fn files(&self) -> Result<Option<Vec<Listed>>, SourceError>;

    /// The lengths and entries in the file of a bundle.
    fn unpack(&self, file: Vec<u8>) -> Result<Vec<u8>, BadBundle> {
        bundle::unpack(&file)
    }

    /// How many reads at a time are worth while.
    fn readers(&self) -> usize {
        cores()
    }
}

/// Something in the log's folder that is not a folder itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its path, relative to the log's folder.
    pub path: String,
    /// Whether it is a plain file.
    pub is_file: bool,
}

/// Why a file of a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not there.
    #[error("it is missing")]
    Missing,
    /// Something else is there.
    #[error("it is not a file")]
    NotAFile,
    /// It cannot be told.
    #[error(transparent)]
    Failed(#[from] SourceError),
}

/// Why it cannot be told what a log holds.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The URL is none that can be asked.
    #[error("{0:?} is no URL of a log: write http://HOST/PATH or https://HOST/PATH, without user, query or fragment")]
    Url(String),
    /// The token cannot stand in a request.
    #[error("a token is one line of printable ASCII without spaces")]
    Token,
    /// The server does not answer as HTTP wants, or not at all.
    #[error("cannot fetch {url}: {source}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// The server wants to know who asks.
    #[error("{url}: the server answers {status}: entries are private, give the log's token with --token-file")]
    Forbidden {
        /// What was asked for.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The server answers something else.
    #[error("{url}: the server answers {status}")]
    Status {
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
    },
    /// The server sends more than there can be.
    #[error("{url}: the server sends more than {most} bytes, which no such file has")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// How many bytes it has at most.
        most: u64,
    },
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

/// Opens what a person names: a URL, or a folder. `token` is for a server's entries.
pub fn open(place: &str, token: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    if place.starts_with("http://") || place.starts_with("https://") {
        return Ok(Box::new(Web::new(place, token)?));
    }
    Ok(Box::new(Folder::new(place)))
}

impl Source for Folder {
    fn place(&self) -> String {
        self.0.display().to_string()
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        let full = self.0.join(path);
        fs::read(&full).map_err(|source| match source.kind() {
            ErrorKind::NotFound => ReadError::Missing,
            ErrorKind::IsADirectory | ErrorKind::NotADirectory => ReadError::NotAFile,
            _ => SourceError::Unreadable { path: full, source }.into(),
        })
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
        let path = if within.is_empty() { name } else { format!("{within}/{name}") };
        let kind = match entry.file_type() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.map_err(unreadable)?,
        };
        if kind.is_dir() {
            walk(root, &path, files)?;
        } else {
            files.push(Listed { path, is_file: kind.is_file() });
        }
    }
    Ok(())
}

/// Reads the hashes in a tile, also where a fuller one has taken its place. Whether they are as many as its width says
/// is not looked at.
pub fn read_hashes(source: &dyn Source, tile: Tile) -> Result<Vec<u8>, ReadError> {
    let (found, mut bytes) = read_fuller(source, tile)?;
    if found != tile {
        bytes.truncate(usize::from(tile.width) * 32);
    }
    Ok(bytes)
}

/// Reads lengths and entries of a bundle, also where a fuller one has taken its place, and says how many bytes its file
/// has. Whether the entries are as many as its width says is not looked at.
pub fn read_bundle(source: &dyn Source, tile: Tile) -> Result<(Result<Vec<u8>, BadBundle>, u64), ReadError> {
    let (found, file) = read_fuller(source, tile)?;
    let length = file.len() as u64;
    let plain = source.unpack(file).map(|plain| if found == tile { plain } else { bundle::first(plain, tile.width) });
    Ok((plain, length))
}

/// The tile, or one that begins with it.
fn read_fuller(source: &dyn Source, tile: Tile) -> Result<(Tile, Vec<u8>), ReadError> {
    match source.read(&tile.path()) {
        Err(ReadError::Missing) if !tile.is_full() => {}
        other => return other.map(|bytes| (tile, bytes)),
    }
    let full = Tile { width: FULL, ..tile };
    match source.read(&full.path()) {
        Err(ReadError::Missing) => {}
        other => return other.map(|bytes| (full, bytes)),
    }
    // The newest checkpoint says how wide the tile is by now.
    let newest = source.read("checkpoint")?;
    let size = read_unsigned(&newest).map_err(|_| ReadError::Missing)?.head.size;
    let wider = tile.level.partial_tile(size).filter(|now| now.index == tile.index && now.width > tile.width);
    let wider = wider.ok_or(ReadError::Missing)?;
    source.read(&wider.path()).map(|bytes| (wider, bytes))
}

/// Whether the log begins later than with its first entry: how many bundles, and tiles of level 0, were dropped in front
/// of a tree of `size` entries. The newest bundle is never dropped.
pub fn dropped_bundles(source: &dyn Source, size: u64) -> Result<u64, SourceError> {
    let is_there = |index| match source.read(&Tile::full(Level::Hashes(0), index).path()) {
        Ok(_) | Err(ReadError::NotAFile) => Ok(true),
        Err(ReadError::Missing) => Ok(false),
        Err(ReadError::Failed(error)) => Err(error),
    };
    let bundles = size.div_ceil(u64::from(FULL));
    if Level::Hashes(0).full_tiles(size) == 0 || is_there(0)? {
        return Ok(0);
    }
    // What is missing reaches from `missing`; what is there begins at `there` at the latest.
    let (mut missing, mut there) = (0, bundles - 1);
    while there - missing > 1 {
        let middle = missing + (there - missing) / 2;
        *(if is_there(middle)? { &mut there } else { &mut missing }) = middle;
    }
    Ok(there)
}
