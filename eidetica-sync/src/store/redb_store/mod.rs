//! Trees in one file, through the embedded database redb.

mod access_cache;
mod append;
#[cfg(test)]
mod damage_tests;
mod disk;
#[cfg(test)]
mod full_tests;
mod guard;
mod index;
mod layout;
#[cfg(test)]
mod power_tests;
#[cfg(any(test, feature = "test-utils"))]
mod simulated_disk;
mod snapshot;
#[cfg(test)]
mod sync_tests;
#[cfg(test)]
mod tests;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AppendOutcome, DagView, EntryView, TreeId, VerifiedEntry, admit};
use eidetica_proto::LogId;
use redb::{Database, DatabaseError, ReadableTable};

#[cfg(feature = "test-utils")]
pub use simulated_disk::SimulatedDisk;

pub use guard::is_guarded;
pub use layout::FORMAT_VERSION;

use self::access_cache::AccessCache;
use self::disk::Disk;
use self::layout::{
    ACCESS, ACCESS_IDS, CHECKPOINTS, FORMAT, FORMAT_KEY, HEADS, LANDMARKS, LEDGER, LOG,
    LOG_ID_HIGH_KEY, LOG_ID_LOW_KEY, META, RECENT, SETTLED, TIPS, TREES,
};
use self::snapshot::RedbSnapshot;
use super::{Change, Snapshot, Store, StoreError, check_meta, draw_log_id};
use crate::platform::random::Random;

/// Memory for pages of the file in bytes, unless the builder says otherwise: a quarter of what one
/// side of a sync may take. Beyond it the pages come from the system's own cache. Measured, twice as
/// much makes 500,000 insertions 3 % cheaper.
pub const CACHE_BYTES_DEFAULT: usize = 16 << 20;

/// How many appends to different trees can be judged at the same time: more than there are cores.
const APPEND_LOCKS: usize = 64;

/// Keeps trees in one file.
///
/// Whatever a call acknowledged is on the disk; a crash or a power cut at any moment costs nothing
/// that was acknowledged. Opening reads a few pages, however long the history is, also after a
/// crash. Memory does not grow with the history. One process at a time can open the file.
///
/// Damage to the file is noticed where it is read and comes back as [`StoreError::Damaged`]: entries are
/// hashed when they are read, and a panic of the database is caught.
pub struct RedbStore {
    disk: Arc<Disk>,
    access_cache: Arc<AccessCache>,
    append_locks: Vec<Mutex<()>>,
    log: LogId,
}

/// Settings of a [`RedbStore`].
#[derive(Debug, Clone)]
pub struct RedbStoreBuilder {
    cache_bytes: usize,
}

impl RedbStoreBuilder {
    /// Sets how much memory pages of the file may take, in bytes.
    #[must_use]
    pub fn cache_bytes(mut self, cache_bytes: usize) -> Self {
        self.cache_bytes = cache_bytes;
        self
    }

    /// Opens the store in this file, which is created if it does not exist. Its folder must exist.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if it is open already, [`StoreError::TooNew`] if a later version wrote
    /// it, [`StoreError::Damaged`] if it is no store, and those of the system.
    pub fn open(self, path: impl AsRef<Path>) -> Result<RedbStore, StoreError> {
        let path = path.as_ref();
        match fs::metadata(path) {
            Ok(found) if found.is_file() => {}
            // Reading from a pipe or a device could take for ever.
            Ok(_) => {
                let text = format!("{} is not a file", path.display());
                return Err(StoreError::damaged(text));
            }
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(path)?,
            Err(error) => {
                return Err(StoreError::Io {
                    source: error.into(),
                });
            }
        }
        self.open_file(path, path)
    }

    /// Makes the file of an empty store.
    ///
    /// After a power cut in the middle, the file would be none that can be opened. So it gets its name
    /// when it is whole and durable. What a cut leaves under another name is of no use and no harm.
    fn create(&self, path: &Path) -> Result<(), StoreError> {
        let io = |error: std::io::Error| StoreError::Io {
            source: error.into(),
        };
        let random = u64::from_le_bytes(Random::from_os().bytes());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{random:016x}.new"));
        let unnamed = Unnamed(path.with_file_name(name));
        drop(self.clone().open_file(path, &unnamed.0)?);
        match fs::hard_link(&unnamed.0, path) {
            Ok(()) => {}
            // Another process was faster, and may have stored something.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            // Some file systems have no such links.
            Err(_) => fs::rename(&unnamed.0, path).map_err(io)?,
        }
        drop(unnamed);
        sync_folder(path).map_err(io)
    }

    /// Opens a file that is called `path` in errors.
    fn open_file(self, path: &Path, file: &Path) -> Result<RedbStore, StoreError> {
        let file = file.to_owned();
        self.open_with(path, move |builder| builder.create(&file))
    }

