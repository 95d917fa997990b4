//! Whether the listeners answer, or are free for a broker that does not run.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use grid_broker::Settings;
use grid_service::setup::Report;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What somebody does who listens there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Mqtt,
    Tls,
    Http,
}

/// Looks at each listener. `certificate` is what the broker is to show.
pub fn check(report: &mut Report, settings: &Settings, certificate: Option<&CertificateDer>) {
    let listen = &settings.listen;
    let all = [
        ("listen.mqtts", listen.mqtts, Speaks::Tls),
        ("listen.wss", listen.wss, Speaks::Tls),
        ("listen.mqtt", listen.mqtt, Speaks::Mqtt),
        ("listen.ws", listen.ws, Speaks::Mqtt),
        ("listen.http", listen.http, Speaks::Http),
    ];
    let set = all.into_iter().filter_map(|(key, address, speaks)| Some((key, address?, speaks)));
    let set: Vec<_> = set.map(|(key, address, speaks)| (key, address, speaks, connect(address))).collect();
    let answers = |speaks: Speaks, stream: &TcpStream| match speaks {
        Speaks::Mqtt => Ok("somebody listens".to_owned()),
        Speaks::Tls => tls(stream, certificate),
        Speaks::Http => http(stream),
    };
    // What answers as a broker does is one. MQTT without TLS is not spoken: the log would have a login that failed.
    let answered: Vec<_> =
        set.iter().map(|(_, _, speaks, stream)| stream.as_ref().map(|stream| answers(*speaks, stream))).collect();
    let can_tell = set.iter().any(|(_, _, speaks, _)| *speaks != Speaks::Mqtt);
    let runs = set
        .iter()
        .zip(&answered)
        .any(|((_, _, speaks, _), answered)| matches!(answered, Some(Ok(_))) && (*speaks != Speaks::Mqtt || !can_tell));
    for ((key, address, ..), answered) in set.iter().zip(answered) {
        match answered {
            Some(Ok(said)) if runs => report.ok(key, format!("{address}: {said}")),
            Some(Ok(_)) => {
                report.wrong(
                    key,
                    format!("{address} is taken, and not by this broker: stop what uses it, or choose another"),
                );
            }
            Some(Err(why)) => report.wrong(key, format!("{address}: {why}")),
            None if runs => report.wrong(key, format!("{address} does not answer, but the broker runs: restart it")),
            None => match TcpListener::bind(address) {
                Ok(_) => report.none(key, format!("{address} is free: the broker does not run")),
                Err(error) => report.wrong(key, format!("{address} cannot be listened on: {error}")),
            },
        }
    }
}

/// A connection, if somebody listens there.
fn connect(address: SocketAddr) -> Option<TcpStream> {
    let here = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    let stream = TcpStream::connect_timeout(&SocketAddr::new(here, address.port()), PATIENCE).ok()?;
    let timeouts = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    timeouts.ok().map(|()| stream)
}

fn http(mut stream: &TcpStream) -> Result<String, String> {
    let silent =
        |error: io::Error| format!("/healthz does not answer ({error}): stop what uses the port, or choose another");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").map_err(silent)?;
    let mut answer = Vec::new();
    match stream.take(4096).read_to_end(&mut answer) {
        // Who closes with something unread resets the connection; what it said was heard.
        Err(error) if answer.is_empty() => return Err(silent(error)),
        Ok(_) | Err(_) => {}
    }
    let answer = String::from_utf8_lossy(&answer);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
    match answer.split(' ').nth(1) {
        Some("200") if body == "ok" => Ok("/healthz says ok".to_owned()),
        Some("503") => Err(format!("/healthz says {body:?}: restart the broker")),
        _ => Err("is no broker of this kind: stop what uses the port, or choose another".to_owned()),
    }
}

/// Greets in TLS, and looks which certificate is shown.
fn tls(stream: &TcpStream, certificate: Option<&CertificateDer>) -> Result<String, String> {
    let failed =
        |error: &dyn std::fmt::Display| format!("no TLS ({error}): stop what uses the port, or choose another");
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let config = config.map_err(|error| failed(&error))?.dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(Looks(provider))).with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(|error| failed(&error))?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(|error| failed(&error))?;
    let mut stream = stream;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => failed(&"no answer"),
            _ => failed(&error),
        })?;
    }
    let shown = tls.peer_certificates().and_then(<[_]>::first);
    if shown.map(|shown| shown.as_ref()) != certificate.map(|ours| ours.as_ref()) {
        return Err(
            "shows another certificate than that of the settings: restart the broker, or stop what uses the port"
                .to_owned(),
        );
    }
    tls.send_close_notify();
    // The connection is of no use any more, whether that is heard or not.
    let _ = tls.complete_io(&mut stream);
    Ok("answers with the certificate of the settings".to_owned())
}

/// Trusts whatever is shown, since nothing is said to it: it is compared with the file afterwards. That whoever shows it has
/// its key is checked.
#[derive(Debug)]
struct Looks(Arc<CryptoProvider>);

impl ServerCertVerifier for Looks {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
