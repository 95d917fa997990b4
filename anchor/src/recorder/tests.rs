//! What the anchor itself says, and when it syncs, acknowledges and checkpoints.

use super::*;
use crate::notice::Notice;
use crate::testing::{Speaker, Street, at, folder, recorder_settings};
use crate::verify::verify_log;
use grid_durable::simulate::SimulatedDisk;
use grid_protocol::message::{Ack, Event, Header, LedgerPurse, Message, Phase};
use grid_protocol::revocation::{self, Revocations};
use grid_protocol::seal::Sealed;
use grid_protocol::units::MilliAmps;
use std::fs;
use std::sync::Arc;

struct Desk {
    folder: tempfile::TempDir,
    street: Street,
}

impl Desk {
    fn new() -> Self {
        Self { folder: folder(), street: Street::new() }
    }

    fn open_as(&self, identity: AnchorIdentity) -> Result<Recorder, RecorderError> {
        Recorder::open(self.folder.path(), recorder_settings(), identity, Session(99), Stop::never(), at(0))
    }

    fn open(&self) -> Recorder {
        self.open_as(self.street.anchor()).unwrap()
    }
}

fn hear(recorder: &mut Recorder, signed: &Signed, ms: u64) {
    let topic = signed.topic.to_string();
    recorder.receive(Arrival { topic: &topic, payload: &signed.payload, retained: false }, at(ms)).unwrap();
}

fn header(outgoing: &Outgoing) -> Header {
    Sealed::parse(&outgoing.payload).unwrap().read().unwrap()
}

fn acks(outgoing: &[Outgoing]) -> Vec<Ack> {
    let acks = outgoing.iter().filter(|outgoing| outgoing.topic.ends_with("/ack"));
    acks.map(|ack| Sealed::parse(&ack.payload).unwrap().read::<Message<Ack>>().unwrap().body).collect()
}

fn device(desk: &Desk) -> Speaker {
    desk.street.speaker("cp-1", Role::Device, 1)
}

#[test]
fn the_last_will_ends_the_birth_that_follows_it() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    for _ in 0..3 {
        let will = recorder.will(at(0)).unwrap();
        let status: Message<Status> = Sealed::parse(&will.payload).unwrap().read().unwrap();
        let birth = recorder.connected(at(0)).unwrap().remove(0);
        assert_eq!((status.header.seq, status.body.ends), (None, header(&birth).seq));
        assert_eq!(birth.delivery, Delivery::AssuredRetained);
        recorder.lost();
    }
}

#[test]
fn what_the_anchor_says_is_durable_before_it_is_published_and_its_echo_is_known() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    let birth = recorder.connected(at(0)).unwrap().remove(0);
    assert_eq!(recorder.progress().durable, 1);
    let echo = Arrival { topic: &birth.topic, payload: &birth.payload, retained: true };
    recorder.receive(echo, at(1)).unwrap();
    recorder.receive(Arrival { retained: false, ..echo }, at(2)).unwrap();
    assert_eq!(recorder.progress().entries, 1);
    assert_eq!(recorder.settle(at(5000)).unwrap(), []);
}

#[test]
fn a_message_is_acknowledged_when_it_is_durable_and_an_event_at_once() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    recorder.connected(at(0)).unwrap();
    let mut device = device(&desk);
    hear(&mut recorder, &device.birth(), 0);
    hear(&mut recorder, &device.measurement(), 0);
    assert_eq!(recorder.settle(at(999)).unwrap(), []);
    assert_eq!(recorder.progress().durable, 1);
    let said = acks(&recorder.settle(at(1000)).unwrap());
    assert_eq!(said, [Ack { of: Session(1), through: 2, missing: vec![], tree_size: 3 }]);
    hear(&mut recorder, &device.event(Event::ThrownOut {}), 2500);
    assert_eq!(acks(&recorder.settle(at(2500)).unwrap())[0].through, 3);
}

