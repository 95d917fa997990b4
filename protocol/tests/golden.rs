//! The golden examples: bytes that we promise to others.

#![allow(clippy::unwrap_used)]

use grid_protocol::message::{Ack, Balance, Event, Measurement, Message, Setpoint, Status};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn reads_and_writes_the_same_bytes<B: Serialize + DeserializeOwned>(file: &str) {
    let golden = std::fs::read_to_string(format!("{}/tests/golden/{file}.json", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let golden = golden.trim_end();
    let message: Message<B> = serde_json::from_str(golden).unwrap();
    assert_eq!(serde_json::to_string(&message).unwrap(), golden);
}

#[test]
fn a_birth() {
    reads_and_writes_the_same_bytes::<Status>("status");
}

#[test]
fn the_birth_of_a_device_that_is_on_or_off() {
    reads_and_writes_the_same_bytes::<Status>("status-heat-pump");
}

#[test]
fn a_dimming_order_that_is_obeyed() {
    reads_and_writes_the_same_bytes::<Event>("event-dimming");
}

#[test]
fn a_measurement() {
    reads_and_writes_the_same_bytes::<Measurement>("measurement");
}

#[test]
fn a_setpoint() {
    reads_and_writes_the_same_bytes::<Setpoint>("setpoint");
}

#[test]
fn a_balance() {
    reads_and_writes_the_same_bytes::<Balance>("balance");
}

#[test]
fn an_event() {
    reads_and_writes_the_same_bytes::<Event>("event");
}

#[test]
fn an_ack() {
    reads_and_writes_the_same_bytes::<Ack>("ack");
}

#[test]
fn members_of_newer_versions_are_ignored() {
    let newer = r#"{"from":"cp-3","session":"9f1c2e7a00b4d611","seq":1,"time_ms":5,"event":"sang_a_song","verse":3}"#;
    let message: Message<Event> = serde_json::from_str(newer).unwrap();
    assert_eq!(message.body, Event::Unknown);
}
