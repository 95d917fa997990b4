"""What the Python drivers have in common: read the plan, perform its rows side by side, say how each went.

The plan comes on standard input, as one JSON object: `host`, `port`, and `rows`, each with a `name` and its `steps`.
The test `peers.rs` makes it from `behaviours.json`; every value in a step is complete, nothing has a default here.
One line per row goes to standard output: `ok`, or `failed`, then the name, then what went wrong; separated by tabs.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

Step = dict[str, Any]
Message = dict[str, Any]

# Seconds that anything may take that should happen at once; the machine may be busy.
PATIENCE = 15.0
ROWS_AT_ONCE = 16


class Failed(Exception):
    """A step did not end as the table says."""


class Events:
    """What one client has seen so far, and a way to wait for more."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._messages: list[Message] = []

    def note(self, change: Callable[[], None]) -> None:
        """Makes `change` and wakes who waits."""
        with self._changed:
            change()
            self._changed.notify_all()

    def arrived(self, message: Message) -> None:
        self.note(lambda: self._messages.append(message))

    def wait(self, what: str, until: Callable[[], bool]) -> None:
        with self._changed:
            if not self._changed.wait_for(until, PATIENCE):
                raise Failed(f"waited in vain for {what}")

    def receive(self, step: Step) -> None:
        """Takes the next message, or with `any_order` the one that fits, and compares it with the step."""
        expected = {key: step[key] for key in MESSAGE_KEYS if step.get(key) is not None}
        end = time.monotonic() + PATIENCE
        with self._changed:
            while True:
                if step["any_order"]:
                    for index, message in enumerate(self._messages):
                        if fits(message, expected):
                            del self._messages[index]
                            return
                elif self._messages:
                    message = self._messages.pop(0)
                    if not fits(message, expected):
                        raise Failed(f"expected {short(expected)}; received {short(message)}")
                    return
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    raise Failed(f"expected {short(expected)}; received {short(self._messages)}")


MESSAGE_KEYS = ("topic", "payload", "qos", "retain", "repeated", "properties", "identifiers")


def fits(message: Message, expected: Message) -> bool:
    return all(message[key] == value for key, value in expected.items())


def short(value: Any) -> str:
    """A value as JSON, cut where a person stops reading."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 400 else f"{text[:400]}… ({len(text)} characters)"


def expect(what: str, expected: Any, seen: Any) -> None:
    if expected != seen:
        raise Failed(f"expected {what} {short(expected)}; saw {short(seen)}")


# What a property of the CONNACK means when it is absent (MQTT 5 section 3.2.2.3).
UNANNOUNCED = {"topic_alias_maximum": 0, "maximum_qos": 2, "retain_available": 1, "shared_subscription_available": 1}


def expect_announced(expected: dict[str, Any], seen: dict[str, Any]) -> None:
    """Compares properties of the CONNACK; an expected `null` stands for any value."""
    for name, value in expected.items():
        announced = seen.get(name, UNANNOUNCED.get(name))
        if announced is None or (value is not None and announced != value):
            raise Failed(f"expected the CONNACK to announce {name} {short(value)}; saw {short(announced)}")


def perform_all(make_row: Callable[[str, int], Any]) -> None:
    """Performs each row of the plan with an object of its own: its methods are named like the steps."""
    plan = json.load(sys.stdin)
    printing = threading.Lock()

    def perform(row: dict[str, Any]) -> None:
        result = one_row(make_row(plan["host"], plan["port"]), row["steps"])
        with printing:
            print("\t".join(["failed" if result else "ok", row["name"], *([result] if result else [])]), flush=True)

    with ThreadPoolExecutor(ROWS_AT_ONCE) as pool:
        list(pool.map(perform, plan["rows"]))


def one_row(performer: Any, steps: list[Step]) -> str | None:
    """Performs the steps; returns what went wrong."""
    try:
        for number, step in enumerate(steps, 1):
            try:
                if step["do"] == "wait_ms":
                    time.sleep(step["milliseconds"] / 1000)
                else:
                    getattr(performer, step["do"])(step)
            except Exception as error:  # noqa: BLE001: whatever a client library throws is a failed row
                reason = str(error) if isinstance(error, Failed) else repr(error)
                return f"step {number} ({step['do']} {step.get('client', '')}): {reason}".replace("\n", " ")
        return None
    finally:
        performer.close()
