//! Trees in memory: the reference.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use bytes::Bytes;
use eidetica_dag::{
    AccessId, AccessKey, AccessState, AppendOutcome, Arrival, DagView, EncodedEntry, EntryId,
    EntryView, Ledger, MemoryDag, Node, Prefix, SignedEntry, TreeId, VerifiedEntry,
};
use eidetica_proto::LogId;

#[cfg(feature = "postgres")]
use eidetica_dag::Changes;

use super::{Change, Snapshot, Store, StoreError, check_meta, draw_log_id};

/// Keeps trees for as long as the process lives.
#[derive(Debug)]
pub struct MemoryStore {
    log: LogId,
    trees: RwLock<BTreeMap<TreeId, Arc<RwLock<MemoryDag>>>>,
    meta: RwLock<BTreeMap<String, Vec<u8>>>,
}

/// How many entries are shown to a visitor at most before the lock is given back.
const VISITED_UNDER_LOCK_MAX: u32 = 64;

/// Nothing that runs under a lock of this file panics, unless a rule of `MemoryDag` is broken.
const UNPOISONED: &str = "no thread panics while holding the lock";

impl MemoryStore {
    /// Makes a store without trees.
    pub fn new() -> Self {
        Self {
            log: draw_log_id(),
            trees: RwLock::default(),
            meta: RwLock::default(),
        }
    }

    /// Carries out changes that were admitted on a snapshot of this moment of a tree.
    #[cfg(feature = "postgres")]
    pub(super) fn apply(&self, tree: TreeId, changes: Changes) {
        let mut trees = self.trees.write().expect(UNPOISONED);
        let dag = trees.entry(tree);
        let dag = dag.or_insert_with(|| Arc::new(RwLock::new(MemoryDag::new(tree))));
        dag.write().expect(UNPOISONED).apply(changes);
    }

