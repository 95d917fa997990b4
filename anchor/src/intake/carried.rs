//! What retention must not take with it: whose certificate counts in a session, and which certificates are revoked.
//!
//! Both stand in the log before what they decide about. When the entry that says it is dropped, a [`Notice`] says it
//! again (see there). So in what is left of the log every session has its certificate, and the list that was in force
//! where it begins is there.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use grid_protocol::identity::Serial;
use grid_protocol::message::Session;
use grid_protocol::revocation::RevocationList;
use grid_protocol::seal::Sealed;
use grid_protocol::topic::Name;
use serde::{Deserialize, Serialize};

use super::{Admitted, Intake, Now, Urgency};
use crate::entry;
use crate::journal::Standing;
use crate::notice::Notice;
use crate::speech::{Content, Signed, Vouched};

/// Where in the log it stands who may speak.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Carried {
    /// Entries before this one are dropped, or about to be.
    minimum: u64,
    /// The lists of revoked certificates that still matter.
    lists: Vec<List>,
    /// What was said in entries that have no index yet.
    #[serde(skip)]
    unplaced: Vec<Unplaced>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct List {
    /// It stands in the log at this index or later.
    index: u64,
    payload: String,
}

#[derive(Clone, Debug)]
enum Unplaced {
    Certificate(Name, Session),
    List(String),
    /// A list that was said again: it was in force before all that is left.
    ListAgain(String),
}

impl List {
    fn serials(&self) -> BTreeSet<Serial> {
        let list = Sealed::parse(self.payload.as_bytes()).ok().and_then(|sealed| sealed.read::<RevocationList>().ok());
        list.map(|list| list.body.serials().cloned().collect()).unwrap_or_default()
    }
}

impl Carried {
    /// Whether this list is in the log, or about to be.
    pub(super) fn knows(&self, payload: &[u8]) -> bool {
        let unplaced = self.unplaced.iter().filter_map(|said| match said {
            Unplaced::List(list) | Unplaced::ListAgain(list) => Some(list),
            Unplaced::Certificate(..) => None,
        });
        self.lists.iter().map(|list| &list.payload).chain(unplaced).any(|known| known.as_bytes() == payload)
    }

    /// A list that the authority signed is about to be logged.
    pub(super) fn list(&mut self, payload: &[u8]) {
        if !self.knows(payload) {
            self.unplaced.push(Unplaced::List(String::from_utf8_lossy(payload).into_owned()));
        }
    }

    /// An own notice is in the log.
    pub(super) fn heard(&mut self, notice: Notice) {
        match notice {
            Notice::Certificate { name, session, .. } => self.unplaced.push(Unplaced::Certificate(name, session)),
            Notice::Revoked(payload) => self.unplaced.push(Unplaced::ListAgain(payload)),
            Notice::NotLogged(_) => {}
        }
    }

    /// The lists before `minimum` of which no other says as much. All others before it are forgotten.
    fn lists_before(&mut self, minimum: u64) -> Vec<String> {
        let (before, after): (Vec<List>, Vec<List>) =
            std::mem::take(&mut self.lists).into_iter().partition(|list| list.index < minimum);
        self.lists = after;
        let serials: Vec<BTreeSet<Serial>> = before.iter().map(List::serials).collect();
        let is_contained = |at: usize| {
            (0..before.len()).any(|other| {
                let (this, that) = (&serials[at], &serials[other]);
                this.is_subset(that) && (this != that || at < other)
            })
        };
        let kept: Vec<bool> = (0..before.len()).map(|at| !is_contained(at)).collect();
        before.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(list, _)| list.payload).collect()
    }
}

impl Intake {
    /// Entries before this one are dropped, or are about to be: it was written down that they may be.
    pub fn minimum_index(&self) -> u64 {
        self.carried.minimum
    }

    /// Entries before `minimum` turn out not to be there.
    pub fn begins_at(&mut self, minimum: u64) {
        self.carried.minimum = self.carried.minimum.max(minimum);
    }