#[test]
fn a_checkpoint_comes_when_it_is_due_but_not_for_the_anchors_own_ones() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    recorder.connected(at(0)).unwrap();
    assert_eq!(recorder.settle(at(60_000)).unwrap(), []);
    hear(&mut recorder, &device(&desk).birth(), 60_000);
    let said = recorder.settle(at(60_000)).unwrap();
    assert_eq!(recorder.progress().checkpoint_size, 2);
    let checkpoint = said.iter().find(|outgoing| outgoing.topic == "grid/demo/anchor-1/checkpoint").unwrap();
    let body: Message<Checkpoint> = Sealed::parse(&checkpoint.payload).unwrap().read().unwrap();
    assert_eq!(body.body.tree_size, 2);
    assert_eq!(body.body.note.as_bytes(), fs::read(desk.folder.path().join("log/checkpoint")).unwrap());
    // That message is in the log, and waits for the next checkpoint.
    assert_eq!(recorder.progress().durable, 3);
    recorder.settle(at(600_000)).unwrap();
    assert_eq!(recorder.progress().checkpoint_size, 2);
    // Who connects later hears of it then.
    recorder.will(at(700_000)).unwrap();
    let topics: Vec<String> = recorder.connected(at(700_000)).unwrap().into_iter().map(|said| said.topic).collect();
    assert_eq!(topics, ["grid/demo/anchor-1/status", "grid/demo/anchor-1/checkpoint"]);
}

#[test]
fn many_entries_bring_a_checkpoint_early() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    for number in 0..=MOST_UNCOVERED {
        let payload = number.to_string();
        let command = Arrival { topic: "grid/demo/cp-1/set/x", payload: payload.as_bytes(), retained: false };
        recorder.receive(command, at(0)).unwrap();
    }
    recorder.settle(at(1)).unwrap();
    assert_eq!(recorder.progress().checkpoint_size, MOST_UNCOVERED + 1);
}

#[test]
fn the_end_puts_everything_under_a_checkpoint_with_the_goodbye() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    recorder.connected(at(0)).unwrap();
    hear(&mut recorder, &device(&desk).birth(), 0);
    let (goodbye, _) = recorder.finish(at(10)).unwrap();
    let status: Message<Status> = Sealed::parse(&goodbye.payload).unwrap().read().unwrap();
    assert_eq!((status.header.seq, status.body.state, status.body.ends), (Some(2), Presence::Offline, None));
    let progress = recorder.progress();
    assert_eq!((progress.entries, progress.durable, progress.checkpoint_size), (3, 3, 3));
    drop(recorder);
    let policy = fs::read_to_string(desk.folder.path().join("site.policy")).unwrap();
    let report = verify_log(&desk.folder.path().join("log"), Some(&Policy::read(&policy).unwrap())).unwrap();
    assert!(report.holds);
    assert_eq!((report.messages.verified, report.messages.missing), (3, 0));
}

const MB: u64 = 1_000_000;

/// An anchor that wants 8 MB to be free on a disk of 20 MB.
fn open_on(disk: &SimulatedDisk, desk: &Desk, session: u64) -> Recorder {
    disk.set_capacity(Some(20 * MB));
    let open = || Durable::open_on(Arc::new(disk.clone()), Path::new("/data"), Stop::never());
    let settings = RecorderSettings { min_free_mb: 8, ..recorder_settings() };
    Recorder::open_in(open, settings, desk.street.anchor(), Session(session), at(0)).unwrap()
}

/// A list of revoked certificates, as the broker keeps it.
fn list_of(street: &Street) -> Vec<u8> {
    let header = Header { from: revocation::authority_name(), session: Session(7), seq: Some(1), time_ms: at(0).unix };
    revocation::write(&Message { header, body: Revocations::default() }, &street.issuer).unwrap()
}

fn events(outgoing: &[Outgoing]) -> Vec<Event> {
    let events = outgoing.iter().filter(|outgoing| outgoing.topic.ends_with("/event"));
    events.map(|event| Sealed::parse(&event.payload).unwrap().read::<Message<Event>>().unwrap().body).collect()
}

