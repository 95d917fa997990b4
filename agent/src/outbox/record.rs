//! A segment's format: messages one after the other.
//!
//! ```text
//! "grid-agent outbox 1\n"  generation (u64)  CRC-32 of these (u32)
//! record: length of what follows the CRC (u32)  CRC-32 of generation and what follows (u32)
//!         session (u64)  number (u64)  said at, Unix milliseconds (u64)  length of the topic (u16)  topic  payload
//! ```
//!
//! all numbers little-endian. A power cut may leave a torn record at the end. A record that does not read, at the end or
//! before, is skipped: what follows it is as good as before.

use std::io::{self, Read};
use std::sync::Arc;

use grid_protocol::message::Session;
use grid_protocol::units::UnixMillis;

use super::message::{Message, Shared};

const MAGIC: &[u8] = b"grid-agent outbox 1\n";
/// How long the header is.
pub const HEADER: usize = MAGIC.len() + 8 + 4;
const PREFIX: usize = 4 + 4;
const FIXED: usize = 8 + 8 + 8 + 2;
/// Payloads have at most 8 KiB, topics 128 bytes.
const LONGEST: usize = PREFIX + FIXED + 128 + 8 * 1024;
const READ_AHEAD: usize = 4 * LONGEST;

/// The header of a segment of this generation.
pub fn header(generation: u64) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// Reads a header; `None` if it is none.
pub fn read_header(mut input: impl Read) -> io::Result<Option<u64>> {
    let mut bytes = [0; HEADER];
    match input.read_exact(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let generation = bytes[MAGIC.len()..].first_chunk().map(|number| u64::from_le_bytes(*number));
    Ok(generation.filter(|generation| bytes[..] == header(*generation)))
}

/// Appends a message's record.
pub fn write(message: &Message, generation: u64, out: &mut Vec<u8>) {
    let topic = message.topic.to_string();
    let start = out.len();
    let length = FIXED + topic.len() + message.payload.len();
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&message.session.0.to_le_bytes());
    out.extend_from_slice(&message.seq.to_le_bytes());
    out.extend_from_slice(&message.said_at.0.to_le_bytes());
    out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(topic.as_bytes());
    out.extend_from_slice(&message.payload);
    let crc = checksum(generation, &out[start + PREFIX..]);
    out[start + 4..start + PREFIX].copy_from_slice(&crc.to_le_bytes());
}

/// How many bytes a message's record takes.
pub fn length(message: &Message) -> u64 {
    (PREFIX + FIXED + message.topic.to_string().len() + message.payload.len()) as u64
}

