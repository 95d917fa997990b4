//! What the way from a reading to a device that obeys is made of, each piece alone.

use std::thread;
use std::time::{Duration, Instant};

use grid_agent::directory::Directory;
use grid_protocol::author::Author;
use grid_protocol::message::{Part, Phase, Presence, Reason, Reference, Role, Session, Setpoint, Status};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::{MilliAmps, Millis};
use grid_service::clock::{boot_micros, unix_now};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::Failure;
use crate::figures::Latency;
use crate::fleet::certificate_text;
use crate::site::{Site, TRANSFORMER, device_name};

const PAUSE: Duration = Duration::from_millis(5);
/// Pieces are measured as they occur, after a pause: a processor that has slept is not as quick as in a loop.
const TIMES: usize = 400;

#[derive(Clone, Debug, Serialize)]
pub struct Pieces {
    /// A reading goes from the meter's thread to the agent's task.
    pub wake: Latency,
    /// A setpoint is built and signed.
    pub sign: Latency,
    /// A setpoint is parsed and its signature checked.
    pub verify: Latency,
}

pub async fn pieces(steps: usize) -> Result<Pieces, Failure> {
    let times = steps.min(TIMES);
    Ok(Pieces { wake: wake(times).await?, ..messages(times).await? })
}

async fn wake(times: usize) -> Result<Latency, Failure> {
    let (sender, mut receiver) = mpsc::channel(2);
    thread::Builder::new().spawn(move || {
        for _ in 0..times {
            thread::sleep(PAUSE);
            if sender.blocking_send(boot_micros()).is_err() {
                return;
            }
        }
    })?;
    let mut measured = Vec::new();
    while let Some(sent) = receiver.recv().await {
        measured.push(boot_micros() - sent);
    }
    Ok(Latency::of(measured))
}

async fn messages(times: usize) -> Result<Pieces, Failure> {
    let site = Site::open().await?;
    let transformer: Name = TRANSFORMER.parse()?;
    let device = device_name(0)?;
    let credentials = site.credentials(&transformer, Role::Transformer)?;
    let mut directory = Directory::new(site.name.clone(), credentials.authority.clone());
    let mut author = Author::new(site.name.clone(), transformer.clone(), Session(1), credentials.key.clone());
    let birth = Status {
        state: Presence::Online,
        part: Part::Transformer { phases: Phase::ALL.to_vec() },
        software: String::new(),
        time_factor: 1,
        plant_time_ms: None,
        ends: None,
        previous: None,
        certificate: certificate_text(&credentials.certificate),
    };
    let birth = author.say(Kind::Status, birth, unix_now())?;
    directory.learn(&birth.topic, &birth.payload, unix_now())?;
    let (mut sign, mut verify) = (Vec::new(), Vec::new());
    for seq in 0..times as u64 {
        tokio::time::sleep(PAUSE).await;
        let setpoint = Setpoint {
            answers: Reference { session: Session(2), seq },
            limit_ma: MilliAmps(8_000),
            ttl_ms: Millis(3_000),
            hold: false,
            epoch: 1_475_863_000,
            reason: Reason::Phase(Phase::L3),
        };
        let start = Instant::now();
        let signed = author.say_to(&device, Kind::Setpoint, setpoint, unix_now())?;
        sign.push(u64::try_from(start.elapsed().as_micros())?);
        let start = Instant::now();
        directory.open::<Setpoint>(&signed.topic, &signed.payload, &transformer)?;
        verify.push(u64::try_from(start.elapsed().as_micros())?);
    }
    Ok(Pieces { wake: Latency::default(), sign: Latency::of(sign), verify: Latency::of(verify) })
}
