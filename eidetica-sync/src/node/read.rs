//! Reading trees.

use eidetica_dag::{Arrival, Contests, EntryId, SignedEntry, TreeId, tip_ids, walk};

use super::Node;
use crate::event::Subscription;
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
    /// The order takes 40 bytes for each entry; the entries themselves are read one by one.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn log(&self, tree: TreeId) -> Result<Log, StoreError> {
        let store = self.0.store.clone();
        blocking::run(move || {
            let snapshot = store.snapshot(tree)?;
            let all = eidetica_dag::ArrivalSet::all_below(snapshot.entry_count());
            let order = walk::topological(&*snapshot, &all)?.into_iter();
            let contests = Contests::of(&*snapshot)?;
            Ok(Log {
                snapshot,
                order,
                contests,
            })
        })
        .await
    }

    /// Returns the entries of a tree as they arrive, from its root, from some point, or from now on.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub async fn subscribe(
        &self,
        tree: TreeId,
        from: SubscribeFrom,
    ) -> Result<Subscription, StoreError> {
        let events = self.events();
        let store = self.0.store.clone();
        let next = match from {
            SubscribeFrom::Start => 0,
            SubscribeFrom::After(entries) => entries,
            SubscribeFrom::Now => {
                let store = store.clone();
                blocking::run(move || store.snapshot(tree).map(|view| view.entry_count())).await?
            }
        };
        Ok(Subscription::new(store, tree, next, events))
    }
}

/// Where a [`Subscription`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// At the root.
    Start,
    /// After this many entries, in the order of arrival.
    After(u32),
    /// After the last stored entry.
    Now,
}

/// The entries of a tree in an order that is the same on every replica. Reading blocks.
pub struct Log {
    snapshot: Snapshot,
    order: std::vec::IntoIter<Arrival>,
    contests: Contests,
}

impl Log {
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
        self.order.next().map(|at| self.snapshot.entry(at))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.order.size_hint()
    }
}

impl ExactSizeIterator for Log {}
