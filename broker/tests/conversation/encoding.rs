//! How MQTT encodes strings, lengths and properties: needed to write packets and to judge those that come.

/// The value of an MQTT 5 property (section 2.2.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Byte,
    TwoBytes,
    FourBytes,
    Variable,
    Text,
    Binary,
    Pair,
}

/// All properties there are.
pub const PROPERTIES: [(u8, Kind); 27] = [
    (0x01, Kind::Byte),
    (0x02, Kind::FourBytes),
    (0x03, Kind::Text),
    (0x08, Kind::Text),
    (0x09, Kind::Binary),
    (0x0b, Kind::Variable),
    (0x11, Kind::FourBytes),
    (0x12, Kind::Text),
    (0x13, Kind::TwoBytes),
    (0x15, Kind::Text),
    (0x16, Kind::Binary),
    (0x17, Kind::Byte),
    (0x18, Kind::FourBytes),
    (0x19, Kind::Byte),
    (0x1a, Kind::Text),
    (0x1c, Kind::Text),
    (0x1f, Kind::Text),
    (0x21, Kind::TwoBytes),
    (0x22, Kind::TwoBytes),
    (0x23, Kind::TwoBytes),
    (0x24, Kind::Byte),
    (0x25, Kind::Byte),
    (0x26, Kind::Pair),
    (0x27, Kind::FourBytes),
    (0x28, Kind::Byte),
    (0x29, Kind::Byte),
    (0x2a, Kind::Byte),
];

pub const SESSION_EXPIRY: u8 = 0x11;
pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
pub const USER_PROPERTY: u8 = 0x26;
pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;

pub fn kind(property: u8) -> Option<Kind> {
    PROPERTIES.iter().find(|(id, _)| *id == property).map(|(_, kind)| *kind)
}

/// A string or binary data: two bytes of length in front.
pub fn text(value: &[u8]) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap().to_be_bytes()[..], value].concat()
}

/// A variable byte integer (section 1.5.5).
pub fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(value % 128).unwrap();
        value /= 128;
        bytes.push(if value > 0 { low | 0x80 } else { low });
        if value == 0 {
            return bytes;
        }
    }
}

/// A packet with this first byte and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &variable(body.len()), body].concat()
}
