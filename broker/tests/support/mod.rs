//! A broker on a free port, and clients that say exactly the bytes a test wants.
#![allow(dead_code, reason = "each test file uses another part")]

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use grid_broker::{Access, BrokerError, Limits, Sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long a test waits for something that should happen at once.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Broker {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), BrokerError>>,
}

impl Broker {
    pub async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub async fn start_with(settings: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(grid_broker::run(listener.into(), settings, Access::open(), async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), running }
    }

    /// Stops it, and fails the test if it had ended by itself.
    pub async fn stop(mut self) {
        assert!(!self.running.is_finished(), "the broker ended by itself");
        let _ = self.stop.take().unwrap().send(());
        within(self.running).await.unwrap().unwrap();
    }

    pub async fn raw(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.address).await.unwrap() }
    }

    /// A 3.1.1 client that is logged in, with clean session and no keep-alive.
    pub async fn v3(&self, id: &str) -> Raw {
        let mut raw = self.raw().await;
        raw.send(&connect_v3(id, 0)).await;
        raw.expect("20020000").await;
        raw
    }

    /// An MQTT 5 client that is logged in, with clean start and no keep-alive.
    pub async fn v5(&self, id: &str) -> Raw {
        let mut raw = self.raw().await;
        raw.send(&connect_v5(id, &[])).await;
        let connack = raw.packet().await;
        assert_eq!(&connack[..1], [0x20], "{connack:02x?}");
        assert_eq!(connack[3], 0, "{connack:02x?}");
        raw
    }

    /// Proves that the broker still moves messages.
    pub async fn assert_works(&self) {
        let mut subscriber = self.v3("proof-subscriber").await;
        subscriber.subscribe("proof", 0).await;
        let mut publisher = self.v3("proof-publisher").await;
        publisher.send(&publish_v3("proof", b"yes", 0, false, 0)).await;
        subscriber.expect("30 0a 0005 70726f6f66 796573").await;
    }
}

/// A TCP connection that is written and read byte by byte.
pub struct Raw {
    pub stream: TcpStream,
}

impl Raw {
    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub async fn send_hex(&mut self, hex: &str) {
        self.send(&bytes(hex)).await;
    }

    /// The next packet, with its fixed header.
    pub async fn packet(&mut self) -> Vec<u8> {
        within(self.try_packet()).await.expect("the connection ended")
    }

    /// The next packet; `None` if the connection ends instead.
    pub async fn try_packet(&mut self) -> Option<Vec<u8>> {
        let mut packet = vec![self.stream.read_u8().await.ok()?];
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            packet.push(byte);
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let start = packet.len();
        packet.resize(start + length, 0);
        self.stream.read_exact(&mut packet[start..]).await.ok()?;
        Some(packet)
    }

    /// The next packet is this one.
    pub async fn expect(&mut self, hex: &str) {
        let packet = self.packet().await;
        assert_eq!(packet, bytes(hex), "got {packet:02x?}");
    }

    /// The next packet is a DISCONNECT (5) with this reason.
    pub async fn expect_disconnect(&mut self, reason: u8) {
        let packet = self.packet().await;
        assert_eq!((packet[0], packet[2]), (0xe0, reason), "got {packet:02x?}");
    }

    /// The broker closes the connection, without a further packet.
    pub async fn expect_close(&mut self) {
        let packet = within(self.try_packet()).await;
        assert_eq!(packet, None, "expected the connection to end");
    }

    /// The broker says nothing more before it answers a ping.
    pub async fn expect_silence(&mut self) {
        self.send_hex("c000").await;
        self.expect("d000").await;
    }

    /// Subscribes (3.1.1) and waits for the SUBACK.
    pub async fn subscribe(&mut self, filter: &str, qos: u8) {
        self.send(&subscribe_v3(filter, qos)).await;
        self.expect(&format!("90 03 0001 {qos:02x}")).await;
    }

    /// Subscribes (5) with these options and waits for the SUBACK.
    pub async fn subscribe_v5(&mut self, filter: &str, options: u8) {
        self.send(&subscribe_v5(filter, options)).await;
        let suback = self.packet().await;
        assert_eq!(suback[0], 0x90, "{suback:02x?}");
        assert!(suback.last().unwrap() < &0x80, "{suback:02x?}");
    }
}

/// Bytes of a hexadecimal text; blanks are ignored.
pub fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn text(value: &str) -> Vec<u8> {
    [&u16::try_from(value.len()).unwrap().to_be_bytes()[..], value.as_bytes()].concat()
}

fn variable(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        bytes.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return bytes;
        }
    }
}

/// A packet with this first byte and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    [&[first][..], &variable(body.len()), body].concat()
}

