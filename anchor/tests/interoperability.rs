//! What the recorder writes is read by an implementation that we did not write: golang.org/x/mod/sumdb, through the
//! program in `interoperability/`. It checks the checkpoint's signature, computes the tree from the bundles, compares
//! every tile, proves every entry, and that each checkpoint continues those before; and it checks proofs that we make.
//!
//! Needs Debian's packages `golang-go` and `golang-golang-x-mod-dev`; nothing is downloaded.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod street;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use grid_anchor::checkpoint::read_unsigned;
use grid_anchor::intake::{Arrival, Now};
use grid_anchor::policy::Policy;
use grid_anchor::proof::{Proof, prove};
use grid_anchor::recorder::Recorder;
use grid_anchor::source::Folder;
use grid_protocol::message::{Event, Role};
use grid_protocol::units::MilliWattHours;
use rand::Rng;
use street::{Speaker, Street, at, receive};

/// Where Debian's packages put Go's libraries.
const GOPATH: &str = "/usr/share/gocode";

/// Builds the program once for all tests.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interoperability");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interoperability/main.go");
        let build = Command::new("go")
            .args(["build", "-o"])
            .args([built.as_os_str(), source.as_ref()])
            .env("GO111MODULE", "off")
            .env("GOPATH", GOPATH)
            .env("GOFLAGS", "")
            .env("GOPROXY", "off")
            .env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache"))
            .output();
        let what = "this test needs Go and its libraries for transparency logs: apt-get install golang-go \
                    golang-golang-x-mod-dev";
        match build {
            Err(error) => panic!("{what} (go: {error})"),
            Ok(output) if !output.status.success() => {
                panic!("{what} (go build: {})", String::from_utf8_lossy(&output.stderr))
            }
            Ok(_) => built,
        }
    })
}

fn check(arguments: &[&str], files: &[PathBuf]) -> Output {
    Command::new(program()).args(arguments).args(files).output().unwrap()
}

