//! A log that a recorder writes in a test, and what somebody with access to it can do to it.

use std::fs;
use std::path::{Path, PathBuf};

use grid_durable::Stop;
use grid_protocol::author::Signed;
use grid_protocol::identity::serial_of;
use grid_protocol::message::{Event, Header, Message, Role, Session};
use grid_protocol::revocation::{self, Revocations, Revoked};
use tlog_tiles::{Hash, record_hash};

use super::{START, Speaker, Street, at, folder, recorder_settings};
use crate::bundle::{self, pack};
use crate::checkpoint::LogKey;
use crate::intake::Arrival;
use crate::notice::Notice;
use crate::policy::Policy;
use crate::recorder::Recorder;
use crate::tile::{FULL, Level, Tile};
use crate::tree::{Edge, tile_bytes};
use crate::verify::{Report, verify_log};

/// A street and the data_dir of its anchor.
pub struct StreetLog {
    pub folder: tempfile::TempDir,
    pub street: Street,
}

/// A recorder that is being told things.
pub struct Desk {
    pub recorder: Recorder,
    /// When they come, in milliseconds since the start.
    pub now_ms: u64,
}

impl Desk {
    pub fn say(&mut self, said: &Signed) {
        self.say_raw(&said.topic.to_string(), &said.payload);
    }

    pub fn say_raw(&mut self, topic: &str, payload: &[u8]) {
        self.recorder.receive(Arrival { topic, payload, retained: false }, at(self.now_ms)).unwrap();
    }
}

impl StreetLog {
    pub fn new() -> Self {
        Self { folder: folder(), street: Street::new() }
    }

    /// A log of one birth, measurements of one device, and the anchor's goodbye: `size` entries.
    pub fn of(size: u64) -> Self {
        let log = Self::new();
        let mut device = log.street.speaker("cp-1", Role::Device, 1);
        log.record(201, |desk| {
            desk.say(&device.birth());
            (2..size).for_each(|_| desk.say(&device.measurement()));
        });
        log
    }

    /// A log of two charge points under a transformer, a command and an event, a second apart: 700 entries.
    pub fn of_a_street() -> Self {
        let log = Self::new();
        let mut devices = [1, 2].map(|seed| log.street.speaker(&format!("cp-{seed}"), Role::Device, seed));
        let mut transformer = log.street.speaker("trafo-1", Role::Transformer, 3);
        log.record(201, |desk| {
            desk.say(&transformer.birth());
            devices.iter_mut().for_each(|device| desk.say(&device.birth()));
            for second in 0..347 {
                desk.now_ms = second * 1000;
                let device = &mut devices[(second % 2) as usize];
                desk.say(&device.measurement());
                desk.say(&transformer.setpoint(device.author.name().as_str()));
            }
            desk.say_raw("grid/demo/cp-1/set/charging", b"OFF");
            desk.say(&devices[0].event(Event::ThrownOut {}));
        });
        log
    }

    /// Lets an anchor run: what `work` tells it, its goodbye, and a checkpoint.
    pub fn record(&self, session: u64, work: impl FnOnce(&mut Desk)) {
        let (settings, identity) = (recorder_settings(), self.street.anchor());
        let recorder =
            Recorder::open(self.folder.path(), settings, identity, Session(session), Stop::never(), at(0)).unwrap();
        let mut desk = Desk { recorder, now_ms: 0 };
        work(&mut desk);
        desk.recorder.finish(at(desk.now_ms)).unwrap();
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub fn policy_file(&self) -> PathBuf {
        self.folder.path().join("site.policy")
    }

    pub fn policy(&self) -> Policy {
        Policy::read(&fs::read_to_string(self.policy_file()).unwrap()).unwrap()
    }

    /// The log's true key.
    pub fn key(&self) -> LogKey {
        LogKey::read(&fs::read_to_string(self.folder.path().join("log.key")).unwrap()).unwrap()
    }

    pub fn checkpoint(&self) -> Vec<u8> {
        fs::read(self.path().join("checkpoint")).unwrap()
    }

    pub fn verify(&self) -> Report {
        verify_log(&self.path(), Some(&self.policy())).unwrap()
    }

    /// All files of the log by their paths.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(self.path()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        files.sort();
        files
    }

    /// All entries.
    pub fn entries(&self) -> Vec<Vec<u8>> {
        let size = self.policy().log.open(&self.checkpoint()).unwrap().size;
        let read = |tile: Tile| {
            let plain = bundle::unpack(&fs::read(self.path().join(tile.path())).unwrap()).unwrap();
            bundle::entries(&plain, tile.width).unwrap().into_iter().map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        crate::source::bundles(size, 0).flat_map(read).collect()
    }

    /// Writes another log in place of this one: everything that can be computed from these entries, signed with `key`.
    pub fn rewrite(&self, entries: &[Vec<u8>], key: &LogKey) {
        fs::remove_dir_all(self.path()).unwrap();
        let mut edge = Edge::default();
        let hashes = |tile: Tile, hashes: &[Hash]| write(&self.path(), &tile.path(), &tile_bytes(hashes));
        for entry in entries {
            edge.push(record_hash(entry), hashes);
        }
        let size = entries.len() as u64;
        for level in 0..=Level::HIGHEST {
            if let Some(tile) = Level::Hashes(level).partial_tile(size) {
                hashes(tile, edge.partial(level));
            }
        }
        for (tile, entries) in crate::source::bundles(size, 0).zip(entries.chunks(usize::from(FULL))) {
            write(&self.path(), &tile.path(), &pack(entries.iter().map(Vec::as_slice)));
        }
        write(&self.path(), "checkpoint", &key.sign(size, edge.root()).unwrap());
    }

    /// Drops bundles and level-0 tiles in front, as retention does.
    pub fn drop_bundles(&self, count: u64) {
        self.drop_bundles_from(0, count);
    }

    /// The same, where some were dropped before.
    pub fn drop_bundles_from(&self, first: u64, end: u64) {
        for index in first..end {
            for level in [Level::Entries, Level::Hashes(0)] {
                fs::remove_file(self.path().join(Tile::full(level, index).path())).unwrap();
            }
        }
    }

    /// What the street's authority publishes when it revokes the certificates of these speakers.
    pub fn revoking(&self, seq: u64, speakers: &[&Speaker]) -> Vec<u8> {
        revoking(&self.street, seq, speakers)
    }
}

/// What a street's authority publishes when it revokes the certificates of these speakers.
pub fn revoking(street: &Street, seq: u64, speakers: &[&Speaker]) -> Vec<u8> {
    let revoked = speakers.iter().map(|speaker| Revoked {
        serial: serial_of(&speaker.certificate).unwrap(),
        name: speaker.author.name().clone(),
    });
    let header = Header { from: revocation::authority_name(), session: Session(7), seq: Some(seq), time_ms: START };
    let body = Revocations { revoked: revoked.collect() };
    revocation::write(&Message { header, body }, &street.issuer).unwrap()
}

impl StreetLog {
    /// The entry of a notice.
    pub fn notice(&self, notice: &Notice) -> Vec<u8> {
        crate::entry::write(START, &Notice::topic(&self.policy().site), &notice.write())
    }
}

fn write(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
