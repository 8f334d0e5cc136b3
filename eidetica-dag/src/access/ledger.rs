//! Every change of access in a tree, in the order in which it arrived.

use std::sync::{Arc, OnceLock};

use sha2::{Digest, Sha256};

use super::change_log::{ChangeLog, LedgerEntry};
use super::resolved::Resolved;
use super::seniority::Admins;
use super::{AccessChange, AccessState};
use crate::arrival::Arrival;
use crate::id::EntryId;
use crate::key::PublicKey;

/// The entries of one tree that change access, numbered in the order of their arrival.
///
/// It only grows, and a clone shares memory with the original. Its last state, in which every entry
/// counts, is what holds for the tree as a whole: see [`Ledger::current`].
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub(crate) log: ChangeLog,
    /// The state of all entries, once it was asked for: an append of many concurrent changes
    /// must not work it out for each of them.
    current: OnceLock<Arc<Resolved>>,
    /// The state after the last entry, whose admins are probably those of `current`.
    last: Option<Arc<Resolved>>,
}

impl Ledger {
    /// Returns how many entries it has. The next one gets this number.
    pub fn len(&self) -> u32 {
        self.log.len()
    }

    /// Tells whether there is none: the tree has not even a root.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the entry with this number, or `None` beyond the end.
    pub fn get(&self, number: u32) -> Option<&LedgerEntry> {
        self.log.get(number)
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
            let current = Resolved::of(&self.log, self.log.heads().collect(), &known);
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
        ledger.log.add(entry, before.resolved.changes.clone());
        let after = Arc::new(before.resolved.after(&ledger.log, number));
        ledger.current = OnceLock::new();
        if after.changes.len() == ledger.len() as usize {
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
            let mut past = ledger.log.past_of(&entry.follows);
            for head in &*entry.follows {
                past.insert(*head);
            }
            ledger.log.add(entry, past);
        }
        Some(ledger)
    }

    /// Returns the state with these latest changes, for a store that reads it back. `known` are states
    /// of the same tree; where one has the same admins, they are not worked out again. Returns `None`
    /// if the numbers are not ascending, beyond the end, or follow each other: the store is damaged.
    pub fn state(self: &Arc<Self>, heads: &[u32], known: &[AccessState]) -> Option<AccessState> {
        let known: Vec<&Arc<Admins>> = known.iter().map(|it| &it.resolved.admins).collect();
        let resolved = Resolved::of(&self.log, heads.into(), &known)?;
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
