//! Passwords of people and of programs such as Home Assistant: kept as Argon2id hashes (RFC 9106) in PHC form.
//!
//! Checking one is slow by intent. So one is checked at a time, whatever comes: a flood of logins costs one core and the
//! memory of one check, and makes logins with passwords wait, until their time is up. Who has a certificate does not wait.

use std::fmt;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Memory in KiB, passes and lanes of new hashes: the least memory of the choices that the OWASP Password Storage Cheat
/// Sheet calls equally strong, since this runs on a Raspberry Pi.
const NEW: (u32, u32, u32) = (9216, 4, 1);
/// More memory or passes than this in a configured hash would let logins stop a Raspberry Pi.
const MOST_MEMORY_KIB: u32 = 65_536;
const MOST_PASSES: u32 = 10;

/// Held while a password is checked.
pub(super) static ONE_AT_A_TIME: Semaphore = Semaphore::const_new(1);

/// The Argon2id hash of a password, for example `$argon2id$v=19$m=9216,t=4,p=1$…`. Neither `Debug` nor serializing
/// shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub struct PasswordHash(String);

/// Why a hash cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHash {
    /// It is none. It is not shown, since it may be a password that was put there by mistake.
    #[error("expected what grid-broker hash-password prints: $argon2id$v=19$m=9216,t=4,p=1$…")]
    Form,
    /// It takes too much.
    #[error("takes {memory} KiB and {passes} passes: expected at most {MOST_MEMORY_KIB} KiB and {MOST_PASSES} passes")]
    Costly {
        /// Memory in KiB.
        memory: u32,
        /// Passes over it.
        passes: u32,
    },
    /// The system gave no random salt, or the password is too long.
    #[error("the password could not be hashed: {0}")]
    NotMade(String),
}

impl PasswordHash {
    /// Hashes a password with a new salt.
    pub fn create(password: &[u8]) -> Result<Self, BadHash> {
        let not_made = |error: &dyn fmt::Display| BadHash::NotMade(error.to_string());
        let (memory, passes, lanes) = NEW;
        let params = Params::new(memory, passes, lanes, None).map_err(|error| not_made(&error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash: phc::PasswordHash = argon2.hash_password(password).map_err(|error| not_made(&error))?;
        Ok(Self(hash.to_string()))
    }

    /// The hash in PHC form.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it can be used.
    pub fn check(&self) -> Result<(), BadHash> {
        let hash = phc::PasswordHash::new(&self.0).map_err(|_| BadHash::Form)?;
        let complete = hash.algorithm.as_str() == "argon2id" && hash.salt.is_some() && hash.hash.is_some();
        let params = Params::try_from(&hash).ok().filter(|_| complete).ok_or(BadHash::Form)?;
        let (memory, passes) = (params.m_cost(), params.t_cost());
        if memory > MOST_MEMORY_KIB || passes > MOST_PASSES {
            return Err(BadHash::Costly { memory, passes });
        }
        Ok(())
    }

    /// Whether it is the hash of `password`. Waits until no other is being checked.
    pub async fn is_of(&self, password: Vec<u8>) -> bool {
        let hash = self.clone();
        // It is never closed.
        let Ok(permit) = ONE_AT_A_TIME.acquire().await else { return false };
        // A client that leaves meanwhile does not stop the check, so the permit stays with it.
        let check = spawn_blocking(move || {
            let is_it = hash.matches(&password);
            drop(permit);
            is_it
        });
        check.await.unwrap_or(false)
    }

    /// The same at once, for a program that has nothing else to do.
    pub fn matches(&self, password: &[u8]) -> bool {
        // Version and costs are taken from the hash.
        phc::PasswordHash::new(&self.0).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
    }
}

impl From<String> for PasswordHash {
    /// Takes it as it is: [`PasswordHash::check`] says whether it can be used.
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(not shown)")
    }
}

impl Serialize for PasswordHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn cheap(password: &str) -> PasswordHash {
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 1, 1, None).unwrap());
        let hash: phc::PasswordHash = argon2.hash_password(password.as_bytes()).unwrap();
        PasswordHash(hash.to_string())
    }

    #[tokio::test]
    async fn a_hash_is_of_its_password_alone_and_each_has_its_own_salt() {
        let (one, other) = (PasswordHash::create(b"geheim").unwrap(), PasswordHash::create(b"geheim").unwrap());
        assert!(one.as_str().starts_with("$argon2id$v=19$m=9216,t=4,p=1$"), "{}", one.as_str());
        assert_ne!(one, other);
        assert_eq!(one.check(), Ok(()));
        assert!(one.is_of(b"geheim".to_vec()).await);
        assert!(!one.is_of(b"Geheim".to_vec()).await && !one.is_of(Vec::new()).await);
    }

    /// Made by the reference implementation of Argon2: `echo -n password | argon2 somesalt -id -t 2 -m 8 -p 1`, from its
    /// own tests.
    #[tokio::test]
    async fn a_hash_that_another_program_made_counts() {
        let reference = PasswordHash::from(
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4".to_owned(),
        );
        assert_eq!(reference.check(), Ok(()));
        assert!(reference.is_of(b"password".to_vec()).await);
    }

    #[test]
    fn what_is_no_argon2id_hash_or_costs_too_much_is_refused_and_not_shown() {
        for text in [
            "",
            "geheim",
            "$6$salt$hash",
            "$argon2id$v=19$m=9216,t=4,p=1",
            "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        ] {
            assert_eq!(PasswordHash::from(text.to_owned()).check(), Err(BadHash::Form), "{text}");
        }
        let costly = cheap("x").as_str().replace("m=64", "m=1000000");
        assert!(matches!(PasswordHash::from(costly).check(), Err(BadHash::Costly { memory: 1_000_000, .. })));
        assert!(!format!("{:?}", PasswordHash::from("geheim".to_owned())).contains("geheim"));
    }

    #[tokio::test]
    async fn one_password_is_checked_at_a_time() {
        let hash = cheap("x");
        let another_check = ONE_AT_A_TIME.acquire().await.unwrap();
        let waiting = tokio::time::timeout(Duration::from_millis(100), hash.is_of(b"x".to_vec())).await;
        assert!(waiting.is_err(), "it did not wait");
        drop(another_check);
        assert!(hash.is_of(b"x".to_vec()).await);
    }
}
