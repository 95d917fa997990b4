//! One connection's bytes: MQTT 3.1.1 and 5 in one vocabulary.
//!
//! Around the sans-I/O codec `mqtt-protocol-core`, which parses, keeps packet ids, and knows the version from the
//! CONNECT. Here the two versions' packets become one [`Request`], answers become bytes in [`Wire::out`], and the rules
//! that the codec leaves open are checked: fixed header flags, subscription options of 3.1.1, response topics.

mod greeting;
pub mod properties;
mod requests;

use std::collections::HashSet;

use bytes::{Buf, BytesMut};
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event};
use mqtt_protocol_core::mqtt::packet::{self, GenericPacketTrait, Packet, Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode, PubrecReasonCode,
    SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};
use mqtt_protocol_core::mqtt::{Connection, Version, role};

use crate::ending::{Ending, Refusal};
use crate::limits::Limits;
use crate::message::{Millis, Qos};
use crate::outbox::Delivery;
use crate::request::Request;

/// CONNACK of MQTT 3.1.1 with return code 1, *unacceptable protocol level*: the answer to versions not spoken here
/// (\[MQTT-3.1.2-2\]).
const UNACCEPTABLE_VERSION: [u8; 4] = [0x20, 2, 0, 1];

/// What the CONNACK tells a client that is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Whether its session goes on.
    pub session_present: bool,
    /// Whether its client id was given to it.
    pub assigned: bool,
    /// Seconds that its session will be kept, if that is not what it asked for. MQTT 3.1.1 has no word for it.
    pub session_expiry: Option<u32>,
}

/// The answer to a PUBLISH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is on its way.
    Taken,
    /// It may not be published by this client.
    NotAuthorized,
    /// There is no room to keep it, or for its topic.
    Quota,
}

/// The answer to one filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Subscribed at this QoS.
    Yes(Qos),
    /// The filter is malformed.
    InvalidFilter,
    /// Shared subscriptions are not offered.
    Shared,
    /// The client may read nothing that matches.
    NotAuthorized,
    /// Too many subscriptions.
    Quota,
}

/// What became of a message for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in [`Wire::out`], above QoS 0 under this packet id.
    Yes(Option<u16>),
    /// It was left out since it has expired.
    Expired,
    /// It was left out since the client takes no packet so large; it counts as delivered (\[MQTT-3.1.2-25\]).
    TooLarge,
}

/// The codec of one connection, with what it wants sent.
pub struct Wire {
    core: Connection<role::Server>,
    /// Whether the codec has seen the first packet.
    greeted: bool,
    max_packet: usize,
    /// Whether the next byte begins a packet.
    at_boundary: bool,
    /// Packet ids of QoS 2 messages that were received and not released yet.
    received: HashSet<u16>,
    /// Bytes to be written to the client.
    pub out: BytesMut,
    /// Packets put there so far.
    pub packets_out: u64,
}

impl Wire {
    /// A connection on which nothing was received yet.
    pub fn new(limits: &Limits) -> Self {
        let options = ConnectionOptions::new().maximum_packet_size_recv(limits.max_packet());
        Self {
            core: Connection::with_options(Version::Undetermined, options),
            greeted: false,
            max_packet: usize::try_from(limits.max_packet()).unwrap_or(usize::MAX),
            at_boundary: true,
            received: HashSet::new(),
            out: BytesMut::new(),
            packets_out: 0,
        }
    }

