//! The peer book of a node, kept in the metadata of its store.

use std::cmp::Reverse;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use data_encoding::HEXLOWER;
use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::coordinator::PeerId;
use eidetica_proto::peer_book::{AddressOrigin, KnownPeer};
use eidetica_proto::{Address, AddressRace, PeerBook};
use tokio::sync::Notify;

use crate::platform::blocking;
use crate::platform::clock::WallClock;
use crate::store::{Store, StoreError};

/// The metadata of peers, by the hexadecimal digits of their keys.
const PREFIX: &str = "peer/";

/// Knows the addresses of peers, and stores what changes with [`Book::save_changes`].
pub(crate) struct Book {
    store: Arc<dyn Store>,
    clock: WallClock,
    book: Mutex<PeerBook>,
    changed: Notify,
}

impl Book {
    /// Reads the book of a store. Blocks.
    pub(crate) fn open(store: Arc<dyn Store>, clock: WallClock) -> Self {
        let mut book = PeerBook::new();
        match store.list(PREFIX) {
            Ok(records) => {
                for (key, record) in records {
                    if let Err(why) = insert(&mut book, &key, &record) {
                        tracing::warn!(%key, %why, "ignored a damaged record of a peer");
                    }
                }
            }
            Err(error) => tracing::error!(%error, "cannot read the addresses of known peers"),
        }
        Self {
            store,
            clock,
            book: Mutex::new(book),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, PeerBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut PeerBook) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.notify_one();
        changed
    }

    /// Notes addresses of a peer. Tells whether they are a reason to try the peer again.
    pub(crate) fn learn(
        &self,
        peer: PeerId,
        addresses: impl IntoIterator<Item = Address>,
        origin: AddressOrigin,
    ) -> bool {
        let now_ms = self.clock.now_ms();
        self.change(|book| {
            let mut is_news = false;
            for address in addresses {
                is_news |= book.learn(peer, address, origin, now_ms);
            }
            is_news
        })
    }

    /// Tells whether a peer is known.
    pub(crate) fn knows(&self, peer: &PeerId) -> bool {
        self.lock().peer(peer).is_some()
    }

    /// Keeps a peer in the book, for this tree is shared with it. Its first tree is enough for that.
    pub(crate) fn keep(&self, peer: PeerId, tree: TreeId) {
        let now_ms = self.clock.now_ms();
        self.change(|book| {
            if book
                .peer(&peer)
                .is_none_or(|known| known.trees().is_empty())
            {
                book.share(peer, tree, now_ms);
            }
        });
    }

    /// Returns the addresses of a peer, most promising first.
    pub(crate) fn addresses(&self, peer: &PeerId) -> Vec<Address> {
        self.lock().addresses(peer).collect()
    }

    /// Tells whether any address of a peer is known.
    pub(crate) fn has_address(&self, peer: &PeerId) -> bool {
        let book = self.lock();
        book.peer(peer).is_some_and(|it| !it.addresses().is_empty())
    }

    /// Returns all peers with their addresses, most promising first.
    pub(crate) fn all(&self) -> Vec<(PeerId, Vec<Address>)> {
        let book = self.lock();
        let peers = book.peers().map(|(peer, _)| *peer);
        peers
            .map(|peer| (peer, book.addresses(&peer).collect()))
            .collect()
    }

    /// Returns how many peers are known.
    #[cfg(feature = "metrics")]
    pub(crate) fn count(&self) -> usize {
        self.lock().peers().count()
    }

    /// Returns the information about all peers.
    pub(crate) fn known(&self) -> Vec<(PeerId, KnownPeer)> {
        let book = self.lock();
        let peers = book.peers();
        peers.map(|(peer, known)| (*peer, known.clone())).collect()
    }

    /// Returns peers with addresses, those reached most recently first, at most this many.
    pub(crate) fn latest_reached(&self, most: usize) -> Vec<PeerId> {
        let book = self.lock();
        let reached = book.peers().filter_map(|(peer, known)| {
            let addresses = known.addresses().iter();
            let last_ms = addresses.map(|it| it.last_success_ms).max()?;
            Some((Reverse(last_ms), *peer))
        });
        let mut reached: Vec<_> = reached.collect();
        reached.sort_unstable();
        reached.truncate(most);
        reached.into_iter().map(|(_, peer)| peer).collect()
    }

    /// Forgets an address of a peer. Tells whether it was known.
    pub(crate) fn remove_address(&self, peer: PeerId, address: &Address) -> bool {
        self.change(|book| book.forget_address(peer, address))
    }

    /// Forgets a peer.
    pub(crate) fn remove(&self, peer: PeerId) {
        self.change(|book| book.remove(peer));
    }

    /// Notes what came of the addresses of a peer.
    pub(crate) fn note_race(&self, peer: PeerId, race: &AddressRace) {
        let now_ms = self.clock.now_ms();
        self.change(|book| book.handle_race(peer, race, now_ms));
    }

    /// Forgets an address, whichever peers it was known to lead to.
    pub(crate) fn forget_address(&self, address: &Address) {
        self.change(|book| {
            let peers: Vec<PeerId> = book.peers().map(|(peer, _)| *peer).collect();
            for peer in peers {
                book.forget_address(peer, address);
            }
        });
    }

    /// Stores what changes, for as long as it is polled.
    pub(crate) async fn save_changes(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            self.save().await;
        }
    }

    /// Stores what has changed.
    pub(crate) async fn save(&self) {
        loop {
            let Some((peer, record)) = self.lock().poll_changed() else {
                return;
            };
            let store = self.store.clone();
            let key = format!("{PREFIX}{}", HEXLOWER.encode(peer.as_bytes()));
            let stored: Result<(), StoreError> =
                blocking::run(move || store.put(&key, record.as_deref())).await;
            if let Err(error) = stored {
                tracing::warn!(%peer, %error, "cannot store the addresses of a peer");
            }
        }
    }
}

fn insert(book: &mut PeerBook, key: &str, record: &[u8]) -> Result<(), String> {
    let digits = key.strip_prefix(PREFIX).unwrap_or(key);
    let bytes = HEXLOWER.decode(digits.as_bytes()).unwrap_or_default();
    let key = <[u8; 32]>::try_from(bytes).map_err(|_| "its name is not a key".to_owned())?;
    let inserted = book.insert_record(PublicKey::from_bytes(key), record);
    inserted.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::key;

    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn what_is_learned_outlives_the_process() {
        let store = Arc::new(MemoryStore::new());
        let peer = key(1).public();
        let address: Address = "memory:a".parse().expect("an address");
        let book = Book::open(store.clone(), WallClock::default());
        assert!(book.learn(peer, [address.clone()], AddressOrigin::Ticket));
        assert!(!book.learn(peer, [address.clone()], AddressOrigin::Ticket));
        book.save().await;
        let later = Book::open(store.clone(), WallClock::default());
        assert_eq!(later.addresses(&peer), std::slice::from_ref(&address));
        later.forget_address(&address);
        later.save().await;
        assert!(
            Book::open(store, WallClock::default())
                .addresses(&peer)
                .is_empty()
        );
    }
}
