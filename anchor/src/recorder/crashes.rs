//! Every point at which the power can be cut, every step that can fail. Whatever happens there: what was acknowledged is in
//! the log, nothing is in it twice, each checkpoint that anybody may have seen is one of it, and it holds; and what was
//! about to be dropped is dropped in the end. What a mirror took of that before still belongs to the log.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use grid_durable::simulate::{Fault, SimulatedDisk};
use grid_protocol::message::{Ack, Event, Message};
use grid_protocol::seal::Sealed;
use grid_protocol::units::UnixMillis;
use tlog_tiles::{Hash, record_hash};

use super::*;
use crate::bundle;
use crate::checkpoint::read_unsigned;
use crate::entry::{self, Payload};
use crate::source::bundles;
use crate::testing::{Speaker, Street, at, folder, recorder_settings};
use crate::tile::{Level, Tile};
use crate::tree::Edge;
use crate::verify::{Messages, Report, verify_log};
use grid_durable::Disk;

const DATA: &str = "/var/lib/grid-anchor";
/// Enough commands between the messages to fill two bundles and begin another.
const COMMANDS: u64 = 508;
/// How long entries are kept: those of the first session are dropped in the second.
const KEEP: Millis = Millis(60_000);

/// What the rest of the world was told, and after how many steps of the disk.
#[derive(Clone, Default)]
struct Told {
    acks: Vec<(u64, Ack)>,
    said: Vec<(u64, Vec<u8>)>,
    heads: Vec<(u64, Head)>,
    /// What a mirror has taken: bundles by their number.
    mirror: BTreeMap<u64, (u64, Vec<u8>)>,
}

impl Told {
    fn until(&self, operation: u64) -> Self {
        let Self { acks, said, heads, mirror } = self.clone();
        Self {
            acks: acks.into_iter().filter(|(at, _)| *at <= operation).collect(),
            said: said.into_iter().filter(|(at, _)| *at <= operation).collect(),
            heads: heads.into_iter().filter(|(at, _)| *at <= operation).collect(),
            mirror: mirror.into_iter().filter(|(_, (at, _))| *at <= operation).collect(),
        }
    }

    /// On another disk, which begins to count: all that was told was told before.
    fn on_another_disk(&self) -> Self {
        let mut told = self.clone();
        told.acks.iter_mut().for_each(|(at, _)| *at = 0);
        told.said.iter_mut().for_each(|(at, _)| *at = 0);
        told.heads.iter_mut().for_each(|(at, _)| *at = 0);
        told.mirror.values_mut().for_each(|(at, _)| *at = 0);
        told
    }

    fn hear(&mut self, operation: u64, outgoing: &[Outgoing]) {
        for Outgoing { topic, payload, .. } in outgoing {
            let sealed = Sealed::parse(payload).unwrap();
            if topic.ends_with("/ack") {
                self.acks.push((operation, sealed.read::<Message<Ack>>().unwrap().body));
                continue;
            }
            self.said.push((operation, payload.clone()));
            if topic.ends_with("/checkpoint") {
                let note = sealed.read::<Message<Checkpoint>>().unwrap().body.note;
                self.heads.push((operation, read_unsigned(note.as_bytes()).unwrap().head));
            }
        }
    }

    /// Whoever reads the log while it is written sees the checkpoint as soon as it has its name, and may copy what it
    /// covers.
    fn look(&mut self, operation: u64, disk: &SimulatedDisk) {
        // Not on the disk itself, where it would be one of the steps that can fail.
        let disk = disk.after_kill();
        let read = |path: &str| disk.read(&Path::new(DATA).join("log").join(path)).ok();
        let Some(note) = read("checkpoint") else { return };
        let head = read_unsigned(&note).unwrap().head;
        for bundle in 0..Level::Entries.full_tiles(head.size) {
            if let Some(file) = read(&Tile::full(Level::Entries, bundle).path()) {
                self.mirror.entry(bundle).or_insert((operation, file));
            }
        }
        self.heads.push((operation, head));
    }

