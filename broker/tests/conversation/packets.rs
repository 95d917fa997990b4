//! Packets of both versions whose fields were chosen by arbitrary bytes: mostly right, sometimes wrong.

use super::encoding::{
    Kind, MAXIMUM_PACKET_SIZE, PROPERTIES, SESSION_EXPIRY, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY, kind, packet, text,
    variable,
};
use super::source::Source;

/// Few, so that connections meet: sessions are taken over and resumed.
const CLIENT_IDS: [&str; 5] = ["a", "b", "a/+#$", "é", ""];
const TOPICS: [&[u8]; 9] =
    [b"t", b"t/1", b"t/1/2", b"t/2", b"grid/a/status", b"grid/b/status", b"\xc3\xa9/x", b"/", b"a//b"];
const BAD_TOPICS: [&[u8]; 10] =
    [b"$other/t", b"$SYS/x", b"", b"t/+", b"#", b"a\0b", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x01"];
const FILTERS: [&[u8]; 15] = [
    b"t",
    b"#",
    b"t/#",
    b"t/+",
    b"+",
    b"+/+",
    b"grid/+/status",
    b"grid/a/#",
    b"\xc3\xa9/x",
    b"\xc3\xa9/+",
    b"/",
    b"+/",
    b"$SYS/#",
    b"$other/#",
    b"a//b",
];
const BAD_FILTERS: [&[u8]; 10] =
    [b"", b"t#", b"t/#/x", b"a+", b"$share/g/t", b"$share//t", b"$share/g", b"a\0b", b"\xff", b"##"];
const PAYLOADS: [usize; 5] = [0, 3, 40, 400, 1024];
const TOO_LARGE: [usize; 2] = [1025, 1600];
const REASONS: [u8; 8] = [0x00, 0x00, 0x04, 0x10, 0x80, 0x87, 0x92, 0x97];
const NO_REASONS: [u8; 3] = [0x01, 0x7f, 0xff];
/// Properties that belong to a CONNECT, of those that are not treated of their own.
const OF_CONNECT: [u8; 5] = [0x21, 0x22, 0x17, 0x19, USER_PROPERTY];
const OF_AUTHENTICATION: [u8; 2] = [0x15, 0x16];
const OF_A_MESSAGE: [u8; 6] = [0x01, 0x02, 0x03, 0x08, 0x09, USER_PROPERTY];
const OF_AN_ANSWER: [u8; 2] = [0x1f, USER_PROPERTY];
const WILL_DELAY: u8 = 0x18;
const TOPIC_ALIAS: u8 = 0x23;

/// CONNECT, and what the client has said of itself with it.
pub struct Connect {
    pub bytes: Vec<u8>,
    /// The version that its other packets have.
    pub v5: bool,
    /// Whether that is the version it names.
    pub named: bool,
    /// The largest packet that an MQTT 5 client takes.
    pub maximum_packet: Option<usize>,
}

pub fn connect(source: &mut Source) -> Connect {
    let v5 = source.rarely(2);
    let clean = source.rarely(2);
    let will = source.rarely(3);
    let (will_qos, will_retain) = (if will { source.one_of(&[0, 1, 2]) } else { 0 }, will && source.rarely(2));
    let user = source.rarely(6);
    let password = source.usually(&[user], &[!user]);
    let keep_alive = source.one_of(&[0, 0, 60, 65535, 1]);
    let mut flags = u8::from(clean) << 1
        | u8::from(will) << 2
        | will_qos << 3
        | u8::from(will_retain) << 5
        | u8::from(password) << 6
        | u8::from(user) << 7;
    if source.rarely(50) {
        flags ^= source.byte();
    }
    let (name, level): (&[u8], u8) = match source.up_to(60) {
        1 => (b"MQIsdp", 3),
        2 => (b"MQTT", source.byte()),
        3 => (b"mqtt", 4),
        _ => (b"MQTT", if v5 { 5 } else { 4 }),
    };
    let mut body = [text(name), vec![level, flags], u16::to_be_bytes(keep_alive).to_vec()].concat();
    let mut maximum_packet = None;
    if v5 {
        let mut list = Vec::new();
        if source.rarely(2) {
            list.extend([[SESSION_EXPIRY].to_vec(), four(source.one_of(&[0, 1, 2, 1000, u32::MAX]))].concat());
        }
        if source.rarely(3) {
            let size = source.one_of(&[40, 300, 12, 1]);
            maximum_packet = usize::try_from(size).ok();
            list.extend([[MAXIMUM_PACKET_SIZE].to_vec(), four(size)].concat());
        } else {
            let usual = source.usually(&[&OF_CONNECT[..]], &[&OF_AUTHENTICATION]);
            list.extend(properties(source, usual));
        }
        body.extend(with_length(list));
    }
    body.extend(text(source.one_of(if clean { &CLIENT_IDS } else { &CLIENT_IDS[..4] }).as_bytes()));
    if will {
        if v5 {
            let mut list = properties(source, &OF_A_MESSAGE);
            if source.rarely(3) {
                list.extend([vec![WILL_DELAY], four(source.one_of(&[0, 1, 1000]))].concat());
            }
            body.extend(with_length(list));
        }
        body.extend(text(&topic(source)));
        body.extend(text(&payload(source)));
    }
    for _ in 0..u8::from(user) + u8::from(password) {
        body.extend(text(&source.bytes(5)));
    }
    let named = name == b"MQTT" && level == if v5 { 5 } else { 4 };
    Connect { bytes: packet(0x10, &body), v5, named, maximum_packet }
}

/// Any packet but CONNECT and acknowledgements.
pub fn request(source: &mut Source, v5: bool) -> Vec<u8> {
    match source.up_to(9) {
        0..=4 => publish(source, v5),
        5 | 6 => subscribe(source, v5),
        7 => unsubscribe(source, v5),
        8 => packet(0xc0, &[]),
        _ => disconnect(source, v5),
    }
}

/// PUBLISH or SUBSCRIBE: what conversations live on.
pub fn message_or_subscription(source: &mut Source, v5: bool) -> Vec<u8> {
    if source.rarely(3) { subscribe(source, v5) } else { publish(source, v5) }
}

fn publish(source: &mut Source, v5: bool) -> Vec<u8> {
    let qos = source.usually(&[0, 1, 2], &[3]);
    let flags = qos << 1 | u8::from(source.rarely(2)) | u8::from(source.rarely(8)) << 3;
    let mut body = text(&topic(source));
    if qos > 0 {
        body.extend(packet_id(source));
    }
    if v5 {
        let usual = source.usually(&[&OF_A_MESSAGE[..]], &[&[TOPIC_ALIAS, SUBSCRIPTION_IDENTIFIER]]);
        let list = properties(source, usual);
        body.extend(with_length(list));
    }
    body.extend(payload(source));
    packet(0x30 | flags, &body)
}

fn subscribe(source: &mut Source, v5: bool) -> Vec<u8> {
    let mut body = packet_id(source);
    if v5 {
        let list = properties(source, &[SUBSCRIPTION_IDENTIFIER, USER_PROPERTY]);
        body.extend(with_length(list));
    }
    for _ in 0..source.usually(&[1, 1, 2, 3], &[0]) {
        body.extend(text(&filter(source)));
        let options = source.one_of(&[0, 1, 2, 2]) | if v5 { source.one_of(&[0, 4, 8, 0x10, 0x20, 0x2c]) } else { 0 };
        body.push(if source.rarely(40) { source.byte() } else { options });
    }
    packet(0x82, &body)
}

fn unsubscribe(source: &mut Source, v5: bool) -> Vec<u8> {
    let mut body = packet_id(source);
    if v5 {
        let list = properties(source, &[USER_PROPERTY]);
        body.extend(with_length(list));
    }
    for _ in 0..source.usually(&[1, 1, 2], &[0]) {
        body.extend(text(&filter(source)));
    }
    packet(0xa2, &body)
}

fn disconnect(source: &mut Source, v5: bool) -> Vec<u8> {
    if !v5 || source.rarely(3) {
        return packet(0xe0, &[]);
    }
    let mut body = vec![source.usually(&REASONS, &NO_REASONS)];
    if source.rarely(2) {
        let list = properties(source, &[SESSION_EXPIRY, 0x1f, USER_PROPERTY]);
        body.extend(with_length(list));
    }
    packet(0xe0, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub fn acknowledgement(source: &mut Source, v5: bool, first: u8, id: [u8; 2]) -> Vec<u8> {
    let mut body = id.to_vec();
    if v5 && source.rarely(3) {
        body.push(source.usually(&REASONS, &NO_REASONS));
        if source.rarely(2) {
            let list = properties(source, &OF_AN_ANSWER);
            body.extend(with_length(list));
        }
    }
    packet(first, &body)
}

/// The packet with some of its bytes changed, left out or doubled.
pub fn mutated(source: &mut Source, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..=source.up_to(2) {
        let at = usize::from(source.word()) % bytes.len().max(1);
        let Some(byte) = bytes.get_mut(at) else {
            break;
        };
        match source.up_to(3) {
            0 => *byte = source.byte(),
            1 => *byte ^= 1 << source.up_to(7),
            2 => drop(bytes.remove(at)),
            _ => bytes.insert(at, source.byte()),
        }
    }
    bytes
}

fn topic(source: &mut Source) -> Vec<u8> {
    source.usually(&TOPICS, &BAD_TOPICS).to_vec()
}

fn filter(source: &mut Source) -> Vec<u8> {
    source.usually(&FILTERS, &BAD_FILTERS).to_vec()
}

fn payload(source: &mut Source) -> Vec<u8> {
    vec![b'p'; source.usually(&PAYLOADS, &TOO_LARGE)]
}

fn packet_id(source: &mut Source) -> Vec<u8> {
    u16::to_be_bytes(source.usually(&[1, 2, 3, 4], &[0, 300, 65535])).to_vec()
}

/// Up to three of the properties `usual` here, and now and then any other, or one twice.
fn properties(source: &mut Source, usual: &[u8]) -> Vec<u8> {
    let mut ids: Vec<u8> = Vec::new();
    for _ in 0..source.one_of(&[0, 0, 0, 1, 2, 3]) {
        let id = if source.rarely(60) { source.one_of(&PROPERTIES).0 } else { source.one_of(usual) };
        if id == USER_PROPERTY || !ids.contains(&id) || source.rarely(20) {
            ids.push(id);
        }
    }
    ids.into_iter().flat_map(|id| [vec![id], value(source, kind(id).unwrap())].concat()).collect()
}

fn value(source: &mut Source, kind: Kind) -> Vec<u8> {
    match kind {
        Kind::Byte => vec![source.usually(&[0, 1], &[2])],
        Kind::TwoBytes => u16::to_be_bytes(source.usually(&[1, 2, 10, 65535], &[0])).to_vec(),
        Kind::FourBytes => four(source.one_of(&[0, 1, 1000, u32::MAX])),
        Kind::Variable => variable(source.usually(&[1, 7, 300, 268_435_455], &[0])),
        Kind::Text => text(source.usually(&[&b"x"[..], b"t", b"", b"\xc3\xa9"], &[b"#", b"\xff", b"\0"])),
        Kind::Binary => text(&source.bytes(6)),
        Kind::Pair => [text(b"key"), text(source.usually(&[&b"value"[..], b""], &[b"\0", b"\xff"]))].concat(),
    }
}

fn with_length(list: Vec<u8>) -> Vec<u8> {
    [variable(list.len()), list].concat()
}

fn four(value: u32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}