    fn open_with(
        self,
        path: &Path,
        open: impl Fn(&redb::Builder) -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<RedbStore, StoreError> {
        let cache_bytes = self.cache_bytes;
        let opener = move || {
            let mut builder = Database::builder();
            builder.set_cache_size(cache_bytes);
            open(&builder)
        };
        let mut store = RedbStore {
            log: draw_log_id(),
            disk: Arc::new(Disk::open(path, Box::new(opener))?),
            access_cache: Arc::default(),
            append_locks: std::iter::repeat_with(Mutex::default)
                .take(APPEND_LOCKS)
                .collect(),
        };
        store.disk.guarded(|| store.check_format())?;
        store.log = store.disk.guarded(|| store.read_log_id())?;
        Ok(store)
    }
}

/// A file that is removed again under this name.
struct Unnamed(PathBuf);

impl Drop for Unnamed {
    fn drop(&mut self) {
        // It may have another name by now. If it cannot be removed, it does no harm.
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes the name of a file durable, which is apart from its content.
#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Other systems have no such call.
#[cfg(not(unix))]
fn sync_folder(_: &Path) -> std::io::Result<()> {
    Ok(())
}

impl RedbStore {
    /// Opens the store in this file with the usual settings: see [`RedbStoreBuilder::open`].
    ///
    /// # Errors
    /// Those of [`RedbStoreBuilder::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::builder().open(path)
    }

    /// Begins with the usual settings.
    pub fn builder() -> RedbStoreBuilder {
        RedbStoreBuilder {
            cache_bytes: CACHE_BYTES_DEFAULT,
        }
    }

    /// Reads the version of a file's format, or makes every table of a file that is empty.
    fn check_format(&self) -> Result<(), StoreError> {
        let tx = self.disk.read()?;
        let tables = tx.list_tables().map_err(|error| self.disk.fault(error))?;
        let is_empty = tables.count() == 0;
        if is_empty {
            return self.create_tables();
        }
        let format = match tx.open_table(FORMAT) {
            Ok(format) => format,
            Err(redb::TableError::Storage(error)) => return Err(self.disk.fault(error)),
            Err(_) => return Err(StoreError::damaged("the file is of another program")),
        };
        let found = format
            .get(FORMAT_KEY)
            .map_err(|error| self.disk.fault(error))?;
        match found.map(|found| found.value()) {
            Some(FORMAT_VERSION) => Ok(()),
            Some(found) if found > FORMAT_VERSION => Err(StoreError::TooNew {
                found,
                understood: FORMAT_VERSION,
            }),
            Some(found) => Err(StoreError::TooOld {
                found,
                understood: FORMAT_VERSION,
            }),
            None => Err(StoreError::damaged("the file names no format")),
        }
    }

    /// Reads the identity of the arrival logs, which was drawn when the file was made.
    fn read_log_id(&self) -> Result<LogId, StoreError> {
        let tx = self.disk.read()?;
        let format = tx
            .open_table(FORMAT)
            .map_err(|error| self.disk.fault(error))?;
        let half = |key| {
            let found = format.get(key).map_err(|error| self.disk.fault(error))?;
            let missing = || StoreError::damaged("the identity of the arrival logs is missing");
            found.map(|found| found.value()).ok_or_else(missing)
        };
        let (low, high) = (half(LOG_ID_LOW_KEY)?, half(LOG_ID_HIGH_KEY)?);
        let id = u64::from(high) << 32 | u64::from(low);
        Ok(LogId::from_bytes(id.to_le_bytes()))
    }

    fn create_tables(&self) -> Result<(), StoreError> {
        let id = u64::from_le_bytes(self.log.to_bytes());
        let create = |tx: &redb::WriteTransaction| -> Result<(), redb::TableError> {
            let mut format = tx.open_table(FORMAT)?;
            format.insert(FORMAT_KEY, FORMAT_VERSION)?;
            format.insert(LOG_ID_LOW_KEY, id as u32)?;
            format.insert(LOG_ID_HIGH_KEY, (id >> 32) as u32)?;
            tx.open_table(META)?;
            tx.open_table(TREES)?;
            tx.open_table(HEADS)?;
            tx.open_table(LOG)?;
            tx.open_table(RECENT)?;
            tx.open_table(SETTLED)?;
            tx.open_table(LANDMARKS)?;
            tx.open_table(CHECKPOINTS)?;
            tx.open_table(TIPS)?;
            tx.open_table(LEDGER)?;
            tx.open_table(ACCESS)?;
            tx.open_table(ACCESS_IDS)?;
            Ok(())
        };
        self.disk
            .write(|tx| create(tx).map_err(|error| self.disk.fault(error)))
    }

    fn take(&self, tree: TreeId) -> Result<RedbSnapshot, StoreError> {
        RedbSnapshot::take(&self.disk, &self.access_cache, tree)
    }

    /// Keeps other appends to the same tree out, and now and then those to another one.
    fn lock(&self, tree: TreeId) -> MutexGuard<'_, ()> {
        let lock = usize::from(tree.as_bytes()[0]) % APPEND_LOCKS;
        // There is nothing in it that a panic could have left half done.
        self.append_locks[lock]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for RedbStore {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        self.disk.guarded(|| {
            let fault = |error: redb::StorageError| self.disk.fault(error);
            let tx = self.disk.read()?;
            let trees = tx
                .open_table(TREES)
                .map_err(|error| self.disk.fault(error))?;
            let rows = trees.iter().map_err(fault)?;
            rows.map(|row| {
                let (tree, _) = row.map_err(fault)?;
                let root = eidetica_dag::EntryId::from_bytes(*tree.value());
                Ok(TreeId::from_root(root))
            })
            .collect()
        })
    }

    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError> {
        self.disk
            .guarded(|| Ok(Arc::new(self.take(tree)?) as Snapshot))
    }

    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError> {
        self.disk.guarded(|| {
            // Judging goes on beside the writing of other trees; nothing else changes this one, so the
            // snapshot is still the present when the change is written.
            let _alone = self.lock(tree);
            let snapshot = self.take(tree)?;
            let admission = admit(&snapshot, tree, batch)?;
            if !admission.changes.entries.is_empty() {
                let before = (snapshot.number(), snapshot.head().clone());
                drop(snapshot);
                let first_state = before.1.access_count;
                let number = append::write(&self.disk, tree, before, &admission.changes)?;
                let changes = admission.changes;
                self.access_cache.put(number, first_state, &changes);
            }
            Ok(admission.outcome)
        })
    }

    fn restore(&self, tree: TreeId, entry: &VerifiedEntry) -> Result<bool, StoreError> {
        self.disk.guarded(|| {
            let _alone = self.lock(tree);
            let snapshot = self.take(tree)?;
            let entry = entry.get();
            let Some(at) = snapshot.arrival(&entry.id())? else {
                return Ok(false);
            };
            if !matches!(snapshot.entry(at), Err(StoreError::Damaged { .. })) {
                return Ok(false);
            }
            let number = snapshot.number();
            // Its place in the tree is not in doubt: the id is, and it names the parents too.
            let node = snapshot.node(at)?;
            drop(snapshot);
            append::put_back(&self.disk, (number, at), &node, entry)?;
            Ok(true)
        })
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.disk.guarded(|| {
            let tx = self.disk.read()?;
            let meta = tx
                .open_table(META)
                .map_err(|error| self.disk.fault(error))?;
            let value = meta.get(key).map_err(|error| self.disk.fault(error))?;
            Ok(value.map(|value| value.value().to_owned()))
        })
    }

    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        self.disk.guarded(|| {
            check_meta(key, value)?;
            let put = |tx: &redb::WriteTransaction| -> Result<(), redb::TableError> {
                let mut meta = tx.open_table(META)?;
                match value {
                    Some(value) => drop(meta.insert(key, value)?),
                    None => drop(meta.remove(key)?),
                }
                Ok(())
            };
            self.disk
                .write(|tx| put(tx).map_err(|error| self.disk.fault(error)))
        })
    }