    fn is_acknowledged(&self, message: &Signed) -> bool {
        let seq = message.seq.unwrap();
        let covers = |ack: &Ack| {
            ack.of == Session(1) && seq <= ack.through && !ack.missing.iter().any(|(a, b)| (*a..=*b).contains(&seq))
        };
        self.acks.iter().any(|(_, ack)| covers(ack))
    }
}

struct Scene {
    street: Street,
    messages: Vec<Signed>,
}

impl Scene {
    fn new() -> Self {
        let street = Street::new();
        let mut device: Speaker = street.speaker("cp-1", Role::Device, 1);
        let mut messages = vec![device.birth()];
        messages.extend((0..4).map(|_| device.measurement()));
        messages.push(device.event(Event::ThrownOut {}));
        messages.extend((0..3).map(|_| device.measurement()));
        Self { street, messages }
    }

    fn open(&self, disk: &SimulatedDisk, session: u64, now: Now) -> Result<Recorder, RecorderError> {
        let open = || Durable::open_on(Arc::new(disk.clone()), Path::new(DATA), Stop::never());
        let mut settings = recorder_settings();
        settings.retention.keep = Some(KEEP);
        Recorder::open_in(open, settings, self.street.anchor(), Session(session), now)
    }

    fn hear(&self, recorder: &mut Recorder, message: usize, ms: u64) -> Result<(), RecorderError> {
        let Signed { topic, payload, .. } = &self.messages[message];
        recorder.receive(Arrival { topic: &topic.to_string(), payload, retained: false }, at(ms))
    }

    /// An anchor's day: it starts, logs, acknowledges, writes checkpoints over the end of a bundle, and ends; and once
    /// more, when it drops what is old.
    fn play(&self, disk: &SimulatedDisk, told: &RefCell<Told>) -> Result<(), RecorderError> {
        let publish = |outgoing: Vec<Outgoing>| told.borrow_mut().hear(disk.operations(), &outgoing);
        let command = |recorder: &mut Recorder, number: u64, ms| {
            let payload = number.to_string();
            recorder.receive(
                Arrival { topic: "grid/demo/cp-1/set/x", payload: payload.as_bytes(), retained: false },
                at(ms),
            )
        };
        let mut recorder = self.open(disk, 91, at(0))?;
        recorder.will(at(0))?;
        publish(recorder.connected(at(0))?);
        self.hear(&mut recorder, 0, 10)?;
        self.hear(&mut recorder, 1, 10)?;
        publish(recorder.settle(at(2_000))?);
        self.hear(&mut recorder, 2, 2_500)?;
        publish(recorder.settle(at(60_000))?);
        (0..COMMANDS).try_for_each(|number| command(&mut recorder, number, 61_000))?;
        // It comes early, and leaves a gap.
        self.hear(&mut recorder, 5, 61_500)?;
        publish(recorder.settle(at(62_000))?);
        let record = recorder.record_for_ledger(at(63_000))?;
        let heads = record.iter().map(|record| read_unsigned(record.text.as_bytes()).unwrap().head);
        told.borrow_mut().heads.extend(heads.map(|head| (disk.operations(), head)));
        self.hear(&mut recorder, 3, 64_000)?;
        self.hear(&mut recorder, 4, 64_000)?;
        publish(recorder.settle(at(66_000))?);
        publish(recorder.settle(at(130_000))?);
        self.hear(&mut recorder, 6, 131_000)?;
        publish(vec![recorder.finish(at(132_000))?.0]);
        drop(recorder);
        told.borrow_mut().look(disk.operations(), disk);

        let mut recorder = self.open(disk, 92, at(0))?;
        recorder.will(at(140_000))?;
        publish(recorder.connected(at(140_000))?);
        self.hear(&mut recorder, 7, 141_000)?;
        (0..4).try_for_each(|step| recorder.settle(at(150_000 + step * 50)).map(publish))?;
        Ok(())
    }

