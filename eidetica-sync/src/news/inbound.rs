//! Contact that peers make: the watches that they hold on this node, and their requests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::Address;
use eidetica_proto::peer_book::AddressOrigin;
use eidetica_proto::proof::Epoch;

use super::board::Board;

/// The watches that peers hold on this node.
///
/// The engine pushes nothing to a peer whose watch brings it the news.
pub(crate) struct InboundWatches {
    board: Arc<Board>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    next: u64,
    watches: BTreeMap<(PublicKey, u64), Arc<[TreeId]>>,
}

/// A peer's watch of this node, until it is dropped.
pub(crate) struct InboundWatch {
    board: Arc<Board>,
    open: Arc<Mutex<Open>>,
    peer: PublicKey,
    watch: u64,
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InboundWatches {
    pub(super) fn new(board: Arc<Board>) -> Self {
        Self {
            board,
            open: Arc::default(),
        }
    }

    /// Tells that a peer watches these trees on this node. Dropping the guard tells that it ended.
    pub(crate) fn open(&self, peer: PublicKey, trees: Arc<[TreeId]>) -> InboundWatch {
        let mut open = lock(&self.open);
        let watch = open.next;
        open.next += 1;
        open.watches.insert((peer, watch), trees.clone());
        drop(open);
        self.board.watch_opened(watch, peer, trees);
        InboundWatch {
            board: self.board.clone(),
            open: self.open.clone(),
            peer,
            watch,
        }
    }

    /// Returns the watch that a peer opened last, with its trees, ascending.
    pub(crate) fn latest_of(&self, peer: PublicKey) -> Option<(u64, Arc<[TreeId]>)> {
        let open = lock(&self.open);
        let mut of_peer = open.watches.range((peer, 0)..=(peer, u64::MAX));
        of_peer
            .next_back()
            .map(|((_, watch), trees)| (*watch, trees.clone()))
    }

    /// Tells that a peer made contact.
    pub(crate) fn heard(&self, peer: PublicKey) {
        self.board.heard(peer);
    }

    /// Tells that a peer asked about trees, and whether it may have anything of each.
    pub(crate) fn heard_about(
        &self,
        peer: PublicKey,
        trees: impl IntoIterator<Item = (TreeId, bool)>,
    ) {
        self.board.heard_about(peer, trees);
    }

    /// Tells what a peer has of trees: every entry that arrived here before the number.
    pub(crate) fn peer_has(&self, peer: PublicKey, trees: impl IntoIterator<Item = (TreeId, u32)>) {
        self.board.peer_has(peer, trees);
    }

    /// Tells that a peer said which start of it is alive.
    pub(crate) fn alive(&self, peer: PublicKey, epoch: Epoch) {
        self.board.alive(peer, epoch);
    }

    /// Tells an address of a peer: one that it said itself, or one in a record that it signed.
    pub(crate) fn address_learned(&self, peer: PublicKey, address: Address, from: AddressOrigin) {
        self.board.address_learned(peer, address, from);
    }
}

impl Drop for InboundWatch {
    fn drop(&mut self) {
        lock(&self.open).watches.remove(&(self.peer, self.watch));
        self.board.watch_closed(self.watch, self.peer);
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key};

    use super::*;

    #[test]
    fn the_latest_watch_of_a_peer_is_known_while_it_is_open() {
        let watches = InboundWatches::new(Arc::default());
        let (p, q) = (key(1).public(), key(2).public());
        let tree = draw("A-B").tree();
        let first = watches.open(p, Arc::from([]));
        let second = watches.open(p, Arc::from([tree]));
        let latest = |peer| {
            watches
                .latest_of(peer)
                .map(|(watch, trees)| (watch, trees.len()))
        };
        assert_eq!((latest(p), latest(q)), (Some((1, 1)), None));
        drop(second);
        assert_eq!(latest(p), Some((0, 0)));
        drop(first);
        assert_eq!(latest(p), None);
    }
}
