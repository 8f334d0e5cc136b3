//! A sync that fails: nothing is acknowledged, and what is acknowledged later is durable.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use eidetica_dag::testing::{key, open_genesis, shapes::sign_on_top};
use eidetica_dag::{Body, VerifiedEntry};
use redb::StorageBackend;

use super::*;

/// How many entries are stored one after the other.
const ENTRIES: u64 = 6;

/// What a system caches and writes as a whole, in bytes.
const PAGE_BYTES: usize = 4_096;

/// A disk one of whose syncs fails, as Linux fails it: the pages count as clean afterwards, so reads
/// give what was written, and no later sync brings it to the disk unless it is written again.
#[derive(Debug, Clone, Default)]
struct FailingDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    durable: Vec<u8>,
    seen: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// How many more syncs there are before the one that fails.
    left: Option<u64>,
}

impl FailingDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn open(&self) -> Result<RedbStore, StoreError> {
        let disk = self.clone();
        RedbStore::builder().open_with(Path::new("in memory"), move |builder| {
            builder.create_with_backend(disk.clone())
        })
    }

    /// What a restart of the machine finds at this moment.
    fn after_power_cut(&self) -> Self {
        let durable = self.state().durable.clone();
        Self(Arc::new(Mutex::new(State {
            seen: durable.clone(),
            durable,
            ..State::default()
        })))
    }
}

impl StorageBackend for FailingDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let found = state.seen.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        // The length is metadata, which a file system keeps in a journal of its own.
        let mut state = self.state();
        state.seen.resize(len as usize, 0);
        state.durable.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let state = &mut *state;
        let dirty = std::mem::take(&mut state.dirty);
        match state.left {
            Some(0) => {
                state.left = None;
                return Err(io::Error::other("the disk failed"));
            }
            Some(left) => state.left = Some(left - 1),
            None => {}
        }
        for page in dirty {
            let start = page * PAGE_BYTES;
            let end = state.seen.len().min(start + PAGE_BYTES);
            if start < end {
                state.durable[start..end].copy_from_slice(&state.seen[start..end]);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let (start, end) = (offset as usize, offset as usize + data.len());
        state.seen[start..end].copy_from_slice(data);
        state
            .dirty
            .extend(start / PAGE_BYTES..end.div_ceil(PAGE_BYTES));
        Ok(())
    }
}

fn entries() -> Vec<VerifiedEntry> {
    let mut entries = vec![sign_on_top(None, [], &key(0), 0, open_genesis("tree"))];
    let tree = entries[0].get().tree();
    for n in 1..ENTRIES {
        let body = Body::Data(vec![n as u8; 900].into());
        entries.push(sign_on_top(Some(tree), entries.last(), &key(0), n, body));
    }
    entries
}

#[test]
fn any_sync_may_fail() {
    let entries = entries();
    let tree = entries[0].get().tree();
    let mut failures = 0;
    for case in 0.. {
        let disk = FailingDisk::default();
        let store = disk.open().expect("the disk works");
        disk.state().left = Some(case);
        let mut has_failed = false;
        for (count, entry) in (1..).zip(&entries) {
            if let Err(error) = store.append(tree, vec![entry.clone()]) {
                assert!(
                    matches!(error, StoreError::Io { .. }),
                    "sync {case}: {error}"
                );
                has_failed = true;
                let again = store.append(tree, vec![entry.clone()]);
                again.unwrap_or_else(|error| panic!("sync {case}: {error}"));
            }
            let restarted = disk.after_power_cut().open();
            let restarted = restarted.unwrap_or_else(|error| panic!("sync {case}: {error}"));
            let snapshot = restarted.snapshot(tree).expect("it can be read");
            assert_eq!(snapshot.entry_count(), count, "sync {case}: durable");
            let problems = eidetica_dag::check(&*snapshot, tree, |_| ()).expect("it can be read");
            assert!(problems.is_empty(), "sync {case}: {problems:?}");
        }
        if !has_failed {
            break;
        }
        failures += 1;
    }
    assert!(failures > 8, "{failures} syncs failed only");
}
