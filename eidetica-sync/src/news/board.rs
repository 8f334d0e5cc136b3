//! What the engine has not taken yet.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{PublicKey, TreeId};
use eidetica_proto::Address;
use eidetica_proto::peer_book::AddressOrigin;
use eidetica_proto::proof::Epoch;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Most ranges in one slot that are remembered as brought by a peer. What exceeds it counts as of
/// unknown origin, so a peer may be sent back what it brought.
const BROUGHT_RANGES_MAX: usize = 16;

/// Most peers, or pairs of a peer and a tree, that are remembered as heard from, or of which it is
/// remembered what they have. Both tell sooner what a check tells in any case.
const HEARD_MAX: usize = 16_384;

/// Most addresses of peers that are remembered, in about 4 MiB. Those that exceed it are learned
/// when they are told again.
const LEARNED_MAX: usize = 4_096;

/// Collects facts until the engine takes them: one slot for each tree, never a queue.
#[derive(Debug, Default)]
pub(crate) struct Board {
    facts: Mutex<Facts>,
    changed: Notify,
}

/// Facts that the engine takes at once.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// What was stored, by tree.
    pub(crate) stored: BTreeMap<TreeId, Stored>,
    /// Peers' watches of this node that were opened and closed, in this order.
    pub(crate) watches: BTreeMap<u64, WatchChange>,
    /// Peers that made contact.
    pub(crate) heard: BTreeSet<PublicKey>,
    /// Trees that peers asked about, and whether they may have anything of them.
    pub(crate) heard_about: BTreeMap<(PublicKey, TreeId), bool>,
    /// Which arrivals peers showed to have: all before the number.
    pub(crate) has: BTreeMap<(PublicKey, TreeId), u32>,
    /// Addresses of peers that were learned, and how.
    pub(crate) learned: BTreeMap<(PublicKey, Address), AddressOrigin>,
    /// Peers that said which start of theirs is alive, and when they last did.
    pub(crate) alive: BTreeMap<(PublicKey, Epoch), Instant>,
    /// The engine has ended.
    is_closed: bool,
}

/// What was stored of one tree.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// The arrival count.
    pub(crate) end: u32,
    /// Which peer brought which arrivals.
    pub(crate) brought: Vec<(PublicKey, Range<u32>)>,
}

/// What became of a peer's watch of this node since the engine last looked.
#[derive(Debug)]
pub(crate) struct WatchChange {
    pub(crate) peer: PublicKey,
    /// Its trees, if it was opened.
    pub(crate) opened: Option<Arc<[TreeId]>>,
    pub(crate) closed: bool,
}

