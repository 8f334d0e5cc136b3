//! Reading trees.

use eidetica_dag::{ArrivalSet, Contests, EntryId, SignedEntry, TotalOrder, TreeId, tip_ids, walk};
use eidetica_proto::{Cursor, LogId};

use super::Node;
use super::error::TreeError;
use crate::platform::blocking;
use crate::server::trees::tree_name;
use crate::store::{Snapshot, StoreError};

/// One tree in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeInfo {
    /// The tree.
    pub tree: TreeId,
    /// The name in its root.
    pub name: String,
    /// The number of stored entries.
    pub entries: u32,
    /// The number of its tips, which can be as many as its entries.
    pub tip_count: u32,
}

impl Node {
    /// Returns the trees in the store, ascending by id.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn trees(&self) -> Result<Vec<TreeInfo>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let info = |tree| {
                let snapshot = store.snapshot(tree)?;
                Ok(TreeInfo {
                    tree,
                    name: tree_name(&snapshot)?,
                    entries: snapshot.entry_count(),
                    tip_count: snapshot.tip_count(),
                })
            };
            store.trees()?.into_iter().map(info).collect()
        })
        .await
    }

    /// Returns the tips of a tree, ascending; an absent tree has none.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn tips(&self, tree: TreeId) -> Result<Vec<EntryId>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || tip_ids(&*store.snapshot(tree)?)).await
    }

    /// Returns one entry, or `None` if it is not stored.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn entry(
        &self,
        tree: TreeId,
        id: EntryId,
    ) -> Result<Option<SignedEntry>, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            snapshot
                .arrival(&id)?
                .map(|at| snapshot.entry(at))
                .transpose()
        })
        .await
    }

    /// Returns the entries of a tree in an order that is the same on every replica: by height, then
    /// by id.
    ///
    /// The order takes eight bytes for each entry; the entries themselves are read one by one.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn log(&self, tree: TreeId) -> Result<Log, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            let all = ArrivalSet::all_below(snapshot.entry_count());
            Log::of(store.log_id(), snapshot, &all)
        })
        .await
    }

    /// Returns the entries that are above a frontier: all but `known` and their ancestors, in the order
    /// of [`Node::log`]. What is not above it is not read, whatever the size of the tree.
    ///
    /// A program that has processed everything up to some tips gets what came since.
    ///
    /// # Errors
    /// Returns [`TreeError::NoSuchEntry`] if one of `known` is not stored, or an error if the store
    /// fails.
    pub async fn entries_since(
        &self,
        tree: TreeId,
        known: impl IntoIterator<Item = EntryId>,
    ) -> Result<Log, TreeError> {
        let store = self.0.store.clone();
        let known: Vec<EntryId> = known.into_iter().collect();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            for id in &known {
                if snapshot.arrival(id)?.is_none() {
                    return Err(TreeError::NoSuchEntry(*id));
                }
            }
            let above = walk::difference(&*snapshot, &known)?;
            Ok(Log::of(store.log_id(), snapshot, &above)?)
        })
        .await
    }
}

/// The entries of a tree in an order that is the same on every replica. Reading blocks.
pub struct Log {
    log_id: LogId,
    snapshot: Snapshot,
    order: TotalOrder,
    contests: Contests,
}

impl Log {
    fn of(log_id: LogId, snapshot: Snapshot, entries: &ArrivalSet) -> Result<Self, StoreError> {
        let order = TotalOrder::of(&*snapshot, entries)?;
        let contests = Contests::of(&*snapshot)?;
        Ok(Self {
            log_id,
            snapshot,
            order,
            contests,
        })
    }

    /// Returns the place after everything that this log shows, for
    /// [`SubscribeFrom::After`](crate::SubscribeFrom::After): no entry is between the two.
    ///
    /// # Errors
    /// Those of the store.
    pub fn cursor(&self) -> Result<Cursor, StoreError> {
        Cursor::at_end(self.log_id, &*self.snapshot)
    }

    /// Skips all that is left but the last so many entries, without reading what it skips.
    ///
    /// # Errors
    /// Those of the store.
    pub fn skip_to_last(&mut self, entries: usize) -> Result<(), StoreError> {
        while self.order.len() > entries {
            self.order.next(&*self.snapshot)?;
        }
        Ok(())
    }

    /// Returns an entry of the tree as this log shows it, or `None` if it is not stored.
    ///
    /// # Errors
    /// Those of the store.
    pub fn entry(&self, id: EntryId) -> Result<Option<SignedEntry>, StoreError> {
        let at = self.snapshot.arrival(&id)?;
        at.map(|at| self.snapshot.entry(at)).transpose()
    }

    /// Returns the revocation with which an entry of this log is concurrent, if its author has lost
    /// the role for it and neither knew of the other. Such an entry is valid on every replica; a
    /// person may want to look at it.
    ///
    /// # Errors
    /// Those of the store.
    pub fn contested_by(&mut self, entry: &SignedEntry) -> Result<Option<EntryId>, StoreError> {
        match self.snapshot.arrival(&entry.id())? {
            Some(at) => self.contests.contested_by(&*self.snapshot, at, entry),
            None => Ok(None),
        }
    }
}

impl Iterator for Log {
    type Item = Result<SignedEntry, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.order.next(&*self.snapshot).transpose()?;
        Some(at.and_then(|at| self.snapshot.entry(at)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.order.len(), Some(self.order.len()))
    }
}

impl ExactSizeIterator for Log {}
