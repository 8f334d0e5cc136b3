//! Follows that survive a restart, in the metadata of the store.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use eidetica_dag::{EntryId, PublicKey, TreeId};
use eidetica_proto::coordinator::{self, Origin, PeerId};
use serde::{Deserialize, Serialize};

use super::shared::{Following, Shared};
use crate::client::error::SyncError;
use crate::platform::blocking;
use crate::store::{Store, StoreError};

/// The metadata of remembered follows, by peer and tree in hexadecimal digits.
const PREFIX: &str = "follow/";

/// What to keep in sync, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowOptions {
    /// Fetch what the peer has.
    pub pull: bool,
    /// Send what the peer lacks.
    pub push: bool,
    /// Offer the tree to a peer that lacks it. Such a peer takes it only if its own settings accept
    /// trees from this node. It has an effect only with `push`.
    pub give: bool,
    /// Follow again when a node is started on the same store.
    pub remember: bool,
}

impl Default for FollowOptions {
    /// Pulls and pushes, gives nothing that the peer did not have, and is not remembered.
    fn default() -> Self {
        Self {
            pull: true,
            push: true,
            give: false,
            remember: false,
        }
    }
}

/// A follow that the store remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RememberedFollow {
    /// The peer.
    pub peer: PublicKey,
    /// The tree.
    pub tree: TreeId,
    /// How it is followed.
    pub options: FollowOptions,
    /// Nothing is exchanged until [`Node::follow_with`](crate::Node::follow_with).
    pub is_paused: bool,
}

/// What is stored of a follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    pull: bool,
    push: bool,
    give: bool,
    is_paused: bool,
}

fn key_of(peer: PeerId, tree: TreeId) -> String {
    let (peer, root) = (HEXLOWER.encode(peer.as_bytes()), tree.root());
    format!("{PREFIX}{peer}/{}", HEXLOWER.encode(root.as_bytes()))
}

fn parse_key(key: &str) -> Option<(PeerId, TreeId)> {
    let (peer, tree) = key.strip_prefix(PREFIX)?.split_once('/')?;
    let bytes = |digits: &str| -> Option<[u8; 32]> {
        let bytes = HEXLOWER.decode(digits.as_bytes()).ok()?;
        bytes.try_into().ok()
    };
    let tree = TreeId::from_root(EntryId::from_bytes(bytes(tree)?));
    Some((PublicKey::from_bytes(bytes(peer)?), tree))
}

/// Remembers a follow.
pub(crate) async fn remember(
    store: &Arc<dyn Store>,
    peer: PeerId,
    tree: TreeId,
    options: coordinator::FollowOptions,
) -> Result<(), StoreError> {
    let coordinator::FollowOptions { pull, push, give } = options;
    let is_paused = false;
    put(
        store,
        peer,
        tree,
        Some(Record {
            pull,
            push,
            give,
            is_paused,
        }),
    )
    .await
}

/// Remembers that a peer is not followed until a program follows it.
pub(crate) async fn pause(
    store: &Arc<dyn Store>,
    peer: PeerId,
    tree: TreeId,
) -> Result<(), StoreError> {
    let before = get(store, peer, tree).await?;
    let record = before.unwrap_or(Record {
        pull: true,
        push: true,
        give: false,
        is_paused: true,
    });
    let is_paused = true;
    put(
        store,
        peer,
        tree,
        Some(Record {
            is_paused,
            ..record
        }),
    )
    .await
}

/// Tells whether a follow is remembered, paused or not.
pub(super) async fn is_remembered(
    store: &Arc<dyn Store>,
    peer: PeerId,
    tree: TreeId,
) -> Result<bool, StoreError> {
    Ok(get(store, peer, tree).await?.is_some())
}

/// Returns all that is remembered, by peer and tree.
pub(crate) async fn remembered(
    store: &Arc<dyn Store>,
) -> Result<Vec<RememberedFollow>, StoreError> {
    let store = store.clone();
    let records = blocking::run(move || store.list(PREFIX)).await?;
    let mut follows = Vec::with_capacity(records.len());
    for (key, record) in records {
        let record = postcard::from_bytes::<Record>(&record).ok();
        let Some(((peer, tree), record)) = parse_key(&key).zip(record) else {
            tracing::warn!(%key, "cannot use what is stored of a follow");
            continue;
        };
        follows.push(RememberedFollow {
            peer,
            tree,
            options: FollowOptions {
                pull: record.pull,
                push: record.push,
                give: record.give,
                remember: true,
            },
            is_paused: record.is_paused,
        });
    }
    Ok(follows)
}

