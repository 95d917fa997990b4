//! What a service tells systemd about itself (sd_notify(3), sd_watchdog_enabled(3)). Without systemd it says nothing.
//!
//! A datagram of a few bytes on a Unix socket: that needs no crate.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The service manager of the unit that this process is the main process of, if it is one's. Several of them in one process
/// speak for the same unit.
#[derive(Debug)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    /// How often the watchdog that `WatchdogSec=` asks for is told of life.
    every: Option<Duration>,
    told: Option<Instant>,
    /// What it did not hear yet.
    unheard: Vec<String>,
}

impl Systemd {
    /// The one that started this process.
    pub fn of_this_process() -> Self {
        let variable = |name| std::env::var_os(name);
        let Some(socket) = variable("NOTIFY_SOCKET") else { return Self::none() };
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let bites_after = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        Self::at(&socket, bites_after).unwrap_or_else(|error| {
            tracing::warn!(?socket, %error, "systemd cannot be told anything");
            Self::none()
        })
    }

    fn none() -> Self {
        Self { socket: None, every: None, told: None, unheard: Vec::new() }
    }

    /// One at this socket; one that begins with `@` is abstract.
    fn at(socket: &OsStr, bites_after: Option<Duration>) -> io::Result<Self> {
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(socket)?,
        };
        let datagram = UnixDatagram::unbound()?;
        datagram.connect_addr(&address)?;
        // Control does not wait for systemd.
        datagram.set_nonblocking(true)?;
        Ok(Self { socket: Some(datagram), every: bites_after.map(|after| after / 4), ..Self::none() })
    }

    /// How long the watchdog waits for a word, if there is one.
    pub fn watchdog(&self) -> Option<Duration> {
        self.every.map(|every| every * 4)
    }

    /// It serves from now on; `status` is the line that `systemctl status` shows.
    pub fn ready(&mut self, status: &str) {
        self.say(format!("READY=1\n{}", status_line(status)));
    }

    /// Another line for `systemctl status`.
    pub fn status(&mut self, status: &str) {
        self.say(status_line(status));
    }

    /// It is about to end: the watchdog waits no longer.
    pub fn stopping(&mut self) {
        self.say(format!("STOPPING=1\n{}", status_line("stopping")));
    }

    /// To be called by what must not hang. Says so a few times in the watchdog's interval.
    pub fn alive(&mut self) {
        self.repeat();
        let Some(every) = self.every else { return };
        if self.told.is_some_and(|told| told.elapsed() < every) {
            return;
        }
        // If this is not heard, the next call says it.
        if self.send("WATCHDOG=1") {
            self.told = Some(Instant::now());
        }
    }

    fn say(&mut self, text: String) {
        self.unheard.push(text);
        self.repeat();
    }

    fn repeat(&mut self) {
        while let Some(text) = self.unheard.first() {
            if !self.send(text) {
                return;
            }
            self.unheard.remove(0);
        }
    }

    /// Whether it was heard, or nobody is there to hear it. A socket that is full is one that systemd has not read yet.
    fn send(&self, text: &str) -> bool {
        let Some(socket) = &self.socket else { return true };
        !matches!(socket.send(text.as_bytes()), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// One line, whatever is in the text.
fn status_line(text: &str) -> String {
    format!("STATUS={}", text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut heard = [0; 256];
        let length = socket.recv(&mut heard).ok()?;
        Some(String::from_utf8(heard[..length].to_vec()).unwrap())
    }

    fn hears_it(socket: &UnixDatagram, address: &OsStr) {
        socket.set_nonblocking(true).unwrap();
        let mut systemd = Systemd::at(address, HOUR).unwrap();
        systemd.ready("serves\nat two addresses");
        systemd.alive();
        systemd.alive();
        systemd.stopping();
        assert_eq!(systemd.watchdog(), HOUR);
        assert_eq!(heard(socket).unwrap(), "READY=1\nSTATUS=serves at two addresses");
        assert_eq!(heard(socket).unwrap(), "WATCHDOG=1");
        assert_eq!(heard(socket).unwrap(), "STOPPING=1\nSTATUS=stopping", "life is not told at each call");
        let mut hasty = Systemd::at(address, Some(Duration::ZERO)).unwrap();
        hasty.alive();
        hasty.alive();
        assert!(heard(socket).is_some() && heard(socket).is_some());
        Systemd::at(address, None).unwrap().alive();
        assert_eq!(heard(socket), None, "there is no watchdog");
    }

    #[test]
    fn systemd_hears_at_a_path_and_at_an_abstract_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        hears_it(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
        let name = format!("grid-systemd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        hears_it(&UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn what_a_busy_systemd_did_not_take_is_said_again_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut systemd = Systemd::at(path.as_os_str(), HOUR).unwrap();
        let mut others = 0;
        while systemd.send("STATUS=full") {
            others += 1;
        }
        systemd.ready("serves");
        systemd.status("still serves");
        (0..others).for_each(|_| assert_eq!(heard(&socket).unwrap(), "STATUS=full"));
        assert_eq!(heard(&socket), None);
        systemd.alive();
        assert_eq!(heard(&socket).unwrap(), "READY=1\nSTATUS=serves");
        assert_eq!(heard(&socket).unwrap(), "STATUS=still serves");
        assert_eq!(heard(&socket).unwrap(), "WATCHDOG=1");
    }

    #[test]
    fn without_systemd_nothing_is_said() {
        let mut nobody = Systemd::none();
        nobody.ready("serves");
        nobody.alive();
        assert!(nobody.unheard.is_empty());
        assert!(Systemd::at(OsStr::new("/nowhere/notify"), None).is_err());
    }
}
