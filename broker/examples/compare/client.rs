//! A client in raw bytes: MQTT 3.1.1, the same for both brokers and as cheap as can be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Failure;

/// Nothing takes so long unless something is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);
const READ_SIZE: usize = 64 * 1024;

/// Logs in with a clean session and no keep-alive.
pub fn connect(address: SocketAddr, id: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = [0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
    stream.write_all(&packet(0x10, &[&head[..], &text(id)]))?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack)?;
    if connack != [0x20, 2, 0, 0] {
        return Err(format!("{id} was not let in: {connack:02x?}").into());
    }
    Ok(stream)
}

/// Subscribes to all of `filters`, fewer than 126, and waits for the answer.
pub fn subscribe(stream: &mut TcpStream, filters: &[String], qos: u8) -> Result<(), Failure> {
    let list: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![qos]].concat()).collect();
    stream.write_all(&packet(0x82, &[&[0, 1], &list]))?;
    let mut suback = vec![0; 4 + filters.len()];
    stream.read_exact(&mut suback)?;
    if suback[0] != 0x90 || suback[4..].iter().any(|granted| *granted != qos) {
        return Err(format!("not subscribed: {suback:02x?}").into());
    }
    Ok(())
}

/// PUBLISH. `id` counts above QoS 0 only.
pub fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let id = if qos > 0 { id.to_be_bytes().to_vec() } else { Vec::new() };
    packet(0x30 | qos << 1, &[&text(topic), &id, payload])
}

/// PUBACK.
pub fn puback(id: [u8; 2]) -> [u8; 4] {
    [0x40, 2, id[0], id[1]]
}

/// The packet ids from 1, over and over.
pub fn packet_ids() -> impl Iterator<Item = u16> {
    (1..=u16::MAX).cycle()
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let low = u8::try_from(length % 128).unwrap_or_default();
        length /= 128;
        bytes.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    // All names here are short.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], text.as_bytes()].concat()
}

/// Bytes that came, cut into packets.
pub struct Packets {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// One packet without its length.
pub struct Packet<'a> {
    pub first: u8,
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    pub fn is_publish(&self) -> bool {
        self.first >> 4 == 3
    }

    /// Packet id and payload of a PUBLISH above QoS 0, payload alone of one at QoS 0.
    pub fn publish(&self) -> Option<(Option<[u8; 2]>, &'a [u8])> {
        let length = usize::from(u16::from_be_bytes(self.body.get(..2)?.try_into().ok()?));
        let rest = self.body.get(2 + length..)?;
        if self.first & 0b110 == 0 {
            return Some((None, rest));
        }
        Some((Some(rest.get(..2)?.try_into().ok()?), &rest[2..]))
    }
}

impl Packets {
    pub fn new() -> Self {
        Self { buffer: vec![0; READ_SIZE], start: 0, end: 0 }
    }

    /// Where to read to; then [`filled`](Self::filled).
    pub fn space(&mut self) -> &mut [u8] {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        &mut self.buffer[self.end..]
    }

    /// So many bytes were read.
    pub fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next packet that is complete.
    pub fn next(&mut self) -> Option<Packet<'_>> {
        let bytes = &self.buffer[self.start..self.end];
        let first = *bytes.first()?;
        let (mut length, mut at) = (0, 1);
        loop {
            let byte = *bytes.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let body = bytes.get(at..at + length)?;
        self.start += at + length;
        Some(Packet { first, body })
    }

    /// Waits for more bytes.
    pub fn read(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        match stream.read(self.space())? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.filled(read);
                Ok(())
            }
        }
    }
}
