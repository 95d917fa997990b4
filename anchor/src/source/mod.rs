//! Where a log is read from: its folder, or a server that serves it as C2SP tlog-tiles says.
//!
//! Whoever reads believes nothing that comes from here: every hash is computed again. But what is read is capped before
//! it is looked at, and a server that stops halfway is given up.
//!
//! A partial tile may be gone once a fuller one stands there (tlog-tiles, section "Partial Tiles"), and then holds
//! what it held at its beginning: [`read_hashes`] and [`read_bundle`] look there.

mod folder;
mod scan;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod web;

use std::io;
use std::path::PathBuf;

use crate::bundle::{self, BadBundle};
use crate::checkpoint::read_unsigned;
use crate::parallel::cores;
use crate::tile::{FULL, Level, Tile};

pub use folder::{Folder, Listed, is_foreign};
pub use scan::{bundles, in_batches, scan};
pub use web::Web;

/// A log that can be read, by many threads at a time.
pub trait Source: Send + Sync {
    /// Where it is, for people.
    fn place(&self) -> String;

    /// Reads a file, if it has at most so many bytes.
    fn read_at_most(&self, path: &str, most: u64) -> Result<Vec<u8>, ReadError>;

    /// Reads a file: `checkpoint`, or a tile by its path.
    fn read(&self, path: &str) -> Result<Vec<u8>, ReadError> {
        self.read_at_most(path, largest(path))
    }

    /// All files, if that can be told: a server need not say.
    fn files(&self) -> Result<Option<Vec<Listed>>, SourceError>;

    /// The lengths and entries in the file of a bundle; `None` if they are more than so many bytes.
    fn unpack(&self, file: Vec<u8>, most: usize) -> Result<Option<Vec<u8>>, BadBundle> {
        // Its last four bytes say how many (RFC 1952 section 2.3.1); that it is true is checked when it is unpacked.
        let told = file.last_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        if most < told && told <= bundle::LARGEST {
            return Ok(None);
        }
        bundle::unpack(&file).map(Some)
    }

    /// How many reads at a time are worth while.
    fn readers(&self) -> usize {
        cores()
    }
}

/// A checkpoint is origin, size, root and signatures, of which a log's own and some witnesses' fit.
const LARGEST_CHECKPOINT: u64 = 64 * 1024;
const LARGEST_TILE: u64 = FULL as u64 * 32;
/// What deflate adds to bytes that cannot be made smaller is less than this.
const LARGEST_PACKED: u64 = 64 * 1024;

/// How many bytes a file has at most.
fn largest(path: &str) -> u64 {
    match path {
        "checkpoint" => LARGEST_CHECKPOINT,
        _ if path.starts_with("tile/entries/") => bundle::LARGEST as u64 + LARGEST_PACKED,
        _ => LARGEST_TILE,
    }
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
    /// It is larger than any such file.
    #[error("it has more than {0} bytes, which no such file has")]
    TooLarge(u64),
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
}

/// Why a file of a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path}: {why}")]
    Read {
        /// Which, relative to the log.
        path: String,
        /// What is wrong.
        why: ReadError,
    },
    /// It is to be a bundle, and is none.
    #[error("{path}: {why}")]
    Bundle {
        /// Which, relative to the log.
        path: String,
        /// What is wrong.
        why: BadBundle,
    },
}

/// Opens what a person names: a URL, or a folder. `token` is for a server's entries.
pub fn open(place: &str, token: Option<&str>) -> Result<Box<dyn Source>, SourceError> {
    if place.starts_with("http://") || place.starts_with("https://") {
        return Ok(Box::new(Web::new(place, token)?));
    }
    Ok(Box::new(Folder::new(place)))
}

/// Reads the hashes in a tile, also where a fuller one has taken its place. Whether they are as many as its width says
/// is not looked at.
pub fn read_hashes(source: &dyn Source, tile: Tile) -> Result<Vec<u8>, ReadError> {
    let (found, mut bytes) = read_fuller(source, tile, LARGEST_TILE)?;
    if found != tile {
        bytes.truncate(usize::from(tile.width) * 32);
    }
    Ok(bytes)
}

