//! A store for tests that tells what is asked of it.

use eidetica_dag::{AppendOutcome, TreeId, VerifiedEntry};
use eidetica_proto::LogId;

use super::{Change, MemoryStore, Snapshot, Store, StoreError};

/// A store in memory with hooks, each called before its answer is given.
pub(crate) struct HookedStore {
    pub(crate) store: MemoryStore,
    /// Hears of each key that is read.
    pub(crate) on_get: Box<dyn Fn(&str) + Send + Sync>,
    /// Hears of each snapshot.
    pub(crate) on_snapshot: Box<dyn Fn(&Snapshot) + Send + Sync>,
}

impl Default for HookedStore {
    fn default() -> Self {
        Self {
            store: MemoryStore::new(),
            on_get: Box::new(|_| ()),
            on_snapshot: Box::new(|_| ()),
        }
    }
}

impl Store for HookedStore {
    fn log_id(&self) -> LogId {
        self.store.log_id()
    }

    fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        self.store.trees()
    }

    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError> {
        let snapshot = self.store.snapshot(tree)?;
        (self.on_snapshot)(&snapshot);
        Ok(snapshot)
    }

    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError> {
        self.store.append(tree, batch)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.store.get(key);
        (self.on_get)(key);
        value
    }

    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.store.put(key, value)
    }

    fn update(&self, key: &str, change: &mut Change<'_>) -> Result<(), StoreError> {
        self.store.update(key, change)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.store.list(prefix)
    }
}