    /// Takes bytes off the front of `input`, at most one packet, and says what the client wants, if it is complete. The
    /// first packet is taken as a whole.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Request>, Ending> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        if self.at_boundary {
            check_flags(first)?;
        }
        if !self.greeted {
            if !greeting::is_ready(input, self.max_packet) {
                return Ok(None);
            }
            greeting::amend(input);
            self.greeted = true;
        }
        let mut cursor = Cursor::new(&input[..]);
        let events = self.core.recv(&mut cursor);
        let taken = usize::try_from(cursor.position()).unwrap_or(input.len()).min(input.len());
        input.advance(taken);
        self.at_boundary = !events.is_empty();

        let mut request = None;
        let mut error = None;
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => {
                    request = Some(requests::request(packet)?);
                }
                Event::RequestSendPacket { packet, .. } => self.put(&packet),
                Event::NotifyError(e) => error = Some(e),
                Event::RequestClose
                | Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_) => {}
            }
        }
        match error {
            Some(MqttError::UnsupportedProtocolVersion) => {
                self.out.extend_from_slice(&UNACCEPTABLE_VERSION);
                Err(Ending::Codec(MqttError::UnsupportedProtocolVersion))
            }
            Some(e) => Err(Ending::Codec(e)),
            None => Ok(request),
        }
    }

    /// Whether the client speaks MQTT 5.
    pub fn is_v5(&self) -> bool {
        self.core.get_protocol_version() == Version::V5_0
    }

    /// Accepts the CONNECT of the client with this id.
    pub fn accept(&mut self, welcome: Welcome, client_id: &str) -> Result<(), MqttError> {
        if !self.is_v5() {
            let packet = v3_1_1::Connack::builder()
                .session_present(welcome.session_present)
                .return_code(ConnectReturnCode::Accepted)
                .build()?;
            return self.send(packet.into());
        }
        let mut properties: Vec<Property> =
            vec![packet::TopicAliasMaximum::new(0)?.into(), packet::SharedSubscriptionAvailable::new(0)?.into()];
        if let Some(seconds) = welcome.session_expiry {
            properties.push(packet::SessionExpiryInterval::new(seconds)?.into());
        }
        if welcome.assigned {
            properties.push(packet::AssignedClientIdentifier::new(client_id)?.into());
        }
        let packet = v5_0::Connack::builder()
            .session_present(welcome.session_present)
            .reason_code(ConnectReasonCode::Success)
            .props(properties)
            .build()?;
        self.send(packet.into())
    }

    /// Refuses the CONNECT.
    pub fn refuse(&mut self, refusal: &Refusal) -> Result<(), MqttError> {
        if self.is_v5() {
            let packet = v5_0::Connack::builder().session_present(false).reason_code(refusal.reason()).build()?;
            return self.send(packet.into());
        }
        let Some(code) = refusal.return_code() else {
            return Ok(());
        };
        let packet = v3_1_1::Connack::builder().session_present(false).return_code(code).build()?;
        self.send(packet.into())
    }

    /// Acknowledges a QoS 1 message. MQTT 3.1.1 has no way to say no (\[MQTT-3.3.5-2\]).
    pub fn puback(&mut self, packet_id: u16, verdict: Verdict) -> Result<(), MqttError> {
        if !self.is_v5() {
            return self.send(v3_1_1::Puback::builder().packet_id(packet_id).build()?.into());
        }
        let builder = v5_0::Puback::builder().packet_id(packet_id);
        let packet = match verdict {
            Verdict::Taken => builder.build()?,
            Verdict::NotAuthorized => builder.reason_code(PubackReasonCode::NotAuthorized).build()?,
            Verdict::Quota => builder.reason_code(PubackReasonCode::QuotaExceeded).build()?,
        };
        self.send(packet.into())
    }

    /// Answers a QoS 2 message. What was taken is expected to be released, and until then is not taken again.
    pub fn pubrec(&mut self, packet_id: u16, verdict: Verdict) -> Result<(), MqttError> {
        if !self.is_v5() || verdict == Verdict::Taken {
            self.received.insert(packet_id);
        }
        if !self.is_v5() {
            return self.send(v3_1_1::Pubrec::builder().packet_id(packet_id).build()?.into());
        }
        let builder = v5_0::Pubrec::builder().packet_id(packet_id);
        let packet = match verdict {
            Verdict::Taken => builder.build()?,
            Verdict::NotAuthorized => builder.reason_code(PubrecReasonCode::NotAuthorized).build()?,
            Verdict::Quota => builder.reason_code(PubrecReasonCode::QuotaExceeded).build()?,
        };
        self.send(packet.into())
    }

    /// Releases a QoS 2 message that the client has.
    pub fn pubrel(&mut self, packet_id: u16) -> Result<(), MqttError> {
        if self.is_v5() {
            self.send(v5_0::Pubrel::builder().packet_id(packet_id).build()?.into())
        } else {
            self.send(v3_1_1::Pubrel::builder().packet_id(packet_id).build()?.into())
        }
    }

    /// Answers a PUBREL. One of an unknown message is no error: the answer to the first one may have been lost with a
    /// connection (section 4.3.3), and clients show 0x92 to people.
    pub fn pubcomp(&mut self, packet_id: u16) -> Result<(), MqttError> {
        self.received.remove(&packet_id);
        if self.is_v5() {
            self.send(v5_0::Pubcomp::builder().packet_id(packet_id).build()?.into())
        } else {
            self.send(v3_1_1::Pubcomp::builder().packet_id(packet_id).build()?.into())
        }
    }

    /// Answers a SUBSCRIBE, one answer per filter.
    pub fn suback(&mut self, packet_id: u16, answers: &[Granted]) -> Result<(), MqttError> {
        if self.is_v5() {
            let codes = answers
                .iter()
                .map(|answer| match answer {
                    Granted::Yes(Qos::AtMostOnce) => SubackReasonCode::GrantedQos0,
                    Granted::Yes(Qos::AtLeastOnce) => SubackReasonCode::GrantedQos1,
                    Granted::Yes(Qos::ExactlyOnce) => SubackReasonCode::GrantedQos2,
                    Granted::InvalidFilter => SubackReasonCode::TopicFilterInvalid,
                    Granted::Shared => SubackReasonCode::SharedSubscriptionsNotSupported,
                    Granted::NotAuthorized => SubackReasonCode::NotAuthorized,
                    Granted::Quota => SubackReasonCode::QuotaExceeded,
                })
                .collect();
            self.send(v5_0::Suback::builder().packet_id(packet_id).reason_codes(codes).build()?.into())
        } else {
            let codes = answers
                .iter()
                .map(|answer| match answer {
                    Granted::Yes(Qos::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
                    Granted::Yes(Qos::AtLeastOnce) => SubackReturnCode::SuccessMaximumQos1,
                    Granted::Yes(Qos::ExactlyOnce) => SubackReturnCode::SuccessMaximumQos2,
                    Granted::InvalidFilter | Granted::Shared | Granted::NotAuthorized | Granted::Quota => {
                        SubackReturnCode::Failure
                    }
                })
                .collect();
            self.send(v3_1_1::Suback::builder().packet_id(packet_id).return_codes(codes).build()?.into())
        }
    }

    /// Answers an UNSUBSCRIBE; `existed` says for each filter whether there was such a subscription.
    pub fn unsuback(&mut self, packet_id: u16, existed: &[bool]) -> Result<(), MqttError> {
        if self.is_v5() {
            let codes = existed
                .iter()
                .map(|existed| match existed {
                    true => UnsubackReasonCode::Success,
                    false => UnsubackReasonCode::NoSubscriptionExisted,
                })
                .collect();
            self.send(v5_0::Unsuback::builder().packet_id(packet_id).reason_codes(codes).build()?.into())
        } else {
            self.send(v3_1_1::Unsuback::builder().packet_id(packet_id).build()?.into())
        }
    }

    /// Answers a PINGREQ.
    pub fn pingresp(&mut self) -> Result<(), MqttError> {
        if self.is_v5() {
            self.send(v5_0::Pingresp::builder().build()?.into())
        } else {
            self.send(v3_1_1::Pingresp::builder().build()?.into())
        }
    }

    /// Tells an MQTT 5 client why its connection ends; 3.1.1 has no such packet. In words too: people read them, and two
    /// client libraries that are used on the grid (rumqttc 0.25, paho 2.1) do not read the reason of a DISCONNECT that
    /// has no properties.
    pub fn disconnect(&mut self, reason: DisconnectReasonCode, words: &str) -> Result<(), MqttError> {
        if !self.is_v5() {
            return Ok(());
        }
        let words = packet::ReasonString::new(words)?;
        let packet = v5_0::Disconnect::builder().reason_code(reason).props(vec![words.into()]).build()?;
        match self.send(packet.into()) {
            // [MQTT-3.14.2-3]: no words for a client that takes no packet so large.
            Err(MqttError::PacketTooLarge) => {
                self.send(v5_0::Disconnect::builder().reason_code(reason).build()?.into())
            }
            other => other,
        }
    }

    /// Sends a message for the first time.
    pub fn deliver(&mut self, delivery: &Delivery, now: Millis) -> Result<Sent, MqttError> {
        let id = if delivery.qos.is_assured() { Some(self.core.acquire_packet_id()?) } else { None };
        self.publish(delivery, id, false, now)
    }

    /// Sends a message again that an earlier connection sent, under its old packet id.
    pub fn deliver_again(&mut self, packet_id: u16, delivery: &Delivery, now: Millis) -> Result<Sent, MqttError> {
        self.core.register_packet_id(packet_id)?;
        self.publish(delivery, Some(packet_id), true, now)
    }

    /// Sends the release of a message again that an earlier connection released.
    ///
    /// The codec counts what is in flight from PUBLISH to PUBCOMP, so it is led through the steps that are over, with
    /// its packets thrown away.
    pub fn release_again(&mut self, packet_id: u16) -> Result<(), Ending> {
        const PUBREC: u8 = 0x50;
        self.core.register_packet_id(packet_id).map_err(Ending::Codec)?;
        let qos = packet::Qos::ExactlyOnce;
        let published: Packet = if self.is_v5() {
            let builder = v5_0::Publish::builder().topic_name("x").map_err(Ending::Codec)?;
            builder.qos(qos).packet_id(packet_id).build().map_err(Ending::Codec)?.into()
        } else {
            let builder = v3_1_1::Publish::builder().topic_name("x").map_err(Ending::Codec)?;
            builder.qos(qos).packet_id(packet_id).build().map_err(Ending::Codec)?.into()
        };
        self.core.send(published);
        let [high, low] = packet_id.to_be_bytes();
        self.core.recv(&mut Cursor::new(&[PUBREC, 2, high, low][..]));
        self.pubrel(packet_id).map_err(Ending::Codec)
    }

    /// Packet ids of QoS 2 messages that the client has not released yet.
    pub fn take_received(&mut self) -> HashSet<u16> {
        std::mem::take(&mut self.received)
    }

    /// Goes on with what an earlier connection received.
    pub fn restore_received(&mut self, received: HashSet<u16>) {
        self.core.restore_qos2_publish_handled(received.iter().copied().collect());
        self.received = received;
    }

    fn publish(&mut self, delivery: &Delivery, id: Option<u16>, again: bool, now: Millis) -> Result<Sent, MqttError> {
        let message = &delivery.message;
        let Some(properties) = properties::for_subscriber(message, now) else {
            self.free(id);
            return Ok(Sent::Expired);
        };
        let qos = match delivery.qos {
            Qos::AtMostOnce => packet::Qos::AtMostOnce,
            Qos::AtLeastOnce => packet::Qos::AtLeastOnce,
            Qos::ExactlyOnce => packet::Qos::ExactlyOnce,
        };
        let packet: Packet = if self.is_v5() {
            let identifiers = delivery
                .identifiers
                .iter()
                .map(|identifier| Ok(packet::SubscriptionIdentifier::new(*identifier)?.into()))
                .collect::<Result<Vec<Property>, MqttError>>()?;
            let mut builder = v5_0::Publish::builder()
                .topic_name(message.topic.as_str())?
                .qos(qos)
                .dup(again)
                .retain(delivery.retain)
                .props([properties, identifiers].concat())
                .payload(&message.payload[..]);
            if let Some(id) = id {
                builder = builder.packet_id(id);
            }
            builder.build()?.into()
        } else {
            let mut builder = v3_1_1::Publish::builder()
                .topic_name(message.topic.as_str())?
                .qos(qos)
                .dup(again)
                .retain(delivery.retain)
                .payload(&message.payload[..]);
            if let Some(id) = id {
                builder = builder.packet_id(id);
            }
            builder.build()?.into()
        };
        match self.send(packet) {
            Err(MqttError::PacketTooLarge) => {
                self.free(id);
                Ok(Sent::TooLarge)
            }
            other => other.map(|()| Sent::Yes(id)),
        }
    }

    fn free(&mut self, id: Option<u16>) {
        if let Some(id) = id {
            self.core.release_packet_id(id);
        }
    }

    fn send(&mut self, packet: Packet) -> Result<(), MqttError> {
        for event in self.core.send(packet) {
            match event {
                Event::RequestSendPacket { packet, .. } => self.put(&packet),
                Event::NotifyError(error) => return Err(error),
                Event::NotifyPacketReceived(_)
                | Event::RequestClose
                | Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_) => {}
            }
        }
        Ok(())
    }

    fn put(&mut self, packet: &Packet) {
        self.packets_out += 1;
        self.out.extend_from_slice(&packet.to_continuous_buffer());
    }
}

/// The flags that each packet type must have (\[MQTT-2.1.3-1\]); those of PUBLISH are the codec's business.
fn check_flags(first: u8) -> Result<(), Ending> {
    let expected = match first >> 4 {
        3 => return Ok(()),
        6 | 8 | 10 => 0b0010,
        0 => return Err(Ending::Malformed("packet type 0")),
        _ => 0,
    };
    if first & 0x0f == expected { Ok(()) } else { Err(Ending::Malformed("flags of the fixed header")) }
}
