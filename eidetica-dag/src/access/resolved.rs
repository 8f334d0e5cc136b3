//! A set of changes, and who is admin by it.

use std::sync::Arc;

use super::change_log::{ChangeLog, ChangeRef};
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
    /// Whether the admins were worked out for this state or one below it, and take memory of their
    /// own.
    owns_admins: bool,
}

/// What a store keeps of a state in memory.
#[derive(Debug, Clone)]
pub struct KeptState {
    changes: SharedSet,
    heads: Arc<[u32]>,
    admins: Option<Arc<Admins>>,
}

impl KeptState {
    /// Returns the latest changes.
    pub(crate) fn heads(&self) -> Arc<[u32]> {
        self.heads.clone()
    }
}

/// How many entries about admins a state may have for its admins to be kept with it, if no other state
/// shares them. A few kilobytes; more is worked out again, so that many states that differ in very
/// many admins, which only hostile admins make, take no memory.
const ADMINS_KEPT_MAX: usize = 64;

impl Resolved {
    /// Returns what is worth keeping.
    pub(crate) fn keep(&self) -> KeptState {
        let is_small = !self.owns_admins || self.admins.entries.len() <= ADMINS_KEPT_MAX;
        KeptState {
            changes: self.changes.clone(),
            heads: self.heads.clone(),
            admins: is_small.then(|| self.admins.clone()),
        }
    }

    /// Works out again what was not kept.
    pub(crate) fn of_kept(log: &ChangeLog, kept: &KeptState, known: &[&Arc<Admins>]) -> Self {
        let (admins, owns_admins) = match &kept.admins {
            Some(admins) => (admins.clone(), false),
            None => (Admins::of(log, &kept.changes, known), true),
        };
        Self {
            changes: kept.changes.clone(),
            heads: kept.heads.clone(),
            admins,
            owns_admins,
        }
    }
}

impl Resolved {
    /// Works out the state with these heads, or returns `None` if they cannot be the heads of one.
    pub(crate) fn of(log: &ChangeLog, heads: Arc<[u32]>, known: &[&Arc<Admins>]) -> Option<Self> {
        let ascending = heads.is_sorted_by(|a, b| a < b);
        if !ascending || heads.last().is_none_or(|last| *last >= log.len()) {
            return None;
        }
        let mut changes = log.past_of(&heads);
        if heads.iter().any(|head| changes.contains(*head)) {
            return None;
        }
        for head in &*heads {
            changes.insert(*head);
        }
        let admins = Admins::of(log, &changes, known);
        let owns_admins = !known.iter().any(|it| Arc::ptr_eq(it, &admins));
        Some(Self {
            changes,
            heads,
            admins,
            owns_admins,
        })
    }

    /// Returns the state after the ledger's entry `number`, which follows everything in this one.
    pub(crate) fn after(&self, log: &ChangeLog, number: u32) -> Self {
        let mut changes = self.changes.clone();
        changes.insert(number);
        let stepped = step::apply(&self.admins, log, &self.changes, number);
        let owns_admins = self.owns_admins || stepped.is_none();
        let admins = stepped.unwrap_or_else(|| Arc::new(Admins::resolve(log, &changes)));
        Self {
            changes,
            heads: [number].into(),
            admins,
            owns_admins,
        }
    }

    /// Joins states. Where one has all changes of the others, it is the join.
    pub(crate) fn join(log: &ChangeLog, states: &[&Self]) -> Self {
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
            joined.admins = Admins::shared(log, &joined.changes, &known);
            let owner = states
                .iter()
                .find(|state| Arc::ptr_eq(&state.admins, &joined.admins));
            joined.owns_admins = owner.is_none_or(|owner| owner.owns_admins);
        }
        joined
    }

    /// Tells whether a change has an effect.
    pub(crate) fn is_effective(&self, log: &ChangeLog, change: ChangeRef) -> bool {
        if !self.changes.contains(change.number) {
            return false;
        }
        if let Subject::Key(key) = log.change(change).subject
            && self.admins.get(&key).is_some()
        {
            return !self.admins.void.iter().any(|void| *void == change);
        }
        // It is about a key that was never admin, or about anyone: no admin withstands it.
        let author = &log.row(change.number).author;
        self.admins.supports(log, author, change)
    }

    /// Returns the role that a subject has of its own.
    pub(crate) fn role_of(&self, log: &ChangeLog, subject: &Subject) -> Option<Role> {
        if let Subject::Key(key) = subject
            && let Some(admin) = self.admins.get(key)
        {
            return admin.role();
        }
        // Anyone cannot be admin: a stray grant of it gives nothing.
        let latest = self.latest(log, subject);
        let roles = latest.iter().map(|at| log.change(*at).role);
        roles.filter(|role| *role < Some(Role::Admin)).min()?
    }

    /// Returns the effective changes about a subject that no other effective one follows.
    pub(crate) fn latest(&self, log: &ChangeLog, subject: &Subject) -> Vec<ChangeRef> {
        let mut latest: Vec<ChangeRef> = Vec::new();
        for change in log.about(subject) {
            let counts = !latest.iter().any(|later| log.follows(*later, change))
                && self.is_effective(log, change);
            if counts {
                latest.push(change);
            }
        }
        latest
    }
}
