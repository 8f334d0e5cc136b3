//! Trees in PostgreSQL, for servers that share them.
//!
//! The database holds the truth: each tree's log of arrivals, and the metadata. Every server keeps
//! **views** of the trees that it uses, filled from the log, and all walks run on these: none goes node
//! by node over the network. A view is disposable, because rows of the log never change.
//!
//! Appends to one tree take turns by the lock on its row, whichever servers they come from. Under the
//! lock a server brings its view up to date, judges the batch on it and writes what was admitted. So
//! numbers have no gaps, and become visible in their order.
//!
//! There are no advisory locks, no named statements and no settings of sessions, so poolers that lend a
//! connection for one transaction work.

mod append;
mod builder;
#[cfg(feature = "redb")]
mod cache;
mod database;
mod fault;
mod group;
mod log;
mod meta;
mod news;
mod schema;
mod shared;
mod sql;
#[cfg(test)]
mod tests;
mod tls;
mod view;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use eidetica_dag::{AppendOutcome, EntryId, TreeId, VerifiedEntry};
use eidetica_proto::LogId;
use tokio_postgres::types::Type;

pub use self::builder::{POOL_SIZE_DEFAULT, PostgresStoreBuilder, VIEW_BYTES_DEFAULT};
use self::database::Database;
use self::group::Groups;
use self::news::News;
pub use self::schema::SCHEMA_VERSION;
use self::view::Views;
use super::{Change, MemoryStore, SharedStore, Snapshot, Store, StoreError};

/// Keeps trees in a schema of a PostgreSQL database. Several servers can share it.
///
/// A lost connection is made anew, with growing pauses, for some seconds; after that, calls fail with
/// [`StoreError::Unreachable`] until the database is back. Whether an interrupted commit took place is
/// found out by reading, so what is acknowledged is stored once.
pub struct PostgresStore {
    database: Arc<Database>,
    views: Views,
    groups: Groups,
    log: LogId,
    news: Arc<News>,
    is_listening: AtomicBool,
}

impl PostgresStore {
    /// Begins with the URL of a database, such as `postgres://user@host/database`.
    ///
    /// # Errors
    /// Returns [`StoreError::Address`] if this is no such URL.
    pub fn builder(url: &str) -> Result<PostgresStoreBuilder, StoreError> {
        PostgresStoreBuilder::new(url)
    }
}

impl Store for PostgresStore {
    fn log_id(&self) -> LogId {
        self.log
    }

    fn trees(&self) -> Result<Vec<TreeId>, StoreError> {
        let sql = &self.database.sql.trees;
        let rows = self
            .database
            .run(async |client| Ok(client.query_typed(sql, &[]).await?))?;
        rows.iter()
            .map(|row| {
                let id = <[u8; 32]>::try_from(row.get::<_, &[u8]>(0));
                let id = id.map_err(|_| StoreError::damaged("the name of a tree"))?;
                Ok(TreeId::from_root(EntryId::from_bytes(id)))
            })
            .collect()
    }

    fn snapshot(&self, tree: TreeId) -> Result<Snapshot, StoreError> {
        let before = self.views.count_of(tree);
        let sql = &self.database.sql.head;
        let row = self.database.run(async |client| {
            let name = tree.as_bytes().as_slice();
            Ok(client.query_typed_opt(sql, &[(&name, Type::BYTEA)]).await?)
        })?;
        let Some(row) = row else {
            return MemoryStore::new().snapshot(tree);
        };
        let head = log::Head::of_row(&row)?;
        self.views.snapshot(&self.database, tree, &head, before)
    }

    fn append(&self, tree: TreeId, batch: Vec<VerifiedEntry>) -> Result<AppendOutcome, StoreError> {
        let write = |batch: &[VerifiedEntry], wanted| self.append_batch(tree, batch, wanted);
        self.groups.append(tree, batch, write)
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        meta::get(&self.database, key)
    }

    fn put(&self, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
        // Not a plain write: one that was interrupted could take place after a later one.
        meta::update(&self.database, key, &mut |_| value.map(<[u8]>::to_vec))
    }

    fn update(&self, key: &str, change: &mut Change<'_>) -> Result<(), StoreError> {
        meta::update(&self.database, key, change)
    }

    fn shared(&self) -> Option<&dyn SharedStore> {
        Some(self)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        meta::list(&self.database, prefix)
    }
}

impl std::fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresStore").finish_non_exhaustive()
    }
}
