//! Which watches a tree's news concern.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::TreeId;
use tokio::sync::Notify;

/// For how many trees of a watch the index is changed under one lock. A write waits for that long.
const TREES_UNDER_LOCK_MAX: usize = 256;

/// Marks trees for the watches that have them: a write costs the watches of its tree and no others.
#[derive(Default)]
pub(crate) struct Watchers(Arc<Mutex<Registered>>);

#[derive(Default)]
struct Registered {
    next: u64,
    /// By tree and watch: the watch, and the index of the tree in it.
    by_tree: BTreeMap<(TreeId, u64), (Arc<Marks>, u32)>,
}

/// The marked trees of one watch.
#[derive(Default)]
struct Marks {
    marked: Mutex<Marked>,
    changed: Notify,
}

#[derive(Default)]
struct Marked {
    /// One bit for each tree.
    bits: Vec<u64>,
    /// Indexes whose bit is set, longest waiting first.
    list: Vec<u32>,
}

/// Tells one watch which of its trees have news. Registered until it is dropped.
pub(crate) struct WatchNews {
    registered: Arc<Mutex<Registered>>,
    watch: u64,
    trees: Arc<[TreeId]>,
    marks: Arc<Marks>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    pub(super) fn register(&self, trees: Arc<[TreeId]>) -> WatchNews {
        let marks = Arc::new(Marks {
            marked: Mutex::new(Marked {
                bits: vec![0; trees.len().div_ceil(64)],
                list: Vec::new(),
            }),
            changed: Notify::new(),
        });
        let mut registered = lock(&self.0);
        let watch = registered.next;
        registered.next += 1;
        drop(registered);
        let mut index = 0;
        for part in trees.chunks(TREES_UNDER_LOCK_MAX) {
            let mut registered = lock(&self.0);
            for tree in part {
                let entry = (marks.clone(), index);
                registered.by_tree.insert((*tree, watch), entry);
                index += 1;
            }
        }
        WatchNews {
            registered: self.0.clone(),
            watch,
            trees,
            marks,
        }
    }

    pub(super) fn mark(&self, tree: TreeId) {
        let registered = lock(&self.0);
        for (marks, index) in registered
            .by_tree
            .range((tree, 0)..=(tree, u64::MAX))
            .map(|(_, it)| it)
        {
            marks.mark(*index);
        }
    }
}

impl Marks {
    fn mark(&self, index: u32) {
        let mut marked = lock(&self.marked);
        let (word, bit) = (index as usize / 64, 1_u64 << (index % 64));
        if marked.bits[word] & bit == 0 {
            marked.bits[word] |= bit;
            marked.list.push(index);
            drop(marked);
            self.changed.notify_one();
        }
    }
}

impl WatchNews {
    /// Waits until there may be marked trees. Only one caller can wait.
    pub(crate) async fn changed(&self) {
        self.marks.changed.notified().await;
    }

    /// Takes the trees that were marked since the last call, each once.
    pub(crate) fn take_changed(&self) -> Vec<TreeId> {
        let mut marked = lock(&self.marks.marked);
        let list = mem::take(&mut marked.list);
        for index in &list {
            marked.bits[*index as usize / 64] &= !(1 << (index % 64));
        }
        drop(marked);
        let tree = |index: u32| self.trees[index as usize];
        list.into_iter().map(tree).collect()
    }
}

impl Drop for WatchNews {
    fn drop(&mut self) {
        for part in self.trees.chunks(TREES_UNDER_LOCK_MAX) {
            let mut registered = lock(&self.registered);
            for tree in part {
                registered.by_tree.remove(&(*tree, self.watch));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use eidetica_dag::EntryId;
    use futures::FutureExt;

    use super::*;

    fn tree(n: u8) -> TreeId {
        TreeId::from_root(EntryId::from_bytes([n; 32]))
    }

    #[tokio::test]
    async fn a_write_marks_its_tree_once_for_each_watch_of_it() {
        let watchers = Watchers::default();
        let a = watchers.register(Arc::from([tree(1), tree(2)]));
        let b = watchers.register(Arc::from([tree(2)]));
        watchers.mark(tree(1));
        watchers.mark(tree(1));
        watchers.mark(tree(3));
        a.changed().await;
        assert_eq!(a.take_changed(), [tree(1)]);
        assert!(b.changed().now_or_never().is_none(), "no news for it");
        watchers.mark(tree(2));
        watchers.mark(tree(1));
        b.changed().await;
        assert_eq!(b.take_changed(), [tree(2)]);
        assert_eq!(a.take_changed(), [tree(2), tree(1)]);
        assert!(a.take_changed().is_empty());
    }

    #[test]
    fn a_dropped_watch_leaves_nothing_behind() {
        let watchers = Watchers::default();
        let trees: Arc<[TreeId]> = (0..200).map(tree).collect();
        let watch = watchers.register(trees);
        let mut expected = Vec::new();
        for n in [199, 64, 63, 0] {
            watchers.mark(tree(n));
            expected.push(tree(n));
        }
        assert_eq!(watch.take_changed(), expected);
        drop(watch);
        assert!(lock(&watchers.0).by_tree.is_empty());
    }
}
