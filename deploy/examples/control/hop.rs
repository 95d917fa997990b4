//! One hop: publish → one subscriber receives; MQTT 3.1.1, QoS 0, TCP_NODELAY.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::Failure;

const PAYLOAD: usize = 200;
const TOPIC: &[u8] = b"hop/topic";
const GIVE_UP: Duration = Duration::from_secs(5);
/// mosquitto's process has ended or listens after this many looks.
const LOOKS: usize = 100;
const LOOK: Duration = Duration::from_millis(50);

/// A publisher and a subscriber at one broker.
pub struct Hop {
    publisher: TcpStream,
    subscriber: TcpStream,
    message: Vec<u8>,
}

impl Hop {
    pub async fn open(broker: SocketAddr) -> Result<Self, Failure> {
        let mut subscriber = connect(broker, "hop-subscriber").await?;
        let length = u8::try_from(TOPIC.len())?;
        let packet = [&[0x82, length + 5, 0, 1, 0, length], TOPIC, &[0]].concat();
        subscriber.write_all(&packet).await?;
        subscriber.read_exact(&mut [0; 5]).await?;
        let body = [&[0, length], TOPIC, &[b'x'; PAYLOAD]].concat();
        let (low, high) = (u8::try_from(body.len() & 0x7f)? | 0x80, u8::try_from(body.len() >> 7)?);
        let message = [&[0x30, low, high][..], &body].concat();
        Ok(Self { publisher: connect(broker, "hop-publisher").await?, subscriber, message })
    }

    /// Sends one message and waits for it; in microseconds.
    pub async fn measure(&mut self) -> Result<u64, Failure> {
        let mut packet = vec![0; self.message.len()];
        let start = Instant::now();
        self.publisher.write_all(&self.message).await?;
        timeout(GIVE_UP, self.subscriber.read_exact(&mut packet)).await??;
        Ok(u64::try_from(start.elapsed().as_micros())?)
    }
}

async fn connect(broker: SocketAddr, id: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.set_nodelay(true)?;
    let length = u8::try_from(id.len())?;
    // CONNECT with a clean session and no keep-alive.
    let head = [0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, length];
    stream.write_all(&[&head[..], id.as_bytes()].concat()).await?;
    timeout(GIVE_UP, stream.read_exact(&mut [0; 4])).await??;
    Ok(stream)
}

/// mosquitto on a free port of the loopback address, ended when dropped.
pub struct Mosquitto {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Mosquitto {
    /// Nothing, if its program is not there.
    pub async fn start() -> Result<Option<Self>, Failure> {
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("mosquitto.conf");
        let listen = format!("listener {} {}\nallow_anonymous true\n", address.port(), address.ip());
        std::fs::write(&config, ["set_tcp_nodelay true\n", &listen].concat())?;
        let usual = Path::new("/usr/sbin/mosquitto");
        let program = if usual.exists() { usual } else { Path::new("mosquitto") };
        let started = Command::new(program).arg("-c").arg(&config).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let Ok(child) = started else { return Ok(None) };
        let mut mosquitto = Self { child, address, _folder: folder };
        for _ in 0..LOOKS {
            if connect(address, "hop-waiting").await.is_ok() {
                return Ok(Some(mosquitto));
            }
            if mosquitto.child.try_wait()?.is_some() {
                break;
            }
            sleep(LOOK).await;
        }
        Err("mosquitto does not listen".into())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
