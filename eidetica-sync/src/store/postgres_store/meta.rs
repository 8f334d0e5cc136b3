//! The small metadata.
//!
//! Each write draws a token and names the token that it replaces, so that exactly one of two concurrent
//! writes succeeds, and a write whose outcome is unknown can be recognised when it is read back.

use tokio_postgres::types::{ToSql, Type};

use super::database::Database;
use crate::platform::random::Random;
use crate::store::{Change, StoreError, check_meta};

/// How many random bytes mark a write: no two marks are the same by chance.
const TOKEN_BYTES: usize = 12;

/// A value with the mark of the write that set it.
struct Marked {
    value: Vec<u8>,
    token: Vec<u8>,
}

fn read(database: &Database, key: &str) -> Result<Option<Marked>, StoreError> {
    let row = database.run(async |client| {
        let key = key.as_bytes();
        let key = [(&key as &(dyn ToSql + Sync), Type::BYTEA)];
        Ok(client.query_typed_opt(&database.sql.get_meta, &key).await?)
    })?;
    Ok(row.map(|row| Marked {
        value: row.get(0),
        token: row.get(1),
    }))
}

/// Returns the value of a key.
pub(super) fn get(database: &Database, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(read(database, key)?.map(|marked| marked.value))
}

/// Changes the value of a key atomically.
pub(super) fn update(
    database: &Database,
    key: &str,
    change: &mut Change<'_>,
) -> Result<(), StoreError> {
    let random = Random::from_os();
    loop {
        let seen = read(database, key)?;
        let value = seen.as_ref().map(|marked| marked.value.as_slice());
        let next = change(value);
        check_meta(key, next.as_deref())?;
        if next.as_deref() == value {
            return Ok(());
        }
        let token: [u8; TOKEN_BYTES] = random.bytes();
        let replaced = seen.map(|marked| marked.token);
        if replace(database, key, replaced.as_deref(), next.as_deref(), &token)? {
            return Ok(());
        }
    }
}

/// Writes a value in the place of another one. Tells whether that was still there.
fn replace(
    database: &Database,
    key: &str,
    replaced: Option<&[u8]>,
    next: Option<&[u8]>,
    token: &[u8],
) -> Result<bool, StoreError> {
    let sql = &database.sql;
    let bytes = key.as_bytes();
    let (statement, values) = match (replaced, next) {
        (None, None) => return Ok(true),
        (None, Some(next)) => (&sql.add_meta, vec![bytes, next, token]),
        (Some(replaced), Some(next)) => (&sql.set_meta, vec![bytes, next, token, replaced]),
        (Some(replaced), None) => (&sql.remove_meta, vec![bytes, replaced]),
    };
    let changed = database.run(async |client| {
        let values: Vec<_> = values
            .iter()
            .map(|value| (value as &(dyn ToSql + Sync), Type::BYTEA))
            .collect();
        Ok(client.execute_typed(statement, &values).await?)
    })?;
    // Where nothing was changed, another write came first; or this one did, and its connection failed
    // before the answer.
    Ok(changed == 1 || read(database, key)?.is_some_and(|marked| marked.token == token))
}

/// Returns the values whose keys start with `prefix`, ascending by key.
pub(super) fn list(
    database: &Database,
    prefix: &str,
) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let end = end_of(prefix.as_bytes());
    let rows = database.run(async |client| {
        let prefix = prefix.as_bytes();
        let bounds = [
            (&prefix as &(dyn ToSql + Sync), Type::BYTEA),
            (&end, Type::BYTEA),
        ];
        Ok(client.query_typed(&database.sql.list_meta, &bounds).await?)
    })?;
    rows.iter()
        .map(|row| {
            let key = String::from_utf8(row.get(0));
            let key = key.map_err(|_| StoreError::damaged("a key of the metadata"))?;
            Ok((key, row.get(1)))
        })
        .collect()
}

/// Returns the first bytes after everything that starts with `prefix`, if there are any.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(end_of(b"peer/"), Some(b"peer0".to_vec()));
        assert_eq!(end_of(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of(b""), None);
    }
}
