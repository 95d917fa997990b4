//! What is logged, what is known, what is acknowledged.

use super::*;
use crate::testing::{START, Speaker, Street, at, name};
use grid_protocol::author::Signed as Said;
use grid_protocol::message::{Event, Message, Phase, PreviousSession, Role};
use grid_protocol::revocation::{self, Revocations};
use grid_protocol::units::MilliAmps;

struct Desk {
    street: Street,
    intake: Intake,
    size: u64,
}

impl Desk {
    fn new() -> Self {
        let street = Street::new();
        let intake = Intake::new(street.speakers());
        Self { street, intake, size: 0 }
    }

    fn raw(&mut self, topic: &str, payload: &[u8], retained: bool, now: Now) -> Vec<Admitted> {
        let mut admitted = Vec::new();
        self.intake.receive(Arrival { topic, payload, retained }, now, &mut admitted);
        self.size += admitted.len() as u64;
        admitted
    }

    fn hear(&mut self, said: &Said) -> Vec<Standing> {
        let admitted = self.raw(&said.topic.to_string(), &said.payload, false, at(0));
        admitted.iter().map(|admitted| admitted.standing).collect()
    }

    fn born(&mut self, who: &str, role: Role, seed: u8) -> Speaker {
        let mut speaker = self.street.speaker(who, role, seed);
        assert_eq!(self.hear(&speaker.birth()), [Standing::Verified]);
        speaker
    }

    /// As the next start does, from the snapshot of a checkpoint.
    fn restart(&mut self) {
        self.intake = Intake::restore(self.street.speakers(), &self.intake.snapshot(), self.size, START).unwrap();
    }

    fn acks(&mut self, ms: u64) -> Vec<(Name, Ack)> {
        self.intake.durable(self.size);
        self.intake.acks(at(ms).boot)
    }
}

const ONCE: [Standing; 1] = [Standing::Verified];
const EVIDENCE: [Standing; 1] = [Standing::Unverified];

#[test]
fn a_message_is_logged_once_however_often_it_comes() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let said = device.measurement();
    assert_eq!(desk.hear(&said), ONCE);
    assert_eq!(desk.hear(&said), []);
    assert_eq!(desk.hear(&device.replay(&said)), []);
    assert_eq!(desk.intake.counts().duplicates, 2);
}

/// The list number `seq` of a site's authority.
fn revocations(issuer: &grid_protocol::identity::Issuer, seq: u64) -> Vec<u8> {
    let from = revocation::authority_name();
    let header = Header { from, session: Session(1), seq: Some(seq), time_ms: START };
    revocation::write(&Message { header, body: Revocations::default() }, issuer).unwrap()
}

#[test]
fn what_the_authority_revokes_is_logged_once_however_often_the_broker_says_it() {
    let mut desk = Desk::new();
    let lists = [1, 2].map(|seq| revocations(&desk.street.issuer, seq));
    let mut logged = Vec::new();
    // More than one in a second: the limit for what nobody vouches for does not apply.
    for list in [&lists[0], &lists[0], &lists[1], &lists[1]] {
        logged.push(desk.raw("grid/demo/ca/revoked", list, false, at(0)).len());
    }
    assert_eq!(logged, [1, 0, 1, 0]);
    assert_eq!((desk.intake.counts().duplicates, desk.intake.counts().unverified), (2, 0));
}

#[test]
fn a_list_of_revoked_certificates_that_the_authority_did_not_sign_is_evidence_of_that() {
    let mut desk = Desk::new();
    let forged = revocations(&Street::new().issuer, 1);
    assert_eq!(desk.raw("grid/demo/ca/revoked", &forged, false, at(0)).len(), 1);
    let genuine = revocations(&desk.street.issuer, 1);
    assert_eq!(desk.raw("grid/demo/cp-1/revoked", &genuine, false, at(0)).len(), 1);
    assert_eq!(desk.intake.counts().unverified, 2);
}

#[test]
fn a_list_that_is_in_the_log_is_not_logged_again_whatever_came_on_its_topic_since() {
    let mut desk = Desk::new();
    let [first, second] = [1, 2].map(|seq| revocations(&desk.street.issuer, seq));
    let forged = revocations(&Street::new().issuer, 3);
    for list in [&first, &second, &forged] {
        assert_eq!(desk.raw("grid/demo/ca/revoked", list, false, at(0)).len(), 1);
        desk.intake.placed(desk.size - 1);
    }
    for _ in 0..2 {
        for list in [&first, &second, &forged] {
            assert_eq!(desk.raw("grid/demo/ca/revoked", list, true, at(5_000)), []);
        }
        desk.restart();
    }
}

