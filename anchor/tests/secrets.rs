//! Nothing that the program says or writes down tells a key, whatever is wrong with its files and however much it logs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

#[path = "../ledger/tests/support/forms.rs"]
mod forms;
#[path = "support/node.rs"]
mod node;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use forms::{forms, key_in_pem};
use grid_anchor::keys::{export, import};
use grid_anchor::settings::LedgerSettings;
use grid_ledger::{MOST_NANOS_PER_RECORD, Network};
use grid_protocol::units::Millis;
use node::Node;
use rustix::process::{Pid, Signal, kill_process};
use support::Site;

const PASSPHRASE: &str = "correct horse battery staple";
const WRONG: &str = "incorrect horse battery staple";

struct Bench {
    site: Site,
    node: Node,
    config: PathBuf,
    said: String,
}

impl Bench {
    async fn new() -> Self {
        let site = Site::start().await;
        let node = Node::start(&site.folder.path().join("mock.state")).await;
        let config = site.anchor_config_with(|settings| {
            settings.ledger = Some(LedgerSettings {
                network: Network::Mock,
                interval_ms: Some(Millis(1000)),
                on_event: true,
                grpc: vec![node.url()],
                most_nanos_per_record: MOST_NANOS_PER_RECORD,
            });
        });
        for (file, passphrase) in [("right", PASSPHRASE), ("wrong", WRONG), ("short", "horse")] {
            fs::write(site.folder.path().join(file), passphrase).unwrap();
        }
        Self { site, node, config, said: String::new() }
    }

    fn path(&self, name: &str) -> String {
        self.site.folder.path().join(name).display().to_string()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grid-anchor"));
        command.args(arguments).env("RUST_LOG", "trace").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program, and keeps what it says. Returns whether it went well.
    fn says(&mut self, arguments: &[&str]) -> bool {
        let output = self.command(arguments).output().unwrap();
        self.said += &String::from_utf8(output.stdout).unwrap();
        self.said += &String::from_utf8(output.stderr).unwrap();
        output.status.success()
    }

    fn init(&mut self) -> bool {
        let (ca, dir, url) = (self.path("ca.der"), self.path("data"), self.node.url());
        self.says(&["init", "--network", "mock", "--site", "demo", "--ca", &ca, "--data-dir", &dir, "--grpc", &url])
    }

    fn keys(&mut self, what: &str, file: &str, passphrase: &str, data_dir: &str) -> bool {
        let (file, passphrase, dir) = (self.path(file), self.path(passphrase), self.path(data_dir));
        self.says(&["keys", what, &file, "--data-dir", &dir, "--passphrase-file", &passphrase])
    }

    /// Two seconds of an anchor.
    async fn run(&mut self) -> bool {
        let mut anchor = self.command(&["run", "--config"]);
        let anchor = anchor.arg(&self.config).spawn().unwrap();
        let id = Pid::from_child(&anchor);
        let output = tokio::task::spawn_blocking(|| anchor.wait_with_output().unwrap());
        tokio::time::sleep(Duration::from_secs(2)).await;
        // One that could not start has ended by itself.
        let _ = kill_process(id, Signal::TERM);
        let output = output.await.unwrap();
        self.said += &String::from_utf8(output.stdout).unwrap();
        self.said += &String::from_utf8(output.stderr).unwrap();
        output.status.success()
    }
}

/// The keys in `data_dir`, and the one that the anchor speaks with.
fn keys(bench: &Bench) -> Vec<[u8; 32]> {
    let read = |file: &str| fs::read_to_string(bench.path(file)).unwrap();
    let log = read("data/log.key");
    // PRIVATE+KEY+<name>+<hash>+<base64 of an algorithm byte and the key> (C2SP signed-note).
    let log = STANDARD.decode(log.trim().splitn(5, '+').last().unwrap()).unwrap();
    let pems = ["data/ledger.key", "data/message.key", "anchor-1.key"];
    let mut keys = vec![*log.last_chunk().unwrap()];
    keys.extend(pems.map(|file| key_in_pem(&read(file))));
    keys
}

/// What is in the files of a folder but those of keys.
fn contents(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            all += &contents(&path);
        } else if path.extension().is_none_or(|extension| extension != "key") {
            all += &String::from_utf8_lossy(&fs::read(path).unwrap());
        }
    }
    all
}

