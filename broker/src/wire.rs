//! One connection's bytes: MQTT 3.1.1 and 5 in one vocabulary.
//!
//! Around the sans-I/O codec `mqtt-protocol-core`, which parses, keeps packet ids, and knows the version from the
//! CONNECT. Here the two versions' packets become one [`Request`], answers become bytes in [`Wire::out`], and the rules
//! that the codec leaves open are checked: fixed header flags, subscription options of 3.1.1, response topics.

use bytes::{Buf, Bytes, BytesMut};
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event};
use mqtt_protocol_core::mqtt::packet::{
    self, GenericPacketTrait, Packet, PropertiesParse, PropertiesSize, Property, VariableByteInteger, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, DisconnectReasonCode, MqttError, PubackReasonCode, SubackReasonCode,
    SubackReturnCode, UnsubackReasonCode,
};
use mqtt_protocol_core::mqtt::{Connection, Version, role};

use crate::ending::{Ending, Refusal};
use crate::limits::Limits;
use crate::message::{Message, Millis, Qos};
use crate::outbox::Delivery;
use crate::request::{Connect, Publish, Request, RetainHandling, Wanted, Will};

/// CONNACK of MQTT 3.1.1 with return code 1, *unacceptable protocol level*: the answer to versions not spoken here
/// (\[MQTT-3.1.2-2\]).
const UNACCEPTABLE_VERSION: [u8; 4] = [0x20, 2, 0, 1];

/// The answer to one filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granted {
    /// Subscribed at this QoS.
    Yes(Qos),
    /// The filter is malformed.
    InvalidFilter,
    /// Shared subscriptions are not offered.
    Shared,
    /// Too many subscriptions.
    Quota,
}

/// The codec of one connection, with what it wants sent.
pub struct Wire {
    core: Connection<role::Server>,
    /// Whether the next byte begins a packet.
    at_boundary: bool,
    /// Bytes to be written to the client.
    pub out: BytesMut,
}

impl Wire {
    /// A connection on which nothing was received yet.
    pub fn new(limits: &Limits) -> Self {
        let options = ConnectionOptions::new().maximum_packet_size_recv(limits.max_packet());
        Self { core: Connection::with_options(Version::Undetermined, options), at_boundary: true, out: BytesMut::new() }
    }