/// Forgets a follow.
pub(crate) async fn forget(
    store: &Arc<dyn Store>,
    peer: PeerId,
    tree: TreeId,
) -> Result<(), StoreError> {
    put(store, peer, tree, None).await
}

async fn get(
    store: &Arc<dyn Store>,
    peer: PeerId,
    tree: TreeId,
) -> Result<Option<Record>, StoreError> {
    let (store, key) = (store.clone(), key_of(peer, tree));
    let record = blocking::run(move || store.get(&key)).await?;
    Ok(record.and_then(|record| postcard::from_bytes(&record).ok()))
}

async fn put(
    store: &Arc<dyn Store>,
    peer: PeerId,
    tree: TreeId,
    record: Option<Record>,
) -> Result<(), StoreError> {
    let (store, key) = (store.clone(), key_of(peer, tree));
    let record = record.map(|record| postcard::to_stdvec(&record).expect("a vector takes all"));
    blocking::run(move || store.put(&key, record.as_deref())).await
}

/// Follows again what is remembered.
pub(super) async fn resume(shared: &Shared) {
    let follows = match remembered(&shared.store).await {
        Ok(follows) => follows,
        Err(error) => {
            return tracing::error!(%error, "cannot read which trees are to be followed");
        }
    };
    for follow in follows.into_iter().filter(|it| !it.is_paused) {
        let (peer, tree) = (follow.peer, follow.tree);
        let FollowOptions {
            pull, push, give, ..
        } = follow.options;
        let options = coordinator::FollowOptions { pull, push, give };
        if let Err(error) = shared.follow(peer, tree, options).await {
            tracing::warn!(%peer, %tree, %error, "cannot follow a tree again");
        }
    }
}

impl Shared {
    /// Keeps a tree equal with a peer from here on.
    pub(crate) async fn follow(
        &self,
        peer: PeerId,
        tree: TreeId,
        options: coordinator::FollowOptions,
    ) -> Result<(), SyncError> {
        self.check_open()?;
        self.dialer.book.keep(peer, tree);
        if self.following == Following::Nothing {
            return Ok(());
        }
        let head = self.entry_count(tree).await?;
        self.input(|core, now_ms| {
            let coordinator = &mut core.coordinator;
            coordinator.handle_follow(peer, tree, options, head, now_ms)?;
            if let Some((watch, trees)) = self.news.inbound().latest_of(peer)
                && trees.contains(&tree)
            {
                coordinator.handle_watched(peer, watch, [tree], now_ms);
            }
            Ok::<_, SyncError>(())
        })?;
        // What was stored before the coordinator knew the tree was not told to it.
        let head = self.entry_count(tree).await?;
        self.input(|core, now_ms| {
            let none_more = head..head;
            core.coordinator
                .handle_stored(tree, none_more, Origin::Local, now_ms);
        });
        Ok(())
    }

    /// Stops keeping a tree equal with a peer.
    pub(crate) fn unfollow(&self, peer: PeerId, tree: TreeId) {
        self.input(|core, now_ms| {
            core.coordinator.handle_unfollow(peer, tree, now_ms);
            core.forget(peer, tree);
        });
    }

    /// Returns how many entries of a tree are stored.
    pub(crate) async fn entry_count(&self, tree: TreeId) -> Result<u32, StoreError> {
        let store = self.store.clone();
        blocking::run(move || Ok(store.snapshot(tree)?.entry_count())).await
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::testing::{draw, key};

    use super::*;

    #[test]
    fn the_key_of_a_follow_names_peer_and_tree() {
        let (peer, tree) = (key(1).public(), draw("A-B").tree());
        assert_eq!(parse_key(&key_of(peer, tree)), Some((peer, tree)));
        assert_eq!(parse_key("follow/01/02"), None);
        assert_eq!(parse_key("peer/01"), None);
    }
}
