//! Keeping trees in sync with peers.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{EntryId, PublicKey, TreeId};
use eidetica_proto::coordinator::{self, LaneStatus};

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::engine::follows::{self, FollowOptions};
use crate::engine::shared::{Core, Shared};
use crate::platform::blocking;
use crate::store::StoreError;

/// The state of a followed tree at a peer. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FollowStatus {
    /// The peer.
    pub peer: PublicKey,
    /// The tree.
    pub tree: TreeId,
    /// The state.
    pub state: LaneStatus,
    /// How many of this node's entries the peer is known to have, counted in the order of arrival.
    pub peer_has: u32,
    /// The last error, and when it happened, unless an exchange has succeeded since.
    pub last_error: Option<(Arc<SyncError>, u64)>,
}

/// A tree that is kept in sync with a peer.
///
/// Dropping it changes nothing; [`Follow::stop`] ends it.
#[derive(Clone)]
pub struct Follow {
    shared: Arc<Shared>,
    peer: PublicKey,
    tree: TreeId,
}

impl Follow {
    /// Returns the peer.
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// Returns the tree.
    pub fn tree(&self) -> TreeId {
        self.tree
    }

    /// Returns the state of the tree at the peer, or `None` if it is not followed any more.
    pub fn status(&self) -> Option<FollowStatus> {
        let shared = &*self.shared;
        shared.look(|core, _| status(shared, core, self.peer, self.tree))
    }

    /// Stops keeping the tree in sync, now and after a restart. Running exchanges are cut.
    ///
    /// # Errors
    /// Returns an error if the store cannot forget that the tree was followed.
    pub async fn stop(&self) -> Result<(), StoreError> {
        self.shared.unfollow(self.peer, self.tree);
        follows::forget(&self.shared.store, self.peer, self.tree).await
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow")
            .field("peer", &self.peer)
            .field("tree", &self.tree)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Keeps a tree in sync with a peer from now on.
    ///
    /// Entries travel at once in both directions, even if the peer cannot connect to this node. A
    /// node can follow several peers; entries from one are passed on to the others. A peer that cannot
    /// be reached is retried with exponential backoff, without an end.
    ///
    /// # Errors
    /// Returns [`SyncError::Closed`] if the node was shut down. A peer whose key is not known is asked
    /// for it first, so it must be reachable.
    pub async fn follow(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
    ) -> Result<Follow, Arc<SyncError>> {
        self.follow_with(tree, peer, FollowOptions::default()).await
    }

    /// Follows like [`Node::follow`], with options. They replace those of an earlier call.
    ///
    /// # Errors
    /// As [`Node::follow`], or an error of the store.
    pub async fn follow_with(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
        options: FollowOptions,
    ) -> Result<Follow, Arc<SyncError>> {
        let shared = &self.0.shared;
        let (peer, is_news) = shared.dialer.meet(&peer.into()).await?;
        let lane = coordinator::FollowOptions {
            pull: options.pull,
            push: options.push,
            give: options.give,
        };
        if options.remember {
            let stored = follows::remember(&shared.store, peer, tree, lane).await;
            stored.map_err(SyncError::from)?;
            shared.dialer.book.save().await;
        }
        shared.follow(peer, tree, lane).await?;
        if is_news {
            shared.input(|core, now_ms| core.coordinator.handle_address_learned(peer, now_ms));
        }
        Ok(Follow {
            shared: shared.clone(),
            peer,
            tree,
        })
    }

    /// Returns the handle of a tree that is followed.
    pub fn followed(&self, tree: TreeId, peer: PublicKey) -> Option<Follow> {
        let shared = self.0.shared.clone();
        let is_followed = |core: &mut Core, _| core.coordinator.status(peer, tree).is_some();
        shared
            .look(is_followed)
            .then_some(Follow { shared, peer, tree })
    }

    /// Stops keeping a tree in sync with a peer; see [`Follow::stop`].
    ///
    /// # Errors
    /// As [`Follow::stop`].
    pub async fn unfollow(&self, tree: TreeId, peer: PublicKey) -> Result<(), StoreError> {
        let shared = self.0.shared.clone();
        Follow { shared, peer, tree }.stop().await
    }

    /// Returns the state of each followed tree at each peer.
    pub fn status(&self) -> Vec<FollowStatus> {
        let shared = &*self.0.shared;
        shared.look(|core, _| {
            let lanes: Vec<_> = core.coordinator.statuses().collect();
            let status = |(peer, tree, _)| status(shared, core, peer, tree);
            lanes.into_iter().filter_map(status).collect()
        })
    }

    /// Returns the state of one tree at each peer with which it is followed.
    pub fn status_of(&self, tree: TreeId) -> Vec<FollowStatus> {
        let shared = &*self.0.shared;
        shared.look(|core, _| {
            let lanes = core.coordinator.statuses_of_tree(tree);
            let peers: Vec<_> = lanes.map(|(peer, _)| peer).collect();
            let status = |peer| status(shared, core, peer, tree);
            peers.into_iter().filter_map(status).collect()
        })
    }

    /// Records the gauges of [`metrics`](crate::metrics), before they are read. Looks at everything that
    /// is followed.
    #[cfg(feature = "metrics")]
    pub fn record_gauges(&self) {
        let shared = &*self.0.shared;
        let (peers, duplicates) = (shared.dialer.book.count(), shared.duplicate_keys().len());
        shared.look(|core, _| {
            let states = core.coordinator.statuses().map(|(.., state)| state);
            crate::metrics::gauges(states, peers, duplicates);
        });
    }

    /// Waits until a peer has confirmed that both sides have the same entries of a followed tree, at a
    /// moment after this call.
    ///
    /// # Errors
    /// Returns [`SyncError::NotConfirmed`] after `timeout`, or [`SyncError::Closed`] if the tree is not
    /// followed or the node was shut down.
    pub async fn synced_with(
        &self,
        tree: TreeId,
        peer: PublicKey,
        timeout: Duration,
    ) -> Result<(), Arc<SyncError>> {
        let shared = &self.0.shared;
        let head = shared.entry_count(tree).await.map_err(SyncError::from)?;
        let confirmed = shared.input(|core, now_ms| core.wait_confirmed(peer, tree, head, now_ms));
        match tokio::time::timeout(timeout, confirmed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SyncError::Closed.into()),
            Err(_) => Err(SyncError::NotConfirmed(timeout).into()),
        }
    }

