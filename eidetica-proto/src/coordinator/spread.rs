//! What concerns many lanes or peers, done one at a time.

use std::ops::Bound;

use eidetica_dag::TreeId;

use super::{
    ABSENT_SPACING_MS, CATCH_UP_SPACING_MS, Coordinator, Need, Next, PeerId, Reach, State, Timer,
};

impl Coordinator {
    /// Lets [`Self::spread_one`] look at a tree.
    pub(super) fn spread(&mut self, tree: TreeId) {
        if let Some(of_tree) = self.trees.get_mut(&tree)
            && !of_tree.spreading
        {
            of_tree.spreading = true;
            self.spreading.push_back(tree);
        }
    }

    /// Moves one lane of the tree that has waited longest. Tells whether there was anything.
    pub(super) fn spread_one(&mut self) -> bool {
        self.work += 1;
        let Some(&tree) = self.spreading.front() else {
            return false;
        };
        let Some(of_tree) = self.trees.get_mut(&tree) else {
            self.spreading.pop_front();
            return true;
        };
        if let Some(&(settled, peer)) = of_tree.resting.first()
            && settled < of_tree.head
        {
            self.need(peer, tree, Need::Push);
            return true;
        }
        if of_tree.stirred
            && let Some(peer) = of_tree.absent.pop_first()
        {
            self.ask_for_absent_soon(peer);
            if let Some(lane) = self.lane_mut(peer, tree) {
                lane.given = false;
            }
            return true;
        }
        if of_tree.approved
            && let Some(&peer) = of_tree.held.first()
        {
            self.place(peer, tree, Next::Unchecked);
            return true;
        }
        of_tree.stirred = false;
        of_tree.approved = false;
        of_tree.spreading = false;
        self.spreading.pop_front();
        true
    }

    /// Asks a peer for the trees that it lacked, at once unless that was just done.
    pub(super) fn ask_for_absent_soon(&mut self, peer: PeerId) {
        let now_ms = self.now_ms;
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        let from_ms = of_peer
            .absent_check_ms
            .map_or(0, |at_ms| at_ms.saturating_add(ABSENT_SPACING_MS));
        self.timers
            .set_sooner(Timer::Absent(peer), now_ms.max(from_ms));
    }

    /// Begins a round of catching up, unless one was just begun.
    pub(super) fn catch_up_soon(&mut self) {
        let from_ms = self
            .caught_up_ms
            .map_or(0, |at_ms| at_ms.saturating_add(CATCH_UP_SPACING_MS));
        if self.now_ms < from_ms {
            self.timers.set_sooner(Timer::CatchUp, from_ms);
            return;
        }
        self.caught_up_ms = Some(self.now_ms);
        self.catching_up = Some(None);
    }

    /// Lets the next peer catch up. Tells whether there was one.
    pub(super) fn catch_up_one(&mut self) -> bool {
        self.work += 1;
        let Some(after) = self.catching_up else {
            return false;
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.peers.range((from, Bound::Unbounded)).next();
        let Some(peer) = next.map(|(peer, _)| *peer) else {
            self.catching_up = None;
            return true;
        };
        self.catching_up = Some(Some(peer));
        self.start_over(peer);
        true
    }

    /// Believes nothing about the way to a peer: what waits for a first answer is cut, and a probe
    /// is due.
    pub(super) fn start_over(&mut self, peer: PeerId) {
        let now_ms = self.now_ms;
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        of_peer.failures = 0;
        of_peer.watch_failures = 0;
        of_peer.watch_from_ms = now_ms;
        of_peer.watch_dirty |= of_peer.watch.is_some();
        let running: Vec<_> = of_peer.running.iter().copied().collect();
        for id in running {
            if self.running.get(&id).is_some_and(|it| !it.answered) {
                self.abandon(id);
            }
        }
        self.probe_soon(peer);
    }

    /// Makes a check of all trees of a peer due, and nothing else before it.
    pub(super) fn probe_soon(&mut self, peer: PeerId) {
        self.timers.clear(Timer::Retry(peer));
        let Some(of_peer) = self.peer_mut(peer) else {
            return;
        };
        if let Reach::Probing(_) = of_peer.reach {
            of_peer.checking = None;
        }
        of_peer.reach = Reach::Unproven;
        of_peer.full_check = true;
        of_peer.full_after = None;
        self.queue(peer);
    }

    /// Makes a check of all trees of a peer due.
    pub(super) fn check_soon(&mut self, peer: PeerId) {
        if let Some(of_peer) = self.peer_mut(peer) {
            of_peer.full_check = true;
            of_peer.full_after = None;
            self.queue(peer);
        }
    }

    /// Has a lane asked about in the next check of its peer, unless an exchange tells soon anyway.
    pub(super) fn recheck(&mut self, peer: PeerId, tree: TreeId) {
        let state = self.lane_mut(peer, tree).map(|lane| lane.state);
        match state {
            Some(State::Resting { .. } | State::Absent | State::Held { .. }) => {
                self.place(peer, tree, Next::Unchecked);
            }
            Some(State::Unchecked | State::Due { .. } | State::Running { .. }) | None => {}
        }
    }
}
