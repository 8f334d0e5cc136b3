//! A disk that is full at any one of the writes: an error that says so, and no harm.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use eidetica_dag::VerifiedEntry;
use eidetica_dag::testing::{key, open_genesis, shapes::sign_on_top};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;

/// How many entries are stored one after the other.
const ENTRIES: u64 = 6;

/// A disk that is full after so many writes and changes of length.
#[derive(Debug, Clone)]
struct FullDisk {
    file: Arc<InMemoryBackend>,
    left: Arc<AtomicU64>,
}

impl FullDisk {
    /// Makes a disk with an empty store.
    fn new() -> Self {
        let disk = Self {
            file: Arc::new(InMemoryBackend::new()),
            left: Arc::new(AtomicU64::new(u64::MAX)),
        };
        drop(disk.open().expect("there is room"));
        disk
    }

    fn open(&self) -> Result<RedbStore, StoreError> {
        let disk = self.clone();
        RedbStore::builder().open_with(Path::new("in memory"), move |builder| {
            builder.create_with_backend(disk.clone())
        })
    }

    fn step(&self) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(1);
        let stepped = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        stepped
            .map(drop)
            .map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

impl StorageBackend for FullDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step()?;
        self.file.write(offset, data)
    }
}

fn entries() -> Vec<VerifiedEntry> {
    let mut entries = vec![sign_on_top(None, [], &key(0), 0, open_genesis("tree"))];
    let tree = entries[0].get().tree();
    for n in 1..ENTRIES {
        let body = eidetica_dag::Body::Data(vec![n as u8; 900].into());
        entries.push(sign_on_top(Some(tree), entries.last(), &key(0), n, body));
    }
    entries
}

/// Checks that the first `count` entries are there, and one more at most: a commit whose last write
/// failed may be whole.
fn check(store: &RedbStore, tree: TreeId, count: usize, case: u64) {
    let snapshot = store.snapshot(tree).expect("reading goes on");
    let found = snapshot.entry_count() as usize;
    assert!((count..=count + 1).contains(&found), "write {case}");
    let problems = eidetica_dag::check(&*snapshot, tree, |_| ()).expect("reading goes on");
    assert!(problems.is_empty(), "write {case}: {problems:?}");
}

#[test]
fn the_disk_may_be_full_at_any_write() {
    let entries = entries();
    let tree = entries[0].get().tree();
    let mut failures = 0;
    for case in 0.. {
        let disk = FullDisk::new();
        let store = disk.open().expect("there is room");
        disk.left.store(case, Ordering::SeqCst);
        let mut has_failed = false;
        for (count, entry) in entries.iter().enumerate() {
            if let Err(error) = store.append(tree, vec![entry.clone()]) {
                assert!(
                    matches!(error, StoreError::Full { .. }),
                    "write {case}: {error}"
                );
                has_failed = true;
                disk.left.store(u64::MAX, Ordering::SeqCst);
                check(&store, tree, count, case);
                let again = store.append(tree, vec![entry.clone()]);
                again.unwrap_or_else(|error| panic!("write {case}: {error}"));
            }
        }
        assert_eq!(store.snapshot(tree).unwrap().entry_count(), ENTRIES as u32);
        drop(store);
        disk.left.store(u64::MAX, Ordering::SeqCst);
        check(
            &disk.open().expect("it opens"),
            tree,
            ENTRIES as usize,
            case,
        );
        if !has_failed {
            break;
        }
        failures += 1;
    }
    assert!(failures > 20, "the disk was full {failures} times only");
}