/// A file with a key, damaged in several ways, of which most leave the most of the key in it.
fn damaged(good: &str) -> Vec<String> {
    let middle = good.len() / 2;
    vec![
        good[..middle].to_owned(),
        good[..good.trim_end().len() - 1].to_owned(),
        format!("{}!{}", &good[..middle], &good[middle + 1..]),
        good.replace('+', "-").replace("-----", "+++++"),
        format!("{good}{good}"),
        format!("\u{feff}{good}"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_logs_nor_errors_nor_any_other_file_tell_a_key() {
    let mut bench = Bench::new().await;
    assert!(bench.init());
    let forms: Vec<_> = keys(&bench).iter().flat_map(forms).collect();
    assert!(bench.run().await, "{}", bench.said);
    let config = bench.config.display().to_string();
    assert!(bench.says(&["run", "--print-config", "--config", &config]));
    let data = bench.path("data");
    assert!(bench.says(&["fsck", "--data-dir", &data]));
    assert!(bench.keys("export", "exported", "right", "data"));
    assert!(!bench.keys("export", "exported", "right", "data"), "it is there already");
    assert!(!bench.keys("export", "other", "short", "data"));
    assert!(!bench.keys("import", "exported", "wrong", "elsewhere"));
    assert!(bench.keys("import", "exported", "right", "elsewhere"));
    let folder = bench.site.folder.path().to_owned();
    let mut files = contents(&folder);

    for key in ["log.key", "message.key", "ledger.key"] {
        let path = folder.join("data").join(key);
        let good = fs::read_to_string(&path).unwrap();
        for damaged in damaged(&good) {
            fs::write(&path, damaged).unwrap();
            bench.keys("export", &format!("of a damaged {}", key.replace('.', " ")), "right", "data");
            bench.init();
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(!bench.keys("export", "of half a key", "right", "data"));
        assert!(!bench.keys("import", "exported", "right", "data"));
        let errors = in_debug(&bench);
        bench.said += &errors;
        if key != "message.key" {
            assert!(!bench.run().await, "it began without {key}");
        }
        fs::write(&path, good).unwrap();
    }
    // The key that it speaks with, in a file that is given.
    let speaks = folder.join("anchor-1.key");
    let good = fs::read_to_string(&speaks).unwrap();
    fs::write(&speaks, &good[..good.len() / 2]).unwrap();
    assert!(!bench.run().await);
    fs::write(&speaks, good).unwrap();
    files += &contents(&folder);

    let Bench { said, .. } = bench;
    assert!(said.contains("TRACE") && said.contains("cannot be decrypted"), "it was listened to");
    for form in &forms {
        assert!(!said.contains(form), "it says {form:?}");
        assert!(!files.contains(form), "a file has {form:?}");
    }
    for passphrase in [PASSPHRASE, WRONG] {
        assert!(!said.contains(passphrase));
    }
}

/// Errors and settings as a program that uses the library could print them.
fn in_debug(bench: &Bench) -> String {
    let (data, elsewhere) = (bench.site.data_dir(), PathBuf::from(bench.path("third")));
    let exported = fs::read(bench.path("exported")).unwrap();
    let settings = grid_anchor::settings::Settings::load(&bench.config).unwrap();
    let identity = settings.identity.as_ref().unwrap().read();
    let refused = [export(&data, PASSPHRASE).err(), import(&exported, WRONG, &elsewhere).err()];
    format!("{refused:?} {refused:#?} {settings:?} {identity:?} {identity:#?}")
}