pub fn connect_v3(id: &str, keep_alive: u16) -> Vec<u8> {
    packet(0x10, &[&bytes("00044d51545404 02")[..], &keep_alive.to_be_bytes(), &text(id)].concat())
}

/// CONNECT of 3.1.1 without clean session.
pub fn connect_v3_lasting(id: &str) -> Vec<u8> {
    packet(0x10, &[&bytes("00044d51545404 00 0000")[..], &text(id)].concat())
}

/// CONNECT of 3.1.1 with a will at QoS 0.
pub fn connect_v3_will(id: &str, topic: &str, payload: &str, retain: bool) -> Vec<u8> {
    let flags = if retain { 0x26 } else { 0x06 };
    let head = [&bytes("00044d51545404")[..], &[flags], &[0, 0]].concat();
    packet(0x10, &[head, text(id), text(topic), text(payload)].concat())
}

/// CONNECT of MQTT 5 with these properties (without their length).
pub fn connect_v5(id: &str, properties: &[u8]) -> Vec<u8> {
    let head = [&bytes("00044d51545405 02 0000")[..], &variable(properties.len()), properties].concat();
    packet(0x10, &[head, text(id)].concat())
}

pub fn publish_v3(topic: &str, payload: &[u8], qos: u8, retain: bool, id: u16) -> Vec<u8> {
    let id = if qos > 0 { id.to_be_bytes().to_vec() } else { vec![] };
    packet(0x30 | qos << 1 | u8::from(retain), &[&text(topic)[..], &id, payload].concat())
}

/// PUBLISH of MQTT 5 with these properties (without their length).
pub fn publish_v5(topic: &str, properties: &[u8], payload: &[u8], qos: u8, retain: bool, id: u16) -> Vec<u8> {
    let id = if qos > 0 { id.to_be_bytes().to_vec() } else { vec![] };
    let properties = [&variable(properties.len())[..], properties].concat();
    packet(0x30 | qos << 1 | u8::from(retain), &[&text(topic)[..], &id, &properties, payload].concat())
}

pub fn subscribe_v3(filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1][..], &text(filter), &[qos]].concat())
}

pub fn subscribe_v5(filter: &str, options: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1, 0][..], &text(filter), &[options]].concat())
}

/// Fails the test if `future` takes too long.
pub async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(LONG, future).await.expect("this took too long")
}

/// A mosquitto client with these arguments, its output captured; killed if the test ends first.
pub struct Mosquitto(Child);

impl Mosquitto {
    pub fn spawn(program: &str, broker: &Broker, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(["-h", "127.0.0.1", "-p", &broker.address.port().to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; install mosquitto-clients"));
        Self(child)
    }

    pub fn write(&mut self, input: &[u8]) {
        self.0.stdin.take().unwrap().write_all(input).unwrap();
    }

    /// Waits for it to end by itself (mosquitto_sub does with `-C` or `-W`).
    pub async fn output(mut self) -> Output {
        let mut stdout = self.0.stdout.take().unwrap();
        let mut stderr = self.0.stderr.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            let (mut out, mut err) = (Vec::new(), Vec::new());
            std::io::Read::read_to_end(&mut stdout, &mut out).unwrap();
            std::io::Read::read_to_end(&mut stderr, &mut err).unwrap();
            (out, err)
        });
        let (stdout, stderr) = within(reading).await.unwrap();
        Output { status: self.0.wait().unwrap(), stdout, stderr }
    }

    pub async fn lines(self) -> Vec<String> {
        let output = self.output().await;
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Broker {
    /// A broker with these doors; `address` is that of its plain MQTT door.
    pub async fn start_at(
        sockets: Sockets,
        address: SocketAddr,
        limits: Limits,
        access: watch::Receiver<Arc<Access>>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(grid_broker::run(sockets, limits, access, async {
            let _ = stopped.await;
        }));
        Self { address, stop: Some(stop), running }
    }
}

/// CONNECT of this protocol level with user and password, clean, perhaps with a will of one byte at QoS 0.
pub fn connect_with_password(level: u8, user: &str, password: &str, id: &str, will: Option<&str>) -> Vec<u8> {
    let flags = 0xc2 | if will.is_some() { 4 } else { 0 };
    let no_properties: &[u8] = if level == 5 { &[0] } else { &[] };
    let will = will.map(|topic| [no_properties, &text(topic), &text("x")].concat()).unwrap_or_default();
    let head = [&bytes("00044d515454")[..], &[level, flags, 0, 0], no_properties].concat();
    packet(0x10, &[head, text(id), will, text(user), text(password)].concat())
}
