//! Measures intake and verification: how many signed messages a second one core verifies and makes durable, how long
//! checkpoints take, and how long `verify` takes for the resulting log.
//!
//! ```text
//! cargo run --release -p grid-anchor --example measure -- 200000 [a new folder that is kept]
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use ed25519_dalek::{Signer, SigningKey};
use grid_anchor::intake::{Arrival, Now};
use grid_anchor::policy::Policy;
use grid_anchor::recorder::{AnchorIdentity, Recorder, RecorderSettings};
use grid_anchor::verify::verify_log;
use grid_durable::Stop;
use grid_protocol::author::{Author, Signed};
use grid_protocol::identity::{Identity, Issuer};
use grid_protocol::message::{Role, Session};
use grid_protocol::topic::{Kind, Name};
use grid_protocol::units::Millis;
use grid_service::clock::{boot_now, unix_now};

const DEVICES: u64 = 40;
/// As many messages as the service takes in between two looks at the clock.
const BATCH: usize = 1024;

fn now() -> Now {
    Now { unix: unix_now(), boot: boot_now() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(100_000), |count| count.parse())?;
    let site: Name = "demo".parse()?;
    let issuer = Issuer::create(&site, unix_now())?;
    let certify = |name: &str, role, key: &SigningKey| -> Result<Vec<u8>, Box<dyn Error>> {
        let identity = Identity { site: site.clone(), role, name: name.parse()?, key: key.verifying_key() };
        Ok(issuer.issue(&identity, unix_now())?.0)
    };
    let messages = messages(&site, count, certify)?;
    let alone = signatures_alone(&messages);
    println!("Ed25519    {alone:.0} signatures a second on one core, alone");

    let temporary = tempfile::tempdir()?;
    let folder = std::env::args_os().nth(2).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let message_key = SigningKey::from_bytes(&[200; 32]);
    let certificate = certify("anchor-1", Role::Anchor, &message_key)?;
    let identity = AnchorIdentity { message_key, certificate, authority: issuer.authority() };
    let settings = RecorderSettings {
        site: site.clone(),
        name: "anchor-1".parse()?,
        commit: Millis(1000),
        checkpoint: Millis(60_000),
        min_free_mb: 200,
        origin: None,
        retention: Default::default(),
    };
    let mut recorder = Recorder::open(&folder, settings, identity, Session(1), Stop::never(), now())?;
    let start = Instant::now();
    let mut slowest = start.elapsed();
    for batch in messages.chunks(BATCH) {
        for Signed { topic, payload, .. } in batch {
            recorder.receive(Arrival { topic: &topic.to_string(), payload, retained: false }, now())?;
        }
        let before = Instant::now();
        recorder.settle(now())?;
        slowest = slowest.max(before.elapsed());
    }
    recorder.finish(now())?;
    let rate = messages.len() as f64 / start.elapsed().as_secs_f64();
    println!("intake     {rate:.0} messages a second, verified, durable, under checkpoints; longest stop {slowest:?}");
    drop(recorder);

    let policy = Policy::read(&std::fs::read_to_string(folder.join("site.policy"))?)?;
    let start = Instant::now();
    let report = verify_log(&folder.join("log"), Some(&policy))?;
    let span = start.elapsed();
    let per_million = span.as_secs_f64() * 1e6 / report.entries as f64;
    println!(
        "verify     {} entries in {span:?}, {per_million:.1} s per million; holds: {}",
        report.entries, report.holds
    );
    Ok(())
}

/// What verification of the signatures alone would allow.
fn signatures_alone(messages: &[Signed]) -> f64 {
    let key = SigningKey::from_bytes(&[1; 32]);
    let sample: Vec<_> = messages.iter().take(5000).map(|said| (&said.payload, key.sign(&said.payload))).collect();
    let start = Instant::now();
    let holds = sample.iter().filter(|(payload, sig)| key.verifying_key().verify_strict(payload, sig).is_ok()).count();
    holds as f64 / start.elapsed().as_secs_f64()
}

fn messages(
    site: &Name,
    count: u64,
    certify: impl Fn(&str, Role, &SigningKey) -> Result<Vec<u8>, Box<dyn Error>>,
) -> Result<Vec<Signed>, Box<dyn Error>> {
    use base64::Engine;
    let mut authors = Vec::new();
    let mut messages = Vec::new();
    for number in 1..=DEVICES {
        let name = format!("cp-{number}");
        let key = SigningKey::from_bytes(&[number as u8; 32]);
        let certificate = base64::engine::general_purpose::STANDARD.encode(certify(&name, Role::Device, &key)?);
        let mut author = Author::new(site.clone(), name.parse()?, Session(number), key);
        messages.push(author.say(Kind::Status, serde_json::json!({"certificate": certificate}), unix_now())?);
        authors.push(author);
    }
    for number in 0..count.saturating_sub(DEVICES) {
        let author = &mut authors[(number % DEVICES) as usize];
        let body = serde_json::json!({
            "uptime_ms": number, "state": "charging", "current_ma": [11_950 + number % 300],
            "voltage_mv": [229_800 + number % 977], "limit_ma": 12_000,
            "obeys": {"session": "77aa01c2d3e4f506", "seq": number}, "settled": true, "lease_ms": 2310,
            "demand_ma": 16_000, "energy_mwh": 1_843_000 + number
        });
        messages.push(author.say(Kind::Measurement, body, unix_now())?);
    }
    Ok(messages)
}
