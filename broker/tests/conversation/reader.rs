//! A strict reader of what a broker sends: whatever a client says, the answers must be well-formed MQTT of its version.
//!
//! Sections 2 and 3 of MQTT 3.1.1 and of MQTT 5: fixed header, lengths, packet ids, codes, properties and strings of every
//! packet that a server may send; and that CONNACK comes first and once, and nothing after a DISCONNECT or a refusal.

use super::encoding::{Kind, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY, kind, variable};

/// What one connection has been told so far.
pub struct Answers {
    /// The version that its client speaks, once that is known: from its CONNECT, else from the CONNACK.
    v5: Option<bool>,
    /// The largest packet that its client takes.
    maximum_packet: Option<usize>,
    state: State,
    buffer: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    BeforeConnack,
    Connected,
    Over,
}

/// A packet that needs an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The first byte of the answer.
    pub answer: u8,
    pub id: [u8; 2],
}

type Judged<T> = Result<T, String>;

impl Answers {
    /// Nothing yet, for a client that has said this of itself.
    pub fn new(v5: Option<bool>, maximum_packet: Option<usize>) -> Self {
        Self { v5, maximum_packet, state: State::BeforeConnack, buffer: Vec::new() }
    }

    /// Judges the packets that are complete with `bytes`, and says which of them want an answer.
    pub fn take(&mut self, bytes: &[u8]) -> Judged<Vec<Asked>> {
        self.buffer.extend(bytes);
        let mut asked = Vec::new();
        while let Some((header, length)) = whole_packet(&self.buffer)? {
            let packet: Vec<u8> = self.buffer.drain(..header + length).collect();
            let judged = self.judge(packet[0], &packet[header..], packet.len());
            asked.extend(judged.map_err(|what| format!("{what}, in {}", hex(&packet)))?);
        }
        Ok(asked)
    }

    fn judge(&mut self, first: u8, body: &[u8], length: usize) -> Judged<Option<Asked>> {
        // A refused CONNECT may have been too wrong for the broker to know.
        let refusal = first >> 4 == 2 && body.get(1).is_some_and(|code| *code > 0);
        if let Some(most) = self.maximum_packet.filter(|most| length > *most && !refusal) {
            return Err(format!("{length} bytes for a client that takes {most}"));
        }
        match (self.state, first >> 4) {
            (State::BeforeConnack, 2) | (State::Connected, 3..=7 | 9 | 11 | 13 | 14) => {}
            (state, _) => return Err(format!("unexpected packet: {state:?}")),
        }
        let flags = first & 0x0f;
        let expected = match first >> 4 {
            3 => flags,
            6 => 2,
            _ => 0,
        };
        ensure(flags == expected, "flags of the fixed header")?;
        if self.state == State::BeforeConnack {
            ensure(self.v5.is_none_or(|v5| v5 == (body.len() > 2)), "CONNACK of the other version")?;
            self.v5 = Some(body.len() > 2);
        }
        let v5 = self.v5 == Some(true);
        let mut rest = Rest(body);
        let mut asked = None;
        match first >> 4 {
            2 => self.connack(&mut rest, v5)?,
            3 => asked = publish(&mut rest, flags, v5)?,
            4 => acknowledgement(&mut rest, v5, &PUBACK_REASONS).map(drop)?,
            5 => asked = Some(Asked { answer: 0x62, id: acknowledgement(&mut rest, v5, &PUBACK_REASONS)? }),
            6 => asked = Some(Asked { answer: 0x70, id: acknowledgement(&mut rest, v5, &[0x00, 0x92])? }),
            7 => acknowledgement(&mut rest, v5, &[0x00, 0x92]).map(drop)?,
            9 => codes(&mut rest, v5, if v5 { &SUBACK_REASONS } else { &[0, 1, 2, 0x80] })?,
            11 if v5 => codes(&mut rest, v5, &UNSUBACK_REASONS)?,
            11 => drop(rest.id()?),
            14 => {
                ensure(v5, "DISCONNECT to a 3.1.1 client")?;
                self.state = State::Over;
                disconnect(&mut rest)?;
            }
            _ => {}
        }
        ensure(rest.0.is_empty(), "bytes after the end")?;
        Ok(asked)
    }

    fn connack(&mut self, rest: &mut Rest, v5: bool) -> Judged<()> {
        let (present, code) = (rest.byte()?, rest.byte()?);
        ensure(present <= 1, "reserved bits")?;
        ensure(code == 0 || present == 0, "a session is present although the client is refused")?;
        if v5 {
            ensure(CONNACK_REASONS.contains(&code), "no reason of a CONNACK")?;
            rest.properties(&CONNACK_PROPERTIES)?;
        } else {
            ensure(code <= 5, "no return code of a CONNACK")?;
        }
        self.state = if code == 0 { State::Connected } else { State::Over };
        Ok(())
    }
}

const CONNACK_REASONS: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b,
    0x9c, 0x9d, 0x9f,
];
const CONNACK_PROPERTIES: [u8; 17] =
    [0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a];
const PUBLISH_PROPERTIES: [u8; 7] = [0x01, 0x02, 0x03, 0x08, 0x09, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY];
const PUBACK_REASONS: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const SUBACK_REASONS: [u8; 12] = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
const UNSUBACK_REASONS: [u8; 7] = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
/// Those that a server may send.
const DISCONNECT_REASONS: [u8; 28] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
    0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];

