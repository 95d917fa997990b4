//! Valid inputs with a few changes, which get further than arbitrary bytes do.

use super::source::Source;

const MOST_EDITS: usize = 5;
/// No edit makes an input longer than this.
const LONGEST: usize = 200_000;

/// What our formats are made of.
const TOKENS: [&[u8]; 40] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b":",
    b",",
    b" ",
    b"\n",
    b"\n\n",
    b"\\",
    b"\\u0061",
    b"\\ud800",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"00",
    b"1.5",
    b"1e3",
    b"9007199254740992",
    b"18446744073709551615",
    b"18446744073709551616",
    b",\"sig\":\"",
    b"\"seq\":1,",
    b"\xe2\x80\x94 ",
    b"+",
    b"/",
    b"x000/",
    b".p/",
    b"#",
    b"=",
    b"grid/",
    b"index ",
    b"extra ",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xc3\xbc",
    b"-----BEGIN CERTIFICATE-----\n",
];

/// One of the valid inputs with up to five edits, none included; now and then the bytes themselves.
pub fn mutated(source: &mut Source, valid: &[Vec<u8>]) -> Vec<u8> {
    if source.rarely(20) {
        return source.rest();
    }
    let mut bytes = source.one_of(valid).clone();
    edit(source, &mut bytes, valid);
    bytes
}

/// Up to five edits.
pub fn edit(source: &mut Source, bytes: &mut Vec<u8>, valid: &[Vec<u8>]) {
    for _ in 0..source.below(MOST_EDITS + 1) {
        edit_once(source, bytes, valid);
        bytes.truncate(LONGEST);
    }
}

/// The same as text.
pub fn mutated_text(source: &mut Source, valid: &[&str]) -> String {
    let valid: Vec<Vec<u8>> = valid.iter().map(|text| text.as_bytes().to_vec()).collect();
    String::from_utf8_lossy(&mutated(source, &valid)).into_owned()
}

fn edit_once(source: &mut Source, bytes: &mut Vec<u8>, valid: &[Vec<u8>]) {
    let at = source.below(bytes.len() + 1);
    let end = (at + 1 + source.below(40)).min(bytes.len());
    match source.below(10) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << source.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = source.byte();
            }
        }
        2 => drop(bytes.drain(at.min(end)..end)),
        3 => {
            let again = bytes[at.min(end)..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let token = *source.one_of(&TOKENS);
            bytes.splice(at..at, token.iter().copied());
        }
        5 => bytes.truncate(at),
        6 => {
            let other = source.one_of(valid);
            let from = source.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        7 => {
            let some = source.bytes(20);
            bytes.splice(at..at, some);
        }
        8 => {
            // The next number as text.
            let digit = |byte: &u8| byte.is_ascii_digit();
            if let Some(start) = bytes[at..].iter().position(digit).map(|start| at + start) {
                let stop = bytes[start..].iter().position(|byte| !digit(byte)).map_or(bytes.len(), |stop| start + stop);
                let number = source.number().to_string();
                bytes.splice(start..stop, number.into_bytes());
            }
        }
        _ => {
            // A number in two, four or eight bytes, in either order.
            let number = source.number();
            let width = *source.one_of(&[2, 4, 8]);
            let little = number.to_le_bytes()[..width].to_vec();
            let number = if source.rarely(2) { little.into_iter().rev().collect() } else { little };
            if let Some(place) = bytes.get_mut(at..at + width) {
                place.copy_from_slice(&number);
            }
        }
    }
}
