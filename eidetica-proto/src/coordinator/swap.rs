//! With which peers to swap address records, and of which trees.
//!
//! After a check that finds a peer there, records of some of the trees shared with it are swapped,
//! and again at intervals. After a failure to reach a peer, others that share a tree with it are
//! asked whether they know another address.

use std::ops::Bound;

use eidetica_dag::TreeId;

use super::{Action, Coordinator, FIRST_ID, PeerId, Reach, State};

/// Trees whose records are swapped with one peer in one round: the lowest ids first, so that peers
/// that share many trees choose the same ones. The next round goes on after them.
const SWAP_TREES_MAX: usize = 16;

/// Time between two rounds with a peer, in milliseconds, before jitter. Addresses that change are
/// told at once.
const SWAP_INTERVAL_MS: u64 = 1_800_000;

/// Swaps under way in all, one with each peer.
const SWAPS_MAX: usize = 16;

/// Trees about which others are asked after a failure to reach a peer, and how many are asked.
const MISSED_TREES_MAX: usize = 2;
const HELPERS_MAX: usize = 3;

/// How many peers of a tree are looked at to find those that can be asked.
const HELPERS_SEEN_MAX: usize = 16;

impl Coordinator {
    /// Notes that this node's own addresses may have changed: they are told to each peer after the
    /// next check of it. Costs O(1).
    pub fn handle_addresses_changed(&mut self) {
        self.swap_round += 1;
    }

    /// Notes that an [`Action::Swap`] has ended, whatever came of it. Costs O(log n).
    pub fn handle_swapped(&mut self, peer: PeerId, now_ms: u64) {
        self.note_time(now_ms);
        self.swapping.remove(&peer);
        self.queue_swap(peer);
    }

    /// Makes swaps due with a peer that is there, if a round is.
    pub(super) fn swap_after_check(&mut self, peer: PeerId) {
        let jitter_ms = self.jitter.up_to(SWAP_INTERVAL_MS / 4);
        let next_ms = self.in_ms(SWAP_INTERVAL_MS - jitter_ms);
        let (now_ms, round) = (self.now_ms, self.swap_round);
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return;
        };
        if of_peer.swap_round != Some(round) {
            of_peer.swap_after = None;
        } else if now_ms < of_peer.swap_from_ms {
            return;
        }
        of_peer.swap_round = Some(round);
        of_peer.swap_from_ms = next_ms;
        let from = match of_peer.swap_after {
            Some(tree) => Bound::Excluded((peer, tree)),
            None => Bound::Included((peer, FIRST_ID)),
        };
        let lanes = self.lanes.range((from, Bound::Unbounded));
        let mut lanes = lanes.take_while(|((of, _), _)| *of == peer);
        let mut last = None;
        for ((_, tree), lane) in lanes.by_ref().take(SWAP_TREES_MAX) {
            self.work += 1;
            last = Some(*tree);
            if lane.state != State::Absent {
                of_peer.swaps.insert(*tree);
            }
        }
        // After the last tree, the next round begins with the first.
        of_peer.swap_after = last.filter(|_| lanes.next().is_some());
        self.queue_swap(peer);
    }

    /// Asks others for the addresses of a peer that could not be reached.
    pub(super) fn ask_about(&mut self, missed: PeerId) {
        let lanes = self.lanes.range((missed, FIRST_ID)..);
        let trees = lanes.take_while(|((of, _), _)| *of == missed);
        let trees = trees.take(MISSED_TREES_MAX).map(|((_, tree), _)| *tree);
        for tree in trees.collect::<Vec<TreeId>>() {
            let first = PeerId::from_bytes([0; 32]);
            let peers = self.by_tree.range((tree, first)..);
            let peers = peers.take_while(|(of, _)| *of == tree);
            let peers = peers.take(HELPERS_SEEN_MAX).map(|(_, peer)| *peer);
            let is_there = |peer: &PeerId| {
                let reach = self.peers.get(peer).map(|it| it.reach);
                *peer != missed && reach == Some(Reach::Proven)
            };
            let helpers: Vec<PeerId> = peers.filter(is_there).take(HELPERS_MAX).collect();
            for helper in helpers {
                if let Some(of_peer) = self.peer_mut(helper) {
                    of_peer.swaps.insert(tree);
                    self.queue_swap(helper);
                }
            }
        }
    }

    fn queue_swap(&mut self, peer: PeerId) {
        let waits = |it: &super::Peer| !it.swaps.is_empty();
        if self.peers.get(&peer).is_some_and(waits) && !self.swapping.contains(&peer) {
            self.swap_ready.insert(peer);
        }
    }

    /// Begins the next swap, where a place is free.
    pub(super) fn begin_swap(&mut self) -> Option<Action> {
        while self.swapping.len() < SWAPS_MAX {
            let peer = self.swap_ready.pop_first()?;
            let Some(of_peer) = self.peer_mut(peer) else {
                continue;
            };
            if of_peer.reach != Reach::Proven {
                // The next round begins when it is there again.
                of_peer.swaps.clear();
                of_peer.swap_round = None;
                continue;
            }
            let Some(tree) = of_peer.swaps.pop_first() else {
                continue;
            };
            if !self.lanes.contains_key(&(peer, tree)) {
                self.queue_swap(peer);
                continue;
            }
            self.swapping.insert(peer);
            return Some(Action::Swap { peer, tree });
        }
        None
    }
}
