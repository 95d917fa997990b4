//! Who is there: the broker, and the transformer.
//!
//! Nothing is decided by it, since a last will frees no lease and a connection that stands promises no setpoint. It only
//! tells a person why none came.

use grid_protocol::message::{Header, Presence, Session, Status};
use grid_protocol::topic::Name;

/// What is known of broker and transformer.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    connected: bool,
    transformer: Option<Seen>,
}

/// What the transformer said of itself last.
#[derive(Clone, Debug)]
struct Seen {
    name: Name,
    session: Session,
    born: u64,
    state: Presence,
}

impl Surroundings {
    /// The connection to the broker stands, or no longer does.
    pub fn on_link(&mut self, connected: bool) {
        self.connected = connected;
    }

    /// The transformer was born, said goodbye or is said to be gone.
    pub fn on_transformer(&mut self, header: &Header, status: &Status) {
        let Header { from, session, seq, .. } = header;
        let (born, state) = match (status.state, status.ends) {
            (Presence::Online, _) => (seq.unwrap_or(0), Presence::Online),
            (Presence::Offline, ends) => (ends.or(*seq).unwrap_or(0), Presence::Offline),
        };
        // A last will means nothing once a later birth is known.
        let outdated = self.transformer.as_ref().is_some_and(|seen| {
            state == Presence::Offline
                && seen.state == Presence::Online
                && (seen.session != *session || seen.born > born)
        });
        if !outdated {
            self.transformer = Some(Seen { name: from.clone(), session: *session, born, state });
        }
    }

    /// Why no setpoint comes, as far as is known.
    pub fn silence(&self) -> String {
        match &self.transformer {
            _ if !self.connected => "the broker does not answer".to_owned(),
            Some(Seen { name, state: Presence::Offline, .. }) => format!("{name} says it is offline"),
            Some(_) | None => "no setpoint came in time".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grid_protocol::message::{Part, Phase};
    use grid_protocol::units::UnixMillis;

    fn tell(surroundings: &mut Surroundings, session: u64, seq: Option<u64>, state: Presence, ends: Option<u64>) {
        let from = "trafo-1".parse().unwrap();
        let header = Header { from, session: Session(session), seq, time_ms: UnixMillis(0) };
        let status = Status {
            state,
            part: Part::Transformer { phases: Phase::ALL.to_vec() },
            software: String::new(),
            time_factor: 1,
            plant_time_ms: None,
            ends,
            previous: None,
            certificate: String::new(),
        };
        surroundings.on_transformer(&header, &status);
    }

    #[test]
    fn the_nearest_cause_is_named() {
        let mut surroundings = Surroundings::default();
        assert_eq!(surroundings.silence(), "the broker does not answer");
        surroundings.on_link(true);
        assert_eq!(surroundings.silence(), "no setpoint came in time");
        tell(&mut surroundings, 1, Some(1), Presence::Online, None);
        assert_eq!(surroundings.silence(), "no setpoint came in time");
        tell(&mut surroundings, 1, None, Presence::Offline, Some(1));
        assert_eq!(surroundings.silence(), "trafo-1 says it is offline");
        surroundings.on_link(false);
        assert_eq!(surroundings.silence(), "the broker does not answer");
    }

    #[test]
    fn a_last_will_means_nothing_once_a_later_birth_is_known() {
        let mut surroundings = Surroundings::default();
        surroundings.on_link(true);
        tell(&mut surroundings, 2, Some(1), Presence::Online, None);
        tell(&mut surroundings, 1, None, Presence::Offline, Some(1));
        tell(&mut surroundings, 2, Some(9), Presence::Online, None);
        tell(&mut surroundings, 2, None, Presence::Offline, Some(1));
        assert_eq!(surroundings.silence(), "no setpoint came in time");
        tell(&mut surroundings, 2, Some(20), Presence::Offline, None);
        assert_eq!(surroundings.silence(), "trafo-1 says it is offline");
    }
}
