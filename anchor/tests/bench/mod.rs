//! A mock ledger, and a site whose log is notarized on it.

#![allow(dead_code, reason = "each test file uses another part")]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use grid_anchor::initialise::initialise;
use grid_anchor::intake::{Arrival, Now};
use grid_anchor::notary::{News, Notary, NotarySettings, Trail};
use grid_anchor::policy::Policy;
use grid_anchor::recorder::{AnchorIdentity, Recorder, RecorderSettings};
use grid_anchor::verify::{LedgerFailure, LedgerReport, Report, verify_ledger};
use grid_durable::Stop;
use grid_ledger::{Endpoints, IotaLedger, Ledger, MOST_NANOS_PER_RECORD, TrailReader, mock};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{LedgerReceipt, Role, Session};
use grid_protocol::topic::Name;
use grid_protocol::units::{BootTime, Millis, UnixMillis};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub const START: u64 = 1_800_000_000_000;

/// A mock ledger, and a site whose log it notarizes.
pub struct Bench {
    pub folder: TempDir,
    pub site: Name,
    pub issuer: Issuer,
    pub key: SigningKey,
    pub endpoints: Endpoints,
    pub mock: JoinHandle<()>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.mock.abort();
    }
}

pub async fn start_mock(state: PathBuf) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { mock::run(listener, &state, std::future::pending()).await.unwrap() }))
}

impl Bench {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (address, mock) = start_mock(folder.path().join("mock.state")).await;
        let site: Name = "demo".parse().unwrap();
        let issuer = Issuer::create(&site, UnixMillis(START)).unwrap();
        let key = SigningKey::from_bytes(&[5; 32]);
        Self { folder, site, issuer, key, endpoints: Endpoints::mock(address), mock }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn initialise(&self, data_dir: &Path) {
        let site = (&self.site, None);
        initialise(data_dir, site, &self.issuer.authority(), &self.endpoints, None).await.unwrap();
    }

    pub fn notary(&self, data_dir: &Path) -> NotarySettings {
        let (folder, endpoints, interval) = (data_dir.to_owned(), self.endpoints.clone(), Millis(1000));
        NotarySettings { folder, endpoints, interval, on_event: true, most_nanos_per_record: MOST_NANOS_PER_RECORD }
    }

    /// The trail as a starting anchor finds it.
    pub async fn trail(&self, data_dir: &Path) -> Trail {
        let mut notary = Notary::start(self.notary(data_dir));
        let news = notary.news().await;
        notary.close().await;
        match news {
            News::Opened(trail) => trail,
            other => panic!("{other:?}"),
        }
    }

    pub fn recorder(&self, data_dir: &Path) -> Recorder {
        let name: Name = "anchor-1".parse().unwrap();
        let identity =
            Identity { site: self.site.clone(), role: Role::Anchor, name: name.clone(), key: self.key.verifying_key() };
        let (certificate, _) = self.issuer.issue(&identity, UnixMillis(START)).unwrap();
        let identity =
            AnchorIdentity { message_key: self.key.clone(), certificate, authority: self.issuer.authority() };
        let (commit, checkpoint) = (Millis(1000), Millis(1_000_000));
        let settings = RecorderSettings {
            site: self.site.clone(),
            name,
            commit,
            checkpoint,
            min_free_mb: 0,
            origin: None,
            retention: Default::default(),
        };
        Recorder::open(data_dir, settings, identity, Session(1), Stop::never(), at(0)).unwrap()
    }

    /// Logs commands with these values, and notarizes the log after each of them.
    pub async fn log_and_notarize(&self, data_dir: &Path, values: &[&str]) -> Vec<String> {
        let mut recorder = self.recorder(data_dir);
        recorder.tie(self.trail(data_dir).await).unwrap();
        let mut ledger = IotaLedger::open(data_dir, &self.endpoints).await.unwrap();
        let mut texts = Vec::new();
        for (minute, value) in (1..).zip(values) {
            log(&mut recorder, minute, value);
            let record = recorder.record_for_ledger(at(minute)).unwrap().unwrap();
            ledger.append(&record).await.unwrap();
            recorder.notarized(&record.text, receipt(), at(minute)).unwrap();
            texts.push(record.text);
        }
        texts
    }

    pub fn policy(&self, data_dir: &Path) -> Policy {
        Policy::read(&fs::read_to_string(data_dir.join("site.policy")).unwrap()).unwrap()
    }

    pub async fn verify(&self, data_dir: &Path) -> Result<(Report, Option<LedgerReport>), LedgerFailure> {
        let policy = self.policy(data_dir);
        let trail = policy.trail.clone().unwrap();
        let reader = TrailReader::open(&self.endpoints, Some(&trail.chain), trail.trail).await?;
        verify_ledger(&data_dir.join("log"), &policy, &reader).await
    }

    /// An empty folder with the log's own key and policy.
    pub fn with_the_true_key(&self, data_dir: &Path) -> PathBuf {
        let forged = self.path("forged");
        fs::create_dir_all(&forged).unwrap();
        for file in ["log.key", "site.policy"] {
            fs::copy(data_dir.join(file), forged.join(file)).unwrap();
        }
        forged
    }

    /// Runs the program over and over and kills it each time a little later, until it is done before that.
    pub async fn kill_ever_later(&self, arguments: &[&str]) {
        let mut kills = 0;
        for millis in (0..).step_by(4) {
            let mut child = Command::new(env!("CARGO_BIN_EXE_grid-anchor")).args(arguments).spawn().unwrap();
            sleep(Duration::from_millis(millis)).await;
            if child.try_wait().unwrap().is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert!(kills > 1, "it was done before it could be killed");
    }

    pub fn anchor(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_grid-anchor")).args(arguments).output().unwrap()
    }
}

pub fn receipt() -> LedgerReceipt {
    let text = String::new;
    let (network, trail, transaction, explorer) = (text(), text(), text(), text());
    LedgerReceipt { network, trail, record: 0, tree_size: 0, transaction, added_ms: UnixMillis(0), explorer }
}

pub fn at(minute: u64) -> Now {
    Now { unix: UnixMillis(START + minute * 60_000), boot: BootTime(minute * 60_000) }
}

pub fn log(recorder: &mut Recorder, minute: u64, value: &str) {
    let arrival = Arrival { topic: "grid/demo/trafo-1/set/limit", payload: value.as_bytes(), retained: false };
    recorder.receive(arrival, at(minute)).unwrap();
    recorder.settle(at(minute)).unwrap();
}

/// What the mock's first page says, without its tags.
pub fn front_page(address: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    page
}

pub fn log_and_checkpoint(recorder: &mut Recorder, minute: u64, value: &str) {
    log(recorder, minute, value);
    recorder.record_for_ledger(at(minute)).unwrap();
}
