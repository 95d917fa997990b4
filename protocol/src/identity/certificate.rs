//! What a certificate says beside the key: whom it names, its serial number, and how long it is valid.
//!
//! Nothing here says whether anybody vouches for it: only [`super::Authority::check`] does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ed25519_dalek::pkcs8::ObjectIdentifier;
use ed25519_dalek::pkcs8::spki::der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use ed25519_dalek::pkcs8::spki::der::{Decode, Reader, SliceReader, Tag, TagNumber, Tagged};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;

use super::{Identity, IdentityError};
use crate::units::UnixMillis;

/// The most bytes of a serial number (RFC 5280, section 4.1.2.2).
const MOST_BYTES: usize = 20;

/// A certificate's serial number, by which it is revoked: the bytes of the DER integer, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial(Vec<u8>);

/// Text that is not a [`Serial`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a serial number: expected 1 to {MOST_BYTES} bytes as pairs of the hex digits 0-9 and a-f")]
pub struct BadSerial(String);

impl Serial {
    /// Takes the bytes of a DER integer; `None` if they are none or too many.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (1..=MOST_BYTES).contains(&bytes.len()).then(|| Self(bytes.to_vec()))
    }

    /// The bytes of the DER integer.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Serial {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let bad = || BadSerial(text.chars().take(64).collect());
        let is_hex = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hex || !text.len().is_multiple_of(2) {
            return Err(bad());
        }
        let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16);
        let bytes: Result<Vec<u8>, _> = (0..text.len()).step_by(2).map(byte).collect();
        bytes.ok().and_then(|bytes| Self::from_bytes(&bytes)).ok_or_else(bad)
    }
}

impl TryFrom<String> for Serial {
    type Error = BadSerial;

    fn try_from(text: String) -> Result<Self, BadSerial> {
        text.parse()
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: UnixMillis,
    /// The last moment.
    pub until: UnixMillis,
}

/// Whom a certificate (DER) names. Nobody needs to vouch for it.
pub fn named_in(certificate: &[u8]) -> Result<Identity, IdentityError> {
    parsed(&CertificateDer::from(certificate), identity)?
}

/// The serial number of a certificate (DER).
pub fn serial_of(certificate: &[u8]) -> Result<Serial, IdentityError> {
    let serial = parsed(&CertificateDer::from(certificate), |parsed| Serial::from_bytes(parsed.serial()))?;
    serial.ok_or(IdentityError::Unreadable(webpki::Error::InvalidSerialNumber))
}

/// From when until when a certificate (DER) holds.
pub fn validity_of(certificate: &[u8]) -> Result<Validity, IdentityError> {
    read_validity(certificate).ok_or(IdentityError::Unreadable(webpki::Error::BadDer))
}

/// The host names and IP addresses that a server's certificate (DER) holds for, in its order. Names with a wildcard are
/// left out.
pub fn hosts_of(certificate: &[u8]) -> Result<Vec<String>, IdentityError> {
    read_hosts(certificate).ok_or(IdentityError::Unreadable(webpki::Error::BadDer))
}

/// Whether the certificate (DER) is that of an authority: its subject issued it itself.
pub(super) fn is_self_issued(certificate: &[u8]) -> Result<bool, IdentityError> {
    parsed(&CertificateDer::from(certificate), |parsed| parsed.subject() == parsed.issuer())
}

/// Whom a certificate names.
pub(super) fn identity(parsed: &EndEntityCert) -> Result<Identity, IdentityError> {
    let uris: Vec<&str> = parsed.valid_uri_names().collect();
    match uris.as_slice() {
        [uri] => Identity::from_uri(uri),
        _ => None,
    }
    .ok_or_else(|| IdentityError::NoIdentity(uris.iter().map(|uri| (*uri).to_owned()).collect()))
}

fn parsed<T>(certificate: &CertificateDer, read: impl FnOnce(&EndEntityCert) -> T) -> Result<T, IdentityError> {
    EndEntityCert::try_from(certificate).map(|parsed| read(&parsed)).map_err(IdentityError::Unreadable)
}

/// What is in the value of the first of `from`.
fn inside<'a>(from: &mut SliceReader<'a>) -> Option<SliceReader<'a>> {
    SliceReader::new(AnyRef::decode(from).ok()?.value()).ok()
}

