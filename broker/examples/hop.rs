//! Measures one hop (publish → one subscriber receives) through this broker and, for comparison, through mosquitto.
//!
//! ```text
//! cargo run --release -p grid-broker --example hop
//! ```
//!
//! Rounds alternate between the brokers, so that whatever else the machine does hits both. Client code is the same
//! for both: raw sockets, MQTT 3.1.1, TCP_NODELAY. mosquitto is started with `set_tcp_nodelay true` on a free port of
//! the loopback address if its program is found, and is ended with the example.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use grid_broker::{Access, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ROUNDS: usize = 5;
const PAYLOAD: usize = 200;
/// Latency: messages in a round, one every 10 ms.
const SINGLE: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Throughput: messages in a round, as fast as they go.
const FLOOD: usize = 100_000;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let ours = listener.local_addr()?;
    let broker =
        tokio::spawn(grid_broker::run(listener.into(), Limits::default(), Access::open(), std::future::pending()));

    let mosquitto = Mosquitto::start().await?;
    let mut brokers = vec![("grid-broker", ours)];
    match &mosquitto {
        Some(mosquitto) => brokers.push(("mosquitto", mosquitto.address)),
        None => println!("mosquitto is not installed: nothing to compare with"),
    }

    for (filter, kind) in [("hop/topic", "exact filter"), ("hop/#", "wildcard filter")] {
        for qos in [0_u8, 1] {
            let mut latencies = vec![Vec::new(); brokers.len()];
            let mut rates = vec![Vec::new(); brokers.len()];
            for _ in 0..ROUNDS {
                for (index, (_, address)) in brokers.iter().enumerate() {
                    latencies[index].extend(latency(*address, filter, qos).await?);
                    rates[index].push(throughput(*address, filter, qos).await?);
                }
            }
            println!("QoS {qos}, {PAYLOAD} bytes, {kind}:");
            for (index, (name, _)) in brokers.iter().enumerate() {
                let all = &mut latencies[index];
                all.sort_unstable();
                let at = |percent: usize| all[(all.len() - 1) * percent / 100].as_micros();
                rates[index].sort_by(f64::total_cmp);
                println!(
                    "  {name:12} p50 {:4} µs  p99 {:4} µs  max {:5} µs  {:7.0} messages/s (median)",
                    at(50),
                    at(99),
                    at(100),
                    rates[index][ROUNDS / 2]
                );
            }
        }
    }
    drop(mosquitto);
    broker.abort();
    Ok(())
}

/// One message at a time.
async fn latency(address: SocketAddr, filter: &str, qos: u8) -> Result<Vec<Duration>, Failure> {
    let mut subscriber = subscriber(address, filter, qos).await?;
    let mut publisher = connect(address, "hop-publisher").await?;
    let message = publish(qos);
    let mut times = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        publisher.write_all(&message).await?;
        let mut packet = vec![0; message.len()];
        subscriber.read_exact(&mut packet).await?;
        times.push(start.elapsed());
        if qos == 1 {
            subscriber.write_all(&[0x40, 2, packet[14], packet[15]]).await?;
            publisher.read_exact(&mut [0; 4]).await?;
        }
    }
    Ok(times)
}

/// As many as go; messages per second.
async fn throughput(address: SocketAddr, filter: &str, qos: u8) -> Result<f64, Failure> {
    let mut subscriber = subscriber(address, filter, qos).await?;
    let publisher = connect(address, "hop-publisher").await?;
    let message = publish(qos);
    let start = Instant::now();
    let (mut acknowledgements, mut messages) = publisher.into_split();
    let burst = message.repeat(100);
    let sending = tokio::spawn(async move {
        for _ in 0..FLOOD / 100 {
            messages.write_all(&burst).await?;
        }
        Ok::<_, std::io::Error>(messages)
    });
    let reading = tokio::spawn(async move {
        let mut waste = vec![0; 64 * 1024];
        while matches!(acknowledgements.read(&mut waste).await, Ok(read) if read > 0) {}
    });
    let mut buffer = vec![0; 256 * 1024];
    let (mut filled, mut received) = (0, 0);
    while received < FLOOD {
        let read = tokio::time::timeout(Duration::from_secs(10), subscriber.read(&mut buffer[filled..])).await;
        match read {
            Ok(Ok(read)) if read > 0 => filled += read,
            _ => return Err(format!("only {received} of {FLOOD} messages arrived at QoS {qos}").into()),
        }
        let whole = filled / message.len();
        if qos == 1 {
            let mut answers = Vec::with_capacity(whole * 4);
            for packet in buffer[..filled].chunks_exact(message.len()) {
                answers.extend([0x40, 2, packet[14], packet[15]]);
            }
            subscriber.write_all(&answers).await?;
        }
        received += whole;
        buffer.copy_within(whole * message.len()..filled, 0);
        filled -= whole * message.len();
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(sending.await??);
    reading.abort();
    Ok(FLOOD as f64 / seconds)
}

fn publish(qos: u8) -> Vec<u8> {
    let mut body = vec![0, 9];
    body.extend(b"hop/topic");
    if qos == 1 {
        body.extend([0, 1]);
    }
    body.extend([b'x'; PAYLOAD]);
    let length = u8::try_from(body.len() & 0x7f).unwrap_or_default() | 0x80;
    let more = u8::try_from(body.len() >> 7).unwrap_or_default();
    [&[0x30 | qos << 1, length, more][..], &body].concat()
}

async fn connect(address: SocketAddr, id: &str) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let length = u8::try_from(id.len())?;
    let head = [0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, length];
    stream.write_all(&[&head[..], id.as_bytes()].concat()).await?;
    stream.read_exact(&mut [0; 4]).await?;
    Ok(stream)
}

async fn subscriber(address: SocketAddr, filter: &str, qos: u8) -> Result<TcpStream, Failure> {
    let mut stream = connect(address, "hop-subscriber").await?;
    let length = u8::try_from(filter.len())?;
    let packet = [&[0x82, length + 5, 0, 1, 0, length][..], filter.as_bytes(), &[qos]].concat();
    stream.write_all(&packet).await?;
    stream.read_exact(&mut [0; 5]).await?;
    Ok(stream)
}

struct Mosquitto {
    child: Child,
    address: SocketAddr,
    config: std::path::PathBuf,
}

impl Mosquitto {
    async fn start() -> Result<Option<Self>, Failure> {
        let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
        let config = std::env::temp_dir().join(format!("hop-{}.conf", std::process::id()));
        let limits = "set_tcp_nodelay true\nmax_queued_messages 0\nmax_inflight_messages 500\n";
        let listen = format!("listener {} 127.0.0.1\nallow_anonymous true\n", address.port());
        std::fs::write(&config, [limits, &listen].concat())?;
        let program =
            if std::path::Path::new("/usr/sbin/mosquitto").exists() { "/usr/sbin/mosquitto" } else { "mosquitto" };
        let started = Command::new(program).arg("-c").arg(&config).stderr(Stdio::null()).stdout(Stdio::null()).spawn();
        let Ok(child) = started else {
            return Ok(None);
        };
        let mosquitto = Self { child, address, config };
        for _ in 0..100 {
            if connect(address, "hop-waiting").await.is_ok() {
                return Ok(Some(mosquitto));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err("mosquitto did not start".into())
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.config);
    }
}
