//! The open file: transactions, whose fault a failure is, and recovery from failures.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::guard::catch;
use crate::store::StoreError;

/// Opens the database, at first and after a failure.
type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// An open database that opens itself again after the system failed it.
///
/// After a failed write the content of the file is unknown, so redb refuses everything until it has
/// been opened again. That goes back to the last commit, and costs milliseconds.
pub(super) struct Disk {
    path: PathBuf,
    opener: Opener,
    /// `None` if it could not be opened again, yet.
    database: RwLock<Option<Database>>,
    has_failed: AtomicBool,
}

impl Disk {
    pub(super) fn open(path: &Path, opener: Opener) -> Result<Self, StoreError> {
        let database = open(path, &opener)?;
        Ok(Self {
            path: path.to_owned(),
            opener,
            database: RwLock::new(Some(database)),
            has_failed: AtomicBool::new(false),
        })
    }

    /// Does work that calls the database. A panic in it is an error, and the database is opened again.
    pub(super) fn guarded<T>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        catch(work).unwrap_or_else(|panic| {
            self.has_failed.store(true, Ordering::Release);
            Err(engine_failed(panic))
        })
    }

    /// Begins to read the committed data.
    pub(super) fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.with(|database| database.begin_read().map_err(|error| self.fault(error)))
    }

    /// Carries out `change` and commits it durably, or does nothing.
    pub(super) fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let mut tx = database.begin_write().map_err(|error| self.fault(error))?;
            // Two phases, because peers choose the bytes that are written and a checksum that is
            // not cryptographic must not be all that tells a torn commit from a whole one. And the
            // map of free pages with each commit, because finding it out after a crash means
            // reading the whole history. Measured, both together double the time of a commit of
            // one entry (a second flush) and add 4 % to one of 8,192.
            tx.set_quick_repair(true);
            let answer = change(&tx)?;
            tx.commit().map_err(|error| self.fault(error))?;
            Ok(answer)
        })
    }

    /// Says whose fault a failure is, and remembers if the database has to be opened again.
    pub(super) fn fault(&self, error: impl Into<redb::Error>) -> StoreError {
        use redb::Error;
        match error.into() {
            Error::Io(error) => {
                self.has_failed.store(true, Ordering::Release);
                io_error(error)
            }
            error @ (Error::PreviousIo | Error::Backend(_)) => {
                self.has_failed.store(true, Ordering::Release);
                other_error(error)
            }
            Error::Corrupted(what) => StoreError::damaged(what),
            error @ (Error::TableTypeMismatch { .. }
            | Error::TypeDefinitionChanged { .. }
            | Error::TableDoesNotExist(_)
            | Error::TableIsMultimap(_)
            | Error::UnorderedKey) => StoreError::damaged(error.to_string()),
            error => other_error(error),
        }
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.has_failed.load(Ordering::Acquire) {
            self.open_again()?;
        }
        match self.lock().as_ref() {
            Some(database) => work(database),
            None => Err(other_error("the file could not be opened again")),
        }
    }

    fn lock(&self) -> RwLockReadGuard<'_, Option<Database>> {
        // A panic within redb poisons its own transaction; the database itself remains usable.
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_again(&self) -> Result<(), StoreError> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !self.has_failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // Closing gives the lock on the file back. That it reports the failure again is no news.
        if let Some(failed) = database.take() {
            drop(catch(|| drop(failed.close())));
        }
        *database = Some(open(&self.path, &self.opener)?);
        self.has_failed.store(false, Ordering::Release);
        Ok(())
    }
}

fn open(path: &Path, opener: &Opener) -> Result<Database, StoreError> {
    let opened = catch(opener).map_err(engine_failed)?;
    opened.map_err(|error| open_error(path, error))
}

/// Blames the file for a panic of the database.
fn engine_failed(panic: String) -> StoreError {
    StoreError::damaged(format!(
        "the database engine cannot read its file ({panic})"
    ))
}

fn open_error(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            StoreError::InUse {
                path: path.to_owned(),
            }
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) => {
            // What is no database at all is reported as invalid data.
            if error.kind() == ErrorKind::InvalidData {
                return StoreError::damaged(format!("{} is no store", path.display()));
            }
            io_error(error)
        }
        DatabaseError::Storage(redb::StorageError::Corrupted(what)) => StoreError::damaged(what),
        error => other_error(error),
    }
}

fn io_error(error: std::io::Error) -> StoreError {
    let source = Box::new(error);
    match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full { source }
        }
        _ => StoreError::Io { source },
    }
}

fn other_error(error: impl Into<crate::store::BoxedError>) -> StoreError {
    StoreError::Io {
        source: error.into(),
    }
}
