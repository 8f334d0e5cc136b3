//! A handle of one tree.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{EntryId, Role, SignedEntry, Subject, TreeId};
use eidetica_proto::joining::JoinRequest;
use eidetica_proto::{Report, Ticket};

use super::Node;
use super::error::TreeError;
use super::follow::{Follow, FollowStatus};
use super::joining::InviteTerms;
use super::read::Log;
use super::subscription::{SubscribeFrom, Subscription};
use crate::client::error::SyncError;
use crate::client::peer::Peer;
use crate::platform::blocking;
use crate::store::StoreError;
use crate::store::writer::Revocation;

/// One tree of a node, for programs that work with it for a while.
///
/// A cheap handle: each method is the one of the [`Node`] of the same name, which describes it.
///
/// ```
/// use eidetica_sync::store::MemoryStore;
/// use eidetica_sync::{Node, generate_key};
///
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let node = Node::builder(MemoryStore::new(), generate_key()).start();
/// let notes = node.create_tree("notes", vec![]).await?;
/// let notes = node.tree(notes).await?;
/// let first = notes.append("hello").await?;
/// let second = notes.append("world").await?;
/// assert_eq!(notes.tips().await?, [second]);
/// let news = notes.entries_since([first]).await?;
/// assert_eq!(news.map(|entry| entry.unwrap().id()).collect::<Vec<_>>(), [second]);
/// # node.shutdown().await?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Tree {
    node: Node,
    id: TreeId,
}

impl Node {
    /// Returns the handle of a tree that is here.
    ///
    /// # Errors
    /// Returns [`TreeError::NoSuchTree`] if it is not, or an error if the store fails.
    pub async fn tree(&self, id: TreeId) -> Result<Tree, TreeError> {
        let store = self.0.store.clone();
        let entries = blocking::run(move || Ok::<_, StoreError>(store.snapshot(id)?.entry_count()));
        match entries.await? {
            0 => Err(TreeError::NoSuchTree(id)),
            _ => Ok(Tree {
                node: self.clone(),
                id,
            }),
        }
    }
}

impl Tree {
    /// Returns the id of the tree.
    pub fn id(&self) -> TreeId {
        self.id
    }

    /// Returns the node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Appends an entry; see [`Node::append`].
    ///
    /// # Errors
    /// Those of [`Node::append`].
    pub async fn append(&self, data: impl Into<Bytes>) -> Result<EntryId, TreeError> {
        self.node.append(self.id, data).await
    }

    /// Appends many entries in one step; see [`Node::append_all`].
    ///
    /// # Errors
    /// Those of [`Node::append_all`].
    pub async fn append_all(&self, data: Vec<Bytes>) -> Result<Vec<EntryId>, TreeError> {
        self.node.append_all(self.id, data).await
    }

    /// Returns one entry; see [`Node::entry`].
    ///
    /// # Errors
    /// Those of [`Node::entry`].
    pub async fn entry(&self, id: EntryId) -> Result<Option<SignedEntry>, StoreError> {
        self.node.entry(self.id, id).await
    }

    /// Returns the tips; see [`Node::tips`].
    ///
    /// # Errors
    /// Those of [`Node::tips`].
    pub async fn tips(&self) -> Result<Vec<EntryId>, StoreError> {
        self.node.tips(self.id).await
    }

    /// Returns all entries in the order that is the same on every replica; see [`Node::log`].
    ///
    /// # Errors
    /// Those of [`Node::log`].
    pub async fn log(&self) -> Result<Log, StoreError> {
        self.node.log(self.id).await
    }

    /// Returns the entries above a frontier; see [`Node::entries_since`].
    ///
    /// # Errors
    /// Those of [`Node::entries_since`].
    pub async fn entries_since(
        &self,
        known: impl IntoIterator<Item = EntryId>,
    ) -> Result<Log, TreeError> {
        self.node.entries_since(self.id, known).await
    }

    /// Returns the entries as they arrive; see [`Node::subscribe`].
    ///
    /// # Errors
    /// Those of [`Node::subscribe`].
    pub async fn subscribe(&self, from: SubscribeFrom) -> Result<Subscription, TreeError> {
        self.node.subscribe(self.id, from).await
    }

    /// Returns the roles; see [`Node::access`].
    ///
    /// # Errors
    /// Those of [`Node::access`].
    pub async fn access(&self) -> Result<Vec<(Subject, Role)>, StoreError> {
        self.node.access(self.id).await
    }

    /// Grants a role; see [`Node::grant`].
    ///
    /// # Errors
    /// Those of [`Node::grant`].
    pub async fn grant(&self, subject: Subject, role: Role) -> Result<EntryId, TreeError> {
        self.node.grant(self.id, subject, role).await
    }

    /// Revokes a role; see [`Node::revoke`].
    ///
    /// # Errors
    /// Those of [`Node::revoke`].
    pub async fn revoke(&self, subject: Subject) -> Result<Revocation, TreeError> {
        self.node.revoke(self.id, subject).await
    }

    /// Returns a ticket with which others find the tree; see [`Node::ticket`].
    pub async fn ticket(&self) -> Ticket {
        self.node.ticket(self.id).await
    }

    /// Returns a ticket whose holder may join; see [`Node::invite`].
    ///
    /// # Errors
    /// Those of [`Node::invite`].
    pub async fn invite(&self, terms: InviteTerms) -> Result<Ticket, TreeError> {
        self.node.invite(self.id, terms).await
    }

    /// Returns the requests to join; see [`Node::join_requests`].
    ///
    /// # Errors
    /// Those of [`Node::join_requests`].
    pub async fn requests(&self) -> Result<Vec<JoinRequest>, StoreError> {
        self.node.join_requests(Some(self.id)).await
    }

    /// Syncs with a peer once; see [`Node::sync`].
    ///
    /// # Errors
    /// Those of [`Node::sync`].
    pub async fn sync(&self, peer: impl Into<Peer>) -> Result<Report, Arc<SyncError>> {
        self.node.sync(self.id, peer).await
    }

    /// Keeps the tree in sync with a peer; see [`Node::follow`].
    ///
    /// # Errors
    /// Those of [`Node::follow`].
    pub async fn follow(&self, peer: impl Into<Peer>) -> Result<Follow, Arc<SyncError>> {
        self.node.follow(self.id, peer).await
    }

    /// Returns the state at each peer with which the tree is kept in sync.
    pub fn status(&self) -> Vec<FollowStatus> {
        self.node.status_of(self.id)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tree").field(&self.id).finish()
    }
}
