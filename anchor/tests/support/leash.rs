//! An anchor that stands still at the step of a submission that a test wants, for as long as it wants.
//!
//! Its standard error is a pipe that holds one line, and it says nothing but these steps. So it stands at the line after
//! the one that nobody has read yet.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

/// A page, of which a pipe of packets holds one packet each.
const ONE_LINE: usize = 4096;
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What the anchor says of a record, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The signed bytes are on disk, and are handed in next.
    Signed,
    /// It was told that they are executed, and notes that next.
    Executed,
    /// That is on disk, and is told on next.
    Noted,
}

impl Line {
    fn next(self) -> Self {
        match self {
            Self::Signed => Self::Executed,
            Self::Executed => Self::Noted,
            Self::Noted => Self::Signed,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Signed => "adding a record: signed ",
            Self::Executed => " is on the ledger",
            Self::Noted => "adding a record: done",
        }
    }
}

/// The anchor as a process of its own.
pub struct Anchor {
    process: Child,
    says: OwnedFd,
    /// The line in the pipe.
    unread: Line,
}

impl Anchor {
    /// Starts it. The first line that it says is `first`, at which it stands.
    pub fn start(binary: &str, config: &Path, first: Line) -> Self {
        let (says, pipe) = pipe_with(PipeFlags::DIRECT | PipeFlags::CLOEXEC).unwrap();
        fcntl_setpipe_size(&pipe, ONE_LINE).unwrap();
        fcntl_setfl(&says, fcntl_getfl(&says).unwrap() | OFlags::NONBLOCK).unwrap();
        // As if the line before it had been said.
        let unread = first.next().next();
        rustix::io::write(&pipe, unread.text().as_bytes()).unwrap();
        let mut command = Command::new(binary);
        command.args(["run", "--config"]).arg(config).env("RUST_LOG", "off,grid_ledger::ledger=debug");
        let process = command.stdout(Stdio::null()).stderr(pipe).spawn().unwrap();
        Self { process, says, unread }
    }

    /// Lets it go on to where it would say this line, and stand there.
    pub async fn stand_at(&mut self, line: Line) {
        while self.unread.next() != line {
            assert!(self.pass().await, "it has ended");
        }
        while !self.stands() {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Lets it go on, as long as this is polled. Completes when it has ended.
    pub async fn go_on(&mut self) {
        while self.pass().await {}
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub async fn end(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).unwrap();
        self.go_on().await;
        self.process.wait().unwrap()
    }

    /// Takes the line out of the pipe, which makes room for the next. Says whether there was one.
    async fn pass(&mut self) -> bool {
        let mut buffer = [0; ONE_LINE];
        loop {
            match rustix::io::read(&self.says, &mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let said = String::from_utf8_lossy(&buffer[..length]);
                    assert!(said.contains(self.unread.text()), "not {:?}, but {said}", self.unread);
                    self.unread = self.unread.next();
                    return true;
                }
                Err(Errno::AGAIN) => sleep(LOOK_EVERY).await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Whether it waits to write to standard error: the system call's number and its first argument come first
    /// (proc_pid_syscall(5)).
    fn stands(&self) -> bool {
        let call = std::fs::read_to_string(format!("/proc/{}/syscall", self.process.id())).unwrap();
        call.split(' ').nth(1) == Some("0x2")
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
