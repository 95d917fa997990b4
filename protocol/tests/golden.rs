//! The golden examples: bytes that we promise to others.

#![allow(clippy::unwrap_used)]

use grid_protocol::identity::Authority;
use grid_protocol::message::{Ack, Balance, Checkpoint, Event, Measurement, Message, Setpoint, Status};
use grid_protocol::revocation::{self, RevocationList};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
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
fn a_checkpoint_with_the_newest_receipt_and_what_pays_for_records() {
    reads_and_writes_the_same_bytes::<Checkpoint>("checkpoint");
}

#[test]
fn an_ack() {
    reads_and_writes_the_same_bytes::<Ack>("ack");
}

/// It stands there with its signature and the authority that made it, since others are to check it.
#[test]
fn a_list_of_revoked_certificates() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let golden = std::fs::read_to_string(format!("{folder}/revoked.json")).unwrap();
    let golden = golden.trim_end();
    let authority = CertificateDer::from_pem_file(format!("{folder}/revoked-ca.pem")).unwrap();
    let authority = Authority::from_der(&authority).unwrap();
    let site = "demo".parse().unwrap();
    assert_eq!(revocation::topic(&site).to_string(), "grid/demo/ca/revoked");
    let list: RevocationList = revocation::read(golden.as_bytes(), &site, &authority).unwrap();
    let names: Vec<&str> = list.body.revoked.iter().map(|revoked| revoked.name.as_str()).collect();
    assert_eq!(names, ["cp-3", "operator-anna"]);
    assert!(list.body.contains(&"4a1f00c35d9e42b7810c6e5f2d3a9b04".parse().unwrap()));
    let (unsigned, _) = golden.split_once(",\"sig\"").unwrap();
    assert_eq!(serde_json::to_string(&list).unwrap(), format!("{unsigned}}}"));
}

#[test]
fn members_of_newer_versions_are_ignored() {
    let newer = r#"{"from":"cp-3","session":"9f1c2e7a00b4d611","seq":1,"time_ms":5,"event":"sang_a_song","verse":3}"#;
    let message: Message<Event> = serde_json::from_str(newer).unwrap();
    assert_eq!(message.body, Event::Unknown);
}
