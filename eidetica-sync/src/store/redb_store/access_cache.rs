//! Access states and ledgers in memory, so that few are read from the file.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AccessId, AccessState, Changes, KeptState, Ledger};

/// How many access states are kept, over all trees. They share memory with each other, and take a
/// few hundred bytes to a few kilobytes each where they do not.
const STATES_CACHED_MAX: usize = 1_024;

/// How many changes of access the ledgers that are kept may have, over all trees, at about 500 bytes
/// each; the ledger used last is kept in any case. Everything that concerns a tree asks for its ledger.
const LEDGER_CHANGES_CACHED_MAX: usize = 50_000;

/// The least that a ledger counts for: an empty one takes memory as well.
const LEDGER_WEIGHT_MIN: usize = 16;

/// How many of the states used last are compared with one that is read: their admins are probably
/// the same, and need not be worked out again.
const STATES_COMPARED_MAX: usize = 4;

/// Keeps what was used last, for all snapshots of a store. Stored states never change.
pub(super) struct AccessCache(Mutex<Cached>);

struct Cached {
    /// By tree and number.
    states: Lru<(u32, AccessId), KeptState>,
    /// By tree and number of entries: snapshots of different moments see different ledgers.
    ledgers: Lru<(u32, u32), Arc<Ledger>>,
    /// By tree: the states used last.
    recent: Lru<u32, Vec<AccessState>>,
}

impl Default for AccessCache {
    fn default() -> Self {
        Self(Mutex::new(Cached {
            states: Lru::with_room_for(STATES_CACHED_MAX),
            ledgers: Lru::with_room_for(LEDGER_CHANGES_CACHED_MAX),
            recent: Lru::with_room_for(LEDGER_CHANGES_CACHED_MAX),
        }))
    }
}

impl AccessCache {
    pub(super) fn state(&self, tree: u32, id: AccessId) -> Option<KeptState> {
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
        cached.states.put((tree, id), state.keep(), 1);
        cached.use_state(tree, state);
    }

    pub(super) fn put_ledger(&self, tree: u32, ledger: &Arc<Ledger>) {
        let mut cached = self.lock();
        let weight = LEDGER_WEIGHT_MIN.max(ledger.len() as usize);
        cached
            .ledgers
            .put((tree, ledger.len()), ledger.clone(), weight);
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
        let changes = recent.iter().map(|state| state.ledger().len() as usize);
        let weight = LEDGER_WEIGHT_MIN.max(changes.sum());
        self.recent.put(tree, recent, weight);
    }
}

/// A map that forgets what was not used for longest.
struct Lru<K, V> {
    values: HashMap<K, Cell<V>>,
    /// When each was used last, as a count of uses.
    used: BTreeMap<u64, K>,
    clock: u64,
    room: usize,
    /// What all values weigh together.
    weight: usize,
}

struct Cell<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    fn with_room_for(room: usize) -> Self {
        Self {
            values: HashMap::new(),
            used: BTreeMap::new(),
            clock: 0,
            room,
            weight: 0,
        }
    }

    fn get(&mut self, key: &K) -> Option<&V> {
        let cell = self.values.get_mut(key)?;
        self.clock += 1;
        self.used.remove(&cell.used);
        self.used.insert(self.clock, *key);
        cell.used = self.clock;
        Some(&cell.value)
    }

    /// Puts a value in, and forgets others until there is room, but never this one.
    fn put(&mut self, key: K, value: V, weight: usize) {
        self.clock += 1;
        let used = self.clock;
        let cell = Cell {
            value,
            weight,
            used,
        };
        if let Some(before) = self.values.insert(key, cell) {
            self.used.remove(&before.used);
            self.weight -= before.weight;
        }
        self.used.insert(used, key);
        self.weight += weight;
        while self.weight > self.room && self.values.len() > 1 {
            let Some((_, oldest)) = self.used.pop_first() else {
                break;
            };
            if let Some(forgotten) = self.values.remove(&oldest) {
                self.weight -= forgotten.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Lru;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let mut lru = Lru::with_room_for(20);
        lru.put(1, "one", 10);
        lru.put(2, "two", 10);
        assert_eq!(lru.get(&1), Some(&"one"));
        lru.put(3, "three", 10);
        assert_eq!(lru.get(&2), None);
        lru.put(1, "uno", 5);
        lru.put(4, "four", 10);
        assert_eq!(lru.get(&3), None);
        assert_eq!(lru.get(&1), Some(&"uno"));
        assert_eq!((lru.values.len(), lru.used.len(), lru.weight), (2, 2, 15));
        lru.put(5, "heavy", 100);
        assert_eq!((lru.values.len(), lru.used.len(), lru.weight), (1, 1, 100));
        assert_eq!(lru.get(&5), Some(&"heavy"));
    }
}
