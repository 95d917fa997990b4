//! The program serves its log while it grows, and says how it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use grid_anchor::bundle;
use grid_anchor::checkpoint::Head;
use grid_anchor::http::HttpSettings;
use grid_anchor::policy::Policy;
use grid_anchor::settings::Settings;
use grid_anchor::tile::{Level, Tile};
use grid_anchor::tree::{Edge, tile_bytes};
use rustix::process::{Pid, Signal, kill_process};
use support::Site;
use tlog_tiles::record_hash;

const BINARY: &str = env!("CARGO_BIN_EXE_grid-anchor");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An anchor with a token for its entries, and the address at which it says that it serves the log.
fn start(config: &Path) -> (Child, String) {
    let mut anchor = Command::new(BINARY)
        .args(["run", "--config"])
        .arg(config)
        .env("RUST_LOG", "info")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(anchor.stderr.take().unwrap()).lines();
    let address = lines
        .find_map(|line| {
            let line = line.unwrap();
            Some(line.split_once("serving the log at http://")?.1.trim_end_matches('/').to_owned())
        })
        .unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    (anchor, address)
}

fn config(site: &Site) -> std::path::PathBuf {
    let config = site.anchor_config();
    let mut settings: Settings = toml::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    let token_file = site.folder.path().join("token");
    fs::write(&token_file, TOKEN).unwrap();
    settings.http = Some(HttpSettings { listen: "127.0.0.1:0".parse().unwrap(), token_file: Some(token_file) });
    fs::write(&config, toml::to_string(&settings).unwrap()).unwrap();
    config
}

/// A reader that keeps its connection, as a verifier does.
struct Reader {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Reader {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), address: address.to_owned() }
    }

    fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        let request =
            format!("GET /{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n", self.address);
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }

    fn must_get(&mut self, tile: Tile, head: &Head) -> Vec<u8> {
        let (status, body) = self.get(&tile.path());
        assert_eq!(status, 200, "{} of {}: {}", tile.path(), head.size, String::from_utf8_lossy(&body));
        body
    }

    /// Reads all of the log under a checkpoint, and computes everything again.
    fn check(&mut self, head: &Head) {
        let mut edge = Edge::default();
        let mut full = Vec::new();
        for index in 0..head.size.div_ceil(256) {
            let width = (head.size - index * 256).min(256) as u16;
            let file = self.must_get(Tile { level: Level::Entries, index, width }, head);
            let plain = bundle::unpack(&file).unwrap();
            for entry in bundle::entries(&plain, width).unwrap() {
                edge.push(record_hash(entry), |tile, hashes| full.push((tile, tile_bytes(hashes))));
            }
        }
        assert_eq!(edge.root(), head.root);
        let partial = Level::of(head.size).filter_map(|level| level.partial_tile(head.size));
        for tile in partial {
            if let Level::Hashes(level) = tile.level {
                full.push((tile, tile_bytes(edge.partial(level))));
            }
        }
        for (tile, bytes) in full {
            assert_eq!(self.must_get(tile, head), bytes, "{}", tile.path());
        }
    }
}

fn status(config: &Path) -> (Output, serde_json::Value) {
    let output = Command::new(BINARY).args(["status", "--json", "--config"]).arg(config).output().unwrap();
    let json = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output, json)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_grows_is_whole_under_each_checkpoint_that_it_serves() {
    let site = Site::start().await;
    let config = config(&site);
    let (unstarted, _) = status(&config);
    assert_eq!(unstarted.status.code(), Some(2), "{unstarted:?}");

    let (mut anchor, address) = start(&config);
    let policy = Policy::read(&fs::read_to_string(site.policy()).unwrap()).unwrap();
    let reader = std::thread::spawn(move || {
        let mut reader = Reader::connect(&address);
        let mut heads: Vec<Head> = Vec::new();
        while heads.last().is_none_or(|head| head.size < 700) {
            let head = policy.log.open(&reader.get("checkpoint").1).unwrap();
            if heads.last() != Some(&head) {
                reader.check(&head);
                heads.push(head);
            }
        }
        // What older checkpoints promised is still there.
        for head in &heads {
            reader.check(head);
        }
        assert_eq!(reader.get("healthz"), (200, b"ok\n".to_vec()));
        let figures = String::from_utf8(reader.get("metrics").1).unwrap();
        let entries = figures.lines().find_map(|line| line.strip_prefix("grid_anchor_entries ")).unwrap();
        assert!(entries.parse::<u64>().unwrap() >= 700, "{figures}");
        heads.len()
    });
    let mut device = site.device("cp-1", 1);
    while !reader.is_finished() {
        device.live(40, Duration::from_millis(150)).await;
    }
    assert!(reader.join().unwrap() > 2);

    let (running, json) = status(&config);
    assert_eq!(running.status.code(), Some(0), "{running:?}");
    assert_eq!((&json["running"], &json["problems"]), (&true.into(), &serde_json::json!([])));
    kill_process(Pid::from_child(&anchor), Signal::TERM).unwrap();
    assert!(anchor.wait().unwrap().success());
    let (stopped, json) = status(&config);
    assert_eq!(stopped.status.code(), Some(1), "{stopped:?}");
    assert_eq!((&json["running"], &json["logged"]), (&false.into(), &json["checkpoint_size"]));
    let printed = Command::new(BINARY).args(["status", "--config"]).arg(&config).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("ATTENTION: no anchor runs on"), "{printed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_or_a_token_that_is_none_stops_the_anchor_before_it_starts() {
    let site = Site::start().await;
    let config = config(&site);
    let run = || Command::new(BINARY).args(["run", "--config"]).arg(&config).output().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("127.0.0.1:0", &listen.to_string())).unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("cannot listen on http.listen = {listen}")), "{said}");
    assert!(!site.data_dir().exists());

    fs::write(site.folder.path().join("token"), "short\n").unwrap();
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("retention_days = 30", "retention_days = 99999"))
        .unwrap();
    let said = String::from_utf8_lossy(&run().stderr).into_owned();
    assert!(said.contains("is no token") && said.contains("retention_days = 99999"), "{said}");
}
