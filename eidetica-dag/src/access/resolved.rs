//! A set of changes, and who is admin by it.

use std::sync::Arc;

use super::ledger::{ChangeRef, Ledger};
use super::seniority::Admins;
use super::step;
use super::{Role, Subject};
use crate::shared_set::SharedSet;

/// A state without the ledger that its numbers are of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    /// The entries that count, closed under what they follow.
    pub(crate) changes: SharedSet,
    /// Those of them that no other one follows, ascending. They determine the others.
    pub(crate) heads: Arc<[u32]>,
    pub(crate) admins: Arc<Admins>,
}

impl Resolved {
    /// Works out the state with these heads, or returns `None` if they cannot be the heads of one.
    pub(crate) fn of(ledger: &Ledger, heads: Arc<[u32]>, known: &[&Arc<Admins>]) -> Option<Self> {
        let ascending = heads.is_sorted_by(|a, b| a < b);
        if !ascending || heads.last().is_none_or(|last| *last >= ledger.len()) {
            return None;
        }
        let changes = ledger.closure(&heads);
        let follow_each_other = |head: &u32| {
            let later = heads.iter().rev().take_while(|later| *later > head);
            let mut later = later;
            later.any(|later| ledger.past(*later).contains(*head))
        };
        if heads.iter().any(follow_each_other) {
            return None;
        }
        let admins = Admins::of(ledger, &changes, known);
        Some(Self {
            changes,
            heads,
            admins,
        })
    }

    /// Returns the state after the ledger's entry `number`, which follows everything in this one.
    pub(crate) fn after(&self, ledger: &Ledger, number: u32) -> Self {
        let mut changes = self.changes.clone();
        changes.insert(number);
        let admins = match step::apply(&self.admins, ledger, &self.changes, number) {
            Some(admins) => admins,
            None => Arc::new(Admins::resolve(ledger, &changes)),
        };
        Self {
            changes,
            heads: [number].into(),
            admins,
        }
    }

    /// Joins states. Where one has all changes of the others, it is the join.
    pub(crate) fn join(ledger: &Ledger, states: &[&Self]) -> Self {
        let Some(largest) = states.iter().max_by_key(|state| state.changes.len()) else {
            return Self::default();
        };
        let mut joined = Self::clone(largest);
        for state in states {
            if joined.changes.contains_all(&state.changes) {
                continue;
            }
            let is_head = |head: &u32, other: &Self| {
                !other.changes.contains(*head) || other.heads.binary_search(head).is_ok()
            };
            let own = joined.heads.iter().filter(|head| is_head(head, state));
            let theirs = state.heads.iter().filter(|head| is_head(head, &joined));
            let mut heads: Vec<u32> = own.chain(theirs).copied().collect();
            heads.sort_unstable();
            heads.dedup();
            joined.heads = heads.into();
            joined.changes.insert_all(&state.changes);
        }
        if joined.changes.len() > largest.changes.len() {
            let known: Vec<&Arc<Admins>> = states.iter().map(|state| &state.admins).collect();
            joined.admins = Admins::shared(ledger, &joined.changes, &known);
        }
        joined
    }

    /// Tells whether a change has an effect.
    pub(crate) fn is_effective(&self, ledger: &Ledger, change: ChangeRef) -> bool {
        if !self.changes.contains(change.number) {
            return false;
        }
        if let Subject::Key(key) = ledger.change(change).subject
            && self.admins.get(&key).is_some()
        {
            return !self.admins.void.iter().any(|void| *void == change);
        }
        // It is about a key that was never admin, or about anyone: nobody withstands it.
        let author = &ledger.row(change.number).author;
        self.admins.supports(ledger, author, change)
    }

    /// Returns the role that a subject has of its own.
    pub(crate) fn role_of(&self, ledger: &Ledger, subject: &Subject) -> Option<Role> {
        if let Subject::Key(key) = subject
            && let Some(admin) = self.admins.get(key)
        {
            return admin.role();
        }
        // Nobody can be admin as anyone: a stray grant of it gives nothing.
        let latest = self.latest(ledger, subject);
        let roles = latest.iter().map(|at| ledger.change(*at).role);
        roles.filter(|role| *role < Some(Role::Admin)).min()?
    }

    /// Returns the effective changes about a subject that no other effective one follows.
    pub(crate) fn latest(&self, ledger: &Ledger, subject: &Subject) -> Vec<ChangeRef> {
        let mut latest: Vec<ChangeRef> = Vec::new();
        for change in ledger.about(subject) {
            let counts = !latest.iter().any(|later| ledger.follows(*later, change))
                && self.is_effective(ledger, change);
            if counts {
                latest.push(change);
            }
        }
        latest
    }
}
