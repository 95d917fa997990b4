//! What is known of this agent's sessions: the one that runs, and older ones that the log may not have whole.

use std::collections::BTreeMap;

use grid_protocol::message::{PreviousSession, Session};
use grid_protocol::sequence::Sequence;

use super::state::KeptSession;

/// One session.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Which of all sessions it is, in the order in which they began.
    began: u64,
    /// Its last message, as far as is known.
    pub last_seq: u64,
    /// What is acknowledged, or lost.
    pub settled: Sequence,
    /// What the newest acknowledgement misses.
    pub missing: Sequence,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    known: BTreeMap<Session, Known>,
    current: Option<Session>,
    /// How many have begun. 0 is for those of which nobody knows when they did.
    begun: u64,
}

impl Sessions {
    /// Takes up those that were known before a restart, in the order in which they began. They are older than those
    /// that are here.
    pub fn restore(&mut self, kept: &[KeptSession]) {
        let older = kept.len() as u64;
        self.begun += older;
        self.known.values_mut().for_each(|known| known.began += older);
        for (began, KeptSession { session, last_seq, settled }) in (1..).zip(kept) {
            let known = self.known.entry(*session).or_insert_with(|| Known { began, ..Known::default() });
            known.last_seq = known.last_seq.max(*last_seq);
            settled.iter().for_each(|(first, last)| known.settled.insert_range(*first, *last));
        }
    }

    fn add(&mut self, session: Session) -> &mut Known {
        self.begun += 1;
        let began = self.begun;
        self.known.entry(session).or_insert_with(|| Known { began, ..Known::default() })
    }

    /// A session begins. Those before it are over.
    pub fn begin(&mut self, session: Session) {
        self.add(session);
        self.current = Some(session);
    }

    /// A session of which only messages were found. It counts as older than those that are known.
    pub fn find(&mut self, session: Session) -> &mut Known {
        self.known.entry(session).or_default()
    }

    pub fn get(&self, session: Session) -> Option<&Known> {
        self.known.get(&session)
    }

    pub fn get_mut(&mut self, session: Session) -> Option<&mut Known> {
        self.known.get_mut(&session)
    }

    pub fn is_current(&self, session: Session) -> bool {
        self.current == Some(session)
    }

    pub fn all(&self) -> impl Iterator<Item = (Session, &Known)> {
        self.known.iter().map(|(session, known)| (*session, known))
    }

    /// The one before the current, and the last number known of it.
    pub fn previous(&self) -> Option<PreviousSession> {
        let older = self.known.iter().filter(|(session, _)| self.current != Some(**session));
        let (session, known) = older.max_by_key(|(_, known)| known.began)?;
        // At least its birth was said.
        let seq = known.last_seq.max(known.settled.highest()).max(1);
        Some(PreviousSession { session: *session, seq })
    }

    /// Those before the current and the one before it, which a birth names.
    pub fn over(&self) -> impl Iterator<Item = Session> {
        let previous = self.previous().map(|previous| previous.session);
        let current = self.current;
        self.known.keys().copied().filter(move |session| Some(*session) != current && Some(*session) != previous)
    }

    /// Forgets a session.
    pub fn forget(&mut self, session: Session) {
        self.known.remove(&session);
    }

    /// In how many pieces the numbers of all of them are settled.
    pub fn pieces(&self) -> usize {
        self.known.values().map(|known| known.settled.ranges().count()).sum()
    }

    /// What is to be known after a restart.
    pub fn to_keep(&self) -> Vec<KeptSession> {
        let mut known: Vec<_> = self.known.iter().collect();
        known.sort_by_key(|(_, known)| known.began);
        known
            .into_iter()
            .map(|(session, known)| KeptSession {
                session: *session,
                last_seq: known.last_seq,
                settled: known.settled.ranges().collect(),
            })
            .collect()
    }
}
