//! Who may do what with a tree.
//!
//! The author of the root is admin. [`Body::Access`](crate::Body::Access) entries, which only
//! admins write, grant and take away roles. What counts for an entry is **the entry's own causal
//! past**: the changes among its ancestors, judged by the rule of seniority (see `seniority.rs`
//! beside this file). Every replica sees the same past of an entry, so every replica gives the same
//! verdict on it, in whatever order and through whomever entries arrive.
//!
//! It follows that a revocation does not reach entries that are concurrent with it: an author who
//! does not know of the revocation yet, or pretends not to, can still write on top of older
//! entries. Such an entry stays, and can be told: see [`Contests`]. Its *changes of access* have no
//! effect once the revocation is known. What a revocation ends at once is reading and
//! writing through peers who know of it.
//!
//! # What it costs
//!
//! The changes of a tree are kept once, in its [`Ledger`]. A state is a set of their numbers, which shares
//! memory with the sets that it was made from, and facts about the admins. For n changes:
//!
//! * One more change on top of a state takes O(log n), and so does the memory for the state after it.
//! * An entry that merges states of which one has all changes of the others takes that one's.
//! * To join others, the sets are joined, in steps of 256 numbers. Where the changes about admins
//!   are those of one of the states, as they are unless admins were made or removed concurrently,
//!   that is all. Otherwise the changes about admins are resolved anew; how many others there are does
//!   not matter.
//! * A role is worked out on request, from the changes about that key.
//! * A store keeps for each state its latest changes, which determine the others: one, as a rule.

mod change_log;
mod contested;
mod ledger;
mod rank;
mod resolved;
mod seniority;
mod step;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::EntryId;
use crate::key::PublicKey;

pub use change_log::LedgerEntry;
pub use contested::{Contests, Outlook};
pub use ledger::{AccessKey, Ledger};
pub use resolved::KeptState;
pub(crate) use resolved::Resolved;

/// Most changes in one entry: enough for a team at once, and a bound on what one entry costs.
pub const CHANGES_MAX: usize = 256;

/// What a key may do. Each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Fetch the tree.
    Read,
    /// Add entries with data.
    Write,
    /// Add entries that change access.
    Admin,
}

/// Whom a change of access concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// Everyone, known or not.
    Anyone,
    /// The holder of this key.
    Key(PublicKey),
}

/// Sets the role of a subject, or takes it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccessChange {
    /// Whom it concerns.
    pub subject: Subject,
    /// The role from here on; `None` revokes.
    pub role: Option<Role>,
}

impl AccessChange {
    /// Sets the role of `subject` to `role`, whatever it was.
    pub const fn grant(subject: Subject, role: Role) -> Self {
        Self {
            subject,
            role: Some(role),
        }
    }

    /// Takes every role from `subject`.
    pub const fn revoke(subject: Subject) -> Self {
        Self {
            subject,
            role: None,
        }
    }
}

/// The number of an [`AccessState`] in its tree's list of states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccessId(pub u32);

/// Who may do what after a certain set of changes.
///
/// Access changes rarely, so a tree has few states, and each entry remembers the number of the one
/// that holds after it. Checking an entry is a look-up, not a walk. A clone costs nothing.
#[derive(Clone, Default)]
pub struct AccessState {
    ledger: Arc<Ledger>,
    pub(crate) resolved: Arc<Resolved>,
}

impl AccessState {
    pub(crate) fn new(ledger: Arc<Ledger>, resolved: Arc<Resolved>) -> Self {
        Self { ledger, resolved }
    }

    /// Returns what a store keeps of the state in memory.
    pub fn keep(&self) -> KeptState {
        self.resolved.keep()
    }

