//! Appends that wait for the same tree share a commit.
//!
//! The first of them writes. Those that come meanwhile wait; when it has ended, the longest waiting one
//! writes for all of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use eidetica_dag::{AppendOutcome, EntryId, TreeId, VerifiedEntry};

use crate::store::StoreError;

/// How much is written in one commit for several appends, in bytes: four times what one append of a
/// transfer has. It bounds the memory of the commit and how long others wait for it.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// What came of a batch, and the ids of what was stored.
pub(super) type Written = (AppendOutcome, Vec<EntryId>);

/// What is to be stored of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whatever can be.
    Whatever,
    /// All of it or nothing; duplicates count as stored.
    Everything,
}

/// Appends by tree, while there are any.
#[derive(Default)]
pub(super) struct Groups(Mutex<BTreeMap<TreeId, VecDeque<Waiting>>>);

/// An append that waits for its turn.
struct Waiting {
    batch: Vec<VerifiedEntry>,
    turn: SyncSender<Turn>,
}

/// What becomes of an append that waits.
enum Turn {
    /// It was written together with others.
    Ended(AppendOutcome),
    /// It is to be written by itself, for not everything in its group could be stored.
    Alone(Vec<VerifiedEntry>),
    /// It writes for these, the first of which is itself.
    Leads(Vec<Waiting>),
}

/// The right to write. Dropping it hands it on.
struct Lead<'a> {
    groups: &'a Groups,
    tree: TreeId,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        loop {
            let mut trees = self.groups.lock();
            let Some(waiting) = trees.get_mut(&self.tree) else {
                return;
            };
            if waiting.is_empty() {
                trees.remove(&self.tree);
                return;
            }
            let mut bytes = 0;
            let mut group = Vec::new();
            while let Some(next) = waiting.front()
                && (group.is_empty() || bytes + bytes_of(&next.batch) <= GROUP_BYTES_MAX)
            {
                bytes += bytes_of(&next.batch);
                group.extend(waiting.pop_front());
            }
            drop(trees);
            let turn = group[0].turn.clone();
            // The receiver waits until it has its turn, so this succeeds unless its thread is gone.
            if turn.try_send(Turn::Leads(group)).is_ok() {
                return;
            }
        }
    }
}

fn bytes_of(batch: &[VerifiedEntry]) -> usize {
    batch.iter().map(|entry| entry.get().encoded().len()).sum()
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<TreeId, VecDeque<Waiting>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch by `write`, alone or together with others.
    pub(super) fn append(
        &self,
        tree: TreeId,
        batch: Vec<VerifiedEntry>,
        write: impl Fn(&[VerifiedEntry], Wanted) -> Result<Option<Written>, StoreError>,
    ) -> Result<AppendOutcome, StoreError> {
        let turn = match self.enter(tree, batch) {
            Ok(batch) => {
                let _lead = Lead { groups: self, tree };
                return write_alone(&batch, write);
            }
            Err(turn) => turn,
        };
        match turn.recv() {
            Ok(Turn::Ended(outcome)) => Ok(outcome),
            Ok(Turn::Alone(batch)) => write_alone(&batch, write),
            Ok(Turn::Leads(group)) => {
                let _lead = Lead { groups: self, tree };
                write_group(group, write)
            }
            // The thread that wrote for this one has panicked.
            Err(_) => Err(StoreError::Io {
                source: "another append to the tree has failed".into(),
            }),
        }
    }

    /// Returns the batch if it is to be written at once, or else where its turn is told.
    fn enter(
        &self,
        tree: TreeId,
        batch: Vec<VerifiedEntry>,
    ) -> Result<Vec<VerifiedEntry>, Receiver<Turn>> {
        let mut trees = self.lock();
        match trees.get_mut(&tree) {
            None => {
                trees.insert(tree, VecDeque::new());
                Ok(batch)
            }
            Some(waiting) => {
                let (turn, told) = sync_channel(1);
                waiting.push_back(Waiting { batch, turn });
                Err(told)
            }
        }
    }
}

/// Writes for a group, tells all but the first what came of it, and returns what came of the first.
fn write_group(
    mut group: Vec<Waiting>,
    write: impl Fn(&[VerifiedEntry], Wanted) -> Result<Option<Written>, StoreError>,
) -> Result<AppendOutcome, StoreError> {
    let all: Vec<VerifiedEntry> = group.iter().flat_map(|it| it.batch.clone()).collect();
    let others = group.split_off(1);
    let own = group.remove(0).batch;
    // An entry that waits or is refused concerns its own batch alone, but what follows it would be left
    // out. And a fault may be gone, or is that of each.
    let is_alone = others.is_empty();
    let Some(written) = (match is_alone {
        true => None,
        false => write(&all, Wanted::Everything).unwrap_or_default(),
    }) else {
        for Waiting { batch, turn } in others {
            let _ = turn.send(Turn::Alone(batch));
        }
        return write_alone(&own, write);
    };
    let mut left = Left::of(written);
    let outcome = left.outcome_of(&own);
    for Waiting { batch, turn } in others {
        let _ = turn.send(Turn::Ended(left.outcome_of(&batch)));
    }
    Ok(outcome)
}

fn write_alone(
    batch: &[VerifiedEntry],
    write: impl Fn(&[VerifiedEntry], Wanted) -> Result<Option<Written>, StoreError>,
) -> Result<AppendOutcome, StoreError> {
    let written = write(batch, Wanted::Whatever)?;
    let (outcome, _) = written.expect("whatever can be stored was wanted");
    Ok(outcome)
}

/// What was stored for a group and is not assigned to its batch yet. Entries are stored in the order
/// given, so each batch has a range of them.
struct Left {
    next: u32,
    ids: std::vec::IntoIter<EntryId>,
}

impl Left {
    fn of((outcome, ids): Written) -> Self {
        Self {
            next: outcome.stored.start,
            ids: ids.into_iter(),
        }
    }

    fn outcome_of(&mut self, batch: &[VerifiedEntry]) -> AppendOutcome {
        let start = self.next;
        let mut duplicates = 0;
        for entry in batch {
            if self.ids.as_slice().first() == Some(&entry.get().id()) {
                self.ids.next();
                self.next += 1;
            } else {
                duplicates += 1;
            }
        }
        AppendOutcome {
            stored: start..self.next,
            duplicates,
            waiting: Vec::new(),
            missing: Vec::new(),
            refused: None,
        }
    }
}
