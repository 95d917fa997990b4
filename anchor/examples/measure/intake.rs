//! Signatures alone, and the recorder: verified, durable, under checkpoints, on one core.

use std::path::Path;
use std::time::Instant;

use ed25519_dalek::{Signature, VerifyingKey};
use ed25519_zebra::batch::Verifier;
use grid_anchor::intake::Arrival;
use grid_anchor::policy::Policy;
use grid_anchor::recorder::Recorder;
use grid_anchor::verify::verify_log;
use grid_durable::Stop;
use grid_protocol::author::Signed;
use grid_protocol::message::{Header, Session};
use grid_protocol::seal::Sealed;
use grid_protocol::units::Millis;

use crate::stopwatch::{Span, Stopwatch};
use crate::street::{Street, now};
use crate::{Failure, Table};

/// As many messages as the service takes in at once when they come fast.
pub const BATCH: usize = 1024;
const RUNS: usize = 3;

/// A message, a signature and a key: nothing else is to be read for it.
struct Check {
    bytes: Vec<u8>,
    signature: Signature,
    key: VerifyingKey,
}

/// What plain Ed25519 verification of the same messages would allow: one by one and strict, and in batches.
pub fn signatures(messages: &[Signed], keys: &[VerifyingKey], table: &mut Table) -> Result<(), Failure> {
    let mut checks = Vec::new();
    for message in messages {
        let sealed = Sealed::parse(&message.payload)?;
        let header: Header = sealed.read()?;
        let number: usize = header.from.as_str().trim_start_matches("cp-").parse()?;
        let bytes = sealed.signed_bytes(&message.topic.to_string());
        checks.push(Check { bytes, signature: sealed.signature(), key: keys[number - 1] });
    }
    let mut singly = Span::MAX;
    let mut together = Span::MAX;
    for _ in 0..RUNS {
        let watch = Stopwatch::start();
        let held =
            checks.iter().filter(|check| check.key.verify_strict(&check.bytes, &check.signature).is_ok()).count();
        singly = singly.min(watch.read());
        let watch = Stopwatch::start();
        let mut batches_held = 0;
        for batch in checks.chunks(BATCH) {
            let mut verifier = Verifier::new();
            for Check { bytes, signature, key } in batch {
                verifier.queue((key.to_bytes().into(), *signature, bytes));
            }
            batches_held += usize::from(verifier.verify(rand::thread_rng()).is_ok());
        }
        together = together.min(watch.read());
        if held != checks.len() || batches_held != checks.len().div_ceil(BATCH) {
            return Err("a signature that was just made does not hold".into());
        }
    }
    table.row("Ed25519 alone, one by one, strict", singly.rates(checks.len()), "");
    table.row(&format!("Ed25519 alone, in batches of {BATCH}"), together.rates(checks.len()), "");
    Ok(())
}

/// All messages through the recorder, in batches of at most `batch`, on one core.
pub fn recorder(
    label: &str,
    street: &Street,
    messages: &[Signed],
    batch: usize,
    folder: &Path,
    table: &mut Table,
) -> Result<(), Failure> {
    let topics: Vec<String> = messages.iter().map(|message| message.topic.to_string()).collect();
    let arrivals: Vec<Arrival> = topics
        .iter()
        .zip(messages)
        .map(|(topic, message)| Arrival { topic, payload: &message.payload, retained: false })
        .collect();
    let settings = street.settings(Millis(1000))?;
    let mut recorder = Recorder::open(folder, settings, street.anchor()?, Session(1), Stop::never(), now())?;
    let watch = Stopwatch::start();
    for arrivals in arrivals.chunks(batch) {
        recorder.receive_all(arrivals, now())?;
        recorder.settle(now())?;
    }
    recorder.finish(now())?;
    let goal = if batch == BATCH { "30,000 /s, at least half of Ed25519 alone" } else { "" };
    table.row(label, watch.read().rates(messages.len()), goal);
    Ok(())
}

/// `verify` on all cores.
pub fn verification(folder: &Path, table: &mut Table) -> Result<(), Failure> {
    let policy = Policy::read(&std::fs::read_to_string(folder.join("site.policy"))?)?;
    let start = Instant::now();
    let report = verify_log(&folder.join("log"), Some(&policy))?;
    let per_million = start.elapsed().as_secs_f64() * 1e6 / report.entries as f64;
    if !report.holds {
        return Err("the log that was just written does not hold".into());
    }
    let cores = std::thread::available_parallelism()?;
    table.row(
        &format!("verify of the whole log, {cores} cores"),
        format!("{per_million:.1} s per million entries"),
        "",
    );
    Ok(())
}
