//! Appends to a tree.

use eidetica_dag::{
    Admission, AppendOutcome, Arrival, EntryId, SignedEntry, TreeId, VerifiedEntry, admit,
};

use super::PostgresStore;
use super::database::Attempts;
use super::fault::Fault;
use super::group::{Wanted, Written};
use super::log::{add_tree, begin_locked, write_and_commit};
use crate::store::{MemoryStore, Snapshot, Store, StoreError};

/// An append whose commit was not answered.
struct Unsettled {
    ids: Vec<EntryId>,
    outcome: AppendOutcome,
}

impl Unsettled {
    /// Tells whether it took place. The snapshot is taken under the lock of the tree, which the database
    /// gives only after it has ended what it still had to do for a lost connection.
    fn is_stored(&self, snapshot: &Snapshot) -> Result<bool, StoreError> {
        if snapshot.entry_count() < self.outcome.stored.end {
            return Ok(false);
        }
        for (at, id) in self.outcome.stored.clone().zip(&self.ids) {
            if snapshot.node(Arrival(at))?.id != *id {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What came of one transaction.
enum Attempt {
    Ended(Option<Written>),
    Again,
}

impl PostgresStore {
    /// Judges a batch and stores what can be stored, in one transaction. Returns `None` if everything is
    /// wanted and something cannot be stored. Blocks.
    pub(super) fn append_batch(
        &self,
        tree: TreeId,
        batch: &[VerifiedEntry],
        wanted: Wanted,
    ) -> Result<Option<Written>, StoreError> {
        let mut attempts = Attempts::begin();
        let mut unsettled = None;
        loop {
            match self.attempt(tree, batch, wanted, &mut unsettled) {
                Ok(Attempt::Ended(written)) => {
                    if let Some((outcome, _)) = &written {
                        self.news.appended(tree, outcome.stored.clone());
                    }
                    return Ok(written);
                }
                Ok(Attempt::Again) => {}
                Err(fault) => attempts.next(&self.database, fault)?,
            }
        }
    }

    fn attempt(
        &self,
        tree: TreeId,
        batch: &[VerifiedEntry],
        wanted: Wanted,
        unsettled: &mut Option<Unsettled>,
    ) -> Result<Attempt, Fault> {
        let database = &*self.database;
        let sql = &database.sql;
        let lease = database.lease()?;
        let before = self.views.count_of(tree);
        let head = database.answer(begin_locked(lease.client(), sql, tree))?;
        let (snapshot, view) = match &head {
            Some(head) => {
                let view = self.views.of(tree, head.pk);
                view.advance(database, &lease, head, before)?;
                (view.snapshot()?, Some(view))
            }
            None => (MemoryStore::new().snapshot(tree)?, None),
        };
        if let Some(earlier) = unsettled.take()
            && earlier.is_stored(&snapshot)?
        {
            // The transaction ends with the connection.
            let Unsettled { outcome, ids } = earlier;
            return Ok(Attempt::Ended(Some((outcome, ids))));
        }
        let admission = admit(&*snapshot, tree, batch.to_vec())?;
        let Admission { changes, outcome } = admission;
        let is_everything = outcome.refused.is_none() && outcome.waiting.is_empty();
        let is_wanted = wanted == Wanted::Whatever || is_everything;
        if changes.entries.is_empty() || !is_wanted {
            database.answer(async { Ok(lease.client().batch_execute("ROLLBACK").await?) })?;
            lease.give_back();
            return Ok(Attempt::Ended(is_wanted.then(|| (outcome, Vec::new()))));
        }
        let head = match head {
            Some(head) => head,
            None => match database.answer(add_tree(lease.client(), sql, tree))? {
                Some(head) => head,
                // Another server has just made the tree.
                None => return Ok(Attempt::Again),
            },
        };
        let entries = changes.entries.iter().map(|(_, entry)| entry);
        let ids = entries.clone().map(SignedEntry::id).collect();
        let write = write_and_commit(lease.client(), sql, &head, entries);
        if let Err(fault) = database.answer(write) {
            *unsettled = Some(Unsettled { ids, outcome });
            return Err(fault);
        }
        lease.give_back();
        let view = view.unwrap_or_else(|| self.views.of(tree, head.pk));
        view.committed(&head, changes)?;
        self.views.note_size(&view);
        Ok(Attempt::Ended(Some((outcome, ids))))
    }
}
