//! Peers that made contact and are not followed yet.

use std::collections::BTreeSet;

use eidetica_dag::{EntryId, TreeId};
use eidetica_proto::coordinator::PeerId;

/// Most pairs of a peer and a tree that wait for an address of the peer, in about 1 MiB. A peer that
/// is passed over makes contact again.
const WAITING_MAX: usize = 16_384;

/// Peers that asked about trees and are not followed.
#[derive(Debug, Default)]
pub(super) struct Callers {
    /// Those whose addresses are not known.
    waiting: BTreeSet<(PeerId, TreeId)>,
    ready: BTreeSet<(PeerId, TreeId)>,
}

impl Callers {
    /// Notes that a peer, an address of which is known or not, asked about a tree.
    pub(super) fn handle_heard_about(&mut self, peer: PeerId, tree: TreeId, is_known: bool) {
        let to = match is_known {
            true => &mut self.ready,
            false => &mut self.waiting,
        };
        if to.len() < WAITING_MAX {
            to.insert((peer, tree));
        }
    }

    /// Notes that an address of a peer is known.
    pub(super) fn handle_address_learned(&mut self, peer: PeerId) {
        let first = TreeId::from_root(EntryId::from_bytes([0; 32]));
        let of_peer = self.waiting.range((peer, first)..);
        let of_peer = of_peer.take_while(|(other, _)| *other == peer);
        let of_peer: Vec<_> = of_peer.copied().collect();
        for caller in of_peer {
            self.waiting.remove(&caller);
            self.ready.insert(caller);
        }
    }

    /// Returns those that can be followed.
    pub(super) fn poll_ready(&mut self) -> Vec<(PeerId, TreeId)> {
        std::mem::take(&mut self.ready).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key};

    use super::*;

    #[test]
    fn callers_wait_for_an_address() {
        let (p, q) = (key(1).public(), key(2).public());
        let [one, two] = [1, 2].map(|n| TreeId::from_root(EntryId::from_bytes([n; 32])));
        let mut callers = Callers::default();
        callers.handle_heard_about(p, one, false);
        callers.handle_heard_about(p, two, false);
        callers.handle_heard_about(q, one, false);
        assert_eq!(callers.poll_ready(), []);
        callers.handle_address_learned(p);
        let mut expected = [(p, one), (p, two)];
        expected.sort();
        assert_eq!(callers.poll_ready(), expected);
        assert_eq!(callers.poll_ready(), [], "each is returned once");
        callers.handle_heard_about(q, two, true);
        assert_eq!(callers.poll_ready(), [(q, two)]);
    }

    #[test]
    fn those_that_wait_are_bounded() {
        let mut callers = Callers::default();
        let tree = draw("A-B").tree();
        for n in 0..=WAITING_MAX as u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            callers.handle_heard_about(PeerId::from_bytes(key), tree, false);
        }
        assert_eq!(callers.waiting.len(), WAITING_MAX);
    }
}
