//! Who may watch: the places for watches, and which watch loses its place.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::PublicKey;
use eidetica_proto::Caller;
use tokio::sync::Notify;

/// Most watches of one key. A peer needs one, two while it opens another, and as many again if its
/// key is in use on two machines.
pub(super) const WATCHES_PER_KEY_MAX: usize = 4;

/// Most watches from one address, behind which there may be a whole organisation: a quarter of all
/// places.
pub(super) const WATCHES_PER_ADDRESS_MAX: usize = 2_048;

/// Most watches in all. Each has a connection, which costs more than the watch does.
pub(super) const WATCHES_MAX: usize = 8_192;

/// Most memory of all watches in bytes: a million watched trees.
pub(super) const WATCHES_BYTES_MAX: usize = 256 << 20;

/// What a watch takes in bytes, its trees apart.
const WATCH_BYTES: usize = 4 << 10;

/// What a watched tree takes in bytes: its place in the watch, and twice in an index.
const WATCHED_TREE_BYTES: usize = 256;

/// The places for watches.
///
/// At a limit, no watch is refused: early ones could keep all others out. Instead, the watch whose
/// reader has taken no frame for longest loses its place. A live reader takes at least heartbeats.
/// A limit of one key or address costs only its own watches, and the limits of all cost the address
/// that takes most memory.
#[derive(Default)]
pub(super) struct WatchPlaces(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    /// In the order of the latest progress.
    places: BTreeMap<u64, Holder>,
    by_group: BTreeSet<(Group, u64)>,
    bytes: usize,
    next: u64,
}

#[derive(Clone)]
struct Holder {
    key: Option<Group>,
    address: Group,
    bytes: usize,
    lost: Arc<Notify>,
}

/// What watches have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Key(PublicKey),
    Address(Arc<str>),
}

/// The place of one watch, until it is dropped or lost.
pub(super) struct WatchPlace {
    taken: Arc<Mutex<Taken>>,
    number: u64,
    lost: Arc<Notify>,
}

impl Group {
    /// The host that a connection came from, or for IPv6 its network: a host has as many addresses
    /// there as it likes.
    fn of_remote(remote: &str) -> Self {
        let host = match remote
            .parse::<SocketAddr>()
            .map(|it| it.ip().to_canonical())
        {
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Ok(IpAddr::V6(ip)) => format!("{:x}", u128::from(ip) >> 64),
            Err(_) => remote.to_owned(),
        };
        Self::Address(host.into())
    }
}

impl WatchPlaces {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a watch of so many trees. Another one may lose its own.
    pub(super) fn take(&self, caller: &Caller, trees: usize) -> WatchPlace {
        let holder = Holder {
            key: caller.key.map(Group::Key),
            address: Group::of_remote(&caller.remote),
            bytes: WATCH_BYTES + trees * WATCHED_TREE_BYTES,
            lost: Arc::default(),
        };
        let lost = holder.lost.clone();
        let mut taken = self.taken();
        if let Some(key) = &holder.key {
            taken.make_room_in(key, WATCHES_PER_KEY_MAX);
        }
        taken.make_room_in(&holder.address, WATCHES_PER_ADDRESS_MAX);
        while taken.places.len() >= WATCHES_MAX || taken.bytes + holder.bytes > WATCHES_BYTES_MAX {
            if !taken.lose_of_largest() {
                break;
            }
        }
        let number = taken.insert(holder);
        drop(taken);
        WatchPlace {
            taken: self.0.clone(),
            number,
            lost,
        }
    }
}

impl Taken {
    fn insert(&mut self, holder: Holder) -> u64 {
        let number = self.next;
        self.next += 1;
        for group in holder.groups() {
            self.by_group.insert((group.clone(), number));
        }
        self.bytes += holder.bytes;
        self.places.insert(number, holder);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Holder> {
        let holder = self.places.remove(&number)?;
        self.bytes -= holder.bytes;
        for group in holder.groups() {
            self.by_group.remove(&(group.clone(), number));
        }
        Some(holder)
    }

    fn lose(&mut self, number: u64) {
        if let Some(holder) = self.remove(number) {
            holder.lost.notify_one();
        }
    }

    /// Makes room for one more in a group.
    fn make_room_in(&mut self, group: &Group, most: usize) {
        let all = (group.clone(), 0)..=(group.clone(), u64::MAX);
        let of_group = self.by_group.range(all).map(|(_, number)| *number);
        let numbers: Vec<u64> = of_group.collect();
        let excess = (numbers.len() + 1).saturating_sub(most);
        for number in numbers.into_iter().take(excess) {
            self.lose(number);
        }
    }

    /// Has the oldest watch lose its place, of those from the address that takes most memory.
    /// Returns `false` if there is none.
    fn lose_of_largest(&mut self) -> bool {
        let mut addresses = BTreeMap::<&Group, (usize, u64)>::new();
        for (number, holder) in &self.places {
            let (bytes, _oldest) = addresses.entry(&holder.address).or_insert((0, *number));
            *bytes += holder.bytes;
        }
        let largest = addresses.into_values().max_by_key(|(bytes, _)| *bytes);
        let Some((_, oldest)) = largest else {
            return false;
        };
        self.lose(oldest);
        true
    }
}

impl Holder {
    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.key.iter().chain([&self.address])
    }
}

