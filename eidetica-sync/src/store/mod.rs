//! Stores for trees.
//!
//! A [`Store`] holds any number of trees and some small metadata. It judges entries
//! ([`eidetica_dag::admit()`]) in the step that writes them, so no caller can store an entry that
//! breaks a rule. [`MemoryStore`] is not durable and serves as the reference; `RedbStore` (feature
//! `redb`) keeps trees in one file; `PostgresStore` (feature `postgres`) lets several servers share them.
//!
//! Reads go through a [`Snapshot`], which shows one tree at one moment. Readers do not block appends.

pub(crate) mod append_worker;
mod error;
#[cfg(test)]
pub(crate) mod hooked;
mod memory;
#[cfg(feature = "postgres")]
mod postgres_store;
#[cfg(feature = "redb")]
mod redb_store;
mod shared;
pub(crate) mod writer;

#[cfg(any(test, feature = "test-utils"))]
pub mod conformance;

use std::sync::Arc;

use eidetica_dag::{AppendOutcome, EntryView, TreeId, VerifiedEntry};
use eidetica_proto::LogId;

use crate::platform::random::Random;

pub use error::{BoxedError, StoreError};
pub use memory::MemoryStore;
#[cfg(feature = "postgres")]
pub use postgres_store::{
    POOL_SIZE_DEFAULT, PostgresStore, PostgresStoreBuilder, SCHEMA_VERSION, VIEW_BYTES_DEFAULT,
};
#[cfg(all(feature = "redb", feature = "test-utils"))]
pub use redb_store::SimulatedDisk;
#[cfg(feature = "redb")]
pub use redb_store::{
    CACHE_BYTES_DEFAULT, FORMAT_VERSION, RedbStore, RedbStoreBuilder, is_guarded,
};
pub use shared::{Listener, SharedStore, Taken};

/// Longest metadata key in bytes: enough for a word and two ids in hexadecimal digits.
pub const META_KEY_BYTES_MAX: usize = 256;

/// Largest metadata value in bytes. Larger data belongs into entries.
pub const META_VALUE_BYTES_MAX: usize = 1 << 16;

/// One tree at one moment.
///
/// A snapshot is cheap to take. While it is held, a durable store cannot reuse the space of replaced
/// data, so hold it for at most one exchange.
pub type Snapshot = Arc<dyn TreeSnapshot>;

/// The interface of a [`Snapshot`]: a view of a tree that can be used from any thread.
pub trait TreeSnapshot: EntryView<Error = StoreError> + Send + Sync {}

impl<V: EntryView<Error = StoreError> + Send + Sync> TreeSnapshot for V {}

/// Makes the next metadata value of a key from the present one: see [`Store::update`].
pub type Change<'a> = dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>> + 'a;

/// Removes the metadata value of a key, unless it has become another one than was `seen`.
pub(crate) fn remove_seen(store: &dyn Store, key: &str, seen: &[u8]) -> Result<(), StoreError> {
    store.update(key, &mut |value| {
        value.filter(|value| *value != seen).map(<[u8]>::to_vec)
    })
}

/// Stores trees and small metadata.
///
/// Every call blocks; asynchronous callers run it on a blocking thread. Concurrent calls are
/// linearizable.
pub trait Store: Send + Sync + 'static {
    /// Returns the random identity of the arrival logs of this store, made with it.
    fn log_id(&self) -> LogId;

    /// Returns the trees that have entries, ascending.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    fn trees(&self) -> Result<Vec<TreeId>, StoreError>;

    /// Returns a tree at this moment. An absent tree is empty.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError>;

    /// Judges a batch and stores its valid entries atomically.
    ///
    /// When this returns, they are durable (if the store is), and visible in new snapshots. A batch of
    /// any size costs one commit, so append many entries together.
    ///
    /// # Errors
    /// Returns an error if reading or writing fails. Nothing of the batch is stored then.
    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError>;

    /// Puts the bytes of an entry back in its place, durably, if what is stored there is damaged. Returns
    /// whether it was: an entry that is not here, or sound, stays as it is.
    ///
    /// Only a store that can find damage in single entries has to do this.
    ///
    /// # Errors
    /// Returns an error if reading or writing fails.
    fn restore(&self, tree: TreeId, entry: &VerifiedEntry) -> Result<bool, StoreError> {
        let _ = (tree, entry);
        Ok(false)
    }

    /// Returns the metadata value of a key.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets or removes the metadata value of a key, durably.
    ///
    /// # Errors
    /// Returns [`StoreError::LimitExceeded`] beyond [`META_KEY_BYTES_MAX`] or
    /// [`META_VALUE_BYTES_MAX`], or an error if writing fails.
    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError>;

    /// Changes the metadata value of a key atomically and durably: `change` gets the present value and
    /// returns the next one. Returning the same value writes nothing.
    ///
    /// `change` may be called several times, each time with a newer value; the last call counts. It must
    /// not use the store.
    ///
    /// # Errors
    /// Returns [`StoreError::LimitExceeded`] as [`Self::put`] does, or an error if reading or writing
    /// fails.
    fn update(&self, key: &str, change: &mut Change<'_>) -> Result<(), StoreError>;

    /// Returns what this server shares with others on the same store, or `None` if only one process can
    /// have the store open.
    fn shared(&self) -> Option<&dyn SharedStore> {
        None
    }

    /// Returns the metadata whose keys start with `prefix`, ascending by key.
    ///
    /// # Errors
    /// Returns an error if reading fails.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

/// Draws the identity of a store's arrival logs.
fn draw_log_id() -> LogId {
    LogId::from_bytes(Random::from_os().bytes())
}

/// Checks the limits on metadata.
fn check_meta(key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
    let within = |what, bytes: usize, bytes_max: usize| {
        if bytes > bytes_max {
            return Err(StoreError::LimitExceeded {
                what,
                bytes,
                bytes_max,
            });
        }
        Ok(())
    };
    within("a metadata key", key.len(), META_KEY_BYTES_MAX)?;
    within(
        "a metadata value",
        value.map_or(0, <[u8]>::len),
        META_VALUE_BYTES_MAX,
    )
}

#[cfg(test)]
mod tests {
    use super::conformance::Subject;
    use super::*;

    struct InMemory(MemoryStore);

    impl Subject for InMemory {
        fn create() -> Self {
            Self(MemoryStore::new())
        }

        fn store(&self) -> &dyn Store {
            &self.0
        }

        fn reopen(self) -> Option<Self> {
            None
        }
    }

    crate::store_conformance!(InMemory);
}
