//! What only a store in a file can get wrong.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eidetica_dag::{DagView, MemoryDag};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tempfile::TempDir;

use super::layout::key;
use super::*;
use crate::store::conformance::{Authors, Subject, assert_same_view};

struct InFile {
    store: RedbStore,
    folder: TempDir,
}

impl Subject for InFile {
    fn create() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = RedbStore::open(folder.path().join("store")).unwrap();
        Self { store, folder }
    }

    fn store(&self) -> &dyn Store {
        &self.store
    }

    fn reopen(self) -> Option<Self> {
        let Self { store, folder } = self;
        drop(store);
        let store = RedbStore::open(folder.path().join("store")).unwrap();
        Some(Self { store, folder })
    }
}

crate::store_conformance!(InFile);

impl InFile {
    fn path(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Writes into the file behind the store's back.
    fn tamper(&self, change: impl Fn(&redb::WriteTransaction)) {
        let tamper = |tx: &redb::WriteTransaction| {
            change(tx);
            Ok(())
        };
        self.store.disk.write(tamper).unwrap();
    }
}

fn ids(authors: &Authors) -> Vec<eidetica_dag::EntryId> {
    authors.entries().iter().map(|e| e.get().id()).collect()
}

#[test]
fn a_second_opening_is_refused() {
    let first = InFile::create();
    let error = RedbStore::open(first.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
}

/// Opens a store whose file names this format.
fn open_with_format(version: u32) -> StoreError {
    let subject = InFile::create();
    subject.tamper(|tx| {
        let mut format = tx.open_table(FORMAT).unwrap();
        format.insert(FORMAT_KEY, version).unwrap();
    });
    let InFile { store, folder } = subject;
    drop(store);
    RedbStore::open(folder.path().join("store")).unwrap_err()
}

#[test]
fn other_formats_are_refused() {
    let error = open_with_format(FORMAT_VERSION + 1);
    assert!(
        matches!(error, StoreError::TooNew { found, .. } if found == FORMAT_VERSION + 1),
        "{error}"
    );
    let error = open_with_format(FORMAT_VERSION - 1);
    assert!(
        matches!(error, StoreError::TooOld { found, .. } if found == FORMAT_VERSION - 1),
        "{error}"
    );
}

#[test]
fn other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text");
    std::fs::write(&text, "no database at all ".repeat(1_000)).unwrap();
    let error = RedbStore::open(&text).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");

    let other = folder.path().join("other");
    let database = Database::create(&other).unwrap();
    let tx = database.begin_write().unwrap();
    tx.open_table(redb::TableDefinition::<u8, u8>::new("theirs"))
        .unwrap();
    tx.commit().unwrap();
    drop(database);
    let error = RedbStore::open(&other).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn runs_settle_and_everything_is_still_found() {
    let subject = InFile::create();
    let mut authors = Authors::new(20);
    // Two batches that settle together, and a third that stays in the recent part.
    let mut made = 1;
    while made < index::RECENT_MAX + 600 {
        authors.write_data(made % 3, &[made - 1]);
        made += 1;
    }
    let mut reference = MemoryDag::new(authors.tree());
    for batch in authors.entries().chunks(index::RECENT_MAX / 2 + 100) {
        subject
            .store
            .append(authors.tree(), batch.to_vec())
            .unwrap();
        reference.append(batch.to_vec());
    }
    let view = subject.store.take(authors.tree()).unwrap();
    assert!(view.head().settled_count > 0);
    assert!(view.head().settled_count < view.entry_count());
    for id in ids(&authors) {
        assert_eq!(view.arrival(&id).unwrap(), reference.arrival(&id).unwrap());
    }
}

#[test]
fn damage_is_an_error() {
    let subject = InFile::create();
    let authors = Authors::grown(21, 600);
    let tree = authors.tree();
    subject
        .store
        .append(tree, authors.entries().to_vec())
        .unwrap();
    let number = subject.store.take(tree).unwrap().number();
    subject.tamper(|tx| {
        let mut log = tx.open_table(LOG).unwrap();
        log.insert(key(number, 5), [1, 2, 3].as_slice()).unwrap();
        log.insert(key(number, 6), [0xff; 300].as_slice()).unwrap();
        log.insert(key(number, 7), [0; 42].as_slice()).unwrap();
        log.remove(key(number, 8)).unwrap();
        let mut checkpoints = tx.open_table(CHECKPOINTS).unwrap();
        checkpoints
            .insert(key(number, 512), [0xff; 7].as_slice())
            .unwrap();
        let mut access = tx.open_table(ACCESS).unwrap();
        access.insert(key(number, 0), [0xff; 3].as_slice()).unwrap();
    });
    let InFile { store, folder } = subject;
    drop(store);
    let store = RedbStore::open(folder.path().join("store")).unwrap();
    let view = store.snapshot(tree).unwrap();
    fn is_damage<T>(answer: Result<T, StoreError>) -> bool {
        matches!(answer, Err(StoreError::Damaged { .. }))
    }
    for at in [5, 6, 8].map(eidetica_dag::Arrival) {
        assert!(is_damage(view.node(at)), "{at:?}");
        assert!(is_damage(view.entry(at)), "{at:?}");
    }
    assert!(is_damage(view.entry(eidetica_dag::Arrival(7))));
    assert!(is_damage(view.checkpoint(512)));
    assert!(is_damage(view.access(eidetica_dag::AccessId(0))));
    assert_eq!(
        view.entry(eidetica_dag::Arrival(9)).unwrap(),
        *authors.entry(9).get()
    );
    drop(view);

    let disk = store.disk.clone();
    let tamper_run = |tx: &redb::WriteTransaction| {
        let mut recent = tx.open_table(RECENT).unwrap();
        recent.insert(key(number, 0), [0; 13].as_slice()).unwrap();
        Ok(())
    };
    disk.write(tamper_run).unwrap();
    assert!(is_damage(store.snapshot(tree)));
}

/// A file in memory on a disk of so many bytes, that is still there when it is opened again.
#[derive(Debug, Clone, Default)]
struct SmallDisk {
    file: Arc<InMemoryBackend>,
    bytes_max: Arc<AtomicU64>,
    bytes_read: Arc<AtomicU64>,
}

impl SmallDisk {
    fn with_room(bytes_max: u64) -> Self {
        let disk = Self::default();
        disk.bytes_max.store(bytes_max, Ordering::SeqCst);
        disk
    }

    fn open(&self) -> RedbStore {
        let disk = self.clone();
        let open = move |builder: &redb::Builder| builder.create_with_backend(disk.clone());
        RedbStore::builder()
            .open_with(Path::new("in memory"), open)
            .unwrap()
    }
}

impl StorageBackend for SmallDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.bytes_read
            .fetch_add(out.len() as u64, Ordering::SeqCst);
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.bytes_max.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }
}

