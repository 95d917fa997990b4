//! Tells systemd that the service is alive (sd_notify(3), sd_watchdog_enabled(3)). Without systemd it does nothing.
//!
//! A datagram of a few bytes on a Unix socket: that needs no crate. This is the place for `READY=1` and the like, too.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// The watchdog that `WatchdogSec=` asks for.
#[derive(Debug)]
pub struct Watchdog {
    /// Where to, and how often.
    notify: Option<(UnixDatagram, Duration)>,
    said: Option<Instant>,
}

impl Watchdog {
    /// That of the unit this process is the main process of, if it has one.
    pub fn of_systemd() -> Self {
        let variable = |name| std::env::var_os(name);
        let socket = variable("NOTIFY_SOCKET");
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let interval = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        let (Some(socket), Some(interval)) = (socket, interval) else { return Self { notify: None, said: None } };
        match Self::to(&socket, interval) {
            Ok(watchdog) => watchdog,
            Err(error) => {
                tracing::warn!(?socket, %error, "systemd's watchdog cannot be fed");
                Self { notify: None, said: None }
            }
        }
    }

    /// One that bites after `interval`, at this socket; one that begins with `@` is abstract.
    fn to(socket: &OsStr, interval: Duration) -> io::Result<Self> {
        let address = match socket.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(socket)?,
        };
        let datagram = UnixDatagram::unbound()?;
        datagram.connect_addr(&address)?;
        // Control does not wait for systemd.
        datagram.set_nonblocking(true)?;
        Ok(Self { notify: Some((datagram, interval / 4)), said: None })
    }

    /// To be called by what must not hang. Says so a few times in the watchdog's interval.
    pub fn alive(&mut self) {
        let Some((socket, every)) = &self.notify else { return };
        if self.said.is_some_and(|said| said.elapsed() < *every) {
            return;
        }
        // Who does not hear it is told again.
        if socket.send(b"WATCHDOG=1").is_ok() {
            self.said = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hears_it(socket: &UnixDatagram, address: &OsStr) {
        socket.set_nonblocking(true).unwrap();
        let mut watchdog = Watchdog::to(address, Duration::from_secs(3600)).unwrap();
        watchdog.alive();
        watchdog.alive();
        let mut heard = [0; 64];
        let length = socket.recv(&mut heard).unwrap();
        assert_eq!(&heard[..length], b"WATCHDOG=1");
        assert!(socket.recv(&mut heard).is_err(), "not at each call");
        let mut hasty = Watchdog::to(address, Duration::ZERO).unwrap();
        hasty.alive();
        hasty.alive();
        assert!(socket.recv(&mut heard).is_ok() && socket.recv(&mut heard).is_ok());
    }

    #[test]
    fn systemd_hears_of_life_at_a_path_and_at_an_abstract_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        hears_it(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());
        let name = format!("grid-watchdog-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        hears_it(&UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn without_systemd_nothing_is_said() {
        Watchdog { notify: None, said: None }.alive();
        assert!(Watchdog::to(OsStr::new("/nowhere/notify"), Duration::ZERO).is_err());
    }
}