    fn dag(&self, tree: TreeId) -> Option<Arc<RwLock<MemoryDag>>> {
        self.trees.read().expect(UNPOISONED).get(&tree).cloned()
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        Ok(self
            .trees
            .read()
            .expect(UNPOISONED)
            .keys()
            .copied()
            .collect())
    }

    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError> {
        let dag = self
            .dag(tree)
            .unwrap_or_else(|| Arc::new(RwLock::new(MemoryDag::new(tree))));
        let prefix = dag.read().expect(UNPOISONED).prefix();
        Ok(Arc::new(MemorySnapshot { dag, prefix }))
    }

    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError> {
        if let Some(dag) = self.dag(tree) {
            return Ok(dag.write().expect(UNPOISONED).append(batch));
        }
        // A tree comes into being with its root, so that batches of strangers leave nothing behind.
        let mut trees = self.trees.write().expect(UNPOISONED);
        if let Some(dag) = trees.get(&tree) {
            return Ok(dag.write().expect(UNPOISONED).append(batch));
        }
        let mut dag = MemoryDag::new(tree);
        let outcome = dag.append(batch);
        if dag.entry_count() > 0 {
            trees.insert(tree, Arc::new(RwLock::new(dag)));
        }
        Ok(outcome)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.meta.read().expect(UNPOISONED).get(key).cloned())
    }

    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        check_meta(key, value)?;
        let mut meta = self.meta.write().expect(UNPOISONED);
        match value {
            Some(value) => meta.insert(key.to_owned(), value.to_owned()),
            None => meta.remove(key),
        };
        Ok(())
    }

    fn update(&self, key: &str, change: &mut Change<'_>) -> Result<(), StoreError> {
        let mut meta = self.meta.write().expect(UNPOISONED);
        let next = change(meta.get(key).map(Vec::as_slice));
        check_meta(key, next.as_deref())?;
        match next {
            Some(next) => meta.insert(key.to_owned(), next),
            None => meta.remove(key),
        };
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let meta = self.meta.read().expect(UNPOISONED);
        Ok(meta
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

/// A tree that grows, seen as it was when it had a certain number of entries.
struct MemorySnapshot {
    dag: Arc<RwLock<MemoryDag>>,
    prefix: Prefix,
}

/// Takes the answer of a view that cannot fail.
fn sure<T>(answer: Result<T, Infallible>) -> Result<T, StoreError> {
    let Ok(answer) = answer;
    Ok(answer)
}

impl MemorySnapshot {
    fn dag(&self) -> RwLockReadGuard<'_, MemoryDag> {
        self.dag.read().expect(UNPOISONED)
    }

    /// Checks that a number is one of this view's, which the growing tree cannot tell.
    fn check(&self, at: Arrival) {
        assert!(at.0 < self.prefix.entry_count, "{at:?} is not in the view");
    }
}

impl DagView for MemorySnapshot {
    type Error = StoreError;

    fn entry_count(&self) -> u32 {
        self.prefix.entry_count
    }

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, StoreError> {
        let tips = self.prefix.tips.iter_from(from.0);
        Ok(tips.take(limit).map(Arrival).collect())
    }

    fn tip_count(&self) -> u32 {
        self.prefix.tips.len() as u32
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, StoreError> {
        Ok(self.prefix.tips.contains(at.0))
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, StoreError> {
        let at = sure(self.dag().arrival(id))?;
        Ok(at.filter(|at| at.0 < self.prefix.entry_count))
    }

    fn node(&self, at: Arrival) -> Result<Node, StoreError> {
        self.check(at);
        sure(self.dag().node(at))
    }

    fn visit_heights(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(Arrival, u32),
    ) -> Result<(), StoreError> {
        sure(self.dag().visit_heights(numbers, visit))
    }

    fn last_checkpoint(&self, stored: u32) -> Result<Option<u32>, StoreError> {
        sure(
            self.dag()
                .last_checkpoint(stored.min(self.prefix.entry_count)),
        )
    }

    fn checkpoint(&self, stored: u32) -> Result<Vec<Arrival>, StoreError> {
        assert!(
            stored <= self.prefix.entry_count,
            "the checkpoint at {stored} entries is not in the view"
        );
        sure(self.dag().checkpoint(stored))
    }

    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, StoreError> {
        let dag = self.dag();
        let mut ids = sure(dag.landmarks(height, limit))?;
        // They are in the order of arrival, so those of the view come first.
        ids.retain(|id| {
            let Ok(at) = dag.arrival(id);
            at.is_some_and(|at| at.0 < self.prefix.entry_count)
        });
        Ok(ids)
    }

    fn access_count(&self) -> u32 {
        self.prefix.access_count
    }

    fn access(&self, id: AccessId) -> Result<AccessState, StoreError> {
        sure(self.dag().access(id))
    }

    fn find_access(&self, key: &AccessKey) -> Result<Option<AccessId>, StoreError> {
        let found = sure(self.dag().find_access(key))?;
        Ok(found.filter(|id| id.0 < self.prefix.access_count))
    }

    fn ledger(&self) -> Result<Arc<Ledger>, StoreError> {
        Ok(self.prefix.ledger.clone())
    }
}

impl EntryView for MemorySnapshot {
    fn entry(&self, at: Arrival) -> Result<SignedEntry, StoreError> {
        self.check(at);
        sure(self.dag().entry(at))
    }

    fn encoded(&self, at: Arrival) -> Result<Bytes, StoreError> {
        self.check(at);
        sure(self.dag().encoded(at))
    }

    fn visit_encoded(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(EntryId, EncodedEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        if let Some(last) = numbers.end.checked_sub(1) {
            self.check(Arrival(last));
        }
        let mut rest = numbers;
        let mut visited = ControlFlow::Continue(());
        while !rest.is_empty() && visited.is_continue() {
            // The lock is given back now and then, so that appending waits for no reader.
            let part = rest.start..rest.end.min(rest.start + VISITED_UNDER_LOCK_MAX);
            rest.start = part.end;
            sure(self.dag().visit_encoded(part, &mut |id, entry| {
                visited = visit(id, entry);
                visited
            }))?;
        }
        Ok(())
    }
}
