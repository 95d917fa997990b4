"""Performs the table of behaviours with mosquitto_pub and mosquitto_sub.

A subscriber is one running mosquitto_sub, from its SUBSCRIBE on; a publisher is one mosquitto_pub per message.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
from typing import Any

from performance import PATIENCE, Events, Failed, Message, Step, expect, perform_all

VERSIONS = {"3.1.1": "mqttv311", "5": "mqttv5"}
SUBSCRIBED = re.compile(r"Subscribed \(mid: \d+\): (.*)")


class Subscriber:
    """One mosquitto_sub and what it has said."""

    def __init__(self, arguments: list[str], events: Events) -> None:
        self.events = events
        self.granted: list[int] | None = None
        self.ended = False
        self.other_output: list[str] = []
        # Its output is for a pipe, so it would keep it back; `-d` makes it say what it was granted.
        self.process = subprocess.Popen(
            ["stdbuf", "-oL", "mosquitto_sub", "-d", "-F", "%j", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def end(self, how: signal.Signals) -> None:
        """SIGTERM makes it say goodbye, SIGKILL does not."""
        self.process.send_signal(how)
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                if line.startswith("{"):
                    self.events.arrived(decode(json.loads(line)))
                elif (subscribed := SUBSCRIBED.match(line)) is not None:
                    codes = [int(code) for code in subscribed[1].split(", ")]
                    self.events.note(lambda codes=codes: setattr(self, "granted", codes))
                else:
                    self.other_output.append(line.strip())
        self.events.note(lambda: setattr(self, "ended", True))


class Row:
    """Performs the steps of one row."""

    def __init__(self, host: str, port: int) -> None:
        self.address = ["-h", host, "-p", str(port)]
        self.connects: dict[str, Step] = {}
        self.subscribes: dict[str, Step] = {}
        self.subscribers: dict[str, Subscriber] = {}
        self.events: dict[str, Events] = {}

    def connect(self, step: Step) -> None:
        client = step["client"]
        if step["again"]:
            self._start(client)
        else:
            self.connects[client] = step
            self.events[client] = Events()

    def subscribe(self, step: Step) -> None:
        self.subscribes[step["client"]] = step
        self._start(step["client"])

    def _start(self, client: str) -> None:
        """Starts the client's mosquitto_sub and waits until it has subscribed."""
        step = self.subscribes[client]
        subscriber = Subscriber(self._arguments(client) + subscribe_arguments(step), self.events[client])
        self.subscribers[client] = subscriber
        subscriber.events.wait("a SUBACK", lambda: subscriber.granted is not None or subscriber.ended)
        if subscriber.granted is None:
            raise Failed(f"mosquitto_sub ended: {subscriber.other_output}")
        expect("SUBACK codes", step["granted"], subscriber.granted)

    def publish(self, step: Step) -> None:
        publish = ["-t", step["topic"], "-q", str(step["qos"]), *(["-r"] if step["retain"] else [])]
        # From standard input it would not take nothing.
        publish += ["-s"] if step["payload"] else ["-n"]
        for name, value in step["properties"].items():
            for words in property_arguments(name, value):
                publish += ["-D", "publish", *words]
        arguments = self._arguments(step["client"]) + publish
        done = subprocess.run(
            ["mosquitto_pub", *arguments],
            input=step["payload"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )
        if done.returncode != 0:
            raise Failed(f"mosquitto_pub failed: {done.stdout}")

    def receive(self, step: Step) -> None:
        self.events[step["client"]].receive(step)

    def leave(self, step: Step) -> None:
        self.subscribers[step["client"]].end(signal.SIGTERM)

    def cut(self, step: Step) -> None:
        self.subscribers[step["client"]].end(signal.SIGKILL)

    def close(self) -> None:
        for subscriber in self.subscribers.values():
            if not subscriber.ended:
                subscriber.end(signal.SIGKILL)

    def _arguments(self, client: str) -> list[str]:
        """What both programs take about the connection."""
        step = self.connects[client]
        arguments = [*self.address, "-V", VERSIONS[step["mqtt"]], "-i", step["id"]]
        if step["session"] == "kept":
            arguments.append("-c")
        if "session_expiry_interval" in step:
            arguments += ["-x", str(step["session_expiry_interval"])]
        for name in ("receive_maximum", "maximum_packet_size"):
            if name in step:
                arguments += ["-D", "connect", name.replace("_", "-"), str(step[name])]
        if (will := step.get("will")) is not None:
            arguments += ["--will-topic", will["topic"], "--will-payload", will["payload"]]
            arguments += ["--will-qos", str(will["qos"]), *(["--will-retain"] if will["retain"] else [])]
        return arguments


def subscribe_arguments(step: Step) -> list[str]:
    arguments = ["-q", str(step["qos"])]
    for filter_ in step["to"]:
        arguments += ["-t", filter_]
    if step["retain_as_published"]:
        arguments.append("--retain-as-published")
    if "identifier" in step:
        arguments += ["-D", "subscribe", "subscription-identifier", str(step["identifier"])]
    return arguments


def property_arguments(name: str, value: Any) -> list[list[str]]:
    spelt = name.replace("_", "-")
    if name == "user_property":
        return [[spelt, *pair] for pair in value.items()]
    return [[spelt, str(value)]]


def decode(output: dict[str, Any]) -> Message:
    """What `-F %j` prints."""
    properties = {name.replace("-", "_"): value for name, value in output.get("properties", {}).items()}
    if "user_properties" in properties:
        properties["user_property"] = properties.pop("user_properties")
    identifier = properties.pop("subscription_identifier", None)
    return {
        "topic": output["topic"],
        "payload": output["payload"] or "",
        "qos": output["qos"],
        "retain": bool(output["retain"]),
        "properties": properties,
        "identifiers": [] if identifier is None else [identifier],
    }


if __name__ == "__main__":
    perform_all(Row)
