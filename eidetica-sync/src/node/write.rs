//! Writing entries.

use bytes::Bytes;
use eidetica_dag::{AccessChange, AccessRule, Body, EntryId, Genesis, TreeId, VerifiedEntry};

use super::Node;
use crate::node::error::TreeError;
use crate::platform::blocking;
use crate::store::writer::Writer;

impl Node {
    /// Creates a tree with this node as its admin, and with the roles in `access` for others.
    ///
    /// # Errors
    /// Returns an error if the name or the list is too long, or if the store fails.
    pub async fn create_tree(
        &self,
        name: impl Into<String>,
        access: Vec<AccessChange>,
    ) -> Result<TreeId, TreeError> {
        let genesis = Genesis {
            access_rule: AccessRule::SENIORITY,
            nonce: self.0.random.bytes(),
            name: name.into(),
            access,
        };
        self.write(move |writer| writer.create(genesis)).await
    }

    /// Appends an entry with `data`, whose parents are the tips of the tree, and returns its id.
    ///
    /// # Errors
    /// Returns an error if the entry is too large, if this node may not write to the tree, or if the
    /// store fails.
    pub async fn append(&self, tree: TreeId, data: impl Into<Bytes>) -> Result<EntryId, TreeError> {
        let ids = self.append_all(tree, vec![data.into()]).await?;
        ids.last().copied().ok_or(TreeError::NoSuchTree(tree))
    }

    /// Appends one entry for each of `data` in one step, each the parent of the next, and returns their
    /// ids.
    ///
    /// # Errors
    /// See [`Node::append`]. Nothing is stored on an error.
    pub async fn append_all(
        &self,
        tree: TreeId,
        data: Vec<Bytes>,
    ) -> Result<Vec<EntryId>, TreeError> {
        let bodies = data.into_iter().map(Body::Data).collect();
        self.write(move |writer| writer.append(tree, bodies)).await
    }

    /// Changes the roles of others in a tree.
    ///
    /// # Errors
    /// See [`Node::append`]. This node must be an admin of the tree.
    pub async fn change_access(
        &self,
        tree: TreeId,
        changes: Vec<AccessChange>,
    ) -> Result<EntryId, TreeError> {
        self.write(move |writer| writer.change_access(tree, changes))
            .await
    }

    /// Stores signed entries, parents before children, and returns their ids.
    ///
    /// # Errors
    /// Returns an error if an entry is refused or lacks a parent, or if the store fails. The entries
    /// before it are stored.
    pub async fn insert(
        &self,
        tree: TreeId,
        entries: Vec<VerifiedEntry>,
    ) -> Result<Vec<EntryId>, TreeError> {
        self.write(move |writer| writer.insert(tree, entries)).await
    }

    async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Writer) -> Result<T, TreeError> + Send + 'static,
    ) -> Result<T, TreeError> {
        let writer = self.0.writer.clone();
        blocking::run(move || write(&writer)).await
    }
}
