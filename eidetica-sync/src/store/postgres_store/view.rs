//! What this server has read of the logs.
//!
//! A view is a store of one tree, filled with the entries of the log in their order; so it numbers them
//! alike, and everything that follows from the entries is worked out once more rather than read. It never
//! has more than was committed. When the database was restored from a backup, its log may have gone
//! another way: then the view's last entry is not the log's, and the view begins anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{Arrival, Changes, EntryId, SignedEntry, TreeId, VerifiedEntry};

#[cfg(feature = "redb")]
use super::cache::{Cache, FILE_FROM_BYTES, PAGE_BYTES};
use super::database::{Attempts, Database, Lease};
use super::fault::Fault;
use super::log::{self, Head};
#[cfg(feature = "redb")]
use crate::store::RedbStore;
use crate::store::{MemoryStore, Snapshot, Store, StoreError};

/// What an entry takes in memory besides its bytes: its node, its place, its number by id.
const ENTRY_OVERHEAD_BYTES: usize = 250;

/// What an empty view takes.
const VIEW_OVERHEAD_BYTES: usize = 2_000;

/// The views of a server, by tree.
pub(super) struct Views {
    kept: Mutex<Kept>,
    room: usize,
    #[cfg(feature = "redb")]
    cache: Option<Cache>,
}

#[derive(Default)]
struct Kept {
    views: HashMap<TreeId, Cell>,
    /// When each view was used last, as a count of uses.
    used: BTreeMap<u64, TreeId>,
    clock: u64,
    bytes: usize,
}

struct Cell {
    view: Arc<View>,
    used: u64,
    bytes: usize,
}

/// What is known of one tree.
pub(super) struct View {
    tree: TreeId,
    state: Mutex<State>,
}

struct State {
    /// The number of the tree in the database.
    pk: i64,
    store: Arc<dyn Store>,
    /// The same store, while it is in memory.
    memory: Option<Arc<MemoryStore>>,
    count: u32,
    last: Option<EntryId>,
    /// What it takes, in memory or in its file.
    bytes: usize,
    place: Place,
}

/// Where a view is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Memory,
    #[cfg(feature = "redb")]
    File {
        /// It was found, and not compared with the log yet.
        is_unknown: bool,
        /// Its size when room was last made for it.
        bytes: usize,
    },
}

impl State {
    fn empty(pk: i64) -> Self {
        let memory = Arc::new(MemoryStore::new());
        Self {
            pk,
            store: memory.clone(),
            memory: Some(memory),
            count: 0,
            last: None,
            bytes: VIEW_OVERHEAD_BYTES,
            place: Place::Memory,
        }
    }

    /// Returns the view of a file, if it can be used.
    #[cfg(feature = "redb")]
    fn of_file(pk: i64, tree: TreeId, store: RedbStore) -> Option<Self> {
        let snapshot = store.snapshot(tree).ok()?;
        let count = snapshot.entry_count();
        let last = count.checked_sub(1).map(|at| snapshot.node(Arrival(at)));
        let last = last.transpose().ok()?.map(|node| node.id);
        Some(Self {
            pk,
            store: Arc::new(store),
            memory: None,
            count,
            last,
            bytes: count as usize * ENTRY_OVERHEAD_BYTES * 2,
            place: Place::File {
                is_unknown: true,
                bytes: 0,
            },
        })
    }

    /// Returns what it takes in memory.
    fn memory_bytes(&self) -> usize {
        match self.place {
            Place::Memory => self.bytes,
            #[cfg(feature = "redb")]
            Place::File { .. } => VIEW_OVERHEAD_BYTES + PAGE_BYTES,
        }
    }

    /// Takes the next entries of the log.
    fn take(&mut self, tree: TreeId, entries: Vec<VerifiedEntry>) -> Result<(), StoreError> {
        let before = (self.count, self.last, self.bytes);
        self.note(entries.iter().map(VerifiedEntry::get));
        let outcome = self.store.append(tree, entries);
        if outcome
            .as_ref()
            .is_ok_and(|it| it.stored == (before.0..self.count))
        {
            return Ok(());
        }
        (self.count, self.last, self.bytes) = before;
        outcome?;
        let what = format!(
            "the log of tree {tree} is not one, from entry {}",
            self.count
        );
        Err(StoreError::damaged(what))
    }

