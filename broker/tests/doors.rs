//! The doors beside plain TCP: TLS, WebSocket, HTTP, and who waits in front of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use grid_broker::{Access, BrokerError, Limits, Sockets};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use support::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A broker with a door of every kind.
struct Site {
    broker: Broker,
    mqtts: SocketAddr,
    ws: SocketAddr,
    wss: SocketAddr,
    http: SocketAddr,
    authority: Authority,
    access: watch::Sender<Arc<Access>>,
}

impl Site {
    async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    async fn start_with(limits: Limits) -> Self {
        let (mqtt, plain) = socket().await;
        let (mqtts_socket, mqtts) = socket().await;
        let (ws_socket, ws) = socket().await;
        let (wss_socket, wss) = socket().await;
        let (http_socket, http) = socket().await;
        let sockets = Sockets {
            mqtt: Some(mqtt),
            mqtts: Some(mqtts_socket),
            ws: Some(ws_socket),
            wss: Some(wss_socket),
            http: Some(http_socket),
        };
        let authority = Authority::new();
        let (access, accesses) = watch::channel(Arc::new(Access::open_with_tls(authority.server())));
        let broker = Broker::start_at(sockets, plain, limits, accesses).await;
        Self { broker, mqtts, ws, wss, http, authority, access }
    }

    async fn websocket(&self) -> WebSocket<TcpStream> {
        WebSocket::connect(TcpStream::connect(self.ws).await.unwrap(), "ws://localhost/mqtt", Some("mqtt"))
            .await
            .unwrap()
    }
}

async fn socket() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Who vouches for the server's certificate.
struct Authority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "doors");
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.unwrap())
    }

    async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.certificate.der().to_vec())).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.unwrap()
    }
}

/// A WebSocket whose frames the test decides.
struct WebSocket<S> {
    socket: WebSocketStream<S>,
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Also checks that the broker echoes the first subprotocol.
    async fn connect(stream: S, url: &str, subprotocols: Option<&str>) -> Result<Self, Error> {
        let mut request = url.into_client_request().unwrap();
        if let Some(subprotocols) = subprotocols {
            request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(subprotocols).unwrap());
        }
        let (socket, response) = within(tokio_tungstenite::client_async(request, stream)).await?;
        let echoed = response.headers().get("sec-websocket-protocol").unwrap();
        assert_eq!(echoed, subprotocols.unwrap().split(',').next().unwrap());
        Ok(Self { socket, received: Vec::new() })
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).await.unwrap();
    }

    /// The next bytes, in whatever frames they come.
    async fn read(&mut self, length: usize) -> Vec<u8> {
        while self.received.len() < length {
            match within(self.socket.next()).await.expect("the connection ended").unwrap() {
                Message::Binary(bytes) => self.received.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        let rest = self.received.split_off(length);
        std::mem::replace(&mut self.received, rest)
    }

    async fn expect(&mut self, hex: &str) {
        let expected = bytes(hex);
        assert_eq!(self.read(expected.len()).await, expected);
    }

    async fn log_in(&mut self, id: &str) {
        self.send(&connect_v3(id, 0)).await;
        self.expect("20020000").await;
    }

    async fn expect_end(&mut self) {
        let end = async {
            while let Some(Ok(message)) = self.socket.next().await {
                assert!(matches!(message, Message::Close(_)), "{message:?}");
            }
        };
        within(end).await;
    }
}

/// The answer to an HTTP request with this first line.
async fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request}\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn a_websocket_client_and_a_tcp_client_reach_each_other() {
    let site = Site::start().await;
    let mut web = site.websocket().await;
    web.log_in("web").await;
    web.send(&subscribe_v3("to/web", 1)).await;
    web.expect("9003000101").await;
    let mut plain = site.broker.v3("plain").await;
    plain.subscribe("from/#", 0).await;
    plain.send(&publish_v3("to/web", b"hello", 1, false, 7)).await;
    plain.expect("40020007").await;
    web.expect("320f 0006 746f2f776562 0001 68656c6c6f").await;
    web.send(&bytes("40020001")).await;
    web.send(&publish_v3("from/web", b"x", 0, false, 0)).await;
    assert_eq!(plain.packet().await, publish_v3("from/web", b"x", 0, false, 0));
    // A goodbye is answered by the end of the connection, of MQTT's and then of WebSocket's.
    web.send(&bytes("e000")).await;
    web.expect_end().await;
    site.broker.stop().await;
}

