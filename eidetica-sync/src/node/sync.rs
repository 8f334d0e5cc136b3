//! Syncing a tree with a peer: once, or continuously.

use std::sync::{Arc, PoisonError};

use eidetica_dag::TreeId;
use eidetica_proto::{PeerStatus, Progress, Report, SyncOptions};
use tokio::sync::{oneshot, watch};

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::engine::Operation;

impl Node {
    /// Syncs a tree with a peer: fetches the entries missing here, then sends those missing there.
    ///
    /// The peer's addresses are tried in order.
    ///
    /// # Errors
    /// Returns why the sync failed. Entries stored before the error stay.
    pub async fn sync(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
    ) -> Result<Report, Arc<SyncError>> {
        self.begin_sync(tree, peer, SyncOptions::default())
            .await?
            .finish()
            .await
    }

    /// Queues a sync, which runs even if the returned handle is dropped.
    ///
    /// # Errors
    /// Returns [`SyncError::Closed`] if the node was shut down.
    pub async fn begin_sync(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
        options: SyncOptions,
    ) -> Result<RunningSync, Arc<SyncError>> {
        let (progress, seen) = watch::channel(Progress::default());
        let (reply, result) = oneshot::channel();
        let peer = peer.into();
        self.queue(Operation::Sync {
            tree,
            peer,
            options,
            progress,
            reply,
        })
        .await?;
        Ok(RunningSync {
            progress: seen,
            result,
        })
    }

    /// Keeps a tree in sync with a peer from now on.
    ///
    /// The node syncs at once, after every local change, and periodically. Failed syncs are retried
    /// with exponential backoff, without an end. A node can follow several peers; entries from one are
    /// passed on to the others.
    ///
    /// # Errors
    /// Returns [`SyncError::Closed`] if the node was shut down.
    pub async fn follow(&self, tree: TreeId, peer: impl Into<Peer>) -> Result<(), Arc<SyncError>> {
        self.queue(Operation::Follow {
            tree,
            peer: peer.into(),
        })
        .await
    }

    /// Stops keeping a tree in sync with a peer. A running sync continues to its end.
    ///
    /// # Errors
    /// Returns [`SyncError::Closed`] if the node was shut down.
    pub async fn unfollow(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
    ) -> Result<(), Arc<SyncError>> {
        self.queue(Operation::Unfollow {
            tree,
            peer: peer.into(),
        })
        .await
    }

    /// Returns the status of each followed peer and tree. Times are milliseconds since the node
    /// started.
    ///
    /// # Errors
    /// Returns [`SyncError::Closed`] if the node was shut down.
    pub async fn statuses(&self) -> Result<Vec<(Peer, TreeId, PeerStatus)>, Arc<SyncError>> {
        let (reply, statuses) = oneshot::channel();
        self.queue(Operation::Statuses { reply }).await?;
        statuses.await.map_err(|_| SyncError::Closed.into())
    }

    async fn queue(&self, operation: Operation) -> Result<(), Arc<SyncError>> {
        let queue = self
            .0
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let queue = queue.ok_or(SyncError::Closed)?;
        queue
            .send(operation)
            .await
            .map_err(|_| SyncError::Closed.into())
    }
}

/// A queued or running sync.
#[derive(Debug)]
pub struct RunningSync {
    progress: watch::Receiver<Progress>,
    result: oneshot::Receiver<Result<Report, Arc<SyncError>>>,
}

impl RunningSync {
    /// Returns a receiver of the progress.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for the sync to end.
    ///
    /// # Errors
    /// Returns why the sync failed.
    pub async fn finish(self) -> Result<Report, Arc<SyncError>> {
        self.result
            .await
            .unwrap_or_else(|_| Err(SyncError::Closed.into()))
    }
}
