//! Syncing a tree with a peer once.

use std::sync::{Arc, PoisonError};

use eidetica_dag::TreeId;
use eidetica_proto::{Progress, Report, SyncOptions};
use tokio::sync::{oneshot, watch};

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::engine::by_hand::ByHand;

impl Node {
    /// Syncs a tree with a peer: fetches the entries missing here, then sends those missing there.
    ///
    /// The peer is asked at the address that is most likely to lead to it, and after a quarter of a
    /// second without an answer at the next one as well.
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
        self.queue(ByHand {
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

    async fn queue(&self, job: ByHand) -> Result<(), Arc<SyncError>> {
        let queue = self
            .0
            .queue
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let queue = queue.ok_or(SyncError::Closed)?;
        queue.send(job).await.map_err(|_| SyncError::Closed.into())
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
