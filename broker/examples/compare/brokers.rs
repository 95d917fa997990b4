//! The two brokers, each in a process of its own.
//!
//! Ours is this program: it is started with a hidden argument, prints its address as one line, and ends when its
//! standard input does, so that it never outlives who started it.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use grid_broker::{Access, Limits};
use tokio::sync::oneshot;

use crate::{Failure, client};

/// What this program is when it starts itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Our broker with its default limits.
    Default,
    /// Our broker with room for a thousand clients that may each send as much as they like.
    Raised,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Raised => "raised",
        }
    }

    fn limits(self) -> Limits {
        match self {
            Self::Default => Limits::default(),
            Self::Raised => Limits {
                max_clients: 1200,
                messages_per_second: 100_000_000,
                messages_burst: 100_000_000,
                bytes_per_second: 100_000_000_000,
                bytes_burst: 100_000_000_000,
                ..Limits::default()
            },
        }
    }
}

/// A running broker, ended when dropped.
pub struct Broker {
    pub address: SocketAddr,
    child: Child,
    config: Option<PathBuf>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(config) = &self.config {
            let _ = std::fs::remove_file(config);
        }
    }
}

/// Starts ours, and mosquitto if it is installed.
pub fn start(role: Role) -> Result<Vec<Broker>, Failure> {
    let mut brokers = vec![ours(role)?];
    match mosquitto()? {
        Some(mosquitto) => brokers.push(mosquitto),
        None => println!("  mosquitto is not installed: nothing to compare with"),
    }
    Ok(brokers)
}

/// Starts ours.
fn ours(role: Role) -> Result<Broker, Failure> {
    let mut child =
        Command::new(std::env::current_exe()?).arg(role.name()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take();
    let mut broker = Broker { address: SocketAddr::from(([127, 0, 0, 1], 0)), child, config: None };
    let mut line = String::new();
    BufReader::new(output.ok_or("the broker has no standard output")?).read_line(&mut line)?;
    broker.address = line.trim().parse().map_err(|_| "the broker did not say where it listens")?;
    Ok(broker)
}

/// Starts mosquitto; `None` if it is not installed.
fn mosquitto() -> Result<Option<Broker>, Failure> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = std::env::temp_dir().join(format!("compare-{}-{}.conf", std::process::id(), address.port()));
    // By default it would drop what is queued beyond a thousand messages, and write a log.
    let settings = "set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 500\nlog_dest none\n";
    let listen = format!("listener {} 127.0.0.1\nallow_anonymous true\n", address.port());
    std::fs::write(&config, [settings, &listen].concat())?;
    // Debian keeps it where only root's PATH leads.
    let debian = "/usr/sbin/mosquitto";
    let program = if Path::new(debian).exists() { debian } else { "mosquitto" };
    let started = Command::new(program).arg("-c").arg(&config).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
    let Ok(child) = started else {
        std::fs::remove_file(&config)?;
        return Ok(None);
    };
    let broker = Broker { address, child, config: Some(config) };
    for _ in 0..100 {
        if client::connect(address, "compare-waiting").is_ok() {
            return Ok(Some(broker));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err("mosquitto did not start".into())
}

/// Linux tells processor time in hundredths of a second (`USER_HZ`, proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of a process.
#[derive(Clone, Copy)]
pub struct Memory {
    pub now_mb: f64,
    pub most_mb: f64,
}

impl Broker {
    /// Its memory, as Linux tells it (proc(5)).
    pub fn memory(&self) -> Result<Memory, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let megabytes = |name: &str| -> Result<f64, Failure> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no memory in /proc/…/status")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok(Memory { now_mb: megabytes("VmRSS:")?, most_mb: megabytes("VmHWM:")? })
    }

    /// Processor time that it has used so far. Unlike the rates, it depends little on what else the machine does.
    pub fn processor(&self) -> Result<Duration, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may hold spaces. utime and stime are the 14th and 15th field; the 3rd comes after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| -> Result<u32, Failure> {
            Ok(fields.get(place).ok_or("/proc/…/stat is too short")?.parse()?)
        };
        Ok(TICK * (ticks(11)? + ticks(12)?))
    }
}

/// What the child does: a broker until its standard input ends.
pub fn run(role: Role) -> Result<(), Failure> {
    let (over, told) = oneshot::channel::<()>();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        drop(over);
    });
    tokio::runtime::Runtime::new()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let stopped = async {
            let _ = told.await;
        };
        Ok(grid_broker::run(listener.into(), role.limits(), Access::open(), stopped).await?)
    })
}
