//! Fetching damaged entries again.

use std::sync::Arc;

use eidetica_dag::{Arrival, EntryId, TreeId, VerifiedEntry};
use eidetica_proto::Received;
use eidetica_proto::repair::RepairSession;
use futures::StreamExt;

use super::Node;
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::platform::blocking;
use crate::store::{Store, StoreError};
use crate::transport::frame_streams::{OutgoingMessage, incoming};

/// What is damaged in a tree, and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// How many entries were put back.
    pub restored: u32,
    /// The entries that are still damaged.
    pub missing: Vec<EntryId>,
    /// How many more entries are damaged so that not even their ids are known here. Fetch the tree anew
    /// into another store.
    pub unknown: u32,
}

impl Repaired {
    /// Tells whether nothing is damaged, or nothing is left so.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.unknown == 0
    }
}

impl Node {
    /// Lists the damaged entries of a tree without repairing them. It reads all entries.
    ///
    /// # Errors
    /// Returns an error if the store fails otherwise.
    pub async fn damaged(&self, tree: TreeId) -> Result<Repaired, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || damaged(&*store, tree)).await
    }

    /// Fetches the damaged entries of a tree again from a peer, and puts them back in their places.
    ///
    /// # Errors
    /// Returns why the peer could not be asked, or why the store failed. What was put back before stays.
    pub async fn repair(
        &self,
        tree: TreeId,
        peer: impl Into<Peer>,
    ) -> Result<Repaired, Arc<SyncError>> {
        self.repair_from(tree, peer.into()).await.map_err(Arc::new)
    }

    async fn repair_from(&self, tree: TreeId, peer: Peer) -> Result<Repaired, SyncError> {
        let mut found = self.damaged(tree).await?;
        let dialer = self.0.shared.dialer.at(&peer.addresses);
        let (peer, _) = dialer.meet(&peer).await?;
        let mut session = RepairSession::new(tree, found.missing.iter().copied());
        while let Some(request) = session.poll_request() {
            let request = OutgoingMessage::header_only(request);
            let mut reached = dialer.exchange(peer, &request).await?;
            let address = reached.address.clone();
            let header = reached.header().await?;
            session
                .handle_header(&header)
                .map_err(|fault| SyncError::peer(&address, fault))?;
            let mut parts = incoming(tree, reached.answer.frames);
            while let Some(part) = parts.next().await {
                let (part, _) = part.map_err(|error| SyncError::transport(&address, error))?;
                let part: Received = part.map_err(|fault| SyncError::peer(&address, fault))?;
                let (entries, goes_on) = session
                    .handle_part(part)
                    .map_err(|fault| SyncError::peer(&address, fault))?;
                found.restored += self.put_back(tree, entries).await?;
                if !goes_on {
                    break;
                }
            }
        }
        found.missing = session.missing().collect();
        Ok(found)
    }

    async fn put_back(&self, tree: TreeId, entries: Vec<VerifiedEntry>) -> Result<u32, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let mut restored = 0;
            for entry in entries {
                restored += u32::from(store.restore(tree, &entry)?);
            }
            Ok(restored)
        })
        .await
    }
}

fn damaged(store: &dyn Store, tree: TreeId) -> Result<Repaired, StoreError> {
    let snapshot = store.snapshot(tree)?;
    let mut found = Repaired::default();
    for at in (0..snapshot.entry_count()).map(Arrival) {
        match snapshot.entry(at) {
            Ok(_) => continue,
            Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        // The id has to be the one by which the entry is found.
        let id = snapshot.node(at).map(|node| node.id);
        match id.and_then(|id| Ok((id, snapshot.arrival(&id)?))) {
            Ok((id, Some(found_at))) if found_at == at => found.missing.push(id),
            _ => found.unknown += 1,
        }
    }
    Ok(found)
}
