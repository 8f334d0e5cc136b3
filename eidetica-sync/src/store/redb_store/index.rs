//! From ids to numbers: an index in two parts, because a B-tree alone rewrites a page for every id.
//!
//! Ids are random, so the keys of a batch fall all over a B-tree, and a copy-on-write tree rewrites
//! every page that one of them falls on: measured, ten times the cost of everything else once a
//! tree has a million entries. So each batch writes a sorted **run** of its keys into the *recent*
//! part, neighbouring runs of like size are merged, and only when the recent part has
//! [`RECENT_MAX`] keys do all of them go, in order, into the *settled* part, many to each page.
//!
//! A key is the first eight bytes of the id. Authors can bring about equal prefixes on purpose, so
//! a prefix may lead to several numbers, and a look-up compares the whole id in the log.

use eidetica_dag::{Arrival, EntryId};
use redb::{ReadOnlyTable, ReadableTable, Table};

use super::layout::{key, keys_of};

/// How many keys the recent part of a tree holds at most. More settle cheaper; all of them are
/// looked at when a snapshot is taken, and they are 12 bytes each.
pub(super) const RECENT_MAX: usize = 1 << 16;

/// A key of a run: the prefix of an id, and the number, both big-endian so that bytes order them.
pub(super) type RunKey = [u8; RUN_KEY_BYTES];

const RUN_KEY_BYTES: usize = 12;

/// Returns the key of an entry in a run.
pub(super) fn run_key(prefix: u64, at: Arrival) -> RunKey {
    let mut key = [0; RUN_KEY_BYTES];
    key[..8].copy_from_slice(&prefix.to_be_bytes());
    key[8..].copy_from_slice(&at.0.to_be_bytes());
    key
}

/// Returns the number in a key of a run.
fn number(key: &RunKey) -> Arrival {
    let [.., a, b, c, d] = *key;
    Arrival(u32::from_be_bytes([a, b, c, d]))
}

/// Returns the key of the settled part for a key of a run.
fn settled_key(tree: u32, run_key: &RunKey) -> [u8; 16] {
    let mut key = [0; 16];
    key[..4].copy_from_slice(&tree.to_be_bytes());
    key[4..].copy_from_slice(run_key);
    key
}

/// Tells how many keys a run has, or `None` if its bytes are no run.
pub(super) fn run_len(run: &[u8]) -> Option<usize> {
    let (keys, rest) = run.as_chunks::<RUN_KEY_BYTES>();
    rest.is_empty().then_some(keys.len())
}

/// Takes a run apart. It was checked when the snapshot was taken.
fn keys(run: &[u8]) -> &[RunKey] {
    run.as_chunks().0
}

/// Lists the numbers that a run has under a prefix.
pub(super) fn find_in_run(run: &[u8], prefix: u64) -> impl Iterator<Item = Arrival> + '_ {
    let keys = keys(run);
    let first = run_key(prefix, Arrival(0));
    let from = keys.partition_point(|key| *key < first);
    keys[from..]
        .iter()
        .take_while(move |key| key[..8] == first[..8])
        .map(number)
}

/// Lists the numbers that the settled part has under a prefix.
pub(super) fn find_settled(
    settled: &ReadOnlyTable<&'static [u8; 16], ()>,
    tree: u32,
    prefix: u64,
) -> Result<impl Iterator<Item = Result<Arrival, redb::StorageError>>, redb::StorageError> {
    let first = settled_key(tree, &run_key(prefix, Arrival(0)));
    let last = settled_key(tree, &run_key(prefix, Arrival(u32::MAX)));
    let found = settled.range::<&[u8; 16]>(&first..=&last)?;
    Ok(found.map(|row| {
        let (key, _) = row?;
        let [.., a, b, c, d] = *key.value();
        Ok(Arrival(u32::from_be_bytes([a, b, c, d])))
    }))
}

