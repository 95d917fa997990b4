//! Who is connected, and whose session is kept: one connection per session.
//!
//! A session belongs to an identity and a client id, so nobody takes over another's. A connection to a session that is
//! in use closes the older one and waits until that is gone, its will published, before it is accepted itself
//! (\[MQTT-3.1.4-2\]). So a device's successor never speaks while its predecessor may.
//!
//! A session that outlives its connection is in somebody's hands all the time: those of the connection, then those of
//! the task that keeps it while its client is away ([`crate::session::keep`]), then those of the next connection.
//! It must be, since the router's end of it has to be read without delay.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::access::Owner;
use crate::budget::Allowance;
use crate::ending::Refusal;
use crate::limits::Limits;
use crate::session::Session;

/// What a session is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose it is.
    pub owner: Owner,
    /// MQTT client id.
    pub client_id: String,
}

/// The clients of one broker.
pub struct Clients {
    state: Mutex<State>,
    limits: Limits,
    shutdown: CancellationToken,
}

#[derive(Default)]
struct State {
    places: HashMap<Key, Place>,
    /// Sessions that somebody gave up for a connection that waits for them.
    given_up: HashMap<Key, Session>,
    owners: HashMap<Owner, Account>,
    connected: usize,
    maximum: usize,
}

struct Place {
    kicked: CancellationToken,
    closed: CancellationToken,
    connected: bool,
}

/// What the places of one owner share. It is kept for ever, since the router does not forget either; there are no more
/// of them than users and certificates.
struct Account {
    places: usize,
    allowance: Arc<Allowance>,
}

/// How many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Connected clients.
    pub connected: usize,
    /// The most there were at a time.
    pub maximum: usize,
    /// Sessions whose clients are away.
    pub away: usize,
}

/// A place among the clients, until dropped.
pub struct Login {
    clients: Arc<Clients>,
    key: Key,
    /// Cancelled when another connection wants this session, or the broker stops.
    pub kicked: CancellationToken,
    closed: CancellationToken,
    /// What it may still send.
    pub allowance: Arc<Allowance>,
}

impl Clients {
    /// Nobody yet. All are asked to leave when `shutdown` is cancelled.
    pub fn new(limits: Limits, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), limits, shutdown })
    }

    /// Takes the place of `key`, after whoever has it has left, and the session that it leaves. `machine` says whether
    /// room is kept for this client.
    ///
    /// After a refusal the caller must look for an [`orphan`](Self::orphan).
    pub async fn login(self: &Arc<Self>, key: &Key, machine: bool) -> Result<(Login, Option<Session>), Refusal> {
        loop {
            let older = {
                let mut state = self.lock();
                let is_full = state.connected >= self.places_for(machine);
                // Who comes in place of a connected client takes no place beyond that one's.
                let older = state.places.get(key).filter(|older| older.connected || !is_full);
                match older {
                    Some(older) => {
                        older.kicked.cancel();
                        older.closed.clone()
                    }
                    None if is_full => return Err(Refusal::Busy),
                    None => return state.enter(self, key),
                }
            };
            older.cancelled().await;
        }
    }

    /// A session that was given up for a client that was refused, because others took the last place meanwhile. It must be
    /// ended, since nobody else reads the router's end of it.
    pub fn orphan(&self, key: &Key) -> Option<Session> {
        self.lock().given_up.remove(key)
    }

    /// How many there are.
    pub fn census(&self) -> Census {
        let state = self.lock();
        Census { connected: state.connected, maximum: state.maximum, away: state.places.len() - state.connected }
    }

    fn places_for(&self, machine: bool) -> usize {
        let kept = if machine { 0 } else { self.limits.kept_for_machines };
        self.limits.max_clients.saturating_sub(kept)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn enter(&mut self, clients: &Arc<Clients>, key: &Key) -> Result<(Login, Option<Session>), Refusal> {
        let new_allowance = || Arc::new(Allowance::new(&clients.limits));
        let allowance = if key.owner == Owner::Anyone {
            new_allowance()
        } else {
            let account = self
                .owners
                .entry(key.owner.clone())
                .or_insert_with(|| Account { places: 0, allowance: new_allowance() });
            if account.places >= clients.limits.max_clients_of_one {
                return Err(Refusal::Busy);
            }
            account.places += 1;
            Arc::clone(&account.allowance)
        };
        self.connected += 1;
        self.maximum = self.maximum.max(self.connected);
        let kicked = clients.shutdown.child_token();
        let closed = CancellationToken::new();
        let place = Place { kicked: kicked.clone(), closed: closed.clone(), connected: true };
        self.places.insert(key.clone(), place);
        let login = Login { clients: Arc::clone(clients), key: key.clone(), kicked, closed, allowance };
        Ok((login, self.given_up.remove(key)))
    }

    fn leave(&mut self, key: &Key) {
        if self.places.remove(key).is_some_and(|place| place.connected) {
            self.connected -= 1;
        }
        if let Some(account) = self.owners.get_mut(&key.owner) {
            account.places -= 1;
        }
    }
}

