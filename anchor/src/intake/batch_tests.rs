//! What passes one by one, what together, and what a forgery costs.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signer, SigningKey};
use grid_protocol::identity::Identity;
use grid_protocol::message::Role;
use grid_protocol::seal::Sealed;
use serde::Deserialize;

#[derive(Deserialize)]
struct EdgeCases {
    cases: Vec<EdgeCase>,
}

#[derive(Deserialize)]
struct EdgeCase {
    message: String,
    pub_key: String,
    signature: String,
}

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    assert_eq!(hex.len(), 2 * N);
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

/// The twelve edge cases of "Taming the many EdDSAs".
fn edge_cases() -> Vec<Claim> {
    let file = include_str!("../../tests/golden/ed25519-edge-cases.json");
    let EdgeCases { cases } = serde_json::from_str(file).unwrap();
    let claim = |case: &EdgeCase| Claim {
        key: VerifyingKey::from_bytes(&bytes(&case.pub_key)).unwrap(),
        message: bytes::<32>(&case.message).to_vec(),
        signature: Signature::from_bytes(&bytes(&case.signature)),
    };
    cases.iter().map(claim).collect()
}

fn honest(signer: u8, number: u64) -> Claim {
    let key = SigningKey::from_bytes(&[signer; 32]);
    let message = format!("message {number}").into_bytes();
    Claim { key: key.verifying_key(), signature: key.sign(&message), message }
}

fn forged(signer: u8, number: u64) -> Claim {
    Claim { message: b"another".to_vec(), ..honest(signer, number) }
}

const NOW: BootTime = BootTime(1_000_000);

/// The answer must not hang on the factors of the common equation, which are drawn for each batch: so many are tried.
const BATCHES: u64 = 50;

fn may_be_in_a_certificate(key: VerifyingKey) -> bool {
    let [site, name] = ["demo", "cp-1"].map(|text| text.parse().unwrap());
    Identity::from_uri(&Identity { site, role: Role::Device, name, key }.to_uri()).is_some()
}

/// `always`, `never` or `sometimes`, among honest signatures.
fn together(claim: &Claim) -> &'static str {
    let passes = |batch: &u64| {
        let mut claims: Vec<Claim> = (0..4).map(|number| honest(1, batch * 4 + number)).collect();
        claims.push(claim.clone());
        let holds = Checker::default().check(&claims, NOW);
        assert_eq!(holds[..4], [true; 4], "the others suffer");
        holds[4]
    };
    match (0..BATCHES).filter(passes).count() as u64 {
        0 => "never",
        BATCHES => "always",
        _ => "sometimes",
    }
}

#[test]
fn the_known_edge_cases_get_the_answers_that_the_documentation_promises() {
    let row = |(number, claim): (usize, &Claim)| {
        let key = if may_be_in_a_certificate(claim.key) { "good" } else { "refused" };
        let singly = if claim.holds() { "passes" } else { "refused" };
        format!("{number:>2} {key:<8} {singly:<8} {}", together(claim))
    };
    let table: Vec<String> = edge_cases().iter().enumerate().map(row).collect();
    // Case, its key in a certificate, strict and one by one, together with others.
    let expected = [
        // Small-order keys; in 0 and 2 R is of small order too.
        " 0 refused  refused  always",
        " 1 refused  refused  always",
        " 2 good     refused  always",
        // Key and R have a part of small order, and the plain equation holds.
        " 3 good     passes   always",
        // The same, but only the equation times eight holds.
        " 4 good     refused  always",
        " 5 good     refused  always",
        // S is not below L.
        " 6 good     refused  never",
        " 7 good     refused  never",
        // R is of small order and not in its canonical encoding.
        " 8 good     refused  never",
        " 9 good     refused  always",
        // The key is of small order and not in its canonical encoding.
        "10 refused  refused  always",
        "11 refused  refused  always",
    ];
    assert_eq!(table, expected, "\n{}", table.join("\n"));
}

#[test]
fn an_edge_case_sealed_as_a_message_is_refused_whatever_the_key() {
    for Claim { key, signature, .. } in edge_cases() {
        let signature = URL_SAFE_NO_PAD.encode(signature.to_bytes());
        let payload = format!("{{\"from\":\"cp-1\",\"sig\":\"{signature}\"}}");
        let sealed = Sealed::parse(payload.as_bytes()).unwrap();
        assert!(sealed.verify("grid/demo/cp-1/event", &key).is_err());
    }
}

#[test]
fn a_key_of_small_order_signs_nothing_although_the_plain_equation_holds_for_it() {
    // The neutral point as key and as R, S = 0: 0·B = R + k·A holds for every message.
    let neutral = std::array::from_fn(|at| u8::from(at == 0));
    let key = VerifyingKey::from_bytes(&neutral).unwrap();
    let signature = Signature::from_components(neutral, [0; 32]);
    let payload = format!("{{\"from\":\"cp-1\",\"sig\":\"{}\"}}", URL_SAFE_NO_PAD.encode(signature.to_bytes()));
    let sealed = Sealed::parse(payload.as_bytes()).unwrap();
    let bytes = sealed.signed_bytes("grid/demo/cp-1/event");
    assert!(ed25519_dalek::Verifier::verify(&key, &bytes, &signature).is_ok());
    assert!(sealed.verify("grid/demo/cp-1/event", &key).is_err());
    assert!(!may_be_in_a_certificate(key));
}

#[test]
fn a_forgery_is_found_wherever_it_stands_and_nothing_else_suffers() {
    let honest: Vec<Claim> = (0..24).map(|number| honest(1 + (number % 5) as u8, number)).collect();
    assert_eq!(Checker::default().check(&honest, NOW), [true; 24]);
    assert_eq!(Checker::default().check(&[], NOW), [] as [bool; 0]);
    for place in 0..honest.len() {
        let mut claims = honest.clone();
        claims[place] = forged(1 + (place % 5) as u8, place as u64);
        let expected: Vec<bool> = (0..honest.len()).map(|at| at != place).collect();
        assert_eq!(Checker::default().check(&claims, NOW), expected, "forged at {place}");
    }
}

#[test]
fn many_forgeries_under_many_keys_are_all_found() {
    for wrong in [|at: u64| at.is_multiple_of(2), |at: u64| at % 3 == 1, |at: u64| at < 40, |_| true] {
        let claim = |at| if wrong(at) { forged((at % 7) as u8 + 1, at) } else { honest((at % 7) as u8 + 1, at) };
        let claims: Vec<Claim> = (0..64).map(claim).collect();
        let expected: Vec<bool> = (0..64).map(|at| !wrong(at)).collect();
        assert_eq!(Checker::default().check(&claims, NOW), expected);
    }
}

#[test]
fn who_forged_is_kept_apart_for_a_minute_and_judged_rightly_all_the_while() {
    let mut checker = Checker::default();
    let mut claims: Vec<Claim> = (0..20).map(|number| honest(1, number)).collect();
    claims.push(forged(2, 20));
    assert!(!checker.check(&claims, NOW)[20]);
    let suspects: Vec<VerifyingKey> = checker.suspects.keys().copied().collect();
    assert_eq!(suspects, [honest(2, 0).key]);
    // Kept apart: a signature that is only as good as the lenient check must pass the strict one now.
    claims[20] = honest(2, 20);
    assert_eq!(checker.check(&claims, NOW + Millis(59_999)), [true; 21]);
    claims[20] = forged(2, 20);
    assert!(!checker.check(&claims, NOW + Millis(59_999))[20]);
    claims.pop();
    checker.check(&claims, NOW + SUSPECT_FOR);
    assert!(checker.suspects.is_empty());
}