/// Puts the keys of a batch in, which begins with the entry `first`. Returns whether everything is
/// settled by it.
pub(super) fn insert(
    recent: &mut Table<'_, u64, &'static [u8]>,
    settled: &mut Table<'_, &'static [u8; 16], ()>,
    tree: u32,
    first: Arrival,
    recent_count: usize,
    entries: impl ExactSizeIterator<Item = EntryId>,
) -> Result<bool, redb::StorageError> {
    let settles = recent_count + entries.len() >= RECENT_MAX;
    let mut run: Vec<RunKey> = (first.0..)
        .zip(entries)
        .map(|(at, id)| run_key(id.prefix(), Arrival(at)))
        .collect();
    // Like sizes merge, so that there are few runs and each key is copied few times.
    let mut start = key(tree, first.0);
    loop {
        let Some(last) = recent.range(keys_of(tree))?.next_back().transpose()? else {
            break;
        };
        let (at, older) = (last.0.value(), last.1.value());
        if !settles && older.len() > run.len() * RUN_KEY_BYTES {
            break;
        }
        run.extend_from_slice(keys(older));
        drop(last);
        recent.remove(at)?;
        start = at;
    }
    run.sort();
    if settles {
        for key in &run {
            settled.insert(&settled_key(tree, key), ())?;
        }
    } else {
        recent.insert(start, run.as_flattened())?;
    }
    Ok(settles)
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase, ReadableTableMetadata};

    use super::super::layout::{RECENT, SETTLED};
    use super::*;

    fn id(prefix: u64, rest: u8) -> EntryId {
        let mut bytes = [rest; 32];
        bytes[..8].copy_from_slice(&prefix.to_be_bytes());
        EntryId::from_bytes(bytes)
    }

    fn database() -> Database {
        let backend = redb::backends::InMemoryBackend::new();
        Database::builder().create_with_backend(backend).unwrap()
    }

    fn insert_into(
        database: &Database,
        tree: u32,
        first: u32,
        recent: usize,
        ids: &[EntryId],
    ) -> bool {
        let tx = database.begin_write().unwrap();
        let mut runs = tx.open_table(RECENT).unwrap();
        let mut settled = tx.open_table(SETTLED).unwrap();
        let ids = ids.iter().copied();
        let all = insert(&mut runs, &mut settled, tree, Arrival(first), recent, ids).unwrap();
        drop((runs, settled));
        tx.commit().unwrap();
        all
    }

    fn find(database: &Database, tree: u32, prefix: u64) -> Vec<u32> {
        let tx = database.begin_read().unwrap();
        let runs = tx.open_table(RECENT).unwrap();
        let settled = tx.open_table(SETTLED).unwrap();
        let mut found: Vec<u32> = find_settled(&settled, tree, prefix)
            .unwrap()
            .map(|at| at.unwrap().0)
            .collect();
        for row in runs.range(keys_of(tree)).unwrap() {
            let run = row.unwrap().1;
            found.extend(find_in_run(run.value(), prefix).map(|at| at.0));
        }
        found.sort_unstable();
        found
    }

    #[test]
    fn a_prefix_leads_to_every_number_that_has_it() {
        let database = database();
        let twins = [id(5, 0), id(5, 1), id(4, 0), id(6, 0), id(u64::MAX, 0)];
        insert_into(&database, 0, 0, 0, &twins);
        insert_into(&database, 0, 5, 5, &[id(5, 2)]);
        insert_into(&database, 1, 0, 0, &[id(5, 3)]);
        assert_eq!(find(&database, 0, 5), [0, 1, 5]);
        assert_eq!(find(&database, 0, u64::MAX), [4]);
        assert!(find(&database, 0, 7).is_empty());
        assert_eq!(find(&database, 1, 5), [0]);

        // The same when they settle, with one more twin among the last.
        let mut rest: Vec<EntryId> = (0..RECENT_MAX as u64).map(|n| id(n << 20, 9)).collect();
        rest.push(id(5, 4));
        assert!(insert_into(&database, 0, 6, 6, &rest));
        let last = 6 + RECENT_MAX as u32;
        assert_eq!(find(&database, 0, 5), [0, 1, 5, last]);
        assert_eq!(find(&database, 0, u64::MAX), [4]);
        assert_eq!(
            find(&database, 1, 5),
            [0],
            "another tree's stay where they were"
        );
    }

    #[test]
    fn runs_stay_few() {
        let database = database();
        for at in 0..1_000 {
            insert_into(&database, 0, at, at as usize, &[id(u64::from(at) << 40, 0)]);
        }
        let tx = database.begin_read().unwrap();
        assert!(tx.open_table(RECENT).unwrap().len().unwrap() <= 10);
        drop(tx);
        for at in 0..1_000 {
            assert_eq!(find(&database, 0, u64::from(at) << 40), [at]);
        }
    }
}
