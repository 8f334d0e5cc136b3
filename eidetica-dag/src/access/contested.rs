//! What a person should see: entries beside a removal, and what a change would do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::change_log::ChangeRef;
use super::ledger::Ledger;
use super::{AccessChange, AccessState, Role, Subject};
use crate::admit::role_needed;
use crate::arrival::Arrival;
use crate::id::EntryId;
use crate::key::PublicKey;
use crate::set::ArrivalSet;
use crate::signed::SignedEntry;
use crate::view::{DagView, current_access};
use crate::walk;

/// How many sets of ancestors are kept, of one bit for each entry of the tree. A listing seldom meets
/// more removals than this in turn.
const REMOVALS_REMEMBERED_MAX: usize = 16;

/// How many authors' roles are remembered: more than write in most trees.
const AUTHORS_REMEMBERED_MAX: usize = 1_024;

/// Tells which entries of a tree were written concurrently with their author's removal.
///
/// Such entries are valid, and stay: their authors did not know of the removal, or pretended not to.
/// No rule can tell which, so they are shown to a person.
#[derive(Debug)]
pub struct Contests {
    current: AccessState,
    /// What authors may do at present.
    roles: BTreeMap<PublicKey, Option<Role>>,
    /// The ancestors of removals, by their numbers in the ledger.
    ancestors: BTreeMap<u32, ArrivalSet>,
}

impl Contests {
    /// Begins with what holds in a tree when all tips are taken together.
    ///
    /// # Errors
    /// Those of the view.
    pub fn of<V: DagView + ?Sized>(view: &V) -> Result<Self, V::Error> {
        Ok(Self {
            current: current_access(view)?,
            roles: BTreeMap::new(),
            ancestors: BTreeMap::new(),
        })
    }

    /// Returns the removal with which an entry of the same view is contested, if there is one: an
    /// effective change by which its author lost the role that the entry needs, where neither
    /// knew of the other. Where the author has that role again, no entry is contested.
    ///
    /// # Errors
    /// Those of the view.
    pub fn contested_by<V: DagView + ?Sized>(
        &mut self,
        view: &V,
        at: Arrival,
        entry: &SignedEntry,
    ) -> Result<Option<EntryId>, V::Error> {
        let said = entry.entry();
        let needed = role_needed(&said.body);
        if self.role(said.author) >= Some(needed) {
            return Ok(None);
        }
        let known = view.access(view.node(at)?.access)?;
        let ledger = self.current.ledger().clone();
        for subject in [Subject::Key(said.author), Subject::Anyone] {
            for removal in ledger.log.about(&subject) {
                let takes_it = ledger.log.change(removal).role < Some(needed);
                if takes_it
                    && !known.resolved.changes.contains(removal.number)
                    && self.current.is_effective(removal)
                    && !self.precedes(view, at, removal.number)?
                {
                    return Ok(Some(ledger.log.row(removal.number).id));
                }
            }
        }
        Ok(None)
    }

    fn role(&mut self, author: PublicKey) -> Option<Role> {
        if self.roles.len() >= AUTHORS_REMEMBERED_MAX {
            self.roles.clear();
        }
        let role = || self.current.role_of(Some(&author));
        *self.roles.entry(author).or_insert_with(role)
    }

    /// Tells whether an entry is an ancestor of one in the ledger.
    fn precedes<V: DagView + ?Sized>(
        &mut self,
        view: &V,
        at: Arrival,
        number: u32,
    ) -> Result<bool, V::Error> {
        let above = self.current.ledger().log.row(number).at;
        if at >= above {
            return Ok(false);
        }
        if let Some(ancestors) = self.ancestors.get(&number) {
            return Ok(ancestors.contains(at));
        }
        if self.ancestors.len() >= REMOVALS_REMEMBERED_MAX {
            self.ancestors.clear();
        }
        let ancestors = walk::ancestors(view, &[above])?;
        let precedes = ancestors.contains(at);
        self.ancestors.insert(number, ancestors);
        Ok(precedes)
    }
}

/// What changes of access would do if they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Which of the changes would have an effect, in their order. A change that lowers a senior
    /// has none.
    pub effective: Vec<bool>,
    /// The changes that have an effect and would lose it, with their entries.
    pub voids: Vec<(EntryId, AccessChange)>,
}

impl AccessState {
    /// Tells what changes by `author` would do to this state, in an entry on top of entries with the
    /// state `before` and of this height.
    ///
    /// Nothing is voided that the entry knows of, so this voids the changes concurrent with it, and
    /// what only had an effect because of what the entry changes.
    #[must_use]
    pub fn outlook(
        &self,
        before: &Self,
        author: PublicKey,
        height: u32,
        changes: &[AccessChange],
    ) -> Outlook {
        let mut ledger: Arc<Ledger> = self.ledger.clone();
        let number = ledger.len();
        // An entry that is not signed has no id. A grant's decides only between grants of one
        // author at one height.
        let id = EntryId::from_bytes([0xff; 32]);
        let entry = (Arrival(u32::MAX), id, height, author);
        let after = ledger.push(before, entry, changes);
        let all = Self::join(&ledger, &[self.clone(), after]);
        let still = all.effective();
        let effective = (0..changes.len() as u16)
            .map(|index| still.contains(&ChangeRef { number, index }))
            .collect();
        let voids = self.effective().into_iter();
        let voids = voids
            .filter(|change| !still.contains(change))
            .map(|change| (ledger.log.row(change.number).id, ledger.log.change(change)))
            .collect();
        Outlook { effective, voids }
    }

    fn is_effective(&self, change: ChangeRef) -> bool {
        self.resolved.is_effective(&self.ledger.log, change)
    }

    /// Lists every effective change. It looks at all of them.
    fn effective(&self) -> BTreeSet<ChangeRef> {
        let void: BTreeSet<ChangeRef> = self.resolved.admins.void.iter().copied().collect();
        let mut effective = BTreeSet::new();
        for number in self.resolved.changes.iter() {
            let entry = self.ledger.log.row(number);
            for (index, change) in (0..).zip(&*entry.changes) {
                let at = ChangeRef { number, index };
                let counts = match change.subject {
                    Subject::Key(key) if self.resolved.admins.get(&key).is_some() => {
                        !void.contains(&at)
                    }
                    _ => self.resolved.is_effective(&self.ledger.log, at),
                };
                if counts {
                    effective.insert(at);
                }
            }
        }
        effective
    }
}