/// `Certificate { TBSCertificate { version, serialNumber, signature, issuer, validity …` (RFC 5280, section 4.1), from
/// `validity` on.
fn from_validity_on(certificate: &[u8]) -> Option<SliceReader<'_>> {
    let mut certificate = inside(&mut SliceReader::new(certificate).ok()?)?;
    let mut signed = inside(&mut certificate)?;
    for _before_validity in ["version", "serialNumber", "signature", "issuer"] {
        AnyRef::decode(&mut signed).ok()?;
    }
    Some(signed)
}

/// `subjectAltName` (RFC 5280, section 4.2.1.6).
const ALTERNATIVE_NAMES: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// `… validity, subject, subjectPublicKeyInfo, [3] { Extensions }`, where each is `{ extnID, critical?, extnValue }`.
fn read_hosts(certificate: &[u8]) -> Option<Vec<String>> {
    let mut after = from_validity_on(certificate)?;
    while !after.is_finished() {
        let field = AnyRef::decode(&mut after).ok()?;
        if field.tag() != (Tag::ContextSpecific { constructed: true, number: TagNumber::N3 }) {
            continue;
        }
        let mut extensions = inside(&mut SliceReader::new(field.value()).ok()?)?;
        while !extensions.is_finished() {
            let mut extension = inside(&mut extensions)?;
            if ObjectIdentifier::decode(&mut extension).ok()? != ALTERNATIVE_NAMES {
                continue;
            }
            let mut value = AnyRef::decode(&mut extension).ok()?;
            if value.tag() == Tag::Boolean {
                value = AnyRef::decode(&mut extension).ok()?;
            }
            return read_names(inside(&mut SliceReader::new(value.value()).ok()?)?);
        }
    }
    Some(Vec::new())
}

/// `GeneralName { …, [2] dNSName, …, [7] iPAddress, … }`.
fn read_names(mut names: SliceReader) -> Option<Vec<String>> {
    let mut hosts = Vec::new();
    while !names.is_finished() {
        let name = AnyRef::decode(&mut names).ok()?;
        match name.tag() {
            Tag::ContextSpecific { number: TagNumber::N2, .. } => {
                hosts.extend(
                    std::str::from_utf8(name.value()).ok().filter(|name| !name.contains('*')).map(str::to_owned),
                );
            }
            Tag::ContextSpecific { number: TagNumber::N7, .. } => hosts.push(read_address(name.value())?.to_string()),
            _ => {}
        }
    }
    Some(hosts)
}

fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into())).ok()
}

fn read_validity(certificate: &[u8]) -> Option<Validity> {
    let mut validity = inside(&mut from_validity_on(certificate)?)?;
    let mut next = || read_time(AnyRef::decode(&mut validity).ok()?);
    Some(Validity { from: next()?, until: next()? })
}

/// `CHOICE { utcTime UTCTime, generalTime GeneralizedTime }`: the second from 2050 on.
fn read_time(time: AnyRef) -> Option<UnixMillis> {
    let since_1970 = match time.tag() {
        Tag::UtcTime => time.decode_as::<UtcTime>().ok()?.to_unix_duration(),
        Tag::GeneralizedTime => time.decode_as::<GeneralizedTime>().ok()?.to_unix_duration(),
        _ => return None,
    };
    Some(UnixMillis(since_1970.as_secs() * 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_reads_back_as_it_was_written_and_nothing_else_does() {
        let serial = Serial::from_bytes(&[0x4a, 0x00, 0xff]).unwrap();
        assert_eq!(serial.to_string(), "4a00ff");
        assert_eq!("4a00ff".parse(), Ok(serial));
        for bad in ["", "4", "4A", "0x4a", "+4", "4ü1", &"00".repeat(21)] {
            assert!(bad.parse::<Serial>().unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn rubbish_has_neither_serial_number_nor_validity() {
        assert!(serial_of(b"rubbish").is_err());
        assert!(validity_of(b"rubbish").is_err());
        assert!(named_in(b"rubbish").is_err());
        assert!(hosts_of(b"rubbish").is_err());
    }
}
