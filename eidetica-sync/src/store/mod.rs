//! Where trees are kept.
//!
//! A [`Store`] keeps any number of trees and some small metadata beside them. It judges what it is
//! given ([`eidetica_dag::admit()`]) in the same step in which it writes it, so nothing that breaks
//! a rule gets in, whoever calls. [`MemoryStore`] forgets everything at its end and is the
//! reference; `RedbStore` (feature `redb`) keeps trees in one file.
//!
//! Reading goes through [`Snapshot`]s: one tree as it was at one moment. Appending waits for nobody
//! who reads.

pub(crate) mod append_worker;
mod error;
mod memory;
#[cfg(feature = "redb")]
mod redb_store;
pub(crate) mod writer;

#[cfg(any(test, feature = "test-utils"))]
pub mod conformance;

use std::sync::Arc;

use eidetica_dag::{AppendOutcome, EntryView, TreeId, VerifiedEntry};
use eidetica_proto::LogId;

use crate::platform::random::Random;

pub use error::{BoxedError, StoreError};
pub use memory::MemoryStore;
#[cfg(feature = "redb")]
pub use redb_store::{CACHE_BYTES_DEFAULT, FORMAT_VERSION, RedbStore, RedbStoreBuilder};

/// Longest key of metadata in bytes: a word and two ids in hexadecimal digits, with room.
pub const META_KEY_BYTES_MAX: usize = 256;

/// Largest value of metadata in bytes. Metadata is small; whatever is not small is an entry.
pub const META_VALUE_BYTES_MAX: usize = 1 << 16;

/// One tree as it was at one moment, for as long as it is held.
///
/// It is cheap to take. A durable store cannot reuse the space of what was replaced since, so
/// nobody should hold one for longer than one exchange.
pub type Snapshot = Arc<dyn TreeSnapshot>;

/// What a [`Snapshot`] can do: everything that a view of a tree can, from any thread.
pub trait TreeSnapshot: EntryView<Error = StoreError> + Send + Sync {}

impl<V: EntryView<Error = StoreError> + Send + Sync> TreeSnapshot for V {}

/// Keeps trees, and small metadata.
///
/// Every call blocks; asynchronous callers move it off their threads. The order in which the calls
/// of several threads take effect is some order in which they could have come one by one.
pub trait Store: Send + Sync + 'static {
    /// Returns the random identity of the arrival logs of this store, made with it.
    fn log_id(&self) -> LogId;

    /// Returns the trees that have entries, ascending.
    ///
    /// # Errors
    /// Those of reading.
    fn trees(&self) -> Result<Vec<TreeId>, StoreError>;

    /// Returns a tree as it is at this moment. A tree that is not here is the empty tree.
    ///
    /// # Errors
    /// Those of reading.
    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError>;

    /// Judges a batch and stores what can be stored of it, all at once. When it returns, that is as
    /// durable as the store is, and every snapshot taken from here on shows it.
    ///
    /// A batch costs one commit, however large it is: callers with many entries hand them in
    /// together.
    ///
    /// # Errors
    /// Those of reading and writing. Nothing of the batch is stored then.
    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError>;

    /// Returns the metadata under a key.
    ///
    /// # Errors
    /// Those of reading.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Sets the metadata under a key, or removes it; durable when it returns.
    ///
    /// # Errors
    /// Those of writing, and [`StoreError::LimitExceeded`] beyond [`META_KEY_BYTES_MAX`] and
    /// [`META_VALUE_BYTES_MAX`].
    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError>;

    /// Returns the metadata whose keys begin with `prefix`, ascending by key.
    ///
    /// # Errors
    /// Those of reading.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;
}

/// Draws the identity of a store's arrival logs.
fn draw_log_id() -> LogId {
    LogId::from_bytes(Random::from_os().bytes())
}

/// Refuses metadata that is too large.
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
    within("a key of metadata", key.len(), META_KEY_BYTES_MAX)?;
    within(
        "a value of metadata",
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
