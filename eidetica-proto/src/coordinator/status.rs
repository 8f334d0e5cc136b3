//! The state of lanes, for programs.

use eidetica_dag::TreeId;

use super::{Coordinator, FIRST_ID, LaneStatus, Need, PeerId, State};

impl LaneStatus {
    /// Numbers the variants: a change of it is worth telling.
    pub(super) fn kind(self) -> u8 {
        match self {
            Self::InSync { .. } => 0,
            Self::Behind => 1,
            Self::Ahead { .. } => 2,
            Self::Syncing => 3,
            Self::Unreachable { .. } => 4,
            Self::Refused { .. } => 5,
            Self::WaitingForAccess => 6,
        }
    }
}

impl Coordinator {
    /// Returns the state of a tree with a peer, if it is followed. Costs O(log n).
    pub fn status(&self, peer: PeerId, tree: TreeId) -> Option<LaneStatus> {
        let lane = self.lanes.get(&(peer, tree))?;
        if let State::Held { reason, next_ms } = lane.state {
            return Some(LaneStatus::Refused { reason, next_ms });
        }
        if let Some((reason, next_ms)) = self.unreachable(peer) {
            return Some(LaneStatus::Unreachable { reason, next_ms });
        }
        let compares = match lane.state {
            State::Running { .. } => return Some(LaneStatus::Syncing),
            State::Absent => return Some(LaneStatus::WaitingForAccess),
            State::Due { need, .. } => need == Need::Compare,
            State::Unchecked | State::Resting { .. } | State::Held { .. } => false,
        };
        let head = self.head(tree);
        Some(if compares || (lane.pull && lane.cursor.is_none()) {
            LaneStatus::Behind
        } else if lane.push && lane.settled < head {
            let entries = lane.ahead(head);
            LaneStatus::Ahead { entries }
        } else {
            let since_ms = lane.since_ms;
            LaneStatus::InSync { since_ms }
        })
    }

    /// Returns the arrival count up to which the peer is known to have everything: it has an entry
    /// that arrived here under a lower number. Costs O(log n).
    pub fn reached(&self, peer: PeerId, tree: TreeId) -> Option<u32> {
        self.lanes.get(&(peer, tree)).map(|lane| lane.settled)
    }

    /// Lists the state of a tree with each peer it is shared with. Costs what it lists.
    pub fn statuses_of_tree(
        &self,
        tree: TreeId,
    ) -> impl Iterator<Item = (PeerId, LaneStatus)> + use<'_> {
        let first = PeerId::from_bytes([0; 32]);
        let peers = self.by_tree.range((tree, first)..);
        let peers = peers.take_while(move |(of, _)| *of == tree);
        peers.filter_map(move |(_, peer)| Some((*peer, self.status(*peer, tree)?)))
    }

    /// Lists the state of each tree that is shared with a peer. Costs what it lists.
    pub fn statuses_of_peer(
        &self,
        peer: PeerId,
    ) -> impl Iterator<Item = (TreeId, LaneStatus)> + use<'_> {
        let lanes = self.lanes.range((peer, FIRST_ID)..);
        let lanes = lanes.take_while(move |((of, _), _)| *of == peer);
        lanes.filter_map(move |((_, tree), _)| Some((*tree, self.status(peer, *tree)?)))
    }

    /// Lists all that is followed, peers in order and trees in order. Costs what it lists.
    pub fn statuses(&self) -> impl Iterator<Item = (PeerId, TreeId, LaneStatus)> + use<'_> {
        let lanes = self.lanes.keys();
        lanes.filter_map(|(peer, tree)| Some((*peer, *tree, self.status(*peer, *tree)?)))
    }
}
