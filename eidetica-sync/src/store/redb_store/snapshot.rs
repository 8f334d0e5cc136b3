//! One tree as one read transaction shows it.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use eidetica_dag::{
    AccessId, AccessState, Arrival, DagView, EncodedEntry, EntryId, EntryView, Node, SignedEntry,
    TreeId,
};
use redb::{AccessGuard, ReadOnlyTable};

use super::disk::Disk;
use super::index::{find_in_run, find_settled, run_len};
use super::layout::{
    ACCESS, CHECKPOINTS, HEADS, Head, LANDMARKS, LOG, NO_TREE, RECENT, Record, SETTLED, TREES, key,
    keys_of, landmark_key, read_arrivals,
};
use crate::store::StoreError;

/// How many decoded access states are kept, over all trees. They change rarely, and every entry
/// that is appended asks for one.
const ACCESS_STATES_CACHED_MAX: usize = 256;

/// Access states by tree and number. A stored one never changes.
#[derive(Default)]
pub(super) struct AccessCache(Mutex<HashMap<(u32, AccessId), Arc<AccessState>>>);

impl AccessCache {
    fn get(&self, tree: u32, id: AccessId) -> Option<Arc<AccessState>> {
        let states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        states.get(&(tree, id)).cloned()
    }

    fn put(&self, tree: u32, id: AccessId, state: Arc<AccessState>) {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Full means that somebody asked for hundreds at once, which is rare: begin anew.
        if states.len() >= ACCESS_STATES_CACHED_MAX {
            states.clear();
        }
        states.insert((tree, id), state);
    }
}

/// One tree at one moment. The tables keep the read transaction alive.
pub(super) struct RedbSnapshot {
    disk: Arc<Disk>,
    access_cache: Arc<AccessCache>,
    /// The tree's number, or [`NO_TREE`], under which nothing is found.
    number: u32,
    head: Head,
    log: ReadOnlyTable<u64, &'static [u8]>,
    settled: ReadOnlyTable<&'static [u8; 16], ()>,
    landmarks: ReadOnlyTable<&'static [u8; 12], &'static [u8; 32]>,
    checkpoints: ReadOnlyTable<u64, &'static [u8]>,
    access: ReadOnlyTable<u64, &'static [u8]>,
    /// The recent part of the index, latest run last.
    runs: Vec<AccessGuard<'static, &'static [u8]>>,
    /// Keeps the pages of `runs`.
    _recent: ReadOnlyTable<u64, &'static [u8]>,
}

