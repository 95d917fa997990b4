//! MQTT 5 properties of application messages: which ones travel along, and who adds which.
//!
//! They are kept in wire format (section 2.2.2) with their length in front, or as nothing at all, which is what a
//! message of a 3.1.1 client has.

use bytes::{BufMut, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::packet::{self, PropertiesParse, PropertiesSize, Property, VariableByteInteger};

use crate::ending::Ending;
use crate::message::{Message, Millis};
use crate::topic;

/// The user property that says who published a message: only the broker writes it.
const PUBLISHER: &str = "publisher";
/// Identifier of a user property (section 2.2.2.2).
const USER_PROPERTY: u8 = 0x26;

/// The properties that a subscriber gets as the publisher sent them (section 3.3.2.3). Will delay is left out, since it
/// is not offered, and so is what the client says of who it is.
pub fn of_application(properties: &[Property]) -> Result<Bytes, Ending> {
    let mut kept = Vec::new();
    for property in properties {
        match property {
            Property::ResponseTopic(topic) if !topic::is_valid_topic(topic.val()) => {
                return Err(Ending::Violation("response topic is not a valid topic [MQTT-3.3.2-14]"));
            }
            Property::SubscriptionIdentifier(_) => {
                return Err(Ending::Violation("a client's PUBLISH with a subscription identifier [MQTT-3.3.4-6]"));
            }
            Property::ContentType(text) if text.val().contains('\0') => {
                return Err(Ending::Malformed("NUL in a content type [MQTT-1.5.4-2]"));
            }
            Property::UserProperty(user) if user.key().contains('\0') || user.val().contains('\0') => {
                return Err(Ending::Malformed("NUL in a user property [MQTT-1.5.4-2]"));
            }
            Property::UserProperty(user) if user.key() == PUBLISHER => {}
            Property::PayloadFormatIndicator(_)
            | Property::MessageExpiryInterval(_)
            | Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::UserProperty(_) => kept.push(property.clone()),
            _ => {}
        }
    }
    if kept.is_empty() {
        return Ok(Bytes::new());
    }
    let mut bytes = with_length(kept.size()).ok_or(Ending::Malformed("properties too long"))?;
    for property in &kept {
        for part in property.to_buffers() {
            bytes.extend_from_slice(&part);
        }
    }
    Ok(bytes.freeze())
}

/// The user property `publisher`, ready to be added to messages.
#[derive(Debug, Clone)]
pub struct Publisher {
    encoded: Bytes,
    /// What a message has that has no other property.
    alone: Bytes,
}

impl Publisher {
    /// Of this name, which must be shorter than 64 KiB.
    pub fn new(name: &str) -> Option<Self> {
        let mut encoded = BytesMut::new();
        encoded.put_u8(USER_PROPERTY);
        for text in [PUBLISHER, name] {
            encoded.put_u16(u16::try_from(text.len()).ok()?);
            encoded.put_slice(text.as_bytes());
        }
        let mut alone = with_length(encoded.len())?;
        alone.extend_from_slice(&encoded);
        Some(Self { encoded: encoded.freeze(), alone: alone.freeze() })
    }

    /// Adds it to the properties of a message.
    pub fn sign(&self, properties: &Bytes) -> Bytes {
        let length = properties.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
        let Some(others) = properties.get(length..).filter(|others| !others.is_empty()) else {
            return self.alone.clone();
        };
        let Some(mut bytes) = with_length(others.len() + self.encoded.len()) else {
            return properties.clone();
        };
        bytes.extend_from_slice(others);
        bytes.extend_from_slice(&self.encoded);
        bytes.freeze()
    }
}

/// A buffer for properties of this length, with the length written.
fn with_length(length: usize) -> Option<BytesMut> {
    let number = u32::try_from(length).ok().and_then(VariableByteInteger::from_u32)?;
    let mut bytes = BytesMut::with_capacity(length + 4);
    bytes.extend_from_slice(number.as_bytes());
    Some(bytes)
}

/// The message's properties with what is left of its lifetime; `None` if it has expired (\[MQTT-3.3.2-5\], -6).
pub fn for_subscriber(message: &Message, now: Millis) -> Option<Vec<Property>> {
    if message.properties.is_empty() {
        return Some(Vec::new());
    }
    let (mut properties, _) = packet::Properties::parse(&message.properties).ok()?;
    let waited = now.0.saturating_sub(message.received.0) / 1000;
    for property in &mut properties {
        if let Property::MessageExpiryInterval(interval) = property {
            let left = u64::from(interval.val()).checked_sub(waited).filter(|left| *left > 0)?;
            *property = packet::MessageExpiryInterval::new(u32::try_from(left).ok()?).ok()?.into();
        }
    }
    Some(properties)
}

/// Whether the message's expiry interval has passed.
pub fn is_expired(message: &Message, now: Millis) -> bool {
    for_subscriber(message, now).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Qos, tests::message};

    fn pairs(properties: &Bytes) -> Vec<(String, String)> {
        let signed = Message { properties: properties.clone(), ..message("t", Qos::AtMostOnce, "x") };
        let properties = for_subscriber(&signed, Millis(0)).unwrap();
        properties
            .iter()
            .filter_map(|property| match property {
                Property::UserProperty(user) => Some((user.key().to_owned(), user.val().to_owned())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_publisher_is_added_to_whatever_properties_a_message_has() {
        let publisher = Publisher::new("anna").unwrap();
        let expected = || ("publisher".to_owned(), "anna".to_owned());
        assert_eq!(pairs(&publisher.sign(&Bytes::new())), [expected()]);
        assert_eq!(pairs(&publisher.sign(&Bytes::from_static(&[0]))), [expected()]);
        for length in [1, 100, 130, 5000] {
            let own: Property = packet::UserProperty::new("a", "b".repeat(length)).unwrap().into();
            let signed = publisher.sign(&of_application(&[own]).unwrap());
            assert_eq!(pairs(&signed), [("a".to_owned(), "b".repeat(length)), expected()]);
        }
    }

    #[test]
    fn a_text_with_a_nul_does_not_travel() {
        let texts: [Property; 3] = [
            packet::UserProperty::new("a\0", "b").unwrap().into(),
            packet::UserProperty::new("a", "\0b").unwrap().into(),
            packet::ContentType::new("\0").unwrap().into(),
        ];
        for text in texts {
            assert!(matches!(of_application(&[text]), Err(Ending::Malformed(_))));
        }
    }

    #[test]
    fn what_a_client_says_of_who_it_is_does_not_travel() {
        let forged: Property = packet::UserProperty::new("publisher", "somebody else").unwrap().into();
        assert!(of_application(&[forged]).unwrap().is_empty());
    }
}