#[test]
fn while_room_is_low_revocations_are_logged_and_commands_counted_and_then_the_broker_says_again_what_it_keeps() {
    let (desk, disk) = (Desk::new(), SimulatedDisk::new());
    let mut recorder = open_on(&disk, &desk, 1);
    recorder.connected(at(0)).unwrap();
    disk.occupy(13 * MB);
    assert_eq!(events(&recorder.settle(at(2_000)).unwrap()), [Event::DiskLow { free_mb: 6, min_free_mb: 8 }]);
    let low = recorder.progress();
    let list = list_of(&desk.street);
    let revoked = Arrival { topic: "grid/demo/ca/revoked", payload: &list, retained: false };
    let command = Arrival { topic: "grid/demo/cp-1/set/limit", payload: b"60 kW", retained: false };
    recorder.receive_all(&[command, revoked, command, revoked], at(3_000)).unwrap();
    recorder.settle(at(4_000)).unwrap();
    assert_eq!((recorder.progress().durable, recorder.progress().counts.not_logged), (low.durable + 1, 2));
    assert!(!recorder.wants_retained());

    disk.occupy(0);
    let recovered = Event::DiskRecovered { free_mb: 19, after_ms: Millis(3_000) };
    assert_eq!(events(&recorder.settle(at(5_000)).unwrap()), [recovered]);
    assert!(recorder.wants_retained() && !recorder.wants_retained());
    recorder.receive_all(&[command, revoked], at(5_000)).unwrap();
    recorder.finish(at(6_000)).unwrap();
    let real = folder();
    disk.export(Path::new("/data"), real.path()).unwrap();
    let mut said = Vec::new();
    crate::show::show(&real.path().join("log"), &crate::show::Selection::default(), |line| {
        said.push(line.message.clone());
        true
    })
    .unwrap();
    let notice = String::from_utf8(Notice::NotLogged(2).write()).unwrap();
    let count = |text: &str| said.iter().filter(|said| said.contains(text)).count();
    assert_eq!((count("certificates are revoked"), count(&notice), count("60 kW")), (1, 1, 1), "{said:?}");
}

#[test]
fn an_anchor_that_finds_room_where_the_disk_was_full_takes_in_what_comes_with_the_connection() {
    let (desk, disk) = (Desk::new(), SimulatedDisk::new());
    let mut recorder = open_on(&disk, &desk, 1);
    recorder.was_full(at(0).boot);
    recorder.will(at(500)).unwrap();
    let recovered = Event::DiskRecovered { free_mb: 19, after_ms: Millis(500) };
    assert_eq!(events(&recorder.connected(at(500)).unwrap()), [recovered]);
    let entries = recorder.progress().entries;
    let kept = Arrival { topic: "grid/demo/cp-1/status", payload: &device(&desk).birth().payload, retained: true };
    recorder.receive(kept, at(500)).unwrap();
    assert_eq!(recorder.progress().entries, entries + 1);
    assert!(!recorder.wants_retained());
    drop(recorder);

    // And one that finds none waits for it.
    let mut recorder = open_on(&disk, &desk, 2);
    recorder.was_full(at(0).boot);
    disk.occupy(11 * MB);
    recorder.will(at(500)).unwrap();
    assert_eq!(events(&recorder.connected(at(500)).unwrap()), []);
    disk.occupy(0);
    assert_eq!(events(&recorder.settle(at(2_000)).unwrap()).len(), 1);
    assert!(recorder.wants_retained());
}

fn receipt() -> LedgerReceipt {
    LedgerReceipt {
        network: "mock".to_owned(),
        trail: "0x7".to_owned(),
        record: 0,
        tree_size: 0,
        transaction: "T".to_owned(),
        added_ms: at(0).unix,
        explorer: "http://localhost/T".to_owned(),
    }
}

