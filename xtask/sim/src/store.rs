//! The store of a simulated node: a real one, watched, with faults.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AppendOutcome, Body, EntryId, TreeId, VerifiedEntry};
use eidetica_proto::LogId;
use eidetica_sync::store::{Change, MemoryStore, SimulatedDisk, Snapshot, Store, StoreError};
use tokio::time::Instant;

use crate::invariants;
use crate::record::Record;

/// What a node's store is on. It outlives the node.
#[derive(Clone)]
pub enum Medium {
    /// A disk, which a power cut leaves with what was synced.
    Disk(SimulatedDisk),
    /// Memory that outlives the node.
    Memory(Arc<MemoryStore>),
}

/// What outlives the lives of a node: what its store has acknowledged.
#[derive(Clone, Default)]
pub struct Acknowledged(Arc<Mutex<BTreeSet<(TreeId, EntryId)>>>);

impl Acknowledged {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<(TreeId, EntryId)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns all of it.
    pub fn all(&self) -> BTreeSet<(TreeId, EntryId)> {
        self.lock().clone()
    }

    /// Notes entries.
    pub fn extend(&self, entries: impl IntoIterator<Item = (TreeId, EntryId)>) {
        self.lock().extend(entries);
    }
}

/// The store of one life of a node.
pub struct SimStore {
    inner: Arc<dyn Store>,
    log: LogId,
    record: Record,
    acknowledged: Acknowledged,
    /// Whether the node lives. A dead one can neither read nor write.
    is_alive: AtomicBool,
    /// How many writes fail.
    failing: AtomicU32,
    /// When the access of a tree changed here last.
    access_changed: Mutex<BTreeMap<TreeId, Instant>>,
}

impl SimStore {
    /// Opens the store on a medium. `log` is the identity of its arrival logs.
    pub fn open(
        medium: &Medium,
        log: LogId,
        record: &Record,
        acknowledged: &Acknowledged,
    ) -> Result<Self, StoreError> {
        let inner: Arc<dyn Store> = match medium {
            Medium::Disk(disk) => Arc::new(disk.open()?),
            Medium::Memory(store) => store.clone(),
        };
        Ok(Self {
            inner,
            log,
            record: record.clone(),
            acknowledged: acknowledged.clone(),
            is_alive: AtomicBool::new(true),
            failing: AtomicU32::new(0),
            access_changed: Mutex::default(),
        })
    }

    /// Ends the node's life: whatever still runs reaches nothing more.
    pub fn kill(&self) {
        self.is_alive.store(false, Ordering::Relaxed);
    }

    /// Lets writes fail.
    pub fn fail_writes(&self, writes: u32) {
        self.failing.store(writes, Ordering::Relaxed);
    }

    /// Returns when the access of a tree changed here last.
    pub fn access_changed(&self, tree: TreeId) -> Option<Instant> {
        let changed = self.access_changed.lock();
        let changed = changed.unwrap_or_else(PoisonError::into_inner);
        changed.get(&tree).copied()
    }

    /// Returns the store beneath, which shows what is there whatever fails.
    pub fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn reads(&self) -> Result<(), StoreError> {
        match self.is_alive.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(io_error("the node is dead")),
        }
    }

    fn writes(&self) -> Result<(), StoreError> {
        self.reads()?;
        let less = |left: u32| left.checked_sub(1);
        let order = Ordering::Relaxed;
        match self.failing.fetch_update(order, order, less) {
            Ok(_) => {
                self.record.count("writes that failed");
                Err(io_error("a write error"))
            }
            Err(_) => Ok(()),
        }
    }
}

fn io_error(text: &'static str) -> StoreError {
    StoreError::Io {
        source: io::Error::other(text).into(),
    }
}

impl Store for SimStore {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        self.reads()?;
        self.inner.trees()
    }

    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError> {
        self.reads()?;
        self.inner.snapshot(tree)
    }

    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError> {
        self.writes()?;
        let is_access = |entry: &VerifiedEntry| {
            let body = &entry.get().entry().body;
            matches!(body, Body::Access(_) | Body::Genesis(_))
        };
        let changes_access = batch.iter().any(is_access);
        let outcome = self.inner.append(tree, batch);
        if outcome.is_err() {
            self.record.count("appends that failed");
        }
        let outcome = outcome?;
        if !outcome.stored.is_empty() {
            self.record
                .add("entries stored", outcome.stored.len() as u64);
            if changes_access {
                let changed = self.access_changed.lock();
                let mut changed = changed.unwrap_or_else(PoisonError::into_inner);
                changed.insert(tree, Instant::now());
            }
            let snapshot = self.inner.snapshot(tree)?;
            let checked = invariants::ancestors_are_there(&*snapshot, outcome.stored.clone());
            self.record.check(
                "the stored set is closed under ancestors",
                checked.map(|ids| {
                    let ids = ids.into_iter().map(|id| (tree, id));
                    self.acknowledged.extend(ids);
                }),
            );
        }
        Ok(outcome)
    }

    fn restore(&self, tree: TreeId, entry: &VerifiedEntry) -> Result<bool, StoreError> {
        self.writes()?;
        self.inner.restore(tree, entry)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.reads()?;
        self.inner.get(key)
    }

    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.writes()?;
        self.inner.put(key, value)
    }

    fn update(&self, key: &str, change: &mut Change<'_>) -> Result<(), StoreError> {
        self.writes()?;
        self.inner.update(key, change)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.reads()?;
        self.inner.list(prefix)
    }
}
