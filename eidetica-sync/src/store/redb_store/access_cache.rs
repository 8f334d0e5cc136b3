//! Access states and ledgers in memory, so that few are read from the file.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AccessId, AccessState, Changes, Ledger};

/// How many access states are kept, over all trees. They share memory with each other, and take a
/// few hundred bytes each where they do not.
const STATES_CACHED_MAX: usize = 1_024;

/// How many ledgers are kept, over all trees. One takes about 500 bytes for each change of access in
/// its tree, and it is asked for by everything that concerns the tree.
const LEDGERS_CACHED_MAX: usize = 64;

/// How many of the states used last are compared with one that is read: their admins are probably
/// the same, and need not be worked out again.
const STATES_COMPARED_MAX: usize = 4;

/// Keeps what was used last, for all snapshots of a store. What is stored never changes.
pub(super) struct AccessCache(Mutex<Cached>);

struct Cached {
    /// By tree and number.
    states: Lru<(u32, AccessId), AccessState>,
    /// By tree and number of entries: snapshots of different moments see different ledgers.
    ledgers: Lru<(u32, u32), Arc<Ledger>>,
    /// By tree: the states used last.
    recent: Lru<u32, Vec<AccessState>>,
}

impl Default for AccessCache {
    fn default() -> Self {
        Self(Mutex::new(Cached {
            states: Lru::with_room_for(STATES_CACHED_MAX),
            ledgers: Lru::with_room_for(LEDGERS_CACHED_MAX),
            recent: Lru::with_room_for(LEDGERS_CACHED_MAX),
        }))
    }
}

impl AccessCache {
    pub(super) fn state(&self, tree: u32, id: AccessId) -> Option<AccessState> {
        self.lock().states.get(&(tree, id)).cloned()
    }

    pub(super) fn ledger(&self, tree: u32, count: u32) -> Option<Arc<Ledger>> {
        self.lock().ledgers.get(&(tree, count)).cloned()
    }

    pub(super) fn recent(&self, tree: u32) -> Vec<AccessState> {
        self.lock().recent.get(&tree).cloned().unwrap_or_default()
    }

    pub(super) fn put_state(&self, tree: u32, id: AccessId, state: &AccessState) {
        let mut cached = self.lock();
        cached.states.put((tree, id), state.clone());
        cached.use_state(tree, state);
    }

    pub(super) fn put_ledger(&self, tree: u32, ledger: &Arc<Ledger>) {
        let mut cached = self.lock();
        cached.ledgers.put((tree, ledger.len()), ledger.clone());
        cached.use_state(tree, &ledger.current());
    }

    /// Keeps what an append has written.
    pub(super) fn put(&self, tree: u32, first_state: u32, changes: &Changes) {
        if changes.access.is_empty() {
            return;
        }
        self.put_ledger(tree, &changes.ledger);
        for (id, (_, state)) in (first_state..).zip(&changes.access) {
            self.put_state(tree, AccessId(id), state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cached {
    fn use_state(&mut self, tree: u32, state: &AccessState) {
        let mut recent = self.recent.get(&tree).cloned().unwrap_or_default();
        recent.retain(|other| !other.has_same_admins(state));
        recent.truncate(STATES_COMPARED_MAX - 1);
        recent.insert(0, state.clone());
        self.recent.put(tree, recent);
    }
}

/// A map that forgets what was not used for longest.
struct Lru<K, V> {
    values: HashMap<K, (V, u64)>,
    /// When each was used last, as a count of uses.
    used: BTreeMap<u64, K>,
    clock: u64,
    room: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    fn with_room_for(room: usize) -> Self {
        Self {
            values: HashMap::new(),
            used: BTreeMap::new(),
            clock: 0,
            room,
        }
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        let (value, used) = self.values.get_mut(key)?;
        self.clock += 1;
        self.used.remove(used);
        self.used.insert(self.clock, *key);
        *used = self.clock;
        Some(value)
    }

    fn put(&mut self, key: K, value: V) {
        self.clock += 1;
        if let Some((_, used)) = self.values.insert(key, (value, self.clock)) {
            self.used.remove(&used);
        }
        self.used.insert(self.clock, key);
        if self.values.len() > self.room
            && let Some((_, oldest)) = self.used.pop_first()
        {
            self.values.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut lru = Lru::with_room_for(2);
        lru.put(1, "one");
        lru.put(2, "two");
        assert_eq!(lru.get(&1), Some(&"one"));
        lru.put(3, "three");
        assert_eq!(lru.get(&2), None);
        lru.put(1, "uno");
        lru.put(4, "four");
        assert_eq!(lru.get(&3), None);
        assert_eq!(lru.get(&1), Some(&"uno"));
        assert_eq!((lru.values.len(), lru.used.len()), (2, 2));
    }
}
