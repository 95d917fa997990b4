//! What somebody costs who sends forged messages under his own name, or under all names.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use grid_anchor::intake::batch::{Checker, Claim};
use grid_protocol::units::BootTime;

use crate::intake::BATCH;
use crate::stopwatch::{Span, Stopwatch};
use crate::{Failure, Table};

const SIGNERS: usize = 40;

/// Whether the message with this number is forged.
type IsForged = fn(usize) -> bool;

/// A batch of messages, some of them forged.
fn batch(keys: &[SigningKey], is_forged: IsForged) -> Vec<Claim> {
    use ed25519_dalek::Signer;
    let claim = |at: usize| {
        let key = &keys[at % SIGNERS];
        let message = format!("message {at} of {BATCH}: {}", "x".repeat(400)).into_bytes();
        let signature = if is_forged(at) { Signature::from_bytes(&[7; 64]) } else { key.sign(&message) };
        Claim { key: VerifyingKey::from(key), message, signature }
    };
    (0..BATCH).map(claim).collect()
}

/// How many signatures a second are checked, per kind of attack.
pub fn forgeries(table: &mut Table) -> Result<(), Failure> {
    let keys: Vec<SigningKey> = (0..SIGNERS).map(|number| SigningKey::from_bytes(&[number as u8 + 1; 32])).collect();
    let attacks: [(&str, IsForged); 4] = [
        ("nobody forges", |_| false),
        ("one message is forged", |at| at == 500),
        ("one of 40 senders forges", |at| at % SIGNERS == 7),
        ("a forgery under every name", |at| at < SIGNERS),
    ];
    for (label, is_forged) in attacks {
        let claims = batch(&keys, is_forged);
        let (mut first, mut later) = (Span::MAX, Span::MAX);
        for _ in 0..3 {
            let mut checker = Checker::default();
            let watch = Stopwatch::start();
            checker.check(&claims, BootTime(1));
            first = first.min(watch.read());
            let watch = Stopwatch::start();
            checker.check(&claims, BootTime(2));
            later = later.min(watch.read());
        }
        table.row(&format!("intake, {label}: first batch"), first.rates(BATCH), "");
        table.row(&format!("intake, {label}: the next"), later.rates(BATCH), "");
    }
    Ok(())
}