#[tokio::test]
async fn packets_may_span_frames_and_share_them() {
    let site = Site::start().await;
    let mut web = site.websocket().await;
    for byte in connect_v3("web", 0) {
        web.send(&[byte]).await;
        web.send(&[]).await;
    }
    web.expect("20020000").await;
    let two = [subscribe_v3("t", 0), publish_v3("t", b"1", 0, false, 0), bytes("c0")].concat();
    web.send(&two).await;
    web.expect("9003000100 3004 000174 31").await;
    web.send(&[0]).await;
    web.expect("d000").await;
    // One message in fragments, with a ping between them.
    let packet = publish_v3("t", b"23", 0, false, 0);
    let frame = |bytes: &[u8], code, last| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(code), last));
    web.socket.send(frame(&packet[..3], Data::Binary, false)).await.unwrap();
    web.socket.send(Message::Ping("alive?".into())).await.unwrap();
    web.socket.send(frame(&packet[3..], Data::Continue, true)).await.unwrap();
    assert_eq!(within(web.socket.next()).await.unwrap().unwrap(), Message::Pong("alive?".into()));
    web.expect("3005 000174 3233").await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_websocket_without_the_subprotocol_or_elsewhere_is_refused_with_a_sentence() {
    let site = Site::start().await;
    for (url, subprotocols, status, sentence) in [
        ("ws://localhost/mqtt", None, 400, "mqtt"),
        ("ws://localhost/", Some("chat"), 400, "mqtt"),
        ("ws://localhost/chat", Some("mqtt"), 404, "/mqtt"),
    ] {
        let stream = TcpStream::connect(site.ws).await.unwrap();
        let Err(Error::Http(response)) = WebSocket::connect(stream, url, subprotocols).await else {
            panic!("{url} with {subprotocols:?} was accepted");
        };
        assert_eq!(response.status(), status, "{url} {subprotocols:?}");
        let body = String::from_utf8(response.body().clone().unwrap_or_default()).unwrap();
        assert!(body.contains(sentence), "{body:?}");
    }
    let answer = http(site.ws, "GET / HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("MQTT client"), "{answer}");
    let answer = http(site.ws, "POST /mqtt HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // What older clients offer.
    let stream = TcpStream::connect(site.ws).await.unwrap();
    WebSocket::connect(stream, "ws://localhost/", Some("mqttv3.1")).await.unwrap().log_in("old").await;
    let stream = TcpStream::connect(site.ws).await.unwrap();
    WebSocket::connect(stream, "ws://localhost/", Some("mqtt, mqttv3.1")).await.unwrap().log_in("both").await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_text_frame_or_one_without_bounds_ends_its_own_connection_only() {
    let site = Site::start().await;
    let mut other = site.websocket().await;
    other.log_in("other").await;
    let mut watcher = site.broker.v3("watcher").await;
    watcher.subscribe("gone/#", 0).await;
    for (number, message) in [Message::text("hello"), Message::binary(vec![0; 1024 * 1024])].into_iter().enumerate() {
        let mut web = site.websocket().await;
        let topic = format!("gone/{number}");
        web.send(&connect_v3_will("web", &topic, "w", false)).await;
        web.expect("20020000").await;
        // The broker may close before it has taken all.
        let _ = web.socket.send(message).await;
        web.expect_end().await;
        assert_eq!(watcher.packet().await, publish_v3(&topic, b"w", 0, false, 0));
    }
    other.send(&bytes("c000")).await;
    other.expect("d000").await;
    site.broker.stop().await;
}

#[tokio::test]
async fn a_reader_that_starts_late_gets_everything_through_every_door() {
    const MESSAGES: usize = 8000;
    let site = Site::start().await;
    let mut mqtts = site.authority.connect(site.mqtts).await;
    mqtts.write_all(&[connect_v3("mqtts", 0), subscribe_v3("late", 0)].concat()).await.unwrap();
    mqtts.read_exact(&mut [0; 9]).await.unwrap();
    let mut ws = site.websocket().await;
    ws.log_in("ws").await;
    ws.send(&subscribe_v3("late", 0)).await;
    ws.expect("9003000100").await;
    let tls = site.authority.connect(site.wss).await;
    let mut wss = WebSocket::connect(tls, "wss://localhost/", Some("mqtt")).await.unwrap();
    wss.log_in("wss").await;
    wss.send(&subscribe_v3("late", 0)).await;
    wss.expect("9003000100").await;

    // More than the sockets' buffers take.
    let message = publish_v3("late", &[b'x'; 1000], 0, false, 0);
    let mut publisher = site.broker.v3("publisher").await;
    for _ in 0..MESSAGES / 100 {
        publisher.send(&message.repeat(100)).await;
    }
    publisher.expect_silence().await;
    let expected = message.repeat(MESSAGES);
    let mut all = vec![0; expected.len()];
    within(mqtts.read_exact(&mut all)).await.unwrap();
    assert!(all == expected, "mqtts");
    assert!(ws.read(expected.len()).await == expected, "ws");
    assert!(wss.read(expected.len()).await == expected, "wss");
    site.broker.stop().await;
}

#[tokio::test]
async fn mosquittos_clients_speak_to_the_tls_door() {
    let site = Site::start().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, site.authority.certificate.pem()).unwrap();
    let port = site.mqtts.port().to_string();
    let secure = ["-p", &port, "--cafile", authority.to_str().unwrap(), "-t", "secret", "-q", "1"];
    for version in ["mqttv311", "mqttv5"] {
        let common = [&secure[..], &["-V", version]].concat();
        let mut watcher = site.broker.v3("watcher").await;
        let subscriber =
            Mosquitto::spawn("mosquitto_sub", &site.broker, &[&common[..], &["-C", "1", "-W", "20"]].concat());
        let publish = [&common[..], &["-m", version, "-r"]].concat();
        let publisher = Mosquitto::spawn("mosquitto_pub", &site.broker, &publish).output().await;
        assert!(publisher.status.success(), "{publisher:?}");
        assert_eq!(subscriber.lines().await, [version]);
        watcher.send(&publish_v3("secret", b"", 0, true, 0)).await;
        watcher.expect_silence().await;
    }
    // Without TLS there is nothing but the end of the connection.
    let mut plain = TcpStream::connect(site.mqtts).await.unwrap();
    plain.write_all(&connect_v3("plain", 0)).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(&[0x20]), "{answer:02x?}");
    site.broker.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_older_ones_stay() {
    let site = Site::start().await;
    let mut older = site.authority.connect(site.mqtts).await;
    older.write_all(&connect_v3("older", 0)).await.unwrap();
    older.read_exact(&mut [0; 4]).await.unwrap();
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let before = shown(&older);
    site.access.send_replace(Arc::new(Access::open_with_tls(site.authority.server())));
    let newer = site.authority.connect(site.mqtts).await;
    assert_ne!(shown(&newer), before);
    older.write_all(&bytes("c000")).await.unwrap();
    let mut pong = [0; 2];
    within(older.read_exact(&mut pong)).await.unwrap();
    assert_eq!(pong[..], bytes("d000"));
    site.broker.stop().await;
}

#[tokio::test]
async fn a_broker_without_a_certificate_or_without_any_door_says_so_at_the_start() {
    let (mqtts, address) = socket().await;
    let sockets = Sockets { mqtts: Some(mqtts), ..Sockets::default() };
    let result = grid_broker::run(sockets, Limits::default(), Access::open(), std::future::pending()).await;
    assert!(matches!(result, Err(BrokerError::NoCertificate(door)) if door == address), "{result:?}");
    let sockets = Sockets { http: Some(socket().await.0), ..Sockets::default() };
    let result = grid_broker::run(sockets, Limits::default(), Access::open(), std::future::pending()).await;
    assert!(matches!(result, Err(BrokerError::NoDoor)), "{result:?}");
}

#[tokio::test]
async fn idle_connections_to_any_door_block_nobody_and_end_when_their_time_is_up() {
    let site = Site::start_with(Limits { connect_timeout: Duration::from_secs(1), ..Limits::default() }).await;
    let started = Instant::now();
    let mut idle = Vec::new();
    // Nothing, half a TLS ClientHello, half an HTTP request, and handshakes done but no CONNECT.
    for (address, first) in [
        (site.broker.address, ""),
        (site.mqtts, ""),
        (site.mqtts, "1603010200010001fc"),
        (site.ws, ""),
        (site.ws, "474554202f"),
        (site.wss, ""),
        (site.wss, "1603010200010001fc"),
    ] {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(&bytes(first)).await.unwrap();
            idle.push(stream);
        }
    }
    let mut tls = site.authority.connect(site.mqtts).await;
    let mut web = site.websocket().await;
    // All doors are open to others meanwhile.
    site.broker.assert_works().await;
    site.websocket().await.log_in("web").await;
    let mut secure = site.authority.connect(site.mqtts).await;
    secure.write_all(&connect_v3("secure", 0)).await.unwrap();
    secure.read_exact(&mut [0; 4]).await.unwrap();
    let stream = site.authority.connect(site.wss).await;
    WebSocket::connect(stream, "wss://localhost/", Some("mqtt")).await.unwrap().log_in("both").await;
    assert!(started.elapsed() < Duration::from_secs(1), "idle connections held others up: {:?}", started.elapsed());

    for mut stream in idle {
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
    let _ = within(tls.read_to_end(&mut Vec::new())).await;
    web.expect_end().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    site.broker.stop().await;
}

#[tokio::test]
async fn one_address_cannot_take_all_places_of_those_who_wait() {
    let limits = Limits { max_waiting: 200, max_waiting_per_address: 3, connect_timeout: LONG, ..Limits::default() };
    let site = Site::start_with(limits).await;
    let mut idle = [
        TcpStream::connect(site.broker.address).await.unwrap(),
        TcpStream::connect(site.mqtts).await.unwrap(),
        TcpStream::connect(site.ws).await.unwrap(),
    ];
    site.broker.raw().await.expect_close().await;
    let mut end = TcpStream::connect(site.wss).await.unwrap();
    let _ = within(end.read_to_end(&mut Vec::new())).await;
    let answer = http(site.http, "GET /metrics HTTP/1.1").await;
    assert!(answer.contains("grid_broker_refused_total{request=\"connection\"} 2\n"), "{answer}");

    // Another host gets in.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut device = Raw { stream: socket.connect(site.broker.address).await.unwrap() };
    device.send(&connect_v3("device", 0)).await;
    device.expect("20020000").await;

    // And this one too, as soon as one of its idle connections has said who it is.
    idle[0].write_all(&connect_v3("first", 0)).await.unwrap();
    idle[0].read_exact(&mut [0; 4]).await.unwrap();
    site.broker.v3("second").await;
    site.broker.stop().await;
}

#[tokio::test]
async fn http_serves_health_and_metrics_and_nothing_else() {
    let site = Site::start().await;
    let mut client = site.broker.v3("c").await;
    client.send(&publish_v3("a", b"12345", 0, true, 0)).await;
    client.expect_silence().await;
    let answer = http(site.http, "GET /healthz HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    let answer = http(site.http, "GET /metrics HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("application/openmetrics-text"), "{answer}");
    for line in [
        "grid_broker_connections_total 1\n",
        "grid_broker_connects_total 1\n",
        "# HELP grid_broker_dropped Messages that somebody did not get.\n",
        "grid_broker_dropped_total{reason=\"queue_full\"} 0\n",
        concat!("grid_broker_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
        "# UNIT grid_broker_uptime_seconds seconds\n",
        "# EOF\n",
    ] {
        assert!(answer.contains(line), "{line} in {answer}");
    }
    let figure = |name: &str| -> u64 {
        let line =
            answer.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {answer}"));
        line.trim().parse().unwrap()
    };
    // The client's, and those below $SYS.
    assert!(figure("grid_broker_retained_messages ") > 50);
    assert!(figure("grid_broker_retained_bytes ") > 1000);
    for other in ["GET / HTTP/1.1", "GET /metrics/x HTTP/1.1"] {
        assert!(http(site.http, other).await.starts_with("HTTP/1.1 404 "), "{other}");
    }
    assert!(http(site.http, "POST /metrics HTTP/1.1").await.starts_with("HTTP/1.1 405 "));
    site.broker.stop().await;
}

#[tokio::test]
async fn idle_http_connections_hold_up_neither_mqtt_nor_the_stop() {
    let site = Site::start().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(site.http).await.unwrap());
    }
    site.broker.assert_works().await;
    let stopping = Instant::now();
    site.broker.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(2), "{:?}", stopping.elapsed());
}

#[tokio::test]
async fn http_connections_end_by_themselves_and_make_room_for_others() {
    let site = Site::start().await;
    let mut idle = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(site.http).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
        idle.push(stream);
    }
    let answer = http(site.http, "GET /healthz HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for mut stream in idle {
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
    site.broker.stop().await;
}