fn accepts(arguments: &[&str], files: &[PathBuf]) -> String {
    let output = check(arguments, files);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn refuses(arguments: &[&str], files: &[PathBuf]) -> String {
    let output = check(arguments, files);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// A log that grows from checkpoint to checkpoint.
struct Log {
    folder: tempfile::TempDir,
    recorder: Recorder,
    device: Speaker,
    /// Copies of the checkpoints so far.
    checkpoints: Vec<PathBuf>,
    now: Now,
}

impl Log {
    fn new() -> Self {
        let (folder, street) = (street::folder(), Street::new());
        let recorder = street.recorder(&folder.path().join("data"), 201, at(0)).unwrap();
        let device = street.speaker("cp-1", Role::Device, 1);
        Self { folder, recorder, device, checkpoints: Vec::new(), now: at(0) }
    }

    fn path(&self) -> String {
        self.folder.path().join("data/log").to_str().unwrap().to_owned()
    }

    fn vkey(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("data/site.policy")).unwrap();
        Policy::read(&text).unwrap().log.vkey().to_owned()
    }

    /// Records all kinds of entries up to this size: signed ones, commands, and such as are not text.
    fn grow(&mut self, size: u64) {
        for index in self.recorder.progress().entries..size {
            let command = |payload| Arrival { topic: "grid/demo/cp-1/set/charging", payload, retained: false };
            match index {
                0 => receive(&mut self.recorder, &self.device.birth(), self.now),
                _ if index % 50 == 1 => receive(&mut self.recorder, &self.device.measurement(), self.now),
                _ if index % 50 == 2 => {
                    let energy_mwh = MilliWattHours(i64::try_from(index).unwrap());
                    receive(&mut self.recorder, &self.device.event(Event::ChargingEnded { energy_mwh }), self.now);
                }
                _ if index % 50 == 3 => self.recorder.receive(command(&vec![0xff; 70_000]), self.now).unwrap(),
                _ if index % 50 == 4 => self.recorder.receive(command(&[0xc0, 0, 0xff]), self.now).unwrap(),
                _ => self.recorder.receive(command(format!("ü {index}").as_bytes()), self.now).unwrap(),
            }
        }
        let later = self.now.boot.0 + 60_000 - at(0).boot.0;
        self.now = at(later);
        self.recorder.settle(self.now).unwrap();
        let checkpoint = fs::read(Path::new(&self.path()).join("checkpoint")).unwrap();
        assert_eq!(read_unsigned(&checkpoint).unwrap().head.size, size);
        let kept = self.folder.path().join(format!("checkpoint-{size}"));
        fs::write(&kept, checkpoint).unwrap();
        self.checkpoints.push(kept);
    }

    /// Proofs of these entries as files; those of messages with the device's certificate.
    fn prove(&self, indexes: impl Iterator<Item = u64>) -> Vec<PathBuf> {
        let (log, folder) = (PathBuf::from(self.path()), self.folder.path().join("proofs"));
        fs::create_dir_all(&folder).unwrap();
        let checkpoint = fs::read(log.join("checkpoint")).unwrap();
        let proofs = indexes.map(|index| {
            let certificate = Some(self.device.certificate.clone()).filter(|_| matches!(index % 50, 1 | 2));
            let proof = Proof { certificate, ..prove(&Folder::new(&log), &checkpoint, index).unwrap() };
            let file = folder.join(format!("{index}.tlog-proof"));
            fs::write(&file, proof.write()).unwrap();
            file
        });
        proofs.collect()
    }
}

#[test]
fn sumdb_accepts_logs_of_all_sizes_their_histories_and_their_proofs() {
    let mut log = Log::new();
    let random = rand::thread_rng().gen_range(301..3000);
    for size in [1, 2, 255, 256, 257, 300, random, 65_536 + 300] {
        log.grow(size);
        let said = accepts(&["log", &log.path(), &log.vkey()], &log.checkpoints);
        let checked = format!("{size} entries, ");
        assert!(said.starts_with(&checked), "{said}");
        assert!(said.ends_with(&format!(" {} older checkpoints", log.checkpoints.len())), "{said}");
        let all = log.prove((0..size).step_by(usize::try_from(size / 60 + 1).unwrap()).chain([size - 1]));
        assert_eq!(accepts(&["proofs", &log.vkey()], &all), format!("{} proofs", all.len()));
    }
}

#[test]
fn sumdb_refuses_a_log_in_which_one_bit_was_changed() {
    let mut log = Log::new();
    log.grow(256);
    log.grow(300);
    let (path, vkey) = (log.path(), log.vkey());
    let arguments = ["log", path.as_str(), vkey.as_str()];
    accepts(&arguments, &log.checkpoints);
    for file in [
        "checkpoint",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
        "../../checkpoint-256",
    ] {
        let file = Path::new(&path).join(file);
        let good = fs::read(&file).unwrap();
        for at in [good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&file, bad).unwrap();
            refuses(&arguments, &log.checkpoints);
        }
        fs::write(&file, good).unwrap();
    }
    accepts(&arguments, &log.checkpoints);

    // Another log of the same entries, signed by another key.
    let other = Log::new();
    refuses(&["log", &path, &other.vkey()], &log.checkpoints);
}

#[test]
fn sumdb_refuses_a_proof_in_which_anything_that_it_proves_was_changed() {
    let mut log = Log::new();
    log.grow(300);
    let (file, vkey) = (&log.prove(123..124)[0], log.vkey());
    let good = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = good.split('\n').collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().join("\n");
    let (second, last) = (lines[4], lines[11]);
    assert!(last.len() == 44 && lines[12].is_empty(), "{good}");
    for (what, bad) in [
        ("another index", good.replace("index 123", "index 124")),
        ("another spelling of the index", good.replace("index 123", "index 0123")),
        ("a hash is missing", without(4)),
        ("a hash is twice", good.replacen(second, &format!("{second}\n{second}"), 1)),
        ("hashes are swapped", good.replacen(second, "x", 1).replacen(last, second, 1).replacen('x', last, 1)),
        ("another size", good.replace("\n300\n", "\n301\n")),
        ("another entry", good.replacen(lines[1], proof_lines(&log, 124)[1].as_str(), 1)),
    ] {
        assert_ne!(bad, good, "{what}");
        fs::write(file, bad).unwrap();
        refuses(&["proofs", &vkey], std::slice::from_ref(file));
    }
}

fn proof_lines(log: &Log, index: u64) -> Vec<String> {
    let file = &log.prove(index..index + 1)[0];
    fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}
