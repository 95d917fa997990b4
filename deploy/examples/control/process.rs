//! The transformer in a process of its own, so that its processor time and memory can be told apart.
//!
//! The parent starts its own program with the argument [`ARGUMENT`], writes one line of JSON ([`Orders`]) to its standard
//! input and then one line with three currents per reading. The child ends when its standard input does.

use std::io::{BufRead, BufReader, Lines, Stdin, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use ed25519_dalek::SigningKey;
use grid_agent::run::{Credentials, TransformerSettings, run_transformer};
use grid_protocol::identity::Authority;
use grid_protocol::topic::Name;
use grid_protocol::units::MilliAmps;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::Failure;
use crate::meters::Scripted;
use crate::site::{Street, common};

pub const ARGUMENT: &str = "transformer";
/// Linux tells processor time in hundredths of a second (`USER_HZ`, proc(5)).
const MILLIS_PER_TICK: u64 = 10;

/// What the child is to be.
#[derive(Serialize, Deserialize)]
struct Orders {
    port: u16,
    site: Name,
    name: Name,
    certificate: Vec<u8>,
    key: [u8; 32],
    authority: Vec<u8>,
    street: Street,
}

/// The child, ended when dropped.
pub struct TransformerProcess {
    child: Child,
    orders: ChildStdin,
}

impl Drop for TransformerProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl TransformerProcess {
    pub fn start(credentials: Credentials, port: u16, street: Street) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?).arg(ARGUMENT).stdin(Stdio::piped()).spawn()?;
        let Some(mut orders) = child.stdin.take() else { return Err("the transformer has no standard input".into()) };
        let Credentials { site, name, certificate, key, authority } = credentials;
        let (key, authority) = (key.to_bytes(), authority.der().to_vec());
        let line = serde_json::to_string(&Orders { port, site, name, certificate, key, authority, street })?;
        writeln!(orders, "{line}")?;
        Ok(Self { child, orders })
    }

    /// Gives its meter a reading.
    pub fn read(&mut self, currents: [i64; 3]) -> Result<(), Failure> {
        writeln!(self.orders, "{}", serde_json::to_string(&currents)?)
            .map_err(|error| format!("the transformer's process does not listen any more: {error}").into())
    }

    /// Processor time used so far, in milliseconds.
    pub fn processor_ms(&self) -> Result<u64, Failure> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in brackets may hold spaces. utime and stime are the 14th and 15th field; the 3rd comes after it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| -> Result<u64, Failure> {
            Ok(fields.get(place).ok_or("/proc/…/stat is too short")?.parse()?)
        };
        Ok((ticks(11)? + ticks(12)?) * MILLIS_PER_TICK)
    }

    /// Resident memory in kilobytes.
    pub fn resident_kb(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/…/status")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// What the child does: the same as the agent's program, on one thread.
pub fn run() -> Result<(), Failure> {
    let mut lines = BufReader::new(std::io::stdin()).lines();
    let orders: Orders = serde_json::from_str(&lines.next().ok_or("no orders on standard input")??)?;
    let Orders { port, site, name, certificate, key, authority, street } = orders;
    let authority = Authority::from_der(&authority)?;
    let credentials = Credentials { site, name, certificate, key: SigningKey::from_bytes(&key), authority };
    let plan = street.plan()?;
    let settings = TransformerSettings::new(plan);
    let (script, meter) = Scripted::new();
    let (over, told) = oneshot::channel::<()>();
    thread::Builder::new().spawn(move || {
        // The meter may have ended before; the process then ends anyway.
        let _ = follow(lines, &script);
        drop(over);
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            _ = told => Ok(()),
            result = run_transformer(common(credentials, port, None)?, settings, Box::new(meter), std::future::pending()) => {
                result.map(|_| ()).map_err(Failure::from)
            }
        }
    })
}

fn follow(lines: Lines<BufReader<Stdin>>, script: &Sender<[MilliAmps; 3]>) -> Result<(), Failure> {
    for line in lines {
        script.send(serde_json::from_str(&line?)?)?;
    }
    Ok(())
}