#[test]
fn a_retained_list_that_the_authority_did_not_sign_is_not_logged_again_after_a_restart() {
    let mut desk = Desk::new();
    let forged = revocations(&Street::new().issuer, 1);
    assert_eq!(desk.raw("grid/demo/ca/revoked", &forged, true, at(0)).len(), 1);
    for _ in 0..2 {
        desk.restart();
        assert_eq!(desk.raw("grid/demo/ca/revoked", &forged, true, at(5_000)), []);
    }
}

#[test]
fn a_replay_is_logged_as_the_message_in_it() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let said = device.measurement();
    let replay = device.replay(&said);
    let admitted = desk.raw(&replay.topic.to_string(), &replay.payload, false, at(0));
    let entry = entry::read(&admitted[0].entry).unwrap();
    assert_eq!(entry.topic, "grid/demo/cp-1/measurement");
    assert_eq!(entry.payload, Payload::Bytes(said.payload.as_slice().into()));
    assert_eq!(desk.hear(&said), []);
}

#[test]
fn a_session_that_began_unheard_can_be_replayed_from_its_birth_on() {
    let mut desk = Desk::new();
    let mut device = desk.street.speaker("cp-1", Role::Device, 1);
    let (birth, said) = (device.birth(), device.measurement());
    assert_eq!(desk.hear(&device.replay(&said)), []);
    assert_eq!(desk.hear(&device.replay(&birth)), ONCE);
    assert_eq!(desk.hear(&device.replay(&said)), ONCE);
}

#[test]
fn a_forgery_does_not_take_the_place_of_the_real_message() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let said = device.event(Event::FailsafeLeft {});
    let mut forged = said.clone();
    let at = forged.payload.iter().position(|byte| *byte == b'f').unwrap() + 60;
    forged.payload[at] ^= 1;
    assert_eq!(desk.hear(&forged), EVIDENCE);
    assert_eq!(desk.hear(&said), ONCE);
    // Nor does one by somebody else's key, with or without a certificate of that name from another authority.
    let other = Street::new();
    let mut impostor = other.speaker("cp-1", Role::Device, 9);
    assert_eq!(desk.hear(&impostor.birth()), EVIDENCE);
    assert_eq!(desk.hear(&device.event(Event::FailsafeLeft {})), ONCE);
}

#[test]
fn a_device_may_not_speak_for_another_and_only_transformers_set_limits() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    desk.born("cp-2", Role::Device, 2);
    let mut transformer = desk.born("trafo-1", Role::Transformer, 3);
    assert_eq!(desk.hear(&device.setpoint("cp-2")), EVIDENCE);
    assert_eq!(desk.hear(&transformer.setpoint("cp-2")), ONCE);
    let mut foreign = device.measurement();
    foreign.topic.device = name("cp-2");
    assert_eq!(desk.hear(&foreign), EVIDENCE);
}