    fn update(&self, key: &str, change: &mut Change<'_>) -> Result<(), StoreError> {
        self.disk.guarded(|| {
            // A commit costs two flushes, so what changes nothing is found out without one.
            let seen = self.get(key)?;
            if change(seen.as_deref()) == seen {
                return check_meta(key, seen.as_deref());
            }
            self.disk.write(|tx| {
                let mut meta = tx
                    .open_table(META)
                    .map_err(|error| self.disk.fault(error))?;
                let seen = meta.get(key).map_err(|error| self.disk.fault(error))?;
                let next = change(seen.as_ref().map(|seen| seen.value()));
                drop(seen);
                check_meta(key, next.as_deref())?;
                match next {
                    Some(next) => meta.insert(key, next.as_slice()).map(drop),
                    None => meta.remove(key).map(drop),
                }
                .map_err(|error| self.disk.fault(error))
            })
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.disk.guarded(|| {
            let fault = |error: redb::StorageError| self.disk.fault(error);
            let tx = self.disk.read()?;
            let meta = tx
                .open_table(META)
                .map_err(|error| self.disk.fault(error))?;
            let mut found = Vec::new();
            for row in meta.range(prefix..).map_err(fault)? {
                let (key, value) = row.map_err(fault)?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_owned(), value.value().to_owned()));
            }
            Ok(found)
        })
    }
}

impl std::fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbStore").finish_non_exhaustive()
    }
}
