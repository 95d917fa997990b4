//! What is dropped, what is said again before that, and that a kill at any step does no harm.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_durable::{DurableError, Stop};
use grid_protocol::author::Signed as Said;
use grid_protocol::message::{Header, Message, PreviousSession, Role, Session};
use grid_protocol::revocation::{self, Revocations, Revoked};
use grid_protocol::units::Millis;
use tempfile::TempDir;
use tlog_tiles::{
    Hash, Tile as HashTile, TileHashReader, TileReader, check_record, check_tree, prove_record, prove_tree, record_hash,
};

use super::*;
use crate::bundle;
use crate::checkpoint::Head;
use crate::entry::{self, Payload};
use crate::intake::Arrival;
use crate::notice::Notice;
use crate::pruning::minimum_index;
use crate::retention::RetentionSettings;
use crate::show::{Selection, show};
use crate::speech::{Content, Heard, hear};
use crate::store::StoreError;
use crate::testing::{Speaker, Street, at, copy_folder, folder, name, recorder_settings};
use crate::tile::{Level, Tile};

const DAY: u64 = 86_400_000;
const KEEP: u64 = 30 * DAY;

struct Desk {
    folder: TempDir,
    street: Street,
    /// Lists of revoked certificates, each longer than the one before.
    lists: [Vec<u8>; 3],
}

struct Speakers {
    first: Speaker,
    second: Speaker,
    /// What the first device said at the very beginning.
    oldest: Said,
}

impl Desk {
    fn new() -> Self {
        let street = Street::new();
        let lists = [1, 2, 3].map(|count| list(&street, count));
        Self { folder: folder(), street, lists }
    }

    fn open_at(
        &self,
        path: &Path,
        keep: Option<u64>,
        ledger: bool,
        stop: Stop,
        ms: u64,
    ) -> Result<Recorder, RecorderError> {
        let mut settings = recorder_settings();
        settings.retention = RetentionSettings { keep: keep.map(Millis), ledger };
        Recorder::open(path, settings, self.street.anchor(), Session(1000 + ms), stop, at(ms))
    }

    fn open(&self, keep: Option<u64>, ms: u64) -> Recorder {
        self.open_at(self.folder.path(), keep, false, Stop::never(), ms).unwrap()
    }

    /// Forty days: the second device is silent from the fifth on, the first starts again on the fifteenth. Lists of
    /// revoked certificates come on the first day and on the twentieth.
    fn live(&self) -> Speakers {
        let mut recorder = self.open(None, 0);
        let mut trafo = self.street.speaker("trafo-1", Role::Transformer, 2);
        let mut first = self.street.speaker("cp-1", Role::Device, 1);
        let mut second = self.street.speaker("cp-2", Role::Device, 3);
        let oldest = first.birth();
        for said in [&trafo.birth(), &oldest, &second.birth()] {
            hear_at(&mut recorder, said, 0);
        }
        for day in 0..40 {
            match day {
                0 => {
                    revoke(&mut recorder, &self.lists[0], 0);
                    revoke(&mut recorder, &self.lists[1], 1);
                }
                15 => {
                    let before = PreviousSession { session: first.author.session(), seq: first.author.last_seq() };
                    first = first.restarted(&self.street, 11);
                    hear_at(&mut recorder, &first.birth_after(Some(before)), day * DAY);
                }
                20 => revoke(&mut recorder, &self.lists[2], day * DAY),
                _ => {}
            }
            a_day(&mut recorder, &mut first, &mut trafo, day);
            if day < 5 {
                hear_at(&mut recorder, &second.measurement(), day * DAY);
            }
        }
        recorder.finish(at(40 * DAY - 1000)).unwrap();
        Speakers { first, second, oldest }
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }
}

fn list(street: &Street, count: u64) -> Vec<u8> {
    let revoked =
        (0..count).map(|serial| Revoked { serial: format!("4{serial}").parse().unwrap(), name: name("cp-9") });
    let header =
        Header { from: revocation::authority_name(), session: Session(1), seq: Some(count), time_ms: at(0).unix };
    let body = Revocations { revoked: revoked.collect() };
    revocation::write(&Message { header, body }, &street.issuer).unwrap()
}

/// Eighty messages and a checkpoint.
fn a_day(recorder: &mut Recorder, first: &mut Speaker, trafo: &mut Speaker, day: u64) {
    for minute in 0..40 {
        let ms = day * DAY + minute * 60_000;
        hear_at(recorder, &first.measurement(), ms);
        hear_at(recorder, &trafo.setpoint("cp-1"), ms);
    }
    recorder.settle(at(day * DAY + DAY / 2)).unwrap();
}

