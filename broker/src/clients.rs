//! Who is logged in: one connection per client id.
//!
//! A connection with an id that is in use closes the older one and waits until that is gone, its will published,
//! before it is accepted itself (\[MQTT-3.1.4-2\]). So a device's successor never speaks while its predecessor may.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::ending::Refusal;

/// The clients of one broker.
#[derive(Debug)]
pub struct Clients {
    by_id: Mutex<HashMap<String, Entry>>,
    max: usize,
    shutdown: CancellationToken,
}

#[derive(Debug)]
struct Entry {
    kicked: CancellationToken,
    closed: CancellationToken,
}

/// A place among the clients, until dropped.
#[derive(Debug)]
pub struct Login {
    clients: Arc<Clients>,
    id: String,
    /// Cancelled when another connection wants this id, or the broker stops.
    pub kicked: CancellationToken,
    closed: CancellationToken,
}

impl Clients {
    /// Nobody yet; at most `max`. All are asked to leave when `shutdown` is cancelled.
    pub fn new(max: usize, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self { by_id: Mutex::new(HashMap::new()), max, shutdown })
    }

    /// Takes the place of `id`, after whoever has it has left.
    pub async fn login(self: &Arc<Self>, id: &str) -> Result<Login, Refusal> {
        loop {
            let older = {
                let mut by_id = self.lock();
                match by_id.get(id) {
                    Some(older) => {
                        older.kicked.cancel();
                        older.closed.clone()
                    }
                    None if by_id.len() >= self.max => return Err(Refusal::Busy),
                    None => {
                        let kicked = self.shutdown.child_token();
                        let closed = CancellationToken::new();
                        let entry = Entry { kicked: kicked.clone(), closed: closed.clone() };
                        by_id.insert(id.to_owned(), entry);
                        return Ok(Login { clients: Arc::clone(self), id: id.to_owned(), kicked, closed });
                    }
                }
            };
            older.cancelled().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.clients.lock().remove(&self.id);
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_newcomer_waits_until_the_older_connection_has_left() {
        let clients = Clients::new(10, CancellationToken::new());
        let older = clients.login("a").await.unwrap();
        let newer = tokio::spawn({
            let clients = Arc::clone(&clients);
            async move { clients.login("a").await }
        });
        older.kicked.cancelled().await;
        assert!(!newer.is_finished());
        drop(older);
        let newer = newer.await.unwrap().unwrap();
        assert!(!newer.kicked.is_cancelled());
    }

    #[tokio::test]
    async fn a_full_house_refuses_newcomers_and_has_room_again_when_somebody_leaves() {
        let clients = Clients::new(1, CancellationToken::new());
        let first = clients.login("a").await.unwrap();
        assert_eq!(clients.login("b").await.err(), Some(Refusal::Busy));
        drop(first);
        assert!(clients.login("b").await.is_ok());
    }
}
