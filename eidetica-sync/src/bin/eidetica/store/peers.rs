//! The peers of trees, as the library's peer book and its remembered follows have them.

use eidetica_sync::dag::{PublicKey, TreeId};
use eidetica_sync::{FollowOptions, Node, Peer};

use crate::output::failure::{Context, Failure, Result};

/// How a tree is followed by default: in both directions, and again after a restart.
pub(crate) const FOLLOW: FollowOptions = FollowOptions {
    pull: true,
    push: true,
    give: false,
    remember: true,
};

/// Returns the peers that a tree is shared with, with their addresses; those that answered last come
/// first.
pub(crate) async fn of_tree(node: &Node, tree: TreeId) -> Result<Vec<Peer>> {
    let follows = node.remembered_follows().await.context(READ_FAILED)?;
    let known = node.known_peers();
    let mut peers = Vec::new();
    for follow in follows.iter().filter(|it| it.tree == tree) {
        let known = known.iter().find(|(key, _)| *key == follow.peer);
        let known = known.map_or(&[][..], |(_, known)| known.addresses());
        let last = known.iter().filter_map(|it| it.last_success_ms).max();
        let addresses = known.iter().map(|it| it.address.clone()).collect();
        let key = Some(follow.peer);
        peers.push((last, Peer { key, addresses }));
    }
    peers.sort_by_key(|(last, _)| std::cmp::Reverse(*last));
    Ok(peers.into_iter().map(|(_, peer)| peer).collect())
}

const READ_FAILED: &str = "could not read which peers are followed";

/// Remembers that a tree is shared with a peer, unless that is known. A pause stays.
pub(crate) async fn remember(node: &Node, tree: TreeId, peer: &Peer) -> Result<()> {
    if let Some(key) = peer.key {
        let follows = node.remembered_follows().await.context(READ_FAILED)?;
        let is_known = |tree| follows.iter().any(|it| (it.peer, it.tree) == (key, tree));
        if is_known(tree) {
            let added = node.add_addresses(key, peer.addresses.clone()).await;
            return Ok(added.context("could not remember the addresses of the peer")?);
        }
    }
    let followed = node.follow_with(tree, peer.clone(), FOLLOW).await;
    followed.context("could not remember the peer of the tree")?;
    Ok(())
}

/// Lists all known keys: of peers that are followed, and of those whose addresses are known.
pub(crate) async fn keys(node: &Node) -> Result<Vec<PublicKey>> {
    let follows = node.remembered_follows().await.context(READ_FAILED)?;
    let mut keys: Vec<PublicKey> = follows.iter().map(|it| it.peer).collect();
    keys.extend(node.known_peers().into_iter().map(|(key, _)| key));
    keys.sort();
    keys.dedup();
    Ok(keys)
}

/// Returns the failure of a command that needs a peer of a tree, and knows of none.
pub(crate) fn none_known(tree: TreeId) -> Failure {
    Failure::new(format!("no peer of the tree {} is known", tree.short())).hint(
        "name one: `eidetica follow <tree> '<ticket>'`; peers that join from a reachable device \
         become known by themselves",
    )
}
