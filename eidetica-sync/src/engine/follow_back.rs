//! Follows peers that made contact and can be reached, so that a tree stays equal whichever side can
//! reach the other.

use eidetica_dag::TreeId;
use eidetica_proto::coordinator::{FollowOptions, PeerId};

use super::follows;
use super::shared::Shared;
use crate::store::StoreError;

/// Most peers that are remembered for one tree because they made contact: with that many, a tree is
/// well connected, and strangers that may read a public tree fill no disk.
const CALLERS_PER_TREE_MAX: usize = 64;

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
    if !shared.may_read(peer, tree).await? {
        return Ok(false);
    }
    let follows = follows::remembered(&shared.store).await?;
    let of_tree = follows.iter().filter(|follow| follow.tree == tree);
    Ok(of_tree.count() < CALLERS_PER_TREE_MAX)
}