    /// Makes a state of what was kept. `known` are states of the same tree; where one has the same
    /// admins, they are not worked out again.
    #[must_use]
    pub fn of_kept(ledger: &Arc<Ledger>, kept: &KeptState, known: &[Self]) -> Self {
        let current = ledger.current();
        if current.resolved.heads == kept.heads() {
            return current;
        }
        let known = known.iter().chain([&current]);
        let known: Vec<_> = known.map(|it| &it.resolved.admins).collect();
        let resolved = Resolved::of_kept(&ledger.log, kept, &known);
        Self::new(ledger.clone(), Arc::new(resolved))
    }

    /// Joins states of one tree, whose ledger is given: the changes of all of them count. No
    /// states, which an empty tree has, join to one that allows nothing.
    pub(crate) fn join(ledger: &Arc<Ledger>, states: &[Self]) -> Self {
        let resolved: Vec<&Resolved> = states.iter().map(|it| &*it.resolved).collect();
        Self::new(
            ledger.clone(),
            Arc::new(Resolved::join(&ledger.log, &resolved)),
        )
    }

    /// Returns the latest changes of the join of some states, which name it.
    pub(crate) fn joined_heads(states: &[Self]) -> Vec<u32> {
        let is_latest = |head: &u32| {
            states.iter().all(|state| {
                !state.resolved.changes.contains(*head) || state.heads().binary_search(head).is_ok()
            })
        };
        let heads = states.iter().flat_map(Self::heads).copied();
        let latest: BTreeSet<u32> = heads.filter(is_latest).collect();
        latest.into_iter().collect()
    }

    /// Tells whether all changes of another state of the same tree count in this one.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self.resolved.changes.contains_all(&other.resolved.changes)
    }

    /// Tells whether the admins are the same, and were worked out together. A store that keeps a few
    /// states to compare others with need keep only one of them.
    pub fn has_same_admins(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.resolved.admins, &other.resolved.admins)
    }

    /// Returns how many entries with changes count.
    pub(crate) fn change_count(&self) -> usize {
        self.resolved.changes.len()
    }

    /// Returns the changes after which nothing else changed, as numbers of the ledger, ascending.
    /// They determine the state.
    pub fn heads(&self) -> &[u32] {
        &self.resolved.heads
    }

    /// Returns the name by which a store finds the state.
    pub fn key(&self) -> AccessKey {
        AccessKey::of(self.heads())
    }

    /// Returns the ledger that the state is of.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Returns the highest role that `key` has, by itself or as anyone.
    pub fn role_of(&self, key: Option<&PublicKey>) -> Option<Role> {
        let own = key.and_then(|key| self.own_role(&Subject::Key(*key)));
        own.max(self.own_role(&Subject::Anyone))
    }

    /// Returns the role that a subject has of its own.
    pub fn own_role(&self, subject: &Subject) -> Option<Role> {
        self.resolved.role_of(&self.ledger.log, subject)
    }

    /// Tells whether `key` has at least `role`.
    pub fn allows(&self, key: Option<&PublicKey>, role: Role) -> bool {
        self.role_of(key) >= Some(role)
    }

    /// Lists every subject that has a role, in the order of subjects.
    pub fn roles(&self) -> impl Iterator<Item = (Subject, Role)> + '_ {
        let founder = self.ledger.get(0).map(|root| Subject::Key(root.author));
        let mut subjects: Vec<Subject> =
            self.ledger.log.subjects().copied().chain(founder).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let with_role = move |subject: Subject| Some((subject, self.own_role(&subject)?));
        subjects.into_iter().filter_map(with_role)
    }
}

/// States are equal that have the same changes.
impl PartialEq for AccessState {
    fn eq(&self, other: &Self) -> bool {
        let ids = |state: &Self| -> Vec<EntryId> {
            let heads = state.heads().iter();
            heads.map(|head| state.ledger.log.row(*head).id).collect()
        };
        self.heads() == other.heads() && ids(self) == ids(other)
    }
}

impl Eq for AccessState {}

impl std::fmt::Debug for AccessState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessState")
            .field("heads", &self.heads())
            .field("roles", &self.roles().collect::<Vec<_>>())
            .finish()
    }
}
