//! Who has come in and not said CONNECT yet. Their number is limited, in all and for each address, so that idle
//! connections can neither use up the file descriptors nor keep devices out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The connections of all doors that wait for their CONNECT.
#[derive(Debug)]
pub struct WaitingRoom {
    max: usize,
    max_per_address: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place in the waiting room, until dropped.
#[derive(Debug)]
pub struct Waiting {
    room: Arc<WaitingRoom>,
    address: IpAddr,
}

impl WaitingRoom {
    /// Nobody yet.
    pub fn new(max: usize, max_per_address: usize) -> Arc<Self> {
        Arc::new(Self { max, max_per_address, inside: Mutex::default() })
    }

    /// Takes a place, if there is one for this address.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Waiting> {
        let address = host(address);
        let mut inside = self.lock();
        let from_there = inside.by_address.get(&address).copied().unwrap_or(0);
        if inside.all >= self.max || from_there >= self.max_per_address {
            return None;
        }
        inside.all += 1;
        inside.by_address.insert(address, from_there + 1);
        Some(Waiting { room: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut inside = self.room.lock();
        inside.all -= 1;
        if let Some(from_there) = inside.by_address.get_mut(&self.address) {
            *from_there -= 1;
            if *from_there == 0 {
                inside.by_address.remove(&self.address);
            }
        }
    }
}

/// What stands for one host. A host with IPv6 usually has all addresses of its /64 network to itself (RFC 7934).
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_host_cannot_take_all_places() {
        let room = WaitingRoom::new(5, 3);
        let mut greedy: Vec<_> = (0..10).map_while(|_| room.enter(address("192.0.2.1"))).collect();
        assert_eq!(greedy.len(), 3);
        let _other = room.enter(address("192.0.2.2")).unwrap();
        let _another = room.enter(address("192.0.2.3")).unwrap();
        assert!(room.enter(address("192.0.2.4")).is_none(), "the room is full");
        greedy.pop();
        assert!(room.enter(address("192.0.2.1")).is_some());
        drop(greedy);
        assert_eq!(room.lock().by_address.len(), 2, "nothing is kept of who has left");
    }

    #[test]
    fn a_host_is_the_same_however_its_address_is_written() {
        let room = WaitingRoom::new(10, 1);
        let _first = room.enter(address("192.0.2.1")).unwrap();
        assert!(room.enter(address("::ffff:192.0.2.1")).is_none());
        let _second = room.enter(address("2001:db8::1")).unwrap();
        assert!(room.enter(address("2001:db8::ffff:1")).is_none());
        assert!(room.enter(address("2001:db8:0:1::1")).is_some());
    }
}
