"""Performs the table of behaviours with Eclipse paho-mqtt."""

from __future__ import annotations

import socket
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from performance import Events, Failed, Message, Step, expect, expect_announced, perform_all

PROTOCOLS = {"3.1.1": mqtt.MQTTv311, "5": mqtt.MQTTv5}
PACKETS = {"PUBLISH": 0x30, "PUBACK": 0x40, "PUBREC": 0x50, "PUBREL": 0x60, "PUBCOMP": 0x70}
DISCONNECT_WITH_WILL = 0x04


class Client(mqtt.Client):
    """paho's client, with what a test wants and an application does not."""

    lost_packet: int | None = None
    pings = True

    def _packet_handle(self) -> MQTTErrorCode:
        """Loses the packet that is to be lost, and the connection with it."""
        if self._in_packet["command"] & 0xF0 == self.lost_packet:
            self.lost_packet = None
            return MQTTErrorCode.MQTT_ERR_CONN_LOST
        return super()._packet_handle()

    def _send_pingreq(self) -> MQTTErrorCode:
        return super()._send_pingreq() if self.pings else MQTTErrorCode.MQTT_ERR_SUCCESS

    # The library refuses to send what no broker should accept; here the broker is to refuse it.
    @staticmethod
    def _filter_wildcard_len_check(_: bytes) -> MQTTErrorCode:
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    @staticmethod
    def _raise_for_invalid_topic(_: bytes) -> None:
        return None


class Peer:
    """One named client of a row, and what it has seen."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.v5 = step["mqtt"] == "5"
        self.events = Events()
        self.connack: tuple[Any, bool, Properties | None] | None = None
        self.ending: int | None = None
        self.answers: dict[int, list[int]] = {}
        self.published: dict[int, int] = {}
        self.unfinished: list[int] = []
        self.unacknowledged: list[tuple[int, int]] = []
        # In 3.1.1 the session is a matter of the client object, in 5 of each connect.
        clean = {} if self.v5 else {"clean_session": step["session"] == "new"}
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=step["id"],
            protocol=PROTOCOLS[step["mqtt"]],
            manual_ack=step["holds_acknowledgements"],
            reconnect_on_failure=False,
            **clean,
        )
        self.client.pings = step["pings"]
        self.client.max_inflight_messages_set(1000)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = self._on_message
        self.client.on_publish = self._on_publish
        self.client.on_subscribe = self.client.on_unsubscribe = self._on_answer
        if (will := step.get("will")) is not None:
            properties = encode(PacketTypes.WILLMESSAGE, will["properties"]) if self.v5 else None
            self.client.will_set(will["topic"], will["payload"], will["qos"], will["retain"], properties)

    def connect(self, host: str, port: int, again: bool) -> None:
        if again:
            self.client.loop_stop()
        self.connack = self.ending = None
        if again:
            self.client.reconnect()
        elif self.v5:
            names = ("session_expiry_interval", "receive_maximum", "maximum_packet_size", "authentication_method")
            properties = encode(PacketTypes.CONNECT, {name: self.step[name] for name in names if name in self.step})
            clean = self.step["session"] == "new"
            self.client.connect(host, port, self.step["keep_alive"], clean_start=clean, properties=properties)
        else:
            self.client.connect(host, port, self.step["keep_alive"])
        self.client.loop_start()
        self.events.wait("a CONNACK", lambda: self.connack is not None or self.ending is not None)

    def answer_to(self, sent: tuple[MQTTErrorCode, int | None]) -> list[int]:
        code, packet_id = sent
        if code != MQTTErrorCode.MQTT_ERR_SUCCESS or packet_id is None:
            raise Failed(f"could not be sent: {code!r}")
        self.events.wait("an answer", lambda: packet_id in self.answers or self.ending is not None)
        if packet_id not in self.answers:
            raise Failed(f"no answer, but the connection ended with reason {self.ending}")
        return self.answers.pop(packet_id)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _c: Any, _u: Any, flags: Any, reason: Any, properties: Properties | None) -> None:
        self.events.note(lambda: setattr(self, "connack", (reason, flags.session_present, properties)))

    def _on_disconnect(self, _c: Any, _u: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        # Behind a DISCONNECT of the broker it is called again, for the connection.
        if self.ending is None:
            self.events.note(lambda: setattr(self, "ending", reason.value))

    def _on_publish(self, _c: Any, _u: Any, packet_id: int, reason: Any, _properties: Any) -> None:
        self.events.note(lambda: self.published.update({packet_id: reason.value}))

    def _on_answer(self, _c: Any, _u: Any, packet_id: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self.events.note(lambda: self.answers.update({packet_id: [reason.value for reason in reasons]}))

    def _on_message(self, _c: Any, _u: Any, message: mqtt.MQTTMessage) -> None:
        if message.qos > 0:
            self.unacknowledged.append((message.mid, message.qos))
        self.events.arrived(decode(message))


class Row:
    """Performs the steps of one row."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.peers: dict[str, Peer] = {}

    def peer(self, step: Step) -> Peer:
        return self.peers[step["client"]]

    def connect(self, step: Step) -> None:
        if not step["again"]:
            self.peers[step["client"]] = Peer(step)
        peer = self.peer(step)
        peer.connect(*self.address, step["again"])
        if peer.connack is None:
            raise Failed(f"no CONNACK, but the connection ended with reason {peer.ending}")
        reason, session_present, properties = peer.connack
        expect("CONNACK code", step["refused"], reason.value)
        if step["session_present"] is not None:
            expect("session present", step["session_present"], session_present)
        expect_announced(step["announced"], decode_properties(properties))

    def subscribe(self, step: Step) -> None:
        peer = self.peer(step)
        if peer.v5:
            options = SubscribeOptions(
                step["qos"], step["no_local"], step["retain_as_published"], step["retain_handling"]
            )
            properties = Properties(PacketTypes.SUBSCRIBE)
            if "identifier" in step:
                properties.SubscriptionIdentifier = step["identifier"]
            sent = peer.client.subscribe([(filter_, options) for filter_ in step["to"]], properties=properties)
        else:
            sent = peer.client.subscribe([(filter_, step["qos"]) for filter_ in step["to"]])
        expect("SUBACK codes", step["granted"], peer.answer_to(sent))

    def unsubscribe(self, step: Step) -> None:
        peer = self.peer(step)
        codes = peer.answer_to(peer.client.unsubscribe(step["from"]))
        if peer.v5 and step["answer"] is not None:
            expect("UNSUBACK code", [step["answer"]], codes)

    def publish(self, step: Step) -> None:
        peer = self.peer(step)
        properties = encode(PacketTypes.PUBLISH, step["properties"]) if peer.v5 else None
        sent = peer.client.publish(step["topic"], step["payload"], step["qos"], step["retain"], properties)
        peer.unfinished.append(sent.mid)
        if not step["unanswered"]:
            self.finished(step)

    def finished(self, step: Step) -> None:
        peer = self.peer(step)

        def all_published() -> bool:
            return all(packet_id in peer.published for packet_id in peer.unfinished)

        peer.events.wait("all acknowledgements", lambda: all_published() or peer.ending is not None)
        if not all_published():
            raise Failed(f"not acknowledged, but the connection ended with reason {peer.ending}")
        refused = [peer.published[packet_id] for packet_id in peer.unfinished if peer.published[packet_id] >= 0x80]
        expect("reasons of refused messages", [], refused)
        peer.unfinished.clear()

    def receive(self, step: Step) -> None:
        self.peer(step).events.receive(step)

    def acknowledge(self, step: Step) -> None:
        peer = self.peer(step)
        peer.client.ack(*peer.unacknowledged.pop(0))

    def lose(self, step: Step) -> None:
        self.peer(step).client.lost_packet = PACKETS[step["packet"]]

    def leave(self, step: Step) -> None:
        peer = self.peer(step)
        reason = ReasonCode(PacketTypes.DISCONNECT, identifier=DISCONNECT_WITH_WILL) if step["with_will"] else None
        peer.client.disconnect(reason)
        peer.events.wait("the connection to end", lambda: peer.ending is not None)

    def cut(self, step: Step) -> None:
        peer = self.peer(step)
        peer.client.socket().shutdown(socket.SHUT_RDWR)
        peer.unacknowledged.clear()
        peer.events.wait("the connection to end", lambda: peer.ending is not None)

    def gone(self, step: Step) -> None:
        peer = self.peer(step)
        peer.events.wait("the connection to end", lambda: peer.ending is not None)
        if step["reason"] is not None:
            expect("DISCONNECT reason", step["reason"], peer.ending)

    def close(self) -> None:
        for peer in self.peers.values():
            peer.close()