fn hear_at(recorder: &mut Recorder, said: &Said, ms: u64) {
    let topic = said.topic.to_string();
    recorder.receive(Arrival { topic: &topic, payload: &said.payload, retained: false }, at(ms)).unwrap();
}

fn revoke(recorder: &mut Recorder, list: &[u8], ms: u64) {
    let arrival = Arrival { topic: "grid/demo/ca/revoked", payload: list, retained: true };
    recorder.receive(arrival, at(ms)).unwrap();
}

/// Lets a minute and a little more pass, in which everything that is due is dropped.
fn settle(recorder: &mut Recorder, ms: u64) -> Result<(), RecorderError> {
    for step in 0..60 {
        recorder.settle(at(ms + 61_000 + step * 50))?;
    }
    Ok(())
}

/// A log from whatever entry it begins with, as somebody reads it who has nothing else.
struct Rest {
    folder: std::path::PathBuf,
    minimum: u64,
    head: Head,
    entries: Vec<Vec<u8>>,
}

impl TileReader for &Rest {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[HashTile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read = |tile: &HashTile| {
            let level = Level::Hashes(tile.level());
            let ours = Tile { level, index: tile.level_index(), width: tile.width() as u16 };
            fs::read(self.folder.join(ours.path())).map_err(|_| tlog_tiles::Error::InvalidTile)
        };
        tiles.iter().map(read).collect()
    }

    fn save_tiles(&self, _: &[HashTile], _: &[Vec<u8>]) {}
}

impl Rest {
    fn read(folder: &Path) -> Self {
        let note = fs::read(folder.join("checkpoint")).unwrap();
        let head = crate::checkpoint::read_unsigned(&note).unwrap().head;
        let minimum = minimum_index(folder).unwrap();
        let mut entries = Vec::new();
        for index in minimum / 256..head.size.div_ceil(256) {
            let width = (head.size - index * 256).min(256) as u16;
            let file = fs::read(folder.join(Tile { level: Level::Entries, index, width }.path())).unwrap();
            let plain = bundle::unpack(&file).unwrap();
            entries.extend(bundle::entries(&plain, width).unwrap().into_iter().map(<[u8]>::to_vec));
        }
        Self { folder: folder.to_owned(), minimum, head, entries }
    }

    /// Entries are in the tree, and of every signed message it is known who must have said it: some signatures are
    /// checked. What notices say counts from the first entry on: they repeat what stood before it. Returns the notices.
    fn check(&self, street: &Street) -> Vec<Notice> {
        let tiles = self;
        let reader = TileHashReader::new(self.head.size, self.head.root, &tiles);
        for (index, entry) in (self.minimum..).zip(&self.entries).step_by(31) {
            let proof = prove_record(self.head.size, index, &reader).unwrap();
            check_record(&proof, self.head.size, self.head.root, index, record_hash(entry)).unwrap();
        }
        let mut speakers = street.speakers();
        let notices = self.notices();
        for notice in &notices {
            if let Notice::Certificate { name, session, der } = notice {
                let who = speakers.vouch(&STANDARD.decode(der).unwrap(), at(0).unix).unwrap();
                speakers.learn(name, *session, std::sync::Arc::new(who));
            }
        }
        let entries: Vec<_> = self.entries.iter().map(|entry| entry::read(entry).unwrap()).collect();
        for (index, entry) in (self.minimum..).zip(&entries).filter(|(_, entry)| entry.topic != "grid/demo/#") {
            let Payload::Bytes(payload) = &entry.payload else { panic!("nothing here is that long") };
            let Ok(Heard::Signed(signed)) = hear(&entry.topic, payload) else { continue };
            let who = speakers.who(&signed, entry.received_ms).unwrap_or_else(|why| panic!("entry {index}: {why}"));
            if index % 16 == 0 {
                signed.verify(&who).unwrap_or_else(|why| panic!("entry {index}: {why}"));
            }
            if let Content::Status { .. } = signed.content {
                speakers.learn(&signed.header.from, signed.header.session, who);
            }
        }
        notices
    }

    fn notices(&self) -> Vec<Notice> {
        let topic = b"\"topic\":\"grid/demo/#\"";
        let notices = self.entries.iter().filter(|entry| entry.windows(topic.len()).any(|window| window == topic));
        notices
            .map(|entry| match entry::read(entry).unwrap().payload {
                Payload::Bytes(bytes) => Notice::read(&bytes).unwrap(),
                Payload::Digest { .. } => panic!("nothing here is that long"),
            })
            .collect()
    }