impl WatchPlace {
    /// Notes that the reader asks for a frame. Returns `false` if the place is lost.
    pub(super) fn note_progress(&mut self) -> bool {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holder) = taken.remove(self.number) else {
            return false;
        };
        self.number = taken.insert(holder);
        true
    }

    /// Waits until the place is lost.
    pub(super) async fn lost(&self) {
        self.lost.notified().await;
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(key: Option<u16>, remote: &str) -> Caller {
        let key = key.map(|n| {
            let mut bytes = [0; 32];
            bytes[..2].copy_from_slice(&n.to_le_bytes());
            PublicKey::from_bytes(bytes)
        });
        Caller {
            transport: "memory",
            key,
            remote: remote.to_owned(),
        }
    }

    /// Which of the places are lost.
    fn lost(places: &mut [WatchPlace]) -> Vec<usize> {
        let mut lost = Vec::new();
        for (index, place) in places.iter().enumerate() {
            let taken = place.taken.lock().expect("no panic under the lock");
            if !taken.places.contains_key(&place.number) {
                lost.push(index);
            }
        }
        lost
    }

    #[test]
    fn of_one_key_the_watch_without_progress_loses() {
        let all = WatchPlaces::default();
        let other = all.take(&caller(Some(2), "192.0.2.1:1"), 1);
        let take = |port| all.take(&caller(Some(1), &format!("192.0.2.1:{port}")), 1);
        let mut places: Vec<_> = (1..=WATCHES_PER_KEY_MAX).map(take).collect();
        assert!(places[0].note_progress());
        places.push(take(9));
        assert_eq!(lost(&mut places), [1]);
        assert!(!places[1].note_progress(), "it stays lost");
        places.push(other);
        assert_eq!(lost(&mut places), [1], "other keys lose nothing");
    }

    #[test]
    fn one_address_takes_a_quarter_of_the_places() {
        let all = WatchPlaces::default();
        let other = all.take(&caller(None, "[2001:db8::1]:5"), 1);
        let take = |n: usize| all.take(&caller(None, &format!("192.0.2.1:{n}")), 1);
        let mut places: Vec<_> = (0..WATCHES_PER_ADDRESS_MAX + 2).map(take).collect();
        assert_eq!(lost(&mut places), [0, 1]);
        places.push(other);
        assert_eq!(lost(&mut places), [0, 1]);
        drop(places);
        let taken = all.taken();
        assert_eq!((taken.places.len(), taken.by_group.len()), (0, 0));
        assert_eq!(taken.bytes, 0);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let group = |remote| Group::of_remote(remote);
        assert_eq!(group("[2001:db8::1]:5"), group("[2001:db8::2:3]:6"));
        assert_ne!(group("[2001:db8::1]:5"), group("[2001:db8:1::1]:5"));
        assert_eq!(group("[::ffff:192.0.2.1]:5"), group("192.0.2.1:6"));
        assert_ne!(group("name"), group("other name"));
    }

    #[test]
    fn memory_runs_out_for_the_address_that_takes_most() {
        let all = WatchPlaces::default();
        let trees = WATCHES_BYTES_MAX / WATCHED_TREE_BYTES / 8;
        let small = all.take(&caller(Some(0), "192.0.2.1:1"), 1);
        let take = |n: u16| all.take(&caller(Some(n), "192.0.2.2:1"), trees);
        let mut places: Vec<_> = (1..=8).map(take).collect();
        assert_eq!(lost(&mut places), [0]);
        places.push(all.take(&caller(Some(9), "192.0.2.3:1"), trees));
        assert_eq!(lost(&mut places), [0, 1]);
        places.push(small);
        assert_eq!(lost(&mut places), [0, 1]);
    }
}
