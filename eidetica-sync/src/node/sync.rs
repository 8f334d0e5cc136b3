//! Syncs, once and from then on.

use std::sync::{Arc, PoisonError};

use eidetica_dag::TreeId;
use eidetica_proto::{PeerStatus, Progress, Report, SyncOptions};
use tokio::sync::{oneshot, watch};

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::engine::Operation;

impl Node {
    /// Makes a tree equal with a peer: fetches what is lacking here, then sends what is lacking
    /// there. The addresses are tried in order.
    ///
    /// # Errors
    /// Why it did not come to its end. What was stored until then stays.
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

    /// Queues a sync and returns as soon as it is queued. It runs whether or not anybody waits for
    /// it.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
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

    /// Keeps a tree equal with a peer from here on: syncs at once, whenever something changes here,
    /// and now and then to find what was lost. Failures are tried again after ever longer waits, for
    /// ever. Several peers may be followed; what comes from one is passed on to the others.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
    pub async fn follow(&self, tree: TreeId, peer: impl Into<Peer>) -> Result<(), Arc<SyncError>> {
        self.queue(Operation::Follow {
            tree,
            peer: peer.into(),
        })
        .await
    }

    /// Stops to keep a tree equal with a peer. A sync under way goes on to its end.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
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

    /// Lists how it stands with each peer and tree that is followed. Times are milliseconds since
    /// the node was started.
    ///
    /// # Errors
    /// [`SyncError::Closed`] if the node is shut down.
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

/// A sync that is queued or under way.
#[derive(Debug)]
pub struct RunningSync {
    progress: watch::Receiver<Progress>,
    result: oneshot::Receiver<Result<Report, Arc<SyncError>>>,
}

impl RunningSync {
    /// Returns how far it has come; the receiver sees every change.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// Why it did not come to its end.
    pub async fn finish(self) -> Result<Report, Arc<SyncError>> {
        self.result
            .await
            .unwrap_or_else(|_| Err(SyncError::Closed.into()))
    }
}