#[test]
fn what_nobody_vouches_for_is_evidence_but_not_a_flood() {
    let mut desk = Desk::new();
    let mut logged = 0;
    for ms in (0..60_000).step_by(10) {
        logged += desk.raw("grid/demo/nobody/measurement", b"rubbish", false, at(ms)).len();
        logged += desk.raw("grid/demo/some/where/else", b"rubbish", false, at(ms)).len();
    }
    assert_eq!(logged, 120);
    let mut admitted = Vec::new();
    desk.intake.tick(at(120_000), &mut admitted);
    let entry = entry::read(&admitted[0].entry).unwrap();
    assert_eq!(entry.topic, "grid/demo/#");
    assert_eq!(entry.payload, Payload::Bytes(br#"{"not_logged":11880}"#.as_slice().into()));
    desk.intake.tick(at(240_000), &mut admitted);
    assert_eq!(admitted.len(), 1);
}

/// No client can, but a broker that does not play fair might deliver it.
#[test]
fn nobody_speaks_in_the_anchors_own_name() {
    let mut desk = Desk::new();
    let forged = Notice::NotLogged(1_000_000).write();
    for topic in ["grid/demo/#", "grid/+/cp-1/status", "#"] {
        assert_eq!(desk.raw(topic, &forged, false, at(0)), []);
    }
    let known = desk.intake.snapshot();
    let reported = desk.raw("grid/demo/cp-1/set/limit", b"5", false, at(0)).len();
    let mut admitted = Vec::new();
    desk.intake.tick(at(60_000), &mut admitted);
    let entry = entry::read(&admitted[0].entry).unwrap();
    assert_eq!((reported, entry.payload), (1, Payload::Bytes(Notice::NotLogged(3).write().into())));
    // What the anchor says itself, it does not learn from.
    let record = Record { index: 0, synced: 0, standing: Standing::Unverified, entry: admitted[0].entry.clone() };
    let mut again = Intake::new(desk.street.speakers());
    again.relearn(&record);
    assert_eq!(again.snapshot(), known);
}

#[test]
fn acks_and_topics_that_are_too_long_are_not_logged() {
    let mut desk = Desk::new();
    assert_eq!(desk.raw("grid/demo/cp-1/ack", b"{}", false, at(0)), []);
    assert_eq!(desk.raw("grid/demo/cp-1/replay", b"{}", false, at(0)), []);
    assert_eq!(desk.raw(&format!("grid/demo/{}", "x".repeat(2000)), b"{}", false, at(0)), []);
    assert_eq!(desk.intake.counts().not_logged, 2);
}

#[test]
fn retained_copies_of_what_is_known_are_not_logged_again() {
    let mut desk = Desk::new();
    let mut device = desk.street.speaker("cp-1", Role::Device, 1);
    let birth = device.birth();
    let topic = birth.topic.to_string();
    assert_eq!(desk.raw(&topic, &birth.payload, true, at(0)).len(), 1);
    assert_eq!(desk.raw(&topic, &birth.payload, true, at(5000)), []);
    for payload in [b"ON".as_slice(), b"OFF"] {
        assert_eq!(desk.raw("grid/demo/cp-1/set/charging", payload, false, at(0)).len(), 1);
    }
    assert_eq!(desk.raw("grid/demo/cp-1/set/charging", b"OFF", true, at(9000)), []);
    assert_eq!(desk.raw("grid/demo/cp-1/set/charging", b"ON", true, at(9000)).len(), 1);
    assert_eq!(desk.raw("grid/demo/x/junk", b"junk", true, at(9000)).len(), 1);
    assert_eq!(desk.raw("grid/demo/x/junk", b"junk", true, at(99_000)), []);
}

#[test]
fn a_last_will_is_logged_once() {
    let mut desk = Desk::new();
    let device = desk.born("cp-1", Role::Device, 1);
    let will = device.will(1);
    assert_eq!(desk.hear(&will), ONCE);
    assert_eq!(desk.hear(&will), []);
    assert_eq!(desk.hear(&device.will(7)), ONCE);
}

#[test]
fn a_message_that_overtook_its_senders_status_waits_for_it() {
    let mut desk = Desk::new();
    let mut device = desk.street.speaker("cp-1", Role::Device, 1);
    let (birth, said) = (device.birth(), device.measurement());
    assert_eq!(desk.hear(&said), []);
    assert_eq!(desk.hear(&birth), [Standing::Verified, Standing::Verified]);
    let mut stranger = desk.street.speaker("cp-2", Role::Device, 2);
    assert_eq!(desk.hear(&stranger.measurement()), []);
    let mut admitted = Vec::new();
    desk.intake.tick(at(1999), &mut admitted);
    assert_eq!(admitted, []);
    desk.intake.tick(at(2000), &mut admitted);
    assert_eq!(admitted[0].standing, Standing::Unverified);
}

#[test]
fn acks_name_what_is_durable_and_what_is_missing() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let said: Vec<Said> = (0..9).map(|_| device.measurement()).collect();
    [0, 1, 4, 8].into_iter().for_each(|at| drop(desk.hear(&said[at])));
    assert_eq!(desk.intake.acks(at(0).boot), []);
    let ack = Ack { of: Session(1), through: 10, missing: vec![(4, 5), (7, 9)], tree_size: 5 };
    assert_eq!(desk.acks(0), [(name("cp-1"), ack.clone())]);
    // At most once a second …
    desk.hear(&said[2]);
    assert_eq!(desk.acks(999), []);
    assert_eq!(desk.acks(1000)[0].1.missing, [(5, 5), (7, 9)]);
    // … but at once for somebody who did not hear it.
    desk.hear(&said[2]);
    assert_eq!(desk.acks(1001).len(), 1);
    assert_eq!(desk.acks(5000), []);
}

#[test]
fn an_ack_reaches_as_far_as_the_ranges_that_it_may_name() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    for seq in 2..=100 {
        let said = device.measurement();
        if seq % 2 == 1 {
            desk.hear(&said);
        }
    }
    let (_, ack) = desk.acks(0).remove(0);
    assert_eq!((ack.missing.len(), ack.missing[31], ack.through), (32, (64, 64), 65));
}

