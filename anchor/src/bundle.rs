//! A bundle of entries as a file: C2SP tlog-tiles' entry bundle in gzip.
//!
//! The bundle is each entry with its length before it (uint16, big-endian). The file is one gzip member (RFC 1952),
//! which every gzip reader opens. But gzip alone does not say of every bit whether it was changed (the time stamp, the
//! system, the padding in the compressed data), and here every changed byte must be noticed. So the header is always
//! the same 16 bytes, and its extra field (RFC 1952 section 2.3.1.1) holds the SHA-256 of all that follows it:
//!
//! ```text
//! 1f 8b 08 04 00 00 00 00 00 ff     gzip, deflate, extra field, no time, unknown system
//! 24 00  'G' 'A' 20 00  <32 bytes>  extra field of 36 bytes: subfield GA with 32 bytes, the SHA-256
//! <deflate> <CRC-32> <length>       what it is the SHA-256 of
//! ```

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};

use crate::tile::FULL;

const HEADER: [u8; 16] = [0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 36, 0, b'G', b'A', 32, 0];
const BODY: usize = HEADER.len() + 32;
const TRAILER: usize = 8;
/// Signatures and hashes do not compress, all else repeats: for messages of this project level 6 takes twice the time of
/// level 2, and makes bundles smaller by 7 %.
const LEVEL: Compression = Compression::new(2);
/// The longest entry: its length must fit its two bytes.
pub const LONGEST_ENTRY: usize = u16::MAX as usize;
/// The most bytes that lengths and entries of a bundle have.
pub const LARGEST: usize = FULL as usize * (LONGEST_ENTRY + 2);

/// Why a file is not a bundle of this log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBundle {
    /// The fixed part of the gzip header differs.
    #[error("its gzip header is not the one that this log writes")]
    Header,
    /// The SHA-256 in the header is not that of the rest.
    #[error("its bytes do not match the SHA-256 in its header")]
    Digest,
    /// The compressed data is not valid, or its checksum or length differ.
    #[error("its compressed data is not valid")]
    Deflate,
    /// The lengths before the entries do not add up.
    #[error("it does not consist of entries with their lengths")]
    Lengths,
    /// It has another number of entries than its name says.
    #[error("it has {found} entries instead of {expected}")]
    Count {
        /// How many there are.
        found: usize,
        /// How many its path promises.
        expected: u16,
    },
}

/// Packs entries, each at most [`LONGEST_ENTRY`] bytes, into the bytes of a bundle's file.
pub fn pack<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut plain = Vec::new();
    for entry in entries {
        let length = u16::try_from(entry.len()).unwrap_or_else(|_| unreachable!("entries are cut to 65,535 bytes"));
        plain.extend_from_slice(&length.to_be_bytes());
        plain.extend_from_slice(entry);
    }
    let mut file = Vec::with_capacity(BODY + plain.len() / 2 + 64);
    file.extend_from_slice(&HEADER);
    file.extend_from_slice(&[0; 32]);
    deflate(&plain, &mut file);
    file.extend_from_slice(&crc32fast::hash(&plain).to_le_bytes());
    file.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    let digest = Sha256::digest(&file[BODY..]);
    file[HEADER.len()..BODY].copy_from_slice(&digest);
    file
}

fn deflate(plain: &[u8], out: &mut Vec<u8>) {
    let mut compressor = Compress::new(LEVEL, false);
    loop {
        let done = compressor.total_in() as usize;
        out.reserve(plain.len() / 4 + 1024);
        match compressor.compress_vec(&plain[done..], out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return,
            Ok(Status::Ok | Status::BufError) => {}
            Err(error) => unreachable!("compressing from memory into a growing vector cannot fail: {error}"),
        }
    }
}