    /// The anchor starts on what is left; the device says again what is acknowledged, and then all that it ever said.
    fn go_on(&self, disk: &SimulatedDisk, session: u64, told: &RefCell<Told>) -> Result<(), RecorderError> {
        let publish = |outgoing: Vec<Outgoing>| told.borrow_mut().hear(disk.operations(), &outgoing);
        let before = told.borrow().clone();
        let mut recorder = self.open(disk, session, at(200_000))?;
        nothing_is_beyond_the_checkpoint(disk, recorder.progress());
        recorder.will(at(200_000))?;
        publish(recorder.connected(at(200_000))?);
        let entries = recorder.progress().entries;
        for number in (0..self.messages.len()).filter(|number| before.is_acknowledged(&self.messages[*number])) {
            self.hear(&mut recorder, number, 200_100)?;
            assert_eq!(recorder.progress().entries, entries, "message {number} was acknowledged, but it is not there");
        }
        (0..self.messages.len()).try_for_each(|number| self.hear(&mut recorder, number, 200_200))?;
        publish(recorder.settle(at(202_000))?);
        // Once all is gone that is to go, no later checkpoint must be needed to understand the rest.
        let intended = recorder.intake.minimum_index();
        if intended > 0 && recorder.store.first_remains()? * 256 == intended {
            self.verifies(disk);
        }
        publish(recorder.settle(at(300_000))?);
        told.borrow_mut().look(disk.operations(), disk);
        assert!(self.messages.iter().all(|message| told.borrow().is_acknowledged(message)));
        (0..4).try_for_each(|step| recorder.settle(at(300_050 + step * 50)).map(publish))?;
        publish(vec![recorder.finish(at(400_000))?.0]);
        Ok(())
    }

    /// What is under the checkpoint can be verified, by nothing but itself.
    fn verifies(&self, disk: &SimulatedDisk) -> (tempfile::TempDir, Report) {
        let real = folder();
        disk.export(Path::new(DATA), real.path()).unwrap();
        let policy = std::fs::read_to_string(real.path().join(POLICY)).unwrap();
        let log = real.path().join("log");
        let report = verify_log(&log, Some(&Policy::read(&policy).unwrap())).unwrap();
        assert_eq!(report.failure, None);
        assert!(report.holds);
        let Messages { duplicates, unverified, missing, .. } = report.messages;
        assert_eq!((duplicates, unverified, missing), (0, 0, 0), "{:?}", report.messages);
        (real, report)
    }

    /// The log is as it must be after everything was said again.
    fn holds(&self, disk: &SimulatedDisk, told: &Told) {
        let (real, report) = self.verifies(disk);
        let log = real.path().join("log");
        let (entries, roots) = read(&log, report.tree_size, |bundle| &told.mirror[&bundle].1);
        // Those of the day, and what is said when it goes on, are old enough in the end.
        let is_old = |bundle: &[(UnixMillis, Vec<u8>)]| bundle[255].0 < at(240_000).unix;
        let old = entries.chunks_exact(256).take_while(|bundle| is_old(bundle)).count() as u64;
        assert_eq!(report.minimum_index, old * 256);
        for (_, head) in &told.heads {
            assert_eq!(
                roots.get(head.size as usize),
                Some(&head.root),
                "a checkpoint of {} entries was seen",
                head.size
            );
        }
        let mut found: BTreeMap<&[u8], usize> = BTreeMap::new();
        for (_, payload) in &entries {
            *found.entry(payload).or_default() += 1;
        }
        let said = told.said.iter().map(|(_, payload)| payload);
        for payload in self.messages.iter().map(|message| &message.payload).chain(said) {
            assert_eq!(found.get(&payload[..]), Some(&1), "{}", String::from_utf8_lossy(payload));
        }
    }
}

