//! Swaps address records with peers, and follows the peers that are found by them.

use std::sync::Arc;
use std::time::Duration;

use eidetica_dag::{PublicKey, Role, TreeId, current_access};
use eidetica_proto::coordinator::{FollowOptions, PeerId};
use eidetica_proto::message::{Peers, Reply, Request, RequestHeader, ResponseHeader};

use super::follows;
use super::shared::{Following, Shared};
use crate::client::error::SyncError;
use crate::platform::blocking;
use crate::store::StoreError;
use crate::transport::frame_streams::OutgoingMessage;

/// Peers of one tree that are followed before none is followed in addition because it was found:
/// with that many, a tree is well connected.
const FOUND_PER_TREE_MAX: usize = 8;

/// How long a swap may take: one small exchange, and a comparison of what both know.
const SWAP_TIMEOUT: Duration = Duration::from_secs(10);

/// A swap that is under way. Dropping it reports its end.
pub(super) struct Swapping {
    shared: Arc<Shared>,
    peer: PeerId,
}

impl Swapping {
    pub(super) fn begin(shared: Arc<Shared>, peer: PeerId) -> Self {
        Self { shared, peer }
    }

    /// Swaps the records of a tree, and follows whom it finds.
    pub(super) async fn run(self, tree: TreeId) {
        let (shared, peer) = (&*self.shared, self.peer);
        match tokio::time::timeout(SWAP_TIMEOUT, shared.swap(peer, tree)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%peer, %tree, %error, "no address records swapped"),
            Err(_) => tracing::debug!(%peer, %tree, "the peer does not answer with its records"),
        }
        if shared.following == Following::CallersToo
            && let Err(error) = shared.follow_found(tree).await
        {
            tracing::warn!(%tree, %error, "cannot follow a peer that was found");
        }
    }
}

impl Drop for Swapping {
    fn drop(&mut self) {
        let peer = self.peer;
        (self.shared).input(|core, now_ms| core.coordinator.handle_swapped(peer, now_ms));
    }
}

impl Shared {
    async fn swap(&self, peer: PeerId, tree: TreeId) -> Result<(), SyncError> {
        let place = self.dialer.place_of(&peer);
        let own = self.dialer.own_addresses().await;
        let (store, records) = (self.store.clone(), self.records.clone());
        let told = blocking::run(move || {
            // Who reads a tree, and where, is told to its readers alone.
            let access = current_access(&*store.snapshot(tree)?)?;
            match access.allows(Some(&peer), Role::Read) {
                true => records.tell(tree, Some(&peer), place, &own),
                false => Ok::<_, StoreError>(Vec::new()),
            }
        });
        let records = told.await?;
        let header = RequestHeader::new(Request::Peers(Peers { tree, records })).encode();
        let request = OutgoingMessage::header_only(header);
        let header = self.dialer.exchange(peer, &request).await?;
        let header = header.only_frame().await?;
        match ResponseHeader::decode(&header).map(|header| header.reply) {
            Ok(Ok(Reply::Peers(told))) => {
                let records = self.records.clone();
                Ok(blocking::run(move || records.take(tree, told, place)).await?)
            }
            Ok(answer) => {
                tracing::debug!(%peer, %tree, ?answer, "the peer does not swap records");
                Ok(())
            }
            Err(fault) => {
                tracing::debug!(%peer, %tree, %fault, "the peer does not swap records");
                Ok(())
            }
        }
    }

    /// Follows the peers of a tree whose records are known, until it is well connected, and remembers
    /// them: after a restart, the peer that told of them may be away.
    async fn follow_found(&self, tree: TreeId) -> Result<(), SyncError> {
        let records = self.records.clone();
        let found = blocking::run(move || records.keys(tree)).await?;
        for peer in found {
            let has_room = self.look(|core, _| {
                let coordinator = &core.coordinator;
                let is_followed = coordinator.status(peer, tree).is_some();
                !is_followed && coordinator.statuses_of_tree(tree).count() < FOUND_PER_TREE_MAX
            });
            // A program that paused the peer, or follows it in its own way, has decided.
            if has_room
                && self.may_read(peer, tree).await?
                && !follows::is_remembered(&self.store, peer, tree).await?
            {
                tracing::debug!(%peer, %tree, "follows a peer that was found");
                let options = FollowOptions::default();
                follows::remember(&self.store, peer, tree, options).await?;
                self.follow(peer, tree, options).await?;
            }
        }
        Ok(())
    }

    /// Tells whether a key may read a tree that is here.
    pub(super) async fn may_read(&self, key: PublicKey, tree: TreeId) -> Result<bool, StoreError> {
        let store = self.store.clone();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            if snapshot.entry_count() == 0 {
                return Ok(false);
            }
            Ok(current_access(&*snapshot)?.allows(Some(&key), Role::Read))
        })
        .await
    }
}
