//! One tree as one read transaction shows it.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use eidetica_dag::{
    AccessId, AccessKey, AccessState, Arrival, DagView, EncodedEntry, EntryId, EntryView, Ledger,
    LedgerEntry, Node, SignedEntry, TreeId,
};
use redb::{AccessGuard, ReadOnlyTable};

use super::access_cache::AccessCache;
use super::disk::Disk;
use super::index::{find_in_run, find_settled, run_len};
use super::layout::{
    ACCESS, ACCESS_IDS, CHECKPOINTS, HEADS, Head, LANDMARKS, LEDGER, LOG, NO_TREE, RECENT, Record,
    SETTLED, TIPS, TREES, access_key, key, keys_of, landmark_key, read_arrivals, read_numbers,
};
use crate::store::StoreError;

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
    tips: ReadOnlyTable<u64, ()>,
    checkpoints: ReadOnlyTable<u64, &'static [u8]>,
    ledger: ReadOnlyTable<u64, &'static [u8]>,
    access: ReadOnlyTable<u64, &'static [u8]>,
    access_ids: ReadOnlyTable<&'static [u8; 20], u32>,
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
            tips: tx.open_table(TIPS).map_err(table_fault)?,
            checkpoints: tx.open_table(CHECKPOINTS).map_err(table_fault)?,
            ledger: tx.open_table(LEDGER).map_err(table_fault)?,
            access: tx.open_table(ACCESS).map_err(table_fault)?,
            access_ids: tx.open_table(ACCESS_IDS).map_err(table_fault)?,
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

    fn tips_from(&self, from: Arrival, limit: usize) -> Result<Vec<Arrival>, StoreError> {
        self.disk.guarded(|| {
            let rows = self
                .tips
                .range(key(self.number, from.0)..=key(self.number, u32::MAX));
            let rows = rows.map_err(|error| self.disk.fault(error))?;
            rows.take(limit)
                .map(|row| {
                    let (tip, _) = row.map_err(|error| self.disk.fault(error))?;
                    let at = Arrival(tip.value() as u32);
                    let is_sound = at.0 < self.head.entry_count;
                    is_sound
                        .then_some(at)
                        .ok_or_else(|| StoreError::damaged(format!("tip {} of a tree", at.0)))
                })
                .collect()
        })
    }

    fn tip_count(&self) -> u32 {
        self.head.tip_count
    }

    fn is_tip(&self, at: Arrival) -> Result<bool, StoreError> {
        self.disk.guarded(|| {
            let found = self.tips.get(key(self.number, at.0));
            Ok(found.map_err(|error| self.disk.fault(error))?.is_some())
        })
    }

    fn arrival(&self, id: &EntryId) -> Result<Option<Arrival>, StoreError> {
        self.disk.guarded(|| {
            // Most look-ups are for recent entries.
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
        })
    }

    fn node(&self, at: Arrival) -> Result<Node, StoreError> {
        self.disk
            .guarded(|| self.record(at, |record| record.node(at)))
    }

    fn visit_heights(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(Arrival, u32),
    ) -> Result<(), StoreError> {
        self.disk.guarded(|| {
            let keys = key(self.number, numbers.start)..key(self.number, numbers.end);
            let rows = self.log.range(keys);
            let mut rows = rows.map_err(|error| self.disk.fault(error))?;
            for at in numbers.map(Arrival) {
                let damaged = || StoreError::damaged(format!("entry {} of a tree", at.0));
                let row = rows.next().ok_or_else(damaged)?;
                let (row_key, bytes) = row.map_err(|error| self.disk.fault(error))?;
                let record = Record::parse(bytes.value())
                    .filter(|_| row_key.value() == key(self.number, at.0));
                visit(at, record.ok_or_else(damaged)?.height);
            }
            Ok(())
        })
    }

    fn last_checkpoint(&self, stored: u32) -> Result<Option<u32>, StoreError> {
        self.disk.guarded(|| {
            let keys = key(self.number, 0)..=key(self.number, stored.min(self.head.entry_count));
            let rows = self.checkpoints.range(keys);
            let mut rows = rows.map_err(|error| self.disk.fault(error))?;
            let last = rows.next_back().transpose();
            let last = last.map_err(|error| self.disk.fault(error))?;
            Ok(last.map(|(at, _)| at.value() as u32))
        })
    }

    fn checkpoint(&self, stored: u32) -> Result<Vec<Arrival>, StoreError> {
        self.disk.guarded(|| {
            self.read(&self.checkpoints, stored)?
                .and_then(|tips| read_arrivals(tips.value(), stored))
                .ok_or_else(|| StoreError::damaged(format!("checkpoint {stored} of a tree")))
        })
    }

    fn landmarks(&self, height: u32, limit: usize) -> Result<Vec<EntryId>, StoreError> {
        self.disk.guarded(|| {
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
        })
    }

    fn access_count(&self) -> u32 {
        self.head.access_count
    }

    fn access(&self, id: AccessId) -> Result<AccessState, StoreError> {
        self.disk.guarded(|| {
            let ledger = self.ledger()?;
            let known = self.access_cache.recent(self.number);
            if let Some(kept) = self.access_cache.state(self.number, id) {
                return Ok(AccessState::of_kept(&ledger, &kept, &known));
            }
            let state = self
                .read(&self.access, id.0)?
                .and_then(|heads| read_numbers(heads.value()))
                .and_then(|heads| ledger.state(&heads, &known))
                .ok_or_else(|| StoreError::damaged(format!("access state {} of a tree", id.0)))?;
            self.access_cache.put_state(self.number, id, &state);
            Ok(state)
        })
    }

    fn find_access(&self, name: &AccessKey) -> Result<Option<AccessId>, StoreError> {
        self.disk.guarded(|| {
            let found = self.access_ids.get(&access_key(self.number, name));
            let found = found.map_err(|error| self.disk.fault(error))?;
            let found = found.map(|id| AccessId(id.value()));
            Ok(found.filter(|id| id.0 < self.head.access_count))
        })
    }

    fn ledger(&self) -> Result<Arc<Ledger>, StoreError> {
        self.disk.guarded(|| {
            let count = self.head.ledger_count;
            if let Some(ledger) = self.access_cache.ledger(self.number, count) {
                return Ok(ledger);
            }
            let damaged = || StoreError::damaged("the changes of access of a tree");
            let entries = (0..count).map(|number| {
                let row = self.read(&self.ledger, number)?.ok_or_else(damaged)?;
                let numbers = read_numbers(row.value()).ok_or_else(damaged)?;
                let (at, follows) = numbers.split_first().ok_or_else(damaged)?;
                let entry = self.entry(Arrival(*at))?;
                LedgerEntry::of(Arrival(*at), &entry, follows).ok_or_else(damaged)
            });
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let ledger = Arc::new(Ledger::restore(entries).ok_or_else(damaged)?);
            self.access_cache.put_ledger(self.number, &ledger);
            Ok(ledger)
        })
    }
}

impl EntryView for RedbSnapshot {
    fn entry(&self, at: Arrival) -> Result<SignedEntry, StoreError> {
        self.disk.guarded(|| {
            self.record(at, |record| {
                let encoded = Bytes::copy_from_slice(record.encoded);
                SignedEntry::decode_hashed(record.id, encoded).ok()
            })
        })
    }

    fn encoded(&self, at: Arrival) -> Result<Bytes, StoreError> {
        self.disk
            .guarded(|| self.record(at, |record| Some(Bytes::copy_from_slice(record.encoded))))
    }

    fn visit_encoded(
        &self,
        numbers: Range<u32>,
        visit: &mut dyn FnMut(EntryId, EncodedEntry<'_>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.disk.guarded(|| {
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
                // Whatever happened to the bytes since they were written, a peer must not get it.
                if entry.id() != record.id {
                    return Err(damaged());
                }
                if visit(record.id, entry).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}
