//! Every change of access in a tree, in the order in which it arrived.

use std::sync::{Arc, OnceLock};

use rpds::{ListSync, RedBlackTreeMapSync, VectorSync};
use sha2::{Digest, Sha256};

use super::resolved::Resolved;
use super::seniority::Admins;
use super::{AccessChange, AccessState, Role, Subject};
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

/// The entries of one tree that change access, numbered in the order of their arrival.
///
/// It only grows, and a clone shares memory with the original. Its last state, in which every entry
/// counts, is what holds for the tree as a whole: see [`Ledger::current`].
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    rows: VectorSync<Row>,
    /// The changes about each subject, the last to arrive first.
    about: RedBlackTreeMapSync<Subject, ListSync<ChangeRef>>,
    /// The grants that make a key admin, by key, the last to arrive first.
    admin_grants: RedBlackTreeMapSync<PublicKey, ListSync<ChangeRef>>,
    /// The entries that no other one follows.
    heads: SharedSet,
    /// The state of all entries, once somebody has asked for it: an append of many concurrent changes
    /// must not work it out for each of them.
    current: OnceLock<Arc<Resolved>>,
    /// The state after the last entry, whose admins are probably those of `current`.
    last: Option<Arc<Resolved>>,
}

impl Ledger {
    /// Returns how many entries it has. The next one gets this number.
    pub fn len(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Tells whether there is none: the tree has not even a root.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Returns the entry with this number, or `None` beyond the end.
    pub fn get(&self, number: u32) -> Option<&LedgerEntry> {
        self.rows.get(number as usize).map(|row| &row.entry)
    }

    /// Returns the state in which every entry counts: who may do what with the tree as it is here.
    ///
    /// Each entry of the ledger is a tip or an ancestor of one, so this is what all tips have when
    /// they are taken together, however many there are.
    pub fn current(self: &Arc<Self>) -> AccessState {
        if self.is_empty() {
            return AccessState::default();
        }
        let work_out = || {
            let known: Vec<&Arc<Admins>> = self.last.iter().map(|last| &last.admins).collect();
            let current = Resolved::of(self, self.heads.iter().collect(), &known);
            Arc::new(current.expect("the heads of a ledger do not follow each other"))
        };
        let current = self.current.get_or_init(work_out);
        AccessState::new(self.clone(), current.clone())
    }

    /// Puts an entry at the end whose changes follow those of a state. Returns the state after it.
    pub(crate) fn push(
        self: &mut Arc<Self>,
        before: &AccessState,
        (at, id, height, author): (Arrival, EntryId, u32, PublicKey),
        changes: &[AccessChange],
    ) -> AccessState {
        let number = self.len();
        let entry = LedgerEntry {
            at,
            id,
            height,
            author,
            changes: changes.into(),
            follows: before.resolved.heads.clone(),
        };
        let ledger = Arc::make_mut(self);
        ledger.add(entry, before.resolved.changes.clone());
        let after = Arc::new(before.resolved.after(ledger, number));
        ledger.current = OnceLock::new();
        if after.changes.len() == ledger.rows.len() {
            ledger.current = OnceLock::from(after.clone());
        }
        ledger.last = Some(after.clone());
        AccessState::new(self.clone(), after)
    }

    /// Reads back a ledger that a store kept, entry by entry. Returns `None` if an entry follows one
    /// that does not precede it: the store is damaged.
    pub fn restore(entries: impl IntoIterator<Item = LedgerEntry>) -> Option<Self> {
        let mut ledger = Self::default();
        for entry in entries {
            let number = ledger.len();
            let is_sound = entry.follows.is_empty() == (number == 0)
                && entry.follows.iter().all(|head| *head < number);
            if !is_sound {
                return None;
            }
            let mut past = ledger.past_of(&entry.follows);
            for head in &*entry.follows {
                past.insert(*head);
            }
            ledger.add(entry, past);
        }
        Some(ledger)
    }

    fn add(&mut self, entry: LedgerEntry, past: SharedSet) {
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

    /// Returns the state with these latest changes, for a store that reads it back. `known` are states
    /// of the same tree; where one has the same admins, they are not worked out again. Returns `None`
    /// if the numbers are not ascending, beyond the end, or follow each other: the store is damaged.
    pub fn state(self: &Arc<Self>, heads: &[u32], known: &[AccessState]) -> Option<AccessState> {
        let known: Vec<&Arc<Admins>> = known.iter().map(|it| &it.resolved.admins).collect();
        let resolved = Resolved::of(self, heads.into(), &known)?;
        Some(AccessState::new(self.clone(), Arc::new(resolved)))
    }
}

/// Names a state of one tree in one store: by its latest changes, which determine all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKey([u8; 16]);

impl AccessKey {
    /// Names the state with these latest changes.
    pub fn of(heads: &[u32]) -> Self {
        let mut hasher = Sha256::new();
        for head in heads {
            hasher.update(head.to_le_bytes());
        }
        let digest: [u8; 32] = hasher.finalize().into();
        let mut key = [0; 16];
        key.copy_from_slice(&digest[..16]);
        Self(key)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
