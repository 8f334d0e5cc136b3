//! Syncs that a program asks for, in addition to those that the coordinator decides.

use std::sync::Arc;

use eidetica_dag::TreeId;
use eidetica_proto::{Progress, Report, SyncOptions};
use tokio::sync::{oneshot, watch};

use super::shared::Shared;
use crate::client::error::SyncError;
use crate::client::peer::Peer;

/// One sync to run, and where its result goes.
pub(crate) struct ByHand {
    pub(crate) tree: TreeId,
    pub(crate) peer: Peer,
    pub(crate) options: SyncOptions,
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) reply: oneshot::Sender<Result<Report, Arc<SyncError>>>,
}

impl ByHand {
    /// Runs the sync to its end, and tells the coordinator what it learned of the peer.
    pub(super) async fn run(self, shared: &Shared) {
        let Self {
            tree,
            peer,
            options,
            progress,
            reply,
        } = self;
        let result = async {
            let dialer = shared.dialer.at(&peer.addresses);
            let (peer, is_news) = dialer.meet(&peer).await?;
            if is_news {
                shared.input(|core, now_ms| core.coordinator.handle_address_learned(peer, now_ms));
            }
            let synced = shared.sync(&dialer, peer, (tree, options), progress, || ());
            let synced = synced.await?;
            shared.input(|core, now_ms| {
                core.coordinator.handle_heard_about(peer, tree, now_ms);
                core.coordinator
                    .handle_peer_has(peer, tree, synced.settled, now_ms);
            });
            Ok(synced.report)
        };
        let _gave_up_waiting = reply.send(result.await);
    }
}
