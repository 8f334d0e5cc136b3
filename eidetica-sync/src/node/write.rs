//! Writing entries.

use bytes::Bytes;
use eidetica_dag::{AccessChange, AccessRule, Body, EntryId, Genesis, TreeId, VerifiedEntry};

use super::Node;
use crate::node::error::TreeError;
use crate::platform::blocking;
use crate::store::writer::Writer;

impl Node {
    /// Creates a tree of which this node is admin. `access` says what others may do from the start.
    ///
    /// # Errors
    /// If the name or the list is too long, or the store fails.
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
        self.write(move |writer| writer.create(Body::Genesis(genesis)))
            .await
    }

    /// Writes an entry with `data` on top of all tips, and returns its id.
    ///
    /// # Errors
    /// If the entry is too large, this node may not write to the tree, or the store fails.
    pub async fn append(&self, tree: TreeId, data: impl Into<Bytes>) -> Result<EntryId, TreeError> {
        let ids = self.append_all(tree, vec![data.into()]).await?;
        ids.last().copied().ok_or(TreeError::NoSuchTree(tree))
    }

    /// Writes one entry for each of `data`, each on top of the one before, in one step, and returns
    /// their ids.
    ///
    /// # Errors
    /// As [`Node::append`]; nothing is stored then.
    pub async fn append_all(
        &self,
        tree: TreeId,
        data: Vec<Bytes>,
    ) -> Result<Vec<EntryId>, TreeError> {
        let bodies = data.into_iter().map(Body::Data).collect();
        self.write(move |writer| writer.append(tree, bodies)).await
    }

    /// Changes what others may do with the tree from here on.
    ///
    /// # Errors
    /// As [`Node::append`]; this node must be admin of the tree.
    pub async fn change_access(
        &self,
        tree: TreeId,
        changes: Vec<AccessChange>,
    ) -> Result<EntryId, TreeError> {
        self.write(move |writer| writer.change_access(tree, changes))
            .await
    }

    /// Stores entries that were signed elsewhere or by hand, parents before children, and returns
    /// their ids.
    ///
    /// # Errors
    /// If one is refused or lacks a parent, or the store fails. What stands before it is stored.
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