impl Login {
    /// Notes that the client is away while its session is kept; `false` if there are too many such sessions.
    pub fn go_away(&self) -> bool {
        let mut state = self.clients.lock();
        if state.places.len() - state.connected >= self.clients.limits.max_sessions_away {
            return false;
        }
        if let Some(place) = state.places.get_mut(&self.key)
            && std::mem::replace(&mut place.connected, false)
        {
            state.connected -= 1;
        }
        true
    }

    /// Gives the session to the connection that wants it, and ends.
    pub fn give_up(self, session: Session) {
        self.clients.lock().given_up.insert(self.key.clone(), session);
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("key", &self.key).finish()
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.clients.lock().leave(&self.key);
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::router::Router;
    use crate::shared::Shared;

    fn clients(limits: Limits) -> Arc<Clients> {
        Clients::new(limits, CancellationToken::new())
    }

    fn key(owner: Owner, client_id: &str) -> Key {
        Key { owner, client_id: client_id.to_owned() }
    }

    fn anyone(client_id: &str) -> Key {
        key(Owner::Anyone, client_id)
    }

    #[tokio::test]
    async fn a_newcomer_waits_until_the_older_connection_has_left() {
        let clients = clients(Limits::default());
        let (older, _) = clients.login(&anyone("a"), true).await.unwrap();
        let newer = tokio::spawn({
            let clients = Arc::clone(&clients);
            async move { clients.login(&anyone("a"), true).await }
        });
        older.kicked.cancelled().await;
        assert!(!newer.is_finished());
        drop(older);
        let (newer, _) = newer.await.unwrap().unwrap();
        assert!(!newer.kicked.is_cancelled());
    }

    #[tokio::test]
    async fn a_full_house_refuses_newcomers_and_has_room_again_when_somebody_leaves() {
        let clients = clients(Limits { max_clients: 1, ..Limits::default() });
        let first = clients.login(&anyone("a"), true).await.unwrap();
        assert_eq!(clients.login(&anyone("b"), true).await.err(), Some(Refusal::Busy));
        drop(first);
        assert!(clients.login(&anyone("b"), true).await.is_ok());
    }

    #[tokio::test]
    async fn a_crowd_of_users_leaves_room_for_the_machines() {
        let clients = clients(Limits { max_clients: 3, kept_for_machines: 1, ..Limits::default() });
        let user = |client_id: &str| key(Owner::User("anna".to_owned()), client_id);
        let _first = clients.login(&user("1"), false).await.unwrap();
        let _second = clients.login(&user("2"), false).await.unwrap();
        assert_eq!(clients.login(&user("3"), false).await.err(), Some(Refusal::Busy));
        assert!(clients.login(&anyone("cp-1"), true).await.is_ok());
    }

    #[tokio::test]
    async fn one_user_has_a_limited_number_of_places_and_another_its_own() {
        let clients = clients(Limits { max_clients_of_one: 1, ..Limits::default() });
        let first = clients.login(&key(Owner::User("anna".to_owned()), "1"), false).await.unwrap();
        let second = key(Owner::User("anna".to_owned()), "2");
        assert_eq!(clients.login(&second, false).await.err(), Some(Refusal::Busy));
        assert!(clients.login(&key(Owner::User("bert".to_owned()), "1"), false).await.is_ok());
        drop(first);
        assert!(clients.login(&second, false).await.is_ok());
    }

    #[tokio::test]
    async fn the_same_client_id_of_another_identity_is_another_session() {
        let clients = clients(Limits::default());
        let (first, _) = clients.login(&key(Owner::User("anna".to_owned()), "x"), false).await.unwrap();
        let (_second, _) = clients.login(&key(Owner::User("bert".to_owned()), "x"), false).await.unwrap();
        assert!(!first.kicked.is_cancelled());
        assert_eq!(clients.census().connected, 2);
    }

    #[tokio::test]
    async fn a_session_given_up_for_somebody_who_finds_the_house_full_is_not_forgotten() {
        let limits = Limits { max_clients: 1, ..Limits::default() };
        let (router, _heartbeat) = Router::start(&limits).unwrap();
        let shared = Shared::new(limits, Access::open(), router, CancellationToken::new());
        let (away, _) = shared.clients.login(&anyone("a"), true).await.unwrap();
        assert!(away.go_away());
        let returning = tokio::spawn({
            let clients = Arc::clone(&shared.clients);
            async move { clients.login(&anyone("a"), true).await }
        });
        away.kicked.cancelled().await;
        let (_other, _) = shared.clients.login(&anyone("b"), true).await.unwrap();
        away.give_up(Session::new(&shared, 7, "a".to_owned()));
        assert_eq!(returning.await.unwrap().err(), Some(Refusal::Busy));
        assert_eq!(shared.clients.orphan(&anyone("a")).map(|session| session.number), Some(7));
        assert!(shared.clients.orphan(&anyone("a")).is_none());
    }
}
