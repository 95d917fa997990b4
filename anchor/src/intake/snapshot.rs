//! The bytes of a snapshot: JSON in gzip.
//!
//! One is written with each checkpoint, and sessions are never forgotten. Of a session that is over, about forty bytes
//! are left.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A snapshot that is not what we write.
#[derive(Debug, thiserror::Error)]
pub enum BadSnapshot {
    /// Its compressed data is not valid.
    #[error("it does not inflate: {0}")]
    Gzip(#[from] io::Error),
    /// It is not the JSON that we write.
    #[error("it does not read as a snapshot of this version: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes what is known.
pub fn write(known: &impl Serialize) -> Vec<u8> {
    let json =
        serde_json::to_vec(known).unwrap_or_else(|error| unreachable!("names and numbers are always JSON: {error}"));
    let mut file = GzEncoder::new(Vec::new(), Compression::default());
    let written = file.write_all(&json).and_then(|()| file.finish());
    written.unwrap_or_else(|error| unreachable!("compressing from memory into memory cannot fail: {error}"))
}

/// Reads what [`write`] wrote. Earlier versions wrote the JSON itself.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadSnapshot> {
    if bytes.starts_with(b"{") {
        return Ok(serde_json::from_slice(bytes)?);
    }
    let mut json = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::sessions::Sessions;
    use crate::intake::{Intake, Now};
    use crate::testing::{Street, at, name};
    use grid_protocol::message::{Role, Session};

    /// Forty devices that start every day, for most of a year.
    fn many_sessions() -> Intake {
        let Now { unix, boot: _ } = at(0);
        let street = Street::new();
        let mut intake = Intake::new(street.speakers());
        let mut random = 1u64;
        for device in 0..40 {
            let device = format!("cp-{device}");
            let who = street.speaker(&device, Role::Device, 1).certificate;
            let who = std::sync::Arc::new(intake.speakers.vouch(&who, unix).unwrap());
            for day in 0..250u64 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let session = Session(random ^ (random >> 29));
                let sessions: &mut Sessions = &mut intake.sessions;
                for seq in [1, 2] {
                    sessions.log(&name(&device), session, seq);
                }
                sessions.lose(&name(&device), session, 1, 20_000 + random % 5000);
                sessions.end(&name(&device), session, 1);
                sessions.name(&name(&device), session, day * 1_000_000 + random % 1000);
                sessions.durable(day * 1_000_000 + 900_000);
                intake.speakers.learn(&name(&device), session, who.clone());
            }
        }
        intake
    }

    #[test]
    fn ten_thousand_old_sessions_take_little_and_read_back() {
        let intake = many_sessions();
        let bytes = intake.snapshot();
        let json: serde_json::Value = read(&bytes).unwrap();
        let plain = serde_json::to_vec(&json).unwrap();
        println!("10,000 sessions: {} bytes, as JSON {}", bytes.len(), plain.len());
        assert!(bytes.len() < 500_000, "{} bytes", bytes.len());
        let again = Intake::restore(Street::new().speakers(), &bytes, 250_000_000, at(0).unix).unwrap();
        let devices = |intake: &Intake| serde_json::to_value(intake.sessions.devices()).unwrap();
        assert_eq!(devices(&again), devices(&intake));
    }

    #[test]
    fn what_does_not_inflate_or_read_is_refused() {
        assert!(matches!(read::<serde_json::Value>(&[0x1f, 0x8b, 8]), Err(BadSnapshot::Gzip(_))));
        assert!(matches!(read::<serde_json::Value>(b"{"), Err(BadSnapshot::Json(_))));
        assert!(matches!(read::<u8>(&write(&"text")), Err(BadSnapshot::Json(_))));
    }
}
