//! Packets of both versions in the one vocabulary of [`crate::request`].

use bytes::Bytes;
use mqtt_protocol_core::mqtt::packet::{self, Packet, Property, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;

use super::properties;
use crate::ending::Ending;
use crate::message::Qos;
use crate::request::{Connect, Publish, Request, RetainHandling, Wanted, Will};

/// Seconds of a session that never expires (section 3.1.2.11.2).
const FOR_EVER: u32 = u32::MAX;

/// What the client wants. `knows` says whether a QoS 2 message with this packet id waits for its release.
pub fn request(packet: Packet, knows: impl Fn(u16) -> bool) -> Result<Request, Ending> {
    Ok(match packet {
        Packet::V3_1_1Connect(p) => Request::Connect(Box::new(connect_v3(&p))),
        Packet::V5_0Connect(p) => Request::Connect(Box::new(connect_v5(&p)?)),
        Packet::V3_1_1Publish(p) => Request::Publish(Publish {
            topic: p.topic_name().to_owned(),
            qos: qos(p.qos()),
            retain: p.retain(),
            packet_id: packet_id(p.packet_id())?,
            properties: Bytes::new(),
            payload: Bytes::copy_from_slice(p.payload().as_slice()),
        }),
        Packet::V5_0Publish(p) => Request::Publish(Publish {
            topic: p.topic_name().to_owned(),
            qos: qos(p.qos()),
            retain: p.retain(),
            packet_id: packet_id(p.packet_id())?,
            properties: properties::of_application(p.props())?,
            payload: Bytes::copy_from_slice(p.payload().as_slice()),
        }),
        Packet::V3_1_1Puback(p) => Request::PubAck { packet_id: p.packet_id() },
        Packet::V5_0Puback(p) => Request::PubAck { packet_id: p.packet_id() },
        Packet::V3_1_1Pubrec(p) => Request::PubRec { packet_id: p.packet_id(), refused: false },
        Packet::V5_0Pubrec(p) => Request::PubRec {
            packet_id: p.packet_id(),
            refused: p.reason_code().is_some_and(|reason| reason.is_failure()),
        },
        Packet::V3_1_1Pubrel(p) => Request::PubRel { packet_id: p.packet_id(), known: knows(p.packet_id()) },
        Packet::V5_0Pubrel(p) => Request::PubRel { packet_id: p.packet_id(), known: knows(p.packet_id()) },
        Packet::V3_1_1Pubcomp(p) => Request::PubComp { packet_id: p.packet_id() },
        Packet::V5_0Pubcomp(p) => Request::PubComp { packet_id: p.packet_id() },
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
        Packet::V3_1_1Disconnect(_) => Request::Disconnect { with_will: false, session_expiry: None },
        Packet::V5_0Disconnect(p) => Request::Disconnect {
            with_will: p.reason_code() == Some(DisconnectReasonCode::DisconnectWithWillMessage),
            session_expiry: p.props().iter().flatten().find_map(|property| match property {
                Property::SessionExpiryInterval(interval) => Some(interval.val()),
                _ => None,
            }),
        },
        _ => return Err(Ending::Violation("a packet that clients do not send, or not here")),
    })
}

fn qos(qos: packet::Qos) -> Qos {
    match qos {
        packet::Qos::AtMostOnce => Qos::AtMostOnce,
        packet::Qos::AtLeastOnce => Qos::AtLeastOnce,
        packet::Qos::ExactlyOnce => Qos::ExactlyOnce,
    }
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
        qos: qos(options.qos()),
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
        session_expiry: if packet.clean_session() { 0 } else { FOR_EVER },
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
        enhanced_authentication: false,
        will: packet.will_topic().map(|topic| Will {
            topic: topic.to_owned(),
            qos: qos(packet.will_qos()),
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
        user: packet.user_name().map(str::to_owned),
        password: packet.password().map(<[u8]>::to_vec),
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
            qos: qos(packet.will_qos()),
            retain: packet.will_retain(),
            properties: properties::of_application(packet.will_props())?,
            payload: Bytes::copy_from_slice(packet.will_payload().unwrap_or_default()),
        });
    }
    Ok(connect)
}
