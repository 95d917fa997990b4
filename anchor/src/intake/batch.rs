//! Signatures checked together: much cheaper than one by one, as long as all of them hold.
//!
//! Many signatures are checked as one equation, of which each is a summand times a factor that nobody can foresee
//! ([`ed25519_zebra::batch`]; summands of one key are added up first, so that it costs the less the fewer keys there are).
//! If it holds, all hold. If not, some signature is wrong, and it does not say which. So the signatures of each key are
//! checked for themselves, and one by one only those of a key with a wrong one. For a while such a key is a suspect: its
//! signatures stay out of the common equation. So who forges costs a second look at one batch, and from then on no more
//! than the check of what he sent.
//!
//! Together is less strict than one by one ([`grid_protocol::seal::Sealed::verify`]): it follows ZIP 215, which allows a
//! difference of small order and encodings that are not canonical. Only who has the key can make a signature that passes
//! together and not one by one, and harms only himself: the anchor acknowledges it, and `verify`, which checks one by
//! one, counts it as unverified. What passes one by one always passes here. Keys of small order, for which anybody could
//! sign, are in no certificate that is accepted ([`grid_protocol::identity::Identity::from_uri`]). The tests hold all this
//! against the edge cases of "Taming the many EdDSAs" (Chalkias, Garillot, Nikolaenko; IACR ePrint 2020/1244).

use std::collections::HashMap;

use ed25519_dalek::{Signature, VerifyingKey};
use ed25519_zebra::batch::Verifier;
use grid_protocol::units::{BootTime, Millis};

/// Fewer signatures than this are cheaper one by one.
const FEWEST: usize = 4;
/// How long the signatures of a key are kept apart after a wrong one.
const SUSPECT_FOR: Millis = Millis(60_000);

/// A signature to be checked.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose it is said to be.
    pub key: VerifyingKey,
    /// What is signed.
    pub message: Vec<u8>,
    /// The signature.
    pub signature: Signature,
}

/// Checks signatures together, and remembers who spoiled that.
#[derive(Debug, Default)]
pub struct Checker {
    suspects: HashMap<VerifyingKey, BootTime>,
}

impl Checker {
    /// Which of the claims hold, in their order.
    pub fn check(&mut self, claims: &[Claim], now: BootTime) -> Vec<bool> {
        self.suspects.retain(|_, since| now.since(*since) < SUSPECT_FOR);
        let is_suspect = |at: &usize| self.suspects.contains_key(&claims[*at].key);
        let (mut singly, together): (Vec<usize>, Vec<usize>) = (0..claims.len()).partition(is_suspect);
        if !all_hold(claims, &together) {
            for of_key in by_key(claims, &together) {
                if !all_hold(claims, &of_key) {
                    self.suspects.insert(claims[of_key[0]].key, now);
                    singly.extend(of_key);
                }
            }
        }
        let mut holds = vec![true; claims.len()];
        for at in singly {
            holds[at] = claims[at].holds();
        }
        holds
    }
}

impl Claim {
    fn holds(&self) -> bool {
        self.key.verify_strict(&self.message, &self.signature).is_ok()
    }
}

fn all_hold(claims: &[Claim], chosen: &[usize]) -> bool {
    if chosen.len() < FEWEST {
        return chosen.iter().all(|at| claims[*at].holds());
    }
    let mut together = Verifier::new();
    for at in chosen {
        let Claim { key, message, signature } = &claims[*at];
        together.queue((key.to_bytes().into(), *signature, message));
    }
    together.verify(rand::thread_rng()).is_ok()
}

/// The chosen claims of each key; the keys in the order in which they first come.
fn by_key(claims: &[Claim], chosen: &[usize]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut group_of = HashMap::new();
    for at in chosen {
        let group = *group_of.entry(claims[*at].key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(*at);
    }
    groups
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
