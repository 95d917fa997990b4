//! The journal: entries that are on disk but not yet under a checkpoint.
//!
//! ```text
//! "grid-anchor journal 1\n"  first index (u64)  root hash of the tree before it (32)  CRC-32 of these (u32)
//! record: length of the entry (u32)  CRC-32 of the rest (u32)  index (u64)  synced (u64)  standing (u8)  entry
//! ```
//!
//! all numbers little-endian. A power cut may leave a torn record at the end, which was never acknowledged and is cut
//! off. `synced` says up to which index the journal was durable when the record was written; so a record that does not
//! read although a later one says that it was durable is not a torn end but damage, and nothing goes on from there.

use std::io::{self, BufRead, BufReader, Read};

use tlog_tiles::Hash;

/// The journal's header for entries from `first` on, which continue the tree with this root.
pub fn header(first: u64, root: Hash) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&first.to_le_bytes());
    bytes.extend_from_slice(&root.0);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

const MAGIC: &[u8] = b"grid-anchor journal 1\n";
/// How long the header is.
pub const HEADER: usize = MAGIC.len() + 8 + 32 + 4;
const PREFIX: usize = 4 + 4;
const FIXED: usize = 8 + 8 + 1;

/// What the intake found out about an entry, so that a restart need not check signatures again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody known signed it.
    Unverified,
    /// Its signature holds, and it occupies its place in its session.
    Verified,
}

/// One entry in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log.
    pub index: u64,
    /// All entries before this one were durable when it was written.
    pub synced: u64,
    /// What the intake found out about it.
    pub standing: Standing,
    /// The entry.
    pub entry: Vec<u8>,
}

impl Record {
    /// Appends the record's bytes to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&(self.entry.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.push(match self.standing {
            Standing::Unverified => 0,
            Standing::Verified => 1,
        });
        out.extend_from_slice(&self.entry);
        let crc = crc32fast::hash(&out[start + PREFIX..]);
        out[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
    }

    /// How many bytes the record takes.
    pub fn length(&self) -> u64 {
        (PREFIX + FIXED + self.entry.len()) as u64
    }

    /// Reads the record at the start of `bytes`, if one stands there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let body = rest.get(..FIXED.checked_add(length)?)?;
        let (index, after) = body.split_first_chunk::<8>()?;
        let (synced, after) = after.split_first_chunk::<8>()?;
        let (standing, entry) = after.split_first()?;
        let standing = match standing {
            0 => Standing::Unverified,
            1 => Standing::Verified,
            _ => return None,
        };
        (length <= crate::bundle::LONGEST_ENTRY && crc32fast::hash(body) == u32::from_le_bytes(*crc)).then(|| Self {
            index: u64::from_le_bytes(*index),
            synced: u64::from_le_bytes(*synced),
            standing,
            entry: entry.to_vec(),
        })
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadJournal {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It does not start as a journal does.
    #[error("it does not start as a journal of this version does")]
    Header,
    /// A record does not read although it was durable once.
    #[error("entry {index} at byte {offset} is damaged, although it was on disk before later ones were written")]
    Damaged {
        /// Which entry.
        index: u64,
        /// Where it should stand.
        offset: u64,
    },
    /// A record has another index than its place.
    #[error("at byte {offset} stands entry {found} instead of {expected}")]
    Order {
        /// Where.
        offset: u64,
        /// Which it is.
        found: u64,
        /// Which belongs there.
        expected: u64,
    },
}

/// Reads a journal record by record.
pub struct Records<R> {
    input: BufReader<R>,
    first: u64,
    root: Hash,
    next: u64,
    offset: u64,
}

impl<R: Read> Records<R> {
    /// Reads the header.
    pub fn open(input: R) -> Result<Self, BadJournal> {
        let mut input = BufReader::with_capacity(256 * 1024, input);
        let mut start = [0; HEADER];
        match input.read_exact(&mut start) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(BadJournal::Header),
            other => other?,
        }
        let number = start[MAGIC.len()..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let root = start[MAGIC.len() + 8..].first_chunk().map(|bytes| Hash(*bytes));
        let (Some(first), Some(root)) = (number, root) else { return Err(BadJournal::Header) };
        if start[..] != header(first, root) {
            return Err(BadJournal::Header);
        }
        Ok(Self { input, first, root, next: first, offset: HEADER as u64 })
    }

    /// The index of the first record.
    pub fn first_index(&self) -> u64 {
        self.first
    }