    fn received(&self, at: usize) -> u64 {
        entry::read(&self.entries[at]).unwrap().received_ms.0
    }
}

/// The sessions and the lists that notices name.
fn carried(notices: &[Notice]) -> (BTreeSet<(String, u64)>, Vec<Vec<u8>>) {
    let mut sessions = BTreeSet::new();
    let mut lists = Vec::new();
    for notice in notices {
        match notice {
            Notice::Certificate { name, session, .. } => {
                assert!(sessions.insert((name.to_string(), session.0)), "{name} {session} is named twice");
            }
            Notice::Revoked(list) => lists.push(list.clone().into_bytes()),
            Notice::NotLogged(count) => panic!("{count} were not logged"),
        }
    }
    (sessions, lists)
}

#[test]
fn old_entries_are_dropped_and_the_rest_can_be_judged_alone() {
    let desk = Desk::new();
    desk.live();
    let whole = Rest::read(&desk.log());
    assert_eq!((whole.minimum, whole.check(&desk.street).len()), (0, 0));
    let mut recorder = desk.open(Some(KEEP), 40 * DAY);
    settle(&mut recorder, 40 * DAY).unwrap();
    recorder.finish(at(40 * DAY + 70_000)).unwrap();
    drop(recorder);

    let rest = Rest::read(&desk.log());
    let cutoff = at(10 * DAY).unix.0;
    assert!(rest.minimum > 512 && rest.received(255) >= cutoff, "{}", rest.minimum);
    assert!(whole.received(rest.minimum as usize - 1) < cutoff);
    assert_eq!(rest.entries[..500], whole.entries[rest.minimum as usize..][..500]);
    let (sessions, lists) = carried(&rest.check(&desk.street));
    // The second session of the first device has its birth, and the anchor's its goodbye.
    let expected = [("cp-1".to_owned(), 1), ("cp-2".to_owned(), 3), ("trafo-1".to_owned(), 2)];
    assert_eq!(sessions, expected.into());
    assert_eq!(lists, [desk.lists[1].clone()]);

    let mut shown = Vec::new();
    show(&desk.log(), &Selection::default(), |line| {
        shown.push(line.index);
        true
    })
    .unwrap();
    assert_eq!(shown, (rest.minimum..rest.head.size).collect::<Vec<_>>());
}

#[test]
fn killed_before_any_step_of_dropping_it_goes_on_and_everything_needed_is_there() {
    let desk = Desk::new();
    desk.live();
    let whole = Rest::read(&desk.log());
    // Minimum index and size, as kills left them.
    let mut states = BTreeSet::new();
    for steps in 0.. {
        let killed = folder();
        copy_folder(desk.folder.path(), killed.path());
        let ended = desk
            .open_at(killed.path(), Some(KEEP), false, Stop::after(steps), 40 * DAY)
            .and_then(|mut recorder| settle(&mut recorder, 40 * DAY));
        match &ended {
            Ok(())
            | Err(RecorderError::Durable(DurableError::Stopped { .. }))
            | Err(RecorderError::Store(StoreError::Durable(DurableError::Stopped { .. }))) => {}
            Err(error) => panic!("after {steps}: {error}"),
        }
        // As it is after the kill.
        let rest = Rest::read(&killed.path().join("log"));
        if states.insert((rest.minimum, rest.head.size)) {
            let (sessions, lists) = carried(&rest.check(&desk.street));
            let expected = if rest.minimum > 0 { (3, 1) } else { (sessions.len(), lists.len()) };
            assert_eq!((sessions.len(), lists.len()), expected, "after {steps}");
        }
        // And after the next start.
        let mut recorder = desk.open_at(killed.path(), Some(KEEP), false, Stop::never(), 40 * DAY + 120_000).unwrap();
        settle(&mut recorder, 40 * DAY + 120_000).unwrap();
        recorder.finish(at(40 * DAY + 190_000)).unwrap();
        let rest = Rest::read(&killed.path().join("log"));
        assert!(rest.minimum > 512 && rest.received(255) >= at(10 * DAY).unix.0, "after {steps}");
        assert_eq!(rest.entries[..500], whole.entries[rest.minimum as usize..][..500]);
        let notices = if steps % 8 == 0 || ended.is_ok() { rest.check(&desk.street) } else { rest.notices() };
        let (sessions, lists) = carried(&notices);
        assert_eq!((sessions.len(), lists.len()), (3, 1), "after {steps}");
        let remains = fs::read_dir(killed.path().join("log/tile/0")).unwrap().count() as u64;
        assert_eq!(remains, rest.head.size.div_ceil(256) - rest.minimum / 256, "after {steps}");
        if ended.is_ok() {
            assert!(steps > 20 && states.len() > 3, "{steps} steps, {states:?}");
            return;
        }
    }
}