/// What a power cut left of an attempt before is not in the way.
#[test]
fn a_new_file_has_its_name_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("store.0123456789abcdef.new"), "half").unwrap();
    let path = folder.path().join("store");
    let stores: Vec<_> = std::thread::scope(|scope| {
        let open = || RedbStore::open(&path);
        let opening: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        opening.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let opened = stores.iter().filter(|store| store.is_ok()).count();
    assert_eq!(opened, 1, "the others find it in use");
    let files = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["store", "store.0123456789abcdef.new"]);
}

#[test]
fn a_full_disk_is_reported_and_survived() {
    let disk = SmallDisk::with_room(1 << 20);
    let store = disk.open();
    let authors = Authors::grown(22, 6_000);
    let tree = authors.tree();
    let mut reference = MemoryDag::new(tree);
    let mut failures = 0;
    for batch in authors.entries().chunks(500) {
        let outcome = match store.append(tree, batch.to_vec()) {
            Ok(outcome) => outcome,
            Err(error) => {
                assert!(matches!(error, StoreError::Full { .. }), "{error}");
                failures += 1;
                // Reading goes on, and shows what was acknowledged.
                let view = store.snapshot(tree).unwrap();
                assert_same_view(&*view, &reference, &ids(&authors));
                disk.bytes_max.fetch_add(1 << 21, Ordering::SeqCst);
                store.append(tree, batch.to_vec()).unwrap()
            }
        };
        assert_eq!(outcome.stored.len(), 500);
        reference.append(batch.to_vec());
    }
    assert!(failures > 0, "the disk was never full");
    assert_same_view(&*store.snapshot(tree).unwrap(), &reference, &ids(&authors));
}