impl Stored {
    fn add(&mut self, arrivals: Range<u32>, brought_by: Option<PublicKey>) {
        self.end = self.end.max(arrivals.end);
        let Some(peer) = brought_by else {
            return;
        };
        let has_room = self.brought.len() < BROUGHT_RANGES_MAX;
        let last = self.brought.iter_mut().rfind(|(other, _)| *other == peer);
        match last {
            Some((_, range)) if range.end == arrivals.start => range.end = arrivals.end,
            _ if has_room => self.brought.push((peer, arrivals)),
            _ => {}
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, add: impl FnOnce(&mut Facts)) {
        let mut facts = self.lock();
        if !facts.is_closed {
            add(&mut facts);
            drop(facts);
            self.changed.notify_one();
        }
    }

    pub(super) fn stored(&self, tree: TreeId, arrivals: Range<u32>, brought_by: Option<PublicKey>) {
        self.add(|facts| {
            facts
                .stored
                .entry(tree)
                .or_default()
                .add(arrivals, brought_by);
        });
    }

    pub(super) fn watch_opened(&self, watch: u64, peer: PublicKey, trees: Arc<[TreeId]>) {
        self.add(|facts| {
            let change = WatchChange {
                peer,
                opened: Some(trees),
                closed: false,
            };
            facts.watches.insert(watch, change);
        });
    }

    pub(super) fn watch_closed(&self, watch: u64, peer: PublicKey) {
        self.add(|facts| {
            let change = facts.watches.entry(watch).or_insert(WatchChange {
                peer,
                opened: None,
                closed: true,
            });
            change.closed = true;
        });
    }

    pub(super) fn heard(&self, peer: PublicKey) {
        self.add(|facts| {
            if facts.heard.len() < HEARD_MAX {
                facts.heard.insert(peer);
            }
        });
    }

    pub(super) fn heard_about(
        &self,
        peer: PublicKey,
        trees: impl IntoIterator<Item = (TreeId, bool)>,
    ) {
        self.add(|facts| {
            let room = HEARD_MAX.saturating_sub(facts.heard_about.len());
            let trees = trees.into_iter().take(room);
            for (tree, may_have) in trees {
                *facts.heard_about.entry((peer, tree)).or_default() |= may_have;
            }
        });
    }

    pub(super) fn peer_has(&self, peer: PublicKey, trees: impl IntoIterator<Item = (TreeId, u32)>) {
        self.add(|facts| {
            let room = HEARD_MAX.saturating_sub(facts.has.len());
            for (tree, settled) in trees.into_iter().take(room) {
                let known = facts.has.entry((peer, tree)).or_default();
                *known = settled.max(*known);
            }
        });
    }

    pub(super) fn alive(&self, peer: PublicKey, epoch: Epoch) {
        self.add(|facts| {
            if facts.alive.len() < HEARD_MAX {
                facts.alive.insert((peer, epoch), Instant::now());
            }
        });
    }

    pub(super) fn address_learned(&self, peer: PublicKey, address: Address, from: AddressOrigin) {
        self.add(|facts| {
            let known = facts.learned.len();
            match facts.learned.entry((peer, address)) {
                Entry::Occupied(mut known) => *known.get_mut() = from.min(*known.get()),
                Entry::Vacant(free) if known < LEARNED_MAX => {
                    free.insert(from);
                }
                Entry::Vacant(_) => {}
            }
        });
    }

    /// Waits until there may be facts to take. Only one caller can wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes all facts.
    pub(crate) fn take(&self) -> Facts {
        let mut facts = self.lock();
        let is_closed = facts.is_closed;
        let empty = Facts {
            is_closed,
            ..Facts::default()
        };
        mem::replace(&mut *facts, empty)
    }

    /// Keeps no more facts: the engine has ended.
    pub(crate) fn close(&self) {
        *self.lock() = Facts {
            is_closed: true,
            ..Facts::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key};

    use super::*;

    #[test]
    fn what_is_stored_is_merged_by_tree_and_by_peer() {
        let (p, q) = (key(1).public(), key(2).public());
        let tree = draw("A-B").tree();
        let board = Board::default();
        board.stored(tree, 0..2, None);
        board.stored(tree, 2..3, Some(p));
        board.stored(tree, 3..5, Some(p));
        board.stored(tree, 5..6, Some(q));
        board.stored(tree, 6..7, Some(p));
        let facts = board.take();
        let stored = &facts.stored[&tree];
        assert_eq!(stored.end, 7);
        assert_eq!(stored.brought, [(p, 2..5), (q, 5..6), (p, 6..7)]);
        assert!(board.take().stored.is_empty(), "facts are taken once");
    }

    #[test]
    fn a_slot_is_bounded_and_loses_no_arrival() {
        let peers = [key(1).public(), key(2).public()];
        let tree = draw("A-B").tree();
        let board = Board::default();
        for n in 0..1_000_u32 {
            board.stored(tree, n..n + 1, Some(peers[n as usize % 2]));
        }
        let facts = board.take();
        let stored = &facts.stored[&tree];
        assert_eq!(
            (stored.end, stored.brought.len()),
            (1_000, BROUGHT_RANGES_MAX)
        );
    }

    #[test]
    fn a_watch_may_open_and_close_between_two_looks() {
        let board = Board::default();
        let peer = key(1).public();
        board.watch_opened(1, peer, Arc::from([]));
        board.watch_closed(1, peer);
        board.watch_closed(0, peer);
        let facts = board.take();
        let seen = facts.watches.iter();
        let seen: Vec<_> = seen
            .map(|(watch, it)| (*watch, it.opened.is_some(), it.closed))
            .collect();
        assert_eq!(seen, [(0, false, true), (1, true, true)]);
    }

    #[tokio::test]
    async fn a_closed_board_keeps_nothing() {
        let board = Board::default();
        board.heard(key(1).public());
        board.changed().await;
        board.close();
        board.heard(key(1).public());
        assert!(board.take().heard.is_empty());
    }
}