    /// Takes bytes off the front of `input`, at most one packet, and says what the client wants, if it is complete.
    pub fn receive(&mut self, input: &mut BytesMut) -> Result<Option<Request>, Ending> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        if self.at_boundary {
            check_flags(first)?;
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
                Event::NotifyPacketReceived(packet) => request = Some(self.request(packet)?),
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

    fn is_v5(&self) -> bool {
        self.core.get_protocol_version() == Version::V5_0
    }

    fn request(&self, packet: Packet) -> Result<Request, Ending> {
        Ok(match packet {
            Packet::V3_1_1Connect(p) => Request::Connect(Box::new(connect_v3(&p))),
            Packet::V5_0Connect(p) => Request::Connect(Box::new(connect_v5(&p)?)),
            Packet::V3_1_1Publish(p) => Request::Publish(Publish {
                topic: p.topic_name().to_owned(),
                qos: p.qos() as u8,
                retain: p.retain(),
                packet_id: packet_id(p.packet_id())?,
                properties: Bytes::new(),
                payload: Bytes::copy_from_slice(p.payload().as_slice()),
            }),
            Packet::V5_0Publish(p) => Request::Publish(Publish {
                topic: p.topic_name().to_owned(),
                qos: p.qos() as u8,
                retain: p.retain(),
                packet_id: packet_id(p.packet_id())?,
                properties: application_properties(p.props())?,
                payload: Bytes::copy_from_slice(p.payload().as_slice()),
            }),
            Packet::V3_1_1Puback(_) | Packet::V5_0Puback(_) => Request::PubAck,
            Packet::V3_1_1Subscribe(p) => Request::Subscribe {
                packet_id: p.packet_id(),
                wanted: p.entries().iter().map(wanted_v3).collect::<Result<_, _>>()?,
            },
            Packet::V5_0Subscribe(p) => {
                let identifier = p.props().iter().find_map(|property| match property {
                    Property::SubscriptionIdentifier(identifier) => Some(identifier.val()),
                    _ => None,
                });
                if identifier == Some(0) {
                    return Err(Ending::Violation("subscription identifier 0 [MQTT 5, 3.8.2.1.2]"));
                }
                Request::Subscribe {
                    packet_id: p.packet_id(),
                    wanted: p.entries().iter().map(|entry| wanted_v5(entry, identifier)).collect::<Result<_, _>>()?,
                }
            }
            Packet::V3_1_1Unsubscribe(p) => Request::Unsubscribe {
                packet_id: p.packet_id(),
                filters: p.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            },
            Packet::V5_0Unsubscribe(p) => Request::Unsubscribe {
                packet_id: p.packet_id(),
                filters: p.entries().iter().map(|filter| filter.as_str().to_owned()).collect(),
            },
            Packet::V3_1_1Pingreq(_) | Packet::V5_0Pingreq(_) => Request::Ping,
            Packet::V3_1_1Disconnect(_) => Request::Disconnect { with_will: false },
            Packet::V5_0Disconnect(p) => Request::Disconnect {
                with_will: p.reason_code() == Some(DisconnectReasonCode::DisconnectWithWillMessage),
            },
            _ => return Err(Ending::Violation("a packet that clients do not send, or not here")),
        })
    }

    /// Accepts the CONNECT. `assigned` is the client id given to a client that sent none.
    pub fn accept(&mut self, connect: &Connect, assigned: Option<&str>) -> Result<(), MqttError> {
        if !connect.v5 {
            let packet =
                v3_1_1::Connack::builder().session_present(false).return_code(ConnectReturnCode::Accepted).build()?;
            return self.send(packet.into());
        }
        let mut properties: Vec<Property> = vec![
            packet::MaximumQos::new(1)?.into(),
            packet::TopicAliasMaximum::new(0)?.into(),
            packet::SharedSubscriptionAvailable::new(0)?.into(),
        ];
        if connect.session_expiry > 0 {
            // The session ends with the connection, whatever the client asked for (section 3.2.2.3.2).
            properties.push(packet::SessionExpiryInterval::new(0)?.into());
        }
        if let Some(id) = assigned {
            properties.push(packet::AssignedClientIdentifier::new(id)?.into());
        }
        let packet = v5_0::Connack::builder()
            .session_present(false)
            .reason_code(ConnectReasonCode::Success)
            .props(properties)
            .build()?;
        self.send(packet.into())
    }

    /// Refuses the CONNECT.
    pub fn refuse(&mut self, refusal: Refusal) -> Result<(), MqttError> {
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

    /// Acknowledges a QoS 1 message; `reason` is for MQTT 5 clients only.
    pub fn puback(&mut self, packet_id: u16, reason: PubackReasonCode) -> Result<(), MqttError> {
        if self.is_v5() {
            let builder = v5_0::Puback::builder().packet_id(packet_id);
            let packet = match reason {
                PubackReasonCode::Success => builder.build()?,
                other => builder.reason_code(other).build()?,
            };
            self.send(packet.into())
        } else {
            self.send(v3_1_1::Puback::builder().packet_id(packet_id).build()?.into())
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
                    Granted::InvalidFilter => SubackReasonCode::TopicFilterInvalid,
                    Granted::Shared => SubackReasonCode::SharedSubscriptionsNotSupported,
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
                    Granted::InvalidFilter | Granted::Shared | Granted::Quota => SubackReturnCode::Failure,
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

    /// Tells an MQTT 5 client why its connection ends; 3.1.1 has no such packet.
    pub fn disconnect(&mut self, reason: DisconnectReasonCode) -> Result<(), MqttError> {
        if !self.is_v5() {
            return Ok(());
        }
        self.send(v5_0::Disconnect::builder().reason_code(reason).build()?.into())
    }

    /// Sends a message. `false` if it was left out: it has expired, or the client said that it takes no packet so
    /// large, in which case it counts as delivered (\[MQTT-3.1.2-25\]).
    pub fn deliver(&mut self, delivery: &Delivery, now: Millis) -> Result<bool, MqttError> {
        let message = &delivery.message;
        let acknowledged = delivery.qos == Qos::AtLeastOnce;
        let properties = match properties_for_subscriber(message, now) {
            Some(properties) => properties,
            None => return Ok(false),
        };
        let qos = if acknowledged { packet::Qos::AtLeastOnce } else { packet::Qos::AtMostOnce };
        let id = if acknowledged { Some(self.core.acquire_packet_id()?) } else { None };
        let packet: Packet = if self.is_v5() {
            let identifiers = delivery
                .identifiers
                .iter()
                .map(|identifier| Ok(packet::SubscriptionIdentifier::new(*identifier)?.into()))
                .collect::<Result<Vec<Property>, MqttError>>()?;
            let mut builder = v5_0::Publish::builder()
                .topic_name(message.topic.as_str())?
                .qos(qos)
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
                .retain(delivery.retain)
                .payload(&message.payload[..]);
            if let Some(id) = id {
                builder = builder.packet_id(id);
            }
            builder.build()?.into()
        };
        match self.send(packet) {
            Err(MqttError::PacketTooLarge) => {
                if let Some(id) = id {
                    self.core.release_packet_id(id);
                }
                Ok(false)
            }
            other => other.map(|()| true),
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

/// Packet id 0 is not one (\[MQTT-2.2.1-3\]).
fn packet_id(id: Option<u16>) -> Result<Option<u16>, Ending> {
    match id {
        Some(0) => Err(Ending::Violation("packet id 0 [MQTT-2.2.1-3]")),
        id => Ok(id),
    }
}

fn wanted_v3(entry: &packet::SubEntry) -> Result<Wanted, Ending> {
    let options = entry.sub_opts();
    if options.to_buffer()[0] & !0b11 != 0 {
        return Err(Ending::Malformed("reserved bits of a requested QoS [MQTT-3.8.3-4]"));
    }
    wanted_v5(entry, None)
}

fn wanted_v5(entry: &packet::SubEntry, identifier: Option<u32>) -> Result<Wanted, Ending> {
    let options = entry.sub_opts();
    if options.to_buffer()[0] & 0b1100_0000 != 0 {
        return Err(Ending::Malformed("reserved bits of the subscription options [MQTT-3.8.3-5]"));
    }
    Ok(Wanted {
        filter: entry.topic_filter().to_owned(),
        // The lower of what is wanted and what is offered (section 3.9.3).
        qos: if options.qos() == packet::Qos::AtMostOnce { Qos::AtMostOnce } else { Qos::AtLeastOnce },
        no_local: options.nl(),
        retain_as_published: options.rap(),
        retain_handling: match options.rh() {
            packet::RetainHandling::SendRetained => RetainHandling::Always,
            packet::RetainHandling::SendRetainedIfNotExists => RetainHandling::IfNew,
            packet::RetainHandling::DoNotSendRetained => RetainHandling::Never,
        },
        identifier,
    })
}

fn connect_v3(packet: &v3_1_1::Connect) -> Connect {
    Connect {
        v5: false,
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_session(),
        keep_alive: packet.keep_alive(),
        receive_maximum: u16::MAX,
        session_expiry: 0,
        enhanced_authentication: false,
        will: packet.will_topic().map(|topic| Will {
            topic: topic.to_owned(),
            qos: packet.will_qos() as u8,
            retain: packet.will_retain(),
            properties: Bytes::new(),
            payload: Bytes::copy_from_slice(packet.will_payload().unwrap_or_default()),
        }),
    }
}

fn connect_v5(packet: &v5_0::Connect) -> Result<Connect, Ending> {
    let mut connect = Connect {
        v5: true,
        client_id: packet.client_id().to_owned(),
        clean: packet.clean_start(),
        keep_alive: packet.keep_alive(),
        receive_maximum: u16::MAX,
        session_expiry: 0,
        enhanced_authentication: false,
        will: None,
    };
    for property in packet.props() {
        match property {
            Property::ReceiveMaximum(maximum) => connect.receive_maximum = maximum.val(),
            Property::SessionExpiryInterval(interval) => connect.session_expiry = interval.val(),
            Property::AuthenticationMethod(_) => connect.enhanced_authentication = true,
            _ => {}
        }
    }
    if let Some(topic) = packet.will_topic() {
        connect.will = Some(Will {
            topic: topic.to_owned(),
            qos: packet.will_qos() as u8,
            retain: packet.will_retain(),
            properties: application_properties(packet.will_props())?,
            payload: Bytes::copy_from_slice(packet.will_payload().unwrap_or_default()),
        });
    }
    Ok(connect)
}

/// The properties that a subscriber gets as the publisher sent them (section 3.3.2.3), in wire format with their
/// length, or nothing. Will delay is left out: a session ends with its connection, and so does the delay.
fn application_properties(properties: &[Property]) -> Result<Bytes, Ending> {
    let mut kept = Vec::new();
    for property in properties {
        match property {
            Property::ResponseTopic(topic) if !crate::topic::is_valid_topic(topic.val()) => {
                return Err(Ending::Violation("response topic is not a valid topic [MQTT-3.3.2-14]"));
            }
            Property::SubscriptionIdentifier(_) => {
                return Err(Ending::Violation("a client's PUBLISH with a subscription identifier [MQTT-3.3.4-6]"));
            }
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
    let length = u32::try_from(kept.size()).ok().and_then(VariableByteInteger::from_u32);
    let length = length.ok_or(Ending::Malformed("properties too long"))?;
    let mut bytes = BytesMut::from(length.as_bytes());
    for property in &kept {
        for part in property.to_buffers() {
            bytes.extend_from_slice(&part);
        }
    }
    Ok(bytes.freeze())
}

/// The message's properties with what is left of its lifetime; `None` if it has expired (\[MQTT-3.3.2-5\], -6).
fn properties_for_subscriber(message: &Message, now: Millis) -> Option<Vec<Property>> {
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
    properties_for_subscriber(message, now).is_none()
}
