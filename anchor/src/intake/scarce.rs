//! What is taken in while there is too little room on the disk: next to nothing, but what is lost is counted.
//!
//! | what comes | what becomes of it |
//! |---|---|
//! | a list of revoked certificates that the authority signed | logged: it is small and rare, and what comes after it is judged by it |
//! | a signed message, a replay | its sender says it again until it is acknowledged |
//! | a last will, a retained copy | the broker says it again when it is asked to, once there is room |
//! | a command, and what nobody vouches for | nobody says it again: it is counted |

use super::reading::{Opened, open};
use super::{Admitted, Arrival, Checked, Intake, Now};
use crate::speech::{Unverified, hear};

impl Intake {
    /// Takes in only what must not be missed. What is neither logged nor said again is counted.
    pub fn receive_scarcely(&mut self, arrivals: &[Arrival], now: Now, admitted: &mut Vec<Admitted>) {
        for arrival in arrivals {
            match open(*arrival) {
                Opened::Plain(arrival) => self.receive_one_scarcely(arrival, now, admitted),
                Opened::Ack | Opened::Replay(_) => {}
                Opened::Broken => self.count_only(now),
            }
        }
    }

    fn receive_one_scarcely(&mut self, arrival: Arrival, now: Now, admitted: &mut Vec<Admitted>) {
        let heard = hear(arrival.topic, arrival.payload).and_then(|heard| self.check(heard, arrival, None, now));
        match heard {
            Ok(Checked::Revocations(list)) => self.admit_revocations(&list, arrival, now, admitted),
            // Of who is not known yet, the status may have come in vain.
            Ok(Checked::Said(..)) | Err(Unverified::Unknown(_)) => {}
            Ok(Checked::Command) | Err(_) if arrival.retained => {}
            Ok(Checked::Command) | Err(_) => self.count_only(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{self, Payload};
    use crate::notice::Notice;
    use crate::testing::{Street, at};
    use grid_protocol::message::{Header, Message, Role, Session};
    use grid_protocol::revocation::{self, Revocations};

    #[test]
    fn only_lists_of_revoked_certificates_are_logged_and_what_nobody_says_again_is_counted() {
        let (street, other) = (Street::new(), Street::new());
        let mut intake = Intake::new(street.speakers());
        let mut device = street.speaker("cp-1", Role::Device, 1);
        let said = [device.birth(), device.measurement(), device.will(1), street.speaker("x", Role::Device, 2).birth()];
        let unheard = device.measurement();
        let replay = device.replay(&unheard);
        let mut forged = device.measurement();
        forged.payload[70] ^= 1;
        let list = |street: &Street| {
            let header =
                Header { from: revocation::authority_name(), session: Session(7), seq: Some(1), time_ms: at(0).unix };
            revocation::write(&Message { header, body: Revocations::default() }, &street.issuer).unwrap()
        };
        let (genuine, invented) = (list(&street), list(&other));

        let mut admitted = Vec::new();
        let birth = Arrival { topic: "grid/demo/cp-1/status", payload: &said[0].payload, retained: false };
        intake.receive(birth, at(0), &mut admitted);
        let topics: Vec<String> = said.iter().chain([&replay]).map(|said| said.topic.to_string()).collect();
        let kept = topics.iter().zip(said.iter().chain([&replay])).map(|(topic, said)| (&**topic, &*said.payload));
        let retained = [("grid/demo/cp-1/set/x", &b"7"[..]), ("grid/demo/junk", b"junk"), ("grid/demo/cp-1/ack", b"")];
        let counted = [
            ("grid/demo/cp-1/set/limit", &b"7"[..]),
            ("grid/demo/junk", b"junk"),
            ("grid/demo/cp-1/measurement", &forged.payload),
            ("grid/demo/cp-1/replay", b"junk"),
            ("grid/demo/ca/revoked", &invented),
        ];
        admitted.clear();
        let arrival = |retained| move |(topic, payload)| Arrival { topic, payload, retained };
        let mut arrivals: Vec<Arrival> = kept.chain(counted).map(arrival(false)).collect();
        arrivals.extend(retained.map(arrival(true)));
        let revoked = [genuine.as_slice(); 2].map(|payload| ("grid/demo/ca/revoked", payload));
        arrivals.extend(revoked.map(arrival(true)));
        intake.receive_scarcely(&arrivals, at(0), &mut admitted);
        intake.say_not_logged(at(0), &mut admitted);
        intake.say_not_logged(at(0), &mut admitted);

        let entries: Vec<_> = admitted.iter().map(|admitted| entry::read(&admitted.entry).unwrap()).collect();
        let said: Vec<(&str, &Payload)> = entries.iter().map(|entry| (&*entry.topic, &entry.payload)).collect();
        let notice = Notice::NotLogged(counted.len() as u64).write();
        let (list, notice) = (Payload::Bytes(genuine.into()), Payload::Bytes(notice.into()));
        assert_eq!(said, [("grid/demo/ca/revoked", &list), ("grid/demo/#", &notice)]);
    }
}
