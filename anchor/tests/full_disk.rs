//! An anchor on a small disk of its own that somebody else fills: control and anchor go on, and nothing is lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grid_anchor::settings::Settings;
use grid_anchor::show::{Selection, show};
use grid_durable::{Disk, SystemDisk};
use grid_service::link::{Delivery, Incoming, Link};
use rustix::process::{Pid, Signal, kill_process};
use support::{Site, everything_is_there_once, name};

const MB: u64 = 1_000_000;

/// Mounts a disk of 12 MB in a mount namespace of its own, runs the anchor there, and copies what is on it when it ended.
const SCRIPT: &str = r#"
    mount -t tmpfs -o size=12m tmpfs "$1" || exit 9
    "$3" run --config "$4" &
    echo $! > "$5.new" && mv "$5.new" "$5"
    wait $!
    code=$?
    rm -f "$1/filler"
    cp -a "$1" "$2"
    exit $code
"#;

struct SmallDisk {
    shell: Child,
    anchor: Pid,
    root: PathBuf,
}

impl SmallDisk {
    fn start(site: &Site, config: &Path) -> Self {
        let pid_file = site.folder.path().join("pid");
        fs::create_dir(site.data_dir()).unwrap();
        let mut shell = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT, "sh"])
            .args([&site.data_dir(), &site.folder.path().join("copy")])
            .arg(env!("CARGO_BIN_EXE_grid-anchor"))
            .args([config, &pid_file])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !pid_file.exists() {
            assert!(Instant::now() < deadline && shell.try_wait().unwrap().is_none(), "it did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
        let root = PathBuf::from(format!("/proc/{}/root", shell.id()));
        let root = root.join(site.data_dir().strip_prefix("/").unwrap());
        Self { shell, anchor: Pid::from_raw(pid).unwrap(), root }
    }

    fn is_running(&mut self) -> bool {
        self.shell.try_wait().unwrap().is_none()
    }

    fn free(&self) -> u64 {
        SystemDisk.free_bytes(&self.root).unwrap()
    }

    /// Leaves so much room, or a little less.
    fn fill_up_to(&self, left: u64) {
        let mut filler = File::options().create(true).append(true).open(self.root.join("filler")).unwrap();
        while self.free() > left {
            match filler.write_all(&[0; 4096]) {
                Err(error) if error.kind() == ErrorKind::StorageFull => return,
                written => written.unwrap(),
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.root.join("filler")).unwrap();
    }

    /// Ends the anchor, and puts what is on its disk where the site has its log.
    fn end(&mut self, site: &Site) {
        kill_process(self.anchor, Signal::TERM).unwrap();
        assert!(self.shell.wait().unwrap().success());
        fs::remove_dir(site.data_dir()).unwrap();
        fs::rename(site.folder.path().join("copy"), site.data_dir()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process(self.anchor, Signal::KILL);
            let _ = self.shell.wait();
        }
    }
}

/// Whether this machine lets a user mount something that only its own processes see.
fn may_mount() -> bool {
    let arguments = ["--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
    Command::new("unshare").args(arguments).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// An anchor on a small disk of which 4 MB must stay free. `None` where that cannot be tried.
fn start_small(site: &Site) -> Option<SmallDisk> {
    if !may_mount() {
        eprintln!("not tested on a real disk: this machine allows no mounts in a namespace of one's own");
        return None;
    }
    let config = site.anchor_config();
    let mut settings: Settings = toml::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    settings.log.min_free_mb = 4;
    fs::write(&config, toml::to_string(&settings).unwrap()).unwrap();
    Some(SmallDisk::start(site, &config))
}

/// What stands in the log on one device's topics.
fn logged(log: &Path, device: &str, kind: Option<&str>) -> Vec<String> {
    let mut said = Vec::new();
    let selection = Selection { device: Some(name(device)), kind: kind.map(str::to_owned), ..Default::default() };
    show(log, &selection, |line| {
        said.push(line.message.clone());
        true
    })
    .unwrap();
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_broker_keeps_is_logged_once_there_is_room_again() {
    let site = Site::start().await;
    let Some(mut disk) = start_small(&site) else { return };
    let (link, mut incoming) = Link::open(&site.broker(), &name("guest-1"), vec!["grid/demo/#".to_owned()]);
    let mut said = async |text: &str| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let happened = tokio::time::timeout(left, incoming.recv()).await.unwrap_or_else(|_| panic!("no {text}"));
            if let Some(Incoming::Message(received)) = happened
                && String::from_utf8_lossy(&received.payload).contains(text)
            {
                return;
            }
        }
    };
    said("online").await;
    disk.fill_up_to(3 * MB);
    said("disk_low").await;
    link.publish("grid/demo/guest-1/status", b"kept".to_vec(), Delivery::AssuredRetained).unwrap();
    link.publish("grid/demo/guest-1/set/x", b"lost".to_vec(), Delivery::Assured).unwrap();
    said("lost").await;
    disk.empty();
    said("disk_recovered").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while !logged(&disk.root.join("log"), "guest-1", None).iter().any(|said| said.contains("kept")) {
        assert!(Instant::now() < deadline, "what the broker keeps was not logged");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    disk.end(&site);
    let logged = logged(&site.log(), "guest-1", None);
    let count = |text: &str| logged.iter().filter(|said| said.contains(text)).count() as u64;
    assert_eq!(count("kept"), 1, "{logged:?}");
    // Counted as not logged: the command, and what is kept, when it was said. If the machine is slow, the anchor may have
    // heard either when there was room already.
    let heard = count("lost") + site.verify().messages.not_logged;
    assert!((1..=2).contains(&heard), "{heard}: {logged:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_filled_and_emptied_costs_no_message() {
    let site = Site::start().await;
    let Some(mut disk) = start_small(&site) else { return };
    let mut device = site.device("cp-1", 1);
    device.live(100, Duration::from_secs(1)).await;
    device.until_acknowledged().await;

    // Nearly full: there is room for what the anchor says of it.
    disk.fill_up_to(3 * MB);
    device.live(0, Duration::from_millis(1500)).await;
    device.live(50, Duration::from_millis(1500)).await;
    assert!(disk.is_running() && device.unacknowledged() > 0);
    disk.empty();
    device.until_acknowledged().await;

    // Full in the middle of the work.
    for _ in 0..2 {
        disk.fill_up_to(0);
        assert_eq!(disk.free(), 0);
        device.live(200, Duration::from_millis(2500)).await;
        assert!(disk.is_running() && device.unacknowledged() > 0);
        disk.empty();
        device.until_acknowledged().await;
    }

    disk.end(&site);
    everything_is_there_once(&site, &device);
    let events = logged(&site.log(), "anchor-1", Some("event"));
    let count = |event: &str| events.iter().filter(|said| said.contains(event)).count();
    assert!(count("disk_low") >= 1 && count("disk_recovered") >= 2, "{events:?}");
}