#[test]
fn what_came_back_with_a_power_cut_is_removed_again() {
    let desk = Desk::new();
    desk.live();
    let before = folder();
    copy_folder(desk.folder.path(), before.path());
    settle(&mut desk.open(Some(KEEP), 40 * DAY), 40 * DAY).unwrap();
    let minimum = minimum_index(&desk.log()).unwrap();
    for path in ["log/tile/entries/001", "log/tile/0/000"] {
        fs::copy(before.path().join(path), desk.folder.path().join(path)).unwrap();
    }
    let mut recorder = desk.open(None, 40 * DAY + 120_000);
    settle(&mut recorder, 40 * DAY + 120_000).unwrap();
    assert_eq!(minimum_index(&desk.log()).unwrap(), minimum);
    assert!(!desk.log().join("tile/0/000").exists());
}

#[test]
fn trees_before_and_after_can_be_compared_and_old_proofs_hold() {
    let desk = Desk::new();
    desk.live();
    let whole = Rest::read(&desk.log());
    let tiles = &whole;
    let reader = TileHashReader::new(whole.head.size, whole.head.root, &tiles);
    let given_out = prove_record(whole.head.size, 5, &reader).unwrap();
    let mut recorder = desk.open(Some(KEEP), 40 * DAY);
    settle(&mut recorder, 40 * DAY).unwrap();
    recorder.finish(at(40 * DAY + 70_000)).unwrap();

    let rest = Rest::read(&desk.log());
    assert!(rest.minimum > 5 && rest.head.size > whole.head.size);
    let leaf: Hash = record_hash(&whole.entries[5]);
    check_record(&given_out, whole.head.size, whole.head.root, 5, leaf).unwrap();
    let tiles = &rest;
    let reader = TileHashReader::new(rest.head.size, rest.head.root, &tiles);
    let same = prove_tree(rest.head.size, whole.head.size, &reader).unwrap();
    check_tree(&same, rest.head.size, rest.head.root, whole.head.size, whole.head.root).unwrap();
}

#[test]
fn who_speaks_again_after_its_certificate_was_dropped_is_named_before() {
    let desk = Desk::new();
    let Speakers { mut second, .. } = desk.live();
    let mut recorder = desk.open(Some(KEEP), 40 * DAY);
    settle(&mut recorder, 40 * DAY).unwrap();
    let commands = |recorder: &mut Recorder, ms| {
        for _ in 0..300 {
            let command = Arrival { topic: "grid/demo/cp-1/set/charging", payload: b"ON", retained: false };
            recorder.receive(command, at(ms)).unwrap();
        }
    };
    commands(&mut recorder, 40 * DAY + 65_000);
    recorder.finish(at(40 * DAY + 70_000)).unwrap();
    drop(recorder);
    // A month later what named it is gone as well.
    let mut recorder = desk.open(Some(KEEP), 75 * DAY);
    commands(&mut recorder, 75 * DAY);
    recorder.settle(at(75 * DAY + 60_000)).unwrap();
    settle(&mut recorder, 75 * DAY).unwrap();
    let before = recorder.progress().entries;
    for said in [second.measurement(), second.measurement()] {
        hear_at(&mut recorder, &said, 75 * DAY + 80_000);
    }
    assert_eq!(recorder.progress().entries, before + 3);
    recorder.finish(at(75 * DAY + 90_000)).unwrap();
    let rest = Rest::read(&desk.log());
    assert!(rest.minimum > 3000, "{}", rest.minimum);
    let (sessions, _) = carried(&rest.check(&desk.street));
    assert!(sessions.contains(&("cp-2".to_owned(), 3)), "{sessions:?}");
}