fn publish(rest: &mut Rest, flags: u8, v5: bool) -> Judged<Option<Asked>> {
    let qos = flags >> 1 & 0b11;
    ensure(qos < 3, "QoS 3")?;
    ensure(qos > 0 || flags & 0x08 == 0, "DUP at QoS 0")?;
    let topic = rest.text()?;
    ensure(!topic.is_empty() && !topic.contains(['+', '#']), "no topic name")?;
    let id = if qos > 0 { Some(rest.id()?) } else { None };
    if v5 {
        // No topic alias: its client has not allowed one.
        rest.properties(&PUBLISH_PROPERTIES)?;
    }
    rest.0 = &[];
    Ok(id.map(|id| Asked { answer: if qos == 1 { 0x40 } else { 0x50 }, id }))
}

fn acknowledgement(rest: &mut Rest, v5: bool, reasons: &[u8]) -> Judged<[u8; 2]> {
    let id = rest.id()?;
    if v5 && !rest.0.is_empty() {
        ensure(reasons.contains(&rest.byte()?), "no reason of this packet")?;
        if !rest.0.is_empty() {
            rest.properties(&[0x1f, USER_PROPERTY])?;
        }
    }
    Ok(id)
}

fn codes(rest: &mut Rest, v5: bool, codes: &[u8]) -> Judged<()> {
    rest.id()?;
    if v5 {
        rest.properties(&[0x1f, USER_PROPERTY])?;
    }
    ensure(!rest.0.is_empty(), "no codes")?;
    ensure(rest.0.iter().all(|code| codes.contains(code)), "no code of this packet")?;
    rest.0 = &[];
    Ok(())
}

fn disconnect(rest: &mut Rest) -> Judged<()> {
    if !rest.0.is_empty() {
        ensure(DISCONNECT_REASONS.contains(&rest.byte()?), "no reason of a DISCONNECT from a server")?;
    }
    if !rest.0.is_empty() {
        rest.properties(&[0x1c, 0x1f, USER_PROPERTY])?;
    }
    Ok(())
}

/// What of a packet is not looked at yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize) -> Judged<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Judged<u8> {
        Ok(self.take(1)?[0])
    }

    fn two(&mut self) -> Judged<[u8; 2]> {
        let taken = self.take(2)?;
        Ok([taken[0], taken[1]])
    }

    fn id(&mut self) -> Judged<[u8; 2]> {
        let id = self.two()?;
        ensure(id != [0, 0], "packet id 0")?;
        Ok(id)
    }

    fn binary(&mut self) -> Judged<&'a [u8]> {
        let length = u16::from_be_bytes(self.two()?);
        self.take(length.into())
    }

    fn text(&mut self) -> Judged<&'a str> {
        let text = std::str::from_utf8(self.binary()?).map_err(|error| format!("a string is not UTF-8: {error}"))?;
        ensure(!text.contains('\0'), "a string has a NUL")?;
        Ok(text)
    }

    fn variable(&mut self) -> Judged<usize> {
        let (value, length) = variable_integer(self.0)?.ok_or("it is too short")?;
        self.take(length)?;
        Ok(value)
    }

    fn properties(&mut self, allowed: &[u8]) -> Judged<()> {
        let length = self.variable()?;
        let mut list = Rest(self.take(length)?);
        let mut seen = Vec::new();
        while !list.0.is_empty() {
            let id = list.byte()?;
            ensure(allowed.contains(&id), "a property that does not belong here")?;
            let may_repeat = id == USER_PROPERTY || id == SUBSCRIPTION_IDENTIFIER;
            ensure(may_repeat || !seen.contains(&id), "a property twice")?;
            seen.push(id);
            match kind(id).ok_or("no such property")? {
                Kind::Byte => ensure(list.byte()? <= 1, "a flag that is neither 0 nor 1")?,
                Kind::TwoBytes => drop(list.two()?),
                Kind::FourBytes => drop(list.take(4)?),
                Kind::Variable => ensure(list.variable()? > 0, "subscription identifier 0")?,
                Kind::Text => drop(list.text()?),
                Kind::Binary => drop(list.binary()?),
                Kind::Pair => drop((list.text()?, list.text()?)),
            }
        }
        Ok(())
    }
}

/// Lengths of the fixed header and of the rest, if the packet at the front of `bytes` is complete.
fn whole_packet(bytes: &[u8]) -> Judged<Option<(usize, usize)>> {
    let Some((_, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let Some((length, digits)) = variable_integer(rest)? else {
        return Ok(None);
    };
    let header = 1 + digits;
    Ok((bytes.len() >= header + length).then_some((header, length)))
}

/// The number at the front of `bytes` and the bytes that it takes; `None` if it goes on beyond them.
fn variable_integer(bytes: &[u8]) -> Judged<Option<(usize, usize)>> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let shortest = variable(value).len() == at + 1;
            ensure(shortest, "a length in more bytes than needed")?;
            return Ok(Some((value, at + 1)));
        }
    }
    ensure(bytes.len() < 4, "a length of five bytes")?;
    Ok(None)
}

fn ensure(holds: bool, otherwise: &str) -> Judged<()> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

/// Bytes for people; long ones are cut.
pub fn hex(bytes: &[u8]) -> String {
    let shown: String = bytes.iter().take(120).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > 120 { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}