    /// Counts entries that come next.
    fn note<'a>(&mut self, entries: impl Iterator<Item = &'a SignedEntry>) {
        for entry in entries {
            self.count += 1;
            self.last = Some(entry.id());
            self.bytes += entry.encoded().len() + ENTRY_OVERHEAD_BYTES;
        }
    }

    /// Notes that it is a part of the log.
    fn compared(&mut self) {
        #[cfg(feature = "redb")]
        if let Place::File { is_unknown, .. } = &mut self.place {
            *is_unknown = false;
        }
    }

    /// Tells whether this is a part of the log that ends in `head`, as far as can be seen from here.
    /// Before the head was asked for, this had `before` entries.
    fn leads_to(&self, tree: TreeId, head: &Head, before: u32) -> Result<bool, StoreError> {
        if self.pk != head.pk || head.next < before {
            return Ok(false);
        }
        #[cfg(feature = "redb")]
        if matches!(
            self.place,
            Place::File {
                is_unknown: true,
                ..
            }
        ) && head.next < self.count
        {
            return Ok(false);
        }
        if self.count < head.next {
            return Ok(true);
        }
        // Another thread may have brought it beyond this head.
        let Some(at) = head.next.checked_sub(1) else {
            return Ok(true);
        };
        let node = self.store.snapshot(tree)?.node(Arrival(at))?;
        Ok(Some(node.id) == head.last)
    }
}

impl View {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is missing up to a head. `before` is what [`Views::count_of`] returned before the head
    /// was asked for. Blocks.
    pub(super) fn advance(
        &self,
        database: &Database,
        lease: &Lease,
        head: &Head,
        before: u32,
    ) -> Result<(), Fault> {
        let mut state = self.lock();
        if !state.leads_to(self.tree, head, before)? {
            *state = State::empty(head.pk);
        }
        if state.count >= head.next {
            state.compared();
            return Ok(());
        }
        let read = self.read(&mut state, database, lease, head);
        if matches!(read, Err(Fault::Store(_))) {
            *state = State::empty(head.pk);
        }
        read
    }

    fn read(
        &self,
        state: &mut State,
        database: &Database,
        lease: &Lease,
        head: &Head,
    ) -> Result<(), Fault> {
        // The last entry that is here is read once more, to see that it is still the same.
        let known = state.last;
        let from = state.count.saturating_sub(1);
        let mut is_first = known.is_some();
        let mut has_diverged = false;
        log::read(database, lease, head, from, |mut part| {
            if std::mem::take(&mut is_first) {
                let again = part.remove(0).get().id();
                if Some(again) != known {
                    has_diverged = true;
                    *state = State::empty(head.pk);
                }
            }
            match has_diverged {
                true => Ok(()),
                false => state.take(self.tree, part),
            }
        })?;
        if has_diverged {
            log::read(database, lease, head, 0, |part| state.take(self.tree, part))?;
        }
        match (state.count, state.last) == (head.next, head.last) {
            true => {
                state.compared();
                Ok(())
            }
            false => {
                let what = format!("the log of tree {} does not end in its head", self.tree);
                Err(StoreError::damaged(what).into())
            }
        }
    }

    /// Takes changes that were admitted on the view at a head, and committed.
    pub(super) fn committed(&self, head: &Head, changes: Changes) -> Result<(), StoreError> {
        let mut state = self.lock();
        // Another thread may have read them already.
        if (state.pk, state.count, state.last) != (head.pk, head.next, head.last) {
            return Ok(());
        }
        match &state.memory {
            Some(memory) => {
                let memory = memory.clone();
                state.note(changes.entries.iter().map(|(_, entry)| entry));
                memory.apply(self.tree, changes);
                Ok(())
            }
            None => {
                let entries = changes.entries.into_iter().map(|(_, entry)| entry);
                let entries = entries.map(VerifiedEntry::stored).collect();
                state.take(self.tree, entries)
            }
        }
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.lock().store.snapshot(self.tree)
    }
}

impl Views {
    pub(super) fn with_room_for(bytes: usize) -> Self {
        Self {
            kept: Mutex::default(),
            room: bytes,
            #[cfg(feature = "redb")]
            cache: None,
        }
    }

