//! The entries of a tree that change access, in the order of their arrival, and how to find a change.

use std::sync::Arc;

use rpds::{ListSync, RedBlackTreeMapSync, VectorSync};

use super::{AccessChange, Role, Subject};
use crate::arrival::Arrival;
use crate::entry::Body;
use crate::id::EntryId;
use crate::key::PublicKey;
use crate::shared_set::SharedSet;
use crate::signed::SignedEntry;

/// An entry that changes access, as the ledger of its tree keeps it.
#[derive(Debug, Clone)]
pub struct LedgerEntry {
    /// The entry's number in its tree.
    pub at: Arrival,
    /// The entry.
    pub id: EntryId,
    /// The entry's height.
    pub height: u32,
    /// The author.
    pub author: PublicKey,
    /// What the entry changes, in this order.
    pub changes: Arc<[AccessChange]>,
    /// The latest entries of the ledger before this one: all others that this entry follows are
    /// followed by one of them. Ascending.
    pub follows: Arc<[u32]>,
}

impl LedgerEntry {
    /// Reads back an entry that a store kept, which follows these of the ledger. Returns `None` if it
    /// changes no access: the store is damaged.
    pub fn of(at: Arrival, entry: &SignedEntry, follows: &[u32]) -> Option<Self> {
        let said = entry.entry();
        let changes = match &said.body {
            Body::Access(changes) => changes,
            Body::Genesis(genesis) => &genesis.access,
            Body::Data(_) | Body::Extension { .. } => return None,
        };
        Some(Self {
            at,
            id: entry.id(),
            height: said.height,
            author: said.author,
            changes: changes.as_slice().into(),
            follows: follows.into(),
        })
    }
}

/// One change: the number of its entry in the ledger, and its place in the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChangeRef {
    pub(crate) number: u32,
    pub(crate) index: u16,
}

#[derive(Debug, Clone)]
struct Row {
    entry: LedgerEntry,
    /// Every entry of the ledger among this one's ancestors.
    past: SharedSet,
}

/// What a [`Ledger`](super::Ledger) keeps of entries, without a state. A clone shares memory with the
/// original.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeLog {
    rows: VectorSync<Row>,
    /// The changes about each subject, the last to arrive first.
    about: RedBlackTreeMapSync<Subject, ListSync<ChangeRef>>,
    /// The grants that make a key admin, by key, the last to arrive first.
    admin_grants: RedBlackTreeMapSync<PublicKey, ListSync<ChangeRef>>,
    /// The entries that no other one follows.
    heads: SharedSet,
}

impl ChangeLog {
    /// Returns how many entries it has. The next one gets this number.
    pub(crate) fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Returns the entry with this number, or `None` beyond the end.
    pub(crate) fn get(&self, number: u32) -> Option<&LedgerEntry> {
        self.rows.get(number as usize).map(|row| &row.entry)
    }

    /// Lists the entries that no other one follows, ascending.
    pub(crate) fn heads(&self) -> impl Iterator<Item = u32> + '_ {
        self.heads.iter()
    }

    /// Puts an entry at the end that follows `past`.
    pub(crate) fn add(&mut self, entry: LedgerEntry, past: SharedSet) {
        let number = self.len();
        for head in &*entry.follows {
            self.heads.remove(*head);
        }
        self.heads.insert(number);
        for (index, change) in (0..).zip(&*entry.changes) {
            let change_ref = ChangeRef { number, index };
            let about = self.about.get(&change.subject).cloned().unwrap_or_default();
            let about = about.push_front(change_ref);
            self.about.insert_mut(change.subject, about);
            if let (Subject::Key(key), Some(Role::Admin)) = (change.subject, change.role) {
                let grants = self.admin_grants.get(&key).cloned().unwrap_or_default();
                self.admin_grants
                    .insert_mut(key, grants.push_front(change_ref));
            }
        }
        self.rows.push_back_mut(Row { entry, past });
    }

    /// Returns all that some entries follow.
    pub(crate) fn past_of(&self, entries: &[u32]) -> SharedSet {
        let mut set = SharedSet::new();
        for entry in entries {
            set.insert_all(self.past(*entry));
        }
        set
    }

    pub(crate) fn row(&self, number: u32) -> &LedgerEntry {
        &self.rows[number as usize].entry
    }

    /// Returns the entries that this one follows.
    pub(crate) fn past(&self, number: u32) -> &SharedSet {
        &self.rows[number as usize].past
    }

    pub(crate) fn change(&self, at: ChangeRef) -> AccessChange {
        self.row(at.number).changes[usize::from(at.index)]
    }

    /// Tells whether a change follows another: is in an entry above it, or later in the same entry.
    pub(crate) fn follows(&self, later: ChangeRef, earlier: ChangeRef) -> bool {
        if later.number == earlier.number {
            return later.index > earlier.index;
        }
        later.number > earlier.number && self.past(later.number).contains(earlier.number)
    }

    /// Lists the changes about a subject, the last to arrive first: what follows comes first.
    pub(crate) fn about<'a>(
        &'a self,
        subject: &Subject,
    ) -> impl Iterator<Item = ChangeRef> + use<'a> {
        self.about
            .get(subject)
            .into_iter()
            .flat_map(|list| list.iter().copied())
    }

    /// Lists every subject of a change, ascending.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.about.keys()
    }

    /// Lists the keys that a set of entries makes admin, with the author of the root.
    pub(crate) fn admins_among<'a>(
        &'a self,
        entries: &'a SharedSet,
    ) -> impl Iterator<Item = PublicKey> + 'a {
        let founder = self.rows.get(0).map(|row| row.entry.author);
        let granted = self.admin_grants.iter().filter(move |(key, grants)| {
            Some(**key) != founder && grants.iter().any(|grant| entries.contains(grant.number))
        });
        founder.into_iter().chain(granted.map(|(key, _)| *key))
    }
}