/// What is in a bundle's file, lengths and all. Checks every byte of the file.
pub fn unpack(file: &[u8]) -> Result<Vec<u8>, BadBundle> {
    let body = file.get(BODY..).ok_or(BadBundle::Header)?;
    if file[..HEADER.len()] != HEADER {
        return Err(BadBundle::Header);
    }
    if Sha256::digest(body)[..] != file[HEADER.len()..BODY] {
        return Err(BadBundle::Digest);
    }
    let split = body.len().checked_sub(TRAILER).ok_or(BadBundle::Deflate)?;
    let (compressed, trailer) = body.split_at(split);
    let length = u32::from_le_bytes([trailer[4], trailer[5], trailer[6], trailer[7]]) as usize;
    if length > LARGEST {
        return Err(BadBundle::Deflate);
    }
    let mut plain = Vec::with_capacity(length + 1);
    let mut inflater = Decompress::new(false);
    let ended = inflater.decompress_vec(compressed, &mut plain, FlushDecompress::Finish);
    let whole = matches!(ended, Ok(Status::StreamEnd)) && inflater.total_in() == compressed.len() as u64;
    if !whole || plain.len() != length || crc32fast::hash(&plain).to_le_bytes() != trailer[..4] {
        return Err(BadBundle::Deflate);
    }
    Ok(plain)
}

/// The beginning of what [`unpack`] returned: its first `count` entries with their lengths. All of it if there are fewer.
pub fn first(mut plain: Vec<u8>, count: u16) -> Vec<u8> {
    let mut end = 0;
    for _ in 0..count {
        let Some([high, low]) = plain.get(end..end + 2) else { return plain };
        end += 2 + usize::from(u16::from_be_bytes([*high, *low]));
    }
    plain.truncate(end);
    plain
}

/// The entries in what [`unpack`] returned; exactly `expected` of them.
pub fn entries(plain: &[u8], expected: u16) -> Result<Vec<&[u8]>, BadBundle> {
    let mut entries = Vec::with_capacity(usize::from(expected));
    let mut rest = plain;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<2>().ok_or(BadBundle::Lengths)?;
        let (entry, after) =
            after.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or(BadBundle::Lengths)?;
        entries.push(entry);
        rest = after;
    }
    if entries.len() == usize::from(expected) {
        Ok(entries)
    } else {
        Err(BadBundle::Count { found: entries.len(), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sample() -> Vec<Vec<u8>> {
        (0..20u8).map(|n| format!("{{\"entry\":{n},\"text\":\"{}\"}}", "ab".repeat(n.into())).into_bytes()).collect()
    }

    fn packed() -> Vec<u8> {
        pack(sample().iter().map(Vec::as_slice))
    }

    #[test]
    fn what_was_packed_unpacks() {
        let plain = unpack(&packed()).unwrap();
        assert_eq!(entries(&plain, 20).unwrap(), sample());
        assert_eq!(entries(&plain, 21), Err(BadBundle::Count { found: 20, expected: 21 }));
    }

    #[test]
    fn any_gzip_reader_opens_it() {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed().as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, unpack(&packed()).unwrap());
        assert_eq!(plain[..2], [0, 21]);
    }

    #[test]
    fn every_changed_bit_and_every_missing_or_added_byte_is_noticed() {
        let file = packed();
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                assert!(unpack(&changed).is_err(), "bit {bit} of byte {at}");
            }
            assert!(unpack(&file[..at]).is_err(), "cut at {at}");
        }
        assert!(unpack(&[file.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn large_and_incompressible_entries_survive() {
        let mut state = 1u32;
        let mut noise = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let large: Vec<Vec<u8>> = (0..256).map(|_| (0..LONGEST_ENTRY).map(&mut noise).collect()).collect();
        let plain = unpack(&pack(large.iter().map(Vec::as_slice))).unwrap();
        assert_eq!(entries(&plain, 256).unwrap(), large);
    }

    #[test]
    fn lengths_that_do_not_add_up_are_refused() {
        assert_eq!(entries(&[0], 1), Err(BadBundle::Lengths));
        assert_eq!(entries(&[0, 2, 1], 1), Err(BadBundle::Lengths));
    }
}