def paho_name(name: str) -> str:
    """`content_type` is called `ContentType` here."""
    return "MaximumQoS" if name == "maximum_qos" else "".join(part.capitalize() for part in name.split("_"))


def encode(packet: int, values: dict[str, Any]) -> Properties:
    properties = Properties(packet)
    for name, value in values.items():
        if name == "user_property":
            value = list(value.items())
        elif name == "correlation_data":
            value = value.encode()
        setattr(properties, paho_name(name), value)
    return properties


def decode_properties(properties: Properties | None) -> dict[str, Any]:
    """The properties by the names that the table has for them."""
    values: dict[str, Any] = {}
    # `names` has all that exist, as the specification spells them.
    for name in properties.names if properties is not None else ():
        value = getattr(properties, name.replace(" ", ""), None)
        if name == "User Property" and value is not None:
            value = dict(value)
        elif name == "Correlation Data" and value is not None:
            value = value.decode()
        if value is not None:
            values[name.lower().replace(" ", "_")] = value
    return values


def decode(message: mqtt.MQTTMessage) -> Message:
    properties = decode_properties(message.properties)
    identifiers = properties.pop("subscription_identifier", [])
    return {
        "topic": message.topic,
        "payload": message.payload.decode(),
        "qos": message.qos,
        "retain": message.retain,
        "repeated": message.dup,
        "properties": properties,
        "identifiers": sorted(identifiers),
    }


if __name__ == "__main__":
    perform_all(Row)
