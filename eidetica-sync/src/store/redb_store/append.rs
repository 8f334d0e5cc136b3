//! Writes what was admitted.

use std::ops::Bound;

use eidetica_dag::{Arrival, Changes, LANDMARK_INTERVAL, Node, SignedEntry, TreeId};
use redb::{CursorError, ReadableTableMetadata, WriteTransaction};

use super::disk::Disk;
use super::index;
use super::layout::{
    ACCESS, ACCESS_IDS, CHECKPOINTS, HEADS, Head, LANDMARKS, LEDGER, LOG, NO_TREE, RECENT, Record,
    SETTLED, TIPS, TREES, access_key, key, landmark_key, numbers_to_bytes, write_arrivals,
};
use crate::store::StoreError;

/// Writes changes to the tree with this number and head, in one durable commit. Returns the number
/// of the tree, which it may be the first to have.
pub(super) fn write(
    disk: &Disk,
    tree: TreeId,
    (number, mut head): (u32, Head),
    changes: &Changes,
) -> Result<u32, StoreError> {
    disk.write(|tx| {
        let number = if number == NO_TREE {
            add_tree(tx, tree).map_err(|error| disk.fault(error))?
        } else {
            number
        };
        write_log(tx, number, changes).map_err(|error| disk.fault(error))?;
        write_index(tx, number, &mut head, changes).map_err(|error| disk.fault(error))?;
        write_rest(tx, number, &mut head, changes).map_err(|error| disk.fault(error))?;
        Ok(number)
    })
}

/// Writes an entry of the tree with this number again, in its place.
pub(super) fn put_back(
    disk: &Disk,
    (number, at): (u32, Arrival),
    node: &Node,
    entry: &SignedEntry,
) -> Result<(), StoreError> {
    let mut record = Vec::new();
    Record::write(node, entry.encoded(), &mut record);
    let put = |tx: &WriteTransaction| -> Result<(), redb::Error> {
        let mut log = tx.open_table(LOG)?;
        log.insert(key(number, at.0), record.as_slice())?;
        Ok(())
    };
    disk.write(|tx| put(tx).map_err(|error| disk.fault(error)))
}

fn add_tree(tx: &WriteTransaction, tree: TreeId) -> Result<u32, redb::Error> {
    let mut trees = tx.open_table(TREES)?;
    // Trees are never removed, so how many there are is a number that none has.
    let number = u32::try_from(trees.len()?)
        .ok()
        .filter(|number| *number != NO_TREE)
        .ok_or_else(|| redb::Error::Corrupted("there are too many trees".to_owned()))?;
    trees.insert(tree.as_bytes(), number)?;
    Ok(number)
}

fn write_log(tx: &WriteTransaction, number: u32, changes: &Changes) -> Result<(), redb::Error> {
    let cursor_error = |error| match error {
        CursorError::Storage(error) => error.into(),
        _ => redb::Error::Corrupted("the log continues after its end".to_owned()),
    };
    let mut log = tx.open_table(LOG)?;
    let mut end = log.upper_bound_mut(Bound::Excluded(key(number, changes.first.0)))?;
    let mut record = Vec::new();
    for (at, (node, entry)) in (changes.first.0..).zip(&changes.entries) {
        Record::write(node, entry.encoded(), &mut record);
        end.insert_before(key(number, at), record.as_slice())
            .map_err(cursor_error)?;
    }
    end.close()?;
    Ok(())
}

fn write_index(
    tx: &WriteTransaction,
    number: u32,
    head: &mut Head,
    changes: &Changes,
) -> Result<(), redb::Error> {
    let mut recent = tx.open_table(RECENT)?;
    let mut settled = tx.open_table(SETTLED)?;
    let recent_count = (head.entry_count - head.settled_count) as usize;
    let ids = changes.entries.iter().map(|(node, _)| node.id);
    let first = changes.first;
    let all_settled = index::insert(&mut recent, &mut settled, number, first, recent_count, ids)?;
    head.entry_count += changes.entries.len() as u32;
    if all_settled {
        head.settled_count = head.entry_count;
    }
    Ok(())
}

fn write_rest(
    tx: &WriteTransaction,
    number: u32,
    head: &mut Head,
    changes: &Changes,
) -> Result<(), redb::Error> {
    let mut landmarks = tx.open_table(LANDMARKS)?;
    for (at, (node, _)) in (changes.first.0..).zip(&changes.entries) {
        if node.height.is_multiple_of(LANDMARK_INTERVAL) {
            let key = landmark_key(number, node.height, at);
            landmarks.insert(&key, node.id.as_bytes())?;
        }
    }
    let mut checkpoints = tx.open_table(CHECKPOINTS)?;
    for (stored, tips) in &changes.checkpoints {
        checkpoints.insert(key(number, *stored), list(tips).as_slice())?;
    }
    let mut tips = tx.open_table(TIPS)?;
    for tip in &changes.tips_removed {
        tips.remove(key(number, tip.0))?;
    }
    for tip in &changes.tips_added {
        tips.insert(key(number, tip.0), ())?;
    }
    head.tip_count = changes.tip_count;
    write_access(tx, number, head, changes)?;
    tx.open_table(HEADS)?
        .insert(number, head.to_bytes().as_slice())?;
    Ok(())
}

fn write_access(
    tx: &WriteTransaction,
    number: u32,
    head: &mut Head,
    changes: &Changes,
) -> Result<(), redb::Error> {
    let mut ledger = tx.open_table(LEDGER)?;
    for at in changes.ledger_first..changes.ledger.len() {
        let entry = changes.ledger.get(at).expect("it is below the end");
        let numbers = [entry.at.0]
            .into_iter()
            .chain(entry.follows.iter().copied());
        ledger.insert(key(number, at), numbers_to_bytes(numbers).as_slice())?;
    }
    head.ledger_count = changes.ledger.len();
    let mut access = tx.open_table(ACCESS)?;
    let mut access_ids = tx.open_table(ACCESS_IDS)?;
    for (name, state) in &changes.access {
        let heads = numbers_to_bytes(state.heads().iter().copied());
        access.insert(key(number, head.access_count), heads.as_slice())?;
        access_ids.insert(&access_key(number, name), head.access_count)?;
        head.access_count += 1;
    }
    Ok(())
}

fn list(arrivals: &[Arrival]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(arrivals.len() * 4);
    write_arrivals(arrivals, &mut bytes);
    bytes
}