#[test]
fn what_was_declared_lost_is_not_missing_and_yet_is_logged_if_it_comes() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let lost: Vec<Said> = (0..3).map(|_| device.measurement()).collect();
    desk.hear(&device.event(Event::OutboxOverflow { of: Session(1), from_seq: 2, to_seq: 4 }));
    assert_eq!(desk.acks(0)[0].1, Ack { of: Session(1), through: 5, missing: vec![], tree_size: 2 });
    assert_eq!(desk.hear(&lost[1]), ONCE);
}

#[test]
fn a_birth_that_names_its_predecessor_shows_what_that_one_still_owes() {
    let mut desk = Desk::new();
    let mut first = desk.born("cp-1", Role::Device, 1);
    desk.hear(&first.measurement());
    let mut second = first.restarted(&desk.street, 2);
    desk.hear(&second.birth_after(Some(PreviousSession { session: Session(1), seq: 5 })));
    let acks: Vec<Ack> = desk.acks(0).into_iter().chain(desk.acks(1000)).map(|(_, ack)| ack).collect();
    assert!(acks.contains(&Ack { of: Session(1), through: 5, missing: vec![(3, 5)], tree_size: 3 }), "{acks:?}");
}

#[test]
fn only_events_hurry_and_only_a_transformers_overloads_and_changed_limits_to_the_ledger() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let mut transformer = desk.born("trafo-1", Role::Transformer, 1);
    let (phase, load_ma, limit_ma) = (Phase::L2, MilliAmps(120_000), MilliAmps(116_000));
    let changed = Event::LimitChanged { by: "anna".to_owned(), old_w: 80_000, new_w: 70_000 };
    let dimmed = Event::DimmingChanged { by: "operator".to_owned(), old_w: None, new_w: Some(4200), until_ms: None };
    for (said, urgency) in [
        (device.measurement(), Urgency::Usual),
        (device.event(Event::ThrownOut {}), Urgency::Durable),
        (device.event(Event::OverloadStarted { phase, load_ma, limit_ma }), Urgency::Durable),
        (transformer.event(Event::OverloadStarted { phase, load_ma, limit_ma }), Urgency::Notarized),
        (transformer.event(Event::OverloadEnded { phase }), Urgency::Durable),
        (transformer.event(changed), Urgency::Notarized),
        (transformer.event(dimmed), Urgency::Notarized),
    ] {
        assert_eq!(desk.raw(&said.topic.to_string(), &said.payload, false, at(0))[0].urgency, urgency);
    }
}

#[test]
fn after_a_restart_everything_is_still_known() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let before = device.measurement();
    desk.hear(&before);
    desk.raw("grid/demo/cp-1/set/charging", b"ON", false, at(0));
    let snapshot = desk.intake.snapshot();
    // Entries after the snapshot are learned from the journal.
    let (after, will) = (device.measurement(), device.will(1));
    let mut records = Vec::new();
    for said in [&after, &will] {
        for admitted in desk.raw(&said.topic.to_string(), &said.payload, false, at(0)) {
            let index = records.len() as u64;
            records.push(Record { index, synced: 0, standing: admitted.standing, entry: admitted.entry });
        }
    }
    desk.intake = Intake::restore(desk.street.speakers(), &snapshot, 3, START).unwrap();
    records.iter().for_each(|record| desk.intake.relearn(record));
    for said in [&before, &after, &will] {
        assert_eq!(desk.hear(said), []);
    }
    assert_eq!(desk.raw("grid/demo/cp-1/set/charging", b"ON", true, at(0)), []);
    assert_eq!(desk.hear(&device.measurement()), ONCE);
    assert_eq!(desk.acks(0)[0].1.through, 4);
}

/// A list that revokes the certificate of a device.
fn revoking(street: &Street, device: &Speaker) -> Vec<u8> {
    let serial = grid_protocol::identity::serial_of(&device.certificate).unwrap();
    let name = device.author.name().clone();
    let header = Header { from: revocation::authority_name(), session: Session(7), seq: Some(9), time_ms: START };
    let body = Revocations { revoked: vec![revocation::Revoked { serial, name }] };
    revocation::write(&Message { header, body }, &street.issuer).unwrap()
}