    /// The root of the tree that the journal continues.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The index of the next record.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// How many bytes were good so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record; `None` at the end, be it whole or torn.
    pub fn read(&mut self) -> Result<Option<Record>, BadJournal> {
        let mut bytes = Vec::new();
        self.take(PREFIX, &mut bytes)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let length = bytes.first_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        self.take(FIXED + length.min(crate::bundle::LONGEST_ENTRY), &mut bytes)?;
        let Some(record) = Record::read(&bytes) else {
            self.check_torn(bytes)?;
            return Ok(None);
        };
        if record.index != self.next {
            return Err(BadJournal::Order { offset: self.offset, found: record.index, expected: self.next });
        }
        // No log gets that far, but a file may say so.
        self.next = self.next.checked_add(1).ok_or(BadJournal::Header)?;
        self.offset += record.length();
        Ok(Some(record))
    }

    fn take(&mut self, count: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        let wanted = bytes.len() + count;
        while bytes.len() < wanted {
            let available = self.input.fill_buf()?;
            if available.is_empty() {
                return Ok(());
            }
            let taken = available.len().min(wanted - bytes.len());
            bytes.extend_from_slice(&available[..taken]);
            self.input.consume(taken);
        }
        Ok(())
    }

    /// Looks through all that follows for a record that says that the bad one was durable.
    fn check_torn(&mut self, mut rest: Vec<u8>) -> Result<(), BadJournal> {
        self.input.read_to_end(&mut rest)?;
        let durable = |at| Record::read(&rest[at..]).is_some_and(|record| record.synced > self.next);
        if (0..rest.len()).any(durable) {
            return Err(BadJournal::Damaged { index: self.next, offset: self.offset });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(index: u64, synced: u64) -> Record {
        let standing = if index.is_multiple_of(2) { Standing::Verified } else { Standing::Unverified };
        Record { index, synced, standing, entry: format!("entry {index}").into_bytes() }
    }

    fn journal(first: u64, records: &[Record]) -> Vec<u8> {
        let mut bytes = header(first, Hash([1; 32]));
        for record in records {
            record.write(&mut bytes);
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Record>, u64), BadJournal> {
        let mut records = Records::open(bytes)?;
        let mut all = Vec::new();
        while let Some(record) = records.read()? {
            all.push(record);
        }
        Ok((all, records.offset()))
    }

    #[test]
    fn what_was_written_reads_back() {
        let written: Vec<Record> = (5..9).map(|index| record(index, 5)).collect();
        let bytes = journal(5, &written);
        assert_eq!(read(&bytes).unwrap(), (written, bytes.len() as u64));
        assert_eq!(read(&header(7, Hash([1; 32]))).unwrap(), (vec![], HEADER as u64));
    }

    #[test]
    fn torn_at_any_byte_all_whole_records_before_are_read() {
        let written: Vec<Record> = (0..4).map(|index| record(index, 0)).collect();
        let bytes = journal(0, &written);
        for cut in 0..bytes.len() {
            let Ok((records, offset)) = read(&bytes[..cut]) else {
                assert!(cut < HEADER, "{cut}");
                continue;
            };
            assert_eq!(records, written[..records.len()]);
            assert_eq!(offset as usize, journal(0, &records).len());
            let next = written.get(records.len()).map_or(0, Record::length);
            assert!(cut as u64 - offset < next, "cut at {cut}");
        }
    }

    #[test]
    fn a_torn_end_of_rubbish_is_cut_off() {
        let written: Vec<Record> = (0..3).map(|index| record(index, 0)).collect();
        let whole = journal(0, &written);
        for at in HEADER..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let (records, _) = read(&bytes).unwrap();
            assert_eq!(records, written[..records.len()]);
            assert!(records.len() < 3);
        }
    }

    #[test]
    fn damage_to_what_was_durable_is_refused() {
        let mut written: Vec<Record> = (0..3).map(|index| record(index, 0)).collect();
        let durable = journal(0, &written).len();
        written.extend((3..5).map(|index| record(index, 3)));
        let whole = journal(0, &written);
        for at in HEADER..durable {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x01;
            assert!(matches!(read(&bytes), Err(BadJournal::Damaged { .. })), "byte {at}");
        }
        for at in 0..HEADER {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x01;
            assert!(matches!(read(&bytes), Err(BadJournal::Header)), "byte {at}");
        }
    }

    #[test]
    fn a_log_without_end_is_refused() {
        let bytes = journal(u64::MAX, &[record(u64::MAX, 0)]);
        assert!(matches!(read(&bytes), Err(BadJournal::Header)));
    }

    #[test]
    fn a_record_out_of_order_is_refused() {
        let bytes = journal(0, &[record(0, 0), record(2, 0)]);
        assert!(matches!(read(&bytes), Err(BadJournal::Order { found: 2, expected: 1, .. })));
    }
}