impl RedbSnapshot {
    pub(super) fn take(
        disk: &Arc<Disk>,
        access_cache: &Arc<AccessCache>,
        tree: TreeId,
    ) -> Result<Self, StoreError> {
        let fault = |error: redb::StorageError| disk.fault(error);
        let table_fault = |error: redb::TableError| disk.fault(error);
        let tx = disk.read()?;
        let trees = tx.open_table(TREES).map_err(table_fault)?;
        let number = trees.get(tree.as_bytes()).map_err(fault)?;
        let number = number.map_or(NO_TREE, |number| number.value());
        let head = if number == NO_TREE {
            Head::default()
        } else {
            let heads = tx.open_table(HEADS).map_err(table_fault)?;
            let head = heads.get(number).map_err(fault)?;
            head.and_then(|head| Head::parse(head.value()))
                .ok_or_else(|| StoreError::damaged(format!("tree {tree} has no sound head")))?
        };
        let recent = tx.open_table(RECENT).map_err(table_fault)?;
        let mut runs = Vec::new();
        let mut recent_count = 0;
        for row in recent.range(keys_of(number)).map_err(fault)? {
            let run = row.map_err(fault)?.1;
            recent_count += run_len(run.value())
                .ok_or_else(|| StoreError::damaged(format!("the index of tree {tree}")))?;
            runs.push(run);
        }
        if recent_count != (head.entry_count - head.settled_count) as usize {
            let what = format!("the index of tree {tree} has not as many ids as entries");
            return Err(StoreError::damaged(what));
        }
        Ok(Self {
            disk: disk.clone(),
            access_cache: access_cache.clone(),
            number,
            head,
            log: tx.open_table(LOG).map_err(table_fault)?,
            settled: tx.open_table(SETTLED).map_err(table_fault)?,
            landmarks: tx.open_table(LANDMARKS).map_err(table_fault)?,
            checkpoints: tx.open_table(CHECKPOINTS).map_err(table_fault)?,
            access: tx.open_table(ACCESS).map_err(table_fault)?,
            runs,
            _recent: recent,
        })
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    /// Reads the record with this number and makes something of it.
    fn record<T>(
        &self,
        at: Arrival,
        make: impl FnOnce(Record<'_>) -> Option<T>,
    ) -> Result<T, StoreError> {
        let bytes = self.read(&self.log, at.0)?;
        bytes
            .and_then(|bytes| Record::parse(bytes.value()).and_then(make))
            .ok_or_else(|| StoreError::damaged(format!("entry {} of a tree", at.0)))
    }

    fn read(
        &self,
        table: &ReadOnlyTable<u64, &'static [u8]>,
        number: u32,
    ) -> Result<Option<AccessGuard<'static, &'static [u8]>>, StoreError> {
        let found = table.get(key(self.number, number));
        found.map_err(|error| self.disk.fault(error))
    }

    /// Tells whether the entry with this number, which the prefix led to, is the one looked for.
    fn is(&self, at: Arrival, id: &EntryId) -> Result<bool, StoreError> {
        self.record(at, |record| Some(record.id == *id))
    }
}

impl DagView for RedbSnapshot {
    type Error = StoreError;

    fn entry_count(&self) -> u32 {
        self.head.entry_count
    }

    fn tips(&self) -> Result<Vec<Arrival>, StoreError> {
        Ok(self.head.tips.clone())
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, StoreError> {
        // What is asked for is mostly recent.
        for run in self.runs.iter().rev() {
            for at in find_in_run(run.value(), id.prefix()) {
                if self.is(at, id)? {
                    return Ok(Some(at));
                }
            }
        }
        if self.head.settled_count == 0 {
            return Ok(None);
        }
        let found = find_settled(&self.settled, self.number, id.prefix());
        for at in found.map_err(|error| self.disk.fault(error))? {
            let at = at.map_err(|error| self.disk.fault(error))?;
            if self.is(at, id)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn node(&self, at: Arrival) -> Result<Node, StoreError> {
        self.record(at, |record| record.node(at))
    }

    fn checkpoint(&self, index: u32) -> Result<Vec<Arrival>, StoreError> {
        self.read(&self.checkpoints, index)?
            .and_then(|tips| read_arrivals(tips.value(), self.head.entry_count))
            .ok_or_else(|| StoreError::damaged(format!("checkpoint {index} of a tree")))
    }

    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, StoreError> {
        let first = landmark_key(self.number, height, 0);
        let last = landmark_key(self.number, height, u32::MAX);
        let rows = self.landmarks.range::<&[u8; 12]>(&first..=&last);
        rows.map_err(|error| self.disk.fault(error))?
            .take(limit)
            .map(|row| {
                let (_, id) = row.map_err(|error| self.disk.fault(error))?;
                Ok(EntryId::from_bytes(*id.value()))
            })
            .collect()
    }

    fn access_count(&self) -> u32 {
        self.head.access_count
    }

    fn access(&self, id: AccessId) -> Result<Arc<AccessState>, StoreError> {
        if let Some(state) = self.access_cache.get(self.number, id) {
            return Ok(state);
        }
        let state = self
            .read(&self.access, id.0)?
            .and_then(|bytes| postcard::from_bytes(bytes.value()).ok())
            .map(Arc::<AccessState>::new)
            .ok_or_else(|| StoreError::damaged(format!("access state {} of a tree", id.0)))?;
        self.access_cache.put(self.number, id, state.clone());
        Ok(state)
    }
}

impl EntryView for RedbSnapshot {
    fn entry(&self, at: Arrival) -> Result<SignedEntry, StoreError> {
        self.record(at, |record| {
            let encoded = Bytes::copy_from_slice(record.encoded);
            SignedEntry::decode_stored(record.id, encoded).ok()
        })
    }

    fn encoded(&self, at: Arrival) -> Result<Bytes, StoreError> {
        self.record(at, |record| Some(Bytes::copy_from_slice(record.encoded)))
    }

    fn visit_encoded(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(EntryId, EncodedEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let keys = key(self.number, numbers.start)..key(self.number, numbers.end);
        let mut rows = self
            .log
            .range(keys)
            .map_err(|error| self.disk.fault(error))?;
        for at in numbers {
            let damaged = || StoreError::damaged(format!("entry {at} of a tree"));
            let row = rows.next().ok_or_else(damaged)?;
            let (row_key, bytes) = row.map_err(|error| self.disk.fault(error))?;
            if row_key.value() != key(self.number, at) {
                return Err(damaged());
            }
            let record = Record::parse(bytes.value()).ok_or_else(damaged)?;
            let entry = EncodedEntry::parse(record.encoded).map_err(|_| damaged())?;
            if visit(record.id, entry).is_break() {
                break;
            }
        }
        Ok(())
    }
}
