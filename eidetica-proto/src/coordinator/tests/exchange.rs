//! What exchanges do in the simulated world, and what must hold in it.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::sim::{Sim, number};

impl Sim {
    pub(super) fn carry_out(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Check { peer, trees, .. } => {
                let of_peer = &self.peers[&number(*peer)];
                let answer = |tree: &TreeId| match of_peer.trees.get(tree) {
                    None => CheckAnswer::Absent,
                    Some(theirs) => match self.ours.get(tree) {
                        Some(ours) if ours.set == theirs.set => CheckAnswer::Equal {
                            settled: ours.order.len() as u32,
                            cursor: theirs.cursor(),
                        },
                        _ => CheckAnswer::Differs,
                    },
                };
                Outcome::Checked(trees.iter().map(answer).collect())
            }
            Action::Sync {
                peer,
                tree,
                pull,
                push,
                ..
            } => self.sync(number(*peer), *tree, *pull, *push),
            Action::Push {
                peer, tree, from, ..
            } => {
                let of = number(*peer);
                let ours = self.ours.entry(*tree).or_default().clone();
                let from = *from as usize;
                let now_ms = self.now_ms;
                let of_peer = self.peers.get_mut(&of).expect("a peer");
                if of_peer.read_only {
                    return Outcome::Refused {
                        code: crate::ErrorCode::ReadOnly,
                        cursor: None,
                    };
                }
                let Some(theirs) = of_peer.trees.get_mut(tree) else {
                    return Outcome::NotHere;
                };
                if ours.order[..from]
                    .iter()
                    .any(|entry| !theirs.set.contains(entry))
                {
                    return Outcome::CompareFirst;
                }
                let brought = self.brought.get(&(of, *tree));
                for (at, entry) in ours.order.iter().enumerate().skip(from) {
                    if brought.is_some_and(|it| it.contains(&(at as u32))) {
                        assert!(theirs.set.contains(entry), "it was said to have brought it");
                    } else if theirs.add(*entry) {
                        self.delivered.insert((of, *entry), now_ms);
                    } else {
                        self.redundant += 1;
                    }
                }
                let equal = theirs.set == ours.set;
                let cursor = equal.then(|| theirs.cursor());
                Outcome::Success {
                    settled: ours.order.len() as u32,
                    cursor,
                }
            }
            Action::Give { peer, tree, .. } => {
                let of_peer = self.at(number(*peer));
                if !of_peer.accepts_gifts {
                    return Outcome::NotHere;
                }
                of_peer.trees.entry(*tree).or_default();
                self.sync(number(*peer), *tree, true, true)
            }
            Action::Watch { .. }
            | Action::StopWatch { .. }
            | Action::Abandon { .. }
            | Action::Swap { .. }
            | Action::StatusChanged { .. } => Outcome::Abandoned,
        }
    }

    pub(super) fn sync(&mut self, of: u32, tree: TreeId, pull: bool, push: bool) -> Outcome {
        let Some(theirs) = self.peers[&of].trees.get(&tree).cloned() else {
            return Outcome::NotHere;
        };
        if pull {
            self.take(of, tree, &theirs.order);
        }
        let ours = self.ours.entry(tree).or_default().clone();
        let now_ms = self.now_ms;
        let of_peer = self.peers.get_mut(&of).expect("a peer");
        let theirs = of_peer.trees.get_mut(&tree).expect("it is there");
        if push && of_peer.read_only && theirs.set != ours.set {
            let cursor = Some(theirs.cursor());
            return Outcome::Refused {
                code: crate::ErrorCode::ReadOnly,
                cursor,
            };
        }
        if push {
            for entry in &ours.order {
                if theirs.add(*entry) {
                    self.delivered.insert((of, *entry), now_ms);
                }
            }
        }
        let settled = if push { ours.order.len() as u32 } else { 0 };
        let cursor = pull.then(|| theirs.cursor());
        Outcome::Success { settled, cursor }
    }

    /// One exchange of a lane at a time, and no more in all and with one peer than may be.
    pub(super) fn check_quotas(&self) {
        let mut per_peer = BTreeMap::<PeerId, usize>::new();
        let mut lanes = BTreeSet::new();
        for action in self.under_way.values() {
            let (peer, lane) = match action {
                Action::Check { peer, .. } => (peer, None),
                Action::Sync { peer, tree, .. }
                | Action::Push { peer, tree, .. }
                | Action::Give { peer, tree, .. } => (peer, Some(tree)),
                _ => continue,
            };
            *per_peer.entry(*peer).or_default() += 1;
            assert!(
                lane.is_none_or(|tree| lanes.insert((peer, tree))),
                "two at once"
            );
        }
        let total: usize = per_peer.values().sum();
        assert!(total <= self.options.exchanges_max, "{total} under way");
        // One more than its share is a probe.
        let most = per_peer.values().max().copied().unwrap_or(0);
        assert!(
            most <= self.options.exchanges_per_peer_max + 1,
            "{most} with one peer"
        );
    }

    /// Nothing is claimed that is not so.
    pub(super) fn check_claims(&self) {
        for (of, tree, _) in self.coordinator.statuses() {
            let settled = self.coordinator.reached(of, tree).expect("it is followed");
            let ours = self.ours.get(&tree).map_or(&[][..], |it| &it.order[..]);
            let theirs = self.peers[&number(of)].trees.get(&tree);
            for entry in &ours[..settled as usize] {
                let has = theirs.is_some_and(|it| it.set.contains(entry));
                assert!(has, "{of:?} is claimed to have {entry}");
            }
        }
    }
}