    /// Has large views be files.
    #[cfg(feature = "redb")]
    pub(super) fn with_cache(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
    }

    /// Begins a view: with what is in its file, if there is one.
    fn begin(&self, tree: TreeId, pk: i64) -> State {
        #[cfg(feature = "redb")]
        if let Some(cache) = &self.cache
            && let Some(store) = cache.find(tree)
        {
            match State::of_file(pk, tree, store) {
                Some(state) => return state,
                None => cache.remove(tree),
            }
        }
        #[cfg(not(feature = "redb"))]
        let _ = tree;
        State::empty(pk)
    }

    /// Moves a view that has become large into a file, and makes room for a file that has grown.
    #[cfg(feature = "redb")]
    fn settle(&self, view: &View) {
        let Some(cache) = &self.cache else { return };
        let mut state = view.lock();
        let large = state.bytes;
        match &mut state.place {
            Place::File { bytes, .. } if large > *bytes + FILE_FROM_BYTES => {
                *bytes = large;
                drop(state);
                cache.make_room();
            }
            Place::Memory if large > FILE_FROM_BYTES => {
                match cache.create(view.tree, &*state.store) {
                    Ok(store) => {
                        state.store = Arc::new(store);
                        state.memory = None;
                        state.place = Place::File {
                            is_unknown: false,
                            bytes: large,
                        };
                    }
                    Err(error) => {
                        cache.remove(view.tree);
                        tracing::warn!(%error, "keeps a large view in memory");
                    }
                }
            }
            Place::Memory | Place::File { .. } => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().views.len()
    }

    /// Returns the view of a tree, which may be empty.
    pub(super) fn of(&self, tree: TreeId, pk: i64) -> Arc<View> {
        let mut kept = self.lock();
        let kept = &mut *kept;
        kept.clock += 1;
        let used = kept.clock;
        let cell = kept.views.entry(tree).or_insert_with(|| Cell {
            view: Arc::new(View {
                tree,
                state: Mutex::new(self.begin(tree, pk)),
            }),
            used,
            bytes: 0,
        });
        kept.used.remove(&cell.used);
        kept.used.insert(used, tree);
        cell.used = used;
        cell.view.clone()
    }

    /// Notes how large a view has become, and forgets those that were not used for longest until there is
    /// room. Snapshots of them stay what they are.
    pub(super) fn note_size(&self, view: &View) {
        #[cfg(feature = "redb")]
        self.settle(view);
        let bytes = view.lock().memory_bytes();
        let mut kept = self.lock();
        let kept = &mut *kept;
        if let Some(cell) = kept.views.get_mut(&view.tree) {
            kept.bytes = kept.bytes - cell.bytes + bytes;
            cell.bytes = bytes;
        }
        while kept.bytes > self.room && kept.views.len() > 1 {
            let Some((_, tree)) = kept.used.pop_first() else {
                break;
            };
            if let Some(cell) = kept.views.remove(&tree) {
                kept.bytes -= cell.bytes;
            }
        }
    }

    /// Returns how many entries the view of a tree has. To be asked for before the tree's head: a log that
    /// is shorter then was cut.
    pub(super) fn count_of(&self, tree: TreeId) -> u32 {
        let view = self.lock().views.get(&tree).map(|cell| cell.view.clone());
        view.map_or(0, |view| view.lock().count)
    }

    /// Returns a tree as it is at a head, or later. Blocks.
    pub(super) fn snapshot(
        &self,
        database: &Database,
        tree: TreeId,
        head: &Head,
        before: u32,
    ) -> Result<Snapshot, StoreError> {
        let view = self.of(tree, head.pk);
        let is_current = {
            let state = view.lock();
            state.count >= head.next && state.leads_to(tree, head, before)?
        };
        if !is_current {
            let mut attempts = Attempts::begin();
            loop {
                let read = database.lease().and_then(|lease| {
                    view.advance(database, &lease, head, before)?;
                    lease.give_back();
                    Ok(())
                });
                match read {
                    Ok(()) => break,
                    Err(fault) => attempts.next(database, fault)?,
                }
            }
            self.note_size(&view);
        }
        view.snapshot()
    }
}
