//! Who may do what with a tree.
//!
//! The author of the root is admin. [`Body::Access`](crate::Body::Access) entries, which only
//! admins write, grant and take away roles. What counts for an entry is **the entry's own causal
//! past**: the changes among its ancestors, replayed in the order of (height, id). Every replica
//! sees the same past of an entry, so every replica gives the same verdict on it, in whatever order
//! and through whomever entries arrive.
//!
//! It follows that a revocation does not reach entries that are concurrent with it: an author who
//! does not know of the revocation yet, or pretends not to, can still write on top of older
//! entries. What a revocation ends at once is reading and writing through peers who know of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::arrival::Arrival;
use crate::key::PublicKey;

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
    /// Whoever holds this key.
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
/// that holds after it. Checking an entry is a look-up, not a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessState {
    /// The entries whose changes are in, in the order of (height, id).
    pub(crate) changed_by: Vec<Arrival>,
    roles: BTreeMap<Subject, Role>,
}

impl AccessState {
    /// Starts with the author of a root as its only admin.
    pub(crate) fn of_root(author: PublicKey) -> Self {
        let roles = BTreeMap::from([(Subject::Key(author), Role::Admin)]);
        Self {
            changed_by: Vec::new(),
            roles,
        }
    }

    /// Replays one more entry's changes.
    pub(crate) fn apply(&mut self, by: Arrival, changes: &[AccessChange]) {
        self.changed_by.push(by);
        for change in changes {
            match change.role {
                Some(role) => self.roles.insert(change.subject, role),
                None => self.roles.remove(&change.subject),
            };
        }
    }

    /// Returns the highest role that `key` has, by itself or as anyone.
    pub fn role_of(&self, key: Option<&PublicKey>) -> Option<Role> {
        let own = key.and_then(|key| self.roles.get(&Subject::Key(*key)));
        own.max(self.roles.get(&Subject::Anyone)).copied()
    }

    /// Tells whether `key` has at least `role`.
    pub fn allows(&self, key: Option<&PublicKey>, role: Role) -> bool {
        self.role_of(key) >= Some(role)
    }

    /// Lists every subject that has a role, in the order of subjects.
    pub fn roles(&self) -> impl Iterator<Item = (Subject, Role)> + '_ {
        self.roles.iter().map(|(subject, role)| (*subject, *role))
    }
}