    /// Tells whether a peer is known to have an entry. It may have it all the same if not:
    /// [`Node::synced_with`] finds out.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn reached(
        &self,
        tree: TreeId,
        entry: EntryId,
        peer: PublicKey,
    ) -> Result<bool, StoreError> {
        let store = self.0.store.clone();
        let arrival = blocking::run(move || store.snapshot(tree)?.arrival(&entry)).await?;
        let reached = (self.0.shared).look(|core, _| core.coordinator.reached(peer, tree));
        Ok(arrival
            .zip(reached)
            .is_some_and(|(arrival, reached)| arrival.0 < reached))
    }

    /// Tries a peer at once, without waiting for the end of its backoff.
    pub fn retry_now(&self, peer: PublicKey) {
        self.0
            .shared
            .input(|core, now_ms| core.coordinator.handle_retry_now(peer, None, now_ms));
    }

    /// Tells that the network has changed: every followed peer is tried once. That the machine was
    /// suspended is noticed without it.
    pub fn network_changed(&self) {
        self.0.shared.network_changed.notify_one();
    }

    /// Returns the known peers, each with its addresses, most promising first.
    pub fn peers(&self) -> Vec<(PublicKey, Vec<eidetica_proto::Address>)> {
        self.0.shared.dialer.book.all()
    }
}

fn status(shared: &Shared, core: &Core, peer: PublicKey, tree: TreeId) -> Option<FollowStatus> {
    let wall = |at_ms| shared.wall_ms(at_ms);
    let state = match core.coordinator.status(peer, tree)? {
        LaneStatus::InSync { since_ms } => LaneStatus::InSync {
            since_ms: wall(since_ms),
        },
        LaneStatus::Unreachable { reason, next_ms } => LaneStatus::Unreachable {
            reason,
            next_ms: wall(next_ms),
        },
        LaneStatus::Refused { reason, next_ms } => LaneStatus::Refused {
            reason,
            next_ms: next_ms.map(wall),
        },
        state => state,
    };
    let failure = core.failure(peer, tree);
    Some(FollowStatus {
        peer,
        tree,
        state,
        peer_has: core.coordinator.reached(peer, tree).unwrap_or(0),
        last_error: failure.map(|failure| (failure.error.clone(), wall(failure.at_ms))),
    })
}
