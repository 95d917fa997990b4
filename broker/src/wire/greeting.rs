//! The CONNECT, before the codec sees it.
//!
//! A client may say that it takes no topic aliases at all (MQTT 5 section 3.1.2.11.5: Topic Alias Maximum 0), and the
//! codec, mqtt-protocol-core 0.7.9, panics on that. So a 0 becomes a 1 here. This broker never sends an alias, so nothing
//! changes for the client.

use std::ops::Range;

/// First byte of a CONNECT.
const CONNECT: u8 = 0x10;
/// Identifier of the property Topic Alias Maximum (section 2.2.2.2).
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;

/// Whether the codec may see `input` now: it has the whole CONNECT, or is none of at most `max` bytes.
pub fn is_ready(input: &[u8], max: usize) -> bool {
    if input.first() != Some(&CONNECT) {
        return true;
    }
    let mut at = 1;
    match length(input, &mut at) {
        Some(length) => length > max || input.len() >= at + length,
        // Four bytes are the most that a length has.
        None => input.len() > 4,
    }
}

/// Replaces a Topic Alias Maximum of 0 in a whole CONNECT.
pub fn amend(packet: &mut [u8]) {
    if let Some(value) = topic_alias_maximum(packet)
        && let Some([high @ 0, low @ 0]) = packet.get_mut(value)
    {
        (*high, *low) = (0, 1);
    }
}

/// Where its value is.
fn topic_alias_maximum(packet: &[u8]) -> Option<Range<usize>> {
    let mut at = 1;
    length(packet, &mut at)?;
    at += text(packet, at)?;
    let level = *packet.get(at)?;
    if level != 5 {
        return None;
    }
    // Level, flags, keep-alive.
    at += 1 + 1 + 2;
    let properties = length(packet, &mut at)?;
    let end = at.checked_add(properties)?;
    while at < end {
        let identifier = *packet.get(at)?;
        at += 1;
        if identifier == TOPIC_ALIAS_MAXIMUM {
            return Some(at..at + 2);
        }
        at += match identifier {
            // Request problem and response information.
            0x17 | 0x19 => 1,
            // Receive maximum.
            0x21 => 2,
            // Session expiry interval, maximum packet size.
            0x11 | 0x27 => 4,
            // Authentication method and data.
            0x15 | 0x16 => text(packet, at)?,
            // User property.
            0x26 => {
                let key = text(packet, at)?;
                key + text(packet, at + key)?
            }
            _ => return None,
        };
    }
    None
}

/// A variable byte integer (section 1.5.5) that begins at `at`, which moves behind it.
fn length(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let mut value = 0;
    for place in 0..4 {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The size of a text or binary data that begins at `at`, with its length in front.
fn text(bytes: &[u8], at: usize) -> Option<usize> {
    let length = bytes.get(at..at + 2)?;
    Some(2 + usize::from(u16::from_be_bytes([length[0], length[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(properties: &[u8]) -> Vec<u8> {
        let body = [&b"\0\x04MQTT\x05\x02\0\0"[..], &[properties.len() as u8], properties, b"\0\x01a"].concat();
        [&[CONNECT, body.len() as u8], &body[..]].concat()
    }

    #[test]
    fn an_alias_maximum_of_nothing_becomes_one_wherever_it_stands_and_others_stay() {
        let before = b"\x11\0\0\0\x09\x21\0\x05\x27\0\0\x01\0\x17\x01\x19\0\x15\0\x01m\x16\0\x02de\x26\0\x01k\0\x01v";
        for before in [&b""[..], before] {
            for (said, seen) in [([0, 0], [0, 1]), ([0, 7], [0, 7]), ([3, 0], [3, 0])] {
                let mut packet = connect(&[before, &[TOPIC_ALIAS_MAXIMUM], &said].concat());
                amend(&mut packet);
                assert_eq!(packet, connect(&[before, &[TOPIC_ALIAS_MAXIMUM], &seen].concat()));
            }
        }
    }

    #[test]
    fn no_bytes_are_too_strange_to_look_at() {
        let whole = connect(b"\x26\0\x01k\0\x01v\x22\0\0");
        for length in 0..whole.len() {
            let mut part = whole[..length].to_vec();
            amend(&mut part);
            assert!(length == 0 || !is_ready(&part, 1000), "{length}");
        }
        assert!(is_ready(&whole, 1000) && is_ready(&whole[..3], 10));
        assert!(is_ready(b"\x10\xff\xff\xff\xff", 1000) && is_ready(b"\x30\x05", 1000));
        let mut lying = connect(b"\x26\xff\xff");
        amend(&mut lying);
        amend(&mut [CONNECT, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }
}
