//! Whether a broker is there and would let us in, without logging in: under our own name that would throw out who is
//! connected already.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection};

use crate::broker::Broker;
use crate::tls::{explain, server_name};

/// For how long a server may still refuse our certificate. In TLS 1.3 (RFC 8446, section 4.4.2.4) it judges it when the
/// handshake is over for us. Whoever does not refuse mostly sends a ticket at once.
const SECOND_THOUGHTS: Duration = Duration::from_secs(1);

impl Broker {
    /// Connects, and if it is by TLS lets both sides show their certificates. Each step may take as long as `patience`.
    ///
    /// # Errors
    /// Why nobody answers, or who answers is not the site's broker or refuses us, and what to do about it.
    pub fn reach(&self, patience: Duration) -> Result<(), String> {
        let said = |error: &(dyn Error + 'static)| explain(error, &self.host).unwrap_or_else(|| error.to_string());
        let stream = connect(&self.host, self.port, patience)?;
        match &self.tls {
            None => Ok(()),
            Some(tls) => greet(stream, tls, &self.host, patience).map_err(|error| said(&error)),
        }
    }

    /// Whether the connection is encrypted.
    pub fn is_by_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// A connection to the first of the host's addresses at which somebody answers.
fn connect(host: &str, port: u16, patience: Duration) -> Result<TcpStream, String> {
    let unknown = |error: io::Error| format!("no address of {host} is known here: is that its name? ({error})");
    let mut last = format!("no address of {host} is known here");
    for address in (host, port).to_socket_addrs().map_err(unknown)? {
        let connected = TcpStream::connect_timeout(&address, patience).and_then(|stream| {
            stream.set_read_timeout(Some(patience))?;
            stream.set_write_timeout(Some(patience))?;
            Ok(stream)
        });
        match connected {
            Ok(stream) => return Ok(stream),
            Err(error) => last = no_answer(&error),
        }
    }
    Err(last)
}

fn no_answer(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("nobody listens there: does the broker run, and at this port? ({error})")
        }
        ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("nobody answers: is that machine on, and in this network? ({error})")
        }
        _ => error.to_string(),
    }
}

fn greet(mut stream: TcpStream, config: &Arc<ClientConfig>, host: &str, patience: Duration) -> io::Result<()> {
    let name = server_name(host).ok_or_else(|| io::Error::other(format!("{host:?} is no host name")))?;
    let mut tls = ClientConnection::new(config.clone(), name.to_owned()).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                io::Error::new(ErrorKind::TimedOut, "what answers does not speak TLS, or takes too long")
            }
            ErrorKind::UnexpectedEof => closed(),
            _ => error,
        })?;
    }
    stream.set_read_timeout(Some(SECOND_THOUGHTS.min(patience)))?;
    match tls.read_tls(&mut stream) {
        Ok(0) => return Err(closed()),
        Ok(_) => tls.process_new_packets().map(|_| ()).map_err(io::Error::other)?,
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        Err(error) => return Err(error),
    }
    tls.send_close_notify();
    // All is known; whether the other side hears the goodbye changes nothing.
    let _ = tls.complete_io(&mut stream);
    Ok(())
}

fn closed() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the connection was closed during the TLS handshake")
}
