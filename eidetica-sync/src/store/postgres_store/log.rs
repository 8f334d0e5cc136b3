//! The rows of trees and their logs.

use std::pin::pin;

use bytes::Bytes;
use eidetica_dag::{EntryId, SignedEntry, TreeId, VerifiedEntry};
use futures::future::try_join3;
use futures::{StreamExt, TryStreamExt};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::database::{Database, Lease};
use super::fault::Fault;
use super::schema::begin;
use super::sql::Sql;
use crate::store::StoreError;

/// How much of a log is read before it is taken into a view, in bytes.
const PART_BYTES: usize = 2 << 20;

/// What the database says of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The number of the tree in the database.
    pub(super) pk: i64,
    /// How many entries it has.
    pub(super) next: u32,
    /// The last one, if there is one.
    pub(super) last: Option<EntryId>,
}

impl Head {
    pub(super) fn of_row(row: &Row) -> Result<Self, StoreError> {
        let damaged = || StoreError::damaged("the row of a tree");
        let next = u32::try_from(row.get::<_, i64>(1)).map_err(|_| damaged())?;
        let last = match row.get::<_, &[u8]>(2) {
            [] => None,
            id => Some(EntryId::from_bytes(id.try_into().map_err(|_| damaged())?)),
        };
        let head = Self {
            pk: row.get(0),
            next,
            last,
        };
        match head.last.is_some() == (next > 0) {
            true => Ok(head),
            false => Err(damaged()),
        }
    }
}

/// Begins a transaction that holds the lock of a tree, if there is such a tree.
pub(super) async fn begin_locked(
    client: &Client,
    sql: &Sql,
    tree: TreeId,
) -> Result<Option<Head>, Fault> {
    let name = tree.as_bytes().as_slice();
    let name = [(&name as &(dyn ToSql + Sync), Type::BYTEA)];
    // Both are on their way before the first is answered.
    let begin = begin();
    let begun = client.batch_execute(&begin);
    let locked = client.query_typed_opt(&sql.lock_head, &name);
    let ((), row) = futures::future::try_join(begun, locked).await?;
    Ok(row.as_ref().map(Head::of_row).transpose()?)
}

/// Adds a tree to the transaction, unless another server has just done so.
pub(super) async fn add_tree(
    client: &Client,
    sql: &Sql,
    tree: TreeId,
) -> Result<Option<Head>, Fault> {
    let name = tree.as_bytes().as_slice();
    let name = [(&name as &(dyn ToSql + Sync), Type::BYTEA)];
    let added = client.query_typed_opt(&sql.add_tree, &name).await?;
    Ok(added.map(|row| Head {
        pk: row.get(0),
        next: 0,
        last: None,
    }))
}

/// Writes entries behind the head of a locked tree, and commits.
pub(super) async fn write_and_commit<'a>(
    client: &Client,
    sql: &Sql,
    head: &Head,
    entries: impl Iterator<Item = &'a SignedEntry> + Clone,
) -> Result<(), Fault> {
    let ids: Vec<EntryId> = entries.clone().map(SignedEntry::id).collect();
    let ids: Vec<&[u8]> = ids.iter().map(|id| id.as_bytes().as_slice()).collect();
    let encoded: Vec<&[u8]> = entries.map(|entry| &entry.encoded()[..]).collect();
    let (first, next) = (
        i64::from(head.next),
        i64::from(head.next) + ids.len() as i64,
    );
    let last = ids.last().copied().unwrap_or_default();
    let pk = (&head.pk as &(dyn ToSql + Sync), Type::INT8);
    let rows = [
        pk.clone(),
        (&first, Type::INT8),
        (&ids, Type::BYTEA_ARRAY),
        (&encoded, Type::BYTEA_ARRAY),
    ];
    let row = [pk, (&next, Type::INT8), (&last, Type::BYTEA)];
    // All are on their way before the first is answered. If one fails, the database carries out none of
    // those after it.
    let written = client.execute_typed(&sql.write_log, &rows);
    let moved = client.execute_typed(&sql.set_head, &row);
    let committed = client.batch_execute("COMMIT");
    try_join3(written, moved, committed).await?;
    Ok(())
}

/// Reads the entries from number `from` up to the head, part by part. Blocks.
pub(super) fn read(
    database: &Database,
    lease: &Lease,
    head: &Head,
    from: u32,
    mut take: impl FnMut(Vec<VerifiedEntry>) -> Result<(), StoreError>,
) -> Result<(), Fault> {
    let (from, end) = (i64::from(from), i64::from(head.next));
    let range: [(&(dyn ToSql + Sync), Type); 3] = [
        (&head.pk, Type::INT8),
        (&from, Type::INT8),
        (&end, Type::INT8),
    ];
    let range = range.iter().map(|(value, kind)| (*value, kind.clone()));
    let rows = lease
        .client()
        .query_typed_raw(&database.sql.read_log, range);
    // The driver reports an error if it is asked again after the end.
    let mut rows = pin!(database.answer(async { Ok(rows.await?.fuse()) })?);
    loop {
        let part = database.answer(async {
            let mut part = Vec::new();
            let mut bytes = 0;
            while bytes < PART_BYTES
                && let Some(row) = rows.try_next().await?
            {
                let entry = entry_of(&row)?;
                bytes += entry.get().encoded().len();
                part.push(entry);
            }
            Ok(part)
        })?;
        if part.is_empty() {
            return Ok(());
        }
        take(part)?;
    }
}

fn entry_of(row: &Row) -> Result<VerifiedEntry, Fault> {
    let damaged = || StoreError::damaged("an entry of a log");
    let id: [u8; 32] = row.get::<_, &[u8]>(0).try_into().map_err(|_| damaged())?;
    let encoded = Bytes::copy_from_slice(row.get(1));
    let entry = SignedEntry::decode_stored(EntryId::from_bytes(id), encoded);
    Ok(VerifiedEntry::stored(entry.map_err(|_| damaged())?))
}