#[test]
fn an_overload_wants_a_record_once_it_is_durable_and_the_record_covers_it() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    let mut transformer = desk.street.speaker("trafo-1", Role::Transformer, 1);
    hear(&mut recorder, &transformer.birth(), 0);
    hear(&mut recorder, &transformer.event(Event::ThrownOut {}), 0);
    recorder.settle(at(1)).unwrap();
    assert!(!recorder.wants_record());
    let overload =
        Event::OverloadStarted { phase: Phase::L1, load_ma: MilliAmps(120_000), limit_ma: MilliAmps(116_000) };
    hear(&mut recorder, &transformer.event(overload.clone()), 2);
    assert!(!recorder.wants_record());
    recorder.settle(at(3)).unwrap();
    assert!(recorder.wants_record() && !recorder.wants_record());
    hear(&mut recorder, &transformer.event(overload), 4);
    let record = recorder.record_for_ledger(at(5)).unwrap().unwrap();
    assert!(record.metadata.unwrap().starts_with("4 entries"));
    assert!(!recorder.wants_record(), "the record covers it");
}

#[test]
fn what_pays_for_records_stands_in_the_checkpoint_message_and_is_an_event_when_it_runs_out() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    recorder.will(at(0)).unwrap();
    let purse = LedgerPurse {
        address: "0x5".to_owned(),
        balance_nanos: 900,
        spent_nanos: 100,
        record_nanos: Some(50),
        days_left: Some(3),
    };
    recorder.holds(purse.clone());
    assert_eq!(events(&recorder.settle(at(1)).unwrap()), [], "nobody is connected");
    recorder.connected(at(2)).unwrap();
    let low = Event::LedgerMoneyLow { balance_nanos: 900, days_left: 3 };
    assert_eq!(events(&recorder.settle(at(3)).unwrap()), [low]);
    assert_eq!(events(&recorder.settle(at(4)).unwrap()), []);
    hear(&mut recorder, &device(&desk).birth(), 5);
    let record = recorder.record_for_ledger(at(6)).unwrap().unwrap();
    let said = recorder.notarized(&record.text, receipt(), at(7)).unwrap().unwrap();
    let said: Message<Checkpoint> = Sealed::parse(&said.payload).unwrap().read().unwrap();
    assert_eq!((said.body.purse, said.body.receipt.unwrap().tree_size), (Some(purse), 3));
}

#[test]
fn a_ledger_that_takes_no_record_is_an_event_and_so_is_the_first_record_after_that() {
    let desk = Desk::new();
    let mut recorder = desk.open();
    recorder.connected(at(0)).unwrap();
    recorder.record_for_ledger(at(1)).unwrap().unwrap();
    recorder.not_notarized(None);
    assert_eq!(events(&recorder.settle(at(2)).unwrap()), []);
    recorder.not_notarized(Some("send it some".to_owned()));
    let failed = Event::LedgerFailed { why: "send it some".to_owned() };
    assert_eq!(events(&recorder.settle(at(3)).unwrap()), [failed]);
    let record = recorder.record_for_ledger(at(4)).unwrap().unwrap();
    recorder.notarized(&record.text, receipt(), at(5)).unwrap();
    assert_eq!(events(&recorder.settle(at(6)).unwrap()), [Event::LedgerRecovered {}]);
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let desk = Desk::new();
    let own = desk.street.anchor();
    let device = device(&desk).certificate;
    let other = Street::new().anchor().certificate;
    let key = SigningKey::from_bytes(&[7; 32]);
    let identity = |certificate| AnchorIdentity { certificate, ..own.clone() };
    let refused = |identity| desk.open_as(identity).map(|_| ()).unwrap_err();
    assert!(matches!(refused(identity(device)), RecorderError::OtherIdentity { .. }));
    assert!(matches!(refused(identity(other)), RecorderError::Certificate(_)));
    assert!(matches!(refused(AnchorIdentity { message_key: key, ..own.clone() }), RecorderError::OtherIdentity { .. }));
}

#[test]
fn a_data_dir_of_another_site_is_refused() {
    let desk = Desk::new();
    drop(desk.open());
    let other = Street::new();
    let moved = Desk { street: other, ..desk };
    let error = moved.open_as(moved.street.anchor()).map(|_| ()).unwrap_err();
    assert!(matches!(error, RecorderError::OtherPolicy { .. }), "{error}");
}
