//! Peers to follow because they made contact: whoever can be reached is followed back, so that a tree
//! stays equal whichever side can reach the other.

use std::collections::BTreeSet;

use eidetica_dag::{EntryId, Role, TreeId, current_access};
use eidetica_proto::coordinator::{FollowOptions, PeerId};

use super::follows;
use super::shared::Shared;
use crate::platform::blocking;
use crate::store::StoreError;

/// Most pairs of a peer and a tree that wait for an address of the peer, in about 1 MiB. A peer that
/// is passed over makes contact again.
const WAITING_MAX: usize = 16_384;

/// Most peers that are remembered for one tree because they made contact: with that many, a tree is
/// well connected, and strangers that may read a public tree fill no disk.
const CALLERS_PER_TREE_MAX: usize = 64;

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

/// Follows a caller from here on, if it may read the tree and a program has not decided otherwise.
pub(super) async fn follow(shared: &Shared, peer: PeerId, tree: TreeId) {
    let follow = async {
        if !is_welcome(shared, peer, tree).await? {
            return Ok(());
        }
        let options = FollowOptions {
            pull: true,
            push: true,
            give: false,
        };
        follows::remember(&shared.store, peer, tree, options).await?;
        shared.follow(peer, tree, options).await
    };
    if let Err(error) = follow.await {
        tracing::warn!(%peer, %tree, %error, "cannot follow a peer that made contact");
    }
}

async fn is_welcome(shared: &Shared, peer: PeerId, tree: TreeId) -> Result<bool, StoreError> {
    if follows::is_remembered(&shared.store, peer, tree).await? {
        return Ok(false);
    }
    let store = shared.store.clone();
    let may_read = blocking::run(move || {
        let snapshot = store.snapshot(tree)?;
        if snapshot.entry_count() == 0 {
            return Ok(false);
        }
        Ok::<_, StoreError>(current_access(&*snapshot)?.allows(Some(&peer), Role::Read))
    });
    if !may_read.await? {
        return Ok(false);
    }
    let follows = follows::remembered(&shared.store).await?;
    let of_tree = follows.iter().filter(|follow| follow.tree == tree);
    Ok(of_tree.count() < CALLERS_PER_TREE_MAX)
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key};

    use super::*;

    #[test]
    fn callers_wait_for_an_address() {
        let (p, q) = (key(1).public(), key(2).public());
        let (one, two) = (draw("A-B").tree(), draw("C-D").tree());
        let mut callers = Callers::default();
        callers.handle_heard_about(p, one, false);
        callers.handle_heard_about(p, two, false);
        callers.handle_heard_about(q, one, false);
        assert_eq!(callers.poll_ready(), []);
        callers.handle_address_learned(p);
        let mut expected = [(p, one), (p, two)];
        expected.sort();
        assert_eq!(callers.poll_ready(), expected);
        assert_eq!(callers.poll_ready(), [], "each is told once");
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