/// A start removes what was written for a checkpoint that was never signed.
fn nothing_is_beyond_the_checkpoint(disk: &SimulatedDisk, Progress { entries, checkpoint_size, .. }: Progress) {
    let disk = disk.after_kill();
    let path = |path: &str| Path::new(DATA).join("log").join(path);
    for level in Level::of(entries) {
        let mut current = level.partial_tile(checkpoint_size);
        for tile in (level.full_tiles(checkpoint_size)..=level.full_tiles(entries)).map(|at| Tile::full(level, at)) {
            let names = disk.names_in(&path(&tile.partials())).unwrap_or_default();
            let expected: Vec<String> = current.take().map(|tile| tile.width.to_string()).into_iter().collect();
            assert_eq!(names, expected, "{} at {checkpoint_size} entries", tile.partials());
            assert!(!disk.exists(&path(&tile.path())).unwrap(), "{} at {checkpoint_size} entries", tile.path());
        }
    }
}

/// All payloads of a log, with the times at which they came, and the roots that it has at each size. What the log has
/// dropped, a mirror has.
fn read<'a>(log: &Path, size: u64, mirror: impl Fn(u64) -> &'a [u8]) -> (Vec<(UnixMillis, Vec<u8>)>, Vec<Hash>) {
    let mut edge = Edge::default();
    let (mut payloads, mut roots) = (Vec::new(), vec![edge.root()]);
    for tile in bundles(size, 0) {
        let file = std::fs::read(log.join(tile.path())).unwrap_or_else(|_| mirror(tile.index).to_vec());
        let plain = bundle::unpack(&file).unwrap();
        for bytes in bundle::entries(&plain, tile.width).unwrap() {
            edge.push(record_hash(bytes), |_, _| {});
            roots.push(edge.root());
            let entry = entry::read(bytes).unwrap();
            let Payload::Bytes(payload) = entry.payload else { panic!("no entry is too long") };
            payloads.push((entry.received_ms, payload.into_owned()));
        }
    }
    (payloads, roots)
}

