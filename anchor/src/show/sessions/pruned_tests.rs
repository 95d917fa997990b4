//! Charging sessions in what retention left of a log, and whose messages count there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::message::Role;

use super::tests::{FULL, IDLE, Reading, ended, measured, started};
use super::*;
use crate::entry;
use crate::notice::Notice;
use crate::testing::log::{StreetLog, revoking};
use crate::testing::{START, Speaker, Street};

const REVOKED: &str = "grid/demo/ca/revoked";
/// Between the bundle that is dropped and the session's end.
const LATER: usize = 280;

/// A session that begins with entry 1, at the first second, and ends with entry 301. Each entry is a second later than
/// the one before, and in each second the device draws 1 Wh.
struct Night {
    log: StreetLog,
    device: Speaker,
    entries: Vec<Vec<u8>>,
}

/// The anchor's notice that the session is judged by the certificate of this speaker.
fn certificate(speaker: &Speaker) -> Notice {
    let (name, session) = (speaker.author.name().clone(), speaker.author.session());
    Notice::Certificate { name, session, der: STANDARD.encode(&speaker.certificate) }
}

impl Night {
    fn new() -> Self {
        let log = StreetLog::of(4);
        let mut device = log.street.speaker("cp-1", Role::Device, 1);
        let mut entries = Vec::new();
        let birth = device.birth();
        let at = |second: usize| UnixMillis(START.0 + 1000 * second as u64);
        entries.push(entry::write(at(0), &birth.topic.to_string(), &birth.payload));
        for second in 1..=302 {
            let energy = 1000 * second as i64;
            let said = match second {
                1 => started(&mut device, energy)(at(second)),
                301 => ended(&mut device, energy)(at(second)),
                302 => measured(&mut device, Reading { energy, ..IDLE })(at(second)),
                _ => measured(&mut device, Reading { energy, ..FULL })(at(second)),
            };
            entries.push(entry::write(at(second), &said.topic.to_string(), &said.payload));
        }
        Self { log, device, entries }
    }

    fn list(&self) -> Vec<u8> {
        self.log.revoking(1, &[&self.device])
    }

    /// Writes the log with these notices at its end, and drops the first bundle.
    fn prune(&self, notices: &[Notice]) {
        let notices: Vec<Vec<u8>> = notices.iter().map(|notice| self.log.notice(notice)).collect();
        self.log.rewrite(&[&self.entries[..], &notices].concat(), &self.log.key());
        self.log.drop_bundles(1);
    }

    fn sessions(&self, policy: Option<&Policy>) -> Vec<ChargingSession> {
        read(&Extent::of(&self.log.path()).unwrap(), &Selection::default(), policy).unwrap()
    }

    /// In which second each session begins and ends, and how that is known: by what counts under the policy.
    fn judged(&self) -> Vec<(u64, u64, bool, Ending)> {
        let second = |at: UnixMillis| (at.0 - START.0) / 1000;
        let of = |it: &ChargingSession| (second(it.start_ms), second(it.end_ms), it.began_before, it.ended_by);
        self.sessions(Some(&self.log.policy())).iter().map(of).collect()
    }
}

#[test]
fn a_session_whose_beginning_was_dropped_is_shown_from_the_first_entry_that_is_left() {
    let night = Night::new();
    night.log.rewrite(&night.entries, &night.log.key());
    let whole = night.sessions(None).remove(0);
    assert_eq!((whole.start_ms.0 - START.0, whole.began_before, whole.energy_wh), (1000, false, 300));
    night.prune(&[certificate(&night.device)]);
    let rest = night.sessions(None);
    assert_eq!(rest.len(), 1);
    assert_eq!((rest[0].start_ms.0 - START.0, rest[0].began_before, rest[0].energy_wh), (256_000, true, 45));
    assert_eq!((rest[0].end_ms, rest[0].ended_by), (whole.end_ms, Ending::Event));
}

#[test]
fn with_a_policy_the_rest_counts_by_the_certificates_that_the_anchor_repeats() {
    let night = Night::new();
    night.prune(&[certificate(&night.device)]);
    assert_eq!(night.judged(), [(256, 301, true, Ending::Event)]);
    assert_eq!(night.sessions(Some(&night.log.policy())), night.sessions(None));
    night.prune(&[]);
    assert_eq!(night.judged(), []);
    let stranger = Street::new().speaker("cp-1", Role::Device, 1);
    night.prune(&[certificate(&stranger)]);
    assert_eq!(night.judged(), [], "another authority vouches for it");
}

#[test]
fn with_a_policy_a_certificate_that_was_revoked_in_what_was_dropped_counts_for_nothing() {
    let night = Night::new();
    let list = String::from_utf8(night.list()).unwrap();
    night.prune(&[certificate(&night.device), Notice::Revoked(list)]);
    assert_eq!(night.judged(), []);
    let forged = String::from_utf8(revoking(&Street::new(), 1, &[&night.device])).unwrap();
    night.prune(&[certificate(&night.device), Notice::Revoked(forged)]);
    assert_eq!(night.judged(), [(256, 301, true, Ending::Event)]);
}

#[test]
fn with_a_policy_a_certificate_counts_until_the_list_that_revokes_it() {
    let mut night = Night::new();
    let list = night.list();
    night.entries.insert(LATER, entry::write(START, REVOKED, &list));
    night.log.rewrite(&night.entries, &night.log.key());
    assert_eq!(night.judged(), [(1, 279, false, Ending::NotYet)]);
    // What the anchor repeats of it when it drops takes nothing back that stood before it.
    let repeated = Notice::Revoked(String::from_utf8(list).unwrap());
    night.prune(&[certificate(&night.device), repeated]);
    assert_eq!(night.judged(), [(256, 279, true, Ending::NotYet)]);
}

#[test]
fn lists_count_whatever_device_and_range_are_selected() {
    let mut night = Night::new();
    let list = night.list();
    night.entries.insert(100, entry::write(START, REVOKED, &list));
    night.log.rewrite(&night.entries, &night.log.key());
    let from = Some(UnixMillis(START.0 + 200_000));
    let selection = Selection { device: Some("cp-1".parse().unwrap()), from, ..Selection::default() };
    let log = Extent::of(&night.log.path()).unwrap();
    assert_eq!(read(&log, &selection, None).unwrap().len(), 1);
    assert_eq!(read(&log, &selection, Some(&night.log.policy())).unwrap(), []);
}