/// A bundle that was read.
#[derive(Debug)]
pub struct ReadBundle {
    /// Lengths and entries. Whether they are as many as its width says is not looked at.
    pub plain: Vec<u8>,
    /// How many bytes its file has.
    pub length: u64,
}

/// Reads a bundle, also where a fuller one has taken its place.
pub fn read_bundle(source: &dyn Source, tile: Tile) -> Result<ReadBundle, FileError> {
    let unread = || FileError::Read { path: tile.path(), why: ReadError::TooLarge(bundle::LARGEST as u64) };
    read_bundle_at_most(source, tile, bundle::LARGEST)?.ok_or_else(unread)
}

/// [`read_bundle`], if lengths and entries have at most so many bytes; `None` if they have more.
pub fn read_bundle_at_most(source: &dyn Source, tile: Tile, most: usize) -> Result<Option<ReadBundle>, FileError> {
    let (found, file) = match read_fuller(source, tile, most as u64 + LARGEST_PACKED) {
        Err(ReadError::TooLarge(_)) if most < bundle::LARGEST => return Ok(None),
        other => other.map_err(|why| FileError::Read { path: tile.path(), why })?,
    };
    let length = file.len() as u64;
    let plain = source.unpack(file, most).map_err(|why| FileError::Bundle { path: tile.path(), why })?;
    let cut = |plain| if found == tile { plain } else { bundle::first(plain, tile.width) };
    Ok(plain.map(|plain| ReadBundle { plain: cut(plain), length }))
}

/// The tile, or one that begins with it.
fn read_fuller(source: &dyn Source, tile: Tile, most: u64) -> Result<(Tile, Vec<u8>), ReadError> {
    match source.read_at_most(&tile.path(), most) {
        Err(ReadError::Missing) if !tile.is_full() => {}
        other => return other.map(|bytes| (tile, bytes)),
    }
    let full = Tile { width: FULL, ..tile };
    match source.read_at_most(&full.path(), most) {
        Err(ReadError::Missing) => {}
        other => return other.map(|bytes| (full, bytes)),
    }
    // The newest checkpoint says how wide the tile is by now.
    let newest = source.read("checkpoint")?;
    let size = read_unsigned(&newest).map_err(|_| ReadError::Missing)?.head.size;
    let wider = tile.wider(size).ok_or(ReadError::Missing)?;
    source.read_at_most(&wider.path(), most).map(|bytes| (wider, bytes))
}

/// Whether the log begins later than with its first entry: how many bundles were dropped in front of a tree of `size`
/// entries. The newest bundle is never dropped.
///
/// Of a bundle first its entries go, then the tile of their hashes ([`crate::pruning::dropped_with`]). A drop that was cut
/// short in between leaves that tile, and nothing else that would not belong.
pub fn dropped_bundles(source: &dyn Source, size: u64) -> Result<u64, SourceError> {
    let is_there = |level, index| match source.read(&Tile::full(level, index).path()) {
        Ok(_) | Err(ReadError::NotAFile | ReadError::TooLarge(_)) => Ok(true),
        Err(ReadError::Missing) => Ok(false),
        Err(ReadError::Failed(error)) => Err(error),
    };
    let Some(last) = size.div_ceil(u64::from(FULL)).checked_sub(1).filter(|last| *last > 0) else { return Ok(0) };
    // What is missing reaches from `missing`; what is there begins at `there` at the latest.
    let mut there = last;
    if is_there(Level::Hashes(0), 0)? {
        there = 0;
    } else {
        let mut missing = 0;
        while there - missing > 1 {
            let middle = missing + (there - missing) / 2;
            *(if is_there(Level::Hashes(0), middle)? { &mut there } else { &mut missing }) = middle;
        }
    }
    let is_cut_short = there < last && !is_there(Level::Entries, there)?;
    Ok(there + u64::from(is_cut_short))
}
