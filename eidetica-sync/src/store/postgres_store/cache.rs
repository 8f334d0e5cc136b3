//! Views of large trees in files, which a server may lose at any time.
//!
//! Each tree has a file of its own, so that one can be removed without the others. A file that cannot be
//! used is removed, and the view begins anew.

use std::fs;
use std::path::{Path, PathBuf};

use eidetica_dag::{Arrival, TreeId, VerifiedEntry};
use eidetica_proto::LogId;

use crate::store::{RedbStore, Store, StoreError};

/// Views that take more memory than this become files, in bytes. Walks in memory are faster, and a file
/// costs two flushes for each append.
pub(super) const FILE_FROM_BYTES: usize = 16 << 20;

/// Memory for the pages of one file, in bytes.
pub(super) const PAGE_BYTES: usize = 4 << 20;

/// How much is written into a file at once, in bytes.
const STEP_BYTES: usize = 4 << 20;

/// A folder of files with views of one database.
pub(super) struct Cache {
    folder: PathBuf,
    room: u64,
}

impl Cache {
    /// Uses a folder of this server alone, for at most so many bytes.
    pub(super) fn open(folder: &Path, log: LogId, room: u64) -> Result<Self, StoreError> {
        let name = data_encoding::HEXLOWER.encode(&log.to_bytes());
        let folder = folder.join(name);
        let made = fs::create_dir_all(&folder);
        made.map_err(|error| StoreError::Io {
            source: error.into(),
        })?;
        Ok(Self { folder, room })
    }

    fn path(&self, tree: TreeId) -> PathBuf {
        self.folder.join(format!("{tree}.view"))
    }

    /// Opens the file of a tree, if there is one that can be used.
    pub(super) fn find(&self, tree: TreeId) -> Option<RedbStore> {
        let path = self.path(tree);
        if !path.exists() {
            return None;
        }
        match RedbStore::builder().cache_bytes(PAGE_BYTES).open(&path) {
            Ok(store) => Some(store),
            Err(StoreError::InUse { .. }) => None,
            Err(error) => {
                tracing::warn!(%error, "removes a view that cannot be used");
                self.remove(tree);
                None
            }
        }
    }

    /// Copies a view into a file.
    pub(super) fn create(&self, tree: TreeId, view: &dyn Store) -> Result<RedbStore, StoreError> {
        self.remove(tree);
        self.make_room();
        let path = self.path(tree);
        let store = RedbStore::builder().cache_bytes(PAGE_BYTES).open(&path)?;
        let snapshot = view.snapshot(tree)?;
        let (mut step, mut bytes) = (Vec::new(), 0);
        for at in 0..snapshot.entry_count() {
            let entry = snapshot.entry(Arrival(at))?;
            bytes += entry.encoded().len();
            step.push(VerifiedEntry::stored(entry));
            if bytes >= STEP_BYTES || at + 1 == snapshot.entry_count() {
                store.append(tree, std::mem::take(&mut step))?;
                bytes = 0;
            }
        }
        Ok(store)
    }

    /// Removes the file of a tree. A view that has it open goes on with it.
    pub(super) fn remove(&self, tree: TreeId) {
        let _is_usually_absent = fs::remove_file(self.path(tree));
    }

    /// Removes the files that were not written for longest until there is room.
    pub(super) fn make_room(&self) {
        let files = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = files
            .filter_map(|file| {
                let metadata = file.metadata().ok()?;
                Some((metadata.modified().ok()?, metadata.len(), file.path()))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, length, path) in files {
            if bytes <= self.room {
                break;
            }
            if fs::remove_file(path).is_ok() {
                bytes -= length;
            }
        }
    }
}