    /// Says again what stands before `minimum` and is needed by entries that are still there. Everything before it is
    /// dropped once that is under a checkpoint. All that was admitted so far must be durable.
    ///
    /// While files are being removed, entries are left for a moment that are to be dropped too. So their sessions are
    /// named as well, each once.
    pub fn carry(&mut self, minimum: u64, now: Now, admitted: &mut Vec<Admitted>) {
        let before = self.carried.minimum;
        self.begins_at(minimum);
        for (name, session) in self.sessions.unnamed(before, minimum) {
            if let Some(who) = self.speakers.certificate_of(&name, session) {
                self.name(&name, session, &who, now, admitted);
            }
        }
        for payload in self.carried.lists_before(minimum) {
            let notice = Notice::Revoked(payload.clone());
            self.carried.unplaced.push(Unplaced::ListAgain(payload));
            admitted.push(self.notice(&notice, now));
        }
    }

    /// A status says it, so in its session nothing needs to be carried for now. If another did before, that one counts:
    /// what came between the two cannot be judged by this one.
    pub(super) fn named(&mut self, name: &Name, session: Session) {
        if self.sessions.named(name, session).is_some_and(|index| index >= self.carried.minimum) {
            return;
        }
        // It will stand behind all that is dropped. Where exactly, is known when it is placed.
        self.sessions.name(name, session, self.carried.minimum);
        self.carried.unplaced.push(Unplaced::Certificate(name.clone(), session));
    }

    /// Before a message goes into the log whose certificate was dropped, the certificate does.
    pub(super) fn name_if_dropped(&mut self, signed: &Signed, who: &Vouched, now: Now, admitted: &mut Vec<Admitted>) {
        let (from, session) = (&signed.header.from, signed.header.session);
        match signed.content {
            // They bring it along.
            Content::Status { .. } | Content::LastWill { .. } => {}
            Content::Overflow { .. } | Content::Other => {
                if self.sessions.named(from, session).unwrap_or(0) < self.carried.minimum {
                    self.name(from, session, who, now, admitted);
                }
            }
        }
    }

    fn name(&mut self, name: &Name, session: Session, who: &Vouched, now: Now, admitted: &mut Vec<Admitted>) {
        let notice = Notice::Certificate { name: name.clone(), session, der: STANDARD.encode(&who.certificate) };
        self.named(name, session);
        admitted.push(self.notice(&notice, now));
    }

    pub(super) fn notice(&self, notice: &Notice, now: Now) -> Admitted {
        let entry = entry::write(now.unix, &Notice::topic(self.speakers.site()), &notice.write());
        Admitted { standing: Standing::Unverified, entry, urgency: Urgency::Usual }
    }

    /// What was admitted since the last time stands in the log from index `first` on.
    pub fn placed(&mut self, first: u64) {
        for said in std::mem::take(&mut self.carried.unplaced) {
            match said {
                Unplaced::Certificate(name, session) => self.sessions.name(&name, session, first),
                Unplaced::List(payload) => self.carried.lists.push(List { index: first, payload }),
                Unplaced::ListAgain(payload) => {
                    let again = List { index: first, payload };
                    let serials = again.serials();
                    self.carried.lists.retain(|list| !list.serials().is_subset(&serials));
                    self.carried.lists.push(again);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Arrival;
    use crate::testing::{Street, at, name};
    use grid_protocol::message::Role;

    /// It says its status at each connect.
    #[test]
    fn a_session_is_named_for_what_it_said_before_a_status_that_stays() {
        let street = Street::new();
        let mut intake = Intake::new(street.speakers());
        let mut device = street.speaker("cp-1", Role::Device, 1);
        let mut index = 0;
        let mut admitted = Vec::new();
        for said in [device.birth(), device.measurement(), device.birth(), device.measurement()] {
            let topic = said.topic.to_string();
            let arrival = Arrival { topic: &topic, payload: &said.payload, retained: false };
            intake.receive(arrival, at(0), &mut admitted);
            intake.placed(index);
            index += 300;
        }
        intake.durable(index);
        admitted.clear();
        intake.carry(256, at(0), &mut admitted);
        assert_eq!(admitted.len(), 1, "the measurement at 300 needs it, and the status at 600 comes too late");
        intake.placed(index);
        assert_eq!(intake.sessions.named(&name("cp-1"), Session(1)), Some(index));
        intake.carry(512, at(0), &mut admitted);
        assert_eq!(admitted.len(), 1);
    }
}
