//! Where lanes and peers are listed while they wait.

use eidetica_dag::TreeId;

use super::{Class, Coordinator, Lane, Need, Next, PeerId, State, Timer};

impl Coordinator {
    /// Tells whether the peer's own watch brings it the entries stored here.
    pub(super) fn is_watching_us(&self, peer: PeerId, lane: &Lane) -> bool {
        let inbound = self.peers.get(&peer).and_then(|it| it.inbound);
        lane.inbound.is_some() && lane.inbound == inbound
    }

    /// Takes a lane out of the index that lists it.
    pub(super) fn unlist(&mut self, peer: PeerId, tree: TreeId) {
        self.work += 1;
        let Some(lane) = self.lanes.get(&(peer, tree)) else {
            return;
        };
        let state = lane.state;
        let (Some(of_peer), Some(of_tree)) = (self.peers.get_mut(&peer), self.trees.get_mut(&tree))
        else {
            return;
        };
        match state {
            State::Unchecked => {
                of_peer.unchecked.remove(&tree);
            }
            State::Resting { listed } => {
                if let Some(settled) = listed {
                    of_tree.resting.remove(&(settled, peer));
                }
            }
            State::Due { seq, .. } => {
                of_peer.due.remove(&seq);
            }
            State::Running { .. } => {}
            State::Absent => {
                of_peer.absent.remove(&tree);
                of_tree.absent.remove(&peer);
            }
            State::Held { .. } => {
                of_tree.held.remove(&peer);
                self.timers.clear(Timer::Lane(peer, tree));
            }
        }
    }

    /// Moves a lane to its next state, and lists it where it belongs.
    pub(super) fn place(&mut self, peer: PeerId, tree: TreeId, next: Next) {
        self.unlist(peer, tree);
        let Some(lane) = self.lanes.get(&(peer, tree)) else {
            return;
        };
        let watching_us = self.is_watching_us(peer, lane);
        let head = self.head(tree);
        let gets_news = lane.push && !watching_us;
        let settled = lane.settled;
        let next = match next {
            Next::Rest if gets_news && settled < head => Next::Due(Need::Push),
            next => next,
        };
        let seq = self.next_seq;
        self.next_seq += 1;
        let (Some(of_peer), Some(of_tree)) = (self.peers.get_mut(&peer), self.trees.get_mut(&tree))
        else {
            return;
        };
        let state = match next {
            Next::Unchecked => {
                of_peer.unchecked.insert(tree);
                State::Unchecked
            }
            Next::Rest => {
                let listed = gets_news.then_some(settled);
                if gets_news {
                    of_tree.resting.insert((settled, peer));
                }
                State::Resting { listed }
            }
            Next::Due(need) => {
                of_peer.due.insert(seq, tree);
                State::Due { seq, need }
            }
            Next::DueAgain(need, seq) => {
                of_peer.due.insert(seq, tree);
                State::Due { seq, need }
            }
            Next::Running(id, need, seq) => State::Running {
                id,
                need,
                seq,
                again: None,
            },
            Next::Absent => {
                of_peer.absent.insert(tree);
                of_tree.absent.insert(peer);
                State::Absent
            }
            Next::Held(reason, next_ms) => {
                of_tree.held.insert(peer);
                if let Some(next_ms) = next_ms {
                    self.timers.set(Timer::Lane(peer, tree), next_ms);
                }
                State::Held { reason, next_ms }
            }
        };
        if let Some(lane) = self.lane_mut(peer, tree) {
            lane.state = state;
        }
        self.changed.insert((peer, Some(tree)));
        self.queue(peer);
    }

    /// Makes an exchange of a lane due that does at least what `need` says.
    pub(super) fn need(&mut self, peer: PeerId, tree: TreeId, need: Need) {
        let Some(lane) = self.lane_mut(peer, tree) else {
            return;
        };
        match &mut lane.state {
            State::Due { need: due, .. } => *due = need.max(*due),
            State::Running { again, .. } => *again = Some(need).max(*again),
            _ => self.place(peer, tree, Next::Due(need)),
        }
    }

    /// Lets a peer wait where it can begin an exchange, or nowhere if it cannot.
    pub(super) fn queue(&mut self, peer: PeerId) {
        self.work += 1;
        let places_max = self.options.exchanges_per_peer_max;
        let Some(of_peer) = self.peers.get_mut(&peer) else {
            return;
        };
        let class = of_peer.class(places_max);
        if of_peer.queued.map(|(class, _)| class) == class {
            return;
        }
        match of_peer.queued.take() {
            Some((Class::Proven, seq)) => self.proven.remove(&seq),
            Some((Class::Unproven, seq)) => self.unproven.remove(&seq),
            None => None,
        };
        let seq = self.next_seq;
        self.next_seq += 1;
        match class {
            Some(Class::Proven) => self.proven.insert(seq, peer),
            Some(Class::Unproven) => self.unproven.insert(seq, peer),
            None => None,
        };
        of_peer.queued = class.map(|class| (class, seq));
    }
}