fn checksum(generation: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Reads the record at the start of `bytes`, and how long it is, if one stands there.
fn read(bytes: &[u8], generation: u64) -> Option<(Message, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (crc, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    if !(FIXED..=LONGEST - PREFIX).contains(&length) {
        return None;
    }
    let body = rest.get(..length)?;
    if checksum(generation, body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (session, body) = body.split_first_chunk::<8>()?;
    let (seq, body) = body.split_first_chunk::<8>()?;
    let (said_at, body) = body.split_first_chunk::<8>()?;
    let (topic_length, body) = body.split_first_chunk::<2>()?;
    let (topic, payload) = body.split_at_checked(u16::from_le_bytes(*topic_length).into())?;
    let message = Message {
        session: Session(u64::from_le_bytes(*session)),
        seq: u64::from_le_bytes(*seq),
        said_at: UnixMillis(u64::from_le_bytes(*said_at)),
        topic: std::str::from_utf8(topic).ok()?.parse().ok()?,
        payload: payload.to_vec(),
    };
    Some((message, PREFIX + length))
}

/// Reads a segment record by record.
pub struct Records<R> {
    input: R,
    generation: u64,
    buffer: Vec<u8>,
    /// Where in the buffer the next record should stand.
    at: usize,
    /// Where in the file the buffer starts.
    base: u64,
    is_at_end: bool,
}

impl<R: Read> Records<R> {
    /// Goes on reading a segment of this generation from byte `offset`, up to which `input` was read already.
    pub fn after(input: R, generation: u64, offset: u64) -> Self {
        Self { input, generation, buffer: Vec::new(), at: 0, base: offset, is_at_end: false }
    }

    /// The next message; `None` where no more follows.
    pub fn read(&mut self) -> io::Result<Option<Shared>> {
        loop {
            self.fill()?;
            match read(&self.buffer[self.at..], self.generation) {
                Some((message, length)) => {
                    self.at += length;
                    return Ok(Some(Arc::new(message)));
                }
                None if self.at < self.buffer.len() => self.at += 1,
                None => return Ok(None),
            }
        }
    }

    /// Where the last record ended.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Holds a whole record in the buffer, if one follows.
    fn fill(&mut self) -> io::Result<()> {
        if self.is_at_end || self.buffer.len() - self.at >= LONGEST {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.base += std::mem::take(&mut self.at) as u64;
        let wanted = READ_AHEAD - self.buffer.len();
        let read = self.input.by_ref().take(wanted as u64).read_to_end(&mut self.buffer)?;
        self.is_at_end = read < wanted;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(seq: u64) -> Message {
        Message {
            session: Session(9),
            seq,
            said_at: UnixMillis(1_800_000_000_000 + seq),
            topic: "grid/demo/cp-1/measurement".parse().unwrap(),
            payload: vec![b'x'; 50 + usize::try_from(seq).unwrap() * 7],
        }
    }

    fn segment(count: u64) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = header(3);
        let ends = (1..=count).map(|seq| {
            write(&message(seq), 3, &mut bytes);
            bytes.len()
        });
        let ends = ends.collect();
        (bytes, ends)
    }

    fn read_all(bytes: &[u8]) -> (Vec<u64>, u64) {
        let mut records = Records::after(&bytes[HEADER..], 3, HEADER as u64);
        let (mut seqs, mut end) = (Vec::new(), HEADER as u64);
        while let Some(found) = records.read().unwrap() {
            assert_eq!(*found, message(found.seq));
            seqs.push(found.seq);
            end = records.offset();
        }
        (seqs, end)
    }

    #[test]
    fn what_was_written_reads_back_and_is_as_long_as_foretold() {
        let (bytes, ends) = segment(300);
        assert_eq!(read_header(&bytes[..]).unwrap(), Some(3));
        assert_eq!(read_all(&bytes), ((1..=300).collect(), bytes.len() as u64));
        assert_eq!(ends[1] - ends[0], usize::try_from(length(&message(2))).unwrap());
    }

    #[test]
    fn torn_at_any_byte_all_whole_records_before_are_read() {
        let (bytes, ends) = segment(5);
        for cut in HEADER..bytes.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count();
            let end = whole.checked_sub(1).map_or(HEADER, |last| ends[last]);
            assert_eq!(read_all(&bytes[..cut]), ((1..=whole as u64).collect(), end as u64), "cut at {cut}");
        }
    }

    #[test]
    fn damage_costs_the_record_that_it_hits_and_no_other() {
        let (bytes, ends) = segment(5);
        for at in HEADER..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let hit = ends.iter().filter(|end| **end <= at).count() as u64 + 1;
            assert_eq!(read_all(&damaged).0, (1..=5).filter(|seq| *seq != hit).collect::<Vec<_>>(), "byte {at}");
        }
        for at in 0..HEADER {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert_eq!(read_header(&damaged[..]).unwrap(), None, "byte {at}");
        }
    }

    #[test]
    fn records_of_another_generation_are_none() {
        let (bytes, _) = segment(5);
        assert!(Records::after(&bytes[HEADER..], 4, HEADER as u64).read().unwrap().is_none());
        assert_eq!(read_header(&bytes[..HEADER - 1]).unwrap(), None);
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        let mut state = 1u64;
        let mut bytes = header(3);
        for _ in 0..50_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push(if state >> 63 == 0 { 0 } else { (state >> 40) as u8 });
        }
        write(&message(1), 3, &mut bytes);
        assert_eq!(read_all(&bytes), (vec![1], bytes.len() as u64));
    }
}