/// The ways in which a power cut takes what was not certain that are tried at a point: others at each.
fn seeds(point: usize) -> impl Iterator<Item = u64> {
    let count = std::env::var("CRASH_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(1);
    (point as u64..).take(count)
}

/// Plays the day once, and returns the disk after each step with what was told and seen by then.
fn day(scene: &Scene) -> Vec<(SimulatedDisk, Told)> {
    let disk = SimulatedDisk::new();
    disk.keep_moments();
    let told = RefCell::default();
    scene.play(&disk, &told).unwrap();
    let (mut told, moments) = (told.into_inner(), disk.moments());
    for moment in &moments {
        told.look(moment.operation, &moment.disk);
    }
    moments.into_iter().map(|moment| (moment.disk, told.until(moment.operation))).collect()
}

#[test]
fn wherever_the_power_is_cut_it_goes_on_with_everything_that_was_acknowledged() {
    let scene = Scene::new();
    let day = day(&scene);
    let (_, last) = day.last().unwrap();
    assert!(scene.messages[..8].iter().all(|message| last.is_acknowledged(message)));
    assert!(day.len() > 200 && last.heads.iter().any(|(_, head)| head.size > 512), "{} points", day.len());
    for (point, (disk, told)) in day.iter().enumerate() {
        for seed in seeds(point) {
            let told = RefCell::new(told.on_another_disk());
            let disk = disk.after_power_cut(seed);
            disk.keep_moments();
            let fails = |error| panic!("after step {point} with seed {seed}: {error}");
            scene.go_on(&disk, 93, &told).unwrap_or_else(fails);
            scene.holds(&disk, &told.borrow());

            // And once more while it puts things in order.
            let (disk, told) = cut_meanwhile(&disk, &told.borrow(), point * 31 + seed as usize * 17, seed);
            scene.go_on(&disk, 94, &told).unwrap_or_else(fails);
            scene.holds(&disk, &told.borrow());
        }
    }
}

/// The power is cut at one of the moments that a disk has kept.
fn cut_meanwhile(disk: &SimulatedDisk, told: &Told, which: usize, seed: u64) -> (SimulatedDisk, RefCell<Told>) {
    let moments = disk.moments();
    let moment = &moments[which % moments.len()];
    let mut told = told.until(moment.operation);
    told.look(moment.operation, &moment.disk);
    (moment.disk.after_power_cut(seed), RefCell::new(told.on_another_disk()))
}

/// Lets every step fail, starts again as systemd would, and cuts the power while it goes on.
fn fails_anywhere(fault: Fault) {
    let scene = Scene::new();
    for operation in 1.. {
        let (disk, told) = (SimulatedDisk::new(), RefCell::<Told>::default());
        disk.fail(operation, fault);
        let ended = scene.play(&disk, &told);
        if disk.operations() < operation {
            assert!(ended.is_ok() && operation > 300, "only {operation} steps");
            return;
        }
        if let Err(error) = &ended {
            assert_eq!(error.is_disk_full(), fault == Fault::Full, "step {operation}: {error}");
        }
        told.borrow_mut().look(0, &disk);
        let (disk, told) = (disk.after_kill(), RefCell::new(told.borrow().on_another_disk()));
        disk.keep_moments();
        scene.go_on(&disk, 93, &told).unwrap_or_else(|error| panic!("after step {operation} failed: {error}"));
        let (disk, told) = cut_meanwhile(&disk, &told.borrow(), operation as usize * 31, operation);
        scene.go_on(&disk, 94, &told).unwrap_or_else(|error| panic!("cut after step {operation} failed: {error}"));
        scene.holds(&disk, &told.borrow());
    }
}

#[test]
fn whichever_step_fails_on_a_broken_disk_it_goes_on_with_everything_that_was_acknowledged() {
    fails_anywhere(Fault::Broken);
}

#[test]
fn whichever_step_fails_on_a_full_disk_it_goes_on_with_everything_that_was_acknowledged() {
    fails_anywhere(Fault::Full);
}

#[test]
fn low_room_stops_intake_with_an_event_and_room_lets_it_go_on() {
    let scene = Scene::new();
    let (disk, told) = (SimulatedDisk::new(), RefCell::<Told>::default());
    disk.set_capacity(Some(20_000_000));
    let open = || Durable::open_on(Arc::new(disk.clone()), Path::new(DATA), Stop::never());
    let settings = RecorderSettings { min_free_mb: 8, ..recorder_settings() };
    let mut recorder = Recorder::open_in(open, settings, scene.street.anchor(), Session(91), at(0)).unwrap();
    let publish = |outgoing: Vec<Outgoing>| {
        told.borrow_mut().hear(disk.operations(), &outgoing);
        let events = outgoing.iter().filter(|outgoing| outgoing.topic.ends_with("/event"));
        events
            .map(|event| Sealed::parse(&event.payload).unwrap().read::<Message<Event>>().unwrap().body)
            .collect::<Vec<_>>()
    };
    let none: Vec<Event> = Vec::new();
    recorder.will(at(0)).unwrap();
    assert_eq!(publish(recorder.connected(at(0)).unwrap()), none);
    scene.hear(&mut recorder, 0, 0).unwrap();
    assert_eq!(publish(recorder.settle(at(1_000)).unwrap()), none);

    disk.occupy(13_000_000);
    scene.hear(&mut recorder, 1, 1_500).unwrap();
    let low = Event::DiskLow { free_mb: 6, min_free_mb: 8 };
    assert_eq!(publish(recorder.settle(at(2_000)).unwrap()), [low]);
    let before = recorder.progress();
    assert_eq!(before.durable, before.entries);
    for message in 2..6 {
        scene.hear(&mut recorder, message, 3_000).unwrap();
    }
    disk.occupy(11_000_000);
    assert_eq!(publish(recorder.settle(at(100_000)).unwrap()), none);
    assert_eq!(recorder.progress(), before);
    assert!(!told.borrow().is_acknowledged(&scene.messages[2]));

    disk.occupy(0);
    let recovered = Event::DiskRecovered { free_mb: 19, after_ms: Millis(99_000) };
    assert_eq!(publish(recorder.settle(at(101_000)).unwrap()), [recovered]);
    for message in 2..scene.messages.len() {
        scene.hear(&mut recorder, message, 102_000).unwrap();
    }
    publish(recorder.settle(at(110_000)).unwrap());
    assert!(scene.messages.iter().all(|message| told.borrow().is_acknowledged(message)));
    publish(vec![recorder.finish(at(111_000)).unwrap().0]);
    drop(recorder);
    scene.holds(&disk, &told.borrow());
}

#[test]
fn when_the_disk_fills_up_at_any_byte_it_goes_on_from_what_is_durable() {
    let scene = Scene::new();
    let mut filled = 0;
    for capacity in (0..).map(|step| 500 + step * 1_117) {
        let (disk, told) = (SimulatedDisk::new(), RefCell::default());
        disk.set_capacity(Some(capacity));
        let ended = scene.play(&disk, &told);
        let is_enough = ended.is_ok();
        if let Err(error) = ended {
            assert!(error.is_disk_full(), "{capacity} bytes: {error}");
            filled += 1;
            // While it stays full, nothing more can happen, and nothing gets worse.
            assert!(scene.go_on(&disk, 93, &told).is_err_and(|error| error.is_disk_full()));
        }
        told.borrow_mut().look(0, &disk);
        disk.set_capacity(None);
        scene.go_on(&disk, 94, &told).unwrap();
        scene.holds(&disk, &told.borrow());
        if is_enough {
            break;
        }
    }
    assert!(filled > 20, "{filled}");
}

#[test]
fn a_clock_that_jumps_by_hours_changes_dates_but_no_rhythm_and_no_order() {
    const HOUR: u64 = 3_600_000;
    let scene = Scene::new();
    let (disk, told) = (SimulatedDisk::new(), RefCell::<Told>::default());
    let mut recorder = scene.open(&disk, 91, at(0)).unwrap();
    let publish = |outgoing: Vec<Outgoing>| told.borrow_mut().hear(disk.operations(), &outgoing);
    recorder.will(at(0)).unwrap();
    publish(recorder.connected(at(0)).unwrap());
    let (mut boot, mut dates) = (0, Vec::new());
    for (number, jump) in [0, 5 * HOUR, 2 * HOUR, 0, 9 * HOUR, 1, HOUR, 7 * HOUR, 3 * HOUR].into_iter().enumerate() {
        // The session's clock is not before the device's certificate.
        let now = |ms: u64| Now { unix: UnixMillis(at(jump).unix.0 + ms), ..at(boot + ms) };
        let message = &scene.messages[number];
        let arrival = Arrival { topic: &message.topic.to_string(), payload: &message.payload, retained: false };
        recorder.receive(arrival, now(0)).unwrap();
        dates.push(now(0).unix);
        // An event is durable at once, anything else a second later, whatever the clock says.
        publish(recorder.settle(now(999)).unwrap());
        assert_eq!(told.borrow().is_acknowledged(message), number == 5, "message {number}");
        publish(recorder.settle(now(1_000)).unwrap());
        publish(recorder.settle(now(2_000)).unwrap());
        assert!(told.borrow().is_acknowledged(message), "message {number}");
        boot += 2_000;
    }
    assert_eq!(recorder.progress().checkpoint_size, 0);
    publish(recorder.settle(Now { unix: at(HOUR).unix, ..at(60_000) }).unwrap());
    assert!(recorder.progress().checkpoint_size > 0);
    publish(vec![recorder.finish(Now { unix: at(0).unix, ..at(61_000) }).unwrap().0]);
    drop(recorder);
    scene.holds(&disk, &told.borrow());

    let real = folder();
    disk.export(Path::new(DATA), real.path()).unwrap();
    let mut found = Vec::new();
    let selection = crate::show::Selection { device: Some(crate::testing::name("cp-1")), ..Default::default() };
    crate::show::show(&real.path().join("log"), &selection, |line| {
        found.push(line.received_ms);
        true
    })
    .unwrap();
    assert_eq!(found, dates);
}