#[test]
fn what_was_logged_and_dropped_is_not_logged_again() {
    let desk = Desk::new();
    let Speakers { oldest, first, .. } = desk.live();
    let mut recorder = desk.open(Some(KEEP), 40 * DAY);
    settle(&mut recorder, 40 * DAY).unwrap();
    drop(recorder);
    let mut recorder = desk.open(Some(KEEP), 40 * DAY + 120_000);
    let size = recorder.progress().entries;
    hear_at(&mut recorder, &oldest, 40 * DAY + 120_000);
    hear_at(&mut recorder, &first.replay(&oldest), 40 * DAY + 120_000);
    revoke(&mut recorder, &desk.lists[2], 40 * DAY + 120_000);
    assert_eq!((recorder.progress().entries, recorder.progress().counts.duplicates), (size, 3));
}

#[test]
fn nothing_is_dropped_that_the_ledger_does_not_vouch_for() {
    let desk = Desk::new();
    desk.live();
    let open = || desk.open_at(desk.folder.path(), Some(KEEP), true, Stop::never(), 40 * DAY).unwrap();
    let mut recorder = open();
    settle(&mut recorder, 40 * DAY).unwrap();
    assert_eq!(recorder.store.minimum_index(), 0);
    drop(recorder);
    let mut recorder = open();
    let text = String::new;
    let receipt = grid_protocol::message::LedgerReceipt {
        network: text(),
        trail: text(),
        record: 0,
        tree_size: 300,
        transaction: text(),
        added_ms: at(40 * DAY).unix,
        explorer: text(),
    };
    recorder.notarized = 300;
    recorder.receipt = Some(receipt);
    settle(&mut recorder, 40 * DAY).unwrap();
    assert_eq!(recorder.store.minimum_index(), 256);
}

#[test]
fn a_log_that_goes_on_for_months_keeps_a_month_and_names_each_session_once_in_it() {
    let desk = Desk::new();
    let mut recorder = desk.open(Some(KEEP), 0);
    let mut trafo = desk.street.speaker("trafo-1", Role::Transformer, 2);
    let mut first = desk.street.speaker("cp-1", Role::Device, 1);
    for said in [&trafo.birth(), &first.birth()] {
        hear_at(&mut recorder, said, 0);
    }
    revoke(&mut recorder, &desk.lists[0], 0);
    for day in 0..140 {
        a_day(&mut recorder, &mut first, &mut trafo, day);
        for step in 0..20 {
            recorder.settle(at(day * DAY + DAY / 2 + step * 50)).unwrap();
        }
    }
    recorder.finish(at(140 * DAY)).unwrap();
    let rest = Rest::read(&desk.log());
    assert!(rest.received(255) >= at(108 * DAY).unix.0 && rest.received(0) < at(110 * DAY).unix.0);
    let (sessions, lists) = carried(&rest.check(&desk.street));
    assert_eq!((sessions.len(), lists.len()), (2, 1));
}

#[test]
fn a_snapshot_of_a_version_without_retention_is_taken_over_with_care() {
    let desk = Desk::new();
    let mut first = desk.street.speaker("cp-1", Role::Device, 1);
    let (birth, said) = (first.birth(), first.measurement());
    let mut recorder = desk.open(None, 0);
    hear_at(&mut recorder, &birth, 0);
    revoke(&mut recorder, &desk.lists[0], 0);
    let mut json = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*recorder.intake.snapshot()), &mut json).unwrap();
    let mut old: serde_json::Value = serde_json::from_str(&json).unwrap();
    old.as_object_mut().unwrap().remove("carried").unwrap();
    let session = old["devices"]["cp-1"]["0000000000000001"].as_object_mut().unwrap();
    session.retain(|key, _| key == "logged");
    for (key, value) in [("settled", serde_json::json!([[1, 1]])), ("announced", 0.into()), ("ended", 0.into())] {
        session.insert(key.to_owned(), value);
    }
    let bytes = serde_json::to_vec(&old).unwrap();
    let mut intake = crate::intake::Intake::restore(desk.street.speakers(), &bytes, 5000, at(0).unix).unwrap();
    let mut admitted = Vec::new();
    intake.carry(256, at(0), &mut admitted);
    assert_eq!(admitted.len(), 1);
    assert!(String::from_utf8_lossy(&admitted[0].entry).contains("certificate"));
    let topic = said.topic.to_string();
    intake.receive(Arrival { topic: &topic, payload: &said.payload, retained: false }, at(0), &mut admitted);
    assert_eq!(admitted.len(), 2);
    // What it does not know of the list it learns from the broker.
    for _ in 0..2 {
        let list = Arrival { topic: "grid/demo/ca/revoked", payload: &desk.lists[0], retained: true };
        intake.receive(list, at(0), &mut admitted);
        assert_eq!(admitted.len(), 3);
    }
}