#[test]
fn what_comes_after_its_certificate_was_revoked_proves_nothing_also_after_a_restart() {
    let mut desk = Desk::new();
    let mut device = desk.born("cp-1", Role::Device, 1);
    let kept_back = device.measurement();
    let list = revoking(&desk.street, &device);
    let admitted = desk.raw("grid/demo/ca/revoked", &list, true, at(0));
    assert_eq!(desk.hear(&kept_back), EVIDENCE);
    assert_eq!(desk.hear(&device.replay(&kept_back)), [], "its replays are not believed either");
    assert_eq!(desk.hear(&device.birth()), EVIDENCE);

    let mut renewed = desk.street.speaker("cp-1", Role::Device, 2);
    assert_eq!(desk.hear(&renewed.birth()), ONCE);

    // From the snapshot.
    let snapshot = desk.intake.snapshot();
    desk.intake = Intake::restore(desk.street.speakers(), &snapshot, desk.size, START).unwrap();
    assert_eq!(desk.hear(&device.event(Event::ThrownOut {})), EVIDENCE);
    assert_eq!(desk.hear(&renewed.measurement()), ONCE);

    // From the journal, onto a snapshot of an older version, which does not say what is revoked.
    let empty = br#"{"devices":{},"certificates":{},"remembered":{}}"#;
    desk.intake = Intake::restore(desk.street.speakers(), empty, 0, START).unwrap();
    for (index, Admitted { standing, entry, .. }) in admitted.into_iter().enumerate() {
        desk.intake.relearn(&Record { index: index as u64, synced: 0, standing, entry });
    }
    assert_eq!(desk.hear(&device.birth()), EVIDENCE);
}

/// What makes up a day: births, measurements, setpoints, replays, forgeries, copies, commands, a device of another key.
fn mixture(street: &Street) -> Vec<Said> {
    let mut device = street.speaker("cp-1", Role::Device, 1);
    let mut transformer = street.speaker("trafo-1", Role::Transformer, 3);
    let mut early = street.speaker("cp-2", Role::Device, 2);
    let mut said = vec![early.measurement(), device.birth(), transformer.birth()];
    for number in 0..20 {
        said.push(device.measurement());
        said.push(transformer.setpoint("cp-1"));
        let mut forged = device.measurement();
        let digit = forged.payload.iter().position(|byte| *byte == b'9').unwrap();
        forged.payload[digit] ^= 1;
        if number % 5 == 0 {
            said.push(forged);
        }
        let replayed = device.measurement();
        said.push(device.replay(&replayed));
        let mut broken = device.replay(&replayed);
        broken.topic.device = name("cp-2");
        said.push(broken);
        said.push(device.setpoint("cp-2"));
    }
    said.push(early.birth());
    let mut renewed = street.speaker("cp-1", Role::Device, 9);
    said.extend([renewed.measurement(), renewed.birth(), renewed.measurement()]);
    let unheard = street.speaker("cp-3", Role::Device, 4).birth();
    said.push(street.speaker("cp-3", Role::Device, 4).replay(&unheard));
    said.extend([device.event(Event::FailsafeLeft {}), device.will(1), device.will(1)]);
    said
}

#[test]
fn a_batch_is_judged_as_its_messages_one_by_one() {
    let desk = Desk::new();
    let said = mixture(&desk.street);
    let topics: Vec<String> = said.iter().map(|said| said.topic.to_string()).collect();
    let arrivals: Vec<Arrival> = topics
        .iter()
        .zip(&said)
        .map(|(topic, said)| Arrival { topic, payload: &said.payload, retained: false })
        .collect();
    let judged = |batch: usize| {
        let mut intake = Intake::new(desk.street.speakers());
        let mut admitted = Vec::new();
        arrivals.chunks(batch).for_each(|batch| intake.receive_all(batch, at(0), &mut admitted));
        intake.durable(admitted.len() as u64);
        (admitted, intake.counts(), intake.acks(at(0).boot), intake.snapshot())
    };
    let singly = judged(1);
    assert!(singly.0.len() > 60 && singly.1.unverified > 0 && singly.1.duplicates > 0 && singly.1.not_logged > 0);
    for batch in [2, 3, 7, 16, arrivals.len()] {
        assert_eq!(judged(batch), singly, "in batches of {batch}");
    }
}