#[test]
fn opening_does_not_read_the_history() {
    // Left as a crash leaves it, and as closing leaves it.
    for crashes in [true, false] {
        let read_by_opening = |entries: usize| {
            let disk = SmallDisk::with_room(u64::MAX);
            let store = disk.open();
            let authors = Authors::grown(24, entries);
            for batch in authors.entries().chunks(2_000) {
                store.append(authors.tree(), batch.to_vec()).unwrap();
            }
            if crashes {
                std::mem::forget(store);
            } else {
                drop(store);
            }
            disk.bytes_read.store(0, Ordering::SeqCst);
            let store = disk.open();
            assert_eq!(store.trees().unwrap(), [authors.tree()]);
            disk.bytes_read.load(Ordering::SeqCst)
        };
        let (short, long) = (read_by_opening(2_000), read_by_opening(20_000));
        // B-trees may be a level deeper, and the map of free pages is of a larger file.
        assert!(long <= short + (64 << 10), "{short}, then {long}");
    }
}

/// Names the file in the environment of the process that is to be killed.
const VICTIM_FILE: &str = "EIDETICA_TEST_VICTIM_FILE";
const VICTIM_BATCH: usize = 7;
const VICTIM_ENTRIES: usize = 2_100;

/// Is the process that is killed, where the environment says so; otherwise does nothing.
#[test]
fn victim() {
    let Some(file) = std::env::var_os(VICTIM_FILE) else {
        return;
    };
    let store = RedbStore::open(file).unwrap();
    let authors = Authors::grown(23, VICTIM_ENTRIES);
    for (acknowledged, batch) in (1..).zip(authors.entries().chunks(VICTIM_BATCH)) {
        store.append(authors.tree(), batch.to_vec()).unwrap();
        let mut out = io::stdout().lock();
        io::Write::write_all(
            &mut out,
            format!("acknowledged {acknowledged}\n").as_bytes(),
        )
        .unwrap();
        io::Write::flush(&mut out).unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_acknowledged() {
    let authors = Authors::grown(23, VICTIM_ENTRIES);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store");
    // Killed sooner and later, each time with what the former left.
    for killed_after in [1, 3, 20] {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "store::redb_store::tests::victim"])
            .env(VICTIM_FILE, &file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = io::BufRead::lines(io::BufReader::new(victim.stdout.take().unwrap()));
        let is_told = |line: &String| line.contains("acknowledged ");
        let told = lines
            .by_ref()
            .map(Result::unwrap)
            .filter(is_told)
            .take(killed_after)
            .count();
        assert_eq!(told, killed_after);
        victim.kill().unwrap();
        victim.wait().unwrap();
        let told = told + lines.map_while(Result::ok).filter(is_told).count();

        let store = RedbStore::open(&file).unwrap();
        let view = store.snapshot(authors.tree()).unwrap();
        let stored = view.entry_count() as usize;
        assert!(stored >= told * VICTIM_BATCH, "{stored} after {told}");
        assert!(stored.is_multiple_of(VICTIM_BATCH), "half a batch");
        let mut reference = MemoryDag::new(authors.tree());
        reference.append(authors.entries()[..stored].to_vec());
        assert_same_view(&*view, &reference, &ids(&authors));
    }
}
